"""WebSockets of an app that receives nothing until it is told to; on asyncio or trio.

`/NAME` is one. GET `/NAME/go` lets it receive; GET `/NAME` returns, once it has ended, how many messages it has
received, how many bytes, and how that has ended. `/echo` is another one, which answers at once.
"""

from __future__ import annotations

import json
from typing import Any

import anyio
from validators import valid_asgi

from apps.lifespan import live

_gates: dict[str, anyio.Event] = {}
_ends: dict[str, anyio.Event] = {}
_notes: dict[str, list[Any]] = {}


@valid_asgi
async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await live(receive, send)
        return
    name, _, what = scope["path"].strip("/").partition("/")
    gate, end = _gates.setdefault(name, anyio.Event()), _ends.setdefault(name, anyio.Event())
    if scope["type"] == "http":
        await answer(name, gate, None if what else end, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    if name == "echo":
        await echo(receive, send)
        return
    notes = _notes[name] = [0, 0]
    try:
        await gate.wait()
        while (event := await receive())["type"] == "websocket.receive":
            notes[0] += 1
            notes[1] += len(event.get("bytes") or event.get("text"))
            if event.get("text") == "how many":
                await send({"type": "websocket.send", "text": str(notes[0])})
        notes.append(f"told {int(event['code'])}")
    except BaseException as error:
        notes.append("cancelled" if isinstance(error, anyio.get_cancelled_exc_class()) else repr(error))
        raise
    finally:
        end.set()


async def answer(name: str, gate: anyio.Event, end: anyio.Event | None, send: Any) -> None:
    if end is None:
        gate.set()
    else:
        await end.wait()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps(_notes.get(name)).encode()})


async def echo(receive: Any, send: Any) -> None:
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
