"""One call of an ASGI app for an HTTP request (https://asgi.readthedocs.io/en/latest/specs/www.html)."""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from typing import Any

from socketless._wire.messages import (
    Chunk,
    Done,
    Message,
    RawHeaders,
    Request,
    Response,
    Taken,
    WantBody,
    is_bodiless,
)
from socketless._worker.asgi_call import AsgiCall, Sink, connection_scope
from socketless._worker.asgi_checks import check_body, check_headers, check_status
from socketless._worker.content_length import check_final, check_length, check_size, content_length
from socketless._worker.failures import failed
from socketless._worker.lifespan import App, Event
from socketless.errors import AppProtocolError, ClientDisconnected

# Of the loop, in which headers wait for the first of the body, and what is complete for the app's return: then they are
# one message. Which they are, nobody sees.
_TURNS = 10
_FILE_CHUNK = 256 * 1024  # bytes


class HttpCall(AsgiCall):
    """The two callables of one call for HTTP, and what the app has sent so far.

    What the app sends leaves at once. Only headers and whole responses wait for what comes next, for a few turns of the
    loop.
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
        self._news: asyncio.Event = self.aio.Event()  # something for receive()
        self._receiving = 0  # calls of receive() that wait
        self._listens = False  # whether the app was waiting in receive() when its client went
        self._had_its_time: asyncio.Event = self.aio.Event()  # to hear of that
        # The response.
        self._status: int | None = None
        self._headers: RawHeaders = []
        self._bodiless = False
        self._length: int | None = None  # what Content-Length says
        self._size = 0  # of what the app has given
        self._taken_size = 0  # and of what could be taken of that
        self._held: list[bytes] = []  # not sent yet
        self._extensions: dict[str, Any] = {}  # not sent yet
        self._is_sent = False  # the headers, at least
        self._body_is_complete = False
        self._expects_trailers = False
        self._is_complete = False
        self._is_known_to_be_whole = False  # to the host
        self._turns = 0  # that are left to what is held
        self._taken: asyncio.Event = self.aio.Event()  # the reader has what was sent last, or the client has gone
        super().__init__(writer)

    async def call(self) -> Message:
        try:
            await self._app(self._scope(), self.receive, self.send)
        finally:
            self._had_its_time.set()
        if self.is_cancelled:
            return Done()  # whatever it has left out, it was told to leave
        if self._status is None:
            raise AppProtocolError("the ASGI app returned without sending http.response.start")
        if not self._body_is_complete:
            raise AppProtocolError("the ASGI app returned before its body was complete (more_body was still true)")
        return self._next(more_body=False)

    def describe(self, error: BaseException) -> Message:
        return failed(error, None if self._status is None else self._next(more_body=not self._is_whole))

    def _scope(self) -> dict[str, Any]:
        extensions: dict[str, Any] = {"http.response.debug": {}, "http.response.trailers": {}}
        if self._request.offers_files:
            extensions["http.response.pathsend"] = {}
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
        elif isinstance(message, Taken):
            self._taken.set()

    def disconnect(self) -> None:
        self._listens = self._receiving > 0
        self._news.set()
        self._taken.set()

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
        elif not kind.startswith("http.response."):  # of an extension that is not offered; in-process clients drop it
            raise AppProtocolError(f"the ASGI app sent {kind!r} in answer to an HTTP request")

    def _start(self, event: Event) -> None:
        if self._status is not None:
            raise AppProtocolError("the ASGI app sent http.response.start twice")
        headers = check_headers(event.get("headers", ()), event["type"])
        status = check_status(event.get("status"), event["type"])
        if not self._request.is_lenient:
            check_final(status)
        self._length = content_length(headers)
        self._headers, self._status = headers, status
        self._bodiless = is_bodiless(self._request.method, status)
        self._expects_trailers = bool(event.get("trailers", False))
        if self._expects_trailers:
            self._extensions.setdefault("http.response.trailers", [])
        self._send_soon()

    def _send_soon(self) -> None:
        """Let what is held wait for more."""
        is_waiting, self._turns = self._turns > 0, _TURNS
        if not is_waiting:
            self.aio.get_running_loop().call_soon(self._wait_a_turn)

    def _wait_a_turn(self) -> None:
        # Runs in the event loop. The last turn is that of the app which is in the middle of something: of its body, or
        # of what it does after it.
        self._turns -= 1
        if self.is_over or self.task.done():
            return
        if self._turns:
            self.aio.get_running_loop().call_soon(self._wait_a_turn)
        elif not self._is_sent or (self._is_complete and not self._is_known_to_be_whole):
            self._sending = self.aio.create_task(self._send_what_is_held())

    async def _send_what_is_held(self) -> None:
        if not self.is_over:
            with suppress(ClientDisconnected):
                await self._write(self._next(more_body=True))

    def _expect_body(self, kind: str) -> None:
        if self._status is None:
            raise AppProtocolError(f"the ASGI app sent {kind} before http.response.start")
        if self._body_is_complete:
            raise AppProtocolError(f"the ASGI app sent {kind} after the body was complete")

    async def _take_body(self, body: bytes, *, more: bool) -> None:
        self._size += len(body)
        check_size(self._size, self._max_body_bytes, self._request.label)
        if not self._bodiless:
            check_length(self._size, self._length, is_complete=not more)
            self._held.append(body)
        self._taken_size = self._size
        self._body_is_complete = not more
        if self._request.is_paced:
            await self._hand_over()
        if not more and not self._expects_trailers:
            self._complete()
        if self._request.is_paced:
            return
        if body if self._is_sent else more and self._size != self._length:
            await self._write(None if self._bodiless and self._is_sent else self._next(more_body=True))
            # A client that reads as fast as the app writes must not keep the loop from all else.
            await self.aio.sleep(0)
        else:
            self._send_soon()

    async def _hand_over(self) -> None:
        """Send a piece, an empty one as well, and wait until its reader has taken it."""
        self._taken.clear()
        await self._write(self._next(more_body=True, is_held=True))
        await self._taken.wait()
        await self._check_client()

    @property
    def _is_whole(self) -> bool:
        """Whether a client over TCP would have the whole response (RFC 9112, section 6.3), whatever comes then."""
        return self._is_complete or self._bodiless or self._taken_size == self._length

    def _complete(self) -> None:
        self._is_complete = True
        self._news.set()

    async def _take_file(self, path: Any) -> None:
        # It should be absolute, says the specification. Starlette passes on what it was given.
        if not isinstance(path, str):
            raise AppProtocolError(f"the ASGI app's path is {path!r}; http.response.pathsend wants a string")
        file = await self.aio.to_thread(open, path, "rb")  # the loop is not to wait for a disk
        try:
            while chunk := await self.aio.to_thread(file.read, _FILE_CHUNK):
                await self._take_body(chunk, more=True)
        finally:
            await self.aio.to_thread(file.close)
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

    def _next(self, *, more_body: bool, is_held: bool = False) -> Response | Chunk:
        assert self._status is not None
        body = b"".join(self._held)
        self._held, extensions, self._extensions = [], self._extensions, {}
        is_whole = self._body_is_complete and (self._is_complete or not self._expects_trailers)
        self._is_known_to_be_whole = is_whole
        if self._is_sent:
            return Chunk(body, more_body, extensions, is_whole, is_held)
        self._is_sent = True
        return Response(self._status, "", self._headers, body, more_body, extensions, is_whole, is_held)

    async def _write(self, message: Message | None) -> None:
        await self._check_client()
        if message is not None:
            await self.write(message)

    async def _check_client(self) -> None:
        if not self.is_cancelled:
            return
        if self._listens:  # it is to end by what it hears there: Django, for one, does not expect an OSError here
            await self._had_its_time.wait()
        raise ClientDisconnected("the client has gone before the response was complete")
