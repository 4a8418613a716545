"""`Serving`: what a browser context asks for goes to workers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, ExitStack, suppress
from types import TracebackType
from typing import Any

from socketless._extras import require
from socketless._host.trace import logger
from socketless._playwright.apis import SyncApi, api_of
from socketless._playwright.contexts import Frames, served
from socketless._playwright.fetching import Broken, fetch, request_of
from socketless._playwright.websockets import Connection, handshake_of, origin_of
from socketless._switch.apps import App, by_host, start_workers
from socketless._switch.hosts import Hosts, Others

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_CLIENT = ("127.0.0.1", 123)
# The protocol's errors for a request that the page has given up, and after the end.
_GONE = "Invalid InterceptionId"
_OVER = "Fetch domain is not enabled"
_ATTEMPTS, _PAUSE = 30, 0.02  # seconds, and a little more before each


class Serving:
    """The context manager that `serve()` returns: for `with` in the sync API, for `async with` in the async one.

    Attributes:
        exceptions: the exceptions that apps have raised, in order; the end of the block raises the first of them. A
            test that expects one removes it: ``serving.exceptions.clear()``.
        refused: the URLs of refused requests to other hosts.
    """

    def __init__(
        self,
        target: Any,
        apps: App | Mapping[str, App],
        *,
        base_url: str,
        others: Others,
        raise_app_exceptions: bool,
        root_path: str,
    ) -> None:
        require("playwright", "playwright", by="socketless.playwright")
        self._context = _context_of(target)
        self._apps = by_host(apps, base_url, others)
        self._hosts = Hosts(self._apps, "pass")  # whose workers are started later
        self._passes_others = others == "pass"
        self._raise_app_exceptions = raise_app_exceptions
        self._root_path = root_path
        self._api = api_of(self._context)
        self._served = served(self._context)
        self._stack = AsyncExitStack()
        self._tasks: dict[asyncio.Task[Any], Mapping[str, Any] | None] = {}  # with the events that they answer
        self.exceptions: list[BaseException] = []
        self.refused: list[str] = []

    def __repr__(self) -> str:
        return f"<Serving {', '.join(self._apps)}>"

    def __enter__(self) -> Serving:
        self._sync().wait(self._begin())
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sync().wait(self._end())
        self.raise_exceptions(exc)

    async def __aenter__(self) -> Serving:
        if isinstance(self._api, SyncApi):
            raise TypeError("this is a page of Playwright's sync API: write `with serve(...)`")
        await self._begin()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._end()
        self.raise_exceptions(exc)

    def _sync(self) -> SyncApi:
        if not isinstance(self._api, SyncApi):
            raise TypeError("this is a page of Playwright's async API: write `async with serve(...)`")
        return self._api

    def raise_exceptions(self, error_of_test: BaseException | None = None) -> None:
        """Raise the first of `exceptions`, log the others, and clear the list. If it is empty, do nothing.

        Args:
            error_of_test: the exception that the test has raised. As the app's exception may well be its cause, that is
                raised in its place; but a skipped test or a Ctrl-C is not replaced.
        """
        exceptions, self.exceptions[:] = self.exceptions[:], []
        is_raised = exceptions and (error_of_test is None or isinstance(error_of_test, Exception))
        for error in exceptions[1:] if is_raised else exceptions:
            logger.error("an app raised as well", exc_info=error)
        if is_raised:
            exceptions[0].__context__ = exceptions[0].__context__ or error_of_test
            raise exceptions[0]

    async def _begin(self) -> None:
        call, browser = self._api.call, self._context.browser
        try:
            on_end = self._stack.enter_context(ExitStack())
            workers = start_workers(self._apps, {}, {}, on_end, objects_on_threads=True)
            self._hosts = Hosts(workers, "pass")
            self._cdp = await call(browser.new_browser_cdp_session)
            self._stack.push_async_callback(self._call_late, self._cdp.detach)  # which disables Fetch, too
            self._frames = Frames(self._api, self._context, self._cdp)
            self._listen(self._cdp, "Fetch.requestPaused", self._on_request)
            self._listen(self._context, "requestfailed", self._on_loss)
            self._listen(self._context, "page", self._on_page)
            for page in self._context.pages:
                await self._on_page(page)
            await self._served.prepare(self._api, self._context)
            await call(self._cdp.send, "Fetch.enable", {"patterns": [{"urlPattern": "*"}]})
        except BaseException:
            await self._stack.aclose()
            raise
        self._served.servings.append(self)

    def _listen(self, emitter: Any, event: str, function: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        listener = self._api.callback(function)
        emitter.on(event, listener)
        self._stack.callback(emitter.remove_listener, event, listener)

    async def _end(self) -> None:
        async with self._stack:
            await self._stop_serving()

    async def _stop_serving(self) -> None:
        self._served.servings.remove(self)
        events = [each for each in self._tasks.values() if each is not None]
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for event in events:  # or it would go on, to the network
            await self._command("Fetch.failRequest", {"requestId": event["requestId"], "errorReason": "Aborted"})
        await self._command("Fetch.disable", {})

    def _note(self, error: BaseException) -> None:
        self.exceptions.append(error)

    async def _command(self, method: str, arguments: dict[str, Any]) -> None:
        await self._call_late(self._cdp.send, method, arguments)

    async def _call_late(self, function: Callable[..., Any], *args: Any) -> None:
        """Call what may come too late: the page, or all of it, may have gone."""
        from playwright.async_api import Error

        try:
            await self._api.call(function, *args)
        except Error as error:
            is_late = _GONE in str(error) or _OVER in str(error) or type(error).__name__ == "TargetClosedError"
            if not is_late:
                raise

    def _remember(self, task: asyncio.Task[Any] | None, event: Mapping[str, Any] | None) -> None:
        assert task is not None
        self._tasks[task] = event
        task.add_done_callback(self._tasks.pop)

    async def _on_request(self, event: Mapping[str, Any]) -> None:
        with suppress(asyncio.CancelledError):  # the page has given it up, or the test is over
            self._remember(asyncio.current_task(), event)
            try:
                command, arguments = await self._answer(event)
                await self._command(command, {"requestId": event["requestId"], **arguments})
            except Exception as error:
                self._note(error)
                await self._command("Fetch.failRequest", {"requestId": event["requestId"], "errorReason": "Failed"})

    async def _answer(self, event: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
        request = event["request"]
        url = request["url"]
        if not url.startswith(("http://", "https://")) or not await self._frames.have(event["frameId"]):
            return "Fetch.continueRequest", {}
        if self._served.servings[-1:] != [self]:  # another block within this one comes first
            return "Fetch.continueRequest", {}
        worker = self._hosts.find_text(url)
        if worker is None:
            if self._passes_others:
                return "Fetch.continueRequest", {}
            self._refuse(request["method"], url)
            return "Fetch.failRequest", {"errorReason": "BlockedByClient"}
        body = await self._served.uploads.body_of(request)
        message = request_of(request, body, self._root_path, _CLIENT)
        try:
            return "Fetch.fulfillRequest", await fetch(
                worker, message, self._note, raise_app_exceptions=self._raise_app_exceptions
            )
        except Broken:
            return "Fetch.failRequest", {"errorReason": "ConnectionReset"}

    def _refuse(self, what: str, url: str) -> None:
        self.refused.append(url)
        logger.warning("%s %s: refused; there are apps for %s", what, url, ", ".join(self._apps))

    async def _on_page(self, page: Any) -> None:
        self._listen(page, "close", self._on_close)
        self._listen(page, "framenavigated", self._on_loss)  # before 1.50 or so, no request of the last page fails

    async def _on_loss(self, lost: Any) -> None:
        """Give up what a page has given up. Playwright does not say which it is, so that is tried.

        `lost` is its request, or a frame that is elsewhere now. The browser may be a little later than its page.
        """
        # There is no event to wait for. The domain Fetch has none for it; Network, which only sessions with pages have,
        # tells with `loadingFailed` of what a script aborts, but not of what a page leaves behind.
        with suppress(asyncio.CancelledError):
            self._remember(asyncio.current_task(), None)
            suspects = self._waiting()
            for attempt in range(_ATTEMPTS):
                for task, event in suspects:
                    if await self._is_gone(event):
                        task.cancel()
                await asyncio.sleep(attempt * _PAUSE)
                suspects = [(task, event) for task, event in self._waiting() if _is_same(lost, event["request"])]
                if not suspects:
                    return

    async def _is_gone(self, event: Mapping[str, Any]) -> bool:
        from playwright.async_api import Error

        try:
            await self._api.call(self._cdp.send, "Fetch.getResponseBody", {"requestId": event["requestId"]})
        except Error as error:  # in any case: there is no response yet
            return _GONE in str(error)
        return False

    async def _on_close(self, page: Any) -> None:
        """Give up what a page has asked for that is closed now."""
        from playwright.async_api import Error

        with suppress(Error):  # all of it closes
            for task, event in self._waiting():
                if not await self._frames.find(event["frameId"]):
                    task.cancel()

    def _waiting(self) -> list[tuple[asyncio.Task[Any], Mapping[str, Any]]]:
        return [(task, event) for task, event in self._tasks.items() if event is not None]

    async def connect(self, route: Any) -> None:
        """Connect a WebSocket of a page, which Playwright's `route` shows."""
        with suppress(asyncio.CancelledError):  # the test is over
            self._remember(asyncio.current_task(), None)
            await self._connect(route)

    async def _connect(self, route: Any) -> None:
        worker = self._hosts.find_text(route.url)
        if worker is None and self._passes_others:
            route.connect_to_server()
            return
        if worker is None:
            self._refuse("WebSocket", route.url)
            await self._api.call(route.close, code=1006, reason="")
            return
        connection = Connection(self._api, route, worker, self._note, raise_app_exceptions=self._raise_app_exceptions)
        origin = origin_of(route.url, [page.url for page in self._context.pages])
        cookies = await self._api.call(self._context.cookies, "http" + route.url.removeprefix("ws"))
        if await connection.open(handshake_of(route, origin, cookies, self._root_path, _CLIENT)):
            self._remember(asyncio.ensure_future(self._carry(connection)), None)

    async def _carry(self, connection: Connection) -> None:
        with suppress(asyncio.CancelledError):
            await connection.carry()


def _is_same(lost: Any, shown: Mapping[str, Any]) -> bool:
    url, method = lost.url.partition("#")[0], getattr(lost, "method", None)  # a frame has none
    return (method, url) == (shown["method"], shown["url"])


def _context_of(target: Any) -> Any:
    context = getattr(target, "context", target)
    browser = getattr(context, "browser", None)
    if not hasattr(context, "route_web_socket"):
        raise TypeError(f"serve() takes a page or a browser context of Playwright, not {target!r}")
    if browser is None or browser.browser_type.name != "chromium":
        name = "a persistent context" if browser is None else browser.browser_type.name
        raise ValueError(f"serve() needs a context of Chromium, from browser.new_context(), not {name}")
    return context
