"""Where the worker of a `TestClient` comes from."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from typing import Any
from weakref import ref

from socketless._host.app_source import described, local_source_of
from socketless._host.arguments import ENTERED
from socketless._host.exchange import Exchange
from socketless._host.limits import Timeouts
from socketless._host.process import IpcProcess
from socketless._host.thread import IpcThread
from socketless._host.worker import Worker, owned
from socketless._locks import make_lock
from socketless._wire.messages import Message
from socketless._wire.steps import Pull

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


class Source:
    """Where the worker comes from. It knows nothing of the client, which can be dropped."""

    @property
    def app(self) -> Any:
        return self.get().app

    def get(self) -> Worker:
        """Return the worker, which is started if need be."""
        raise NotImplementedError

    def enter(self) -> None:
        """Begin a `with` block."""

    def leave(self) -> None:
        """End it."""

    def close(self) -> None:
        """End what was started."""

    # What a transport and a WebSocket want of a worker:

    @property
    def description(self) -> str:
        return repr(self.app)

    @property
    def app_kind(self) -> str:
        return self.get().app_kind

    def exchange_blocking(self, message: Message, timeouts: Timeouts, body: Pull | None = None) -> Exchange:
        return self.get().exchange_blocking(message, timeouts, body)


def source_of(app: Any, state: dict[str, Any], options: Mapping[str, Any]) -> Source:
    if isinstance(app, Worker):
        return _Given(app)
    if isinstance(app, str):
        local_source_of(app, what="app")  # raises now what the worker would later
        return _Process(app, options)
    if callable(app):
        return _Threads(app, state, options)
    raise TypeError(f"TestClient takes a WSGI or ASGI app, an import string or a worker, not {described(app)}")


class _Given(Source):
    """A worker of somebody else's, who starts and closes it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def get(self) -> Worker:
        return self._worker


class _Process(Source):
    """A worker process: started when it is needed, and closed at the end of a `with` block."""

    def __init__(self, app: str, options: Mapping[str, Any]) -> None:
        self._start = partial(IpcProcess, app, **options)
        self._lock = make_lock()
        self._worker: Worker | None = None  # guarded by _lock

    def get(self, **options: Any) -> Worker:
        with self._lock:
            if self._worker is None:
                self._worker = owned(self._start(**options))
            return self._worker

    def enter(self) -> None:
        self.get(lifespan=ENTERED)

    def close(self) -> None:
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    leave = close


class _Threads(Source):
    """A thread worker without the lifespan; and within a `with` block, another one with it."""

    def __init__(self, app: Callable[..., Any], state: dict[str, Any], options: Mapping[str, Any]) -> None:
        self._start = partial(IpcThread, app, state=state, **options)
        self._lock = make_lock()
        self._outer: Worker | None = None  # guarded by _lock, like all below
        self._inner: Worker | None = None
        self._is_lent = False  # somebody may have the worker itself

    def get(self) -> Worker:
        with self._lock:
            self._is_lent = True
            return self._get()

    def _get(self) -> Worker:
        # Must be called with _lock held.
        if self._inner is not None:
            return self._inner
        if self._outer is None:
            self._outer = owned(self._start(lifespan="off"))
        return self._outer

    def exchange_blocking(self, message: Message, timeouts: Timeouts, body: Pull | None = None) -> Exchange:
        _idle_limit.used(self)
        with self._lock:
            worker = self._get()
        return worker.exchange_blocking(message, timeouts, body)

    @property
    def app_kind(self) -> str:
        _idle_limit.used(self)
        with self._lock:
            return self._get().app_kind

    @property
    def app(self) -> Any:
        with self._lock:
            return self._get().app

    def rest(self) -> None:
        """Drop the worker without the lifespan: it goes with its last exchange, and the next request has another."""
        with self._lock:
            if not self._is_lent:
                self._outer = None

    def enter(self) -> None:
        worker = owned(self._start(lifespan=ENTERED))  # without the lock: the app's lifespan may ask its own client
        with self._lock:
            if self._inner is None:
                self._inner = worker
                return
        worker.close()  # entered twice at once

    def leave(self) -> None:
        with self._lock:
            worker, self._inner = self._inner, None
        if worker is not None:
            worker.close()

    def close(self) -> None:
        with self._lock:
            worker, self._outer = self._outer, None
        with ExitStack() as stack:
            if worker is not None:
                stack.callback(worker.close)
            self.leave()


class _IdleLimit:
    """Lets only so many thread workers wait for the next request.

    Each holds a dozen descriptors, and a test suite may have hundreds of clients at the level of its modules.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lock = make_lock()
        self._recent: OrderedDict[int, ref[_Threads]] = OrderedDict()  # guarded by _lock; the last used one last

    def used(self, source: _Threads) -> None:
        """Take note that a worker is used, and let the one rest that was used least recently."""
        oldest = None
        with self._lock:
            known = self._recent.get(id(source))
            if known is not None and known() is source:
                self._recent.move_to_end(id(source))
                return
            for number in [number for number, known in self._recent.items() if known() is None]:
                del self._recent[number]
            self._recent[id(source)] = ref(source)
            if len(self._recent) > self._limit:
                oldest = self._recent.popitem(last=False)[1]()
        if oldest is not None:
            oldest.rest()


_idle_limit = _IdleLimit(16)
