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
    """An app in several worker processes that clients use like one worker. For apps that compute a lot.

        with IpcProcesses("myapp:app", processes=4) as worker, httpx.Client(transport=IpcTransport(worker)) as client:
            ...

    A request goes to the process that has the fewest requests in progress; if several have equally few, to the first of
    these. So requests sent one after the other all go to the same process. Each process has its own app and lifespan,
    and its own copy of what the app keeps in memory. `reset()`, `run()` and `close()` apply to all processes; if one
    dies, only that one is replaced.

    Args:
        app: see `IpcProcess`.
        processes: the number of processes, at least 1.
        options: the other arguments of `IpcProcess`, for each process: `max_connections=32` is 32 for each.

    Raises:
        WorkerStartError: a process could not start; none is left running.
        TransferError, TypeError, ValueError, StateError: see `IpcProcess`.
    """

    def __init__(self, app: str | Callable[..., Any], *, processes: int = 2, **options: Any) -> None:
        # Nothing of `Supervisor`: each of these supervises itself.
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
        """A stand-in for the app as an argument of `run()`: the function that is called there gets the app itself."""
        return self._workers[0].app

    @property
    def app_kind(self) -> str:
        return self._workers[0].app_kind

    @property
    def max_connections(self) -> int:
        """How many exchanges can be in progress at the same time, in all processes together."""
        return sum(worker.max_connections or 0 for worker in self._workers)

    @property
    def max_body_bytes(self) -> int | None:
        return self._workers[0].max_body_bytes

    @property
    def in_flight(self) -> int:
        return sum(worker.in_flight for worker in self._workers)

    def start(self) -> None:
        """Restart the processes that have died; see `IpcProcess.start()`."""
        self._in_all(lambda worker: worker.start())

    def reset(self, timeout: float | None = None) -> None:
        """Call the reset hook in each process, one after the other; see `IpcProcess.reset()`.

        Args:
            timeout: seconds that the hook may take in each.

        Raises:
            Exception: see `IpcProcess.reset()`. The hook is called in all processes, and then the first error is
                raised.
        """
        self._in_all(lambda worker: worker.reset(timeout))

    def renew(self) -> None:
        self._in_all(lambda worker: worker.renew())

    def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> list[T]:  # type: ignore[override]
        """Call a function in each process, one after the other, and return the results; see `IpcProcess.run()`.

        Raises:
            Exception: see `IpcProcess.run()`. The function is called in all processes, and then the first error is
                raised.
        """
        return self._in_all(lambda worker: worker.run(function, *args, **kwargs))

    def wait_idle(self, timeout: float | None = None) -> bool:
        """Wait as `IpcProcess.wait_idle()` does, for all processes; `timeout` is for all of them together."""
        deadline = deadline_after(timeout)
        return all(self._in_all(lambda worker: worker.wait_idle(remaining(deadline))))

    def end_leftovers(self) -> bool:
        """Do in each process what `IpcProcess.end_leftovers()` does; return whether one of them was restarted."""
        return any(self._in_all(lambda worker: worker.end_leftovers()))

    def close(self) -> None:
        """Stop all processes; see `IpcProcess.close()`. May be called twice."""
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
