"""Runs an ASGI app on one event loop for the worker's whole life (https://asgi.readthedocs.io).

    thread of the worker: the event loop           thread of a channel
      lifespan task                                  async_to_sync(serve)(channel): idles for as long as the
      serve(channel), a task for each channel        channel is there, and runs the sync code of its requests
        reads a Request
        await app(scope, receive, send)
          sync_to_async(view) ────────────────────▶  view()
                              ◀────────────────────
        writes the Response

asgiref finds the loop because `sync_to_async` started the channel's thread. So the app's own `sync_to_async` calls come
to that thread, one request's sync code never waits for another's, and pools that were made at start-up stay valid.
`async_to_sync` once for each channel, not once for each request, keeps thread switches out of the way of a request:
two of them cost 90 us on two cores.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import threading
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor, Future
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from asgiref.compatibility import double_to_single_callable
from asgiref.sync import AsyncToSync, SyncToAsync, async_to_sync

from socketless._locks import make_lock
from socketless._wire.channel import Channel
from socketless._wire.drivers import is_soon_readable
from socketless._wire.messages import Call, Cancel, Opening, Request, Reset, Start
from socketless._wire.steps import Wait
from socketless._wire.trace import describe, say
from socketless._worker import stacks
from socketless._worker.app_threads import AppThread
from socketless._worker.asgi_call import AsgiCall, FunctionCall, Writer
from socketless._worker.asgi_http import HttpCall
from socketless._worker.asgi_websocket import WebSocketCall
from socketless._worker.lifespan import App, Lifespan

_MOST_TURNS = 100  # of the loop, for tasks that were made at the end to begin
_CANCEL_SECONDS = 1.0  # how long what is cancelled at the end may take


class AsgiRunner:
    """Answers requests with an ASGI 3 app. Its loop runs in the thread that calls `run()`."""

    kind = "asgi"
    _call_async: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]] | None = None  # of coroutine functions

    def __init__(
        self, app: App, hook: Callable[[], Any] | None, start: Start, *, outlives_its_worker: bool = False
    ) -> None:
        self.app: Any = app
        self._app = app
        self._hook = hook
        self._max_body_bytes = start.max_body_bytes
        self._debug = start.debug
        self._spins = start.spins
        self._patience = None if outlives_its_worker else _CANCEL_SECONDS  # with the channels; None: they must end
        self._loop_options = start.backend_options
        self._loop: asyncio.AbstractEventLoop  # from run() on, like _thread
        self._thread = threading.current_thread()
        self._lock = make_lock()  # the garbage collector may call stop() wherever a thread is
        self._is_stopped = False  # guarded by _lock
        self._failure: BaseException | None = None  # what else has ended that the app runs on
        self._stopped = asyncio.Event()
        mode = start.lifespan
        is_required, may_refuse = mode in ("on", "entered"), mode == "entered"
        self._lifespan = Lifespan(app, start.state, is_required=is_required, may_refuse=may_refuse)
        self._runs_lifespan = start.lifespan != "off"
        self._own_tasks: set[asyncio.Task[Any] | None] = set()  # asyncio itself holds them weakly
        self._channel_threads: WeakSet[AppThread] = WeakSet()
        self._writers: dict[int, Writer] = {}  # of the channels that are served, by their number
        self.is_ending = False  # no channel is served any more
        self._calls: dict[int, AsgiCall] = {}  # the last one of each channel, by the channel's number

    @property
    def threads(self) -> list[AppThread]:
        return list(self._channel_threads)

    def run(self, on_ready: Callable[[], None]) -> None:
        # Runs in the worker's thread, the main one of a process, until stop().
        with self._lock:
            if self._is_stopped:
                return
            self._loop, self._thread = _new_loop(self._loop_options), threading.current_thread()
        asyncio.set_event_loop(self._loop)
        try:
            try:
                self._loop.run_until_complete(self._main(on_ready))
            finally:  # also when the app has stopped the loop, or a task of it has raised SystemExit
                self._loop.run_until_complete(self._clean_up())
        finally:
            asyncio.set_event_loop(None)
            self._loop.close()
        if self._patience is None:  # all calls in these threads have returned
            for thread in list(self._channel_threads):
                thread.join()

    async def _main(self, on_ready: Callable[[], None]) -> None:
        if self._runs_lifespan:
            await self._lifespan.start_up()
        on_ready()
        await self._stopped.wait()
        if self._failure is not None:
            raise self._failure
        await self._lifespan.shut_down()

    async def _clean_up(self) -> None:
        self.is_ending = True
        await self._cancel_the_rest()
        await self._end_channels()
        await self._loop.shutdown_asyncgens()
        if self._patience is None:
            await self._loop.shutdown_default_executor()

    async def _cancel_the_rest(self) -> None:
        # What an app has left behind, and what it is in the middle of, as asyncio.run() does it.
        for call in self._calls.values():
            call.is_muted = True  # its client is told that the worker has ended
        # A task that is cancelled before it has begun tells nobody; asgiref's thread would wait for it for ever.
        turns = _MOST_TURNS
        while turns and any(map(_has_not_begun, asyncio.all_tasks())):
            turns -= 1
            await asyncio.sleep(0)
        rest = asyncio.all_tasks() - self._own_tasks - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        if rest:
            await asyncio.wait(rest, timeout=_CANCEL_SECONDS)

    async def _end_channels(self) -> None:
        for writer in self._writers.values():
            writer.break_off()
        if self._own_tasks:
            await asyncio.wait([task for task in self._own_tasks if task is not None], timeout=self._patience)

    def stop(self) -> None:
        with self._lock, suppress(AttributeError, RuntimeError):  # there is no loop yet, or it is closed
            self._is_stopped = True
            self._loop.call_soon_threadsafe(self._stopped.set)

    @property
    def is_on_loop(self) -> bool:
        return threading.current_thread() is self._thread

    def serve(self, channel: Channel) -> None:
        channel.set_blocking(False)
        in_thread = SyncToAsync(
            async_to_sync(self._serve_channel),
            thread_sensitive=False,
            executor=_OneThread(f"socketless-channel-{channel.number}", self._channel_threads),  # type: ignore[arg-type]
        )

        async def serve() -> None:
            try:
                await in_thread(channel)
            except NoThread:  # without one, an app that has no sync code can be served all the same
                await self._serve_channel(channel)
            finally:
                channel.close()

        def start() -> None:
            if self.is_ending:
                channel.close()
                return
            task = self._loop.create_task(serve())
            self._own_tasks.add(task)
            task.add_done_callback(self._own_tasks.discard)

        self._loop.call_soon_threadsafe(start)

    def fail(self, error: BaseException) -> None:
        """Let `run()` raise an error, since the app cannot go on. Any thread may call it."""
        self._failure = error
        self.stop()

    def end_channel(self, number: int) -> None:
        def close() -> None:
            if number in self._writers:
                self._writers[number].close()

        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(close)

    def stack_of(self, number: int | None) -> str:
        task = self._task_of(number)
        if task is None or task.done():
            return stacks.of_thread(self._thread)  # the loop has not come to it: this is what blocks it
        return stacks.of_task(task, self._thread)

    def _task_of(self, number: int | None) -> asyncio.Task[Any] | None:
        if number is None:
            return self._lifespan.task
        call = self._calls.get(number)
        return None if call is None else call.task

    async def _serve_channel(self, channel: Channel) -> None:
        # Runs in the event loop, one task for each channel in use, until the pipe ends. It waits by a callback: a
        # request then costs one turn of the loop, where a coroutine that awaits the pipe costs three. And what comes
        # during an exchange is read at once.
        task = asyncio.current_task()
        self._own_tasks.add(task)
        ended: asyncio.Future[None] = self._loop.create_future()
        call: AsgiCall | None = None
        channel.read()  # which finds nothing yet

        def end() -> None:
            if not ended.done():
                self._loop.remove_reader(channel.read_fd)
                ended.set_result(None)

        writer = self._writers[channel.number] = Writer(channel, end)

        def on_readable() -> None:
            nonlocal call
            try:
                while not isinstance(message := channel.read(), Wait):
                    channel.accept()
                    if isinstance(message, Opening):
                        call = self._begin(message, writer)
                        self._calls[channel.number] = call
                        if self._spins:
                            call.task.add_done_callback(spin)
                    elif call is not None:
                        call.take(message)
            except Exception:  # the pipe has ended; or holds what is no message, and then it is of no use
                end()

        def spin(_: object) -> None:
            # For the next request, while the loop has nothing else to do.
            if all(each.task.done() for each in self._calls.values()) and not ended.done():
                with suppress(OSError):  # it is closed
                    if is_soon_readable(channel.read_fd):
                        on_readable()

        self._loop.add_reader(channel.read_fd, on_readable)
        if self.is_ending:
            end()
        await ended
        if call is not None:
            call.take(Cancel())
            while not call.task.done():  # another one may have taken its place meanwhile
                await asyncio.wait([call.task])
            self._calls.pop(channel.number, None)
        channel.close()
        self._writers.pop(channel.number, None)
        self._own_tasks.discard(task)

    def _begin(self, message: Request | Reset | Call, writer: Writer) -> AsgiCall:
        call = self._make_call(message, writer)
        call.is_muted = self.is_ending
        if message.context is None:
            call.begin()
            return call
        # In the context of the test, but for where asgiref finds the thread of the channel.
        thread = getattr(AsyncToSync.executors, "current", None)

        def begin() -> None:
            if thread is not None:
                AsyncToSync.executors.current = thread
            call.begin()

        message.context.run(begin)
        return call

    def _make_call(self, message: Request | Reset | Call, writer: Writer) -> AsgiCall:
        if self._debug:
            say(f"the worker has received {describe(message)}")
        if not isinstance(message, Request):
            return FunctionCall(message, self._hook, writer, self._call_async)
        kind = WebSocketCall if message.is_websocket else HttpCall
        return kind(self._app, message, self._lifespan.state, writer, self._max_body_bytes)


def _has_not_begun(task: asyncio.Task[Any]) -> bool:
    coroutine = task.get_coro()
    return inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED


def _new_loop(options: Mapping[str, Any]) -> asyncio.AbstractEventLoop:
    # The options are those of anyio's asyncio backend.
    unknown = set(options) - {"debug", "loop_factory", "use_uvloop"}
    if unknown:
        raise TypeError(f"there is no option {', '.join(sorted(unknown))} of the backend asyncio")
    loop: asyncio.AbstractEventLoop
    if options.get("use_uvloop"):
        loop = importlib.import_module("uvloop").new_event_loop()
    else:
        loop = (options.get("loop_factory") or asyncio.new_event_loop)()
    loop.set_debug(bool(options.get("debug", loop.get_debug())))
    return loop


class NoThread(RuntimeError):
    """The system has no thread for a channel."""


class _OneThread(Executor):
    """An executor for one call, in a daemon thread: one that hangs must not keep the worker from leaving."""

    def __init__(self, name: str, threads: WeakSet[AppThread]) -> None:
        self._name = name
        self._threads = threads

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def call() -> None:
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        thread = AppThread(self._name, call)
        try:
            thread.start()
        except RuntimeError as error:
            raise NoThread(str(error)) from error
        self._threads.add(thread)
        return future


def as_asgi3(app: Callable[..., Any]) -> App:
    """Turn an ASGI 2 app, `app(scope)(receive, send)`, into an ASGI 3 one."""
    single: App = double_to_single_callable(app)  # type: ignore[no-untyped-call]
    return single
