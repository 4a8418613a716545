"""Every client library behind one small interface, so that one list of checks runs on all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import httpx
import httpx2
import trio

from socketless import IpcAsyncTransport, IpcProcess, IpcTransport

BASE_URL = "http://testserver"


class Client(Protocol):
    """What a check may do."""

    library: Any  # the module that the error classes come from

    def request(self, method: str, url: str, **options: Any) -> Any: ...
    def configure(self, **options: Any) -> Client: ...


class SyncClient:
    """`httpx.Client` or `httpx2.Client`."""

    def __init__(self, library: Any, worker: IpcProcess, **transport_options: Any) -> None:
        self.library, self.worker = library, worker
        self._transport = IpcTransport(worker, **transport_options)

    def configure(self, **options: Any) -> SyncClient:
        return SyncClient(self.library, self.worker, **options)

    def request(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Any:
        with self.library.Client(transport=self._transport, base_url=base_url, timeout=None) as client:
            return client.request(method, url, **options)


class AsyncClient:
    """`httpx.AsyncClient` or `httpx2.AsyncClient`, on a loop of its own for each request."""

    def __init__(self, library: Any, run: Callable[..., Any], worker: IpcProcess, **transport_options: Any) -> None:
        self.library, self.worker, self._run = library, worker, run
        self._transport = IpcAsyncTransport(worker, **transport_options)

    def configure(self, **options: Any) -> AsyncClient:
        return AsyncClient(self.library, self._run, self.worker, **options)

    def request(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Any:
        async def send() -> Any:
            async with self.library.AsyncClient(transport=self._transport, base_url=base_url, timeout=None) as client:
                return await client.request(method, url, **options)

        return self._run(send)


def run_asyncio(function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(function())


CLIENTS: dict[str, Callable[[IpcProcess], Client]] = {
    "httpx": lambda worker: SyncClient(httpx, worker),
    "httpx2": lambda worker: SyncClient(httpx2, worker),
    "httpx-asyncio": lambda worker: AsyncClient(httpx, run_asyncio, worker),
    "httpx2-asyncio": lambda worker: AsyncClient(httpx2, run_asyncio, worker),
    "httpx-trio": lambda worker: AsyncClient(httpx, trio.run, worker),
}
