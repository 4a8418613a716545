"""Helpers of the tests of `socketless.lowlevel`: an app, and the client's side."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any

from socketless._host.worker import Worker
from socketless.lowlevel import Connection, ConnectionPool, connection_pool
from support import LIMIT

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
    headers = {name: value async for name, value, _ in pool.recv_headers(connection, cursor)}
    return code, headers, b"".join([piece async for piece in pool.recv_body(connection, cursor)])


async def ask(pool: ConnectionPool, worker: Worker, request: bytes, **options: Any) -> Connection:
    """Ask for a small response, and return the connection that it came over."""
    async with pool.connection(worker, **options) as connection:
        await pool.send(connection, request)
        assert (await receive(pool, connection))[0] == 200
        return connection
