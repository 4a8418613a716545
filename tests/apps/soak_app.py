"""Apps for tests/test_soak.py: a worker imports them sooner than the tests."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator
from typing import Any

PIECE = b"x" * 16 * 1024


def state() -> bytes:
    """Return what there is in the worker's process."""
    try:
        tasks = len(asyncio.all_tasks())
    except RuntimeError:  # no loop: WSGI
        tasks = 0
    threads = sorted(thread.name for thread in threading.enumerate())
    return json.dumps([tasks, threads, len(os.listdir("/dev/fd"))]).encode()


def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    """Answer for ever, or with the worker's state."""
    if environ["PATH_INFO"] == "/state":
        start_response("200 OK", [])
        return [state()]
    if environ["PATH_INFO"] == "/echo":
        start_response("200 OK", [])
        return iter(lambda: environ["wsgi.input"].read(len(PIECE)), b"")
    start_response("200 OK", [])
    return for_ever()


def for_ever() -> Iterator[bytes]:
    while True:
        yield PIECE


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """Answer for ever, or with the worker's state."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/state":
        await send({"type": "http.response.body", "body": state()})
        return
    while True:
        event = await receive() if scope["path"] == "/echo" else {"body": PIECE, "more_body": True}
        if event.get("type") == "http.disconnect":
            return
        await send({"type": "http.response.body", "body": event["body"], "more_body": event["more_body"]})
        if not event["more_body"]:
            return


async def echo_messages(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": event["text"]})
