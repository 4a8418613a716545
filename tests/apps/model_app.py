"""Apps of `tests/host/test_model.py`, whose state is a list of notes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

PIECES = 100
SIZE = 16 * 1024

notes: list[str] = []


def reset() -> None:
    notes.clear()


def note(text: str) -> list[str]:
    notes.append(text)
    return list(notes)


def piece(nonce: str, number: int) -> bytes:
    return f"{nonce} {number} ".encode().ljust(SIZE, b".")


def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    """Stream something, or note the body down and say what is noted."""
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/stream":
        return stream(environ["QUERY_STRING"])
    return [json.dumps(note(environ["wsgi.input"].read().decode())).encode()]


def stream(nonce: str) -> Iterator[bytes]:
    for number in range(PIECES):
        yield piece(nonce, number)


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """The same; and note down the messages of a WebSocket, which are answered, and its end."""
    if scope["type"] == "websocket":
        await answer_messages(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/stream":
        for each in stream(scope["query_string"].decode()):
            await send({"type": "http.response.body", "body": each, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    await send({"type": "http.response.body", "body": json.dumps(note(body.decode())).encode()})


async def answer_messages(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": json.dumps(note(event["text"]))})
    note("left")
