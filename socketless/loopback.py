"""Servers and clients on loopback without a socket: TCP, UDP and UNIX sockets made of pipes.

`install()` makes sockets virtual if both sides are on loopback, in this process and in the Python processes that it
starts. Code that uses them need not know: they are objects of the same classes, their file descriptors can be waited
for, and they work and fail as real ones do. Everything else uses real sockets as before.

    socket.socket ─▶ methods.py ─▶ virtual.py ─▶ openfile.py ─▶ idle / listening / stream / datagram.py ─▶ pipes.py
    one object                     its number,   what several   what it is at the moment                   the kernel
                                   time limit    numbers share

A connection is two pipes, and nothing of it is in memory: so the kernel keeps what is written, says when it is too
much, wakes who waits, and ends it with the process. It makes no difference whether the other side is a thread, a child
of `fork()` or a program: places.py finds it by a FIFO in a folder that they share, handover.py brings it the pipes.
There is no thread behind it and, but for binding an address, no lock.

**What a number is.** `fileno()` is the reading end of a pipe, and what it says to `select`, `poll` and `epoll` is true:
it is readable when there is something to be read, to be accepted, or the end. Writing is another descriptor; one number
cannot be both (an eventfd could, but it cannot say "neither", and a loop that waits for both would spin). So the
waiting functions of the module `select` are replaced by ones that know the other descriptor, see polling.py: with them
each event loop that is written in Python waits for both directions exactly. Code that has taken the originals before,
or waits in C, is told of reading as always, and never of writing. `os.write()` knows the other one, too; `open()` does
not for writing: it fails with EBADF.
"""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Collection
from typing import Any

from socketless._loopback.patches import Patches

__all__ = ["install", "is_installed", "prepare_children", "uninstall"]

_lock = threading.RLock()
_patches = Patches()  # guarded by _lock
_is_installing = False  # guarded by _lock; the import of `socket` that belongs to it may ask for it once more
_late: Any = None  # guarded by _lock; what is changed when it is imported
_is_installed = False  # guarded by _lock; the patches outlast it while a virtual socket is open


def install(families: Collection[str] | None = None, *, alone: bool = False) -> None:
    """Make sockets virtual if both sides are on loopback, in this process and in the Python processes it starts.

    Existing sockets stay as they are. Calling it again does nothing.

    Args:
        families: the kinds of sockets: ``"inet"`` (TCP and UDP over IPv4 and IPv6) and ``"unix"``. `None`: all; but if
            the parent process has virtual sockets already, the same kinds as there.
        alone: whether never to try a real socket, because the sandbox would kill the process for it. Connections to
            elsewhere then fail with EPERM.

    Raises:
        OSError: the folder that the processes share cannot be made; or this is not Linux; or another package (gevent,
            pytest-socket) has replaced `socket.socket`.
        ValueError: there is no such family.
    """
    global _is_installing, _is_installed, _late
    _check_platform()
    with _lock:
        if _is_installed or _is_installing:
            return
        _is_installing = True
        try:
            from socketless._loopback import installing

            installing.switch_on(families, alone=alone)
            _late = _late if _patches else installing.patch(_patches)
            _is_installed = True
        finally:
            _is_installing = False


def _check_platform() -> None:
    if sys.platform != "linux":
        raise OSError(errno.ENOTSUP, "servers on loopback without a socket need Linux")


def prepare_children(*, alone: bool = False) -> None:
    """Make sockets virtual in the Python processes that this one starts from now on, but not in this one.

    Args:
        alone: see `install()`.
    """
    from socketless._loopback import children, families, folder

    _check_platform()
    folder.name_folder()
    if alone:
        families.forbid_real()
    children.add_to_environment()


def is_installed() -> bool:
    """Whether new sockets are virtual."""
    return _is_installed


def uninstall() -> None:
    """Make new sockets real again. Virtual ones that are still open go on working. May be called twice.

    While any are open, such as those of a thread that was never stopped, the patches that they need stay in place.
    """
    global _is_installed
    with _lock:
        if _is_installed:
            from socketless._loopback import installing

            _is_installed = False
            installing.switch_off()
            if not installing.is_anything_open():
                installing.restore(_patches, _late)
