"""WebSockets of an ASGI app, with the session of Starlette's TestClient: `Worker.websocket_connect()`.

`AsyncWebSocketSession` is the same with coroutines.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

import httpx

from socketless._host.failures import exception_of
from socketless._host.limits import Timeouts
from socketless._host.trace import logger
from socketless._wire.drivers import run_async, run_blocking
from socketless._wire.messages import Cancel, Chunk, Event, Failed, Message, RawHeaders, Request, Response, port_of
from socketless._wire.steps import PullingSteps
from socketless.errors import StateError, WebSocketDisconnect

if TYPE_CHECKING:
    from socketless._clients.response import Exchanging
    from socketless._host.worker import Worker

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["AsyncWebSocketSession", "WebSocketDenialResponse", "WebSocketSession"]


class WebSocketDenialResponse(httpx.Response, WebSocketDisconnect):  # type: ignore[misc]
    """The app answered the opening handshake with an HTTP response. The exception is that `httpx.Response` itself."""

    def __init__(self, **options: Any) -> None:
        WebSocketDisconnect.__init__(self)
        httpx.Response.__init__(self, **options)

    def __reduce__(self) -> Any:
        # The content is decoded already.
        headers = [(name, value) for name, value in self.headers.raw if name.lower() != b"content-encoding"]
        return _rebuild_denial, (self.status_code, headers, self.content)

    def __str__(self) -> str:
        return f"the app has denied the WebSocket with status {self.status_code}"


def _rebuild_denial(status: int, headers: RawHeaders, content: bytes) -> WebSocketDenialResponse:
    return WebSocketDenialResponse(status_code=status, headers=headers, content=content)


E = TypeVar("E", bound=WebSocketDisconnect)


def _with_starlettes(ours: type[E], module_name: str) -> type[E]:
    # Code that has imported Starlette's exception of this name can catch ours as it.
    theirs = getattr(sys.modules.get(module_name), ours.__name__, None)
    if theirs is None:
        return ours
    if (ours, theirs) not in _mixed:
        members = {"__init__": ours.__init__, "__module__": ours.__module__, "__doc__": ours.__doc__}
        _mixed[ours, theirs] = type(ours.__name__, (ours, theirs), members)
    mixed: type[E] = _mixed[ours, theirs]
    return mixed


_mixed: dict[tuple[type, type], Any] = {}


class _Session:
    # What a session does, as steps, however it waits.

    _how = ""  # to enter one

    def __init__(self, worker: Any, request: Request, timeout: float | None) -> None:
        self._worker = worker  # or what has its interface
        self._request = request
        self._timeouts = Timeouts(timeout, timeout, timeout)
        self._exchange: Exchanging | None = None
        self._end: dict[str, Any] | None = None  # the app's "websocket.close", or what stands for it
        self._closing: dict[str, Any] | None = None  # what the client has closed it with
        self._disconnect: WebSocketDisconnect | None = None  # that the test has got
        self.accepted_subprotocol: str | None = None
        self.extra_headers: list[tuple[bytes, bytes]] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._request.raw_target.decode('latin-1')} of {self._worker!r}>"

    def _check_new(self) -> None:
        if self._exchange is not None:
            raise RuntimeError(
                f"a {type(self).__name__} can be entered only once; call websocket_connect() again for another"
            )

    def _connected(self) -> Exchanging:
        if self._exchange is None:
            raise RuntimeError(f"the WebSocket is not connected: use `{self._how} as session:`")
        return self._exchange

    def _open(self, exchange: Exchanging) -> PullingSteps[None]:
        """Look at the app's first answer."""
        self._exchange = exchange
        try:
            if isinstance(exchange.answer, Response):
                yield from self._raise_denial(exchange.answer)
            event = self._event_of(exchange.answer)
            self._raise_on_close(event)
        except BaseException:
            failed = yield from self._finish()
            if failed is not None:
                raise exception_of(failed)  # noqa: B904  # it has a cause and a context of its own
            raise
        exchange.keep_open()
        self.accepted_subprotocol = event["subprotocol"]
        self.extra_headers = event["headers"]

    def _raise_denial(self, answer: Response) -> PullingSteps[None]:
        body = [answer.body]
        while isinstance(message := (yield from self._connected().receive_or_end()), Chunk):
            body.append(message.body)
        if isinstance(message, Failed):
            raise exception_of(message)
        raise _with_starlettes(WebSocketDenialResponse, "starlette.testclient")(
            status_code=answer.status,
            headers=answer.headers,
            content=b"".join(body),
            request=httpx.Request("GET", _url_of(self._request), headers=self._request.headers),
        )

    def _leave(self, exc: BaseException | None) -> PullingSteps[None]:
        """Close it, and wait for the app's end."""
        if self._end is None and self._closing is None:
            yield from self._close(1000, None)
        failed = yield from self._finish()
        if failed is None:
            return
        if exc is None or exc is self._disconnect:  # which says less
            raise exception_of(failed)
        logger.error("%s: the app raised as well:\n%s", self._request.label, failed.traceback.rstrip())

    def _finish(self) -> PullingSteps[Failed | None]:
        """Wait for the app's end, and return what it has raised."""
        exchange = self._connected()
        try:
            yield from self._post(Cancel())
            while (message := (yield from exchange.receive_or_end())) is not None:
                if isinstance(message, Failed):
                    return message
        finally:
            exchange.cancel()
        return None

    def _post(self, message: Message) -> PullingSteps[None]:
        exchange = self._connected()
        with suppress(StateError):  # the app has returned
            yield from exchange.send(message)

    def _close(self, code: int, reason: str | None) -> PullingSteps[None]:
        self._closing = {"type": "websocket.close", "code": code, "reason": reason or ""}
        return self._post(Event({"type": "websocket.disconnect", "code": code, "reason": reason}))

    def _receive(self) -> PullingSteps[dict[str, Any]]:
        exchange = self._connected()
        message = (yield from exchange.receive_or_end()) if self._end is None else None
        return self._event_of(message) if message is not None else self._end_of_connection()

    def _receive_data(self, kind: Literal["text", "bytes"]) -> PullingSteps[Any]:
        event = yield from self._receive()
        self._raise_on_close(event)
        return event[kind]

    def _event_of(self, message: Message) -> dict[str, Any]:
        if isinstance(message, Failed):
            self._end = {"type": "websocket.close", "code": 1011, "reason": ""}
            raise exception_of(message)
        event = message.event if isinstance(message, Event) else self._end_of_connection()
        if event["type"] == "websocket.close":
            self._end = event
        return event

    def _end_of_connection(self) -> dict[str, Any]:
        # The server's answer to the client's goodbye; without that, the connection breaks off when the app returns.
        return self._end or self._closing or _ABNORMAL_END

    def _raise_on_close(self, event: Mapping[str, Any]) -> None:
        if event["type"] == "websocket.close":
            error = _with_starlettes(WebSocketDisconnect, "starlette.websockets")(event["code"], event["reason"])
            self._disconnect = error
            raise error


