"""`Worker`: what `IpcProcess` and `IpcThread` have in common."""

from __future__ import annotations

import atexit
import os
import signal
import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from textwrap import indent
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from socketless._genuine import monotonic
from socketless._host.arguments import check_seconds, no_attribute
from socketless._host.exchange import Exchange
from socketless._host.failures import exception_of
from socketless._host.lifetime import Run
from socketless._host.limits import NO_LIMITS, Timeouts
from socketless._host.pool import ChannelPool, Lease
from socketless._host.trace import Trace, logger
from socketless._host.upload import check_message
from socketless._host.websocket_exchange import WebSocketExchange
from socketless._locks import make_lock
from socketless._wire.drivers import deadline_after, run_blocking
from socketless._wire.messages import Call, Failed, Message, Request, Reset, Result, Start
from socketless._wire.steps import Pull, PullingSteps, Steps
from socketless.errors import ExchangeTimeout, StateError, WorkerDied, WorkerStartError, describe_exit

if TYPE_CHECKING:
    from typing_extensions import Self

    from socketless.websocket import WebSocketSession

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["Worker"]

T = TypeVar("T")

_FOR_ASYNC = "httpx.AsyncClient takes a transport, IpcAsyncTransport(worker)"
_INSTEAD = {
    "handle_request": "httpx.Client takes a transport, IpcTransport(worker)",
    "handle_async_request": _FOR_ASYNC,
    "__aenter__": _FOR_ASYNC,
    "_loop": "a session of aiohttp takes a connector, socketless.aiohttp.ASGIApplicationConnector(worker)",
    "send": "a session of requests takes an adapter, socketless.requests.IpcAdapter(worker)",
    **{
        method: f"a worker has clients, socketless.testclient.TestClient(worker).{method}(...)"
        for method in ("request", "get", "options", "head", "post", "put", "patch", "delete")
    },
}
_GLANCE = Timeouts(pool=0.0, write=1.0, read=1.0)  # at whether a worker lives


