"""Helpers that several test modules need."""

from __future__ import annotations

import ctypes  # noqa: F401  # from libffi 3.5 on, it opens a file for itself, once and for good: no leak
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import warm

LIMIT = 30.0  # seconds for what takes milliseconds; only a defect reaches it

# The plugins that pytest finds here and most projects do not need. It takes a second to load them.
PLUGINS = (
    *("anyio", "asyncio", "django", "fakefs", "hypothesispytest", "platformdirs", "pytest_cov", "pytest_httpserver"),
    *("requests_mock", "rerunfailures", "respx", "socket", "xdist", "xdist.looponfail"),
)


def no_plugins(*but: str) -> str:
    """Return what PYTEST_ADDOPTS has to be so that pytest does not load these plugins, but for those that are named."""
    return " ".join(f"-p no:{name}" for name in PLUGINS if name.partition(".")[0] not in but)


# As the kernel numbers them, on x86-64 and arm64: epoll_wait and epoll_pwait, whose fourth argument is the time limit;
# and futex, whose fourth points to it. The first word of /proc/*/syscall is the number.
EPOLL_WAIT = ("232", "281", "22")
FUTEX = ("202", "98")
_INT = 0xFFFFFFFF  # what the kernel reads of an argument that is an int; what is above it, the C library is free to set


def has_chromium() -> bool:
    """Whether pages of Playwright can be tested here."""
    return shutil.which("chromium") is not None and importlib.util.find_spec("pytest_playwright") is not None


def has_ipv6() -> bool:
    """Whether this machine has ::1, and lets it be used."""
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


def sockets_are_refused() -> bool:
    try:
        for end in socket.socketpair():
            end.close()
    except OSError:
        return True
    return False


def unix_sockets_are_refused() -> bool:
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("")  # Linux gives it a name
    except PermissionError:
        return True
    except OSError:
        return False
    return False


def open_fds() -> set[str]:
    return set(os.listdir("/dev/fd")) - warm.FDS


def child_pids() -> set[int]:
    children = set()
    for task in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError), open(f"/proc/self/task/{task}/children") as file:  # or the thread has ended
            children |= {int(pid) for pid in file.read().split()}
    return children - warm.PIDS


def traceback_of(error: BaseException) -> str:
    """Return what Python would print of an error."""
    return "".join(traceback.format_exception(error))


def without_path(text: str) -> str:
    """Return an error without the entries of sys.path, on which a module was looked for."""
    return re.sub(r", which (begins with '[^']*'(, '[^']*')*(, \.\.\.)?|has only what is installed)", "", text)


def raised_by(function: Callable[[], Any]) -> tuple[type, str] | None:
    """Return what kind of error a function raises, and what that says."""
    try:
        function()
    except Exception as error:
        return type(error), str(error)
    return None


@contextmanager
def held_elsewhere(*locks: Any) -> Iterator[None]:
    """Let another thread hold these locks during the block, so that a fork has them locked."""
    are_held, may_go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as stack:
            for lock in locks:
                stack.enter_context(lock)
            are_held.set()
            may_go_on.wait(LIMIT)

    thread = threading.Thread(target=hold)
    thread.start()
    assert are_held.wait(LIMIT)
    try:
        yield
    finally:
        may_go_on.set()
        thread.join(LIMIT)


@contextmanager
def stopped(pid: int | None) -> Iterator[None]:
    """Stop a child process, with all its threads, during the block, or until it is killed."""
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    try:
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WNOWAIT)  # after the signal, some threads run on for a while
        yield
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)


@contextmanager
def nothing_leaks() -> Iterator[None]:
    """Assert that the block leaves no descriptor, thread or child process behind."""
    before = open_fds(), set(threading.enumerate()), child_pids()
    yield
    after = open_fds(), set(threading.enumerate()), child_pids()
    left = [now - then for now, then in zip(after, before, strict=True)]
    assert left == [set(), set(), set()], (left, [os.path.realpath(f"/dev/fd/{fd}") for fd in left[0]])


def hangs(process: subprocess.Popen[Any], limit: float) -> bool:
    """Wait until a process has ended, or hangs: its threads wait without a time limit, and none is left to wake one.

    Raises:
        AssertionError: neither has come within `limit` seconds. The process has been killed.
    """
    deadline = time.monotonic() + limit
    while process.poll() is None:
        waiting = _threads_that_wait(process.pid)
        # Looking takes time, in which one may wake another and wait in its turn. Who has left the processor no more
        # often when it is looked at again was not awake in between, so there was a moment in which all waited.
        if waiting and waiting == _threads_that_wait(process.pid):
            return True
        if time.monotonic() > deadline:
            process.kill()  # or who has started it would wait for its end, and that for ever
            raise AssertionError("it neither ends nor hangs")
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.1)
    return False


def _threads_that_wait(pid: int) -> dict[str, str]:
    """Return how often each thread of a process has waited, if all wait now for what only another thread could do."""
    seen = {}
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            call = (task / "syscall").read_text().split()
            is_epoll = call[0] in EPOLL_WAIT and int(call[4], 16) & _INT == _INT
            is_futex = call[0] in FUTEX and int(call[4], 16) == 0
            if not (is_epoll or is_futex):
                return {}
            [switches] = re.findall(r"^voluntary_ctxt_switches:\s+(\d+)$", (task / "status").read_text(), re.MULTILINE)
            seen[task.name] = switches
    except OSError:  # one has just ended
        return {}
    return seen if len(seen) > 1 else {}
