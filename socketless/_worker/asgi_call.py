"""One call on the event loop, the worker's side of an exchange: of the app, by HTTP or WebSocket, or of a function."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, Protocol
from urllib.parse import quote, unquote

from asgiref.sync import sync_to_async

from socketless._wire.channel import Channel, Frame
from socketless._wire.drivers import run_async
from socketless._wire.messages import Call, Cancel, Done, Message, Request, Reset
from socketless._worker.failures import failed, is_disconnection, last_frame, last_message
from socketless._worker.functions import answer_to, function_of, is_async
from socketless._worker.lifespan import ASGI, Scope
from socketless._worker.output import flush_output
from socketless.errors import ClientDisconnected

# Between telling an app that its client has gone and cancelling its task: seconds, and then turns of the loop.
_GRACE = 0.05
_GRACE_TURNS = 10


class Sink(Protocol):
    """Where an exchange's messages go."""

    async def write(self, message: Message) -> None:
        """Write a message, and return when it has gone.

        Raises:
            OSError: nobody is there to read it.
        """

    async def end(self, message: Message) -> None:
        """Write the last message of an exchange, or another one that says why it cannot be written.

        Raises:
            OSError: nobody is there to read it.
        """

    def let_go(self) -> None:
        """Let `write()` return to who waits in it now: the client has gone."""


class Writer:
    """Writes messages to a channel: in order, and whole ones, also when the task that writes is cancelled meanwhile."""

    def __init__(self, channel: Channel, break_off: Callable[[], None]) -> None:
        self._channel = channel
        self.break_off = break_off  # ends the channel
        self._writing: asyncio.Task[None] | None = None  # the last that writes what the pipe did not take
        self._waiting: set[asyncio.Future[None]] = set()  # of those in write()

    async def write(self, message: Message) -> None:
        """Write a message, and return when the pipe has taken it, or on `let_go()`.

        Raises:
            OSError: the host is gone.
        """
        flush_output()
        writing = self._put(self._channel.frame_of(message))
        if writing is None:
            return
        is_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(is_over)
        writing.add_done_callback(lambda _: _set(is_over))
        try:
            await is_over
        finally:
            self._waiting.discard(is_over)
        if writing.done():
            writing.result()

    def let_go(self) -> None:
        """Let `write()` return to who waits in it now: the pipe may stay full, since the client has gone."""
        for is_over in self._waiting:
            _set(is_over)

    async def end(self, message: Message) -> None:
        """Write the last message of an exchange, or another one that says why it cannot be written.

        If even that fails, the channel ends, and with it the exchange.

        Raises:
            OSError: the host is gone.
        """
        try:
            flush_output()
            writing = self._put(last_frame(self._channel, message))
        except BaseException:
            self.break_off()
            raise
        if writing is not None:
            await asyncio.shield(writing)

    def close(self) -> None:
        """Close the channel, after what is being written."""
        self.break_off()
        if self._writing is None or self._writing.done():
            self._channel.close()
        else:
            self._writing.add_done_callback(lambda _: self._channel.close())

    def _put(self, frame: Frame) -> asyncio.Task[None] | None:
        # Returns what writes that which the pipe does not take at once.
        self._channel.put(frame)
        if self._writing is None or self._writing.done():
            if self._channel.write() is None:
                return None
            self._writing = asyncio.create_task(run_async(self._channel.flush()))  # an eager one may be done here
            self._writing.add_done_callback(_look_at)
        return self._writing


