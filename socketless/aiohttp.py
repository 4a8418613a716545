"""A connector for aiohttp's `ClientSession` that sends the requests to an app instead of the network.

    from socketless.aiohttp import ASGIApplicationConnector

    async with ASGIApplicationConnector(app) as connector:
        async with ClientSession("http://testserver", connector=connector) as session:
            response = await session.get("/")

aiohttp's own pool, timeouts, parser and writer stay in use; only the connections are replaced.
"""

from __future__ import annotations

from socketless._extras import require

require("aiohttp", "aiohttp", by=__name__)

from socketless._aiohttp.connector import ASGIApplicationConnector  # noqa: E402

__all__ = ["ASGIApplicationConnector"]
