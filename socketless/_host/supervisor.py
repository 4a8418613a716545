"""The lives of a worker, one after the other: how it is started, restarted when it has died, and stopped.

Each life is a `Run`, and there is at most one at a time. Any thread or task that needs the worker may find that it has
died. The first of them claims the start of the next life; the others wait for its channels in the pool.
"""

from __future__ import annotations

import os
import signal
import warnings
from textwrap import indent
from types import TracebackType
from typing import TYPE_CHECKING, Any

from socketless._genuine import monotonic
from socketless._host.arguments import check_seconds
from socketless._host.lifetime import Run
from socketless._host.live import live
from socketless._host.pool import ChannelPool, Lease
from socketless._host.trace import Trace
from socketless._locks import make_lock
from socketless._wire.drivers import deadline_after, run_blocking
from socketless._wire.messages import Start
from socketless._wire.steps import Steps
from socketless.errors import StateError, WorkerDied, WorkerStartError, describe_exit

if TYPE_CHECKING:
    from typing_extensions import Self

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


class Supervisor:
    """Starts a worker, restarts it, and stops it. Subclasses say what it is asked to do, and how one is launched."""

    _closed = True  # guarded by _lock; true until there is something to close
    _is_owned = False  # by a client that it goes with
    _run: Run | None = None  # guarded by _lock

    def __init__(
        self,
        start: Start,
        *,
        startup_timeout: float | None,
        shutdown_timeout: float | None,
        max_connections: int | None,
        max_restarts: int,
        debug: bool,
    ) -> None:
        self._lock = make_lock()  # taken before the pool's own, never after it
        check_seconds("startup_timeout", startup_timeout)
        check_seconds("shutdown_timeout", shutdown_timeout)
        self._start_message = start
        self._startup_timeout = startup_timeout
        self._shutdown_timeout = shutdown_timeout
        self._max_connections = max_connections
        self._max_restarts = max_restarts
        self._trace = Trace(debug)
        self._owner_pid = os.getpid()
        self._pool: ChannelPool[Run] = ChannelPool(max_connections)
        # Written by who has claimed the start: pid, exit code and stderr of the worker before, and the kind of the app.
        self._last_end: tuple[int | None, int | None, str] = (None, None, "")
        self._app_kind = ""
        self._starting = False  # guarded by _lock, like all below
        self._restarts = 0
        self._closed = False
        live.add(self)
        try:
            self.start()
        except BaseException:
            self.close()
            raise

    @property
    def description(self) -> str:
        """What the worker serves, in words: the import string, or "the app object"."""
        return self._start_message.app.description

    def __repr__(self) -> str:
        run = self._run
        state = ", closed" if self._closed else ", ended" if run is None or run.has_ended else ""
        return f"<{type(self).__name__} {self.description}, {self._describe(None if state else run)}{state}>"

    def _describe(self, run: Run | None) -> str:
        """Say in a few words where it runs."""
        raise NotImplementedError

    @property
    def app_kind(self) -> str:
        """``"wsgi"`` or ``"asgi"``."""
        return self._app_kind

    def start(self) -> None:
        """Restart the worker if it has died, regardless of `max_restarts`. While it runs or starts, do nothing.

        Raises:
            WorkerStartError: the worker could not start.
            StateError: the worker is closed, or this process is a fork of the one that it belongs to.
        """
        if self._claim_start(None):
            run_blocking(self._start(is_restart=False))

    def _check_out(self, lease: Lease[Run], deadline: float | None) -> Steps[None]:
        """Wait for a free channel of a worker that lives; one that has died is restarted first.

        Raises:
            PoolTimeout: no channel was free before the deadline.
            WorkerDied: `max_restarts` is used up.
            WorkerStartError, StateError: see `start()`.
        """
        is_done = False
        while not is_done:
            if self._claim_start(lease.label):
                yield from self._start(is_restart=True)
            is_done = self._pool.take(lease)
            if not is_done:
                yield from self._replace_lost()
                is_done = yield from self._pool.check_out(lease, deadline)

    def _replace_lost(self) -> Steps[None]:
        run = self._pool.claim_replacement()
        if run is None:
            return
        try:
            channel = yield from run.another_channel()
        except BaseException:  # a task that was cancelled, Ctrl-C: the next one tries it
            self._pool.unclaim()
            raise
        self._pool.replace(run, channel)
        if not self._pool.has_channels:
            run.kill(signal.SIGKILL)  # then it is started again

    def _count_anew(self) -> None:
        """Forget the restarts that count for `max_restarts`."""
        with self._lock:
            self._restarts = 0

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
            self._pool.clear()  # the watcher of the old worker may not have come to it yet
            self._pool.expect()
            return True

    def _start(self, *, is_restart: bool) -> Steps[None]:
        # Must be called after _claim_start().
        began = monotonic()
        old, run = self._run, None
        try:
            if old is not None:
                tail = indent(old.output.tail(), "    | ")
                who = "the threads" if old.pid is None else f"pid {old.pid}"
                self._trace(f"restart: {who} {describe_exit(old.exitcode)}\n{tail}".rstrip())
                self._last_end = old.pid, old.exitcode, old.output.tail()
                old.stop(0)
            run = self._launch()
            with self._lock:
                self._run = run
            self._trace(f"started {self.description}: {self._describe(run)}")
            self._app_kind = yield from run.handshake(self._start_message, self._startup_timeout)
            self._trace(f"ready: {self._app_kind} app, after {monotonic() - began:.3f} s")
            with self._lock:
                if self._closed:
                    raise StateError("the worker has been closed while it was starting")
                self._starting = False
                self._restarts += is_restart
                if run.has_ended:
                    self._pool.clear()
                else:
                    self._pool.fill(run, run.channels, run.open_channel)
        except BaseException as error:
            if run is None and self._run is not old:
                run = self._run  # launched, and then something failed
            if run is not None:
                run.stop(self._shutdown_timeout)
                for channel in run.channels:
                    channel.close()
            with self._lock:
                self._run, self._starting = None, False
                # A task that was cancelled, or a Ctrl-C, has not tried it.
                self._restarts += is_restart and isinstance(error, WorkerStartError)
                self._pool.clear()
            raise
        run.output.forward()  # it may raise, and the worker is ready all the same

    def _launch(self) -> Run:
        """Start a worker; its handshake comes next.

        Raises:
            WorkerStartError: it could not be started.
        """
        raise NotImplementedError

    def _on_end(self, run: Run) -> None:
        """Take notice that a worker has ended. Any thread may call it."""
        with self._lock:
            if self._run is run and not self._starting:  # or somebody was faster
                self._pool.clear()

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until the app has finished all work for requests that are answered or were given up by the client.

        Args:
            timeout: seconds to wait at most; `None`: no limit.

        Returns:
            Whether the app has finished.
        """
        return self._pool.join_parked(deadline_after(timeout))

    def end_leftovers(self) -> bool:
        """Wait as `wait_idle()` does, for `shutdown_timeout` seconds; if work still goes on then, restart the worker.

        The restart ends what a worker process was doing. Threads cannot be ended: those of a thread worker go on, and
        the new worker does not use them.

        Returns:
            Whether the worker was restarted.

        Raises:
            WorkerStartError, StateError: see `start()`.
        """
        self._check_usable()
        if self.wait_idle(self._shutdown_timeout):
            return False
        with self._lock:
            run, self._run = self._run, None
        if run is not None:
            self._stop(run, 0)
        self._pool.clear()
        self.start()
        return True

    def close(self) -> None:
        """Stop the worker. It has `shutdown_timeout` seconds to shut its lifespan down.

        No process, thread or file descriptor is left, except a thread of an app that hangs. Requests in flight get
        `WorkerDied`. May be called twice.

        Raises:
            Exception: the app raised it while it was shut down.
        """
        if os.getpid() != self._owner_pid:
            self._closed = True  # forked: the worker is the parent's, and the lock may be locked for ever
            return
        with self._lock:
            if self._closed:
                return
            self._closed = True
            run, self._run = self._run, None
        live.discard(self)
        try:
            if run is not None:
                self._trace(f"stopping {self._describe(run)}")
                self._stop(run, self._shutdown_timeout)
        finally:
            self._pool.clear()
        if run is not None and run.error is not None:
            raise run.error

    def _stop(self, run: Run, timeout: float | None) -> None:
        run.stop(timeout)

    def __reduce__(self) -> Any:
        name = type(self).__name__
        raise TypeError(f"an {name} cannot be copied or pickled; it holds a worker and its pipes")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed and os.getpid() == self._owner_pid:
            try:
                self._warn_unclosed()
            finally:
                self.close()

    def _warn_unclosed(self) -> None:
        if not self._is_owned:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=3)

    def _check_usable(self) -> None:
        if os.getpid() != self._owner_pid:
            raise StateError(
                f"this worker belongs to process {self._owner_pid}, and this is a fork of it ({os.getpid()}); "
                "start another worker here"
            )