def _text_event(data: str) -> dict[str, Any]:
    return {"type": "websocket.receive", "text": data}


def _bytes_event(data: bytes) -> dict[str, Any]:
    return {"type": "websocket.receive", "bytes": data}


def _json_event(data: Any, mode: Literal["text", "binary"]) -> dict[str, Any]:
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return _text_event(text) if mode == "text" else _bytes_event(text.encode())


class WebSocketSession(_Session):
    """A WebSocket of an ASGI app. As a context manager, it connects on entering, and closes on leaving.

    Several threads may use it. `receive()` raises what the app raises, or else leaving the block does.
    """

    _how = "with worker.websocket_connect(...)"

    def __enter__(self) -> WebSocketSession:
        self._check_new()
        run_blocking(self._open(self._worker.exchange_blocking(self._request, self._timeouts)))
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        run_blocking(self._leave(exc))

    def send(self, message: Mapping[str, Any]) -> None:
        """Send an event of the ASGI specification, "websocket.receive" or "websocket.disconnect".

        If the app has returned already, the event is dropped silently: the client cannot know that in time.

        Raises:
            WriteTimeout: the worker did not take the event in time.
            WorkerDied: the worker has ended.
        """
        run_blocking(self._post(Event(dict(message))))

    def send_text(self, data: str) -> None:
        """Send a text message."""
        self.send(_text_event(data))

    def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""
        self.send(_bytes_event(data))

    def send_json(self, data: Any, mode: Literal["text", "binary"] = "text") -> None:
        """Send data as JSON, in a text or a binary message."""
        self.send(_json_event(data, mode))

    def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Tell the app that the client closes the WebSocket."""
        run_blocking(self._close(code, reason))

    def receive(self) -> dict[str, Any]:
        """Return the app's next event of the ASGI specification, "websocket.send" or "websocket.close".

        Raises:
            Exception: the app raised it.
            ReadTimeout: no event came in time. You may call `receive()` again.
            WorkerDied: the worker has ended.
        """
        return run_blocking(self._receive())

    def receive_text(self) -> str:
        """Return the next message, which must be a text message.

        Raises:
            WebSocketDisconnect: the app closed the WebSocket.
            KeyError: the message is binary.
            Exception, ReadTimeout, WorkerDied: see `receive()`.
        """
        return cast(str, run_blocking(self._receive_data("text")))

    def receive_bytes(self) -> bytes:
        """Return the next message, which must be binary; raises the same errors as `receive_text()`."""
        return cast(bytes, run_blocking(self._receive_data("bytes")))

    def receive_json(self, mode: Literal["text", "binary"] = "text") -> Any:
        """Return the data of the next message, which must be JSON; raises the same errors as `receive_text()`."""
        return json.loads(self.receive_text() if mode == "text" else self.receive_bytes())


class AsyncWebSocketSession(_Session):
    """A `WebSocketSession` whose methods are coroutines. `AsyncTestClient.websocket_connect()` yields it.

    It works under asyncio or trio, on the loop that it was connected on. Cancelling `receive()` loses no message.
    """

    _how = "async with client.websocket_connect(...)"

    async def __aenter__(self) -> AsyncWebSocketSession:
        self._check_new()
        exchange = await run_async(self._worker.exchange(self._request, self._timeouts))
        await run_async(self._open(exchange))
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await run_async(self._leave(exc))

    async def send(self, message: Mapping[str, Any]) -> None:
        """Send an event of the ASGI specification; see `WebSocketSession.send()`."""
        await run_async(self._post(Event(dict(message))))

    async def send_text(self, data: str) -> None:
        """Send a text message."""
        await self.send(_text_event(data))

    async def send_bytes(self, data: bytes) -> None:
        """Send a binary message."""
        await self.send(_bytes_event(data))

    async def send_json(self, data: Any, mode: Literal["text", "binary"] = "text") -> None:
        """Send data as JSON, in a text or a binary message."""
        await self.send(_json_event(data, mode))

    async def close(self, code: int = 1000, reason: str | None = None) -> None:
        """Tell the app that the client closes the WebSocket."""
        await run_async(self._close(code, reason))

    async def receive(self) -> dict[str, Any]:
        """Return the app's next event of the ASGI specification; see `WebSocketSession.receive()`."""
        return await run_async(self._receive())

    async def receive_text(self) -> str:
        """Return the next message, which must be a text message; see `WebSocketSession.receive_text()`."""
        return cast(str, await run_async(self._receive_data("text")))

    async def receive_bytes(self) -> bytes:
        """Return the next message, which must be binary; raises the same errors as `receive_text()`."""
        return cast(bytes, await run_async(self._receive_data("bytes")))

    async def receive_json(self, mode: Literal["text", "binary"] = "text") -> Any:
        """Return the data of the next message, which must be JSON; raises the same errors as `receive_text()`."""
        return json.loads(await (self.receive_text() if mode == "text" else self.receive_bytes()))


