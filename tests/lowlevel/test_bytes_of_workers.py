"""The client of bytes with workers at the other end. Nothing here needs a socket."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import wsproto
import wsproto.events

from bytes_client import ask, get, may_go, receive, run, word
from socketless import IpcProcess, IpcThread, errors
from socketless._host.worker import Worker
from socketless.lowlevel import ConnectionPool, connection_pool
from support import traceback_of

MIB = 1 << 20


def test_nothing_is_added(worker: Worker) -> None:
    """The app sees the headers that were sent, and no others."""

    async def main(pool: ConnectionPool) -> None:
        async with pool.connection(worker) as connection:
            await pool.send(connection, get("/", "X-A: 1\r\nX-B:\r\nX-A: 2\r\n"))
            _, headers, body = await receive(pool, connection)
        expected = [(b"host", b"testserver"), (b"x-a", b"1"), (b"x-b", b""), (b"x-a", b"2")]
        assert (headers[b"x-seen"], body) == (repr(expected).encode(), b"hello")

    run(main)


def test_any_pieces(worker: Worker) -> None:
    """A request may be sent byte by byte, and several at once; the responses come in their order."""

    async def main(pool: ConnectionPool) -> None:
        async with pool.connection(worker) as connection:
            for byte in get("/", "X-A: 1\r\n"):
                await pool.send(connection, bytes([byte]))
            assert b"x-a" in (await receive(pool, connection))[1][b"x-seen"]
            await pool.send(connection, memoryview(get("/", "X-A: 2\r\n") + get("/", "X-A: 3\r\n")))
            for number in (b"2", b"3"):
                assert b"(b'x-a', b'%s')" % number in (await receive(pool, connection))[1][b"x-seen"]
            assert connection.requests == 3

    run(main)


def test_trailers() -> None:
    """The trailers of an ASGI app come after a chunked body."""

    async def main(pool: ConnectionPool) -> None:
        async with pool.connection(worker) as connection:
            await pool.send(connection, get("/stream/trailers"))
            code, cursor = await pool.recv_status_line(connection)
            assert [piece async for piece in pool.recv_body(connection, cursor)] == [b"body"]
        assert (code, cursor.trailers) == (200, [(b"x-one", b"1"), (b"x-two", b"2")])

    with IpcProcess("apps.conformance_app:asgi") as worker:
        run(main)


def test_continue(worker: Worker) -> None:
    """100 Continue is a response of its own, which comes when the app reads."""

    async def main(pool: ConnectionPool) -> None:
        async with pool.connection(worker) as connection:
            await pool.send(connection, get("/read", "Expect: 100-continue\r\nContent-Length: 5\r\n"))
            code, cursor = await pool.recv_status_line(connection)
            assert (code, cursor.reason) == (100, b"Continue")
            assert [field async for field in pool.recv_headers(connection, cursor)] == []
            await pool.send(connection, b"12345")
            assert (await receive(pool, connection))[::2] == (200, b"12345")
            assert connection.requests == 1

    run(main)


def test_websocket(worker: Worker) -> None:
    """After 101 the connection is the other protocol's, both ways."""

    async def main(pool: ConnectionPool) -> None:
        client = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        async with pool.connection(worker) as connection:
            await pool.send(connection, client.send(wsproto.events.Request(host="testserver", target="/")))
            code, cursor = await pool.recv_status_line(connection)
            fields = [(name, value) async for name, value, _ in pool.recv_headers(connection, cursor)]
            client.receive_data(b"HTTP/1.1 101\r\n" + b"".join(b"%s: %s\r\n" % field for field in fields) + b"\r\n")
            assert (code, [type(event).__name__ for event in client.events()]) == (101, ["AcceptConnection"])
            frames = pool.recv_body(connection, cursor)
            for text in ("one", "two"):
                await pool.send(connection, client.send(wsproto.events.TextMessage(text)))
                client.receive_data(await anext(frames))
                assert [event.data for event in client.events()] == [text.upper()]
            await pool.send(connection, client.send(wsproto.events.CloseConnection(1000)))
            client.receive_data(b"".join([piece async for piece in frames]))
            assert [event.code for event in client.events()] == [1000]
        assert not connection.can_go_on

    run(main)


@pytest.mark.parametrize("kind", [IpcThread, IpcProcess])
@pytest.mark.parametrize("app", ["wsgi", "asgi"])
def test_large_bodies_both_ways(kind: Callable[..., Worker], app: str) -> None:
    """64 MiB go each way at once, in pieces of `chunk_bytes`."""
    chunk = bytes(range(256)) * 4096

    async def main(pool: ConnectionPool) -> None:
        async def send() -> None:
            await pool.send(connection, get(f"/stream/echo?size={MIB}", "Transfer-Encoding: chunked\r\n"))
            for _ in range(64):
                await pool.send(connection, b"%x\r\n%s\r\n" % (MIB, chunk))
            await pool.send(connection, b"0\r\n\r\n")

        async with pool.connection(worker) as connection:
            sending = asyncio.ensure_future(send())
            code, cursor = await pool.recv_status_line(connection)
            size, crc = 0, 0
            async for piece in pool.recv_body(connection, cursor):
                assert len(piece) <= 10_000
                size, crc = size + len(piece), zlib.crc32(piece, crc)
            await sending
        assert (code, size, crc) == (200, 64 * MIB, zlib.crc32(chunk * 64))

    with kind(f"apps.conformance_app:{app}") as worker:
        run(main, chunk_bytes=10_000)


