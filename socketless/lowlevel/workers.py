"""A stream whose other end is a worker: nothing of it leaves this process, but for the worker's pipes.

    send()    ── bytes ─▶ _input ─▶ Bridge ── Request ──▶ the app
    receive() ◀─ bytes ── _output ◀─ Bridge ◀─ Response ── the app

The bridge runs in a task for each request: from its first bytes until its response is complete.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from socketless.errors import StateError, WriteTimeout
from socketless.host.limits import Timeouts
from socketless.host.worker import Worker
from socketless.lowlevel.streams import LIMIT, Data, Stream, within
from socketless.wire.drivers import run_async

try:
    from socketless.bridge import Bridge
except ModuleNotFoundError as error:
    if error.name != "h11":
        raise
    raise ModuleNotFoundError("a worker's bytes need h11: pip install 'socketless[lowlevel]'", name="h11") from None

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


@dataclass(frozen=True)
class WorkerPeer:
    """A worker, and how requests are made of what is sent."""

    worker: Worker
    options: tuple[tuple[str, Any], ...]  # of `Bridge`

    @classmethod
    def of(
        cls,
        worker: Worker,
        *,
        scheme: str = "http",
        server: tuple[str, int] = ("testserver", 80),
        client: tuple[str, int] = ("127.0.0.1", 123),
        root_path: str = "",
        raise_app_exceptions: bool = True,
    ) -> WorkerPeer:
        options = {
            "scheme": scheme,
            "server": server,
            "client": client,
            "root_path": root_path,
            "raise_app_exceptions": raise_app_exceptions,
        }
        return cls(worker, tuple(options.items()))

    def __str__(self) -> str:
        return repr(self.worker)

    async def open(self, timeouts: Timeouts) -> Stream:
        return WorkerStream(self, timeouts)


class WorkerStream:
    """A stream to a bridge of its own."""

    def __init__(self, peer: WorkerPeer, timeouts: Timeouts) -> None:
        self.on_unasked: Callable[[], None] | None = None
        self._name = str(peer)
        self._bridge = Bridge(peer.worker, self, self._put, **dict(peer.options))
        self._bridge.timeouts = timeouts
        self._task: asyncio.Task[None] | None = None
        self._pump: asyncio.Task[None] | None = None  # of a WebSocket
        self._input: deque[bytes] = deque()
        self._has_input = asyncio.Event()
        self._is_pulling = False  # the bridge waits for input
        self._input_was_taken = asyncio.Event()
        self._output: deque[memoryview] = deque()  # piece by piece, as the app has sent it
        self._output_was_taken = asyncio.Event()
        self._news = asyncio.Event()  # there is output, or the end, or nothing more is to be expected without input
        self._is_closed = False
        self._has_ended = False
        self._error: BaseException | None = None  # that has ended it

    # What the bridge calls

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while not self._input:
            self._has_input.clear()
            self._is_pulling = True
            self._news.set()
            await self._has_input.wait()
        self._is_pulling = False
        self._input_was_taken.set()
        return self._input.popleft()

    def _put(self, output: bytes) -> None:
        self._output.append(memoryview(output))
        self._news.set()

    async def _run(self) -> None:
        # Runs in a task, until the response to what was sent is complete.
        try:
            while self._input or not self._bridge.is_idle:
                while sum(map(len, self._output)) >= LIMIT:
                    self._output_was_taken.clear()
                    await self._output_was_taken.wait()
                output = await run_async(self._bridge.next_output())
                if output is None:
                    self._has_ended = True
                    return
                self._put(output)
                if self._pump is None and self._bridge.upgraded is not None:
                    self._pump = asyncio.ensure_future(self._run_pump())
        except BaseException as error:
            self._has_ended = True
            if self._is_closed:
                raise
            self._error = error
        finally:
            self._news.set()
            self._input_was_taken.set()

    async def _run_pump(self) -> None:
        # Runs in a task, for as long as a WebSocket is open.
        with suppress(Exception):  # it is closed, which next_output() tells
            await run_async(self._bridge.pump())

    # What the connection calls

    async def send(self, data: Data, limit: float | None) -> None:
        if self._is_closed:
            raise StateError(f"{self._name}: the connection is closed")
        if self._has_ended:
            raise ConnectionResetError(f"{self._name}: the worker has closed the connection")
        if data:
            self._input.append(bytes(data))
            self._has_input.set()
        if self._input and (self._task is None or self._task.done()):
            self._task = asyncio.ensure_future(self._run())  # with the caller's context variables
        try:
            await within(limit, self._until_room(), f"{self._name}: the worker did not take what was sent")
        except TimeoutError as error:
            raise WriteTimeout(str(error)) from None

    async def _until_room(self) -> None:
        while sum(map(len, self._input)) > LIMIT and not self._has_ended:
            self._input_was_taken.clear()
            await self._input_was_taken.wait()

    async def receive(self, size: int, limit: float | None) -> bytes:
        while not self._output and not self._has_ended:
            self._news.clear()
            try:
                await within(limit, self._news.wait(), f"{self._name}: nothing was received")
            except TimeoutError:
                # The exchange has the same limit, and says where the app is.
                if not (self._is_answering or self._has_ended or self._output):
                    raise
        if self._is_closed:
            raise StateError(f"{self._name}: the connection is closed")
        if not self._output and self._error is not None:
            raise self._error
        if not self._output:
            return b""
        piece = self._output.popleft()
        if len(piece) > size:
            self._output.appendleft(piece[size:])
        self._output_was_taken.set()
        return bytes(piece[:size])

    @property
    def _is_answering(self) -> bool:
        return self._task is not None and not self._task.done() and not self._is_pulling and not self._bridge.is_idle

    async def settle(self) -> None:
        while self._is_answering:
            self._news.clear()
            await self._news.wait()
        if self._error is not None:
            raise self._error

    def is_quiet(self) -> bool:
        is_running = self._task is not None and not self._task.done()
        return not (is_running or self._output or self._input or self._has_ended)

    async def close(self, *, politely: bool = False) -> None:
        self._is_closed = self._has_ended = True
        self._bridge.hang_up()
        tasks = [task for task in (self._task, self._pump) if task is not None and not task.done()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        self._news.set()
