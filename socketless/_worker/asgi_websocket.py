"""One call of an ASGI app for a WebSocket (https://asgi.readthedocs.io/en/latest/specs/www.html#websocket)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

from socketless._wire import messages
from socketless._wire.messages import Cancel, Chunk, Done, Echo, Message, RawHeaders, Request, Response
from socketless._worker.asgi_call import AsgiCall, Sink, connection_scope
from socketless._worker.asgi_checks import check_body, check_headers, check_status
from socketless._worker.content_length import check_final, check_length, check_size, content_length
from socketless._worker.lifespan import App, Event
from socketless.errors import AppProtocolError, ClientDisconnected

# How long an app may go on when its client has gone, and it does not ask for what has come: seconds.
_GRACE = 0.05  # for one that never asked; and to send more than once
_PATIENCE = 1.0  # for one that has, or has closed: it may be working on that

# What the app may send in each state, and the state after it.
_TRANSITIONS = {
    ("connecting", "websocket.accept"): "open",
    ("connecting", "websocket.close"): "closed",
    ("connecting", "websocket.http.response.start"): "denying",
    ("denying", "websocket.http.response.body"): "denying",  # "closed" after the last one
    ("open", "websocket.send"): "open",
    ("open", "websocket.close"): "closed",
}
_CODES = {1000, 1001, 1002, 1003, *range(1007, 1015)}  # that IANA has registered, and a frame may carry
_LONGEST_REASON = 123  # bytes
_MOST_UNSAID = messages.MOST_AHEAD // 4  # of what an app has received, before its client is told


class WebSocketCall(AsgiCall):
    """The two callables of one WebSocket. Events cross as they are; a denial crosses as an HTTP response."""

    def __init__(
        self, app: App, request: Request, state: dict[str, Any] | None, writer: Sink, max_body_bytes: int | None
    ) -> None:
        self._app = app
        self._request = request
        self._lifespan_state = state
        self._events: asyncio.Queue[Event] = self.aio.Queue()  # of a limited size: the client waits before that
        self._unreceived = 0  # the room that they take up
        self._room = 0  # that there is since the client was told
        self._aside: set[asyncio.Task[None]] = set()
        self._events.put_nowait({"type": "websocket.connect"})
        self._end: Event | None = None  # what receive() returns once the client has gone, or the app has closed
        self._end_is_known = False  # to the app: receive() has returned it
        self._listens = False  # the app has asked for more than "websocket.connect"
        self._since = 0.0  # when it asked last, or its client has gone; by the loop's clock
        self._unheard = 0  # messages that it has sent since then, for nobody
        self._state = "connecting"
        self._label = request.label
        self._max_body_bytes = max_body_bytes
        self._denial_size = 0
        self._denial_length: int | None = None  # what Content-Length says
        self._denial: tuple[int, RawHeaders] | None = None  # not sent yet
        super().__init__(writer)

    async def call(self) -> Message:
        await self._app(self._scope(), self.receive, self.send)
        if self._end is None and self._state in ("connecting", "denying"):
            raise AppProtocolError(
                "the ASGI app returned before it had accepted or closed the WebSocket"
                if self._state == "connecting"
                else "the ASGI app returned before its denial of the WebSocket was complete (more_body was still true)"
            )
        return Done()

    def _scope(self) -> dict[str, Any]:
        offered = b",".join(value for name, value in self._request.headers if name.lower() == b"sec-websocket-protocol")
        return {
            **connection_scope(self._request, self._lifespan_state),
            "type": "websocket",
            "subprotocols": [each.strip() for each in offered.decode("latin-1").split(",") if each.strip()],
            "extensions": {"websocket.http.response": {}},
        }

    def take(self, message: Message) -> None:
        super().take(message)
        if isinstance(message, messages.Event):
            if message.event["type"] == "websocket.disconnect":
                self.client_has_gone = True
                self._disconnected(message.event)
            elif self._end is None:
                self._unreceived += messages.room_of(message.event)
                self._events.put_nowait(message.event)
            else:  # what comes after the app has closed is for nobody
                self._make_room(messages.room_of(message.event))
        elif isinstance(message, Echo):
            self._write_aside(message)

    def _make_room(self, room: int) -> None:
        self._room += room
        if self._room >= _MOST_UNSAID:
            room, self._room = self._room, 0
            self.acknowledge(room)

    def acknowledge(self, room: int) -> None:
        """Let the client send as much more."""
        self._write_aside(messages.Received(room))

    def _write_aside(self, message: Message) -> None:
        # In a task of its own: the pipe may be full.
        writing = self.aio.create_task(self._write_quietly(message))
        self._aside.add(writing)
        writing.add_done_callback(self._aside.discard)

    async def _write_quietly(self, message: Message) -> None:
        with suppress(ClientDisconnected):  # who waits for it has the last message then
            await self.write(message)

    def disconnect(self) -> None:
        self._disconnected({"type": "websocket.disconnect", "code": 1006, "reason": ""})
        self._go_on()

    def _disconnected(self, event: Event) -> None:
        if self._end is None:
            self._end = event
            self._events.put_nowait(event)
            self._go_on()

    def _go_on(self) -> None:
        self._since, self._unheard = self.aio.get_running_loop().time(), 0

    def _time_left(self, limit: float) -> float:
        left: float = self._since + limit - self.aio.get_running_loop().time()
        return left

    def cancel(self) -> None:
        # Servers never cancel an app, Starlette's TestClient does at once.
        will_hear_of_it = self._listens or self._unheard or self._state == "closed"
        left = self._time_left(_PATIENCE if will_hear_of_it else _GRACE)
        if left > 0 and not self.is_over:
            self.cancel_later(left)
        else:
            super().cancel()

    async def receive(self) -> Event:
        """The `receive()` of the ASGI specification. After the end, it returns that again."""
        if self._end_is_known:
            await self.aio.sleep(0)  # an app that does not care must not keep the loop from all else
            assert self._end is not None
            return self._end
        event = await self._events.get()
        self._listens = event["type"] != "websocket.connect"
        self._end_is_known = event is self._end
        self._go_on()
        if self._end is None:
            room = messages.room_of(event)
            self._unreceived -= room
            self._make_room(room)
        return event

    async def send(self, event: Event) -> None:
        """The `send()` of the ASGI specification.

        What an app sends before it has heard of its client's end goes nowhere: it has yet to come to that. Unless it
        does not ask.

        Raises:
            ClientDisconnected: the client has closed the WebSocket, or has gone.
            AppProtocolError: the event is not what may come now.
        """
        kind = event["type"]
        after = _TRANSITIONS.get((self._state, kind))
        if after is None:
            raise AppProtocolError(f"the ASGI app sent {kind!r} to a WebSocket that is {self._state}")
        message = self._message(kind, event)
        if self._end is not None:
            await self._send_to_nobody()
            message = None
        self._state = "closed" if kind == "websocket.http.response.body" and not event.get("more_body") else after
        if kind == "websocket.close":
            code, reason = event.get("code", 1000), event.get("reason") or ""
            self._disconnected({"type": "websocket.disconnect", "code": code, "reason": reason})
            self._make_room(self._unreceived)  # which is for nobody, either
        if message is not None:
            await self.write(message)
            await self.aio.sleep(0)  # an app that sends for ever must not keep the loop from all else
        if kind == "websocket.http.response.body" and self._state == "closed":
            self.take(Cancel())  # the client has got all that there is, and goes

    async def _send_to_nobody(self) -> None:
        has_more_to_do = self._listens and self._events.qsize() > 1  # than to hear of the end
        is_deaf = self._unheard and not has_more_to_do and self._time_left(_GRACE) < 0
        if self._end_is_known or is_deaf or self._time_left(_PATIENCE) < 0:
            raise ClientDisconnected("the client has closed the WebSocket")
        self._unheard += 1
        await self.aio.sleep(0)

    def _message(self, kind: str, event: Event) -> Message | None:
        # What crosses, of plain values only. The start of a denial waits for its body.
        crossing: dict[str, Any]
        if kind == "websocket.accept":
            headers = check_headers(event.get("headers", ()), kind)
            crossing = {"subprotocol": _check_subprotocol(event.get("subprotocol")), "headers": headers}
        elif kind == "websocket.close":
            is_open = self._state == "open"
            code = _check_code(event.get("code", 1000), is_open=is_open)
            crossing = {"code": code, "reason": _check_reason(event.get("reason"), is_open=is_open)}
        elif kind == "websocket.send":
            crossing = _check_data(event)
        elif kind == "websocket.http.response.start":
            headers = check_headers(event.get("headers", ()), kind)
            status, self._denial_length = check_status(event.get("status"), kind), content_length(headers)
            check_final(status)
            self._denial = status, headers
            return None
        else:
            body = check_body(event.get("body", b""), kind)
            self._denial_size += len(body)
            check_size(self._denial_size, self._max_body_bytes, self._label)
            check_length(self._denial_size, self._denial_length, is_complete=not event.get("more_body"))
            return self._denial_message(body)
        return messages.Event({"type": kind, **crossing})

    def _denial_message(self, body: bytes) -> Message:
        if self._denial is None:
            return Chunk(body, more_body=True)
        (status, headers), self._denial = self._denial, None
        return Response(status, "", headers, body, more_body=True)


def _check_subprotocol(subprotocol: Any) -> str | None:
    if subprotocol is not None and not isinstance(subprotocol, str):
        raise AppProtocolError(
            f"the ASGI app's subprotocol is {type(subprotocol).__name__}; websocket.accept wants a string, or None"
        )
    return subprotocol


def _check_code(code: Any, *, is_open: bool) -> int:
    if not isinstance(code, int) or not 1000 <= code <= 4999:  # RFC 6455, section 7.4.2
        raise AppProtocolError(
            f"the ASGI app's code is {code!r}; websocket.close wants an integer between 1000 and 4999"
        )
    if is_open and code < 3000 and code not in _CODES:  # before that, it is a 403
        raise AppProtocolError(
            f"the ASGI app's code is {code!r}, which no close frame may carry (RFC 6455, section 7.4); an app's own "
            "codes are 3000 to 4999"
        )
    return int(code)


def _check_reason(reason: Any, *, is_open: bool) -> str:
    if not is_open:
        return str(reason or "")  # which FastAPI has a list for
    if not isinstance(reason, (str, type(None))):
        raise AppProtocolError(f"the ASGI app's reason is {type(reason).__name__}; websocket.close wants a string")
    if len((reason or "").encode(errors="replace")) > _LONGEST_REASON:
        raise AppProtocolError(
            f"the ASGI app's reason is longer than the {_LONGEST_REASON} bytes that a close frame may carry "
            "(RFC 6455, section 5.5)"
        )
    return reason or ""


def _check_data(event: Event) -> dict[str, Any]:
    text, raw = event.get("text"), event.get("bytes")
    if isinstance(text, str) and raw is None:
        return {"text": text}
    if isinstance(raw, (bytes, bytearray, memoryview)) and text is None:
        return {"bytes": bytes(raw)}
    raise AppProtocolError(
        f"the ASGI app's text is {type(text).__name__} and its bytes are {type(raw).__name__}; websocket.send wants "
        "one of them, as str or as bytes"
    )
