"""WebSockets of a page: Playwright puts a class of its own in the place of the page's, and shows what that does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import urlsplit

from socketless._clients.response import reason_of
from socketless._host.exchange import Exchange
from socketless._host.failures import exception_of
from socketless._host.trace import logger
from socketless._host.worker import Worker
from socketless._playwright.apis import Api
from socketless._playwright.messages import host_of, message_of
from socketless._wire.drivers import run_async
from socketless._wire.messages import Cancel, Event, Failed, Message, RawHeaders, Request, Response
from socketless.errors import SocketlessError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_HANDSHAKE = [
    (b"connection", b"Upgrade"),
    (b"upgrade", b"websocket"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),  # the example of RFC 6455, section 1.3
]
_NO_CODE, _ABNORMAL, _INTERNAL_ERROR = 1005, 1006, 1011  # RFC 6455, section 7.4.1


def handshake_of(
    route: Any, origin: str | None, cookies: Iterable[Mapping[str, Any]], root_path: str, client: tuple[str, int]
) -> Request:
    """Return the message that opens a WebSocket."""
    headers: RawHeaders = [*_HANDSHAKE]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    line = "; ".join(f"{each['name']}={each['value']}" for each in cookies)
    if line:
        headers.append((b"cookie", line.encode("latin-1", "replace")))
    protocols = getattr(route, "protocols", None)  # of Playwright 1.60 or so
    if protocols:
        headers.append((b"sec-websocket-protocol", ", ".join(protocols).encode()))
    return message_of("GET", route.url, headers, root_path, client)


def origin_of(url: str, page_urls: Iterable[str]) -> str | None:
    """Return the origin of the page that opens a WebSocket, of those that may have: Playwright does not say which."""
    origins = [
        f"{urlsplit(each).scheme}://{host_of(each)}" for each in page_urls if each.startswith(("http://", "https://"))
    ]
    own = "http" + url.removeprefix("ws").partition("://")[0] + "://" + host_of(url)
    return own if own in origins else next(iter(origins), None)


class Connection:
    """A WebSocket between a page and an app. It is opened, and then carried until one side ends it.

    Args:
        route: Playwright's `WebSocketRoute`.
        note: gets what the app has raised, if that is to be raised, and what is wrong with the worker.
    """

    def __init__(
        self,
        api: Api,
        route: Any,
        worker: Worker,
        note: Callable[[BaseException], object],
        *,
        raise_app_exceptions: bool,
    ) -> None:
        self._api = api
        self._route = route
        self._worker = worker
        self._note = note
        self._raise_app_exceptions = raise_app_exceptions
        self._from_page: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._exchange: Exchange | None = None
        self._closing = (_ABNORMAL, "")  # what the page hears if the app just returns

    async def open(self, message: Request) -> bool:
        """Shake hands with the app; return whether it has accepted."""
        self._route.on_message(self._on_message)
        self._route.on_close(self._on_close)
        try:
            exchange = await run_async(self._worker.exchange(message))
        except SocketlessError as error:
            self._note(error)
            await self._close(_ABNORMAL, "")
            return False
        except asyncio.CancelledError:  # the test is over
            await self._close(_ABNORMAL, "")
            raise
        answer = exchange.answer
        if isinstance(answer, Event) and answer.event["type"] == "websocket.accept":
            exchange.keep_open()
            self._exchange = exchange
            return True
        try:
            if isinstance(answer, Failed):
                self._note_failure(answer)
            if isinstance(answer, Response):
                logger.warning("%s: denied with %s %s", message.label, answer.status, reason_of(answer))
            await self._close(_ABNORMAL, "")
        finally:
            exchange.cancel()
        return False

    async def carry(self) -> None:
        """Carry messages both ways, until the app's end."""
        assert self._exchange is not None
        sender = asyncio.ensure_future(self._send_all(self._exchange))
        try:
            while (message := await run_async(self._exchange.receive_or_end())) is not None:
                await self._take(message)
            await self._close(*self._closing)
        except SocketlessError as error:
            self._note(error)
            await self._close(_ABNORMAL, "")
        finally:
            sender.cancel()
            self._exchange.cancel()

    async def _take(self, message: Message) -> None:
        if isinstance(message, Failed):
            self._note_failure(message)
            await self._close(_INTERNAL_ERROR, "")
        elif isinstance(message, Event) and message.event["type"] == "websocket.send":
            event = message.event
            self._route.send(event["text"] if event.get("text") is not None else event["bytes"])
        elif isinstance(message, Event):
            await self._close(message.event["code"], message.event["reason"])

    def _note_failure(self, failed: Failed) -> None:
        if self._raise_app_exceptions:
            self._note(exception_of(failed))

    async def _send_all(self, exchange: Exchange) -> None:
        while True:
            event = await self._from_page.get()
            try:
                await run_async(exchange.send(Event(event)))
                if event["type"] == "websocket.disconnect":
                    await run_async(exchange.send(Cancel()))
                    return
            except SocketlessError:  # the app has returned, or what carry() hears, too
                return

    def _on_message(self, message: str | bytes) -> None:
        kind = "text" if isinstance(message, str) else "bytes"
        self._from_page.put_nowait({"type": "websocket.receive", kind: message})

    def _on_close(self, code: int | None, reason: str | None) -> None:
        self._closing = (code or _NO_CODE, reason or "")  # the server's answer to it is the same
        self._from_page.put_nowait({"type": "websocket.disconnect", "code": code or _NO_CODE, "reason": reason or ""})

    async def _close(self, code: int, reason: str) -> None:
        await self._api.call(self._route.close, code=code, reason=reason)
