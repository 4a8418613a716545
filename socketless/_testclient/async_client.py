"""`AsyncTestClient`: a `TestClient` for async tests, with the app on the event loop of the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

from anyio import get_cancelled_exc_class, move_on_after

from socketless._host.arguments import AppKind, Backend, check_backend, check_kind
from socketless._host.worker import Worker
from socketless._inloop.exchange import LEAVE_SECONDS
from socketless._testclient.async_sources import async_source_of
from socketless._testclient.async_transport import AsyncTestTransport
from socketless._testclient.library import httpx
from socketless._testclient.requests import be_paced, not_connected, websocket_request, with_user_agent
from socketless._testclient.transport import Connected
from socketless._wire.exceptions import members_of
from socketless.errors import WorkerStartError
from socketless.websocket import AsyncWebSocketSession

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


class AsyncTestClient(httpx.AsyncClient):
    """A client for the app of an async test, under asyncio or trio.

    An ASGI app object runs on the event loop of the test, in a copy of the context (`contextvars`) of the task that
    sends the request, so test and app can share objects that are bound to the loop, such as connection pools. The test
    raises what the app raises. The app's lifespan runs from the entry of an `async with` block to its end; without a
    block, it does not run. After the block, nothing of the app runs any more.

    As with `TestClient`, a WSGI app object runs in a thread worker, and the app of an import string in a worker
    process; a worker that is given is used as it is.

    Args:
        app: an ASGI or WSGI app, or a callable that returns one, which is called now; an import string
            (``"package.module:attribute"``, ``"package.module:factory()"``); or a worker.
        base_url: the base of relative URLs.
        raise_server_exceptions: whether the client raises the app's exceptions, as their own types; otherwise, it gets
            a 500.
        root_path: the path that the app is mounted at.
        backend, backend_options: for the worker process of an import string; see `TestClient`.
        cookies, headers, follow_redirects: see `httpx.AsyncClient`; redirects are followed by default.
        client: the client's address and port, as the app sees them.
        timeout: seconds, or an `httpx.Timeout`, for requests that give none; there is no limit by default.
        app_kind: ``"wsgi"`` or ``"asgi"``, if the app's signature does not tell.

    Raises:
        TypeError: `app` is none of these; or `backend` is given for an app that runs on the loop of the test.
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
        backend: Backend | None = None,
        backend_options: dict[str, Any] | None = None,
        cookies: Any = None,
        headers: Mapping[str, str] | None = None,
        follow_redirects: bool = True,
        client: tuple[str, int] = ("testclient", 50000),
        *,
        timeout: Any = None,
        app_kind: AppKind = "auto",
    ) -> None:
        check_backend(backend or "asyncio")
        check_kind(app_kind)
        self.app_state: dict[str, Any] = {}
        self._source = async_source_of(app, self.app_state, app_kind, backend, backend_options)
        transport = AsyncTestTransport(
            self._source,
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
        """The worker, for `run()` and `reset()`; it is started if it does not run yet.

        Raises:
            StateError: there is no worker, since the app runs on the event loop of the test.
        """
        return self._source.worker

    @property
    def app(self) -> Any:
        """The app; with a worker process, a stand-in for it as an argument of `worker.run()`."""
        return self._source.app

    async def send(self, request: Any, *, stream: bool = False, **options: Any) -> Any:
        """Send a request, as httpx does; with `stream`, the app waits until each piece of its response is read."""
        if stream:
            be_paced(request)
        return await super().send(request, stream=stream, **options)

    def websocket_connect(
        self, url: str, subprotocols: Sequence[str] | None = None, **options: Any
    ) -> AbstractAsyncContextManager[AsyncWebSocketSession]:
        """Return a context manager that connects to a WebSocket of the app on entering, and yields the session.

            async with client.websocket_connect("/chat") as session:
                await session.send_text("hello")
                assert await session.receive_text() == "hello"

        Args:
            url: a path, or a whole URL with ``ws://`` or ``wss://``.
            subprotocols: the subprotocols that the client offers; the app's choice is `session.accepted_subprotocol`.
            options: those of `request()`. `timeout` applies to each wait of the session for the app.

        Raises on entering:
            WebSocketDisconnect: the app closed the WebSocket instead of accepting it.
            WebSocketDenialResponse: the app answered with an HTTP response.
        """
        return self._session(url, websocket_request(url, subprotocols, options))

    @asynccontextmanager
    async def _session(self, url: str, request: dict[str, Any]) -> AsyncIterator[AsyncWebSocketSession]:
        try:
            await self.request("GET", **request)
        except Connected as connected:
            session: AsyncWebSocketSession = connected.session
        else:
            raise not_connected(url)
        async with session:
            yield session

    async def __aenter__(self) -> Self:
        error: BaseException | None = None
        try:
            await self._source.enter()
        except WorkerStartError as failed:
            error = failed.__cause__ or failed
        if error is not None:
            raise error
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        # A test that is cancelled has its app shut down, too, in a limited time.
        is_cancelled = exc_value is not None and _is_cancellation(exc_value)
        with move_on_after(LEAVE_SECONDS if is_cancelled else None, shield=is_cancelled):
            async with AsyncExitStack() as stack:
                stack.push_async_callback(self._source.leave)
                await self._transport.aclose()  # ends the responses that are open

    async def aclose(self) -> None:
        """Close the client: end what the app is in the middle of, and its worker, unless that was given."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._source.close)
            await super().aclose()


def _is_cancellation(error: BaseException) -> bool:
    return isinstance(error, get_cancelled_exc_class()) or any(map(_is_cancellation, members_of(error)))
