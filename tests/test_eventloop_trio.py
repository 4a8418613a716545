"""Runs of trio that wake by a pipe."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import trio

from socketless import eventloop
from support import LIMIT, nothing_leaks


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    eventloop.install()
    yield
    eventloop.install()  # the tests of this process need it


def wakeup_of_trio() -> Any:
    """Return what wakes a run of trio."""

    async def main() -> Any:
        return trio._core._run.GLOBAL_RUN_CONTEXT.runner.entry_queue.wakeup

    return trio.run(main)


def test_trio_wakes_by_a_pipe() -> None:
    """Though trio was imported before install(), its runs wake by a pipe, until uninstall() restores the class."""
    wakeup_class = type(wakeup_of_trio())
    assert type(wakeup_of_trio().write_sock).__name__ == "_PipeEnd"
    eventloop.uninstall()
    original = vars(wakeup_class)["__init__"]
    assert original.__module__ == "trio._core._wakeup_socketpair"
    eventloop.install()
    eventloop.install()
    assert vars(wakeup_class)["__init__"] is not original
    eventloop.uninstall()
    assert vars(wakeup_class)["__init__"] is original


def test_trio_and_threads() -> None:
    """Threads wake a run of trio as often as they like, call into it and out of it, and nothing is left of it."""

    async def main() -> int:
        count = 0
        for _ in range(200):
            woken = trio.Event()
            token = trio.lowlevel.current_trio_token()
            thread = threading.Thread(target=token.run_sync_soon, args=(woken.set,))
            thread.start()
            with trio.fail_after(LIMIT):
                await woken.wait()
            thread.join(LIMIT)
            count += 1
        return count + int(await trio.to_thread.run_sync(trio.from_thread.run, answer))

    async def answer() -> int:
        return 1

    trio.run(trio.to_thread.run_sync, str)  # trio keeps the thread for later
    with nothing_leaks():
        assert trio.run(main) == 201


def test_trio_is_woken_more_often_than_a_pipe_holds() -> None:
    """A run of trio that is woken a hundred thousand times while it is busy loses nothing and does not block."""

    async def main() -> int:
        token = trio.lowlevel.current_trio_token()
        seen: list[int] = []

        def wake() -> None:
            for number in range(100_000):
                token.run_sync_soon(seen.append, number)

        thread = threading.Thread(target=wake)
        thread.start()
        thread.join(LIMIT)
        while len(seen) < 100_000:
            await trio.lowlevel.checkpoint()
        return len(seen)

    assert trio.run(main) == 100_000


def test_trio_and_signals() -> None:
    """Signals reach trio, which is asleep: those that it listens to, and Ctrl-C."""

    async def main() -> int:
        with trio.open_signal_receiver(signal.SIGUSR1) as signals, trio.fail_after(LIMIT):
            threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGUSR1)).start()
            return int(await anext(signals))

    async def interrupted() -> None:
        threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
        with trio.fail_after(LIMIT):
            await trio.sleep_forever()

    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)
    assert trio.run(main) == signal.SIGUSR1
    with pytest.raises(KeyboardInterrupt):
        trio.run(interrupted)
    after = signal.set_wakeup_fd(-1)
    assert before == after == -1


def test_trio_and_child_processes() -> None:
    """trio writes to a child process, reads from it, and waits for its end."""
    program = "import sys; print(sys.stdin.read().upper())"
    run = partial(trio.run_process, [sys.executable, "-c", program], stdin=b"hello", capture_stdout=True)
    assert trio.run(run).stdout == b"HELLO\n"


def test_trio_as_a_guest() -> None:
    """trio runs as the guest of an asyncio loop, both woken by pipes."""

    async def main() -> str:
        loop = asyncio.get_running_loop()
        ended = loop.create_future()
        trio.lowlevel.start_guest_run(
            trio.to_thread.run_sync,
            str,
            "from a thread",
            run_sync_soon_threadsafe=loop.call_soon_threadsafe,
            done_callback=ended.set_result,
            host_uses_signal_set_wakeup_fd=True,
        )
        outcome = await asyncio.wait_for(ended, LIMIT)
        return str(outcome.unwrap())

    assert asyncio.run(main()) == "from a thread"


def run_python(program: str) -> str:
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_trio_that_is_imported_later() -> None:
    """install() does not import trio, and replaces its wake-up when somebody does; uninstall() restores that, too."""
    program = """
import sys
from socketless import eventloop
eventloop.install()
print("trio" in sys.modules)
import trio
from trio._core._wakeup_socketpair import WakeupSocketpair
print(trio.run(trio.to_thread.run_sync, str, "works"))
print(WakeupSocketpair.__init__.__module__)
eventloop.uninstall()
print(WakeupSocketpair.__init__.__module__)
print(any("socketless" in type(finder).__module__ for finder in sys.meta_path))
"""
    assert run_python(program).splitlines() == [
        *("False", "works", "socketless.eventloop", "trio._core._wakeup_socketpair", "False")
    ]


def test_trio_that_is_imported_after_uninstall() -> None:
    """After uninstall() trio is imported as it is."""
    program = """
from socketless import eventloop
eventloop.install()
eventloop.uninstall()
from trio._core._wakeup_socketpair import WakeupSocketpair
print(WakeupSocketpair.__init__.__module__)
"""
    assert run_python(program) == "trio._core._wakeup_socketpair\n"
