"""The worker's side of an exchange with a WSGI app: the pipe, as one call of the app sees it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from io import BufferedReader, RawIOBase
from typing import Any

from werkzeug.exceptions import BadRequest

from socketless import errors
from socketless._wire.channel import Channel
from socketless._wire.drivers import poll, run_blocking
from socketless._wire.messages import Cancel, Chunk, Message, Response, Taken, WantBody
from socketless._wire.steps import Wait, Woken
from socketless._worker.failures import last_frame
from socketless._worker.output import flush_output

_BUFFER = 64 * 1024  # bytes; what an app reads in small pieces is pulled in these, or in the client's chunks


class ClientDisconnected(errors.ClientDisconnected, BadRequest):
    """Flask answers 400 to what is werkzeug's, too, and does not log it as an error of the app."""

    def __init__(self, text: str) -> None:
        errors.ClientDisconnected.__init__(self, text)
        self.description = text
        self.response = None


class WsgiCall:
    """The pipe, as one call sees it. The app may read its request in another thread than it answers in."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._is_over = False  # guarded by _lock
        self.is_cancelled = False

    def check(self) -> None:
        """Raise if the client has gone. Must be called with _lock held.

        Raises:
            ClientDisconnected: it has.
        """
        if not self.is_cancelled and not self._channel.has_rest and not self._is_readable():
            return
        if not self.is_cancelled:
            self._receive()  # nothing but a Cancel comes unasked
        raise ClientDisconnected("the client has gone before the response was complete")

    def _is_readable(self) -> bool:
        return poll(Wait(self._channel.read_fd, deadline=0.0)) is Woken.READY

    def look(self) -> None:
        """Check as well where the app has nothing to send, unless another thread of it waits for a chunk."""
        if self._lock.acquire(blocking=False):
            try:
                self.check()
            finally:
                self._lock.release()

    def _receive(self) -> Message:
        try:
            message = run_blocking(self._channel.receive())
        except (EOFError, OSError):
            message = Cancel()
        self.is_cancelled = isinstance(message, Cancel)
        return message

    def send(self, message: Response | Chunk) -> None:
        """Send a part of the answer, and wait until it is taken, if it is held.

        Raises:
            ClientDisconnected: nobody wants it any more.
        """
        with self._lock:
            self._check_open()
            self.check()
            flush_output()
            try:
                run_blocking(self._channel.send(message))
            except OSError:
                self.is_cancelled = True
                raise ClientDisconnected("the host has gone before the response was complete") from None
            if message.is_held and not isinstance(self._receive(), Taken):
                raise ClientDisconnected("the client has gone before the response was complete")

    def pull(self) -> Chunk:
        """Return the next chunk of the request's body.

        Raises:
            ClientDisconnected: there will be none.
        """
        with self._lock:
            self._check_open()
            self.check()
            run_blocking(self._channel.send(WantBody()))
            message = self._receive()
        if not isinstance(message, Chunk):
            raise ClientDisconnected("the client has gone before its request was complete")
        return message

    def open_body(self) -> BufferedReader:
        """Return the request's body as a file."""
        return BufferedReader(_Body(self.pull), _BUFFER)

    def _check_open(self) -> None:
        if self._is_over:
            raise ClientDisconnected("the exchange is over: its response is complete")

    def end(self, message: Message) -> None:
        """Send the last message, or another one that says why it cannot be sent."""
        with self._lock:
            self._is_over = True
            flush_output()
            self._channel.put(last_frame(self._channel, message))
            if self._channel.write() is not None:  # only a greenlet's does not block
                run_blocking(self._channel.flush())


class _Body(RawIOBase):
    """The body of a request, pulled from the host as the app reads it."""

    def __init__(self, pull: Callable[[], Chunk]) -> None:
        self._pull = pull
        self._chunk = memoryview(b"")
        self._more = True

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._chunk and self._more:
            chunk = self._pull()
            self._chunk, self._more = memoryview(chunk.body), chunk.more_body
        size = min(len(buffer), len(self._chunk))
        buffer[:size], self._chunk = self._chunk[:size], self._chunk[size:]
        return size
