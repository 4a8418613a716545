"""A FastAPI app for tests/test_aiohttp*.py, which may be on the test's own loop, on threads or in a process.

What a client cannot see is in `notes`; who asks `/note/NAME` waits for it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

from fastapi import FastAPI, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from starlette.websockets import WebSocketDisconnect

user: ContextVar[str] = ContextVar("user", default="nobody")
events: list[str] = []  # of the lifespan
notes: dict[str, asyncio.Future[str]] = {}
calls: dict[str, int] = {}


def note(name: str) -> asyncio.Future[str]:
    return notes.setdefault(name, asyncio.get_running_loop().create_future())


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, str]]:
    events.append("startup")
    yield {"from": "the lifespan"}
    events.append("shutdown")


app = FastAPI(lifespan=lifespan)


@app.get("/hello")
async def hello(request: Request) -> dict[str, Any]:
    state = getattr(request.state, "from", None)
    return {"host": request.url.netloc, "user": user.get(), "state": state}


@app.get("/loop")
async def loop() -> bool:
    return asyncio.get_running_loop() is note("loop").get_loop()


@app.get("/note/{name}")
async def noted(name: str) -> str:
    return await asyncio.shield(note(name))


@app.post("/note/{name}")
async def write_note(name: str, text: str = "said") -> None:
    note(name).set_result(text)


@app.get("/count/{name}")
async def count(name: str) -> int:
    return calls.get(name, 0)


@app.get("/boom/{name}")
async def boom(name: str, error: str = "lookup") -> None:
    calls[name] = calls.get(name, 0) + 1
    if error == "exit":
        os._exit(7)
    if error == "file":
        raise FileNotFoundError(2, "No such file", "menu.txt")
    if error == "timeout":
        raise TimeoutError("of the app's own")
    raise LookupError("boom", 42)


@app.get("/wait/{name}")
async def wait(name: str) -> None:
    """Tell that it waits, and then how that ended."""
    note(f"{name}-waits").set_result("yes")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        note(f"{name}-ended").set_result("cancelled")
        raise


@app.get("/numbers/{name}")
async def numbers(name: str, most: int = 3, length: int | None = None) -> Response:
    """Answer "0", "1" ... for ever, if nobody says a word; note how many were taken."""

    async def pieces() -> AsyncIterator[bytes]:
        number = 0
        try:
            for number in range(most):
                yield b"%d" % number if length is None else b"x" * length
        finally:
            if not note(name).done():
                note(name).set_result(str(number))

    return StreamingResponse(pieces())


@app.get("/quiet")
async def quiet() -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"quiet"
        await asyncio.Event().wait()

    return StreamingResponse(pieces())


@app.get("/broken")
async def broken() -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"
        raise LookupError("in the middle")

    return StreamingResponse(pieces())


@app.post("/shout")
async def shout(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        async for piece in request.stream():
            if piece:
                yield piece.upper()

    return StreamingResponse(pieces())


@app.post("/echo")
async def echo(request: Request) -> Response:
    """Answer with the body, and with what its headers say of it."""
    names = ("content-encoding", "content-length", "transfer-encoding")
    seen = {f"x-{name}": request.headers.get(name, "none") for name in names}
    return Response(await request.body(), headers=seen)


@app.post("/deaf/{name}")
async def deaf(name: str) -> None:
    """Read nothing of the request, and answer when a word is said."""
    await asyncio.shield(note(name))


@app.websocket("/chat/{name}")
async def chat(socket: WebSocket, name: str) -> None:
    offered = socket.scope["subprotocols"]
    await socket.accept(subprotocol=offered[-1] if offered else None, headers=[(b"x-one", b"1")])
    try:
        while True:
            event = await socket.receive()
            if event["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(event["code"], event.get("reason"))
            text = event.get("text")
            if text == "boom":
                raise LookupError("boom", 42)
            if text == "exit":
                sys.exit(3)
            if text == "close":
                await socket.close(4001, "enough")
                return
            await socket.send({**event, "type": "websocket.send"})
    except WebSocketDisconnect as error:
        note(name).set_result(f"{error.code} {error.reason}")


@app.websocket("/closed")
async def closed(socket: WebSocket) -> None:
    await socket.close()


@app.websocket("/early")
async def early(socket: WebSocket) -> None:
    await socket.accept()
    raise LookupError("early")


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 Fine", [("Content-Type", "text/plain"), ("X-User", user.get())])
    return [environ["wsgi.input"].read() or b"hello"]
