"""Apps whose channel is deaf, for tests/host/test_deaf_channels.py: a worker imports them sooner than the tests."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from apps.cells_app import channel_of
from support import LIMIT

told = threading.Event()  # that the client has gone
may_end = threading.Event()


@contextmanager
def deaf(way_out: Any) -> Iterator[None]:
    """Put something else in the place of what the channel reads, in which nothing ever comes."""
    reader, writer = os.pipe()
    os.dup2(reader, channel_of(way_out).read_fd, inheritable=False)
    os.close(reader)
    try:
        yield
    finally:
        os.close(writer)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Accept, say that it is deaf, and wait for the next message."""
    await receive()
    await send({"type": "websocket.accept"})
    with deaf(send):
        await send({"type": "websocket.send", "text": "deaf"})
        assert (await receive())["type"] == "websocket.disconnect"
        told.set()


def wsgi(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """Say that it is deaf, and wait."""
    start_response("200 OK", [])
    with deaf(start_response):
        yield b"deaf"
        assert may_end.wait(LIMIT)


def was_told() -> bool:
    return told.wait(LIMIT)


def let_end() -> None:
    may_end.set()
