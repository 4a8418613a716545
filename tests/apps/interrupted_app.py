"""Apps for tests/host/test_any_instruction.py: a worker imports them sooner than the tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    """Say hello, stream for ever, or read the request."""
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/stream":
        return for_ever()
    return [environ["wsgi.input"].read(), b"hello"]


def for_ever() -> Iterator[bytes]:
    while True:
        yield b"again"


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b"again", "more_body": True})
    body = b""
    while (event := await receive())["type"] == "http.request":
        body += event["body"]
        if not event["more_body"]:
            break
    await send({"type": "http.response.body", "body": body + b"hello"})
