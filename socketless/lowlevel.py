"""HTTP/1.1 as bytes, for asyncio: utility functions that hide nothing, and add nothing to what the caller sends.

    async with connection_pool() as pool, pool.connection(worker) as connection:
        await pool.send(connection, b"GET / HTTP/1.1\\r\\nHost: testserver\\r\\n\\r\\n")
        code, cursor = await pool.recv_status_line(connection)
        async for name, value, cursor in pool.recv_headers(connection, cursor):
            ...
        async for piece in pool.recv_body(connection, cursor):
            ...

A connection goes to a worker, without a socket; to a UNIX socket; or to a TCP port, with TLS or, by an explicit choice,
without. URLs, names, redirects, cookies, encodings and retries are the caller's.

What goes wrong is a `TimeoutError`, a `ConnectionError` (or another `OSError` where the connection is made), or, if
what came is not HTTP, a `socketless.errors.RemoteProtocolError`, which is a `ConnectionError`, too. Of a worker come
the errors of `socketless.errors`, and what its app raises.
"""

from __future__ import annotations

from socketless._lowlevel.pool import Connection, ConnectionPool
from socketless._lowlevel.response import Cursor
from socketless.errors import RemoteProtocolError

__all__ = ["Connection", "ConnectionPool", "Cursor", "RemoteProtocolError", "connection_pool"]


def connection_pool(
    *,
    max: int = 32,
    max_wait_connection_seconds: float | None = 10.0,
    max_requests_per_connection: int | None = None,
    max_idle_seconds: float | None = 5.0,
    max_wait_send_recv_seconds: float | None = 10.0,
    chunk_bytes: int = 64 * 1024,
) -> ConnectionPool:
    """Return a pool of connections, for one event loop. It is an async context manager; else, await its `aclose()`.

    Args:
        max: how many connections there may be at once, in use and idle, to all peers together. To make room, the one
            is closed that has been idle for longest.
        max_wait_connection_seconds: how long a block waits for its connection: until one is free, is made, and TLS has
            agreed; and, of a worker, how long a request waits for a free channel. `None`: for ever.
        max_requests_per_connection: after so many responses, a connection is closed when its block ends. `None`: never.
        max_idle_seconds: how long an idle connection is kept. 0: not at all, `None`: until the peer ends it.
        max_wait_send_recv_seconds: how long it may take, each time, until the peer takes what is sent or there is
            something to receive. The time of a worker's app counts from its request on, also while nothing receives.
            `None`: for ever.
        chunk_bytes: how large a piece of a body may be, and how much is received at once.

    Raises:
        ValueError: a limit is too small to do anything.
    """
    if max < 1 or chunk_bytes < 1:
        raise ValueError("max and chunk_bytes must be at least 1")
    return ConnectionPool(
        max=max,
        max_wait_connection_seconds=max_wait_connection_seconds,
        max_requests_per_connection=max_requests_per_connection,
        max_idle_seconds=max_idle_seconds,
        max_wait_send_recv_seconds=max_wait_send_recv_seconds,
        chunk_bytes=chunk_bytes,
    )
