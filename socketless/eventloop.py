"""Event loops of asyncio and trio that need no socket to wake up.

asyncio wakes a sleeping loop by `send()` on a `socketpair()`. Where sandboxes refuse `socketpair()`, no loop can be
made; where they refuse `send()`, asyncio swallows the error and the loop sleeps for ever. trio sets options of its
sockets as well, and cannot start. `install()` gives every loop of this process a pipe instead. Nothing else about the
loops changes.
"""

from __future__ import annotations

import socket
import sys
import threading
import weakref
from collections.abc import Callable
from typing import Any, Literal

from socketless._genuine import os
from socketless._import_watch import Watch

__all__ = ["install", "is_installed", "uninstall"]

When = Literal["always", "blocked", "never"]

_lock = threading.Lock()
_when: When = "never"  # guarded by _lock, for those who change it
_watches: list[Watch] = []  # guarded by _lock; for what is not imported yet
_originals: list[tuple[type, str, Any]] = []  # the methods that are replaced: class, name, method
_ends: weakref.WeakSet[_PipeEnd] = weakref.WeakSet()


class _PipeEnd:
    """One end of a pipe with the few methods of a socket that asyncio's self-pipe calls."""

    def __init__(self, fd: int) -> None:
        os.set_blocking(fd, False)
        self._fd = fd
        # Held while the number is used, and while it is given back. A signal's handler or the garbage collector may
        # wake the same loop in the middle of that.
        self._lock = threading.RLock()
        _ends.add(self)

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

    def renew_lock(self) -> None:
        self._lock = threading.RLock()


def _renew_locks() -> None:
    # Runs in a forked child: a lock that another thread held would stay locked, and the child's copy of a loop is
    # closed when it is collected, at the latest.
    for end in list(_ends):
        end.renew_lock()


if hasattr(os, "register_at_fork"):  # not on Windows
    os.register_at_fork(after_in_child=_renew_locks)


def _make_self_pipe(loop: Any) -> None:
    # Instead of BaseSelectorEventLoop._make_self_pipe: the same attributes, with a pipe in place of the sockets.
    read_fd, write_fd = os.pipe()
    loop._ssock, loop._csock = _PipeEnd(read_fd), _PipeEnd(write_fd)
    loop._internal_fds += 1
    loop._add_reader(read_fd, loop._read_from_self)


def _init_wakeup(wakeup: Any) -> None:
    # Instead of trio's WakeupSocketpair.__init__, as above.
    read_fd, write_fd = os.pipe()
    wakeup.wakeup_sock, wakeup.write_sock = _PipeEnd(read_fd), _PipeEnd(write_fd)
    wakeup.old_wakeup_fd = None


# Where loops make their sockets: module, class and method, and what does it with a pipe.
_PLACES: list[tuple[str, str, str, Callable[[Any], None]]] = [
    ("asyncio.selector_events", "BaseSelectorEventLoop", "_make_self_pipe", _make_self_pipe),
    ("trio._core._wakeup_socketpair", "WakeupSocketpair", "__init__", _init_wakeup),
]


def install() -> None:
    """Make every asyncio selector loop that is created from now on, and every run of trio, wake by a pipe.

    This includes subclasses, however the loops are made: `asyncio.run`, `new_event_loop`, pytest-asyncio, anyio's
    portals. Existing loops, and those of uvloop, stay as they are. Calling it again does nothing.
    """
    wake_by_pipe("always")


def is_installed() -> bool:
    """Whether new loops wake by a pipe."""
    return _when == "always"


def uninstall() -> None:
    """Let new loops use the sockets of asyncio and trio again. Without `install()` before, do nothing."""
    wake_by_pipe("never")


def wake_by_pipe(when: When) -> When:
    """Choose when new loops wake by a pipe, and return what was chosen before.

    "blocked" is: while something else than Python's own is in the place of `socket.socket`, as pytest-socket puts there
    what raises an error.
    """
    global _when
    with _lock:
        before, _when = _when, when
        if when == "never":
            _restore()
        elif before == "never":
            for place in _PLACES:
                _replace_when_imported(*place)
    return before


def _replace_when_imported(module_name: str, *place: Any) -> None:
    def replace() -> None:
        _replace(sys.modules[module_name], *place)

    _watches.append(Watch(module_name, replace))
    if module_name in sys.modules:
        replace()


def _replace(module: Any, class_name: str, name: str, by_pipe: Callable[[Any], None]) -> None:
    owner = getattr(module, class_name, None)
    if owner is None or _when == "never":  # a trio that wakes in some other way
        return
    original = vars(owner)[name]

    def method(self: Any) -> None:
        if _when == "always" or _is_blocked():
            by_pipe(self)
        else:
            original(self)

    _originals.append((owner, name, original))
    setattr(owner, name, method)


def _restore() -> None:
    # Must be called with _lock held.
    while _watches:
        _watches.pop().close()
    while _originals:
        owner, name, original = _originals.pop()
        setattr(owner, name, original)


def _is_blocked() -> bool:
    return any(getattr(each, "__module__", "") != "socket" for each in (socket.socket, socket.socketpair))
