"""`TestClient`: a drop-in for Starlette's, with the app in a worker, and for WSGI apps as well.

    from socketless.testclient import TestClient

    client = TestClient(app)              # a worker on threads of this process, which shares the app object
    client = TestClient("myapp:app")      # a worker process
    client = TestClient(worker)           # an IpcProcess or IpcThread of one's own

It is an `httpx2.Client` where httpx2 is installed, else an `httpx.Client`, as Starlette's is. It needs no Starlette.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin
from weakref import ref

from socketless.errors import WorkerStartError
from socketless.host.app_source import described, local_source_of
from socketless.host.arguments import AppKind, Backend, check_backend, check_kind
from socketless.host.exchange import Exchange
from socketless.host.limits import Timeouts
from socketless.host.process import IpcProcess
from socketless.host.thread import IpcThread
from socketless.host.worker import Worker, owned
from socketless.httpx.transport import IpcTransport
from socketless.locks import make_lock
from socketless.websocket import WebSocketDenialResponse, WebSocketSession, session_of
from socketless.wire.messages import Message, Request, Response
from socketless.wire.steps import Pull

if TYPE_CHECKING:
    from types import TracebackType

    import httpx
    from typing_extensions import Self
else:
    try:
        import httpx2 as httpx
    except ModuleNotFoundError:
        import httpx

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["TestClient", "WebSocketDenialResponse", "WebSocketTestSession"]

WebSocketTestSession = WebSocketSession  # Starlette's name for it

STREAMED = "socketless.streamed"  # extension of a request: who has sent it reads the response bit by bit, or not at all
_SESSION = "socketless.session"  # extension of a request: a session is wanted, not the bytes of a WebSocket


class TestClient(httpx.Client):
    """A client for the app of a test.

    The worker is started with the first request, or by `with`, and goes with the client: it need not be closed. The
    lifespan of an ASGI app runs from the entry of a `with` block to its end; in a worker process, for as long as that
    runs. What an app or a middleware raises there, `with` raises. Any thread may use it.

    Args:
        app: a WSGI or ASGI app, or a callable that returns one, for a thread worker; an import string
            (``"package.module:attribute"``, ``"package.module:factory()"``) for a worker process; or a worker.
        base_url: what URLs are relative to.
        raise_server_exceptions: raise what the app raises, as its own type; else answer 500.
        root_path: the path that the app is mounted at.
        backend: what an ASGI app runs on, ``"asyncio"`` or ``"trio"``; of a worker that is given, it is the worker's.
        backend_options: what anyio takes for that backend, for example ``{"debug": True}``.
        cookies, headers, follow_redirects: see `httpx.Client`; redirects are followed by default.
        client: the address that the app sees as the client's.
        timeout: see `httpx.Client`; seconds. There is none at first; one that is given, here or with a request, holds.
        app_kind: ``"wsgi"`` or ``"asgi"``, where it cannot be told by the app's signature.

    Raises:
        TypeError: `app` is neither.
        ValueError: there is no such backend, or kind of app.
        WorkerStartError: `app` is a string, and no import string.
    """

    __test__ = False  # pytest would collect it

    def __init__(
        self,
        app: Callable[..., Any] | str | Worker,
        base_url: str = "http://testserver",
        raise_server_exceptions: bool = True,
        root_path: str = "",
        backend: Backend = "asyncio",
        backend_options: dict[str, Any] | None = None,
        cookies: Any = None,
        headers: Mapping[str, str] | None = None,
        follow_redirects: bool = True,
        client: tuple[str, int] = ("testclient", 50000),
        *,
        timeout: Any = None,
        app_kind: AppKind = "auto",
    ) -> None:
        check_backend(backend)
        check_kind(app_kind)
        self.app_state: dict[str, Any] = {}
        options = {"backend": backend, "backend_options": backend_options, "app_kind": app_kind}
        self._source = _source_of(app, self.app_state, options)
        all_headers = httpx.Headers(headers)
        all_headers.setdefault("user-agent", "testclient")
        transport = _Transport(
            self._source,  # type: ignore[arg-type]
            raise_app_exceptions=raise_server_exceptions,
            root_path=root_path,
            client=client,
        )
        super().__init__(
            base_url=base_url,
            headers=all_headers,
            transport=transport,
            follow_redirects=follow_redirects,
            cookies=cookies,
            timeout=timeout,
        )

    @property
    def worker(self) -> Worker:
        """The worker, for `run()` and `reset()`; it is started if need be."""
        return self._source.get()

    @property
    def app(self) -> Any:
        """The app, see `worker.app`: for a process, what stands for it in `worker.run()`."""
        return self._source.app

    def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """Send a request, as httpx does; with `stream`, the app goes no further than its response is read."""
        if stream:
            request.extensions = {**request.extensions, STREAMED: True}
        return super().send(request, stream=stream, **options)

    def websocket_connect(
        self, url: str, subprotocols: Sequence[str] | None = None, **options: Any
    ) -> WebSocketSession:
        """Return a session for a WebSocket of the app; entering it connects.

        Args:
            url: a path, or a whole URL with ``ws://`` or ``wss://``.
            subprotocols: what the client offers; `session.accepted_subprotocol` is what the app has chosen.
            options: those of `request()`. `timeout` holds for each time that the session waits for the app.

        Raises on entering:
            WebSocketDisconnect: the app has closed it instead of accepting it.
            WebSocketDenialResponse: it has answered with an HTTP response.
        """
        headers = httpx.Headers(options.pop("headers", None))
        headers.setdefault("connection", "upgrade")
        headers.setdefault("sec-websocket-key", "testserver==")
        headers.setdefault("sec-websocket-version", "13")
        if subprotocols is not None:
            headers.setdefault("sec-websocket-protocol", ", ".join(subprotocols))
        extensions = {**(options.pop("extensions", None) or {}), _SESSION: True}
        try:
            self.request("GET", urljoin("ws://testserver", url), headers=headers, extensions=extensions, **options)
        except _Connected as connected:
            return connected.session
        raise RuntimeError(f"Expected WebSocket upgrade: a WebSocket's URL begins with ws://, wss:// or /, not {url!r}")

    def __enter__(self) -> Self:
        error: BaseException | None = None
        try:
            self._source.enter()
        except WorkerStartError as failed:
            error = failed.__cause__ or failed
        if error is not None:
            raise error
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        with ExitStack() as stack:
            stack.callback(self._source.leave)
            self._transport.close()  # ends the responses that are open

    def close(self) -> None:
        """Close the client and end its worker, unless that was given."""
        with ExitStack() as stack:
            stack.callback(self._source.close)
            super().close()


class _Connected(Exception):
    def __init__(self, session: WebSocketSession) -> None:
        self.session = session


class TestTransport(IpcTransport):
    """The transport of a test client, whose responses tell of their template, and which does as Starlette's does.

    Of a response that is `STREAMED`, the app waits after each piece until somebody has taken it. It gets no offer to
    send a file by its path, so all middleware sees the file.
    """

    __test__ = False
    _is_lenient = True  # Starlette's own tests need it

    _error_page = Response(500, "", [])
    _breaks_off = False

    def handle_request(self, request: Any) -> Any:
        """Carry a request to the worker and return the app's response; see `IpcTransport.handle_request`."""
        response = super().handle_request(request)
        debug = response.extensions.get("http.response.debug", {})
        for name in ("template", "context"):
            if name in debug:
                setattr(response, name, debug[name])
        return response

    def _message(self, request: Any) -> Request:
        is_paced = request.extensions.get(STREAMED, False)
        return replace(super()._message(request), is_paced=is_paced, offers_files=False)