def test_back_pressure(worker: Worker) -> None:
    """What an app does not take is not taken from the caller, but for 64 KiB: a limit ends the wait for it."""

    async def main(pool: ConnectionPool) -> None:
        async with pool.connection(worker) as connection:
            await pool.send(connection, get("/hang", f"Content-Length: {MIB}\r\n"))
            for _ in range(6):
                await pool.send(connection, bytes(10_000))
            with pytest.raises(errors.WriteTimeout) as caught:
                await pool.send(connection, bytes(10_000))
        assert str(caught.value) == f"{worker!r}: the worker did not take what was sent within 0.2 s"

    run(main, max_wait_send_recv_seconds=0.2)


def test_hung_app(worker: Worker) -> None:
    """An app that hangs is a ReadTimeout, which says where it is; another connection works."""

    async def main(pool: ConnectionPool) -> None:
        async with pool.connection(worker) as connection:
            await pool.send(connection, get("/hang"))
            with pytest.raises(errors.ReadTimeout) as caught:
                await receive(pool, connection)
        assert caught.value.args[0] == "GET /hang: the app did not answer within 0.2 s"
        assert "await asyncio.Event().wait()" in caught.value.stack
        assert await ask(pool, worker, get("/")) is not connection

    run(main, max_wait_send_recv_seconds=0.2)


def test_nothing_to_receive(worker: Worker) -> None:
    """Who receives without having sent a whole request waits until the limit."""

    async def main(pool: ConnectionPool) -> None:
        for sent in (b"", b"GET / HTTP/1.1\r\nHost:", get("/read", "Content-Length: 5\r\n") + b"1234"):
            async with pool.connection(worker) as connection:
                await pool.send(connection, sent)
                with pytest.raises(TimeoutError, match="nothing was received within 0.05 s$"):
                    await receive(pool, connection)

    run(main, max_wait_send_recv_seconds=0.05)


def test_no_channel(worker: Worker) -> None:
    """Where every channel of the worker is busy, a request waits as long as for a connection, and says with what."""

    async def main(pool: ConnectionPool) -> None:
        may_go.clear()
        async with pool.connection(worker) as one, pool.connection(worker) as two, pool.connection(worker) as three:
            for connection in (one, two, three):
                await pool.send(connection, get("/wait"))
            with pytest.raises(errors.PoolTimeout, match="GET /wait"):
                await receive(pool, three)
            may_go.set()
            for connection in (one, two):
                assert (await receive(pool, connection))[0] == 200

    run(main, max_wait_connection_seconds=0.2)


def test_context_variables(worker: Worker) -> None:
    """An app on threads sees the context variables of who sends each request."""

    async def main(pool: ConnectionPool) -> None:
        async with pool.connection(worker) as connection:
            for value in ("one", "two"):
                word.set(value)
                await pool.send(connection, get("/"))
                assert (await receive(pool, connection))[1][b"x-word"] == value.encode()

    run(main)


def test_app_error(worker: Worker) -> None:
    """What the app raises is raised where the response is received, with the app's lines; that connection is over."""

    async def main(pool: ConnectionPool) -> None:
        with pytest.raises(LookupError) as caught:
            await ask(pool, worker, get("/late"))
        assert 'raise LookupError("after the last byte")' in traceback_of(caught.value)
        async with pool.connection(worker, raise_app_exceptions=False) as connection:
            await pool.send(connection, get("/late"))
            assert (await receive(pool, connection))[::2] == (200, b"hello")

    run(main)


def test_dead_worker() -> None:
    """A dead worker is a WorkerDied, and the next request starts another one, over another connection."""

    async def main(pool: ConnectionPool) -> None:
        async with pool.connection(worker) as connection:
            await pool.send(connection, get("/exit"))
            with pytest.raises(errors.WorkerDied) as caught:
                await receive(pool, connection)
            with pytest.raises(ConnectionResetError, match="the connection has broken: GET /exit: the worker"):
                await pool.send(connection, get("/seen"))
        assert isinstance(caught.value, ConnectionResetError)
        assert caught.value.exitcode == 7
        assert await ask(pool, worker, get("/seen")) is not connection

    with IpcProcess("apps.conformance_app:asgi") as worker:
        asyncio.run(connected(main))


async def connected(function: Callable[[ConnectionPool], Coroutine[Any, Any, Any]]) -> None:
    async with connection_pool() as pool:
        await function(pool)


def test_bad_request(worker: Worker) -> None:
    """What is no request gets the answer of HTTP, after which the connection is closed."""

    async def main(pool: ConnectionPool) -> None:
        async with pool.connection(worker) as connection:
            await pool.send(connection, b"nonsense\r\n\r\n")
            code, headers, body = await receive(pool, connection)
            assert (code, headers[b"connection"]) == (400, b"close")
            assert body == b"illegal request line: bytearray(b'nonsense')\n"
            with pytest.raises(ConnectionResetError, match="^the peer closed the connection before it sent a response"):
                await pool.recv_status_line(connection)
        assert not connection.can_go_on

    run(main)
