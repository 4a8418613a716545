"""`IpcProcess`: an app in a worker process."""

from __future__ import annotations

import errno
import weakref
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from socketless._host import app_source
from socketless._host.arguments import (
    AppKind,
    Backend,
    Env,
    LifespanMode,
    StartMethod,
    argv_of_host,
    check_choice,
    check_common,
    check_env,
    lifespan_mode,
    newer_name,
)
from socketless._host.lifetime import Run
from socketless._host.limits import Timeouts
from socketless._host.pickled_call import pickled_call
from socketless._host.process_run import LAUNCHERS, ProcessRun
from socketless._host.worker import Worker
from socketless._wire import apps
from socketless._wire.messages import Call, ImportSource, Result, Start
from socketless._wire.pickling import loads
from socketless._wire.spinning import may_spin
from socketless.errors import SocketlessError, StateError, TransferError, WorkerStartError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["IpcProcess"]

WORKERS_APP = apps.WorkersApp()
_PATIENCE = Timeouts(1.0, 1.0, 1.0)  # with a worker that may be busy


class IpcProcess(Worker):
    """An app in a worker process, reached over pipes.

    Creating the object starts the process; as a context manager, it stops it at the end of the block. Any thread may
    use it, and any number of clients may share it.

    Args:
        app: an import string (``"package.module:attribute"``, ``"package.module:create_app()"``), an app object, or a
            callable that takes no argument and returns the app.
        reset_hook: the function that `reset()` calls in the worker, as an import string or a callable. A coroutine
            function is awaited.
        app_kind: ``"auto"``, ``"wsgi"`` (PEP 3333) or ``"asgi"`` (ASGI 2 and 3).
        startup_timeout: seconds that the app may take to load and to start its lifespan; `None`: no limit.
        start_method: ``"spawn"`` starts a fresh interpreter that imports the app; ``"fork"`` copies this process, with
            all its state: it starts faster and takes any app object.
        max_connections: how many exchanges can be in progress at the same time.
        max_restarts: how many times a worker that died is replaced, in all. Workers of the pytest plugin and of
            `SocketlessTestCase` begin to count anew with each test.
        env: environment variables for the worker, in addition to those of this process; a value of `None` removes the
            variable.
        shutdown_timeout: seconds that the worker may take to shut its lifespan down before it is killed; `None`: no
            limit.
        max_body_bytes: how many bytes the body of a request or of a response may have; `None`: any number. A larger
            body is an error, `BodyTooLarge`.
        lifespan: `True` or ``"auto"`` runs the lifespan of an ASGI app, and goes on without it if the app raises there;
            with ``"on"``, such an app cannot start; `False` or ``"off"`` does not run it.
        backend: the async library that an ASGI app runs on, ``"asyncio"`` or ``"trio"``.
        backend_options: anyio's options for that backend, for example ``{"debug": True}``.
        debug: whether to write a trace of what happens to `sys.stderr`.
        reset_hook_path: the older name of `reset_hook`.

    Raises:
        WorkerStartError: the app cannot be imported, is not an app, its lifespan failed, or it took too long.
        TransferError: the worker cannot import the app object, and it cannot be pickled.
        TypeError, ValueError: an argument has an invalid value.
        StateError: the call is at the top level of a module that a worker is importing.
    """

    def __init__(
        self,
        app: str | Callable[..., Any],
        *,
        reset_hook: str | Callable[[], Any] | None = None,
        app_kind: AppKind = "auto",
        startup_timeout: float | None = 30.0,
        start_method: StartMethod = "spawn",
        max_connections: int = 32,
        max_restarts: int = 1,
        env: Env | None = None,
        shutdown_timeout: float | None = 5.0,
        max_body_bytes: int | None = None,
        lifespan: bool | LifespanMode = True,
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
        check_choice("start_method", start_method, tuple(LAUNCHERS))
        check_env(env)
        reset_hook = newer_name("reset_hook", reset_hook, "reset_hook_path", reset_hook_path)
        if max_connections is None:
            raise ValueError("max_connections must be a number: the pipes of a process are made before it starts")
        if apps.is_loading():
            raise StateError(
                "a worker is importing this module to find its app, and the module starts a worker itself; start it in "
                "a function (a fixture, setUpModule) or under `if __name__ == '__main__':`"
            )
        self._start_method = start_method
        self._env = env
        self._channels = max_connections
        forked = start_method == "fork"
        start = Start(
            app_source.source_of(app, what="app", forked=forked),
            app_kind,
            None if reset_hook is None else app_source.source_of(reset_hook, what="reset hook", forked=forked),
            argv_of_host(),
            max_body_bytes,
            lifespan=lifespan_mode(lifespan),
            backend=backend,
            backend_options=dict(backend_options or {}),
            debug=debug,
            spins=may_spin(),
        )
        super().__init__(
            start,
            startup_timeout=startup_timeout,
            shutdown_timeout=shutdown_timeout,
            max_connections=max_connections,
            max_restarts=max_restarts,
            debug=debug,
        )

    @property
    def pid(self) -> int | None:
        """The process id of the worker; `None` after `close()`. A restart changes it."""
        run = self._run
        return None if run is None else run.pid

    @property
    def _proc(self) -> ProcessRun | None:
        """The process itself, for tests that kill it; the tests of the package socketless-http know it by this name.

        It has of `subprocess.Popen` what they call: `pid`, `poll()`, `wait()` and `kill()`. A restart changes it.
        """
        run = self._run
        assert run is None or isinstance(run, ProcessRun)
        return run

    @property
    def app(self) -> Any:
        """A stand-in for the app as an argument of `run()`: the function that is called there gets the app itself."""
        return WORKERS_APP

    def _enter(self, function: Callable[[], object]) -> None:
        # Let the worker call a function, now and, when it is started again, before it loads the app.
        self._start_message = replace(self._start_message, prepare=function)
        self.run(function)

    def _leave(self, function: Callable[[], object]) -> None:
        # Let it call this one instead, now, if it lives and has time.
        self._start_message, run = replace(self._start_message, prepare=None), self._run
        if run is not None and not run.has_ended:
            with suppress(SocketlessError):
                self.exchange_blocking(Call(self._work(function, (), {}), "leaving the switch"), _PATIENCE)

    def _launch(self) -> Run:
        try:
            run = ProcessRun.launch(self._start_method, self._start_message, self._channels, self._env)
        except OSError as error:
            hint = ""
            if error.errno in (errno.EMFILE, errno.ENFILE):
                hint = f"; it needs 4 for each of its {self._channels} channels: give it fewer with max_connections"
            raise WorkerStartError(f"the worker's process could not be started: {error}{hint}") from error
        with self._lock:
            self._run = run
        try:
            run.watch(_weak_callback(self, run))
        except RuntimeError as error:  # no thread is to be had
            raise WorkerStartError(f"the worker's process was ended, as no thread can watch it: {error}") from error
        return run

    def _describe(self, run: Run | None) -> str:
        return self._start_method if run is None else f"{self._start_method}, pid {run.pid}"

    def _work(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Callable[[], Any] | bytes:
        source = self._start_message.app
        app_module = source.path.partition(":")[0] if isinstance(source, ImportSource) else None
        return pickled_call(function, args, kwargs, app_module)

    def _result(self, result: Result) -> Any:
        try:
            return loads(result.value)
        except Exception as error:
            raise TransferError(f"the result cannot be rebuilt here: {type(error).__name__}: {error}") from error


def _weak_callback(process: IpcProcess, run: ProcessRun) -> Callable[[], None]:
    # The thread that watches a worker must not keep its owner from being dropped.
    reference = weakref.ref(process)

    def on_end() -> None:
        owner = reference()
        if owner is not None:
            owner._on_end(run)

    return on_end
