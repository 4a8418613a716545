"""`Worker`: what `IpcProcess` and `IpcThread` have in common. Its base class, `Supervisor`, starts and stops it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from socketless._host.arguments import no_attribute
from socketless._host.exchange import Exchange
from socketless._host.failures import exception_of
from socketless._host.limits import NO_LIMITS, Timeouts
from socketless._host.supervisor import Supervisor
from socketless._host.upload import check_message
from socketless._host.websocket_exchange import WebSocketExchange
from socketless._wire.drivers import deadline_after, run_blocking
from socketless._wire.messages import Call, Failed, Message, Request, Reset, Result
from socketless._wire.steps import Pull, PullingSteps
from socketless.errors import ExchangeTimeout, StateError, WorkerDied

if TYPE_CHECKING:
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


class Worker(Supervisor):
    """An app in a worker, reached over pipes: an `IpcProcess` or an `IpcThread`."""

    if not TYPE_CHECKING:  # or a type checker would let every name pass

        def __getattr__(self, name: str) -> Any:
            raise no_attribute(self, name, _INSTEAD)

    @property
    def app(self) -> Any:
        """The app, as an argument for `run()`: of a thread the app itself, of a process what stands for it."""
        raise NotImplementedError

    @property
    def max_connections(self) -> int | None:
        """How many exchanges can be in progress at the same time; `None`: any number."""
        return self._max_connections

    @property
    def max_body_bytes(self) -> int | None:
        """How many bytes the body of a request or of a response may have; `None`: any number."""
        return self._start_message.max_body_bytes

    @property
    def in_flight(self) -> int:
        """How many exchanges are in progress, including those that the client has given up and the app has not."""
        return self._pool.in_flight

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
        self._count_anew()
        self.start()
        if self._start_message.reset_hook is not None:
            self.reset()
        else:
            with suppress(ExchangeTimeout):  # it lives, and is busy
                self.exchange_blocking(Reset(), _GLANCE)
        self._count_anew()

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
        upload = check_message(message, label, body, self.max_body_bytes)
        kind = WebSocketExchange if isinstance(message, Request) and message.is_websocket else Exchange
        deadline = deadline_after(timeouts.pool)
        self._trace.sent(message)
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
        run = self._run
        if run is not None and run.is_here:
            raise StateError(
                "a coroutine of the app would block its own event loop: use an async client in it, or a thread, for "
                "example by asyncio.to_thread()"
            )
        return run_blocking(self.exchange(message, timeouts, body))


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
