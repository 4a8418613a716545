"""`TestClient`: a drop-in for Starlette's, with the app in a worker, and for WSGI apps as well."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from socketless._host.arguments import AppKind, Backend, check_backend, check_kind
from socketless._host.worker import Worker
from socketless._testclient.library import httpx
from socketless._testclient.requests import be_paced, not_connected, websocket_request, with_user_agent
from socketless._testclient.sources import source_of
from socketless._testclient.transport import Connected, TestTransport
from socketless.errors import WorkerStartError
from socketless.websocket import WebSocketSession

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


class TestClient(httpx.Client):
    """A client for the app of a test; a drop-in for Starlette's `TestClient`.

    The first request, or `with`, starts the worker; it ends with the client, which need not be closed. The lifespan of
    an ASGI app runs from the entry of a `with` block to its end; in a worker process, for as long as that runs. `with`
    raises what the app or a middleware raises in the lifespan. Any thread may use the client.

    Args:
        app: a WSGI or ASGI app, or a callable that returns one, for a thread worker; an import string
            (``"package.module:attribute"``, ``"package.module:factory()"``) for a worker process; or a worker.
        base_url: the base of relative URLs.
        raise_server_exceptions: whether the client raises the app's exceptions, as their own types; otherwise, it gets
            a 500.
        root_path: the path that the app is mounted at.
        backend: the async library that an ASGI app runs on, ``"asyncio"`` or ``"trio"``. A worker that is given uses
            its own.
        backend_options: anyio's options for that backend, for example ``{"debug": True}``.
        cookies, headers, follow_redirects: see `httpx.Client`; redirects are followed by default.
        client: the client's address and port, as the app sees them.
        timeout: seconds, or an `httpx.Timeout`, for requests that give none; there is no limit by default.
        app_kind: ``"wsgi"`` or ``"asgi"``, if the app's signature does not tell.

    Raises:
        TypeError: `app` is none of these.
        ValueError: there is no such backend, or kind of app.
        WorkerStartError: `app` is a string, but not an import string.
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
        self._source = source_of(app, self.app_state, options)
        transport = TestTransport(
            self._source,  # type: ignore[arg-type]
            raise_app_exceptions=raise_server_exceptions,
            root_path=root_path,
            client=client,
        )
        super().__init__(
            base_url=base_url,
            headers=with_user_agent(headers),
            transport=transport,
            follow_redirects=follow_redirects,
            cookies=cookies,
            timeout=timeout,
        )

    @property
    def worker(self) -> Worker:
        """The worker, for `run()` and `reset()`; it is started if it does not run yet."""
        return self._source.get()

    @property
    def app(self) -> Any:
        """The app; with a worker process, a stand-in for it as an argument of `worker.run()`."""
        return self._source.app

    def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """Send a request, as httpx does; with `stream`, the app waits until each piece of its response is read."""
        if stream:
            be_paced(request)
        return super().send(request, stream=stream, **options)

    def websocket_connect(
        self, url: str, subprotocols: Sequence[str] | None = None, **options: Any
    ) -> WebSocketSession:
        """Return a session for a WebSocket of the app; entering it connects.

        Args:
            url: a path, or a whole URL with ``ws://`` or ``wss://``.
            subprotocols: the subprotocols that the client offers; the app's choice is `session.accepted_subprotocol`.
            options: those of `request()`. `timeout` applies to each wait of the session for the app.

        Raises on entering:
            WebSocketDisconnect: the app closed the WebSocket instead of accepting it.
            WebSocketDenialResponse: the app answered with an HTTP response.
        """
        try:
            self.request("GET", **websocket_request(url, subprotocols, options))
        except Connected as connected:
            session: WebSocketSession = connected.session
            return session
        raise not_connected(url)

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
        """Close the client and end its worker, unless the worker was given."""
        with ExitStack() as stack:
            stack.callback(self._source.close)
            super().close()
