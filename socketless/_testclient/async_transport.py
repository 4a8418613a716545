"""The transport of an `AsyncTestClient`."""

from __future__ import annotations

from typing import Any

from socketless._httpx.transport import IpcAsyncTransport
from socketless._testclient.async_sources import AsyncSource
from socketless._testclient.transport import Lenient
from socketless.websocket import AsyncWebSocketSession

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


class AsyncTestTransport(Lenient, IpcAsyncTransport):
    """A `TestTransport` for an async client, whose worker is to be waited for."""

    __test__ = False

    def __init__(self, source: AsyncSource, **options: Any) -> None:
        super().__init__(source.first, **options)
        self._source = source

    async def handle_async_request(self, request: Any) -> Any:
        """Carry a request to the app and return its response; see `TestTransport.handle_request`.

        Raises:
            Connected: it asks for a session.
        """
        self.worker = await self._source.get()
        self.connect(request, AsyncWebSocketSession)
        return await super().handle_async_request(request)
