"""The pool of connections, and what is done with one."""

from __future__ import annotations

import asyncio
import os
import ssl
import warnings
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from types import TracebackType
from typing import Any, TypeVar, cast, overload

from socketless._host.limits import Timeouts
from socketless._host.worker import Worker
from socketless._lowlevel.response import Cursor, Parsing
from socketless._lowlevel.streams import Data, Peer, Stream, TcpPeer, UnixPeer, within
from socketless.errors import StateError

T = TypeVar("T")

Address = str | IPv4Address | IPv6Address
AddressInfo = tuple[Any, ...]  # of `loop.getaddrinfo()`: family, type, proto, canonname, sockaddr


class Connection:
    """A connection of a pool, for the duration of its block. Pass it to the pool's methods.

    The pool keeps it for the next block if every response was received to its end, no response asked to close the
    connection, and no exception left the block. The pool does not check what was *sent*: code that leaves the block in
    the middle of a request, or with another response still to come, has to `discard()` the connection.
    """

    def __init__(self, peer: Peer, stream: Stream) -> None:
        self.peer = peer
        self.stream = stream
        self.cursor: Cursor | None = None  # of the last response
        self.requests: int = 0  # that have been answered
        self.expiry: asyncio.TimerHandle | None = None  # while it is idle
        self._is_wanted = True
        self._has_sent = False  # since the last response was complete

    def __repr__(self) -> str:
        return f"<Connection to {self.peer}>"

    def discard(self) -> None:
        """Do not keep the connection for the next block."""
        self._is_wanted = False

    @property
    def can_go_on(self) -> bool:
        """Whether it is ready for the first request of another block."""
        is_between = self.cursor is None or (
            self.cursor.is_complete and self.cursor.keeps_alive and not self.cursor.unconsumed
        )
        return self._is_wanted and is_between and not self._has_sent and self.stream.is_quiet()

    async def send(self, data: Data, limit: float | None) -> None:
        self._has_sent = True
        await self.stream.send(data, limit)

    def begin(self, chunk_bytes: int) -> Cursor:
        """Return a cursor for the next response, or for the one of which not even the first line has come."""
        unconsumed = b""
        if self.cursor is not None:
            if not self.cursor.code:
                return self.cursor
            if not self.cursor.is_complete:
                raise StateError(f"{self.peer}: the previous response has not been received to its end")
            unconsumed = bytes(self.cursor.unconsumed)
        self.cursor = Cursor(unconsumed, chunk_bytes)
        return self.cursor

    async def parse(self, cursor: Cursor, steps: Parsing[T], size: int, limit: float | None) -> T:
        """Give steps the bytes that they need, and return what they return."""
        if cursor is not self.cursor:
            raise StateError(f"{self.peer}: this cursor does not belong to the connection's last response")
        was_complete = cursor.is_complete
        try:
            next(steps)
            while True:
                steps.send(await self.stream.receive(size, limit))
        except StopIteration as stop:
            value = cast(T, stop.value)
        if cursor.is_complete and not was_complete and not cursor.is_interim:
            self.requests += 1
            self._has_sent = False
        return value


