"""`IpcProcesses`: an app in several worker processes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import Any, TypeVar
from weakref import WeakSet

from socketless._host.exchange import Exchange
from socketless._host.limits import NO_LIMITS, Timeouts
from socketless._host.process import IpcProcess
from socketless._host.worker import Worker
from socketless._locks import make_lock
from socketless._wire.drivers import deadline_after, remaining
from socketless._wire.messages import Message
from socketless._wire.steps import Pull, PullingSteps

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["IpcProcesses"]

T = TypeVar("T")


class IpcProcesses(Worker):
    """An app in several worker processes, which clients take for one worker. For apps that compute.

        with IpcProcesses("myapp:app", processes=4) as worker, httpx.Client(transport=IpcTransport(worker)) as client:
            ...

    A request goes to the process that has the fewest of them at work, of those to the first: so requests that come one
    by one all go to the same. Each process has an app, and a lifespan, of its own; what it keeps in memory is there as
    many times. `reset()`, `run()` and `close()` are for all of them, and a process that dies is replaced by itself.

    Args:
        app: see `IpcProcess`.
        processes: how many there are, at least 1.
        options: the other arguments of `IpcProcess`, for each of them: `max_connections=32` is 32 for each.

    Raises:
        WorkerStartError: one of them could not start; then none is left.
        TransferError, TypeError, ValueError, StateError: see `IpcProcess`.
    """

    def __init__(self, app: str | Callable[..., Any], *, processes: int = 2, **options: Any) -> None:
        # Nothing of `Worker` that belongs to one life of one worker: each of these is one of its own.
        if not isinstance(processes, int) or processes < 1:
            raise ValueError(f"processes must be a number, at least 1, not {processes!r}")
        self._choosing = make_lock()
        self._workers = _start_all(partial(IpcProcess, app, **options), processes, options.get("start_method"))
        # Guarded by _choosing, for those who add to them.
        self._waiting: dict[IpcProcess, WeakSet[_Waiting]] = {worker: WeakSet() for worker in self._workers}
        self._closed = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.description}, {len(self._workers)} processes>"

    def __del__(self) -> None:
        """Leave it to each of them to say that it is unclosed."""

    @property
    def description(self) -> str:
        return self._workers[0].description

    @property
    def pids(self) -> list[int | None]:
        """The process ids of the workers; `None` for one that is closed. A restart changes them."""
        return [worker.pid for worker in self._workers]

    @property
    def app(self) -> Any:
        """What stands for the app as an argument for `run()`, where it arrives as the app itself."""
        return self._workers[0].app

    @property
    def app_kind(self) -> str:
        return self._workers[0].app_kind

    @property
    def max_connections(self) -> int:
        """How many exchanges there can be at the same time, in all of them together."""
        return sum(worker.max_connections or 0 for worker in self._workers)

    @property
    def max_body_bytes(self) -> int | None:
        return self._workers[0].max_body_bytes

    @property
    def in_flight(self) -> int:
        return sum(worker.in_flight for worker in self._workers)

    def start(self) -> None:
        """Start those again that have died; see `IpcProcess.start()`."""
        self._in_all(lambda worker: worker.start())

    def reset(self, timeout: float | None = None) -> None:
        """Call the reset hook in each of them, one after the other; see `IpcProcess.reset()`.

        Args:
            timeout: seconds that the hook may take in each.

        Raises:
            Exception: see `IpcProcess.reset()`; it has been called in all of them, and the first error counts.
        """
        self._in_all(lambda worker: worker.reset(timeout))

    def renew(self) -> None:
        self._in_all(lambda worker: worker.renew())

    def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> list[T]:  # type: ignore[override]
        """Call a function in each of them, and return the results; see `IpcProcess.run()`.

        Raises:
            Exception: see `IpcProcess.run()`; it has been called in all of them, and the first error counts.
        """
        return self._in_all(lambda worker: worker.run(function, *args, **kwargs))

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait until none of them has a request at work that was answered or given up; see `IpcProcess`."""
        deadline = deadline_after(timeout)
        return all(self._in_all(lambda worker: worker.wait_idle(remaining(deadline))))

    def end_leftovers(self) -> bool:
        """End what goes on in each of them, as `IpcProcess` does; return whether one was started again for that."""
        return any(self._in_all(lambda worker: worker.end_leftovers()))

    def close(self) -> None:
        """Stop all of them; see `IpcProcess.close()`. May be called twice."""
        self._closed = True
        with ExitStack() as stack:  # closes all of them, whatever one raises
            for worker in self._workers:
                stack.callback(worker.close)

    def _enter(self, function: Callable[[], object]) -> None:
        self._in_all(lambda worker: worker._enter(function))

    def _leave(self, function: Callable[[], object]) -> None:
        self._in_all(lambda worker: worker._leave(function))

    def _in_all(self, do: Callable[[IpcProcess], T]) -> list[T]:
        results, errors = [], []
        for worker in self._workers:
            try:
                results.append(do(worker))
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return results

    def exchange(
        self, message: Message, timeouts: Timeouts = NO_LIMITS, body: Pull | None = None
    ) -> PullingSteps[Exchange]:
        self._workers[0]._check_usable()  # before any lock is taken: in a fork, another thread may have had it
        me = _Waiting()
        with self._choosing:
            # The pool knows of an exchange from the taking of a channel on, and to the end of the app.
            worker = min(self._workers, key=lambda each: max(len(self._waiting[each]), each.in_flight))
            self._waiting[worker].add(me)
        try:
            return (yield from worker.exchange(message, timeouts, body))
        finally:
            self._waiting[worker].discard(me)


class _Waiting:
    """An exchange that has no answer yet. Where it is interrupted, it is forgotten with its steps, at the latest."""


def _start_all(start: Callable[[], IpcProcess], processes: int, start_method: str | None) -> list[IpcProcess]:
    # Side by side, as each imports the app. A fork is there at once, and is to be one of this thread.
    if start_method == "fork":
        return _start_each(start, processes)
    with ThreadPoolExecutor(processes) as executor:
        futures = [executor.submit(start) for _ in range(processes)]
    with ExitStack() as undo:
        for future in futures:
            if future.exception() is None:
                undo.callback(future.result().close)
        workers = [future.result() for future in futures]
        undo.pop_all()
    return workers


def _start_each(start: Callable[[], IpcProcess], processes: int) -> list[IpcProcess]:
    workers: list[IpcProcess] = []
    with ExitStack() as undo:
        for _ in range(processes):
            workers.append(start())
            undo.callback(workers[-1].close)
        undo.pop_all()
    return workers
