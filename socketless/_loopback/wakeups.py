"""`signal.set_wakeup_fd()` with a virtual socket: C writes to the number, so it must be the one that is written to."""

from __future__ import annotations

import signal
from typing import Any

from socketless._loopback import openfile
from socketless._loopback.patches import Patches
from socketless._loopback.system import fcntl, os

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_set_wakeup_fd = signal.set_wakeup_fd


def set_wakeup_fd(fd: int, /, **options: Any) -> int:
    """As `signal.set_wakeup_fd()`."""
    return _set_wakeup_fd(_writable(fd), **options)


def _writable(fd: int) -> int:
    file = openfile.find(fd) if isinstance(fd, int) and fd >= 0 else None
    if file is None or file.state.write_fd < 0 or fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY:
        return fd  # somebody else's, or one that this has returned before
    return file.state.write_fd


def patch(patches: Patches) -> None:
    """Let signals wake who waits for a virtual socket."""
    patches.set(signal, "set_wakeup_fd", set_wakeup_fd)
