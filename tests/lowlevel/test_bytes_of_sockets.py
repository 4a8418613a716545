"""The client of bytes over UNIX sockets: what a peer may do, good and bad."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest

from socketless.errors import RemoteProtocolError, StateError
from socketless.lowlevel import ConnectionPool, connection_pool
from support import LIMIT, nothing_leaks, sockets_are_refused
from unix_peer import GET, HELLO, Peer, Side, ask, receive, run, say_hello

T = TypeVar("T")

pytestmark = pytest.mark.skipif(sockets_are_refused(), reason="sockets are refused here")


def test_what_is_sent_is_what_arrives() -> None:
    """Nothing is added to the bytes that are sent; responses of any framing come, and tell the peer's fields."""
    sent = b"POST /a?b HTTP/1.1\r\nhOST:x\r\n\r\n\x00\xff"

    async def handle(side: Side) -> None:
        assert await side.reader.readexactly(len(sent)) == sent
        await side.answer(b"HTTP/1.1 201 Made\r\nX-a:  1 \r\nx-A: 2\r\nTransfer-Encoding: chunked\r\n\r\n")
        await side.answer(b"2\r\nab\r\n", b"1\r\nc\r\n0\r\nX-Sum: 3\r\n\r\n")
        await side.until_end()

    async def main(pool: ConnectionPool, path: str) -> None:
        async with pool.connection(Path(path)) as connection:
            for piece in (sent[:10], b"", bytearray(sent[10:20]), memoryview(sent)[20:]):
                await pool.send(connection, piece)
            code, cursor = await pool.recv_status_line(connection)
            assert (code, cursor.reason, cursor.version) == (201, b"Made", b"HTTP/1.1")
            assert [(name, value) async for name, value, _ in pool.recv_headers(connection, cursor)] == [
                (b"X-a", b"1"),
                (b"x-A", b"2"),
                (b"Transfer-Encoding", b"chunked"),
            ]
            assert b"".join([piece async for piece in pool.recv_body(connection, cursor)]) == b"abc"
            assert cursor.trailers == [(b"X-Sum", b"3")]
            assert connection.can_go_on

    run(handle, main)


def test_abstract_socket() -> None:
    """A path that begins with a null character is an abstract socket."""

    async def main() -> None:
        name = f"\0socketless-{id(main)}"
        peer = Peer(say_hello)
        async with await asyncio.start_unix_server(peer, name), connection_pool() as pool:
            assert await ask(pool, name) is await ask(pool, name)

    with nothing_leaks():
        asyncio.run(main())


@pytest.mark.parametrize(
    ("response", "is_kept"),
    [
        (HELLO, True),
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + HELLO, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", True),
        (HELLO + b"H", False),  # the beginning of something that nobody has asked for
        (HELLO.replace(b"OK\r\n", b"OK\r\nConnection: close\r\n"), False),
        (HELLO.replace(b"1.1", b"1.0"), False),
    ],
)
def test_what_is_kept(response: bytes, is_kept: bool) -> None:
    """A connection goes on if the response says so and nothing has come after it."""

    async def handle(side: Side) -> None:
        while True:
            try:
                await side.head()
            except asyncio.IncompleteReadError:
                return
            await side.answer(response)

    async def main(pool: ConnectionPool, path: str) -> None:
        connections = []
        for _ in range(2):
            async with pool.connection(path) as connection:
                await pool.send(connection, GET)
                code, body = await receive(pool, connection)
                while code == 103:
                    code, body = await receive(pool, connection)
                assert (code, body) == (200, b"hello")
                connections.append(connection)
        assert (connections[0] is connections[1]) == is_kept

    run(handle, main)


def test_close_delimited() -> None:
    """A body without a length ends with the connection."""

    async def handle(side: Side) -> None:
        await side.head()
        await side.answer(b"HTTP/1.1 200 OK\r\n\r\n", b"hel", b"lo")

    async def main(pool: ConnectionPool, path: str) -> None:
        assert await ask(pool, path) is not await ask(pool, path)

    run(handle, main)


def test_head() -> None:
    """Who has sent HEAD says that there is no body, and the connection is kept."""

    async def handle(side: Side) -> None:
        await side.head()
        await side.answer(HELLO[:-5])
        await side.until_end()

    async def main(pool: ConnectionPool, path: str) -> None:
        async with pool.connection(path) as connection:
            await pool.send(connection, GET.replace(b"GET", b"HEAD"))
            assert await receive(pool, connection, has_body=False) == (200, b"")
            assert connection.can_go_on

    run(handle, main)


