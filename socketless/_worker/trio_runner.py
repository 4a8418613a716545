"""Runs an ASGI app on trio: a sibling of `AsgiRunner` that shares its calls.

    the runner's event loop                        thread socketless-trio-N: trio.run()
      AsgiCall                                       one task for each call of the app
        await app(scope, receive, send) ───────────▶   await app(scope, receive, send)
        receive(), send()  ◀───────────────────────      await receive(), await send(...)

Each side waits for the other by a wake-up from a thread, as asyncio and trio have it. Here both are woken by a pipe:
the worker has called `eventloop.install()`.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import itertools
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import trio

from socketless._wire.messages import Start
from socketless._worker import stacks
from socketless._worker.app_threads import AppThread
from socketless._worker.asgi import AsgiRunner
from socketless._worker.lifespan import App, Event, Scope

T = TypeVar("T")

_numbers = itertools.count(1)


class TrioRunner(AsgiRunner):
    """Answers requests with an ASGI 3 app that runs on trio."""

    def __init__(
        self, app: App, hook: Callable[[], Any] | None, start: Start, *, outlives_its_worker: bool = False
    ) -> None:
        self._trio = _TrioThread(start.backend_options, self.fail)
        self._call_async = self._trio.call
        super().__init__(self._trio.wrap(app), hook, start, outlives_its_worker=outlives_its_worker)
        self._loop_options = {}  # they are trio's

    @property
    def threads(self) -> list[AppThread]:
        return [*super().threads, self._trio.thread]

    def run(self, on_ready: Callable[[], None]) -> None:
        # Runs in the worker's thread, the main one of a process, until stop().
        with self._trio:
            super().run(on_ready)

    @property
    def is_on_loop(self) -> bool:
        return threading.current_thread() is self._trio.thread or super().is_on_loop

    def stack_of(self, number: int | None) -> str:
        task = self._trio.tasks.get(self._task_of(number))
        if task is None:  # trio has not come to it, perhaps: then this is what blocks it
            return super().stack_of(number) or stacks.of_thread(self._trio.thread)
        if inspect.getcoroutinestate(task.coro) == inspect.CORO_RUNNING:
            return stacks.of_thread(self._trio.thread)
        return stacks.of_coroutine(task.coro, self._trio.thread)


class _TrioThread:
    """trio, running in a thread of its own while this is entered."""

    def __init__(self, options: Mapping[str, Any], on_error: Callable[[BaseException], None]) -> None:
        self._options = options
        self._on_error = on_error
        self.thread = AppThread(f"socketless-trio-{next(_numbers)}", self._run)
        self._started = threading.Event()
        self._error: BaseException | None = None  # why it has not
        self.tasks: dict[asyncio.Task[Any] | None, trio.lowlevel.Task] = {}  # of calls, by who has called

    def __enter__(self) -> None:
        self.thread.start()
        self._started.wait()
        if self._error is not None:
            raise self._error

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._stopped.set)
        self.thread.join()

    def _run(self) -> None:
        # Runs in the thread socketless-trio-N.
        try:
            trio.run(self._main, **self._options)
        except BaseException as error:
            self._error = error
            if self._started.is_set():
                self._on_error(error)
        finally:
            self._started.set()

    async def _main(self) -> None:
        self._token = trio.lowlevel.current_trio_token()
        self._stopped = trio.Event()
        self._started.set()
        await self._stopped.wait()

    def wrap(self, app: App) -> App:
        """Return an app for asyncio that runs `app` on trio."""

        async def on_asyncio(
            scope: Scope, receive: Callable[[], Awaitable[Event]], send: Callable[[Event], Awaitable[None]]
        ) -> None:
            loop = asyncio.get_running_loop()
            await self.call(partial(app, scope, partial(self._ask, loop, receive), partial(self._ask, loop, send)))

        return on_asyncio

    async def call(self, function: Callable[[], Awaitable[T]]) -> T:
        """Await `function()` on trio, from asyncio; cancelling this cancels it there."""
        loop, caller = asyncio.get_running_loop(), asyncio.current_task()
        done: asyncio.Future[T] = loop.create_future()
        scope = trio.CancelScope()

        async def on_trio() -> None:
            self.tasks[caller] = trio.lowlevel.current_task()
            try:
                with scope:
                    result = await function()
                    loop.call_soon_threadsafe(done.set_result, result)
                if scope.cancelled_caught:
                    loop.call_soon_threadsafe(done.cancel)
            except trio.Cancelled:
                pass  # trio itself has come to its end, as the runner will
            except BaseException as error:
                loop.call_soon_threadsafe(_fail, done, error)
            finally:
                del self.tasks[caller]

        spawn = partial(trio.lowlevel.spawn_system_task, on_trio, context=contextvars.copy_context())
        self._token.run_sync_soon(spawn)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:
            if not done.done():
                self._token.run_sync_soon(scope.cancel)
                await asyncio.wait([done])
                if not done.cancelled():
                    return done.result()
            raise

    async def _ask(self, loop: asyncio.AbstractEventLoop, function: Callable[..., Awaitable[T]], *args: Any) -> T:
        # Runs on trio: awaits `function(*args)` on asyncio.
        task: asyncio.Future[T] | None = None
        answered = trio.Event()

        def on_asyncio() -> None:
            nonlocal task
            task = asyncio.ensure_future(function(*args))
            task.add_done_callback(lambda _: self._token.run_sync_soon(answered.set))

        loop.call_soon_threadsafe(on_asyncio)
        try:
            await answered.wait()
        except trio.Cancelled:
            loop.call_soon_threadsafe(lambda: task is not None and task.cancel())
            with trio.CancelScope(shield=True):
                await answered.wait()
            assert task is not None
            if task.cancelled():
                raise
        assert task is not None
        return task.result()


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if isinstance(error, StopIteration):  # which a future refuses
        error = RuntimeError(f"coroutine raised {error!r}")
    future.set_exception(error)
