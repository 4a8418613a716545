"""Loops of asyncio that wake by a pipe."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import Iterator
from typing import Any

import pytest

from socketless import _genuine as genuine
from socketless import eventloop
from socketless._forking import fork
from support import LIMIT, nothing_leaks, sockets_are_refused


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    eventloop.install()
    yield
    eventloop.install()  # the tests of this process need it


def test_install_and_uninstall() -> None:
    """uninstall() restores asyncio's own method exactly; both may be called twice."""
    eventloop.uninstall()
    eventloop.uninstall()
    original = vars(BaseSelectorEventLoop)["_make_self_pipe"]
    assert original.__module__ == "asyncio.selector_events"
    eventloop.install()
    eventloop.install()
    assert vars(BaseSelectorEventLoop)["_make_self_pipe"] is not original
    eventloop.uninstall()
    assert vars(BaseSelectorEventLoop)["_make_self_pipe"] is original


def test_wakes_from_another_thread() -> None:
    """Another thread wakes a loop that sleeps, as often as it likes, and nothing is left when the loop is closed."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        count = 0
        for _ in range(200):
            woken = asyncio.Event()
            thread = threading.Thread(target=loop.call_soon_threadsafe, args=(woken.set,))
            thread.start()
            await asyncio.wait_for(woken.wait(), LIMIT)
            thread.join(LIMIT)
            count += 1
        return count + await asyncio.to_thread(lambda: 1)

    with nothing_leaks():
        assert asyncio.run(main()) == 201


def test_more_wake_ups_than_a_pipe_holds() -> None:
    """A loop that is woken a hundred thousand times while it is busy loses nothing and does not block."""

    async def main() -> int:
        loop = asyncio.get_running_loop()
        seen: list[int] = []

        def wake() -> None:
            for number in range(100_000):
                loop.call_soon_threadsafe(seen.append, number)

        thread = threading.Thread(target=wake)
        thread.start()
        thread.join(LIMIT)
        while len(seen) < 100_000:
            await asyncio.sleep(0)
        return len(seen)

    assert asyncio.run(main()) == 100_000


def test_signals() -> None:
    """Signal handlers of a loop are called: Python writes the signal's number into the pipe."""

    async def main() -> int:
        got = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, got.set_result, 1)
        os.kill(os.getpid(), signal.SIGUSR1)
        return int(await asyncio.wait_for(got, LIMIT))

    assert asyncio.run(main()) == 1


def test_subclass() -> None:
    """A loop class that somebody else has derived wakes by a pipe as well."""

    class Loop(asyncio.SelectorEventLoop):
        pass

    loop: Any = Loop()
    try:
        assert type(loop._ssock).__name__ == "_PipeEnd"
        assert loop.run_until_complete(loop.run_in_executor(None, lambda: 7)) == 7
    finally:
        loop.close()


def test_wake_up_of_a_closed_loop() -> None:
    """Waking a loop that is being closed harms nobody."""
    loop: Any = asyncio.new_event_loop()
    csock = loop._csock
    loop.close()
    with pytest.raises(OSError):
        csock.send(b"\0")
    loop._write_to_self()


@pytest.mark.skipif(sockets_are_refused(), reason="asks for asyncio's own socketpair")
def test_loops_from_before_stay() -> None:
    """A loop that was made before install() keeps its sockets."""
    eventloop.uninstall()
    loop: Any = asyncio.new_event_loop()
    eventloop.install()
    try:
        assert type(loop._ssock).__name__ == "socket"
        assert loop.run_until_complete(loop.run_in_executor(None, lambda: 7)) == 7
    finally:
        loop.close()


def test_wake_up_within_a_wake_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal's handler may wake a loop while its thread is just waking it, as `asyncio.run()` does for Ctrl-C."""
    real_write = os.write
    woken = []

    def write(fd: int, data: bytes) -> int:
        if not woken:
            woken.append("within")
            loop.call_soon_threadsafe(woken.append, "by the handler")
        return real_write(fd, data)

    eventloop.install()
    loop = asyncio.new_event_loop()
    try:
        monkeypatch.setattr(genuine.os, "write", write)
        loop.call_soon_threadsafe(woken.append, "by the thread")
        monkeypatch.undo()
        loop.run_until_complete(asyncio.sleep(0))
    finally:
        loop.close()
    assert sorted(woken) == ["by the handler", "by the thread", "within"]


def test_fork_in_the_middle_of_a_wake_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A forked child can close its copy of a loop that another thread was just waking."""
    real_write, is_writing, may_go_on = os.write, threading.Event(), threading.Event()

    def write(fd: int, data: bytes) -> int:
        if threading.current_thread() is thread:
            is_writing.set()
            may_go_on.wait(LIMIT)
        return real_write(fd, data)

    eventloop.install()
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(print,))
    monkeypatch.setattr(genuine.os, "write", write)
    thread.start()
    assert is_writing.wait(LIMIT)
    pid = fork()
    if pid == 0:
        signal.alarm(int(LIMIT))
        loop.close()
        os._exit(0)
    may_go_on.set()
    thread.join(LIMIT)
    loop.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
