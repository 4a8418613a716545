"""What the exchanges of an app use of the module `asyncio`, on trio: by the same names, which mean the same.

A task is one of trio's system tasks, so it needs no nursery that somebody has to wait in, and it has a context of its
own. Those that are left end with the run.
"""

from __future__ import annotations

import contextvars
import math
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable
from typing import Any, Generic, TypeVar

import trio

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["Event", "Queue", "Task", "create_task", "get_running_loop", "sleep", "to_thread", "wait"]

T = TypeVar("T")

sleep = trio.sleep
to_thread = trio.to_thread.run_sync


class Event:
    """An `asyncio.Event`: other than trio's, it can be cleared."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def is_set(self) -> bool:
        return self._event.is_set()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        if self._event.is_set():
            self._event = trio.Event()

    async def wait(self) -> None:
        await self._event.wait()


class Queue(Generic[T]):
    """An `asyncio.Queue` without a limit, which one task reads."""

    def __init__(self) -> None:
        self._items: deque[T] = deque()
        self._news = Event()

    def qsize(self) -> int:
        return len(self._items)

    def put_nowait(self, item: T) -> None:
        self._items.append(item)
        self._news.set()

    async def get(self) -> T:
        while not self._items:
            self._news.clear()
            await self._news.wait()
        return self._items.popleft()


class Task:
    """An `asyncio.Task` of what lets no exception out."""

    def __init__(self, function: Callable[[], Awaitable[None]], coroutine: Coroutine[Any, Any, None] | None = None):
        self._function = function
        self._coroutine = coroutine
        self._scope = trio.CancelScope()
        self._done = trio.Event()
        trio.lowlevel.spawn_system_task(self._run, context=contextvars.copy_context())

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._function()
        finally:
            self._done.set()

    def __await__(self) -> Generator[Any, None, None]:
        return self._join().__await__()

    async def _join(self) -> None:
        try:
            await self._done.wait()
        except trio.Cancelled:
            self.cancel()
            raise

    def get_coro(self) -> Coroutine[Any, Any, None] | None:
        return self._coroutine

    def done(self) -> bool:
        return self._done.is_set()

    def cancel(self) -> None:
        self._scope.cancel()

    def add_done_callback(self, callback: Callable[[Task], object]) -> None:
        async def call_back() -> None:
            await self._done.wait()
            callback(self)

        Task(call_back)


def create_task(coroutine: Coroutine[Any, Any, None]) -> Task:
    """Run a coroutine beside the others."""

    async def run() -> None:
        await coroutine

    return Task(run, coroutine)


async def wait(tasks: Iterable[Task], timeout: float | None = None) -> None:
    """Wait until all of them are done, or the time is over."""
    with trio.move_on_after(math.inf if timeout is None else timeout):
        for task in tasks:
            await task._done.wait()


class Loop:
    """The run of trio that is going on."""

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Loop) and other._token is self._token

    def __hash__(self) -> int:
        return hash(self._token)

    def time(self) -> float:
        return trio.current_time()

    def create_task(self, coroutine: Coroutine[Any, Any, None]) -> Task:
        return create_task(coroutine)

    def call_soon(self, callback: Callable[..., object], *args: Any) -> Task:
        return self.call_later(0, callback, *args)

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Task:
        async def call() -> None:
            await trio.sleep(seconds)
            callback(*args)

        return Task(call)

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> None:
        self._token.run_sync_soon(callback, *args)


get_running_loop = Loop
