"""One HTTP exchange with an ASGI app (https://asgi.readthedocs.io/en/latest/specs/www.html)."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

from socketless.errors import AppProtocolError, ClientDisconnected
from socketless.wire.messages import Chunk, Done, Message, RawHeaders, Request, Response, WantBody, is_bodiless
from socketless.worker import bodies
from socketless.worker.asgi_checks import check_body, check_headers, check_status
from socketless.worker.asgi_exchange import Exchange, Sink, connection_scope
from socketless.worker.failures import failed
from socketless.worker.lifespan import App, Event

_HEADERS_WAIT = 0.001  # seconds that headers wait for the first of the body, so that both are one message
_FILE_CHUNK = 256 * 1024  # bytes


class HttpExchange(Exchange):
    """The two callables of one HTTP exchange, and what the app has sent so far.

    What the app sends leaves at once. Only a whole response waits for the app's return, so that it is one message.
    """

    def __init__(
        self, app: App, request: Request, state: dict[str, Any] | None, writer: Sink, max_body_bytes: int | None
    ) -> None:
        self._app = app
        self._request = request
        self._state = state
        self._max_body_bytes = max_body_bytes
        # The request's body: what has come and was not read yet, and whether there is more to be asked for.
        self._chunks = deque[Chunk]() if request.more_body else deque([Chunk(request.body, False)])
        self._more = request.more_body
        self._asked = False
        self._news = asyncio.Event()  # something for receive()
        self._receiving = 0  # calls of receive() that wait
        self._listens = False  # whether the app was waiting in receive() when its client went
        self._had_its_time = asyncio.Event()  # to hear of that
        # The response.
        self._status: int | None = None
        self._headers: RawHeaders = []
        self._bodiless = False
        self._length: int | None = None  # what Content-Length says
        self._size = 0  # of what the app has given
        self._held: list[bytes] = []  # not sent yet
        self._extensions: dict[str, Any] = {}  # not sent yet
        self._is_sent = False  # the headers, at least
        self._body_is_complete = False
        self._expects_trailers = False
        self._is_complete = False
        self._headers_timer: asyncio.TimerHandle | None = None
        super().__init__(writer)

    async def call(self) -> Message:
        try:
            await self._app(self._scope(), self.receive, self.send)
        finally:
            if self._headers_timer is not None:
                self._headers_timer.cancel()
        if self.is_cancelled:
            return Done()  # whatever it has left out, it was told to leave
        if self._status is None:
            raise AppProtocolError("the ASGI app returned without sending http.response.start")
        if not self._body_is_complete:
            raise AppProtocolError("the ASGI app returned before its body was complete (more_body was still true)")
        return self._next(more_body=False)

    def describe(self, error: BaseException) -> Message:
        return failed(error, self._next(more_body=False) if self._is_complete else None)

    def _scope(self) -> dict[str, Any]:
        extensions: dict[str, Any] = {
            "http.response.debug": {},
            "http.response.pathsend": {},
            "http.response.trailers": {},
        }
        return {
            **connection_scope(self._request, self._state),
            "type": "http",
            "method": self._request.method.upper(),
            "extensions": extensions,
        }

    # The request

    def take(self, message: Message) -> None:
        super().take(message)
        if isinstance(message, Chunk):
            self._chunks.append(message)
            self._more, self._asked = message.more_body, False
            self._news.set()

    def disconnect(self) -> None:
        self._listens = self._receiving > 0
        self._news.set()

    def cancel(self) -> None:
        if not self._is_complete:  # or only its background task is left, which no client waits for over TCP either
            super().cancel()
        self._had_its_time.set()

    async def receive(self) -> Event:
        """The `receive()` of the ASGI specification."""
        while True:
            if self.is_cancelled or self.is_over:
                return {"type": "http.disconnect"}
            if self._chunks:
                chunk = self._chunks.popleft()
                return {"type": "http.request", "body": chunk.body, "more_body": chunk.more_body}
            if self._is_complete:
                return {"type": "http.disconnect"}
            if self._more and not self._asked:
                self._asked = True
                await self.write(WantBody())
                continue  # it may have come already, while the pipe was full
            self._news.clear()
            self._receiving += 1
            try:
                await self._news.wait()
            finally:
                self._receiving -= 1

    # The response

    async def send(self, event: Event) -> None:
        """The `send()` of the ASGI specification.

        Raises:
            ClientDisconnected: nobody wants it any more.
            AppProtocolError: the event is not what may come now.
            BodyTooLarge: the body is over the worker's limit.
        """
        kind = event["type"]
        if kind == "http.response.start":
            self._start(event)
        elif kind == "http.response.body":
            self._expect_body(kind)
            await self._take_body(check_body(event.get("body", b""), kind), more=bool(event.get("more_body", False)))
        elif kind == "http.response.pathsend":
            self._expect_body(kind)
            await self._take_file(event["path"])
        elif kind == "http.response.trailers":
            self._take_trailers(event)
        elif kind == "http.response.debug":
            self._extensions[kind] = event["info"]
        else:
            raise AppProtocolError(f"the ASGI app sent {kind!r} in answer to an HTTP request")

    def _start(self, event: Event) -> None:
        if self._status is not None:
            raise AppProtocolError("the ASGI app sent http.response.start twice")
        headers = check_headers(event.get("headers", ()), event["type"])
        status = check_status(event.get("status"), event["type"])
        if not self._request.is_lenient:
            bodies.check_final(status)
        self._length = bodies.content_length(headers)
        self._headers, self._status = headers, status
        self._bodiless = is_bodiless(self._request.method, status)
        self._expects_trailers = bool(event.get("trailers", False))
        if self._expects_trailers:
            self._extensions.setdefault("http.response.trailers", [])
        asyncio.get_running_loop().call_soon(self._wait_for_body)

    def _wait_for_body(self) -> None:
        # Runs in the event loop, in the turn after http.response.start: most apps have sent the body by then.
        if not self._is_sent and not self._is_complete and not self.is_over:
            self._headers_timer = asyncio.get_running_loop().call_later(_HEADERS_WAIT, self._start_sending_headers)

    def _start_sending_headers(self) -> None:
        # Runs in the event loop, where the app has taken its time since http.response.start. What is held of a body
        # that is whole by its Content-Length, and not by its more_body, goes with the headers.
        if not self._is_sent and not self._is_complete and not self.task.done():
            self._sending_headers = asyncio.create_task(self._send_headers())

    async def _send_headers(self) -> None:
        if not self._is_sent and not self.is_over:
            with suppress(ClientDisconnected):
                await self._write(self._next(more_body=True))

    def _expect_body(self, kind: str) -> None:
        if self._status is None:
            raise AppProtocolError(f"the ASGI app sent {kind} before http.response.start")
        if self._body_is_complete:
            raise AppProtocolError(f"the ASGI app sent {kind} after the body was complete")

    async def _take_body(self, body: bytes, *, more: bool) -> None:
        self._size += len(body)
        bodies.check_size(self._size, self._max_body_bytes, self._request.label)
        if not self._bodiless:
            bodies.check_length(self._size, self._length, is_complete=not more)
            self._held.append(body)
        if not more:
            self._complete_body()
        if body if self._is_sent else more and self._size != self._length:
            await self._write(None if self._bodiless and self._is_sent else self._next(more_body=True))
            # A client that reads as fast as the app writes must not keep the loop from all else.
            await asyncio.sleep(0)

    def _complete_body(self) -> None:
        self._body_is_complete = True
        if not self._expects_trailers:
            self._complete()

    def _complete(self) -> None:
        self._is_complete = True
        self._news.set()

    async def _take_file(self, path: Any) -> None:
        # It should be absolute, says the specification. Starlette passes on what it was given.
        if not isinstance(path, str):
            raise AppProtocolError(f"the ASGI app's path is {path!r}; http.response.pathsend wants a string")
        with open(path, "rb") as file:
            while chunk := file.read(_FILE_CHUNK):
                await self._take_body(chunk, more=True)
        await self._take_body(b"", more=False)

    def _take_trailers(self, event: Event) -> None:
        if not self._expects_trailers:
            raise AppProtocolError(
                "the ASGI app sent http.response.trailers, and http.response.start had no 'trailers': True"
            )
        if not self._body_is_complete:
            raise AppProtocolError("the ASGI app sent http.response.trailers before the body was complete")
        if self._is_complete:
            raise AppProtocolError("the ASGI app sent http.response.trailers after the last of them")
        trailers = check_headers(event.get("headers", ()), event["type"])
        self._extensions.setdefault(event["type"], []).extend(trailers)
        if not event.get("more_trailers", False):
            self._complete()

    def _next(self, *, more_body: bool) -> Response | Chunk:
        assert self._status is not None
        body = b"".join(self._held)
        self._held, extensions, self._extensions = [], self._extensions, {}
        if self._is_sent:
            return Chunk(body, more_body, extensions)
        self._is_sent = True
        return Response(self._status, "", self._headers, body, more_body, extensions)

    async def _write(self, message: Message | None) -> None:
        if self.is_cancelled:
            if self._listens:  # it is to end by what it hears there: Django, for one, does not expect an OSError here
                await self._had_its_time.wait()
            raise ClientDisconnected("the client has gone before the response was complete")
        if message is not None:
            await self.write(message)
