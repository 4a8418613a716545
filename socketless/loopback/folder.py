"""The folder in which the processes of one rescue meet. Its path is in the environment, so children have it, too.

socketless-XXXX/
    lock                     held by who changes what is below `tcp` and the others
    tcp/8000/127.0.0.1,,7-1  a FIFO for each socket that is bound, see places.py
    c/7-2.up, c/7-2.down     a connection that nobody has accepted yet, see handover.py
    d/7-3                    a datagram that is too large for a FIFO, see datagram.py
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

VARIABLE = "SOCKETLESS_LOOPBACK"  # of the environment

_path: str | None = None
_numbers = count(1)


def open_folder() -> str:
    """Return the folder's path; whoever needs it first, of all the processes, makes it and removes it at its exit."""
    global _path
    if _path is None:
        _path = _inherited() or _make()
    return _path


def _inherited() -> str | None:
    path = os.environ.get(VARIABLE, "")
    with suppress(OSError):
        if path and os.stat(path).st_uid == os.getuid():
            return path
    return None


def _make() -> str:
    # In memory, if possible: a connection between processes makes and removes a few names.
    for parent in ("/dev/shm", os.environ.get("TMPDIR") or "/tmp"):
        path = os.path.join(parent, f"socketless-{os.urandom(6).hex()}")
        with suppress(OSError):
            _fill(path)
            os.environ[VARIABLE] = path
            atexit.register(_remove, path, os.getpid())
            return path
    raise OSError(errno.EROFS, "loopback needs a folder that can be written to; set TMPDIR to one", parent)


def _fill(path: str) -> None:
    """Make the folder, and see whether FIFOs can be made there."""
    os.mkdir(path, 0o700)
    for name in ("c", "d"):
        os.mkdir(os.path.join(path, name))
    os.mkfifo(os.path.join(path, "lock"), 0o600)


def _remove(path: str, owner: int) -> None:
    if os.getpid() != owner:
        return  # a fork, whose parent goes on
    if os.environ.get(VARIABLE) == path:
        del os.environ[VARIABLE]
    for folder, folders, files in os.walk(path, topdown=False):
        for name in files:
            with suppress(OSError):
                os.unlink(os.path.join(folder, name))
        for name in folders:
            with suppress(OSError):
                os.rmdir(os.path.join(folder, name))
    with suppress(OSError):
        os.rmdir(path)


def unique() -> str:
    """Return a name that no other process has, nor this one once more."""
    return f"{os.getpid()}-{next(_numbers)}"


@contextmanager
def locked() -> Iterator[None]:
    """Keep all others, threads and processes, from the same."""
    fd = os.open(os.path.join(open_folder(), "lock"), os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # closing is not enough: another thread may have forked meanwhile
        os.close(fd)
