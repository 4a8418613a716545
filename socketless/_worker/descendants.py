"""A worker's children, theirs, and so on, whatever sessions they have made of their own; and how all of them end.

The worker itself ends them when its host was killed. Where it cannot, since C code holds its GIL, since it is stopped,
or since it has become another program, the host's guard does (`socketless._host.guard`): it runs this file by its path,
as a program, so this imports nothing of the package.

A process that its parent has left, as a daemon is, is nobody's descendant any more, and stays.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import NamedTuple

__all__ = ["kill_descendants"]

_GRACE_SECONDS = 1.8  # how long a worker may take to leave by itself
_LOOK_SECONDS = 0.05


class _Process(NamedTuple):
    pid: int
    born: bytes  # tells it from a later one that has the same number


def kill_descendants(root: int, known: set[_Process] | None = None) -> None:
    """Kill all that a process has started, and those that are known to have been; the process itself goes on."""
    stopped: set[_Process] = set()
    while new := (_descendants(root) | (known or set())) - stopped:
        for each in new:
            _send(each, signal.SIGSTOP)  # or it would start others meanwhile
        stopped |= new
    for each in stopped:
        _send(each, signal.SIGKILL)


def _descendants(root: int) -> set[_Process]:
    children: dict[int, list[_Process]] = {}
    for pid in _pids():
        parent, born = _look_at(pid)
        children.setdefault(parent, []).append(_Process(pid, born))
    found: set[_Process] = set()
    parents = [root]
    while parents:
        new = children.get(parents.pop(), [])
        found.update(new)
        parents += [each.pid for each in new]
    return found


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return []


def _look_at(pid: int) -> tuple[int, bytes]:
    # Its parent and the time of its start, see proc(5). It may have ended.
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0, b""
    return (int(fields[1]), fields[19]) if fields and fields[0] != b"Z" else (0, b"")


def _send(process: _Process, number: int) -> None:
    if _look_at(process.pid)[1] == process.born != b"":
        with suppress(OSError):  # it has just ended, or is another user's by now
            os.kill(process.pid, number)


def _is_there(pid: int) -> bool:
    if _pids():
        return _look_at(pid)[1] != b""
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def _main(worker: int) -> None:
    """End a worker whose host was killed, once it has had the time to leave by itself; and all that it has started."""
    known: set[_Process] = set()
    deadline = time.monotonic() + _GRACE_SECONDS
    while _is_there(worker) and time.monotonic() < deadline:
        known |= _descendants(worker)
        time.sleep(_LOOK_SECONDS)
    with suppress(OSError):  # it has left
        os.kill(worker, signal.SIGSTOP)
    kill_descendants(worker, known)
    with suppress(OSError):  # nor has it left any in its own group
        os.killpg(worker, signal.SIGKILL)


if __name__ == "__main__":
    _main(int(sys.argv[1]))
