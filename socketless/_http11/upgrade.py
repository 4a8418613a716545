"""A WebSocket as the bytes of RFC 6455, for client libraries that speak it themselves.

    client library            here                          worker
    read() ◀── frames ─────── Upgraded ◀──── events ─────── the app
    write() ── frames ──────▶ (wsproto) ──── events ──────▶

The library gets a 101 response with the extension `network_stream`, as httpcore has it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from socketless._clients.response import AsTheirs, Exchanging
from socketless._extras import require
from socketless._host.failures import exception_of
from socketless._host.limits import Timeouts
from socketless._locks import make_lock
from socketless._wire.drivers import run_async, run_blocking
from socketless._wire.messages import Cancel, Echo, Event, Failed, Message, RawHeaders, is_last
from socketless._wire.steps import PullingSteps
from socketless.errors import SocketlessError, StateError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


def is_asked_for(headers: Mapping[str, str]) -> bool:
    """Return whether a request is the opening handshake of a WebSocket (RFC 6455, section 4.1)."""
    return "upgrade" in headers and headers["upgrade"].lower() == "websocket" and "sec-websocket-key" in headers


def response_headers(request_headers: Mapping[str, str], accept: Mapping[str, Any]) -> RawHeaders:
    """Return the headers of the 101 response; `accept` is the app's event."""
    key = request_headers["sec-websocket-key"].encode("latin-1")
    headers = [
        (b"upgrade", b"websocket"),
        (b"connection", b"Upgrade"),
        (b"sec-websocket-accept", _wsproto("utilities").generate_accept_token(key)),
    ]
    if accept["subprotocol"] is not None:
        headers.append((b"sec-websocket-protocol", accept["subprotocol"].encode("latin-1")))
    return [*headers, *accept["headers"]]


def _wsproto(module: str) -> Any:
    require_wsproto()
    return import_module(f"wsproto.{module}")


def require_wsproto() -> None:
    """Import wsproto.

    Raises:
        ModuleNotFoundError: it is not installed; the text says what to install.
    """
    require("wsproto", "websocket", by="a WebSocket")


