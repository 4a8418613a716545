"""`Serving`: what a browser context asks for goes to workers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Coroutine, Mapping
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import Any

from socketless.extras import require
from socketless.host.arguments import check_choice
from socketless.host.trace import logger
from socketless.playwright.apis import SyncApi, api_of
from socketless.playwright.contexts import Frames
from socketless.playwright.fetching import Broken, fetch, request_of
from socketless.playwright.hosts import App, Hosts, by_host
from socketless.playwright.uploads import Uploads
from socketless.playwright.websockets import Connection, handshake_of, origin_of

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_CLIENT = ("127.0.0.1", 123)
# The protocol's errors for a request that the page has given up, and after the end.
_GONE = "Invalid InterceptionId"
_OVER = "Fetch domain is not enabled"
_ALL_URLS = re.compile("")


class Serving:
    """What `serve()` returns: a context manager, by `with` for the sync API and by `async with` for the async one.

    Attributes:
        exceptions: what apps have raised, in order; the first of them is raised at the end. A test that expects one
            takes it out: ``serving.exceptions.clear()``.
        refused: the URLs of other hosts that were asked for.
    """

    def __init__(
        self,
        target: Any,
        apps: App | Mapping[str, App],
        *,
        base_url: str,
        others: str,
        raise_app_exceptions: bool,
        root_path: str,
    ) -> None:
        require("playwright", "playwright", by="socketless.playwright")
        check_choice("others", others, ("refuse", "pass"))
        self._context = _context_of(target)
        self._hosts = Hosts(by_host(apps, base_url))
        self._passes_others = others == "pass"
        self._raise_app_exceptions = raise_app_exceptions
        self._root_path = root_path
        self._api = api_of(self._context)
        self._uploads = Uploads()
        self._stack = ExitStack()
        self._tasks: dict[asyncio.Task[Any], str | None] = {}  # with the ids of the requests that they answer
        self._is_open = False
        self.exceptions: list[BaseException] = []
        self.refused: list[str] = []

    def __repr__(self) -> str:
        return f"<Serving {', '.join(self._hosts.patterns)}>"

    def __enter__(self) -> Serving:
        self._sync().wait(self._begin())
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._sync().wait(self._end())
        self._raise(exc)

    async def __aenter__(self) -> Serving:
        if isinstance(self._api, SyncApi):
            raise TypeError("this is a page of Playwright's sync API: write `with serve(...)`")
        await self._begin()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._end()
        self._raise(exc)

    def _sync(self) -> SyncApi:
        if not isinstance(self._api, SyncApi):
            raise TypeError("this is a page of Playwright's async API: write `async with serve(...)`")
        return self._api

    def _raise(self, error_of_test: BaseException | None) -> None:
        """Raise what an app has raised: it is why the test has failed, if it has."""
        first, *rest = [*self.exceptions, None]
        if first is None:
            return
        if error_of_test is not None and not isinstance(error_of_test, Exception):  # Ctrl-C
            rest.insert(0, first)
        for error in filter(None, rest):
            logger.error("an app raised as well", exc_info=error)
        if first not in rest:
            raise first

    async def _begin(self) -> None:
        call, browser = self._api.call, self._context.browser
        self._hosts.start(self._stack)
        try:
            self._cdp = await call(browser.new_browser_cdp_session)
            self._frames = Frames(self._api, self._context, self._cdp)
            self._listen(self._cdp, "Fetch.requestPaused", self._on_request)
            self._listen(self._context, "requestfailed", self._on_loss)
            self._listen(self._context, "page", self._on_page)
            for page in self._context.pages:
                self._listen(page, "close", self._on_loss)
            await call(self._context.route_web_socket, _ALL_URLS, self._api.callback(self._on_websocket))
            await self._uploads.install(self._api, self._context)
            await call(self._cdp.send, "Fetch.enable", {"patterns": [{"urlPattern": "*"}]})
        except BaseException:
            self._stack.close()
            raise
        self._is_open = True

    def _listen(self, emitter: Any, event: str, function: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        listener = self._api.callback(function)
        emitter.on(event, listener)
        self._stack.callback(emitter.remove_listener, event, listener)

    async def _end(self) -> None:
        self._is_open = False
        requests = [each for each in self._tasks.values() if each is not None]
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        for request_id in requests:  # or it would go on, to the network
            await self._command("Fetch.failRequest", {"requestId": request_id, "errorReason": "Aborted"})
        await self._command("Fetch.disable", {})
        await self._call_late(self._cdp.detach)
        self._stack.close()

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

    def _remember(self, request_id: str | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks[task] = request_id
        task.add_done_callback(self._tasks.pop)

    async def _on_request(self, event: Mapping[str, Any]) -> None:
        with suppress(asyncio.CancelledError):  # the page has given it up, or the test is over
            self._remember(event["requestId"])
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
        if not self._is_open:
            return "Fetch.failRequest", {"errorReason": "Aborted"}
        worker = self._hosts.find(url)
        if worker is None:
            if self._passes_others:
                return "Fetch.continueRequest", {}
            self._refuse(request["method"], url)
            return "Fetch.failRequest", {"errorReason": "BlockedByClient"}
        body = await self._uploads.body_of(request)
        message = request_of(request, body, self._root_path, _CLIENT)
        try:
            return "Fetch.fulfillRequest", await fetch(
                worker, message, self._note, raise_app_exceptions=self._raise_app_exceptions
            )
        except Broken:
            return "Fetch.failRequest", {"errorReason": "ConnectionReset"}

    def _refuse(self, what: str, url: str) -> None:
        self.refused.append(url)
        logger.warning("%s %s: refused; there are apps for %s", what, url, ", ".join(self._hosts.patterns))

    async def _on_page(self, page: Any) -> None:
        self._listen(page, "close", self._on_loss)

    async def _on_loss(self, lost: Any) -> None:
        """Give up what pages have given up. The event does not say which it is, so it is tried."""
        from playwright.async_api import Error

        for task, request_id in list(self._tasks.items()):
            if request_id is None:
                continue
            try:
                await self._api.call(self._cdp.send, "Fetch.getResponseBody", {"requestId": request_id})
            except Error as error:
                if _GONE in str(error):
                    task.cancel()

    async def _on_websocket(self, route: Any) -> None:
        worker = self._hosts.find(route.url) if self._is_open else None
        if worker is None:
            if self._passes_others or not self._is_open:
                route.connect_to_server()
                return
            self._refuse("WebSocket", route.url)
            await self._api.call(route.close, code=1006, reason="")
            return
        connection = Connection(self._api, route, worker, self._note, raise_app_exceptions=self._raise_app_exceptions)
        origin = origin_of(route.url, [page.url for page in self._context.pages])
        cookies = await self._api.call(self._context.cookies, "http" + route.url.removeprefix("ws"))
        if await connection.open(handshake_of(route, origin, cookies, self._root_path, _CLIENT)):
            task = asyncio.ensure_future(self._carry(connection))
            self._tasks[task] = None
            task.add_done_callback(self._tasks.pop)

    async def _carry(self, connection: Connection) -> None:
        with suppress(asyncio.CancelledError):
            await connection.carry()


def _context_of(target: Any) -> Any:
    context = getattr(target, "context", target)
    browser = getattr(context, "browser", None)
    if not hasattr(context, "route_web_socket"):
        raise TypeError(f"serve() takes a page or a browser context of Playwright, not {target!r}")
    if browser is None or browser.browser_type.name != "chromium":
        name = "a persistent context" if browser is None else browser.browser_type.name
        raise ValueError(f"serve() needs a context of Chromium, from browser.new_context(), not {name}")
    return context
