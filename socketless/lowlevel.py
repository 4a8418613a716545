"""HTTP/1.1 as bytes, for asyncio: utility functions that hide nothing, and add nothing to what the caller sends.

    async with connection_pool() as pool, pool.connection(worker) as connection:
        await pool.send(connection, b"GET / HTTP/1.1\\r\\nHost: testserver\\r\\n\\r\\n")
        code, cursor = await pool.recv_status_line(connection)
        async for name, value, cursor in pool.recv_headers(connection, cursor):
            ...
        async for piece in pool.recv_body(connection, cursor):
            ...

A connection goes to a worker, without a socket; to a UNIX socket; or to a TCP port, with TLS or, by an explicit choice,
without. URLs, host names, redirects, cookies, encodings and retries are up to the caller.

The errors are `TimeoutError`, `ConnectionError` (or another `OSError` when a connection is made), and
`socketless.errors.RemoteProtocolError` if the peer does not send HTTP, which is a `ConnectionError`, too. With a
worker, there are also the other errors of `socketless.errors`, and the exceptions of its app.
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
    """Return a pool of connections, for one event loop. It is an async context manager; otherwise, await `aclose()`.

    Args:
        max: the number of connections, in use and idle, to all peers together. To make room, the pool closes the
            connection that has been idle for longest.
        max_wait_connection_seconds: how long a block waits for its connection: for a free place in the pool, for the
            connection itself, and for the TLS handshake; also, how long a request waits for a free channel of a worker.
            `None`: no limit.
        max_requests_per_connection: after this number of responses, a connection is closed when its block ends. `None`:
            no limit.
        max_idle_seconds: how long an idle connection is kept. 0: not at all; `None`: until the peer closes it.
        max_wait_send_recv_seconds: how long each wait for the peer to take data, or to send some, may last. For a
            worker's app, the time counts from the request, even while the caller receives nothing. `None`: no limit.
        chunk_bytes: the largest size of a piece of a body, and of what is received at once.

    Raises:
        ValueError: `max` or `chunk_bytes` is less than 1.
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
