"""An exchange with an app on the event loop of the client, asyncio's or trio's.

    client's task                              the app's task
    LoopExchange.send() ── Request, Chunk ───▶ LoopHttpCall, LoopWebSocketCall: the worker's own code
    LoopExchange.receive() ◀── Mailbox ──────  Response, Chunk, Event, Failed

Nothing crosses a pipe: host and worker are on one loop, so an app and its test share what is bound to that. Over pipes,
the host's own `Exchange` would do; but each message would cost a third more, and a channel whose client has gone waits
for the app in a thread, where here the client's task can wait for it.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any

from anyio import move_on_after

from socketless._host.limits import Timeouts
from socketless._host.trace import logger
from socketless._host.upload import Upload
from socketless._wire.messages import MOST_AHEAD, Cancel, Echo, Event, Failed, Message, WantBody, is_last, room_of
from socketless._wire.steps import Pull, PullingSteps
from socketless._worker import stacks
from socketless._worker.asgi_http import HttpCall
from socketless._worker.asgi_websocket import WebSocketCall
from socketless.errors import ReadTimeout, SocketlessError, StateError, WriteTimeout

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

LEAVE_SECONDS = 5.0  # that an app has to end its requests, as those of a worker have
_MOST = 1  # messages that wait to be taken, before the app has to wait as well


class LoopExchange:
    """An exchange that its app's side is to begin; see `socketless._host.exchange.Exchange`, whose interface it has."""

    answer: Message
    failed: Failed | None = None
    _keeps_open = False

    def __init__(
        self,
        label: str,
        call: HttpCall | WebSocketCall,
        mailbox: Mailbox,
        timeouts: Timeouts,
        upload: Upload,
        on_end: Callable[[LoopExchange], object],
    ) -> None:
        self.label = label
        self._call = call
        self._mailbox = mailbox
        self._timeouts = timeouts
        self._upload = upload
        self._is_cancelled = False
        self._is_over = False
        mailbox.on_last = self._end
        self._on_end = on_end
        self._loop: asyncio.AbstractEventLoop = call.aio.get_running_loop()
        self.ended: asyncio.Event = call.aio.Event()  # the app has sent its last message

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be sent or received."""
        return self._is_over or self._is_cancelled

    def keep_open(self) -> None:
        """From now on, a `receive()` or `send()` that is too late does not end the exchange; it may be tried again."""
        self._keeps_open = True

    def send(self, message: Message, timeouts: Timeouts | None = None) -> PullingSteps[None]:
        """Give the app a message, as soon as there is room for it.

        Raises:
            WriteTimeout: the app did not receive what was sent before, in time. It may be tried again after
                `keep_open()`; before that, the exchange is cancelled.
            StateError: the exchange is over.
        """
        self._check_usable()
        call = self._call
        if isinstance(call, LoopWebSocketCall) and isinstance(message, Event) and (room := room_of(message.event)):
            timeout = (timeouts or self._timeouts).write
            has_room = yield Pull(_Awaited(call.wait_for_room, timeout))  # type: ignore[arg-type]  # of booleans
            if not has_room:
                raise self._full(timeout)
            self._check_usable()
            call.take_up(room)
        if isinstance(message, Echo):
            self._mailbox.put(message)
        else:
            self._call.take(message)

    def receive(self, timeouts: Timeouts | None = None) -> PullingSteps[Message]:
        """Return the next message; those that ask for the request's body are answered.

        Raises:
            ReadTimeout: it did not come in time; the exchange is cancelled, but for `keep_open()`.
            BodyTooLarge, TransferError: of the request's body.
            StateError: the exchange is over.
            Exception: what the source of the body raises; the exchange is cancelled.
        """
        timeout = (timeouts or self._timeouts).read
        while True:
            self._check_usable()
            message: Any = yield Pull(_Awaited(self._mailbox.take, timeout))  # type: ignore[arg-type]  # of messages
            if message is None:
                raise self._late(timeout)
            if not isinstance(message, WantBody):
                break
            try:
                chunk = yield from self._upload.next_chunk()
            except BaseException:
                self.cancel()
                raise
            self._call.take(chunk)
        if isinstance(message, Failed):
            self.failed = message
        self._is_over = is_last(message)
        if self._is_over:
            self._mailbox.close()  # so that nobody else waits there
        answer: Message = message
        return answer

    def receive_or_end(self, timeouts: Timeouts | None = None) -> PullingSteps[Message | None]:
        """Return the next message as `receive()` does, or `None` after the last one."""
        try:
            return (yield from self.receive(timeouts))
        except StateError:
            return None

    def _late(self, timeout: float | None) -> SocketlessError:
        what = "go on with its answer" if hasattr(self, "answer") else "answer"
        stack = stacks.of_coroutine(self._call.task.get_coro(), threading.current_thread())
        self._cancel_unless_kept_open()
        return ReadTimeout(f"{self.label}: the app did not {what} within {timeout:g} s", stack)

    def _full(self, timeout: float | None) -> SocketlessError:
        self._cancel_unless_kept_open()
        return WriteTimeout(f"{self.label}: the app did not receive what was sent to it within {timeout:g} s")

    def _cancel_unless_kept_open(self) -> None:
        if not self._keeps_open:
            self.cancel()

    def _check_usable(self) -> None:
        if self.is_over:
            raise StateError(f"{self.label}: the exchange is over")

    def let_through(self) -> None:
        """Let nothing wait for room any more: the client is about to leave."""
        if isinstance(self._call, LoopWebSocketCall):
            self._call.let_through()

    def cancel(self) -> None:
        """Tell the app that nobody wants the answer any more. May be called twice."""
        if not self.is_over:
            self._is_cancelled = True
            self.let_through()
            self._mailbox.close()
            self._call.take(Cancel())

    def abandon(self) -> None:
        """Cancel it from a finalizer: perhaps the loop is closed, or another thread's."""
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self.cancel)

    def finish(self) -> PullingSteps[None]:
        """Wait until nothing is left of the app, which has been told that its client has gone."""
        yield Pull(_Awaited(partial(self.wait_for_end, LEAVE_SECONDS)))  # type: ignore[arg-type]

    async def wait_for_end(self, timeout: float | None) -> None:
        """Wait until nothing is left of the app, for which it has `timeout` seconds."""
        with move_on_after(timeout):
            await self.ended.wait()
        if self.ended.is_set():
            await self._call.aio.wait([self._call.task])
        else:
            logger.error("%s: the app still runs, although its client has gone", self.label)

    def _end(self, message: Message) -> None:
        # Called with the app's last message, before it is taken.
        self.ended.set()
        self._on_end(self)
        self.let_through()
        if self._is_cancelled and isinstance(message, Failed):
            logger.error("%s: the app raised after its client had gone:\n%s", self.label, message.traceback.rstrip())