class Worker:
    """An app in a worker, reached over pipes: an `IpcProcess` or an `IpcThread`."""

    _closed = True  # guarded by _lock; true until there is something to close
    _is_owned = False  # by a client that it goes with

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
        self._max_body_bytes = start.max_body_bytes
        self._trace = Trace(debug)
        self._owner_pid = os.getpid()
        self._pool: ChannelPool[Run] = ChannelPool(max_connections)
        # Written by who has claimed the start: pid, exit code and stderr of the worker before, and the kind of the app.
        self._last_end: tuple[int | None, int | None, str] = (None, None, "")
        self._app_kind = ""
        self._run: Run | None = None  # guarded by _lock, like all below
        self._starting = False
        self._restarts = 0
        self._closed = False
        _live.add(self)
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

    if not TYPE_CHECKING:  # or a type checker would let every name pass

        def __getattr__(self, name: str) -> Any:
            raise no_attribute(self, name, _INSTEAD)

    def _describe(self, run: Run | None) -> str:
        """Say in a few words where it runs."""
        raise NotImplementedError

    @property
    def app(self) -> Any:
        """The app, as an argument for `run()`: of a thread the app itself, of a process what stands for it."""
        raise NotImplementedError

    @property
    def app_kind(self) -> str:
        """``"wsgi"`` or ``"asgi"``."""
        return self._app_kind

    @property
    def max_connections(self) -> int | None:
        """How many exchanges can be in progress at the same time; `None`: any number."""
        return self._max_connections

    @property
    def max_body_bytes(self) -> int | None:
        """How many bytes the body of a request or of a response may have; `None`: any number."""
        return self._max_body_bytes

    @property
    def in_flight(self) -> int:
        """How many exchanges are in progress, including those that the client has given up and the app has not."""
        return self._pool.in_flight

    def start(self) -> None:
        """Restart the worker if it has died, regardless of `max_restarts`. While it runs or starts, do nothing.

        Raises:
            WorkerStartError: the worker could not start.
            StateError: the worker is closed, or this process is a fork of the one that it belongs to.
        """
        if self._claim_start(None):
            run_blocking(self._start(is_restart=False))

    def reset(self, timeout: float | None = None) -> None:
        """Call the reset hook in the worker and wait for it. Without a hook, do nothing.

        Args:
            timeout: seconds that the hook may take; `None`: no limit.

        Raises:
            Exception: the hook raised it.
            ReadTimeout: the hook took longer than `timeout`.
            WorkerDied: the worker ended before the hook had returned, or `max_restarts` is used up.
            WorkerStartError, StateError: see `start()`.
        """
        self._check_usable()
        if self._start_message.reset_hook is None:
            return
        answer = self.exchange_blocking(Reset(), Timeouts(read=timeout)).answer
        if isinstance(answer, Failed):
            raise exception_of(answer)

    def renew(self) -> None:
        """Make the worker ready for the next test: restart it if it has died, and call the reset hook.

        The worker is restarted regardless of `max_restarts`, and the count of restarts begins anew: the next test is
        not to blame for what killed it. This also works right after a kill.

        Raises:
            Exception: the hook raised it.
            WorkerDied: the hook has ended the worker, twice.
            WorkerStartError, StateError: see `start()`.
        """
        try:
            self._renew()
        except WorkerDied:  # it was dying just then
            self._renew()

    def _renew(self) -> None:
        with self._lock:
            self._restarts = 0
        self.start()
        if self._start_message.reset_hook is not None:
            self.reset()
        else:
            with suppress(ExchangeTimeout):  # it lives, and is busy
                self.exchange_blocking(Reset(), _GLANCE)
        with self._lock:
            self._restarts = 0

    def run(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> T:
        """Call a function in the worker and return its result, for example to set up data or to patch something there.

            worker.run(User.objects.create, name="ada")
            worker.run(lambda app: app.dependency_overrides.update({get_user: lambda: "ada"}), worker.app)

        A coroutine function is awaited; with an ASGI app, on the app's event loop. In a thread worker, the function,
        its arguments and its result are the caller's own objects. A worker process gets copies of the function, of its
        arguments and of the variables that it uses, except for the attributes of modules that the worker can import,
        such as the app, or the functions, classes and objects of its modules: these are the worker's own. The result is
        a copy.

        Raises:
            Exception: the function raised it.
            TransferError: the function, its arguments or its result cannot be pickled.
            WorkerDied: the worker ended before the function had returned, or `max_restarts` is used up.
            WorkerStartError, StateError: see `start()`.
        """
        name = getattr(function, "__name__", type(function).__name__)
        answer = self.exchange_blocking(Call(self._work(function, args, kwargs), name)).answer
        if isinstance(answer, Failed):
            raise exception_of(answer)
        assert isinstance(answer, Result)
        result: T = self._result(answer)
        return result

    def _work(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> Callable[[], Any] | bytes:
        raise NotImplementedError

    def _result(self, result: Result) -> Any:
        raise NotImplementedError

    def websocket_connect(
        self, url: str, subprotocols: Sequence[str] | None = None, **options: Any
    ) -> WebSocketSession:
        """Return a session for a WebSocket of the app; entering it connects.

            with worker.websocket_connect("/chat", subprotocols=["chat.v1"]) as session:
                session.send_text("hello")
                assert session.receive_text() == "hello"

        Args:
            url: a path, or a whole URL with ``ws://`` or ``wss://``.
            subprotocols: the subprotocols that the client offers; the app's choice is `session.accepted_subprotocol`.
            headers, params, cookies: see `httpx.Client`.
            root_path, client: see `IpcTransport`.
            timeout: seconds that each wait of the session for the app may take; `None`: no limit.

        Raises on entering:
            WebSocketDisconnect: the app closed the WebSocket instead of accepting it.
            WebSocketDenialResponse: the app answered with an HTTP response.
            Exception: the app raised it.
            PoolTimeout, WriteTimeout, ReadTimeout: the wait took longer than `timeout`.
            WorkerDied: the worker ended before the app had answered, or `max_restarts` is used up.
            WorkerStartError, StateError: see `start()`.
        """
        from socketless.websocket import connect  # it needs httpx

        return connect(self, url, subprotocols, **options)

    def exchange(
        self, message: Message, timeouts: Timeouts = NO_LIMITS, body: Pull | None = None
    ) -> PullingSteps[Exchange]:
        """Send a message to the worker and wait for its first answer; a driver of `socketless._wire.drivers` runs this.

        A worker that has died is restarted first. What the worker printed until the answer is printed here before
        it is returned. `body` is where the chunks come from, if the message is a request that says `more_body`.

        Raises:
            PoolTimeout, WriteTimeout, ReadTimeout: one of the time limits has passed.
            WorkerDied: the worker ended before it had answered, or too often. The message is not sent again.
            WorkerStartError: it could not be restarted.
            TransferError: the message cannot be pickled; nothing was sent.
            BodyTooLarge: the body is larger than `max_body_bytes`.
            InvalidRequest: HTTP cannot carry the request.
            StateError: the worker is closed, or belongs to another process.
        """
        label = getattr(message, "label", type(message).__name__)
        upload = check_message(message, label, body, self._max_body_bytes)
        kind = WebSocketExchange if isinstance(message, Request) and message.is_websocket else Exchange
        deadline = deadline_after(timeouts.pool)
        self._trace.sent(message)
        message = self._prepare(message)
        while True:
            exchange = kind(self._pool, label, timeouts, upload)
            exchange.worker = self  # which must not be dropped before
            try:
                yield from self._check_out(exchange.lease, deadline)
                began = yield from exchange.begin(message)
                if began:
                    self._trace.got(label, exchange.answer)
                    self._on_answer(exchange)
                    return exchange
            except BaseException as error:
                try:
                    exchange.cancel()
                finally:
                    exchange.cancel()  # once more, if the first was interrupted
                if isinstance(error, Exception):
                    self._trace(f"< {label}: {type(error).__name__}")
                raise

    def _on_answer(self, exchange: Exchange) -> None:
        """Take notice of an exchange that has its first answer. A hook for subclasses."""

    def exchange_blocking(self, message: Message, timeouts: Timeouts = NO_LIMITS, body: Pull | None = None) -> Exchange:
        """Run the steps of `exchange()` in this thread.

        Raises:
            StateError: this is the thread that would have to answer.
        """
        self._check_thread()
        return run_blocking(self.exchange(message, timeouts, body))

    def _check_thread(self) -> None:
        """Refuse to wait in the thread that is waited for. A hook for subclasses."""

    def _prepare(self, message: Message) -> Message:
        """Return the message as this kind of worker is to get it. A hook; it replaces this one, without `super()`."""
        return message

    def _check_out(self, lease: Lease[Run], deadline: float | None) -> Steps[None]:
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
                    self._pool.drain()
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
                self._pool.drain()
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
                self._pool.drain()

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
        self._pool.drain()
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
        _live.discard(self)
        try:
            if run is not None:
                self._trace(f"stopping {self._describe(run)}")
                self._stop(run, self._shutdown_timeout)
        finally:
            self._pool.drain()
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


W = TypeVar("W", bound=Worker)


def owned(worker: W) -> W:
    """Let a worker go with the client that owns it, without a word: most tests never close a TestClient."""
    worker._is_owned = True
    return worker


def check_worker_class(value: object) -> None:
    """Refuse what is not a class of workers.

    Raises:
        TypeError: it is not one.
    """
    if not (isinstance(value, type) and issubclass(value, Worker)):
        raise TypeError(f"worker_class must be IpcProcess or IpcThread, the class itself, not {value!r}")


_live: weakref.WeakSet[Worker] = weakref.WeakSet()


def live_workers() -> list[Worker]:
    """Return the workers that nobody has closed yet."""
    return list(_live)


def close_all(workers: list[Worker]) -> Iterator[tuple[Worker, Exception]]:
    """Close workers that have been left open, and yield what goes wrong with each."""
    for worker in workers:
        try:
            worker.close()
        except Exception as error:
            yield worker, error


@atexit.register
def _close_live() -> None:
    # A worker would notice the end of this process by itself, but then it may not take its time to leave.
    for worker, error in close_all(live_workers()):
        logger.error("%r could not be closed", worker, exc_info=error)