@pytest.mark.parametrize("unasked", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n"])
def test_idle_connection_that_the_peer_closes(unasked: bytes) -> None:
    """When the peer closes an idle connection, or sends something unasked, it is not used again."""
    is_idle, has_left = asyncio.Event(), asyncio.Event()

    async def handle(side: Side) -> None:
        await side.head()
        await side.answer(HELLO)
        if not has_left.is_set():
            await is_idle.wait()
            await side.answer(unasked)
            if not unasked:
                side.writer.write_eof()
            has_left.set()
        await side.until_end()

    async def main(pool: ConnectionPool, path: str) -> None:
        first = await ask(pool, path)
        is_idle.set()
        await has_left.wait()
        while first.stream.on_unasked is not None:  # until the loop has seen it
            await asyncio.sleep(0)
        assert await ask(pool, path) is not first

    run(handle, main)


def test_max_idle_seconds() -> None:
    """A connection that nobody uses is closed after its time."""

    async def handle(side: Side) -> None:
        await side.head()
        await side.answer(HELLO)
        await side.until_end()
        ended.set()

    async def main(pool: ConnectionPool, path: str) -> None:
        first = await ask(pool, path)
        await asyncio.wait_for(ended.wait(), LIMIT)
        assert await ask(pool, path) is not first

    ended = asyncio.Event()
    run(handle, main, max_idle_seconds=0.01)


def test_max_closes_what_is_idle() -> None:
    """An idle connection to another peer makes room."""

    async def handle(side: Side) -> None:
        await say_hello(side)
        ended.set()

    async def main(pool: ConnectionPool, path: str) -> None:
        await ask(pool, path)
        async with pool.connection(f"{Path(path).parent}/./socket"):
            await asyncio.wait_for(ended.wait(), LIMIT)

    ended = asyncio.Event()
    run(handle, main, max=1)


def test_max_wait_send_recv_seconds() -> None:
    """A peer that says nothing, or takes nothing, is a TimeoutError; the connection is closed."""

    async def handle(side: Side) -> None:
        side.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await may_end.wait()
        side.writer.transport.resume_reading()  # type: ignore[attr-defined]
        while await side.reader.read(1 << 20):
            pass

    async def main(pool: ConnectionPool, path: str) -> None:
        async with pool.connection(path) as connection:
            await pool.send(connection, GET)
            with pytest.raises(TimeoutError) as caught:
                await receive(pool, connection)
        assert (type(caught.value), str(caught.value)) == (
            TimeoutError,
            f"{path!r}: nothing was received within 0.05 s",
        )
        async with pool.connection(path) as other:
            with pytest.raises(TimeoutError) as caught:
                await pool.send(other, bytes(32 << 20))
        assert str(caught.value) == f"{path!r}: what was sent has not gone within 0.05 s"
        assert other is not connection
        may_end.set()

    may_end = asyncio.Event()
    run(handle, main, max_wait_send_recv_seconds=0.05)


def test_trying_again() -> None:
    """Who gave up waiting may go on where he was: nothing is lost."""
    parts = [b"HTTP/1.1 2", b"00 OK\r\nTransfer-Enc", b"oding: chunked\r\n\r\n1\r\na\r"]
    parts += [b"\n1\r", b"\nb\r\n0\r\nX", b": y\r\n\r\n"]

    async def handle(side: Side) -> None:
        for part in parts:
            await asked.acquire()
            side.writer.write(part)

    async def main(pool: ConnectionPool, path: str) -> None:
        async def patiently(receive: Callable[[], Coroutine[Any, Any, T]]) -> T:
            while True:
                try:
                    return await receive()
                except TimeoutError:
                    asked.release()

        async with pool.connection(path) as connection:
            await pool.send(connection, GET)
            code, cursor = await patiently(lambda: pool.recv_status_line(connection))
            fields = [await patiently(lambda: anext(pool.recv_headers(connection, cursor)))]
            pieces = [await patiently(lambda: anext(pool.recv_body(connection, cursor), b"")) for _ in range(3)]
        assert (code, fields, pieces) == (200, [(b"Transfer-Encoding", b"chunked", cursor)], [b"a", b"b", b""])
        assert cursor.trailers == [(b"X", b"y")]

    asked = asyncio.Semaphore(0)
    run(handle, main, max_wait_send_recv_seconds=0.01)


@pytest.mark.parametrize(
    ("response", "error", "text"),
    [
        (b"", ConnectionResetError, "the peer closed the connection before it sent a response"),
        (HELLO[:-1], RemoteProtocolError, "the peer closed the connection in the middle of the body"),
        (b"SSH-2.0-x\r\n", RemoteProtocolError, "not a status line of HTTP/1.1: 'SSH-2.0-x'"),
        (b"x" * 100_000, RemoteProtocolError, "too long: the status line; the limit is 65536 bytes"),
        (HELLO.replace(b"5", b"5, 6"), RemoteProtocolError, "not a Content-Length: '5, 6'"),
    ],
)
def test_bad_bytes(response: bytes, error: type[Exception], text: str) -> None:
    """What is no HTTP is a clear error, also if it is caught in the block; the connection is closed, the next new."""

    async def handle(side: Side) -> None:
        await side.head()
        if peers:
            await side.answer(HELLO)
            await side.until_end()
            return
        peers.append(side)
        await side.answer(response)
        if not response or response == HELLO[:-1]:
            side.writer.write_eof()
        await side.until_end()

    async def main(pool: ConnectionPool, path: str) -> None:
        async with pool.connection(path) as connection:
            await pool.send(connection, GET)
            with pytest.raises(error) as caught:
                await receive(pool, connection)
        assert (type(caught.value), str(caught.value)) == (error, text)
        assert await ask(pool, path) is not connection

    peers: list[Side] = []
    run(handle, main)


def test_early_answer() -> None:
    """A peer may answer and close the connection before it has read the request: the answer is received."""

    async def handle(side: Side) -> None:
        await side.head()
        await side.answer(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        may_send.set()

    async def main(pool: ConnectionPool, path: str) -> None:
        async with pool.connection(path) as connection:
            await pool.send(connection, GET)
            await may_send.wait()
            with pytest.raises(ConnectionResetError):
                await pool.send(connection, bytes(32 << 20))
            assert await receive(pool, connection) == (413, b"")

    may_send = asyncio.Event()
    run(handle, main)


def test_nobody_listens() -> None:
    """A connection that cannot be made is the system's error, and takes no place."""

    async def main(pool: ConnectionPool, path: str) -> None:
        for _ in range(2):
            with pytest.raises(FileNotFoundError):
                await ask(pool, path + "-none")
        with socket.create_server(("127.0.0.1", 0)) as closed:
            port = closed.getsockname()[1]
        with pytest.raises(ConnectionRefusedError):
            async with pool.connection("127.0.0.1", port, None):
                pass
        await ask(pool, path)

    run(say_hello, main, max=1)


def test_closing_meanwhile() -> None:
    """A pool that is closed while a connection is made does not give it away; nobody waits for ever."""

    async def main(pool: ConnectionPool, path: str) -> None:
        connecting = asyncio.ensure_future(ask(pool, path))
        waiting = asyncio.ensure_future(ask(pool, path))
        await asyncio.sleep(0)  # both have begun
        await pool.aclose()
        for task in (connecting, waiting):
            with pytest.raises(StateError, match=": the pool is closed$"):
                await task

    run(say_hello, main, max=1)


def test_closing_while_it_is_used() -> None:
    """Who receives when the pool is closed is told so, and the connection is closed."""

    async def handle(side: Side) -> None:
        await side.head()
        await side.until_end()

    async def main(pool: ConnectionPool, path: str) -> None:
        async with pool.connection(path) as connection:
            await pool.send(connection, GET)
            receiving = asyncio.ensure_future(receive(pool, connection))
            await asyncio.sleep(0)  # it has begun
            await pool.aclose()
            with pytest.raises(StateError, match=": the connection is closed$"):
                await receiving
            with pytest.raises(StateError, match=": the connection is closed$"):
                await pool.send(connection, GET)

    run(handle, main)


def test_both_ways_at_once() -> None:
    """A body goes and another comes at the same time, however large; a slow reader slows the peer down."""
    size = 32 << 20

    async def handle(side: Side) -> None:
        await side.head()
        await side.answer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        left = size
        while left:
            piece = await side.reader.read(65536)
            left -= len(piece)
            await side.answer(piece)
        await side.until_end()

    async def main(pool: ConnectionPool, path: str) -> None:
        async with pool.connection(path) as connection:
            sending = asyncio.ensure_future(pool.send(connection, GET + bytes(size)))
            _, cursor = await pool.recv_status_line(connection)
            received = 0
            async for piece in pool.recv_body(connection, cursor):
                assert len(piece) <= 5000
                received += len(piece)
            await sending
            assert received == size

    run(handle, main, chunk_bytes=5000)