def _set(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _look_at(task: asyncio.Task[None]) -> None:
    # So that asyncio does not complain of an error that nobody waits for any more.
    if not task.cancelled():
        task.exception()


class AsgiCall:
    """One call that is to `begin()`. A subclass says what to do (`call`) and what a message means (`take`).

    Its event loop is asyncio's; or it is that of `aio`, which has names of that module.
    """

    aio: Any = asyncio
    task: asyncio.Task[None]  # from begin() on
    _timer: Any = None  # what is to cancel the app

    def __init__(self, writer: Sink) -> None:
        self._writer = writer
        self.client_has_gone = False  # it has said so, or it was cancelled
        self.is_cancelled = False
        self.is_over = False  # the app has returned
        self.is_muted = False  # nothing more is to be written

    def begin(self) -> None:
        """Run the app in a task of its own, with a context of its own.

        An eager task factory runs it at once, so all that it uses must be there.
        """
        self.task = self.aio.create_task(self._run())

    async def call(self) -> Message:
        """Do it, and return the last message."""
        raise NotImplementedError

    def describe(self, error: BaseException) -> Message:
        """Return the last message when `call()` has raised."""
        return failed(error)

    async def _run(self) -> None:
        try:
            last = await self.call()
        except BaseException as error:
            last = last_message(partial(self._last_of, error), error)
        self.is_over = True
        if self._timer is not None:
            self._timer.cancel()
        if self.is_cancelled:
            # In a task of its own: the app may have cancelled this one once more.
            self.task = self.aio.create_task(self._end_cancelled(last))
        else:
            await self._write_last(last)

    def _last_of(self, error: BaseException) -> Message:
        return Done() if self.client_has_gone and is_disconnection(error) else self.describe(error)

    async def _end_cancelled(self, last: Message) -> None:
        await self.wait_for_thread()
        await self._write_last(last)

    async def wait_for_thread(self) -> None:
        """Wait for sync code of the app, which may go on after its task was cancelled.

        It is in the channel's thread, which the next exchange needs.
        """
        with suppress(RuntimeError):  # it has none: none was to be had
            await sync_to_async(_nothing)()

    async def _write_last(self, last: Message) -> None:
        if self.is_muted:
            return
        with suppress(OSError):  # the host is gone; the channel's end says so, too
            await self._writer.end(last)

    async def write(self, message: Message) -> None:
        """Write a message before the last one.

        Raises:
            ClientDisconnected: nobody is to read it.
        """
        if self.is_over:  # a task that the app has left behind; the channel may be in use again
            raise ClientDisconnected("the app has returned, so its response is over")
        try:
            await self._writer.write(message)
        except OSError:
            raise ClientDisconnected("the host has gone before the response was complete") from None

    def take(self, message: Message) -> None:
        """Take a message that has come during the exchange, or too late for it."""
        if isinstance(message, Cancel) and not self.is_over and not self.is_cancelled:
            self.is_cancelled = self.client_has_gone = True
            self._writer.let_go()
            self.disconnect()
            self.cancel_later(_GRACE)

    def cancel_later(self, seconds: float) -> None:
        """Call `cancel()` after some time, and some turns of the loop."""
        self._timer = self.aio.get_running_loop().call_later(seconds, self._cancel_in_turns, _GRACE_TURNS)

    def disconnect(self) -> None:
        """Tell the app that its client has gone."""

    def _cancel_in_turns(self, turns: int) -> None:
        # Runs in the event loop. Where that is slow, the app has a few turns of it all the same.
        if turns:
            self.aio.get_running_loop().call_soon(self._cancel_in_turns, turns - 1)
        else:
            self.cancel()

    def cancel(self) -> None:
        """Cancel the app, if it has not returned."""
        if not self.is_over:
            self.task.cancel()


def _nothing() -> None:
    pass


class FunctionCall(AsgiCall):
    """Calls the reset hook, or a function of `run()`."""

    def __init__(
        self,
        message: Reset | Call,
        hook: Callable[[], Any] | None,
        writer: Writer,
        call_async: Callable[[Callable[[], Awaitable[Any]]], Awaitable[Any]] | None = None,
    ) -> None:
        self._message = message
        self._hook = hook
        self._call_async = call_async  # where coroutine functions run elsewhere
        super().__init__(writer)

    async def call(self) -> Message:
        function = function_of(self._message, self._hook)
        if is_async(function):
            result = await (function() if self._call_async is None else self._call_async(function))
        else:
            # As a sync view: in the channel's thread.
            result, stopped = await sync_to_async(_call)(function)
            if stopped is not None:
                return failed(stopped)
            if inspect.isawaitable(result):
                awaitable = result
                result = await (awaitable if self._call_async is None else self._call_async(lambda: awaitable))
        return answer_to(self._message, result)


def _call(function: Callable[[], Any]) -> tuple[Any, StopIteration | None]:
    # A StopIteration cannot be raised by a future: whoever awaits that would wait for ever.
    try:
        return function(), None
    except StopIteration as error:
        return None, error


def connection_scope(request: Request, state: dict[str, Any] | None) -> Scope:
    """Build what the scopes of HTTP and of WebSockets share, as the ASGI specification has it."""
    raw_path, _, raw_query = request.raw_target.partition(b"?")
    root_path, path = request.root_path.rstrip("/"), unquote(raw_path.decode("latin-1"))
    if root_path and not f"{path}/".startswith(f"{root_path}/") and not request.is_lenient:
        # The client has left the root path out, as it does before uvicorn; mounted apps look for it in the path.
        raw_path, path = quote(root_path).encode() + raw_path, root_path + path
    scope: Scope = {
        "asgi": ASGI.copy(),
        "http_version": "1.1",
        "scheme": request.scheme,
        "path": path,
        "raw_path": raw_path,
        "query_string": raw_query,
        "root_path": root_path,
        "headers": [(name.lower(), value) for name, value in request.headers],
        "client": request.client,
        "server": request.server,
    }
    if state is not None:
        scope["state"] = state.copy()
    return scope
