"""How steps (`socketless.wire.channel.Steps`) wait: a blocking poll, asyncio, or trio.

The async drivers wait for the pipe itself on the caller's loop. A thread would be shorter to write, but its result
comes back by a wake-up of the loop, which is what hangs where `send()` is refused; and it costs two thread switches.
"""

from __future__ import annotations

import asyncio
import math
import select
import sys
import time
from typing import TypeVar

from socketless.wire.channel import Steps, Wait

T = TypeVar("T")

_LONGEST_POLL = 24 * 3600 * 1000  # milliseconds; the system call takes no more than an int


def deadline_after(timeout: float | None) -> float | None:
    """Turn a timeout in seconds (`None`: for ever) into a `time.monotonic()` value."""
    return None if timeout is None or timeout == math.inf else time.monotonic() + timeout


def remaining(deadline: float | None) -> float | None:
    """Turn a deadline back into seconds, at least 0."""
    return None if deadline is None else max(0.0, deadline - time.monotonic())


def run_blocking(steps: Steps[T]) -> T:
    """Drive steps to their end in this thread."""
    try:
        wait = next(steps)
        while True:
            try:
                ready = poll(wait)
            except BaseException as error:  # Ctrl-C
                wait = steps.throw(error)
            else:
                wait = steps.send(ready)
    except StopIteration as stop:
        value: T = stop.value
        return value


def poll(wait: Wait) -> list[int]:
    """Block until a descriptor of `wait` is ready; return those that are, none at the deadline."""
    poller = select.poll()
    for fd in wait.reads:
        poller.register(fd, select.POLLIN)
    for fd in wait.writes:
        poller.register(fd, select.POLLOUT)
    while True:
        seconds = remaining(wait.deadline)
        ready = poller.poll(None if seconds is None else min(math.ceil(seconds * 1000), _LONGEST_POLL))
        if ready or not seconds:
            return [fd for fd, _ in ready]


async def run_async(steps: Steps[T]) -> T:
    """Drive steps to their end on the running asyncio or trio loop; cancelling the task raises inside the steps."""
    wait_for = _trio_wait if _in_trio() else _asyncio_wait
    try:
        wait = next(steps)
        while True:
            try:
                ready = await wait_for(wait)
            except BaseException as error:
                wait = steps.throw(error)
            else:
                wait = steps.send(ready)
    except StopIteration as stop:
        value: T = stop.value
        return value


def _in_trio() -> bool:
    trio = sys.modules.get("trio")
    if trio is None:
        return False
    try:
        trio.lowlevel.current_task()
    except RuntimeError:
        return False
    return True


async def _asyncio_wait(wait: Wait) -> list[int]:
    loop = asyncio.get_running_loop()
    woken: asyncio.Future[None] = loop.create_future()
    ready: list[int] = []

    def wake(*fds: int) -> None:
        ready.extend(fds)
        if not woken.done():
            woken.set_result(None)

    seconds = remaining(wait.deadline)
    timer = None if seconds is None else loop.call_later(seconds, wake)
    for fd in wait.reads:
        loop.add_reader(fd, wake, fd)
    for fd in wait.writes:
        loop.add_writer(fd, wake, fd)
    try:
        await woken
    finally:
        if timer is not None:
            timer.cancel()
        for fd in wait.reads:
            loop.remove_reader(fd)
        for fd in wait.writes:
            loop.remove_writer(fd)
    return ready


async def _trio_wait(wait: Wait) -> list[int]:
    import trio

    async def first(ready: object, fd: int) -> None:
        await ready(fd)  # type: ignore[operator]
        nursery.cancel_scope.cancel()

    with trio.move_on_after(math.inf if wait.deadline is None else remaining(wait.deadline) or 0.0):
        async with trio.open_nursery() as nursery:
            for fd in wait.reads:
                nursery.start_soon(first, trio.lowlevel.wait_readable, fd)
            for fd in wait.writes:
                nursery.start_soon(first, trio.lowlevel.wait_writable, fd)
    return poll(wait._replace(deadline=0.0))
