"""What an ASGI app says of its lifespan, where it has nothing to start and nothing to end."""

from __future__ import annotations

from typing import Any


async def live(receive: Any, send: Any) -> None:
    """Answer both events of the lifespan scope."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
