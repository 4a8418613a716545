"""A UNIX socket whose connections are handled by a function of the test, and a client of bytes for it."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from socketless.lowlevel import Connection, ConnectionPool, connection_pool
from support import LIMIT, nothing_leaks

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
Handle = Callable[["Side"], Awaitable[None]]


class Side:
    """The other side of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def head(self) -> bytes:
        """Return the head of the next request."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def answer(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()

    async def until_end(self) -> None:
        """Wait until the client has closed the connection."""
        assert await self.reader.read() == b""


class Peer:
    """A UNIX socket, whose every connection is handled by a function."""

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._tasks: list[asyncio.Future[Any]] = []
        self.connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.ensure_future(self._run(Side(reader, writer)))
        self._tasks.append(task)
        await asyncio.wait({task})

    async def _run(self, side: Side) -> None:
        try:
            await self._handle(side)
        finally:
            side.writer.close()

    async def finish(self) -> None:
        """Wait until every connection has been handled; raise what has gone wrong there."""
        await asyncio.wait_for(asyncio.gather(*self._tasks), LIMIT)


def run(handle: Handle, function: Callable[[ConnectionPool, Any], Coroutine[Any, Any, Any]], **limits: Any) -> None:
    """Run a function with a pool and the path of a UNIX socket. Nothing must be left behind."""

    async def main() -> None:
        with tempfile.TemporaryDirectory() as folder:
            peer = Peer(handle)
            path = f"{folder}/socket"
            async with await asyncio.start_unix_server(peer, path):
                async with connection_pool(**{"max_wait_send_recv_seconds": LIMIT, **limits}) as pool:
                    await function(pool, path)
                await peer.finish()
        await asyncio.sleep(0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    with nothing_leaks():
        asyncio.run(main())


async def receive(pool: ConnectionPool, connection: Connection, has_body: bool = True) -> tuple[int, bytes]:
    code, cursor = await pool.recv_status_line(connection)
    body = [piece async for piece in pool.recv_body(connection, cursor, has_body=has_body)]
    return code, b"".join(body)


async def ask(pool: ConnectionPool, path: str, request: bytes = GET) -> Connection:
    async with pool.connection(path) as connection:
        await pool.send(connection, request)
        assert await receive(pool, connection) == (200, b"hello")
        return connection


async def say_hello(side: Side) -> None:
    """Answer requests until the client closes the connection."""
    while True:
        try:
            await side.head()
        except asyncio.IncompleteReadError:
            return
        await side.answer(HELLO)
