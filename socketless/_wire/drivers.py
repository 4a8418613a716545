"""How steps (`socketless._wire.steps.Steps`) wait: a blocking poll, asyncio, or trio.

The async drivers wait for the pipe itself on the caller's loop. A thread would be shorter to write, but its result
comes back by a wake-up of the loop, which is what hangs where `send()` is refused; and it costs two thread switches.
"""

from __future__ import annotations

import math
import select
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from socketless._genuine import clock_is_stopped, is_green, monotonic, os
from socketless._wire.spinning import spin
from socketless._wire.steps import ENDED, LATE, READY, Pull, PullingSteps, Steps, Wait, Woken
from socketless.errors import ClientDisconnected

if TYPE_CHECKING:
    import asyncio

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

T = TypeVar("T")

_LONGEST_POLL = 24 * 3600 * 1000  # milliseconds; the system call takes no more than an int


def deadline_after(timeout: float | None) -> float | None:
    """Turn a timeout in seconds (`None`: for ever) into a `monotonic()` value."""
    return None if timeout is None or timeout == math.inf else monotonic() + timeout


def remaining(deadline: float | None) -> float | None:
    """Turn a deadline back into seconds, at least 0."""
    return None if deadline is None else max(0.0, deadline - monotonic())


def milliseconds_until(deadline: float | None) -> int | None:
    """Turn a deadline into what `poll()` takes; one that is far away takes several calls."""
    return None if deadline is None else min(max(0, math.ceil((deadline - monotonic()) * 1000)), _LONGEST_POLL)


def until_readable(fd: int, timeout: float | None) -> Steps[bool]:
    """Wait for a descriptor that others may wait for as well; return whether it is readable, or closed."""
    try:
        copy = os.dup(fd)  # a loop knows one waiter for each descriptor
    except OSError:
        return True
    try:
        return (yield Wait(copy, deadline=deadline_after(timeout))) is not LATE
    finally:
        os.close(copy)


def run_blocking(steps: PullingSteps[T], wait_for: Callable[[Any], Any] | None = None) -> T:
    """Drive steps to their end in this thread.

    `wait_for` takes the place of `poll()`: it gets what the steps yield, but for a `Pull`, and what it returns or
    raises, they get.
    """
    wait_for = wait_for or poll
    try:
        wait = next(steps)
        while True:
            try:
                got = next(wait.chunks, None) if isinstance(wait, Pull) else wait_for(wait)  # type: ignore[arg-type]
            except BaseException as error:  # Ctrl-C
                wait = steps.throw(error)
            else:
                wait = steps.send(got)
    except StopIteration as stop:
        value: T = stop.value
        return value
    except BaseException as error:
        _tell(steps, error)
        raise


def _tell(steps: PullingSteps[Any], error: BaseException) -> None:
    # Interrupted between two of them, steps have not heard of it, and would stay at work for nobody.
    if getattr(steps, "gi_frame", None) is not None:
        with suppress(StopIteration):
            steps.throw(error)


def poll(wait: Wait, client_fd: int | None = None) -> Woken:
    """Block until what `wait` waits for.

    Raises:
        ClientDisconnected: who reads from `client_fd` has left.
    """
    if not is_green():
        return _poll(wait, client_fd)
    with _own(wait.fd) as fd, _own(wait.sentinel) as sentinel, _own(client_fd) as client:
        return _poll(wait._replace(fd=fd, sentinel=sentinel, spins=False), client)


def _poll(wait: Wait, client_fd: int | None) -> Woken:
    fd, for_writing, sentinel, deadline, spins = wait
    poller = select.poll() if hasattr(select, "poll") else _Select()
    poller.register(fd, select.POLLOUT if for_writing else select.POLLIN)
    if sentinel is not None:
        poller.register(sentinel, select.POLLIN)
    if client_fd is not None:
        poller.register(client_fd, 0)  # only its end
    ready = spin(partial(poller.poll, 0)) if spins else []
    while True:
        ready = ready or poller.poll(None if deadline is None else milliseconds_until(deadline))
        if ready:
            fds = dict(ready)
            if fd not in fds and client_fd in fds:
                raise ClientDisconnected("the client has gone")
            return READY if fd in fds else ENDED
        if remaining(deadline) == 0.0:
            return LATE


def is_soon_readable(fd: int) -> bool:
    """Spin until a descriptor is readable, or for a moment; return whether it is."""
    return poll(Wait(fd, deadline=0.0, spins=True)) is READY


def readable(fds: list[int]) -> list[int]:
    """Block this greenlet until at least one of the descriptors is readable, or has ended, and return which are.

    Raises:
        EOFError: one of them is closed.
    """
    poller = select.poll() if hasattr(select, "poll") else _Select()
    with ExitStack() as stack:
        copies = {stack.enter_context(_own(fd)): fd for fd in fds}
        for copy in copies:
            poller.register(copy, select.POLLIN)
        return [copies[copy] for copy, _ in poller.poll(None)]


class _Select:
    """As much of `select.poll` as is needed here: eventlet takes that away, and patches `select.select` only."""

    def __init__(self) -> None:
        self._masks: dict[int, int] = {}

    def register(self, fd: int, mask: int) -> None:
        self._masks[fd] = mask

    def poll(self, milliseconds: int | None) -> list[tuple[int, int]]:
        reading, writing = (
            [fd for fd, mask in self._masks.items() if mask & way] for way in (select.POLLIN, select.POLLOUT)
        )
        seconds = None if milliseconds is None else milliseconds / 1000
        return [(fd, 0) for fds in select.select(reading, writing, [], seconds) for fd in fds]