class Mailbox:
    """The messages of one app, in order."""

    on_last: Callable[[Message], None]

    def __init__(self, aio: Any) -> None:
        self._messages: deque[Message] = deque()
        self._news: asyncio.Event = aio.Event()
        self._room: asyncio.Event = aio.Event()
        self._room.set()
        self._is_closed = False

    async def write(self, message: Message) -> None:
        """Put a message there, and wait until there is room for another."""
        self.put(message)
        if is_last(message):
            self.on_last(message)
        else:
            await self._room.wait()

    end = write  # no message is made ready here, so there is nothing that could fail

    def put(self, message: Message) -> None:
        """Put a message there."""
        if self._is_closed:
            return
        self._messages.append(message)
        self._news.set()
        if len(self._messages) >= _MOST:
            self._room.clear()

    async def take(self) -> Message:
        """Wait for a message and take it.

        Raises:
            StateError: the mailbox has been closed.
        """
        while not self._messages:
            if self._is_closed:
                raise StateError("the exchange is over")
            self._news.clear()
            await self._news.wait()
        message = self._messages.popleft()
        if len(self._messages) < _MOST:
            self._room.set()
        return message

    def let_go(self) -> None:
        """Let `write()` return to who waits in it now."""
        self._room.set()

    def close(self) -> None:
        """Throw away what is there and what is to come."""
        self._is_closed = True
        self._messages.clear()
        self.let_go()
        self._news.set()


class _Awaited:
    """What is awaited, as an async iterator: of the result, or of nothing when that takes too long."""

    def __init__(self, function: Callable[[], Awaitable[Any]], timeout: float | None = None) -> None:
        self._function = function
        self._timeout = timeout

    async def __anext__(self) -> Any:
        if self._timeout is None:
            return await self._function()
        with move_on_after(self._timeout):
            return await self._function()
        raise StopAsyncIteration


class _WithoutThread:
    async def wait_for_thread(self) -> None:
        """There is no thread that the next exchange needs."""


class LoopHttpCall(_WithoutThread, HttpCall):
    """The app's side of an HTTP exchange."""


class LoopWebSocketCall(_WithoutThread, WebSocketCall):
    """The app's side of a WebSocket."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.room: asyncio.Event = self.aio.Event()  # set while there is some for what the client sends
        self.room.set()
        self._ahead = 0  # of `MOST_AHEAD`
        self._is_unlimited = False

    async def wait_for_room(self) -> bool:
        """Return `True`, as soon as there is some."""
        await self.room.wait()
        while not self.room.is_set():  # who was woken before may have taken it up
            await self.room.wait()
        return True

    def take_up(self, room: int) -> None:
        """Take up room."""
        self._ahead += room
        if self._ahead >= MOST_AHEAD and not self._is_unlimited:
            self.room.clear()

    def acknowledge(self, room: int) -> None:
        self._ahead -= room
        if self._ahead < MOST_AHEAD:
            self.room.set()

    def let_through(self) -> None:
        """Let there be room for everything from now on."""
        self._is_unlimited = True
        self.room.set()
