"""Apps that go wrong, for tests/host/test_faults.py: a worker imports them sooner than the tests."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """An app that never lets go."""
    threading.Event().wait()
    return []


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """An app that never lets go, not even when its task is cancelled."""
    assert scope["type"] == "http"
    while True:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()


def leaving(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """An app that lets go, or never."""
    if environ["PATH_INFO"] == "/hang":
        threading.Event().wait()
    start_response("200 OK", [])
    return [b"hello"]


def rubbish(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """An app that writes into the pipe of its response what is no message: at once, in the middle of it, or never."""
    stack = sys._getframe()
    while "channel" not in stack.f_locals:
        assert stack.f_back is not None
        stack = stack.f_back
    _, write_fd = stack.f_locals["channel"].fileno()
    del stack
    if environ["PATH_INFO"] == "/now":
        os.write(write_fd, b"rubbish")
    start_response("200 OK", [])
    yield b"one"
    if environ["PATH_INFO"] == "/later":
        os.write(write_fd, b"rubbish")
    yield b"two"