async def run_async(steps: PullingSteps[T], wait_for: Callable[[Any], Awaitable[Any]] | None = None) -> T:
    """Drive steps to their end on the running asyncio or trio loop; cancelling the task raises inside the steps.

    `wait_for` takes the place of `wait_async()`; see `run_blocking()`.
    """
    wait_for = wait_for or wait_async
    try:
        wait = next(steps)
        while True:
            try:
                got = await (anext(wait.chunks, None) if isinstance(wait, Pull) else wait_for(wait))  # type: ignore[arg-type]
            except BaseException as error:
                wait = steps.throw(error)
            else:
                wait = steps.send(got)
    except StopIteration as stop:
        value: T = stop.value
        return value
    except BaseException as error:
        _tell(steps, error)
        raise


async def wait_async(wait: Wait) -> Woken:
    """Wait, on the running asyncio or trio loop."""
    if not in_trio():
        return await _asyncio_wait(wait)
    # Ctrl-C comes while it waits, and not between a descriptor's copy and the block that closes it.
    woken: Woken = await sys.modules["trio"].lowlevel.enable_ki_protection(_trio_wait)(wait)
    return woken


def in_trio() -> bool:
    """Whether a task of trio runs in this thread."""
    lowlevel = getattr(sys.modules.get("trio"), "lowlevel", None)
    if lowlevel is None:  # nobody has imported it, or another thread is just doing that
        return False
    try:
        lowlevel.current_task()
    except RuntimeError:
        return False
    return True


@contextmanager
def _own(fd: int | None) -> Iterator[Any]:
    # A copy of a descriptor. A loop knows one waiter for each, and every exchange waits for the sentinel. gevent's loop
    # forgets who waits for what another greenlet closes; and if a forked child closes it, that aborts there.
    if fd is None:
        yield None
        return
    try:
        copy = os.dup(fd)
    except OSError:  # closed by another thread: the worker has been stopped
        raise EOFError from None
    try:
        yield copy
    finally:
        if in_trio():
            sys.modules["trio"].lowlevel.notify_closing(copy)  # or it would be woken for what has this number next
        os.close(copy)


@contextmanager
def _alarm(seconds: float | None) -> Iterator[int | None]:
    # Where a test has stopped the clock of the loop, too: a descriptor that is readable after some seconds.
    if seconds is None or not clock_is_stopped():
        yield None
        return
    reader, writer = os.pipe()
    timer = threading.Timer(seconds, os.write, (writer, b"\0"))
    timer.daemon, timer.name = True, "socketless-alarm"
    try:
        timer.start()
        yield reader
    finally:
        timer.cancel()
        with suppress(RuntimeError):  # no thread was to be had
            timer.join()
        os.close(reader)
        os.close(writer)


async def _asyncio_wait(wait: Wait) -> Woken:
    import asyncio  # not for those who only block: a WSGI app's worker, for one

    loop = asyncio.get_running_loop()
    future: asyncio.Future[Woken] = loop.create_future()

    def wake(woken: Woken) -> None:
        if not future.done():
            future.set_result(woken)

    add, remove = (loop.add_writer, loop.remove_writer) if wait.for_writing else (loop.add_reader, loop.remove_reader)
    seconds = remaining(wait.deadline)
    with _own(wait.sentinel) as sentinel, _alarm(seconds) as alarm:
        timer = None if seconds is None else loop.call_later(seconds, wake, LATE)
        if alarm is not None:
            loop.add_reader(alarm, wake, LATE)
        add(wait.fd, wake, READY)
        if sentinel is not None:
            loop.add_reader(sentinel, wake, ENDED)
        try:
            woken = await future
        finally:
            if timer is not None:
                timer.cancel()
            remove(wait.fd)
            if sentinel is not None:
                loop.remove_reader(sentinel)
            if alarm is not None:
                loop.remove_reader(alarm)
    # What the worker wrote before it ended is to be read first.
    return poll(wait._replace(deadline=0.0)) if woken is ENDED else woken


async def _trio_wait(wait: Wait) -> Woken:
    import trio

    async def until_end(fd: int) -> None:
        await trio.lowlevel.wait_readable(fd)
        nursery.cancel_scope.cancel()

    wait_for_fd = trio.lowlevel.wait_writable if wait.for_writing else trio.lowlevel.wait_readable
    seconds = remaining(wait.deadline)
    with (
        _own(wait.sentinel) as sentinel,
        _alarm(seconds) as alarm,
        trio.move_on_after(math.inf if seconds is None else seconds),
    ):
        error: BaseException | None = None
        try:
            async with trio.open_nursery() as nursery:
                for fd in (sentinel, alarm):
                    if fd is not None:
                        nursery.start_soon(until_end, fd)
                await wait_for_fd(wait.fd)
                nursery.cancel_scope.cancel()
        except BaseException as raised:
            error = _out_of_group(raised)
        if error is not None:
            raise error
    woken = poll(wait._replace(deadline=0.0))
    if woken is LATE and remaining(wait.deadline) != 0.0:
        return await _trio_wait(wait)  # woken for nothing
    return woken


def _out_of_group(error: BaseException) -> BaseException:
    """Return what a group holds, if that is one exception: who presses Ctrl-C expects a KeyboardInterrupt."""
    inner: tuple[BaseException, ...] = getattr(error, "exceptions", ())
    return _out_of_group(inner[0]) if len(inner) == 1 else error
