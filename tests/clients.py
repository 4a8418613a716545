"""Every client library behind one small interface, so that one list of checks runs on all of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Protocol

import anyio.lowlevel
import httpx
import httpx2
import trio
from anyio.from_thread import start_blocking_portal

from aiohttp_client import LACKS, AiohttpClient
from socketless import IpcAsyncTransport, IpcTransport
from socketless.host.worker import Worker
from support import LIMIT

BASE_URL = "http://testserver"


class Stream:
    """A response that is still coming, in the same words for sync and async clients."""

    def __init__(self, client: Any, response: Any, call: Callable[..., Any] | None = None) -> None:
        self.status, self.headers, self.extensions = response.status_code, response.headers, response.extensions
        self._client, self._response, self._call = client, response, call
        self._iterators: list[Any] = []  # an async one that is dropped before its end makes trio complain
        self.chunks: Iterator[bytes] = self.iterate("raw")

    def iterate(self, what: str) -> Iterator[Any]:
        """Iterate over the response's "raw" chunks, its "lines" or whatever httpx has an `iter_` for."""
        if self._call is None:
            yield from getattr(self._response, f"iter_{what}")()
            return
        iterator = getattr(self._response, f"aiter_{what}")()
        self._iterators.append(iterator)

        async def step() -> Any:
            return await anext(iterator, None)

        while (item := self._call(step)) is not None:
            yield item

    def close(self) -> None:
        """Close the response."""
        self._response.close() if self._call is None else self._call(self._response.aclose)

    def close_client(self) -> None:
        """Close the client that the response is of."""
        self._client.close() if self._call is None else self._call(self._client.aclose)


class Client(Protocol):
    """What a check may do. `options` are those of httpx; the time limits are generous, unless it gives others."""

    library: Any  # the module that the error classes come from
    worker: Worker

    def request(self, method: str, url: str, **options: Any) -> Any: ...
    def stream(self, method: str, url: str, **options: Any) -> AbstractContextManager[Stream]: ...
    def body(self, chunks: Iterable[Any]) -> Any:
        """Make of chunks what the client takes as `content`."""

    def configure(self, **options: Any) -> Client: ...


class SyncClient:
    """`httpx.Client` or `httpx2.Client`."""

    def __init__(self, library: Any, worker: Worker, **transport_options: Any) -> None:
        self.library, self.worker = library, worker
        self._transport_options = transport_options

    def configure(self, **options: Any) -> SyncClient:
        return SyncClient(self.library, self.worker, **options)

    def _open(self, base_url: str) -> Any:
        transport = IpcTransport(self.worker, **self._transport_options)
        return self.library.Client(transport=transport, base_url=base_url, timeout=LIMIT)

    def request(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Any:
        with self._open(base_url) as client:
            return client.request(method, url, **options)

    @contextmanager
    def stream(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Iterator[Stream]:
        with self._open(base_url) as client, client.stream(method, url, **options) as response:
            yield Stream(client, response)

    def body(self, chunks: Iterable[Any]) -> Iterable[Any]:
        return chunks


class AsyncClient:
    """`httpx.AsyncClient` or `httpx2.AsyncClient`, on a loop of its own for each request.

    The loop of a stream runs in a thread for as long as the stream is open.
    """

    def __init__(self, library: Any, backend: str, worker: Worker, **transport_options: Any) -> None:
        self.library, self.worker, self._backend = library, worker, backend
        self._transport_options = transport_options

    def configure(self, **options: Any) -> AsyncClient:
        return AsyncClient(self.library, self._backend, self.worker, **options)

    def _open(self, base_url: str) -> Any:
        transport = IpcAsyncTransport(self.worker, **self._transport_options)
        return self.library.AsyncClient(transport=transport, base_url=base_url, timeout=LIMIT)

    def request(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Any:
        async def send() -> Any:
            async with self._open(base_url) as client:
                return await client.request(method, url, **options)

        return RUN[self._backend](send)

    @contextmanager
    def stream(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Iterator[Stream]:
        with (
            start_blocking_portal(self._backend) as portal,
            portal.wrap_async_context_manager(self._open(base_url)) as client,
            portal.wrap_async_context_manager(client.stream(method, url, **options)) as response,
        ):
            yield Stream(client, response, portal.call)

    async def body(self, chunks: Iterable[Any]) -> AsyncIterator[Any]:
        for chunk in chunks:
            await anyio.lowlevel.checkpoint()
            yield chunk


def run_asyncio(function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(function())


RUN: dict[str, Callable[..., Any]] = {"asyncio": run_asyncio, "trio": trio.run}

CLIENTS: dict[str, Callable[[Worker], Client]] = {
    "httpx": lambda worker: SyncClient(httpx, worker),
    "httpx2": lambda worker: SyncClient(httpx2, worker),
    "httpx-asyncio": lambda worker: AsyncClient(httpx, "asyncio", worker),
    "httpx2-asyncio": lambda worker: AsyncClient(httpx2, "asyncio", worker),
    "httpx-trio": lambda worker: AsyncClient(httpx, "trio", worker),
    "aiohttp": AiohttpClient,
}


def can(name: str, check: Callable[[Client], None]) -> bool:
    """Return whether a check can hold for a client."""
    return name != "aiohttp" or check.__name__ not in LACKS
