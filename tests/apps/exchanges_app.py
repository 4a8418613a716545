"""Apps for tests/host/test_exchanges.py: a worker imports them sooner than the tests."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any


def app(environ: dict[str, Any], start_response: Any) -> Any:
    """Yield for ever, yield b"" while another thread reads the request, or say hello."""
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/for-ever":
        return for_ever()
    if environ["PATH_INFO"] == "/in-a-thread":
        return read_in_a_thread(environ["wsgi.input"])
    return [b"hello"]


def for_ever() -> Iterator[bytes]:
    while True:
        yield b"again\n"


def read_in_a_thread(file: Any) -> Iterator[bytes]:
    sizes: list[int] = []
    thread = threading.Thread(target=lambda: sizes.append(len(file.read())))
    thread.start()
    while thread.is_alive():
        yield b""
    yield str(sizes[0]).encode()


async def chat(scope: Any, receive: Any, send: Any) -> None:
    """Raise, or exit, at the first message."""
    await receive()
    await send({"type": "websocket.accept"})
    if (await receive()).get("text") == "raise":
        raise LookupError("raised")
    os._exit(0)
