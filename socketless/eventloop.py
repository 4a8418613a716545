"""asyncio event loops that need no socket to wake up.

asyncio wakes a sleeping loop by `send()` on a `socketpair()`. Where sandboxes refuse `socketpair()`, no loop can be
made; where they refuse `send()`, asyncio swallows the error and the loop sleeps for ever. `install()` gives every
selector loop of this process a pipe instead. Nothing else about the loops changes.
"""

from __future__ import annotations

import os
import threading
from asyncio import selector_events
from typing import Any

__all__ = ["install", "uninstall"]

_Loop: Any = selector_events.BaseSelectorEventLoop
_original: Any = None  # the method that install() replaced, None while nothing is installed


class _PipeEnd:
    """One end of a pipe with the few methods of a socket that asyncio's self-pipe calls."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        # Held while the number is used, and while it is given back. A signal's handler or the garbage collector may
        # wake the same loop in the middle of that.
        self._lock = threading.RLock()

    def fileno(self) -> int:
        return self._fd

    def recv(self, size: int) -> bytes:
        return os.read(self._fd, size)

    def send(self, data: bytes) -> int:
        with self._lock:
            return os.write(self._fd, data)

    def close(self) -> None:
        # The number must not be used again after this: another thread may still call send() while the loop is closed,
        # and by then the number may be somebody else's file. asyncio ignores the OSError that -1 gives.
        with self._lock:
            fd, self._fd = self._fd, -1
            if fd >= 0:
                os.close(fd)

    def __del__(self) -> None:
        self.close()


def _make_self_pipe(loop: Any) -> None:
    # Replaces BaseSelectorEventLoop._make_self_pipe: the same attributes, with a pipe in place of the sockets.
    read_fd, write_fd = os.pipe()
    loop._ssock, loop._csock = _PipeEnd(read_fd), _PipeEnd(write_fd)
    loop._internal_fds += 1
    loop._add_reader(read_fd, loop._read_from_self)


def install() -> None:
    """Make every asyncio selector loop that is created from now on wake by a pipe.

    Loops of subclasses count, however they are made: `asyncio.run`, `new_event_loop`, pytest-asyncio, anyio's portals.
    Loops that exist already, and uvloop's, stay as they are. Calling it again does nothing.
    """
    global _original
    if _original is None:
        _original = _Loop._make_self_pipe
        _Loop._make_self_pipe = _make_self_pipe


def uninstall() -> None:
    """Give new loops asyncio's own sockets again. Without `install()` before it, does nothing."""
    global _original
    if _original is not None:
        _Loop._make_self_pipe = _original
        _original = None