class Upgraded:
    """A WebSocket whose client writes and reads frames. Several threads or tasks may use it."""

    def __init__(
        self,
        exchange: Exchanging,
        as_theirs: AsTheirs,
        as_network_error: Callable[..., BaseException],
        *,
        raise_app_exceptions: bool,
        on_failure: Callable[[str], object] = lambda traceback: None,
    ) -> None:
        self._exchange = exchange
        self._as_theirs = as_theirs
        self._as_network_error = as_network_error  # of an error, and perhaps the name of the class that it is to have
        self._raise_app_exceptions = raise_app_exceptions
        self._on_failure = on_failure  # gets the traceback of what the app raises, where that is not raised here
        connection = _wsproto("connection")
        self._states = connection.ConnectionState
        self._events = _wsproto("events")
        self._lock = make_lock()
        self._connection = connection.Connection(connection.ConnectionType.SERVER)  # guarded by _lock
        self._parts: list[Any] = []  # guarded by _lock; of a message whose frames have not all come
        self._unread = bytearray()
        self._close_reply = b""  # what the client is to read when the app has heard that it closes
        self._is_cancelled = False
        # What the client is told when its app returns without closing; None: the connection breaks off, as before
        # uvicorn, which is no normal closure.
        self.code_of_end: int | None = None
        exchange.keep_open()

    @property
    def has_failed(self) -> bool:
        """Whether it is known that the app has raised; then `finish()` does not wait."""
        return self._exchange.failed is not None

    @property
    def is_closed(self) -> bool:
        """Whether both sides have said goodbye (RFC 6455, section 7.1.4): neither has anything more to say."""
        return self._connection.state is self._states.CLOSED

    @property
    def awaits_goodbye(self) -> bool:
        """Whether the client has been told that it is over, and has yet to answer (RFC 6455, section 7.1.1)."""
        return self._connection.state is self._states.LOCAL_CLOSING

    def read(self, max_bytes: int, timeout: float | None) -> PullingSteps[bytes]:
        """Return frames of the app, or a piece of one; `b""` after the end.

        Raises:
            ReadTimeout: there were none in time. It may be tried again.
            WorkerDied: the worker has ended.
        """
        try:
            while not self._unread:
                message = yield from self._exchange.receive_or_end(Timeouts(read=timeout))
                if message is None:
                    return b""
                self._unread += self._frames_of(message)
        except SocketlessError as error:
            raise self._as_network_error(error) from error.__cause__
        piece = bytes(self._unread[:max_bytes])
        del self._unread[:max_bytes]
        return piece

    def _frames_of(self, message: Message) -> bytes:
        events = self._events
        if isinstance(message, Echo):
            if message.raw == self._close_reply:
                self._close_reply = b""
            return message.raw
        if isinstance(message, Failed) and not self._raise_app_exceptions:
            self._on_failure(message.traceback)
        if is_last(message):
            # What the app has raised is raised when the response is closed: here it would be the end of a thread.
            code = 1011 if isinstance(message, Failed) else self.code_of_end
            goodbye = b"" if code is None else self._frame(events.CloseConnection(code))
            return goodbye or self._close_reply
        assert isinstance(message, Event)
        event = message.event
        if event["type"] == "websocket.close":
            return self._frame(events.CloseConnection(event["code"], event["reason"]))
        return self._frame(
            events.TextMessage(event["text"]) if "text" in event else events.BytesMessage(event["bytes"])
        )

    def _frame(self, event: Any) -> bytes:
        with self._lock:
            if self._connection.state is not self._states.OPEN:
                return b""  # the client, or the app, has closed it already
            frame: bytes
            try:
                frame = self._connection.send(event)
            except UnicodeEncodeError:  # half a surrogate pair, which is no UTF-8 (RFC 6455, section 8.1)
                frame = self._connection.send(self._events.CloseConnection(1007, "the app's text is not UTF-8"))
            return frame

    def write(self, frames: bytes, timeout: float | None) -> PullingSteps[None]:
        """Take frames of the client, or a piece of one; while the app has much to receive, this waits.

        Raises:
            WriteTimeout: the worker, or the app, did not take them in time.
            WorkerDied: the worker has ended.
            httpcore.WriteError: the WebSocket is closed, or the app has returned.
        """
        with self._lock:
            if self._is_cancelled or self.is_closed:
                raise self._as_network_error(StateError("the WebSocket has been closed"), "WriteError")
            self._connection.receive_data(frames)
            messages = [message for event in self._connection.events() for message in self._messages_of(event)]
        try:
            for message in messages:
                yield from self._exchange.send(message, Timeouts(write=timeout))
        except StateError as error:
            raise self._as_network_error(error, "WriteError") from None
        except SocketlessError as error:
            raise self._as_network_error(error) from error.__cause__

    def _messages_of(self, event: Any) -> list[Message]:
        # Must be called with _lock held.
        events = self._events
        if isinstance(event, events.Message):
            self._parts.append(event.data)
            if not event.message_finished:
                return []
            parts, self._parts = self._parts, []
            if isinstance(event, events.TextMessage):
                return [Event({"type": "websocket.receive", "text": "".join(parts)})]
            return [Event({"type": "websocket.receive", "bytes": b"".join(parts)})]
        if isinstance(event, events.Ping) and self._connection.state is self._states.OPEN:
            return [Echo(self._connection.send(event.response()))]
        if isinstance(event, events.CloseConnection):
            closing = Event({"type": "websocket.disconnect", "code": int(event.code), "reason": event.reason or ""})
            if self._connection.state is self._states.OPEN:  # what came was no frame, and this says why
                reply = events.CloseConnection(event.code, event.reason)
            elif self._connection.state is self._states.REMOTE_CLOSING:
                reply = event.response()
            else:
                return [closing]  # the answer to the app's own
            self._close_reply = self._connection.send(reply)
            return [closing, Echo(self._close_reply)]
        return []  # a Pong, or too late

    def let_through(self) -> None:
        """Let nothing of what the client has written wait for the app any more: the client is about to leave."""
        self._exchange.let_through()

    def cancel(self) -> PullingSteps[None]:
        """Tell the app, if it is still there, that its client has gone."""
        self.let_through()
        if not self._is_cancelled:
            self._is_cancelled = True
            try:
                yield from self._exchange.send(Cancel())
            except SocketlessError:
                pass  # it is over

    def next_chunk(self) -> PullingSteps[bytes | None]:
        """The body of the 101 response: there is none (RFC 9110, section 15.2.2)."""
        yield from ()
        return None

    def finish(self) -> PullingSteps[None]:
        """Wait until the app has returned, and raise what it has raised. `cancel()` must have been called."""
        try:
            while (message := (yield from self._exchange.receive_or_end())) is not None:
                self._frames_of(message)
        except SocketlessError as error:
            raise self._as_theirs(error) from error.__cause__
        finally:
            self._exchange.cancel()
        failed, self._exchange.failed = self._exchange.failed, None
        if failed is not None and self._raise_app_exceptions:
            app_error = exception_of(failed)
            # An app that lets Starlette's error through when its client closes the WebSocket has done nothing wrong.
            if type(app_error).__name__ != "WebSocketDisconnect":
                raise self._as_theirs(app_error) if isinstance(app_error, SocketlessError) else app_error


class NetworkStream:
    """A WebSocket's bytes, blocking: what httpcore calls a `NetworkStream`."""

    def __init__(self, upgraded: Upgraded) -> None:
        self._upgraded = upgraded

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return frames, or a piece of one; `b""` after the end."""
        return run_blocking(self._upgraded.read(max_bytes, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Take frames, or a piece of one."""
        run_blocking(self._upgraded.write(buffer, timeout))

    def close(self) -> None:
        """Tell the app that its client has gone."""
        run_blocking(self._upgraded.cancel())

    def get_extra_info(self, info: str) -> Any:
        """Return `None`: there is no socket, and nothing to be said of one."""
        return None


class AsyncNetworkStream:
    """A WebSocket's bytes for asyncio and trio: what httpcore calls an `AsyncNetworkStream`."""

    def __init__(self, upgraded: Upgraded) -> None:
        self._upgraded = upgraded

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return frames, or a piece of one; `b""` after the end."""
        return await run_async(self._upgraded.read(max_bytes, timeout))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Take frames, or a piece of one."""
        await run_async(self._upgraded.write(buffer, timeout))

    async def aclose(self) -> None:
        """Tell the app that its client has gone."""
        await run_async(self._upgraded.cancel())

    def get_extra_info(self, info: str) -> Any:
        """Return `None`: there is no socket, and nothing to be said of one."""
        return None
