"""HTTP/1.1 as bytes (RFC 9112), for whoever insists on them: a connection's server side, whose app is in a worker.

    client                     here                            worker
    writes ── bytes ─────────▶ feed(), feed_eof()
                               run() ── Request, Chunk ──────▶ the app
    reads  ◀─ bytes, Output ── run() ◀─ Response, Chunk ────── the app

Like h11, it neither reads nor writes: whoever has the connection feeds it, and drives its steps. Requests are answered
one after the other, in the order in which they have come (pipelining). A WebSocket's opening handshake makes of the
connection what `socketless._http11.upgrade` has; then `pump()` must be driven beside `run()`.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from http import HTTPStatus
from typing import Any

import h11

from socketless._clients.response import (
    INTERNAL_SERVER_ERROR,
    Answers,
    AsTheirs,
    Body,
    Exchanging,
    reason_of,
    response_of,
)
from socketless._host.limits import NO_LIMITS, Timeouts
from socketless._http11 import upgrade
from socketless._http11.heads import (
    Refused,
    authority_and_target,
    connection_options,
    opens_websocket,
    server_of,
    text_of,
)
from socketless._wire.messages import WEBSOCKET_SCHEMES, Event, Failed, Request, Response, is_bodiless
from socketless._wire.steps import Need, Pull, PullingSteps
from socketless.errors import AppProtocolError, ClientDisconnected, SocketlessError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["NEED_DATA", "Bridge", "Output"]

_MAX_HEAD = 64 * 1024  # bytes that the head of a request may have
_READ_SIZE = 64 * 1024
_CONTROLS = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_TEXT = [("content-type", "text/plain; charset=utf-8")]


NEED_DATA = Need()  # the client is to write more: `Bridge.feed()` it, or `feed_eof()`, and go on


class Output(Need):
    """Bytes that the client is to read at once: it may wait for them before it writes on."""

    def __init__(self, data: bytes) -> None:
        self.data = data


class Bridge:
    """One connection of a client.

    Args:
        worker: what answers.
        scheme, server: how the client sends requests: ``"http"``, and where the ``Host`` header does not say it, which
            server.
        client: the address that the app sees as the client's.
        root_path, raise_app_exceptions: see `IpcTransport`.
        as_theirs: makes of our errors those of a client library.
        on_failure: gets the traceback of what the app has raised, where that is not raised here.
        waits_for_app: end a response when the app has returned, as tests have it; else when it is complete.
        is_strict: refuse what most servers do, and client libraries write all the same: control characters in headers.
    """

    timeouts: Timeouts = NO_LIMITS  # of the next exchange

    def __init__(
        self,
        worker: Answers,
        *,
        scheme: str = "http",
        server: tuple[str, int] = ("testserver", 80),
        client: tuple[str, int] = ("127.0.0.1", 123),
        root_path: str = "",
        raise_app_exceptions: bool = True,
        as_theirs: AsTheirs = lambda error: error,
        on_failure: Callable[[str], object] = lambda traceback: None,
        waits_for_app: bool = True,
        is_strict: bool = False,
    ) -> None:
        self._worker = worker
        self._fed: deque[bytes] = deque()  # what the client has written, and nobody has taken
        self.is_at_eof = False  # the client writes no more
        self.unread = 0  # bytes of `_fed`
        self._scheme, self._server, self._client, self._root_path = scheme, server, client, root_path
        self._raise_app_exceptions = raise_app_exceptions
        self._as_theirs = as_theirs
        self._on_failure = on_failure
        self._waits_for_app = waits_for_app
        self._is_strict = is_strict
        self._connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        self._method = ""  # of the request that is being answered
        self._exchange: Exchanging | None = None  # the last one
        self._body: Body | None = None  # of the response that is being sent
        self._is_bodiless = False  # the response has no body, whatever the app says
        self._left: int | None = None  # bytes of its body that are still to be sent; None: nobody knows
        self._is_chunked = False  # so it can have trailers (RFC 9112, section 7.1.2)
        self._has_answered = False  # a response is complete, and its request perhaps not
        self._is_last = False  # the client was not told to go on: nobody knows whether a body follows, or a request
        self.is_closed = False  # the connection is at its end
        self.upgraded: upgrade.Upgraded | None = None  # once the connection is a WebSocket

    def feed(self, data: bytes) -> None:
        """Take what the client has written."""
        self._fed.append(data)
        self.unread += len(data)

    def feed_eof(self) -> None:
        """Take notice that the client writes no more. Any thread may call it, and twice."""
        self.is_at_eof = True

    @property
    def has_news(self) -> bool:
        """Whether the client has written what nobody has taken, or writes no more."""
        return bool(self._fed) or self.is_at_eof

    def _piece(self) -> PullingSteps[bytes]:
        """Return what comes next of what the client writes; `b""` at the end."""
        while not self.has_news:
            yield NEED_DATA
        if not self._fed:
            return b""
        piece = self._fed.popleft()
        self.unread -= len(piece)
        return piece

    @property
    def is_idle(self) -> bool:
        """Whether all that has come is answered, and the next request may come; true at first."""
        if self._fed or (self._method and not self._has_answered):
            return False
        done = {self._connection.our_state, self._connection.their_state} <= {h11.IDLE, h11.DONE}
        return done and not self._connection.trailing_data[0]

    @property
    def is_in_head(self) -> bool:
        """Whether the head of a request has begun to come, and its end is not here."""
        return self._connection.their_state is h11.IDLE and bool(self._connection.trailing_data[0])

    @property
    def is_sent(self) -> bool:
        """Whether the client has the whole response, by its length, though the app has not returned yet."""
        return self._body is not None and self._left == 0

    @property
    def is_whole(self) -> bool:
        """Whether the app has sent its whole response, and goes on after it: no time limit is for that."""
        return self._body is not None and self._body.is_whole

    def run(self) -> PullingSteps[None]:
        """Answer what the client writes, until it `is_idle`, or `is_closed`.

        The steps yield `Output`, and `NEED_DATA` in the middle of a request.

        Raises:
            Exception: what the app has raised, and our errors as `as_theirs` makes them. The connection is at its end.
        """
        try:
            while not (self.is_closed or (self.is_idle and not self.is_at_eof)):
                output = yield from self._next_output()
                if output:
                    yield Output(output)
        except Refused as refused:
            refusal = self.refuse(refused.status, refused.reason, refused.headers)
            if refusal:
                yield Output(refusal)
        except GeneratorExit:  # dropped
            self.abandon()
            raise
        except BaseException as error:
            self.close()
            if not isinstance(error, ClientDisconnected) or self.app_has_failed:
                raise

    @property
    def app_has_failed(self) -> bool:
        """Whether the app has raised."""
        return self._exchange is not None and self._exchange.failed is not None

    def _next_output(self) -> PullingSteps[bytes]:
        if self.upgraded is not None:
            frames = yield from self.upgraded.read(_READ_SIZE, None)
            self.is_closed = not frames
            return frames
        if self._has_answered:
            yield from self._begin_next()
            return b""
        if self._body is not None:
            chunk = yield from self._next_chunk(self._body)
            return self._end_of_message(self._body.extensions) if chunk is None else self._data(chunk)
        event = yield from self._next_event()
        if not isinstance(event, h11.Request):
            self.is_closed = True  # h11.ConnectionClosed
            return b""
        return (yield from self._answer(event))

    def _next_chunk(self, body: Body) -> PullingSteps[bytes | None]:
        # A client that has read a whole response takes it that the app has returned, and reads no further than its
        # length.
        chunk = yield from body.next_chunk()
        if chunk is not None and body.is_whole and self._waits_for_app and self._left is not None:
            while (more := (yield from body.next_chunk())) is not None:
                chunk += more
        return chunk

    def _next_event(self) -> PullingSteps[Any]:
        while (event := self._event_that_has_come()) is h11.NEED_DATA:
            self._connection.receive_data((yield from self._piece()))
        return event

    def _event_that_has_come(self) -> Any:
        try:
            return self._connection.next_event()
        except h11.RemoteProtocolError as error:
            raise Refused(str(error), error.error_status_hint) from None

    # The request

    def _answer(self, event: h11.Request) -> PullingSteps[bytes]:
        self._method, self._exchange = event.method.decode("ascii"), None
        message, body = self._message_of(event)
        try:
            exchange = self._exchange = yield from self._worker.exchange(message, self.timeouts, body)
            answer = exchange.answer
            if isinstance(answer, Event) and answer.event["type"] == "websocket.accept":
                self.upgraded = upgrade.Upgraded(
                    exchange,
                    self._as_theirs,
                    lambda error, name=None: self._as_theirs(error),
                    raise_app_exceptions=self._raise_app_exceptions,
                    on_failure=self._on_failure,
                )
                headers = upgrade.response_headers(text_of(event.headers), answer.event)
                return self._send(
                    h11.InformationalResponse(status_code=101, reason="Switching Protocols", headers=headers)
                )
            if isinstance(answer, Failed) and not self._raise_app_exceptions:
                self._on_failure(answer.traceback)
            response = response_of(answer, self._as_theirs, raise_app_exceptions=self._raise_app_exceptions)
        except SocketlessError as error:
            raise self._as_theirs(error) from error.__cause__
        if response.more_body:
            self._body = Body(
                exchange,
                self._method,
                response,
                self._as_theirs,
                raise_app_exceptions=self._raise_app_exceptions,
                on_failure=self._on_failure,
                waits_for_app=self._waits_for_app,
            )
        output = self._head(response)
        if self._body is not None and self._body.is_whole and self._waits_for_app and self._left == 0:
            yield from self._body.next_chunk()
            output += self._end_of_message(self._body.extensions)
        return output

    def _message_of(self, event: h11.Request) -> tuple[Request, Pull | None]:
        headers = list(event.headers.raw_items())
        scheme = self._scheme
        texts = text_of(event.headers)
        if not event.http_version.startswith(b"1."):
            raise Refused(f"HTTP/{event.http_version.decode()} is not spoken here, but HTTP/1.1", 505)
        if self._is_strict and any(_CONTROLS.search(value) for _, value in headers):
            raise Refused("control characters in a header", 400)  # RFC 9110, section 5.5
        if "content-length" in texts and "transfer-encoding" in texts:
            raise Refused("Content-Length and Transfer-Encoding in one request", 400)  # RFC 9112, section 6.1
        if event.method == b"CONNECT":
            raise Refused("this is not a proxy: there is no CONNECT", 501)  # RFC 9110, section 9.3.6
        if self._worker.app_kind == "asgi" and opens_websocket(event, texts):
            upgrade.require_wsproto()
            scheme = WEBSOCKET_SCHEMES[scheme]
        authority, target = authority_and_target(event.target)
        if authority:
            headers = [(name, authority if name.lower() == b"host" else value) for name, value in headers]
        body, more_body = self._what_is_there()
        more_body |= "transfer-encoding" in texts  # its length is not told, even if it is here by now
        message = Request(
            method=self._method,
            scheme=scheme,
            server=server_of(authority.decode("latin-1") or texts.get("host", ""), scheme, self._server),
            raw_target=target,
            headers=headers,
            body=b"" if more_body else body,
            root_path=self._root_path,
            client=self._client,
            more_body=more_body,
        )
        return message, _RequestBody(self, body) if more_body else None

    def _what_is_there(self) -> tuple[bytes, bool]:
        """Return what has come of the request's body, and whether there is more of it."""
        body = b""
        if self._connection.they_are_waiting_for_100_continue:
            return body, True
        while True:
            event = self._event_that_has_come()
            if isinstance(event, h11.Data):
                body += event.data
            else:
                return body, not isinstance(event, h11.EndOfMessage)

    def next_of_request(self) -> PullingSteps[bytes | None]:
        """Return the next piece of the request's body; `None` at its end.

        Raises:
            Refused: the client has gone before that, or what it writes is no body.
        """
        if self._connection.they_are_waiting_for_100_continue:
            yield Output(self._send(h11.InformationalResponse(status_code=100, reason="Continue", headers=[])))
        if self._connection.their_state is h11.DONE:
            return None
        event = yield from self._next_event()
        return bytes(event.data) if isinstance(event, h11.Data) else None

    # The response

    def _head(self, response: Response) -> bytes:
        self._is_last = self._connection.they_are_waiting_for_100_continue  # RFC 9110, section 10.1.1
        try:
            head = _h11_head(response)
        except h11.LocalProtocolError as error:  # nothing was sent yet
            broken = self._broken(error)
            if self._raise_app_exceptions:
                raise broken from None
            self._on_failure(str(broken))
            self.cancel()
            self._body, response = None, INTERNAL_SERVER_ERROR
            head = _h11_head(response)
        self._is_bodiless = is_bodiless(self._method, response.status)
        lengths = [int(value) for name, value in head.headers if name == b"content-length"]
        is_old = self._connection.their_http_version in (None, b"1.0")
        self._left = 0 if self._is_bodiless else lengths[0] if lengths else None
        self._is_chunked = not (self._is_bodiless or lengths or is_old)
        output = self._send(_closing(head) if self._is_last else head)
        if self._body is None:
            output += self._data(response.body) + self._end_of_message(response.extensions)
        return output

    def _data(self, chunk: bytes) -> bytes:
        if self._left:
            self._left -= len(chunk)
        return b"" if self._is_bodiless else self._send(h11.Data(data=chunk))

    def _end_of_message(self, extensions: Mapping[str, Any]) -> bytes:
        self._body, self._has_answered = None, True
        if not self._waits_for_app:
            self.cancel()
        trailers = extensions.get("http.response.trailers", []) if self._is_chunked else []
        return self._send(h11.EndOfMessage(headers=trailers))

    def let_go(self) -> bytes:
        """End a response that `is_sent`: its app, which goes on, is told that the client has gone."""
        self.cancel()
        return self._end_of_message({})

    def _send(self, event: Any) -> bytes:
        try:
            return self._connection.send(event) or b""
        except h11.LocalProtocolError as error:
            raise self._broken(error) from None

    def _broken(self, error: h11.LocalProtocolError) -> BaseException:
        return self._as_theirs(AppProtocolError(f"the app's response is not HTTP/1.1: {error}"))

    def _begin_next(self) -> PullingSteps[None]:
        self._has_answered = False
        while self._connection.their_state is h11.SEND_BODY and not self._is_last:
            if isinstance((yield from self._next_event()), h11.ConnectionClosed):
                break
        if self._connection.our_state is h11.DONE and self._connection.their_state is h11.DONE:
            self._connection.start_next_cycle()
            self._method = ""
        else:
            self.is_closed = True

    def refuse(self, status: int, reason: str, headers: Iterable[tuple[str, str]] = ()) -> bytes | None:
        """End the connection, with a response of our own if none has begun; `None`: it is too late for that."""
        self.cancel()
        self.is_closed = True
        _, has_gone = self._connection.trailing_data
        if has_gone or self._connection.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return None
        text = f"{reason}\n".encode()
        headers = [*headers, *_TEXT, ("content-length", str(len(text))), ("connection", "close")]
        head = h11.Response(status_code=status, reason=HTTPStatus(status).phrase, headers=headers)
        self._is_bodiless = is_bodiless(self._method, status)
        return self._send(head) + self._data(text) + self._send(h11.EndOfMessage())

    # WebSockets, and the end

    def pump(self) -> PullingSteps[None]:
        """Give a WebSocket what its client writes, until it writes no more, or the WebSocket is closed.

        Must be called after `upgraded` is set. The steps yield `NEED_DATA`.
        """
        assert self.upgraded is not None
        data: bytes | None = self._connection.trailing_data[0]
        while not self.upgraded.is_closed:
            if not data:
                data = yield from self._piece()
            if not data:
                yield from self.upgraded.cancel()
                return
            yield from self.upgraded.write(data, None)
            data = None

    def let_through(self) -> None:
        """The client is about to leave: what it has written of a WebSocket waits for the app no more."""
        if self.upgraded is not None:
            self.upgraded.let_through()

    def cancel(self) -> None:
        """Tell the app, if it is still there, that its client has gone."""
        if self._exchange is not None:
            self._exchange.cancel()

    def close(self) -> None:
        """End the connection: the client has gone, and reads nothing more."""
        self.is_closed = True
        self.cancel()

    def abandon(self) -> None:
        """Cancel it when there is time: for finalizers."""
        if self._exchange is not None:
            self._exchange.abandon()


def _closing(head: h11.Response) -> h11.Response:
    headers = head.headers.raw_items()
    if b"close" not in connection_options(head):
        headers = [*headers, (b"Connection", b"close")]
    return h11.Response(status_code=head.status_code, reason=head.reason, headers=headers)


def _h11_head(response: Response) -> h11.Response:
    reason = reason_of(response).encode("latin-1")
    return h11.Response(status_code=response.status, reason=reason, headers=response.headers)


class _RequestBody(Pull):
    """The body of a request, whose beginning may have come with its head."""

    def __init__(self, bridge: Bridge, beginning: bytes) -> None:
        super().__init__(iter(()))
        self._bridge = bridge
        self._beginning = beginning

    def take(self) -> PullingSteps[bytes | None]:
        if self._beginning:
            beginning, self._beginning = self._beginning, b""
            return beginning
        return (yield from self._bridge.next_of_request())
