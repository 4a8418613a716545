"""`IpcProcess`: an app in a worker process."""

from __future__ import annotations

import atexit
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any

from socketless.errors import StateError, WorkerDied, WorkerStartError, describe_exit
from socketless.host import apps
from socketless.host.exchange import Exchange, begin
from socketless.host.failures import exception_of
from socketless.host.limits import NO_LIMITS, Timeouts, check_body_size
from socketless.host.pool import ChannelPool
from socketless.host.run import LAUNCHERS, Run
from socketless.host.trace import Trace, logger
from socketless.host.upload import NO_UPLOAD, Upload
from socketless.wire.channel import Channel, Pull, PullingSteps, Steps
from socketless.wire.drivers import deadline_after, run_blocking
from socketless.wire.messages import Failed, Message, Reset, Start
from socketless.worker import loading

if TYPE_CHECKING:
    from socketless.websocket import WebSocketSession

__all__ = ["IpcProcess"]


class IpcProcess:
    """An app in a worker process, reached over pipes. It is started at once and is a context manager.

    Any thread may use it, and any number of clients may share it.

    Args:
        app: an import string (``"package.module:attribute"``, ``"package.module:create_app()"``), an app object, or a
            callable that takes no argument and returns the app.
        reset_hook_path: what `reset()` calls in the worker: an import string, or a callable; a coroutine function is
            awaited.
        app_kind: ``"auto"``, ``"wsgi"`` (PEP 3333) or ``"asgi"`` (ASGI 2 and 3).
        startup_timeout: seconds until the app must be loaded and its lifespan started; `None`: for ever.
        start_method: ``"spawn"``, a fresh interpreter that imports the app, or ``"fork"``, a copy of this process,
            which starts faster and takes any app object, but copies the state of this process with it.
        max_connections: how many exchanges there can be at the same time.
        max_restarts: how often a worker that died is replaced, over the life of this object.
        env: environment variables for the worker, added to those of this process.
        shutdown_timeout: seconds that the worker may take to shut its lifespan down before it is killed; `None`: for
            ever.
        max_body_bytes: how large the body of a request or of a response may be; `None`: any size. More is an error,
            `BodyTooLarge`.
        debug: write what happens to `sys.stderr`.

    Raises:
        WorkerStartError: the app cannot be imported, is no app, its lifespan failed, or it took too long.
        TransferError: the app object can be neither imported by the worker nor pickled.
        TypeError, ValueError: an argument is none of its possible values.
        StateError: called at import time by a module that a worker is just importing.
    """

    _closed = True  # guarded by _lock; true until there is something to close

    def __init__(
        self,
        app: str | Callable[..., Any],
        *,
        reset_hook_path: str | Callable[[], Any] | None = None,
        app_kind: str = "auto",
        startup_timeout: float | None = 30.0,
        start_method: str = "spawn",
        max_connections: int = 32,
        max_restarts: int = 1,
        env: Mapping[str, str] | None = None,
        shutdown_timeout: float | None = 5.0,
        max_body_bytes: int | None = None,
        debug: bool = False,
    ) -> None:
        self._lock = threading.Lock()  # taken before the pool's own, never after it
        _check_choice("app_kind", app_kind, loading.KINDS)
        _check_choice("start_method", start_method, tuple(LAUNCHERS))
        if max_connections < 1:
            raise ValueError(f"max_connections must be at least 1, not {max_connections!r}")
        if max_body_bytes is not None and max_body_bytes < 0:
            raise ValueError(f"max_body_bytes must not be negative; None is for no limit, not {max_body_bytes!r}")
        _check_seconds("startup_timeout", startup_timeout)
        _check_seconds("shutdown_timeout", shutdown_timeout)
        if loading.is_loading():
            raise StateError(
                "a worker is importing this module to find its app, and the module starts a worker itself; start it in "
                "a function (a fixture, setUpModule) or under `if __name__ == '__main__':`"
            )
        forked = start_method == "fork"
        self._start_message = Start(
            apps.source_of(app, what="app", forked=forked),
            app_kind,
            None if reset_hook_path is None else apps.source_of(reset_hook_path, what="reset hook", forked=forked),
            list(sys.argv),
            max_body_bytes,
        )
        self._startup_timeout = startup_timeout
        self._start_method = start_method
        self._max_connections = max_connections
        self._max_restarts = max_restarts
        self._max_body_bytes = max_body_bytes
        self._env = env
        self._shutdown_timeout = shutdown_timeout
        self._trace = Trace(debug)
        self._owner_pid = os.getpid()
        self._pool: ChannelPool[Run] = ChannelPool()
        self._run: Run | None = None  # guarded by _lock, like all below
        self._starting = False
        self._restarts = 0
        self._last_end: tuple[int, int | None, str] = (0, None, "")  # pid, exit code and stderr of the worker before
        self._app_kind = ""
        self._closed = False
        _live.add(self)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def description(self) -> str:
        """What it serves, as text for people: the import string, or "the app object"."""
        return self._start_message.app.description

    def __repr__(self) -> str:
        run = self._run
        state = "closed" if self._closed else "ended" if run is None or run.has_ended else f"pid {run.pid}"
        return f"<IpcProcess {self.description}, {self._start_method}, {state}>"

    @property
    def app_kind(self) -> str:
        """``"wsgi"`` or ``"asgi"``."""
        return self._app_kind

    @property
    def max_connections(self) -> int:
        """How many exchanges there can be at the same time."""
        return self._max_connections

    @property
    def pid(self) -> int | None:
        """The process id of the worker; `None` after `close()`. A restart changes it."""
        run = self._run
        return None if run is None else run.pid

    def start(self) -> None:
        """Start the worker again if it has died, whatever `max_restarts` says. Does nothing while it runs or starts.

        Raises:
            WorkerStartError: it could not start.
            StateError: it is closed, or belongs to another process.
        """
        if self._claim_start(None):
            run_blocking(self._start(is_restart=False))

    def reset(self, timeout: float | None = None) -> None:
        """Call the reset hook in the worker and wait for it. Without a hook, does nothing.

        Args:
            timeout: seconds that the hook may take; `None`: for ever.

        Raises:
            Exception: what the hook raised.
            ReadTimeout: it took longer.
            WorkerDied, WorkerStartError, StateError: as of `exchange`.
        """
        self._check_usable()
        if self._start_message.reset_hook is None:
            return
        self._trace("reset")
        answer = run_blocking(self.exchange(Reset(), Timeouts(read=timeout))).answer
        if isinstance(answer, Failed):
            raise exception_of(answer)

    def websocket_connect(
        self, url: str, subprotocols: Sequence[str] | None = None, **options: Any
    ) -> WebSocketSession:
        """Return a session for a WebSocket of the app; entering it connects.

            with worker.websocket_connect("/chat", subprotocols=["chat.v1"]) as session:
                session.send_text("hello")
                assert session.receive_text() == "hello"

        Args:
            url: a path, or a whole URL with ``ws://`` or ``wss://``.
            subprotocols: what the client offers; `session.accepted_subprotocol` is what the app has chosen.
            headers, params, cookies: as of httpx.
            root_path, client: as of `IpcTransport`.
            timeout: seconds for each time that the session waits for the app; `None`: for ever.

        Raises on entering:
            WebSocketDisconnect: the app has closed it instead of accepting it.
            WebSocketDenialResponse: it has answered with an HTTP response.
            Exception: what the app has raised.
            PoolTimeout, ReadTimeout, WorkerDied, StateError: as of `exchange`.
        """
        from socketless.websocket import connect  # it needs httpx

        return connect(self, url, subprotocols, **options)

    def exchange(
        self, message: Message, timeouts: Timeouts = NO_LIMITS, body: Pull | None = None
    ) -> PullingSteps[Exchange]:
        """Send a message to the worker and wait for its first answer; a driver of `socketless.wire.drivers` runs this.

        A worker that has died is started again first. What the worker printed until the answer is printed here before
        it is returned. `body` is where the chunks come from, if the message is a request that says `more_body`.

        Raises:
            PoolTimeout, WriteTimeout, ReadTimeout: one of the time limits has passed.
            WorkerDied: the worker ended before it had answered, or too often. The message is not sent again.
            WorkerStartError: it could not be started again.
            TransferError: the message cannot be pickled; nothing was sent.
            BodyTooLarge: the body is larger than `max_body_bytes`.
            StateError: the worker is closed, or belongs to another process.
        """
        label = getattr(message, "label", type(message).__name__)
        check_body_size(len(getattr(message, "body", b"")), self._max_body_bytes, label)
        upload = NO_UPLOAD if body is None else Upload(label, body, self._max_body_bytes)
        deadline = deadline_after(timeouts.pool)
        self._trace.message(">", label, message)
        while True:
            run, channel = yield from self._check_out(label, deadline)
            exchange = Exchange(self._pool, run, channel, label, timeouts, upload)
            if (yield from begin(exchange, message)) is not None:
                self._trace.message("<", label, exchange.answer)
                return exchange

    def _check_out(self, label: str, deadline: float | None) -> Steps[tuple[Run, Channel]]:
        while True:
            if self._claim_start(label):
                yield from self._start(is_restart=True)
            got = yield from self._pool.check_out(label, deadline)
            if got is not None:
                return got

    def _claim_start(self, label: str | None) -> bool:
        # True: the caller must run _start(). `label` is what needs the worker; for None, max_restarts does not count.
        self._check_usable()
        with self._lock:
            if self._closed:
                raise StateError("the worker has been closed")
            run = self._run
            if self._starting or (run is not None and not run.has_ended):
                return False
            if label is not None and self._restarts >= self._max_restarts:
                what = f"{label}: not started again, after {self._restarts} of max_restarts={self._max_restarts}"
                end = self._last_end if run is None else (run.pid, run.exitcode, run.output.tail())
                raise WorkerDied(what, *end)
            self._starting = True
            self._pool.drain()  # the watcher of the old worker may not have come to it yet
            self._pool.expect()
            return True

    def _start(self, *, is_restart: bool) -> Steps[None]:
        # Must be called after _claim_start().
        began = time.monotonic()
        old, run = self._run, None
        try:
            if old is not None:
                self._trace(f"restart: pid {old.pid} {describe_exit(old.exitcode)}\n{old.output.tail()}".rstrip())
                self._last_end = old.pid, old.exitcode, old.output.tail()
                old.stop(0)
            run = self._launch()
            self._app_kind = yield from run.handshake(self._start_message, self._startup_timeout)
            self._trace(f"ready: {self._app_kind} app, after {time.monotonic() - began:.3f} s")
            with self._lock:
                if self._closed:
                    raise StateError("the worker has been closed while it was starting")
                self._starting = False
                self._restarts += is_restart
                if run.has_ended:
                    self._pool.drain()
                else:
                    self._pool.fill(run, run.channels)
        except BaseException as error:
            if run is None and self._run is not old:
                run = self._run  # launched, and then something failed
            if run is not None:
                run.stop(self._shutdown_timeout)
                run.close_channels()
            with self._lock:
                self._run, self._starting = None, False
                # A task that was cancelled, or a Ctrl-C, has not tried it.
                self._restarts += is_restart and isinstance(error, WorkerStartError)
                self._pool.drain()
            raise
        run.output.forward()  # it may raise, and the worker is ready all the same

    def _launch(self) -> Run:
        try:
            run = Run.launch(self._start_method, self._start_message, self._max_connections, self._env)
        except OSError as error:
            raise WorkerStartError(f"the worker's process could not be started: {error}") from error
        with self._lock:
            self._run = run
        run.watch(_weak_callback(self, run))
        self._trace(f"started {self.description} by {self._start_method} (pid {run.pid})")
        return run

    def _on_end(self, run: Run) -> None:
        # Runs in the thread socketless-watch-PID.
        with self._lock:
            if self._run is run and not self._starting:  # or somebody was faster
                self._pool.drain()

    def close(self) -> None:
        """Stop the worker: it shuts its lifespan down, and is killed after `shutdown_timeout` seconds.

        No process, thread or file descriptor is left. Requests in flight get `WorkerDied`. May be called twice.
        """
        if os.getpid() != self._owner_pid:
            self._closed = True  # forked: the worker is the parent's, and the lock may be locked for ever
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            run, self._run = self._run, None
        _live.discard(self)
        if run is not None:
            self._trace(f"stopping (pid {run.pid})")
            run.stop(self._shutdown_timeout)
        self._pool.drain()

    def __reduce__(self) -> Any:
        raise TypeError("an IpcProcess cannot be copied or pickled; it holds a process and its pipes")

    def __enter__(self) -> IpcProcess:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed and os.getpid() == self._owner_pid:
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            finally:
                self.close()

    def _check_usable(self) -> None:
        if os.getpid() != self._owner_pid:
            raise StateError(
                f"this worker belongs to process {self._owner_pid}, and this is a fork of it ({os.getpid()}); "
                "start a worker of its own here"
            )


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, not {value!r}")


def _check_seconds(name: str, value: float | None) -> None:
    if value is not None and not (isinstance(value, (int, float)) and value >= 0):
        raise ValueError(f"{name} must be a number of seconds, or None for ever, not {value!r}")


def _weak_callback(process: IpcProcess, run: Run) -> Callable[[], None]:
    # The thread that watches a worker must not keep its owner from being dropped.
    reference = weakref.ref(process)

    def on_end() -> None:
        owner = reference()
        if owner is not None:
            owner._on_end(run)

    return on_end


_live: weakref.WeakSet[IpcProcess] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    # A worker would notice the end of this process by itself, but then it may not take its time to leave.
    for process in list(_live):
        try:
            process.close()
        except Exception:
            logger.exception("%r could not be closed", process)
