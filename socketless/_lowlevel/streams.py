"""What a connection's bytes go over: the interface, and a transport of asyncio's behind it, such as a socket's."""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from socketless._host.limits import Timeouts
from socketless.errors import StateError

T = TypeVar("T")

Data = bytes | bytearray | memoryview

LIMIT = 64 * 1024  # bytes that have come, or are to go, and may wait in a stream


class Stream(Protocol):
    """Bytes both ways. Limits are in seconds, `None` means for ever."""

    on_unasked: Callable[[], None] | None  # called when it ends, or bytes come, though nobody receives

    async def send(self, data: Data, limit: float | None) -> None:
        """Write bytes; wait while more than `LIMIT` of them have not gone.

        Raises:
            TimeoutError: they have not gone in time.
            ConnectionError: the peer has gone. It may have answered all the same.
        """

    async def receive(self, size: int, limit: float | None) -> bytes:
        """Return what has come, at most `size` bytes; wait for the first one. `b""`: the peer sends no more.

        Raises:
            TimeoutError: nothing has come in time.
            ConnectionError: the connection has broken.
        """

    async def settle(self) -> None:
        """Wait until the peer has no more to do with a response that is complete; raise what it raises there."""

    def is_quiet(self) -> bool:
        """Whether it is open, and nothing has come that was not received."""

    async def close(self, *, politely: bool = False) -> None:
        """End it, `politely` as TLS wants it. May be called twice."""


class Peer(Protocol):
    """The peer of a connection. Connections to equal peers can stand in for each other; `str()` says which it is."""

    async def open(self, timeouts: Timeouts) -> Stream:
        """Connect. The limits are for what the peer does by itself; a socket's does nothing that one could see."""


async def within(limit: float | None, coroutine: Coroutine[Any, Any, T], what: str, *, has_taken: float = 0.0) -> T:
    """Await something for no longer than `limit` seconds, of which some may have been taken before.

    Raises:
        TimeoutError: it has taken longer; the text says what.
    """
    if limit is None:
        return await coroutine
    try:
        return await _limited(coroutine, max(0.0, limit - has_taken))
    except asyncio.TimeoutError as error:
        if error.args:  # what the system says
            raise
        raise TimeoutError(f"{what} within {limit:g} s") from None


if sys.version_info >= (3, 11):

    async def _limited(coroutine: Coroutine[Any, Any, T], seconds: float) -> T:
        # wait_for() may swallow a cancellation before Python 3.12 (python/cpython#86296).
        async with asyncio.timeout(seconds):
            return await coroutine

else:

    def _limited(coroutine: Coroutine[Any, Any, T], seconds: float) -> Coroutine[Any, Any, T]:
        return asyncio.wait_for(coroutine, seconds)


@dataclass(frozen=True)
class TcpPeer:
    """A TCP port of a host, whose addresses are tried in turn.

    With an SSL context, the certificate has to be for `server_hostname`, or else for the address.
    """

    addresses: tuple[str, ...]
    port: int
    ssl_context: ssl.SSLContext | None
    server_hostname: str | None

    def __str__(self) -> str:
        return ", ".join(map(self._name, self.addresses))

    def _name(self, address: str) -> str:
        return f"[{address}]:{self.port}" if ":" in address else f"{address}:{self.port}"

    async def open(self, timeouts: Timeouts) -> Stream:
        errors = []
        for address in self.addresses:
            try:
                return await self._open(address)
            except ssl.SSLError:
                raise  # it has answered
            except OSError as error:
                errors.append(error)
        if len(errors) == 1:
            raise errors[0]
        raise OSError(errors[-1].errno, "; ".join(error.strerror or str(error) for error in errors))

    async def _open(self, address: str) -> Stream:
        stream = TransportStream(self._name(address))
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {"ssl": self.ssl_context, "server_hostname": self.server_hostname}
        await stream.opened(loop.create_connection(lambda: stream, address, self.port, **options))
        return stream


@dataclass(frozen=True)
class UnixPeer:
    """A UNIX socket (AF_UNIX), by its path; an abstract one begins with a null character."""

    path: str

    def __str__(self) -> str:
        return repr(self.path)

    async def open(self, timeouts: Timeouts) -> Stream:
        stream = TransportStream(str(self))
        loop = asyncio.get_running_loop()
        try:
            await stream.opened(loop.create_unix_connection(lambda: stream, self.path))
        except OSError as error:
            error.filename = error.filename or self.path
            raise
        return stream


