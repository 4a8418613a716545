"""WebSockets of a raw ASGI app, of Starlette and of FastAPI, behind one app: how a path begins says whose it is.

What a client cannot see of an app, the app notes down by a name; `/raw/noted/NAME` waits for the note and sends it.
"""

from __future__ import annotations

import ast
import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import unquote_to_bytes

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from validators import valid_asgi

Event = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Event]]
Send = Callable[[Event], Awaitable[None]]

# Notes

_notes: dict[str, asyncio.Future[str]] = {}


def _future(name: str) -> asyncio.Future[str]:
    return _notes.setdefault(name, asyncio.get_running_loop().create_future())


def note(name: str, text: str) -> None:
    """Note something down, once for each name."""
    _future(name).set_result(text)


async def noted(name: str) -> str:
    """Wait until something is noted down."""
    return await asyncio.shield(_future(name))


# A raw ASGI app: the first part of the path is a function, the second its argument


async def echo(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    assert await receive() == {"type": "websocket.connect"}
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


async def noted_(name: str, scope: Event, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": await noted(name)})


async def tell(name: str, scope: Event, receive: Receive, send: Send) -> None:
    """Note down that it was called, and return."""
    await receive()
    await send({"type": "websocket.accept"})
    note(name, "told")


async def script(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    """Do what the query says: a list, as in Python, of events to be sent and of "receive"."""
    for step in ast.literal_eval(unquote_to_bytes(scope["query_string"]).decode()):
        if step == "receive":
            await receive()
        else:
            await send(step)


async def listen(name: str, scope: Event, receive: Receive, send: Send) -> None:
    """Note down what comes until the end, and what comes after it."""
    await receive()
    await send({"type": "websocket.accept"})
    events = [await receive()]
    while events[-1]["type"] != "websocket.disconnect":
        events.append(await receive())
    note(name, repr([*events, await receive()]))


async def flood(name: str, scope: Event, receive: Receive, send: Send) -> None:
    """Send for ever, and note down why that ends."""
    await receive()
    await send({"type": "websocket.accept"})
    try:
        while True:
            await send({"type": "websocket.send", "bytes": bytes(1000)})
    except OSError as error:
        note(name, f"{type(error).__name__}: {error}")
        raise


async def repeat(name: str, scope: Event, receive: Receive, send: Send) -> None:
    """Echo, and note down the end's code and reason."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})
    note(name, f"{int(event['code'])} {event['reason']}")


async def deaf(name: str, scope: Event, receive: Receive, send: Send) -> None:
    """Never look whether the client is still there."""
    await receive()
    await send({"type": "websocket.accept"})
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note(name, "cancelled")
        raise


async def slow(name: str, scope: Event, receive: Receive, send: Send) -> None:
    """Wait before every answer until NAME-accept, NAME-text are noted down."""
    await receive()
    await noted(f"{name}-accept")
    await send({"type": "websocket.accept"})
    await noted(f"{name}-text")
    await send({"type": "websocket.send", "text": "at last"})


async def late(name: str, scope: Event, receive: Receive, send: Send) -> None:
    """Close, and look what comes when NAME-told is noted down."""
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 4001, "reason": "enough"})
    await noted(f"{name}-told")
    note(name, repr([await receive() for _ in range(3)]))


async def linger(name: str, scope: Event, receive: Receive, send: Send) -> None:
    """Deny the WebSocket, and then wait for the client to go."""
    await receive()
    await send({"type": "websocket.http.response.start", "status": 402, "headers": [(b"x-why", b"unpaid")]})
    await send({"type": "websocket.http.response.body", "body": b"pay first"})
    event = await receive()
    note(name, event["type"])


async def kill(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await receive()
    os.kill(os.getpid(), signal.SIGKILL)


async def show(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    """Print, before the answer to each message."""
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        print(event["text"])
        await send({"type": "websocket.send", "text": "printed"})


async def offer(argument: str, scope: Event, receive: Receive, send: Send) -> None:
    """Send the scope's subprotocols, in an accept that chooses the one in the path."""
    await receive()
    await send({"type": "websocket.accept", "subprotocol": argument or None, "headers": [(b"X-Raw", b"1")]})
    await send({"type": "websocket.send", "text": repr(scope["subprotocols"])})


async def boom(moment: str, scope: Event, receive: Receive, send: Send) -> None:
    """Raise at some moment: when it has "closed" or "denied", or "before" or "after" the accept, or on what comes."""
    await receive()
    if moment == "closed":
        await send({"type": "websocket.close"})
    elif moment == "denied":
        await send({"type": "websocket.http.response.start", "status": 403, "headers": []})
        await send({"type": "websocket.http.response.body", "body": b""})
    elif moment != "before":
        await send({"type": "websocket.accept"})
    if moment == "message":
        await receive()
    elif moment == "disconnect":
        while (await receive())["type"] != "websocket.disconnect":
            pass
    raise LookupError(moment)


RAW = {function.__name__.rstrip("_"): function for function in (
    echo, noted_, tell, script, listen, repeat, flood, deaf, slow, late, linger, kill, show, offer, boom,
)}  # fmt: skip


async def raw(scope: Event, receive: Receive, send: Send) -> None:
    """The raw app; it answers HTTP, too."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"this is HTTP"})
        return
    _, _, function, *argument = scope["path"].split("/")
    await RAW[function]("/".join(argument), scope, receive, send)


# Starlette


async def starlette_echo(websocket: WebSocket) -> None:
    offered = websocket.scope["subprotocols"]
    await websocket.accept(offered[-1] if offered else None)
    while (event := await websocket.receive())["type"] == "websocket.receive":
        await (websocket.send_text(event["text"]) if "text" in event else websocket.send_bytes(event["bytes"]))


async def json_echo(websocket: WebSocket) -> None:
    mode = websocket.path_params["mode"]
    await websocket.accept()
    await websocket.send_json(await websocket.receive_json(mode), mode)
    await websocket.close()


async def seen(websocket: WebSocket) -> None:
    """Send what the app sees of the handshake."""
    await websocket.accept(headers=[(b"x-one", b"a"), (b"x-one", b"b"), (b"set-cookie", b"c=1")])
    shown = {"x-token", "host", "upgrade", "connection", "sec-websocket-version"}
    await websocket.send_json(
        {
            "url": str(websocket.url),
            "headers": [(name, value) for name, value in websocket.headers.items() if name in shown],
            "query": websocket.query_params.multi_items(),
            "raw_path": websocket.scope["raw_path"].decode(),
            "cookies": websocket.cookies,
            "path_params": websocket.path_params,
            "root_path": websocket.scope["root_path"],
            "server": list(websocket.scope["server"]),
            "client": list(websocket.client or ()),
            "state": websocket.state.greeting if hasattr(websocket.state, "greeting") else None,
        }
    )
    await websocket.close()


async def close(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("one")
    await websocket.close(int(websocket.query_params["code"]), websocket.query_params.get("reason"))
    note(websocket.query_params["name"], "went on")


async def refuse(websocket: WebSocket) -> None:
    await websocket.close(int(websocket.query_params["code"]), websocket.query_params.get("reason"))


async def deny(websocket: WebSocket) -> None:
    kind = websocket.path_params["kind"]
    await websocket.receive()
    response: Response
    if kind == "json":
        response = JSONResponse({"why": "unpaid"}, 402, {"x-why": "unpaid"})
        response.set_cookie("a", "1")
        response.set_cookie("b", "2")
    elif kind == "text":
        response = PlainTextResponse("caf\xe9", 404)
    elif kind == "empty":
        response = Response(status_code=401, headers={"www-authenticate": "Basic"})
    elif kind == "large":
        response = Response(bytes(3 << 20), 503)
    else:
        response = StreamingResponse(_pieces(), 418)
    await websocket.send_denial_response(response)


async def _pieces() -> AsyncIterator[bytes]:
    for index in range(100):
        yield b"%d," % index


async def watch(websocket: WebSocket) -> None:
    """Note down how the client closes it."""
    await websocket.accept()
    try:
        while True:
            await websocket.receive_text()
    except WebSocketDisconnect as error:
        note(websocket.path_params["name"], repr((int(error.code), error.reason)))


async def give_back(websocket: WebSocket) -> None:
    """Accept, and return without a word."""
    await websocket.accept()


async def careless(websocket: WebSocket) -> None:
    """Let the exception through that says that the client has closed it."""
    await websocket.accept()
    await websocket.receive_text()


starlette = Starlette(
    routes=[
        WebSocketRoute("/starlette/echo", starlette_echo),
        WebSocketRoute("/starlette/json/{mode}", json_echo),
        WebSocketRoute("/starlette/seen/{name}/{number:int}", seen),
        WebSocketRoute("/starlette/close", close),
        WebSocketRoute("/starlette/refuse", refuse),
        WebSocketRoute("/starlette/deny/{kind}", deny),
        WebSocketRoute("/starlette/watch/{name}", watch),
        WebSocketRoute("/starlette/return", give_back),
        WebSocketRoute("/starlette/careless", careless),
    ]
)

# All of them


@asynccontextmanager
async def _started(receive: Receive, send: Send) -> AsyncIterator[None]:
    await receive()
    await send({"type": "lifespan.startup.complete"})
    yield
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


@valid_asgi
async def app(scope: Event, receive: Receive, send: Send) -> None:
    """Give each path to the app that it begins with."""
    if scope["type"] == "lifespan":
        async with _started(receive, send):
            scope["state"]["greeting"] = "hello"
        return
    first = scope["path"].removeprefix(scope["root_path"]).split("/")[1]
    if first == "fastapi":
        from apps.websocket_fastapi import fastapi  # here, as it takes long to import and few ask for it

        await fastapi(scope, receive, send)
    else:
        await (starlette if first == "starlette" else raw)(scope, receive, send)
