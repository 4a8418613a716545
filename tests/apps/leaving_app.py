"""WebSockets of apps that are in the middle of something when their client leaves; on asyncio or trio.

`/NAME?...` is one; GET `/NAME` returns what it has stored, and how it has ended, once it has.
"""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any
from urllib.parse import parse_qsl

import anyio
import anyio.lowlevel
from validators import valid_asgi

from apps.lifespan import live
from socketless._worker import asgi_call, asgi_websocket


def set_grace(seconds: float) -> float:
    """Set how soon after its client has gone it is looked whether an app is to be cancelled; return what it was."""
    was, asgi_call._GRACE = asgi_call._GRACE, seconds
    return was


def set_patience(seconds: float) -> float:
    """Set how long an app that has asked, or has closed, may go on; return what it was."""
    was, asgi_websocket._PATIENCE = asgi_websocket._PATIENCE, seconds
    return was


stored: dict[str, list[str]] = defaultdict(list)
_ends: dict[str, anyio.Event] = {}


@valid_asgi
async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    name = scope["path"].strip("/")
    end = _ends.setdefault(name, anyio.Event())
    if scope["type"] == "http":
        await end.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": json.dumps(stored[name]).encode()})
        return
    options = dict(parse_qsl(scope["query_string"].decode()))
    try:
        await receive()
        await send({"type": "websocket.accept"})
        await globals()[options["do"]](options, stored[name], receive, send)
        stored[name].append("returned")
    except BaseException as error:
        stored[name].append("cancelled" if isinstance(error, anyio.get_cancelled_exc_class()) else repr(error))
        raise
    finally:
        end.set()


async def pause(options: dict[str, str]) -> None:
    """Let others go on, for some turns of the loop or some seconds."""
    for _ in range(int(options.get("turns", 0))):
        await anyio.lowlevel.checkpoint()
    if "seconds" in options:
        await anyio.sleep(float(options["seconds"]))


async def store(options: dict[str, str], notes: list[str], receive: Any, send: Any) -> None:
    """Acknowledge each message, before or after it is stored."""
    while (event := await receive())["type"] == "websocket.receive":
        await pause(options)
        for _ in range(int(options.get("before", 0))):
            await send({"type": "websocket.send", "text": "ack"})
        notes.append(event["text"])
        for _ in range(int(options.get("after", 0))):
            await send({"type": "websocket.send", "text": "ack"})
    await pause(options)
    notes.append(f"told {event['code']}")


async def tick(options: dict[str, str], notes: list[str], receive: Any, send: Any) -> None:
    """Send for ever."""
    if "subscribes" in options:
        await receive()
    while True:
        await send({"type": "websocket.send", "text": "tick"})
        await pause(options)


async def wait(options: dict[str, str], notes: list[str], receive: Any, send: Any) -> None:
    """Wait for ever, perhaps for more than one message."""
    for _ in range(int(options.get("receives", 0))):
        await receive()
    await anyio.Event().wait()


async def ask(options: dict[str, str], notes: list[str], receive: Any, send: Any) -> None:
    """Ask for messages for ever, also when there can be none."""
    while True:
        await receive()


async def close(options: dict[str, str], notes: list[str], receive: Any, send: Any) -> None:
    """Close, go on, and raise."""
    await send({"type": "websocket.close", "code": 4000})
    await pause(options)
    raise LookupError("after closing")
