"""Bodies and messages that go on for long, as WSGI and as ASGI, without a framework between."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

CHUNK = bytes(64 * 1024)


def wsgi(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Answer what `QUERY_STRING` says: the body that comes in, or so many chunks."""
    start_response("200 OK", [])
    query = environ["QUERY_STRING"]
    return _pieces(environ["wsgi.input"]) if query == "echo" else (CHUNK for _ in range(int(query)))


def _pieces(file: Any) -> Iterator[bytes]:
    while piece := file.read(len(CHUNK)):
        yield piece


async def asgi(scope: dict[str, Any], receive: Callable[[], Any], send: Callable[[dict[str, Any]], Any]) -> None:
    """Answer as `wsgi` does; a WebSocket gets its messages back."""
    if scope["type"] == "lifespan":
        raise NotImplementedError
    if scope["type"] == "websocket":
        await _echo_messages(receive, send)
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["query_string"] == b"echo":
        more = True
        while more:
            event = await receive()
            more = event["more_body"]
            await send({"type": "http.response.body", "body": event["body"], "more_body": True})
    else:
        for _ in range(int(scope["query_string"])):
            await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _echo_messages(receive: Callable[[], Any], send: Callable[[dict[str, Any]], Any]) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", **{key: event[key] for key in event if key != "type"}})
