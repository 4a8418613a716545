"""A connector for aiohttp's `ClientSession`, whose requests go to an app instead of the network.

    from socketless.aiohttp import ASGIApplicationConnector

    async with ASGIApplicationConnector(app) as connector:
        async with ClientSession("http://testserver", connector=connector) as session:
            response = await session.get("/")

aiohttp's own pool, timeouts, parser and writer are at work; only the connections are others.
"""

from __future__ import annotations

try:
    import aiohttp  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "aiohttp":
        raise
    raise ModuleNotFoundError(
        "socketless.aiohttp needs aiohttp: pip install 'socketless[aiohttp]'", name="aiohttp"
    ) from None
from socketless.aiohttp.connector import ASGIApplicationConnector

__all__ = ["ASGIApplicationConnector"]
