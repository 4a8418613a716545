"""The pool of connections: what is kept, and every limit. Nothing here needs a socket."""

from __future__ import annotations

import asyncio
import gc
import warnings
from typing import Any

import pytest

from bytes_client import ask, get, receive, run
from socketless import errors
from socketless._host.worker import Worker
from socketless.lowlevel import Connection, ConnectionPool, connection_pool


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
            with pytest.raises(errors.StateError, match=": its block has ended, or it is a connection of another"):
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
            with pytest.raises(errors.StateError, match="the previous response has not been received to its end$"):
                await pool.recv_status_line(connection)
            async for _ in pool.recv_body(connection, cursor):  # reads over the headers
                pass
            await pool.send(connection, get("/"))
            await receive(pool, connection)
            with pytest.raises(errors.StateError, match="cursor does not belong to the connection's last response$"):
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
        with pytest.raises(ValueError, match=r"^'localhost' is not an IP address: resolve names first, by loop.getad"):
            connect("localhost", 80, None)
        with pytest.raises(ValueError, match="^'127.0.0.1' is not a path with a slash in it, and an IP address"):
            connect("127.0.0.1")
        with pytest.raises(TypeError, match="^a worker has no port$"):
            connect(worker, 80)
        with pytest.raises(TypeError, match="unexpected keyword argument 'colour'"):
            connect(worker, colour="red")

    run(main)
