"""`signal.set_wakeup_fd()` with a virtual socket: C writes to the number, so it must be the one that is written to."""

from __future__ import annotations

import signal
from typing import Any

from socketless._loopback import openfile
from socketless._loopback.patches import Patches
from socketless._loopback.system import fcntl, os

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_set_wakeup_fd = signal.set_wakeup_fd

_last = (-1, -1)  # the number that was set, and the one that signals write to


def set_wakeup_fd(fd: int, /, **options: Any) -> int:
    """As `signal.set_wakeup_fd()`."""
    global _last
    (number, written_to), writable = _last, _writable(fd)
    before = _set_wakeup_fd(writable, **options)
    _last = fd, writable
    return number if before == written_to else before


def _writable(fd: int) -> int:
    file = openfile.find(fd) if isinstance(fd, int) and fd >= 0 else None
    if file is None or file.state.write_fd < 0 or fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
        return fd  # somebody else's
    return file.state.write_fd


def patch(patches: Patches) -> None:
    """Let signals wake who waits for a virtual socket."""
    patches.set(signal, "set_wakeup_fd", set_wakeup_fd)
