"""Where the app of an `AsyncTestClient` runs."""

from __future__ import annotations

from typing import Any

from anyio import to_thread

from socketless._host.app_source import local_source_of
from socketless._host.arguments import AppKind, Backend
from socketless._host.failures import error_of_app
from socketless._host.worker import Worker
from socketless._inloop.app import InLoop
from socketless._inloop.exchange import LEAVE_SECONDS
from socketless._testclient.sources import Source, source_of
from socketless._wire.import_strings import LoadError
from socketless._worker.lifespan import LifespanError
from socketless._worker.loading import load_app
from socketless.errors import StateError, WorkerStartError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


class AsyncSource:
    """Where the worker comes from, or what stands for it. It knows nothing of the client, which can be dropped."""

    first: Any  # what can be asked for the kind of the app, before it runs

    @property
    def app(self) -> Any:
        return self.first.app

    @property
    def worker(self) -> Worker:
        raise NotImplementedError

    async def get(self) -> Any:
        """Return what answers, which is started if need be."""
        raise NotImplementedError

    async def enter(self) -> None:
        """Begin an `async with` block."""
        raise NotImplementedError

    async def leave(self) -> None:
        """End it."""
        raise NotImplementedError

    async def close(self) -> None:
        """End what was started."""
        raise NotImplementedError


def async_source_of(
    app: Any, state: dict[str, Any], app_kind: AppKind, backend: Backend | None, backend_options: dict[str, Any] | None
) -> AsyncSource:
    """Return where an app runs: one that is an ASGI app object on the loop of the test, others in a worker.

    Raises:
        TypeError: it is no app; or one that has options for another loop.
    """
    options = {"backend": backend or "asyncio", "backend_options": backend_options, "app_kind": app_kind}
    if not callable(app) or isinstance(app, Worker):
        return _InWorker(source_of(app, state, options))
    try:
        app, kind = load_app(local_source_of(app, what="app"), app_kind)
    except LoadError as error:
        raise TypeError(str(error)) from None
    if kind == "wsgi":
        return _InWorker(source_of(app, state, {**options, "app_kind": "wsgi"}))
    if backend is not None or backend_options is not None:
        raise TypeError(
            "an ASGI app object runs on the event loop of the test: backend and backend_options are for the worker "
            "process of an import string"
        )
    return _InLoop(InLoop(app, kind, state=state, needs_lifespan=True))


class _InLoop(AsyncSource):
    """An app on the loop of the test."""

    def __init__(self, in_loop: InLoop) -> None:
        self.first = self._in_loop = in_loop

    @property
    def worker(self) -> Worker:
        raise StateError("there is no worker, as the app runs on the event loop of the test: call functions directly")

    async def get(self) -> InLoop:
        return self._in_loop

    async def enter(self) -> None:
        try:
            await self._in_loop.start_up()
        except LifespanError as error:
            raise WorkerStartError(f"the app could not start: {error}") from error.__cause__

    async def leave(self) -> None:
        try:
            await self._in_loop.shut_down(LEAVE_SECONDS)
        except LifespanError as failed:
            error = error_of_app(failed)
        else:
            return
        raise error

    close = leave


class _InWorker(AsyncSource):
    """A worker, of threads or a process: threads wait for its start and its end."""

    def __init__(self, source: Source) -> None:
        self.first = self._source = source
        self._worker: Worker | None = None  # while it runs, as far as is known

    @property
    def worker(self) -> Worker:
        return self._source.get()

    async def get(self) -> Worker:
        if self._worker is None:
            self._worker = await to_thread.run_sync(self._source.get)
        return self._worker

    async def enter(self) -> None:
        await to_thread.run_sync(self._source.enter)
        self._worker = None

    async def leave(self) -> None:
        self._worker = None
        await to_thread.run_sync(self._source.leave)

    async def close(self) -> None:
        self._worker = None
        await to_thread.run_sync(self._source.close)
