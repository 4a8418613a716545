"""A client's connection to an app as an `asyncio.Transport`, for client libraries that are an `asyncio.Protocol`.

    protocol.data_received() ◀── Output ── Bridge ── exchange ──▶ the app
    transport.write() ────────── feed() ──▶

Each request is answered in a task of its own, which has the context (`contextvars`) of who has written the request.
Between two requests there is none.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any, Protocol

from socketless._clients.response import Answers
from socketless._host.trace import logger
from socketless._http11.bridge import Bridge, Output
from socketless._wire.drivers import run_async, wait_async
from socketless._wire.steps import Wait, Woken

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_HIGH_WATER = 64 * 1024  # bytes that are written and not taken, before the protocol is told to wait


class Client(Protocol):
    """What the transport needs of a protocol, beyond what asyncio has."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def data_received(self, data: bytes) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...

    def fail(self, error: BaseException, *, is_answered: bool) -> None:
        """Take notice of what the app has raised, or what else ends the connection.

        `is_answered` says whether a part of the response has come.
        """


class BridgeTransport(asyncio.Transport):
    """One connection, of the running event loop; `worker` and `options` are those of `Bridge`."""

    def __init__(self, protocol: Client, worker: Answers, **options: Any) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._protocol = protocol
        self._resting = asyncio.Event()  # nothing is answered: it is between two requests, or waits for more of one
        self._resting.set()
        self.bridge = Bridge(worker, **options)
        self._low_water, self._high_water = _HIGH_WATER // 4, _HIGH_WATER
        self._is_full = False  # the protocol is told to wait
        self._is_fed = asyncio.Event()  # something, or the end, since the last look
        self._answering: asyncio.Task[None] | None = None
        self._is_answered = False  # a part of the response has come to the protocol
        self._pump: asyncio.Task[None] | None = None  # of a WebSocket
        self._may_read = asyncio.Event()
        self._may_read.set()
        self._has_ended = False  # there is no more to be answered
        self._is_closing = False
        self._is_lost = False  # the protocol is told, or will be
        protocol.connection_made(self)

    @property
    def tasks(self) -> list[asyncio.Task[None]]:
        """What is under way."""
        return [task for task in (self._answering, self._pump) if task is not None and not task.done()]

    @property
    def is_resting(self) -> bool:
        """Whether nothing is to be expected before the client writes more."""
        return self._resting.is_set()

    async def rest(self) -> None:
        """Wait until that is so."""
        await self._resting.wait()

    # What the protocol writes

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        """Take bytes of the client. It never waits; the protocol is told when to."""
        if self._is_closing or not data:
            return
        self.bridge.feed(bytes(data))
        self._is_fed.set()
        if self.bridge.unread > self._high_water and not self._is_full:
            self._is_full = True
            self._protocol.pause_writing()
        if self._answering is None and not self._has_ended:
            self._resting.clear()
            self._answering = self._loop.create_task(self._answer())  # in a copy of the caller's context

    def write_eof(self) -> None:
        """Take notice that the client writes no more."""
        self.bridge.feed_eof()
        self._is_fed.set()

    def can_write_eof(self) -> bool:
        """Return whether the client may write no more, and read on: it may."""
        return True

    def get_write_buffer_size(self) -> int:
        """Return how many bytes the app has not asked for yet."""
        return self.bridge.unread

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return how many of them let the protocol write on, and wait."""
        return self._low_water, self._high_water

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Choose these numbers; see `asyncio.WriteTransport`."""
        if high is None:
            high = _HIGH_WATER if low is None else 4 * low
        self._low_water, self._high_water = high // 4 if low is None else low, high

    # What it reads

    def is_reading(self) -> bool:
        """Return whether the protocol takes bytes."""
        return self._may_read.is_set() and not self._is_closing

    def pause_reading(self) -> None:
        """Give the protocol nothing for a while."""
        self._may_read.clear()

    def resume_reading(self) -> None:
        """Go on with that."""
        self._may_read.set()

    async def _answer(self) -> None:
        # Runs in a task of its own, from the first byte of a request until it is answered, or the connection ends.
        self._is_answered = False
        try:
            await asyncio.sleep(0)  # write() is to return first, where an eager task factory begins here
            while not (self.bridge.is_idle or self.bridge.is_closed):
                await run_async(self.bridge.run(), self._meet)
                await self._raise_failure()
                self._resume_writing()  # which may write the next request
            if self.bridge.is_closed:
                await self._may_read.wait()
                self._finish()
        except BaseException as error:
            self._has_ended = True
            self.bridge.cancel()
            if not self._is_closing:
                self._is_closing = self.bridge.upgraded is None  # aiohttp, for one, says goodbye to a WebSocket
                self._protocol.fail(error, is_answered=self._is_answered)
            elif not isinstance(error, asyncio.CancelledError):
                logger.error("the app raised after its client had gone", exc_info=error)
        finally:
            self._answering = None
            self._resting.set()

    def _finish(self) -> None:
        # There is nothing more to be read.
        self._has_ended = True
        upgraded = self.bridge.upgraded
        if upgraded is None or not upgraded.awaits_goodbye or self._pump is None or self._pump.done():
            self._is_closing = True
            self._lose()

    async def _meet(self, need: Any) -> Woken | None:
        # What the bridge's steps need.
        self._resume_writing()
        if isinstance(need, Wait):
            return await wait_async(need)
        if isinstance(need, Output):
            await self._pass_on(need.data)
        else:
            await self._wait_for_more()
        return None

    async def _pass_on(self, output: bytes) -> None:
        await self._raise_failure()
        await self._may_read.wait()
        if self._is_lost:
            return  # the client of a WebSocket has gone; its app has yet to return
        self._is_answered = True
        self._protocol.data_received(output)
        if self.bridge.upgraded is not None and self._pump is None:
            self._pump = self._loop.create_task(self._pump_frames())

    async def _raise_failure(self) -> None:
        upgraded = self.bridge.upgraded
        if upgraded is not None and upgraded.has_failed:
            await run_async(upgraded.finish())

    async def _wait_for_more(self) -> None:
        while not self.bridge.has_news:
            self._is_fed.clear()
            self._resting.set()
            await self._is_fed.wait()
            self._resting.clear()

    def _resume_writing(self) -> None:
        if self._is_full and self.bridge.unread <= self._low_water:
            self._is_full = False
            self._protocol.resume_writing()

    async def _pump_frames(self) -> None:
        # Runs in a task of its own, until the client of a WebSocket writes no more, or the WebSocket is closed.
        with suppress(Exception):  # run() tells of it
            await run_async(self.bridge.pump(), self._meet)
        if self._has_ended:
            self._is_closing = True
            self._lose()

    # The end

    def is_closing(self) -> bool:
        """Return whether the connection is at its end."""
        return self._is_closing

    def close(self) -> None:
        """Leave: the app is told that its client has gone, and gets what was written of a WebSocket before."""
        self._has_ended = self._is_closing = True
        if self.bridge.upgraded is None:
            self._cancel()
        self.bridge.let_through()
        self._may_read.set()
        self._lose()

    def abort(self) -> None:
        """Leave at once."""
        self.close()
        self._cancel()

    def _cancel(self) -> None:
        for task in self.tasks:
            task.cancel()
        self.bridge.cancel()

    def _lose(self) -> None:
        self.write_eof()
        if not self._is_lost and not self._loop.is_closed():
            self._is_lost = True
            self._loop.call_soon(self._protocol.connection_lost, None)
