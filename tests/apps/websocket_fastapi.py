"""WebSockets of FastAPI, which `apps.websocket_app` serves below /fastapi."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Cookie, Depends, FastAPI, Header, HTTPException, WebSocketException
from starlette.websockets import WebSocket

from apps.websocket_app import note

fastapi = FastAPI()


@fastapi.websocket("/fastapi/echo")
async def fastapi_echo(websocket: WebSocket) -> None:
    await websocket.accept()
    while (event := await websocket.receive())["type"] == "websocket.receive":
        await (websocket.send_text(event["text"]) if "text" in event else websocket.send_bytes(event["bytes"]))


async def kept(websocket: WebSocket) -> AsyncIterator[str]:
    """A dependency that is cleaned up at the end."""
    yield "a resource"
    if "name" in websocket.query_params:
        note(websocket.query_params["name"], "cleaned up")


@fastapi.websocket("/fastapi/items/{item_id}")
async def items(
    websocket: WebSocket,
    item_id: int,
    resource: Annotated[str, Depends(kept)],
    q: str | None = None,
    x_token: Annotated[str | None, Header()] = None,
    session: Annotated[str | None, Cookie()] = None,
) -> None:
    await websocket.accept()
    await websocket.send_json([item_id, resource, q, x_token, session])
    await websocket.close()


@fastapi.websocket("/fastapi/policy")
async def policy(websocket: WebSocket, token: str | None = None) -> None:
    if token is None:
        raise WebSocketException(1008, "no token")
    raise HTTPException(401, "a bad token", {"www-authenticate": "Token"})


class Room:
    """The ConnectionManager of FastAPI's documentation."""

    def __init__(self) -> None:
        self.guests: list[WebSocket] = []

    async def broadcast(self, text: str) -> None:
        for guest in self.guests:
            await guest.send_text(text)


room = Room()


@fastapi.websocket("/fastapi/room/{name}")
async def enter(websocket: WebSocket, name: str) -> None:
    await websocket.accept()
    room.guests.append(websocket)
    await room.broadcast(f"{name} comes")
    try:
        async for text in websocket.iter_text():
            await room.broadcast(f"{name}: {text}")
    finally:
        room.guests.remove(websocket)
        await room.broadcast(f"{name} goes")