class ConnectionPool:
    """The pool that `connection_pool()` returns; see there for the arguments. Use it on one event loop only."""

    def __init__(
        self,
        *,
        max: int,
        max_wait_connection_seconds: float | None,
        max_requests_per_connection: int | None,
        max_idle_seconds: float | None,
        max_wait_send_recv_seconds: float | None,
        chunk_bytes: int,
    ) -> None:
        self._max = max
        self._max_wait_connection = max_wait_connection_seconds
        self._max_requests = max_requests_per_connection
        self._max_idle = max_idle_seconds
        self._max_wait = max_wait_send_recv_seconds
        self._chunk_bytes = chunk_bytes
        self._places = asyncio.Semaphore(max)  # one for each connection in use; whoever waits comes in turn
        self._in_use: set[Connection] = set()
        self._opening = 0  # connections that are being made
        self._idle: list[Connection] = []  # the most recently used one last
        self._ending: set[asyncio.Task[None]] = set()  # of idle ones
        self._is_closed = False

    async def __aenter__(self) -> ConnectionPool:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections, those in use as well. May be called twice."""
        self._is_closed = True
        for connection in [*self._idle]:
            self._close_idle(connection)
        for connection in [*self._in_use]:
            await connection.stream.close()
        if self._ending:
            await asyncio.wait(self._ending)

    def __del__(self) -> None:
        if getattr(self, "_idle", None):
            warnings.warn(f"unclosed pool with connections to {self._idle[0].peer}", ResourceWarning, stacklevel=2)

    # Connections

    @overload
    def connection(self, to: Worker, /, **options: Any) -> AbstractAsyncContextManager[Connection]: ...

    @overload
    def connection(self, to: str | os.PathLike[str], /) -> AbstractAsyncContextManager[Connection]: ...

    @overload
    def connection(
        self,
        to: Address | Sequence[Address | AddressInfo],
        port: int,
        ssl_context: ssl.SSLContext | None,
        /,
        *,
        server_hostname: str | None = None,
    ) -> AbstractAsyncContextManager[Connection]: ...

    def connection(self, to: Any, /, *args: Any, **options: Any) -> AbstractAsyncContextManager[Connection]:
        """Return a context manager that yields a connection, either a kept one or a new one, for its block alone.

        Args:
            to: a worker; the path of a UNIX socket, with a slash in it, or the name of an abstract one, with a null
                character before it; or an IP address, of version 4 or 6. The caller has to resolve host names: the list
                that `loop.getaddrinfo()` returns may be given as it is, and so may a list of addresses; these are tried
                in turn.
            port: for an IP address, the TCP port.
            ssl_context: for an IP address, the settings of TLS, or `None` for plain HTTP; there is no default.
            server_hostname: the name that the certificate must be for; by default, the IP address.
            options: for a worker, `scheme` (default: ``"http"``), `server` (the server's name and port if the request
                has no ``Host``; default: ``("testserver", 80)``), `client` (default: ``("127.0.0.1", 123)``),
                `root_path`, and `raise_app_exceptions`; see `IpcTransport`.

        Raises:
            TimeoutError: there was no connection within `max_wait_connection_seconds`.
            OSError: the connection could not be made: `ConnectionRefusedError`, `ssl.SSLCertVerificationError`, and so
                on.
            StateError: the pool is closed.
        """
        return self._lease(_peer_of(to, *args, **options))

    @asynccontextmanager
    async def _lease(self, peer: Peer) -> AsyncIterator[Connection]:
        connection = await self._acquire(peer)
        is_left_well = False
        try:
            yield connection
            is_left_well = True
        finally:
            await self._release(connection, is_left_well)

    async def _acquire(self, peer: Peer) -> Connection:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        limit = self._max_wait_connection
        self._check_open(peer)
        await within(limit, self._places.acquire(), f"{peer}: none of {self._max} connections became free")
        try:
            connection = self._take_idle(peer)
            if connection is None:
                connection = await self._open(peer, loop.time() - begun)
            if self._is_closed:  # meanwhile
                await connection.stream.close()
                self._check_open(peer)
        except BaseException:
            self._places.release()
            raise
        self._in_use.add(connection)
        return connection

    def _check_open(self, peer: Peer) -> None:
        if self._is_closed:
            raise StateError(f"{peer}: the pool is closed")

    def _take_idle(self, peer: Peer) -> Connection | None:
        for connection in reversed(self._idle):
            if connection.peer == peer:
                self._forget(connection)
                return connection
        return None

    async def _open(self, peer: Peer, has_taken: float) -> Connection:
        timeouts = Timeouts(pool=self._max_wait_connection, write=self._max_wait, read=self._max_wait)
        self._opening += 1
        try:
            if len(self._in_use) + len(self._idle) + self._opening > self._max:
                self._close_idle(self._idle[0])
            opening = within(
                self._max_wait_connection, peer.open(timeouts), f"{peer}: not connected", has_taken=has_taken
            )
            return Connection(peer, await opening)
        finally:
            self._opening -= 1

    async def _release(self, connection: Connection, is_left_well: bool) -> None:
        try:
            is_used_up = self._max_requests is not None and connection.requests >= self._max_requests
            can_go_on = is_left_well and connection.can_go_on
            if can_go_on and not (is_used_up or self._is_closed or self._max_idle == 0):
                self._keep(connection)
            else:
                await connection.stream.close(politely=can_go_on)
        finally:
            self._in_use.remove(connection)
            self._places.release()

    def _keep(self, connection: Connection) -> None:
        def close() -> None:
            self._close_idle(connection)

        self._idle.append(connection)
        connection.stream.on_unasked = close
        if self._max_idle is not None:
            connection.expiry = asyncio.get_running_loop().call_later(self._max_idle, close)

    def _forget(self, connection: Connection) -> None:
        self._idle.remove(connection)
        connection.stream.on_unasked = None
        if connection.expiry is not None:
            connection.expiry.cancel()

    def _close_idle(self, connection: Connection) -> None:
        # Runs in the loop's callbacks, too.
        self._forget(connection)
        task = asyncio.ensure_future(connection.stream.close(politely=True))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    # What is done with one

    async def send(self, connection: Connection, data: Data) -> None:
        """Send bytes as they are: any part of one or more requests. Return once at most 64 KiB are still unsent.

        Raises:
            TimeoutError: the peer did not take them within `max_wait_send_recv_seconds`; with a worker, the error is a
                `WriteTimeout`.
            ConnectionError: the peer has closed the connection. It may have answered before: try to receive.
            StateError: the connection is closed, or its block has ended.
        """
        self._check_in_use(connection)
        await connection.send(data, self._max_wait)

    async def recv_status_line(self, connection: Connection) -> tuple[int, Cursor]:
        """Receive the beginning of the next response.

        Returns:
            The status code, and the cursor for the next calls, which has `version` and `reason`, too. An interim
            response (100 to 199, except 101) and its headers are followed by another status line.

        Raises:
            ConnectionResetError: the connection ended before a response came. If it was kept from an earlier block, the
                peer may have closed it before it saw the request.
            RemoteProtocolError: the peer did not send a status line of HTTP/1.0 or 1.1.
            TimeoutError: nothing came within `max_wait_send_recv_seconds`. You may try again, as with the methods that
                come next, unless the error is a `ReadTimeout`: then the worker's app was given up.
            StateError: the previous response has not been received to its end; see also `send()`.
            Exception: the worker's app raised it; see also `socketless.errors`.
        """
        self._check_in_use(connection)
        cursor = connection.begin(self._chunk_bytes)
        return await self._parse(connection, cursor, cursor.status_line()), cursor

    async def recv_headers(self, connection: Connection, cursor: Cursor) -> AsyncIterator[tuple[bytes, bytes, Cursor]]:
        """Receive the header fields, one by one: name and value, as they were written, without surrounding space.

        The third item is the given cursor, so that a loop may use the name `cursor` again.

        Raises:
            RemoteProtocolError: the fields break the grammar, are larger than 64 KiB, or leave the length of the body
                unclear, for example by stating two lengths.
            Exception: see `recv_status_line()`.
        """
        while (field := await self._parse(connection, cursor, cursor.next_field())) is not None:
            yield *field, cursor

    async def recv_body(self, connection: Connection, cursor: Cursor, *, has_body: bool = True) -> AsyncIterator[bytes]:
        """Receive the body as it comes, in pieces of at most `chunk_bytes`, with chunked coding removed.

        Headers that were not received are skipped. The fields after the last chunk are in `cursor.trailers`. After a
        101, the pieces are the bytes of the other protocol. When the iterator ends, a worker's app has returned.

        Args:
            has_body: `False` if the request was HEAD: its response has no body, although its headers describe one.

        Raises:
            RemoteProtocolError: a chunk breaks the grammar, or the connection ended before the body did.
            Exception: see `recv_status_line()`.
        """
        if not has_body:
            await self._parse(connection, cursor, cursor.skip_body())
        while (piece := await self._parse(connection, cursor, cursor.next_piece())) is not None:
            yield piece
        await connection.stream.settle()

    async def _parse(self, connection: Connection, cursor: Cursor, steps: Parsing[T]) -> T:
        self._check_in_use(connection)
        return await connection.parse(cursor, steps, self._chunk_bytes, self._max_wait)

    def _check_in_use(self, connection: Connection) -> None:
        if connection not in self._in_use:
            raise StateError(f"{connection.peer}: its block has ended, or it is a connection of another pool")


_MISSING: Any = object()


def _peer_of(to: Any, port: Any = _MISSING, ssl_context: Any = _MISSING, **options: Any) -> Peer:
    if isinstance(to, Worker):
        from socketless._lowlevel.workers import WorkerPeer  # nobody else needs the bridge

        if port is not _MISSING:
            raise TypeError("a worker has no port")
        return WorkerPeer.of(to, **options)
    if port is _MISSING:
        if not isinstance(to, (str, os.PathLike)):
            raise TypeError(f"a connection is to a worker, a path, or an IP address and a port, not to {to!r}")
        path = os.fspath(to)
        if options:
            raise TypeError(f"a UNIX socket takes no {', '.join(options)}")
        if not path.startswith("\0") and "/" not in path:
            raise ValueError(f"{path!r} is not a path with a slash in it, and an IP address needs a port")
        return UnixPeer(path)
    if ssl_context is _MISSING:
        raise TypeError("ssl_context is missing: an ssl.SSLContext for TLS, or None for plain HTTP")
    if not (ssl_context is None or isinstance(ssl_context, ssl.SSLContext)):
        raise TypeError(f"ssl_context is an ssl.SSLContext for TLS, or None for plain HTTP, not {ssl_context!r}")
    return TcpPeer(_addresses_of(to), port, ssl_context, **{"server_hostname": None, **options})


def _addresses_of(to: Any) -> tuple[str, ...]:
    infos = to if isinstance(to, (list, tuple)) else [to]
    addresses = dict.fromkeys(_address_of(info, to) for info in infos)  # each once, not for each kind of socket
    if not addresses:
        raise ValueError("there is no IP address in an empty list")
    return tuple(addresses)


def _address_of(info: Any, given: Any) -> str:
    address = info[4][0] if isinstance(info, tuple) and len(info) == 5 else info
    if isinstance(address, (str, IPv4Address, IPv6Address)):
        with suppress(ValueError):
            return str(ip_address(address))
    raise ValueError(
        f"{given!r} is not an IP address: resolve names first, by loop.getaddrinfo() for example; its list can be "
        "given as it is"
    )
