"""Helpers that several test modules need."""

from __future__ import annotations

import os
import socket
import threading
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress

LIMIT = 30.0  # seconds for what takes milliseconds; only a defect reaches it


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
    return set(os.listdir("/dev/fd"))


def child_pids() -> set[int]:
    children = set()
    for task in os.listdir("/proc/self/task"):
        with suppress(FileNotFoundError), open(f"/proc/self/task/{task}/children") as file:  # or the thread has ended
            children |= {int(pid) for pid in file.read().split()}
    return children


def traceback_of(error: BaseException) -> str:
    """Return what Python would print of an error."""
    return "".join(traceback.format_exception(error))


@contextmanager
def nothing_leaks() -> Iterator[None]:
    """Assert that the block leaves no descriptor, thread or child process behind."""
    before = open_fds(), set(threading.enumerate()), child_pids()
    yield
    after = open_fds(), set(threading.enumerate()), child_pids()
    assert [now - then for now, then in zip(after, before, strict=True)] == [set(), set(), set()]
