"""An app whose lifespan fails, for tests/test_options.py: a worker imports it sooner than the tests."""

from __future__ import annotations

from typing import Any


async def fails_to_start(scope: Any, receive: Any, send: Any) -> None:
    """An app that answers, as long as nobody runs its lifespan."""
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        return
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})