class TransportStream(asyncio.Protocol):
    """A stream over a transport of asyncio's. Its methods, save those of the caller, run in the loop's callbacks."""

    def __init__(self, name: str) -> None:
        self.on_unasked: Callable[[], None] | None = None
        self._name = name
        self._transport: asyncio.Transport | None = None
        self._received: deque[memoryview] = deque()  # piece by piece, as they have come
        self._size = 0  # of these
        self._is_paused = False  # in reading
        self._is_closed = False  # by this side
        self._has_ended = False
        self._error: BaseException | None = None  # by which it has broken
        self._may_write = asyncio.Event()
        self._may_write.set()
        self._news = asyncio.Event()  # bytes have come, or the end has
        self._closed = asyncio.Event()

    async def opened(self, connecting: Coroutine[Any, Any, Any]) -> None:
        """Await that it is open; if it is not, leave no descriptor behind."""
        try:
            await connecting
        except BaseException:
            if self._transport is not None:
                self._transport.abort()
            raise

    # What asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(LIMIT)

    def data_received(self, data: bytes) -> None:
        self._received.append(memoryview(data))
        self._size += len(data)
        if self._size >= LIMIT and not self._is_paused and self._transport is not None:
            self._is_paused = True
            self._transport.pause_reading()
        self._tell()

    def eof_received(self) -> bool:
        self._has_ended = True
        self._tell()
        return False  # it is closed, both ways

    def connection_lost(self, error: Exception | None) -> None:
        self._closed.set()
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        self._has_ended, self._error = True, self._error or error
        self._may_write.set()
        self._tell()

    def pause_writing(self) -> None:
        self._may_write.clear()

    def resume_writing(self) -> None:
        self._may_write.set()

    def _tell(self) -> None:
        self._news.set()
        if self.on_unasked is not None:
            self.on_unasked()

    # What the connection calls

    async def send(self, data: Data, limit: float | None) -> None:
        assert self._transport is not None
        view = memoryview(data).cast("B")
        while True:
            self._check_open()
            self._transport.write(bytes(view[:LIMIT]))  # a copy: the caller may go on with his
            view = view[LIMIT:]
            if not self._may_write.is_set():
                await within(limit, self._may_write.wait(), f"{self._name}: what was sent has not gone")
                self._check_open()
            if not view:
                return

    def _check_open(self) -> None:
        if self._is_closed:
            raise StateError(f"{self._name}: the connection is closed")
        if self._error is not None:
            raise ConnectionResetError(f"{self._name}: the connection has broken: {self._error}") from self._error
        if self._has_ended:
            raise ConnectionResetError(f"{self._name}: the peer has closed the connection")

    async def receive(self, size: int, limit: float | None) -> bytes:
        if not self._received and not self._has_ended:
            self._news.clear()
            await within(limit, self._news.wait(), f"{self._name}: nothing was received")
        if self._is_closed:
            raise StateError(f"{self._name}: the connection is closed")
        if not self._received:
            self._raise_error()
            return b""
        piece = self._received.popleft()
        if len(piece) > size:
            self._received.appendleft(piece[size:])
        data = bytes(piece[:size])
        self._size -= len(data)
        if self._size < LIMIT and self._is_paused and not self._has_ended and self._transport is not None:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    def _raise_error(self) -> None:
        if self._error is not None:
            raise ConnectionResetError(f"{self._name}: the connection has broken: {self._error}") from self._error

    async def settle(self) -> None:
        return

    def is_quiet(self) -> bool:
        return not self._received and not self._has_ended

    async def close(self, *, politely: bool = False) -> None:
        assert self._transport is not None
        self._is_closed = True
        try:
            if politely:
                self._transport.close()
                with suppress(TimeoutError):
                    await within(_PATIENCE, self._closed.wait(), "TLS did not end")
        finally:
            self._transport.abort()
        await self._closed.wait()


_PATIENCE = 1.0  # seconds for the peer to answer TLS's end
