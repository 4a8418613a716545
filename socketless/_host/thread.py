"""`IpcThread`: an app in a worker of threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from weakref import WeakSet

from socketless._host.app_source import local_source_of
from socketless._host.arguments import (
    AppKind,
    Backend,
    LifespanMode,
    argv_of_host,
    check_common,
    lifespan_mode,
    newer_name,
)
from socketless._host.exchange import Exchange
from socketless._host.lifetime import Run
from socketless._host.thread_run import ThreadRun
from socketless._host.worker import Worker
from socketless._locks import make_lock
from socketless._wire.messages import Result, Start
from socketless.errors import StateError, WorkerStartError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["IpcThread"]


class IpcThread(Worker):
    """An app in a worker on threads of this process, reached over pipes.

    Creating the object starts the worker; as a context manager, it stops it at the end of the block. The app object is
    the test's own, so closures, monkeypatches, `dependency_overrides` and a database in memory take effect, and the
    test sees what the app raises, prints and logs. A request runs in a copy of the context (`contextvars`) of the code
    that sends it. Any thread may use the worker, and any number of clients may share it. It calls
    `socketless.eventloop.install()`.

    Args:
        app: an app object, a callable that takes no argument and returns one, or an import string.
        reset_hook: the function that `reset()` calls in the worker, as an import string or a callable. A coroutine
            function is awaited.
        app_kind: ``"auto"``, ``"wsgi"`` (PEP 3333) or ``"asgi"`` (ASGI 2 and 3).
        startup_timeout: seconds that the app may take to load and to start its lifespan; `None`: no limit. A thread
            that hangs longer cannot be killed, and stays.
        max_connections: how many exchanges can be in progress at the same time; `None`: as many as are needed.
        shutdown_timeout: seconds that `close()` waits for the app; one that hangs goes on after that. `None`: no limit.
        max_restarts: how many times threads that have ended are replaced (an app may stop its own event loop); counted
            as for `IpcProcess`.
        max_body_bytes, lifespan: see `IpcProcess`.
        state: the lifespan state; the scope of every request gets a copy of it. `None`: a new one.
        backend, backend_options: see `IpcProcess`.
        debug: whether to write a trace of what happens to `sys.stderr`.
        reset_hook_path: the older name of `reset_hook`.

    Raises:
        WorkerStartError: the app cannot be imported, is not an app, its lifespan failed, or it took too long.
        TypeError, ValueError: an argument has an invalid value.
    """

    def __init__(
        self,
        app: str | Callable[..., Any],
        *,
        reset_hook: str | Callable[[], Any] | None = None,
        app_kind: AppKind = "auto",
        startup_timeout: float | None = 30.0,
        max_connections: int | None = None,
        shutdown_timeout: float | None = 5.0,
        max_restarts: int = 1,
        max_body_bytes: int | None = None,
        lifespan: bool | LifespanMode = True,
        state: dict[str, Any] | None = None,
        backend: Backend = "asyncio",
        backend_options: Mapping[str, Any] | None = None,
        debug: bool = False,
        reset_hook_path: str | Callable[[], Any] | None = None,
    ) -> None:
        check_common(
            app_kind=app_kind,
            backend=backend,
            backend_options=backend_options,
            max_connections=max_connections,
            max_restarts=max_restarts,
            max_body_bytes=max_body_bytes,
        )
        reset_hook = newer_name("reset_hook", reset_hook, "reset_hook_path", reset_hook_path)
        start = Start(
            local_source_of(app, what="app"),
            app_kind,
            None if reset_hook is None else local_source_of(reset_hook, what="reset hook"),
            argv_of_host(),
            max_body_bytes,
            lifespan=lifespan_mode(lifespan),
            state=state,
            backend=backend,
            backend_options=dict(backend_options or {}),
            debug=debug,
        )
        self._open_lock = make_lock()
        self._open: WeakSet[Exchange] = WeakSet()  # guarded by _open_lock; exchanges that were not over at their answer
        super().__init__(
            start,
            startup_timeout=startup_timeout,
            shutdown_timeout=shutdown_timeout,
            max_connections=max_connections,
            max_restarts=max_restarts,
            debug=debug,
        )

    @property
    def app(self) -> Any:
        """The app itself.

        Raises:
            StateError: the worker is closed.
        """
        run = self._run
        if not isinstance(run, ThreadRun):
            raise StateError("the worker has been closed")
        return run.app

    def _launch(self) -> Run:
        try:
            return ThreadRun(self._start_message)
        except (OSError, RuntimeError) as error:  # no descriptor, or no thread, is to be had
            raise WorkerStartError(f"the worker's thread could not be started: {error}") from error

    def _describe(self, run: Run | None) -> str:
        return "threads"

    def _stop(self, run: Run, timeout: float | None) -> None:
        assert isinstance(run, ThreadRun)
        run.announce_end()
        self._pool.retire()  # which ends the threads of the worker that wait for a request
        with self._open_lock:
            exchanges = list(self._open)
        for exchange in exchanges:  # and these, those that wait for a client that does not read
            exchange.on_stop()
        super()._stop(run, timeout)

    def _on_answer(self, exchange: Exchange) -> None:
        if not exchange.is_over:
            with self._open_lock:
                self._open.add(exchange)
            if self._closed:  # just now
                exchange.on_stop()

    def _work(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Callable[[], Any] | bytes:
        return partial(function, *args, **kwargs)

    def _result(self, result: Result) -> Any:
        return result.value

    def __del__(self) -> None:
        # Without close(), which waits: the threads end as nobody has the run any more.
        if not self._closed and os.getpid() == self._owner_pid:
            self._warn_unclosed()