class _Transport(TestTransport):
    worker: _Source  # type: ignore[assignment]

    def handle_request(self, request: Any) -> Any:
        if _SESSION in request.extensions and request.url.scheme in ("ws", "wss"):
            worker: Any = self.worker
            raise _Connected(session_of(worker, request, root_path=self.root_path, client=self.client))
        return super().handle_request(request)


class _Source:
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


def _source_of(app: Any, state: dict[str, Any], options: Mapping[str, Any]) -> _Source:
    if isinstance(app, Worker):
        return _Given(app)
    if isinstance(app, str):
        local_source_of(app, what="app")  # raises now what the worker would later
        return _Process(app, options)
    if callable(app):
        return _Threads(app, state, options)
    raise TypeError(f"TestClient takes a WSGI or ASGI app, an import string or a worker, not {described(app)}")


class _Given(_Source):
    """A worker of somebody else's, who starts and closes it."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    def get(self) -> Worker:
        return self._worker


class _Process(_Source):
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
        self.get(lifespan="on")

    def close(self) -> None:
        with self._lock:
            worker, self._worker = self._worker, None
        if worker is not None:
            worker.close()

    leave = close


class _Threads(_Source):
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
        worker = owned(self._start(lifespan="on"))  # without the lock: the app's lifespan may ask its own client
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
