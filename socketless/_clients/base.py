"""What the transports of httpx and the adapter of requests have in common."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any
from weakref import WeakSet

from socketless._clients.response import ResponseStream
from socketless._host.arguments import check_worker
from socketless._host.worker import Worker
from socketless._locks import make_lock
from socketless._wire.drivers import run_blocking
from socketless._wire.steps import Pull

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


class Carrier:
    """The options of `IpcTransport`, `IpcAsyncTransport` and `IpcAdapter`, and the responses that are still open."""

    def __init__(
        self,
        worker: Worker,
        *,
        raise_app_exceptions: bool = True,
        root_path: str = "",
        client: tuple[str, int] = ("127.0.0.1", 123),
    ) -> None:
        check_worker(worker, f"{type(self).__name__}({{}})")
        self.worker = worker
        self.raise_app_exceptions = raise_app_exceptions
        self.root_path = root_path
        self.client = client
        self._lock = make_lock()
        self._open: WeakSet[ResponseStream] = WeakSet()  # guarded by _lock; responses not at their end

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.worker!r}>"

    def _keep(self, body: ResponseStream) -> None:
        with self._lock:
            self._open.add(body)

    def _open_bodies(self) -> list[ResponseStream]:
        with self._lock:
            return list(self._open)

    def _close_all(self) -> None:
        with ExitStack() as stack:  # closes all, whatever one of them raises
            for body in self._open_bodies():
                stack.callback(close_body, body)


def close_body(body: ResponseStream) -> None:
    """End a response that may still be coming: its app is told that the client has gone."""
    run_blocking(body.cancel())
    run_blocking(body.finish())


class RequestBody(Pull):
    """A request's body that is streamed. `sources` are what it comes from, beside the iterator `chunks` itself."""

    def __init__(self, chunks: Any, *sources: Any) -> None:
        super().__init__(chunks)
        self._generators: list[Any] = [
            each for each in (chunks, *sources) if inspect.isgenerator(each) or inspect.isasyncgen(each)
        ]

    def close(self) -> None:
        """Close what the app has not read to its end."""
        for generator in self._generators:
            with suppress(ValueError):  # it is running, in another thread
                generator.close()

    async def aclose(self) -> None:
        """Close what the app has not read to its end."""
        for generator in self._generators:
            with suppress(RuntimeError):  # it is running, in another task
                await generator.aclose()


def chunks_of(body: ResponseStream) -> Iterator[bytes]:
    """Wait for one chunk after the other, until the response's end."""
    while (chunk := run_blocking(body.next_chunk())) is not None:
        yield chunk