# What the end of an app that has not closed its WebSocket is for the client (RFC 6455, section 7.1.5).
_ABNORMAL_END = {"type": "websocket.close", "code": 1006, "reason": ""}


def connect(
    worker: Worker,
    url: str,
    subprotocols: Sequence[str] | None = None,
    *,
    headers: Any = None,
    params: Any = None,
    cookies: Any = None,
    root_path: str = "",
    client: tuple[str, int] = ("127.0.0.1", 123),
    timeout: float | None = None,
) -> WebSocketSession:
    """Make the session of `Worker.websocket_connect()`."""
    whole_url = httpx.URL("ws://testserver").join(url)
    if whole_url.scheme not in ("ws", "wss"):
        raise ValueError(f"a WebSocket's URL begins with ws://, wss:// or /, not {url!r}")
    request = httpx.Request("GET", whole_url, params=params, headers=headers, cookies=cookies)
    for name, value in _HANDSHAKE.items():
        request.headers.setdefault(name, value)
    if subprotocols is not None:
        request.headers.setdefault("sec-websocket-protocol", ", ".join(subprotocols))
    request.extensions["timeout"] = {"read": timeout}
    return session_of(worker, request, root_path=root_path, client=client, is_lenient=False)


S = TypeVar("S", bound=_Session)


def session_of(
    worker: Any,
    request: Any,
    kind: type[S] = WebSocketSession,  # type: ignore[assignment]
    *,
    root_path: str,
    client: tuple[str, int],
    is_lenient: bool = True,
) -> S:
    """Make a session of the request of httpx or httpx2 that opens it, which a test client's is unless it says so."""
    if worker.app_kind != "asgi":
        raise ValueError(f"{worker.description} is a WSGI app; only an ASGI app has WebSockets")
    url = request.url
    message = Request(
        method="GET",
        scheme=url.scheme,
        server=(url.raw_host.decode("ascii"), port_of(url.port, url.scheme)),
        raw_target=url.raw_path,
        headers=request.headers.raw,
        root_path=root_path,
        client=client,
        is_lenient=is_lenient,
    )
    return kind(worker, message, request.extensions["timeout"].get("read"))


_HANDSHAKE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",  # the example of RFC 6455, section 1.3
    "sec-websocket-version": "13",
}


def _url_of(request: Request) -> str:
    host, port = request.server
    return f"{request.scheme}://{host}:{port}{request.raw_target.decode('latin-1')}"
