"""Runs an ASGI app on one event loop for the worker's whole life (https://asgi.readthedocs.io).

    main thread: the event loop                    thread of a channel
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
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any
from urllib.parse import unquote

from asgiref.compatibility import double_to_single_callable
from asgiref.sync import SyncToAsync, async_to_sync, sync_to_async

from socketless.errors import AppProtocolError
from socketless.wire.channel import Channel, Woken
from socketless.wire.drivers import run_async
from socketless.wire.messages import Done, Failed, Message, RawHeaders, Request, Reset, Response
from socketless.worker import stacks
from socketless.worker.failures import failed
from socketless.worker.lifespan import ASGI, App, Event, Lifespan, Scope
from socketless.worker.output import flush_output


class AsgiRunner:
    """Answers requests with an ASGI 3 app. Its loop runs in the main thread."""

    kind = "asgi"

    def __init__(self, app: App, hook: Callable[[], Any] | None = None) -> None:
        self._app = app
        self._hook = hook
        self._loop = asyncio.new_event_loop()
        self._stopped = asyncio.Event()
        self._lifespan = Lifespan(app)
        self._tasks: set[asyncio.Task[None]] = set()  # asyncio itself holds them weakly
        self._exchanges: dict[int, asyncio.Task[None]] = {}  # the last one of each channel, by the channel's number

    def run(self, on_ready: Callable[[], None]) -> None:
        # Runs in the main thread, until stop().
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._main(on_ready))
        finally:
            self._loop.close()

    async def _main(self, on_ready: Callable[[], None]) -> None:
        await self._lifespan.start_up()
        on_ready()
        await self._stopped.wait()
        await self._lifespan.shut_down()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stopped.set)

    def serve(self, channel: Channel) -> None:
        channel.set_blocking(False)
        in_thread = SyncToAsync(
            async_to_sync(self._serve_channel),
            thread_sensitive=False,
            executor=_OneThread(f"socketless-channel-{channel.number}"),  # type: ignore[arg-type]
        )

        def start() -> None:
            task = self._loop.create_task(in_thread(channel))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(start)

    def stack_of(self, number: int) -> str:
        task = self._exchanges.get(number)
        if task is None or task.done():
            return stacks.main_thread()  # the loop has not come to it: this is what blocks it
        return stacks.of_task(task)

    async def _serve_channel(self, channel: Channel) -> None:
        # Runs in the event loop, one task for each channel in use, until the pipe ends. It waits by a callback: a
        # request then costs one turn of the loop, where a coroutine that awaits the pipe costs three.
        ended: asyncio.Future[None] = self._loop.create_future()
        steps = channel.receive()
        next(steps)

        def on_readable() -> None:
            nonlocal steps
            try:
                steps.send(Woken.READY)
            except StopIteration as stop:
                steps = channel.receive()
                next(steps)
                task = self._loop.create_task(self._exchange(channel, stop.value))  # with a context of its own
                self._exchanges[channel.number] = task
            except (EOFError, OSError):
                self._loop.remove_reader(channel.read_fd)
                ended.set_result(None)

        self._loop.add_reader(channel.read_fd, on_readable)
        await ended
        channel.close()

    async def _exchange(self, channel: Channel, message: Message) -> None:
        answer = await self._answer(message)
        flush_output()
        try:
            await run_async(channel.send(answer))
        except OSError:
            pass  # the host is gone; the channel's end says so, too

    async def _answer(self, message: Message) -> Message:
        if isinstance(message, Request):
            return await self._respond(message)
        assert isinstance(message, Reset)
        try:
            await self._reset()
        except BaseException as error:
            return failed(error)
        return Done()

    async def _reset(self) -> None:
        if self._hook is None:
            return
        if inspect.iscoroutinefunction(self._hook):
            await self._hook()
        else:
            result = await sync_to_async(self._hook)()  # as a sync view: in the channel's thread
            if inspect.isawaitable(result):
                await result

    async def _respond(self, request: Request) -> Response | Failed:
        answer = _Answer(request)
        try:
            await self._app(make_scope(request, self._lifespan.state), answer.receive, answer.send)
            return answer.finish()
        except BaseException as error:
            return failed(error, answer.so_far())


class _OneThread(Executor):
    """An executor for one call, in a daemon thread: one that hangs must not keep the worker from leaving."""

    def __init__(self, name: str) -> None:
        self._name = name

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()

        def call() -> None:
            try:
                result = function(*args, **kwargs)
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        threading.Thread(target=call, name=self._name, daemon=True).start()
        return future


def as_asgi3(app: Callable[..., Any]) -> App:
    """Turn an ASGI 2 app, `app(scope)(receive, send)`, into an ASGI 3 one."""
    single: App = double_to_single_callable(app)  # type: ignore[no-untyped-call]
    return single


def make_scope(request: Request, state: dict[str, Any] | None) -> Scope:
    """Build the HTTP connection scope of the ASGI specification for a request."""
    raw_path, _, raw_query = request.raw_target.partition(b"?")
    scope: Scope = {
        "type": "http",
        "asgi": ASGI.copy(),
        "http_version": "1.1",
        "method": request.method.upper(),
        "scheme": request.scheme,
        "path": unquote(raw_path.decode("latin-1")),
        "raw_path": raw_path,
        "query_string": raw_query,
        "root_path": request.root_path,
        "headers": [(name.lower(), value) for name, value in request.headers],
        "client": request.client,
        "server": request.server,
        "extensions": {},
    }
    if state is not None:
        scope["state"] = state.copy()
    return scope


class _Answer:
    """The two callables of one HTTP exchange, and what the app has sent so far."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._requested = False
        self._status: int | None = None
        self._headers: RawHeaders = []
        self._chunks: list[bytes] = []
        self._complete = asyncio.Event()

    async def receive(self) -> Event:
        if self._requested:
            await self._complete.wait()
            return {"type": "http.disconnect"}
        self._requested = True
        return {"type": "http.request", "body": self._request.body, "more_body": False}

    async def send(self, event: Event) -> None:
        if event["type"] == "http.response.start":
            if self._status is not None:
                raise AppProtocolError("the ASGI app sent http.response.start twice")
            self._headers = _check_headers(event.get("headers", ()))
            self._status = _check_status(event.get("status"))
        elif event["type"] == "http.response.body":
            if self._status is None:
                raise AppProtocolError("the ASGI app sent http.response.body before http.response.start")
            if self._complete.is_set():
                raise AppProtocolError("the ASGI app sent http.response.body after the body was complete")
            self._chunks.append(_check_body(event.get("body", b"")))
            if not event.get("more_body", False):
                self._complete.set()
        else:
            raise AppProtocolError(f"the ASGI app sent {event['type']!r} in answer to an HTTP request")

    def finish(self) -> Response:
        """Return the whole response, once the app has returned."""
        if self._status is None:
            raise AppProtocolError("the ASGI app returned without sending http.response.start")
        if not self._complete.is_set():
            raise AppProtocolError("the ASGI app returned before its body was complete (more_body was still true)")
        return self._response(self._status)

    def so_far(self) -> Response | None:
        """Return the response of an app that raised, if a client would have seen one."""
        return self._response(self._status) if self._status is not None and self._chunks else None

    def _response(self, status: int) -> Response:
        bodiless = self._request.method == "HEAD" or status in (204, 304) or status < 200
        return Response(status, "", self._headers, b"" if bodiless else b"".join(self._chunks))


def _check_status(status: Any) -> int:
    if not isinstance(status, int) or not 100 <= status <= 999:
        raise AppProtocolError(f"the ASGI app's status is {status!r}; http.response.start wants an integer like 200")
    return int(status)


def _check_body(body: Any) -> bytes:
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise AppProtocolError(f"the ASGI app's body is {type(body).__name__}; http.response.body wants bytes")
    return bytes(body)


def _check_headers(headers: Any) -> RawHeaders:
    checked = []
    for header in headers:
        try:
            name, value = bytes(memoryview(header[0])), bytes(memoryview(header[1]))
            if not name or len(header) != 2 or any(character in name + value for character in b"\r\n\0"):
                raise ValueError("control character")
        except (TypeError, ValueError, IndexError):
            raise AppProtocolError(
                f"the ASGI app's header {header!r} is bad; http.response.start wants (name, value), two byte strings "
                "without control characters"
            ) from None
        checked.append((name, value.strip(b" \t")))  # RFC 9110, section 5.5
    return checked
