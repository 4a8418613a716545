"""An ASGI app on the event loop of the client, behind the interface of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import cache
from typing import Any

from anyio import move_on_after

from socketless._host.limits import NO_LIMITS, Timeouts
from socketless._host.upload import Upload, check_message
from socketless._inloop.exchange import LoopExchange, LoopHttpCall, LoopWebSocketCall, Mailbox
from socketless._wire.drivers import in_trio
from socketless._wire.messages import Request
from socketless._wire.steps import Pull, PullingSteps
from socketless._worker.asgi import as_asgi3
from socketless._worker.lifespan import Lifespan
from socketless.errors import StateError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


class InLoop:
    """An ASGI app on the event loop of whoever asks; from `start_up()` to `shut_down()`, on that one only.

    Args:
        app: the app.
        kind: ``"asgi"`` or ``"asgi2"``.
        state: what the lifespan fills, and each request has a copy of; `None`: a dict of its own, if it is supported.
        needs_lifespan: whether an app that raises at its lifespan has failed, unless it refuses that by name.
    """

    app_kind = "asgi"
    description = "the app object"
    max_connections: int | None = None
    max_body_bytes: int | None = None

    def __init__(
        self,
        app: Callable[..., Any],
        kind: str,
        *,
        state: dict[str, Any] | None = None,
        needs_lifespan: bool = False,
    ) -> None:
        self.app = app
        self._app = as_asgi3(app) if kind == "asgi2" else app
        self._state = state
        self._needs_lifespan = needs_lifespan
        self._lifespan: Lifespan | None = None  # while it has started
        self._loop: asyncio.AbstractEventLoop | None = None  # where it has
        self._exchanges: set[LoopExchange] = set()  # whose app has not returned

    def __repr__(self) -> str:
        return f"<the app on the loop of the test: {self.app!r}>"

    async def start_up(self) -> None:
        """Start the app's lifespan.

        Raises:
            LifespanError: the app answered that it failed, or raised.
            AppProtocolError: it broke the specification.
        """
        if self._lifespan is not None:
            raise StateError("the lifespan of the app has started already")
        aio = _aio()
        lifespan = Lifespan(
            self._app, self._state, is_required=self._needs_lifespan, may_refuse=self._needs_lifespan, aio=aio
        )
        try:
            await lifespan.start_up()
        except BaseException:
            lifespan.cancel()
            raise
        self._lifespan, self._loop = lifespan, aio.get_running_loop()

    async def shut_down(self, timeout: float | None) -> None:
        """End what the app is in the middle of, for which it has `timeout` seconds, and shut its lifespan down.

        Raises:
            LifespanError: the app answered that it failed.
            Exception: what it raised.
        """
        await self.end_exchanges(timeout)
        lifespan, self._lifespan, self._loop = self._lifespan, None, None
        if lifespan is None:
            return
        try:
            await lifespan.shut_down()
        except BaseException:
            lifespan.cancel()
            raise

    async def end_exchanges(self, timeout: float | None) -> None:
        """End what the app is in the middle of, for which it has `timeout` seconds."""
        exchanges = list(self._exchanges)
        for exchange in exchanges:
            exchange.cancel()
        with move_on_after(timeout):
            for exchange in exchanges:
                await exchange.ended.wait()
        for exchange in exchanges:
            await exchange.wait_for_end(0)

    def exchange(
        self, message: Request, timeouts: Timeouts = NO_LIMITS, body: Pull | None = None
    ) -> PullingSteps[LoopExchange]:
        """Call the app, and wait for its first answer; see `Worker.exchange`."""
        upload = check_message(message, message.label, body, self.max_body_bytes)
        exchange = self._begin(message, timeouts, upload)
        try:
            exchange.answer = yield from exchange.receive()
        except BaseException:
            exchange.cancel()
            raise
        return exchange

    def _begin(self, message: Request, timeouts: Timeouts, upload: Upload) -> LoopExchange:
        aio = _aio()
        if self._loop is not None and aio.get_running_loop() != self._loop:
            raise StateError(
                "the lifespan of the app runs on another event loop than this request: let the fixture and the test "
                "share a loop (loop_scope of pytest-asyncio), or enter the client in the test"
            )
        mailbox = Mailbox(aio)
        state = self._state if self._lifespan is None else self._lifespan.state
        http, websocket = _kinds(aio)
        kind = websocket if message.is_websocket else http
        call = kind(self._app, message, state, mailbox, self.max_body_bytes)
        exchange = LoopExchange(message.label, call, mailbox, timeouts, upload, self._exchanges.discard)
        self._exchanges.add(exchange)
        call.begin()
        return exchange


def _aio() -> Any:
    # asyncio, or what stands for it.
    if not in_trio():
        return asyncio
    from socketless._inloop import on_trio

    return on_trio


@cache
def _kinds(aio: Any) -> tuple[type[LoopHttpCall], type[LoopWebSocketCall]]:
    http = type("LoopHttpCall", (LoopHttpCall,), {"aio": aio})
    websocket = type("LoopWebSocketCall", (LoopWebSocketCall,), {"aio": aio})
    return http, websocket
