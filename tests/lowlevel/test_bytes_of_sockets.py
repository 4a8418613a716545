"""The client of bytes with sockets: UNIX, TCP, and TLS against uvicorn."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvicorn

from socketless.errors import RemoteProtocolError, StateError
from socketless.lowlevel import Connection, ConnectionPool, connection_pool
from support import LIMIT, nothing_leaks, sockets_are_refused

pytestmark = pytest.mark.skipif(sockets_are_refused(), reason="sockets are refused here")

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
            assert [field async for field in pool.recv_headers(connection, cursor)] == [
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


@pytest.mark.parametrize(
    ("response", "error", "text"),
    [
        (b"", ConnectionResetError, "the peer closed the connection before it sent a response"),
        (HELLO[:-1], RemoteProtocolError, "the peer closed the connection in the middle of the body"),
        (b"SSH-2.0-x\r\n", RemoteProtocolError, "no status line of HTTP/1.1: 'SSH-2.0-x'"),
        (b"x" * 100_000, RemoteProtocolError, "too long: the status line, of which 65536 bytes are taken"),
        (HELLO.replace(b"5", b"5, 6"), RemoteProtocolError, "no Content-Length: '5, 6'"),
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


# TCP and TLS


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the scheme, the headers and the body."""
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event["body"], event["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-scheme", scope["scheme"].encode())]})
    await send({"type": "http.response.body", "body": repr(scope["headers"]).encode(), "more_body": True})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def uvicorn_on(address: str, authority: trustme.CA | None = None, *names: str) -> AsyncIterator[int]:
    """Run uvicorn on this loop, over TLS if there is an authority, with a certificate for names; return its port."""
    options: dict[str, Any] = {"log_config": None, "lifespan": "off"}
    with tempfile.TemporaryDirectory() as folder:
        if authority is not None:
            certificate = f"{folder}/certificate.pem"
            authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(certificate)
            options.update(ssl_certfile=certificate, ssl_keyfile=certificate)
        config = uvicorn.Config(app, **options)
        config.load()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listening:
        peer = uvicorn.Server(config)
        task = asyncio.ensure_future(peer.serve(sockets=[listening]))
        try:
            yield listening.getsockname()[1]
        finally:
            peer.should_exit = True
            await task


def run_tcp(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with nothing_leaks():
        asyncio.run(main())


async def say_back(pool: ConnectionPool, body: bytes, *peer: Any, **options: Any) -> Connection:
    """POST a body to the app, check its answer, and return the connection."""
    async with pool.connection(*peer, **options) as connection:
        await pool.send(connection, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        sending = asyncio.ensure_future(pool.send(connection, body))
        code, cursor = await pool.recv_status_line(connection)
        headers = {name.lower(): value async for name, value in pool.recv_headers(connection, cursor)}
        received = b"".join([piece async for piece in pool.recv_body(connection, cursor)])
        await sending
        scheme = b"http" if peer[2] is None else b"https"
        assert (code, headers[b"x-scheme"], headers[b"transfer-encoding"]) == (200, scheme, b"chunked")
        seen = repr([(b"host", b"x"), (b"content-length", b"%d" % len(body))]).encode()
        assert received == seen + body
        return connection


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_uvicorn_over_tls(address: str, authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    """Requests to uvicorn go over one TLS connection to an IP address, one after the other, with bodies of any size."""

    async def main() -> None:
        async with uvicorn_on(address, authority, address, "localhost") as port, connection_pool() as pool:
            peer = (ipaddress.ip_address(address), port, trusting)
            first = await say_back(pool, b"hello", *peer)
            assert await say_back(pool, bytes(5 << 20), *peer) is first
            by_name = await say_back(pool, b"hello", *peer, server_hostname="localhost")
            assert by_name is not first
            assert await say_back(pool, b"hello", *peer, server_hostname="localhost") is by_name

    run_tcp(main)


def test_uvicorn_without_tls() -> None:
    """Plain HTTP is an explicit choice; several connections work at once."""

    async def main() -> None:
        async with uvicorn_on("127.0.0.1") as port, connection_pool(max=3) as pool:
            peer = "127.0.0.1", port, None
            connections = await asyncio.gather(*(say_back(pool, bytes(size), *peer) for size in range(10)))
            assert len(set(connections)) == 3

    run_tcp(main)


def test_wrong_certificates(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    """A certificate of an unknown authority, or for another host, is refused; nothing was sent, no place is lost."""

    async def main() -> None:
        async with uvicorn_on("127.0.0.1", authority, "localhost") as port, connection_pool(max=1) as pool:
            peer = "127.0.0.1", port
            with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"):
                await say_back(pool, b"", *peer, ssl.create_default_context(), server_hostname="localhost")
            with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
                await say_back(pool, b"", *peer, trusting)
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                await say_back(pool, b"", *peer, trusting, server_hostname="example.org")
            await say_back(pool, b"", *peer, trusting, server_hostname="localhost")

    run_tcp(main)


def test_tls_that_nobody_answers(trusting: ssl.SSLContext) -> None:
    """The limit for a connection holds for TLS's handshake, too; so does a cancelled task. No descriptor is left."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            peer = "127.0.0.1", listening.getsockname()[1], trusting
            async with connection_pool(max_wait_connection_seconds=0.05) as pool:
                with pytest.raises(TimeoutError) as caught:
                    await say_back(pool, b"", *peer)
                assert str(caught.value) == f"127.0.0.1:{peer[1]}: not connected within 0.05 s"
            async with connection_pool() as pool:
                task = asyncio.ensure_future(say_back(pool, b"", *peer))
                for _ in range(2):  # that of before, too
                    accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
                    accepted.close()
                task.cancel()
                with pytest.raises((asyncio.CancelledError, ConnectionError)):
                    await task

    run_tcp(main)
