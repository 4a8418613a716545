"""The client of bytes with workers at the other end. Nothing here needs a socket."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Coroutine, Iterator
from contextvars import ContextVar
from typing import Any

import pytest
import wsproto
import wsproto.events

from socketless import IpcProcess, IpcThread, errors
from socketless.host.worker import Worker
from socketless.lowlevel import Connection, ConnectionPool, connection_pool
from support import LIMIT, nothing_leaks, traceback_of

MIB = 1 << 20
word: ContextVar[str] = ContextVar("word", default="none")
may_go = threading.Event()


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"].upper()})
        return
    if scope["path"] == "/hang":
        await asyncio.Event().wait()
    if scope["path"] == "/wait":
        await asyncio.to_thread(may_go.wait, LIMIT)
    body = b""
    if scope["path"] == "/read":
        while (event := await receive()).get("more_body"):
            body += event["body"]
        body += event["body"]
    headers = [(b"x-word", word.get().encode()), (b"x-seen", repr(scope["headers"]).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body or b"hello"})
    if scope["path"] == "/late":
        raise LookupError("after the last byte")


@pytest.fixture
def worker() -> Iterator[Worker]:
    with nothing_leaks(), IpcThread(app, max_connections=2) as worker:
        yield worker


def run(function: Callable[[ConnectionPool], Coroutine[Any, Any, Any]], **limits: Any) -> Any:
    """Run a function with a pool. It must leave no task behind."""

    async def main() -> Any:
        async with connection_pool(**{"max_wait_send_recv_seconds": LIMIT, **limits}) as pool:
            result = await function(pool)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        return result

    return asyncio.run(main())


def get(path: str, more: str = "") -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: testserver\r\n{more}\r\n".encode()


async def receive(pool: ConnectionPool, connection: Connection) -> tuple[int, dict[bytes, bytes], bytes]:
    code, cursor = await pool.recv_status_line(connection)
    headers = {name: value async for name, value in pool.recv_headers(connection, cursor)}
    return code, headers, b"".join([piece async for piece in pool.recv_body(connection, cursor)])


async def ask(pool: ConnectionPool, worker: Worker, request: bytes, **options: Any) -> Connection:
    """Ask for a small response, and return the connection that it came over."""
    async with pool.connection(worker, **options) as connection:
        await pool.send(connection, request)
        assert (await receive(pool, connection))[0] == 200
        return connection


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


def test_continue(worker: Worker) -> None:
    """100 Continue is a response of its own, which comes when the app reads."""

    async def main(pool: ConnectionPool) -> None:
        async with pool.connection(worker) as connection:
            await pool.send(connection, get("/read", "Expect: 100-continue\r\nContent-Length: 5\r\n"))
            code, cursor = await pool.recv_status_line(connection)
            assert (code, cursor.reason, [field async for field in pool.recv_headers(connection, cursor)]) == (
                100,
                b"Continue",
                [],
            )
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
            fields = [field async for field in pool.recv_headers(connection, cursor)]
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
            with pytest.raises(ConnectionResetError, match="the worker has closed the connection$"):
                await pool.send(connection, get("/seen"))
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


# The pool


def test_connections_are_kept(worker: Worker) -> None:
    """A connection is kept for the next block to the same peer, with the same options, and to no other."""

    async def main(pool: ConnectionPool) -> None:
        first = await ask(pool, worker, get("/"))
        assert await ask(pool, worker, get("/")) is first
        assert await ask(pool, worker, get("/"), root_path="/x") is not first
        async with pool.connection(worker) as again, pool.connection(worker) as other:
            assert again is first is not other
        async with pool.connection(worker) as connection:
            assert connection is again  # the one that was used last

    run(main)


def test_what_is_not_kept(worker: Worker) -> None:
    """Connection: close, HTTP/1.0, a body that was not read, `discard()` and an exception end a connection."""

    async def main(pool: ConnectionPool) -> None:
        gone = [
            await ask(pool, worker, get("/", "Connection: close\r\n")),
            await ask(pool, worker, b"GET / HTTP/1.0\r\n\r\n"),
        ]
        async with pool.connection(worker) as connection:
            await pool.send(connection, get("/"))
            await pool.recv_status_line(connection)
        gone.append(connection)
        async with pool.connection(worker) as connection:
            await pool.send(connection, get("/"))
        gone.append(connection)
        async with pool.connection(worker) as connection:
            connection.discard()
        gone.append(connection)
        with pytest.raises(ZeroDivisionError):
            async with pool.connection(worker) as connection:
                raise ZeroDivisionError
        gone.append(connection)
        async with pool.connection(worker) as connection:
            assert connection not in gone
        assert len(set(gone)) == 6
        for used in (connection, gone[0]):  # kept or not
            with pytest.raises(errors.StateError, match=": the connection's block has ended, or is another pool's$"):
                await pool.send(used, get("/"))
            with pytest.raises(errors.StateError):
                await pool.recv_status_line(used)

    run(main)


def test_max(worker: Worker) -> None:
    """Whoever comes when `max` connections are in use gets the first that is left, in turn."""

    async def main(pool: ConnectionPool) -> None:
        order = []

        async def use(number: int) -> Connection:
            async with pool.connection(worker) as connection:
                order.append(number)
                return connection

        async with pool.connection(worker) as first, pool.connection(worker) as second:
            waiting = [asyncio.ensure_future(use(number)) for number in range(3)]
            await ask(other_pool, worker, get("/"))
            assert order == []
            waiting[1].cancel()
        assert {await waiting[0], await waiting[2]} <= {first, second}
        assert (order, waiting[1].cancelled()) == ([0, 2], True)

    other_pool = connection_pool(max_idle_seconds=0)
    run(main, max=2)


def test_max_wait_connection_seconds(worker: Worker) -> None:
    """Who waits for a connection for longer gets a TimeoutError, and no place is lost."""

    async def main(pool: ConnectionPool) -> None:
        async with pool.connection(worker):
            with pytest.raises(TimeoutError) as caught:
                await ask(pool, worker, get("/"))
        assert str(caught.value) == f"{worker!r}: none of 1 connections became free within 0.01 s"
        await ask(pool, worker, get("/"))

    run(main, max=1, max_wait_connection_seconds=0.01)


def test_max_and_other_peers(worker: Worker) -> None:
    """An idle connection makes room for one to another peer."""

    async def main(pool: ConnectionPool) -> None:
        first = await ask(pool, worker, get("/"))
        await ask(pool, worker, get("/"), root_path="/x")
        assert await ask(pool, worker, get("/")) is not first

    run(main, max=1)


def test_max_requests_per_connection(worker: Worker) -> None:
    """After so many responses a connection is not kept."""

    async def main(pool: ConnectionPool) -> None:
        connections = [await ask(pool, worker, get("/")) for _ in range(5)]
        assert [connection.requests for connection in connections] == [2, 2, 2, 2, 1]
        assert connections[0] is connections[1] is not connections[2] is connections[3] is not connections[4]

    run(main, max_requests_per_connection=2)


def test_max_idle_seconds(worker: Worker) -> None:
    """0 keeps no connection."""

    async def main(pool: ConnectionPool) -> None:
        assert await ask(pool, worker, get("/")) is not await ask(pool, worker, get("/"))

    run(main, max_idle_seconds=0)


@pytest.mark.parametrize("limits", [{"max": 0}, {"chunk_bytes": 0}])
def test_limits_that_are_none(limits: dict[str, int]) -> None:
    """A limit of which nothing could be done is refused."""
    with pytest.raises(ValueError) as caught:
        connection_pool(**limits)
    assert str(caught.value) == "max and chunk_bytes must be at least 1"


def test_order_of_calls(worker: Worker) -> None:
    """A response is received to its end before the next one, with its own cursor."""

    async def main(pool: ConnectionPool) -> None:
        async with pool.connection(worker) as connection:
            await pool.send(connection, get("/"))
            _, cursor = await pool.recv_status_line(connection)
            with pytest.raises(errors.StateError, match="the response before has not been received to its end$"):
                await pool.recv_status_line(connection)
            async for _ in pool.recv_body(connection, cursor):  # reads over the headers
                pass
            await pool.send(connection, get("/"))
            await receive(pool, connection)
            with pytest.raises(errors.StateError, match="this cursor is not of the connection's last response$"):
                await anext(pool.recv_body(connection, cursor))

    run(main)


def test_cancelled(worker: Worker) -> None:
    """A task that is cancelled while it receives leaves nothing behind: the app hears of it, its place is free."""

    async def main(pool: ConnectionPool) -> None:
        async def hang() -> None:
            async with pool.connection(worker) as connection:
                await pool.send(connection, get("/hang"))
                is_sent.set()
                await receive(pool, connection)

        for _ in range(3):
            is_sent = asyncio.Event()
            task = asyncio.ensure_future(hang())
            await is_sent.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await ask(pool, worker, get("/"))

    run(main, max=1)


def test_closing(worker: Worker) -> None:
    """Closing a pool closes the connections that are in use; it can be closed twice, and not be used again."""

    async def main(pool: ConnectionPool) -> None:
        async with pool.connection(worker) as connection:
            await pool.aclose()
            with pytest.raises(errors.StateError, match="the connection is closed$"):
                await pool.send(connection, get("/"))
            with pytest.raises(errors.StateError, match="the connection is closed$"):
                await pool.recv_status_line(connection)
        await pool.aclose()
        with pytest.raises(errors.StateError, match="the pool is closed$"):
            await ask(pool, worker, get("/"))

    run(main)


def test_dropped(worker: Worker) -> None:
    """A pool that is dropped open is a ResourceWarning."""

    async def main() -> None:
        pool = connection_pool(max_idle_seconds=None)
        await ask(pool, worker, get("/"))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asyncio.run(main())
        gc.collect()
    assert [str(warning.message) for warning in caught] == [f"unclosed pool with connections to {worker!r}"]


def test_wrong_peers(worker: Worker) -> None:
    """What is no peer is refused with what to write instead."""

    async def main(pool: ConnectionPool) -> None:
        connect: Any = pool.connection
        with pytest.raises(TypeError, match="^ssl_context is missing: an ssl.SSLContext for TLS, or None"):
            connect("127.0.0.1", 80)
        with pytest.raises(ValueError, match=r"^'localhost' is no IP address: resolve names first, as by loop.getadd"):
            connect("localhost", 80, None)
        with pytest.raises(ValueError, match="^'127.0.0.1' is no path with a slash in it, and an IP address"):
            connect("127.0.0.1")
        with pytest.raises(TypeError, match="^a worker has no port$"):
            connect(worker, 80)
        with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
            connect(worker, colour="red")

    run(main)


def test_without_h11() -> None:
    """Where h11 is missing, a connection to a worker says what to install."""
    program = (
        "import sys; sys.modules['h11'] = None\n"
        "from socketless import IpcThread\n"
        "from socketless.lowlevel import connection_pool\n"
        "with IpcThread('wsgiref.simple_server:demo_app') as worker:\n"
        "    connection_pool().connection(worker)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    expected = "ModuleNotFoundError: a worker's bytes need h11: pip install 'socketless[lowlevel]'"
    assert done.stderr.splitlines()[-1] == expected
