"""The folder in which the processes of one rescue meet. Its path is in the environment, so children have it, too.

socketless-XXXX/
    users                    locked, shared, by each process that uses the folder; the last one removes it, or, if
                             they were all killed, whoever makes the next folder
    lock                     held by who changes what is below `tcp` and the others
    tcp/8000/127.0.0.1,,7-1  a FIFO for each socket that is bound, see places.py
    c/7-2.up, c/7-2.down     a connection that nobody has accepted yet, see handover.py
    d/7-3                    a datagram that is too large for a FIFO, see datagram.py
"""

from __future__ import annotations

import atexit
import errno
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

from socketless._loopback.system import exists, fcntl, os

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

VARIABLE = "SOCKETLESS_LOOPBACK"  # of the environment
_NAME = re.compile("socketless-[0-9a-f]{12}")

_path: str | None = None
_users = -1  # the descriptor by which this process uses the folder
_numbers = count(1)


def name_folder() -> str:
    """Return the folder's path, after it has been put into the environment. There need not be one yet."""
    path = os.environ.get(VARIABLE, "")
    if not path or not _is_mine(path):
        path = os.path.join(_parent(), f"socketless-{os.urandom(6).hex()}")
        os.environ[VARIABLE] = path
    return path


def _parent() -> str:
    # In memory, if possible: a connection between processes makes and removes a few names.
    for parent in ("/dev/shm", os.environ.get("TMPDIR") or "/tmp"):
        trial = os.path.join(parent, f"socketless-{os.urandom(6).hex()}")
        with suppress(OSError):
            os.mkfifo(trial, 0o600)
            os.unlink(trial)
            return parent
    raise OSError(errno.EROFS, "loopback needs a folder that can be written to; set TMPDIR to one", parent)


def _is_mine(path: str) -> bool:
    try:
        return os.stat(path).st_uid == os.getuid()
    except FileNotFoundError:
        return os.path.isdir(os.path.dirname(path))
    except OSError:
        return False


def open_folder() -> str:
    """Return the path of the folder, which is there for as long as a process that has called this.

    Raises:
        OSError: it cannot be made.
    """
    global _path, _users
    if _path is None:
        path = name_folder()
        is_new = not exists(path)
        _users = _enter(path)
        if is_new:
            _sweep(path)
        _path = path
        atexit.register(_leave)
        os.register_at_fork(after_in_child=_enter_again)
    return _path


def _enter(path: str) -> int:
    while True:
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        try:
            users = os.open(os.path.join(path, "users"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # who was the last one has just removed it
        fcntl.flock(users, fcntl.LOCK_SH)
        if os.fstat(users).st_nlink:
            break
        os.close(users)
    for name in ("c", "d"):
        with suppress(FileExistsError):
            os.mkdir(os.path.join(path, name))
    return users


def _enter_again() -> None:
    # Runs in a forked child: the lock of its copy of the descriptor is its parent's.
    global _users
    if _path is not None:
        inherited, _users = _users, _enter(_path)
        os.close(inherited)


def _leave() -> None:
    # Runs at the exit of the process.
    assert _path is not None
    _remove_if_unused(_path, _users)


def _remove_if_unused(path: str, users: int) -> None:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return  # others use it
    _empty(path, but="users")
    with suppress(OSError):
        # The last thing: whoever enters now waits for the lock, and begins anew.
        os.unlink(os.path.join(path, "users"))
        os.rmdir(path)


def _sweep(path: str) -> None:
    """Remove the folders beside a new one whose processes have all been killed."""
    parent, new = os.path.split(path)
    with suppress(OSError):  # it cannot be listed
        for name in os.listdir(parent):
            if _NAME.fullmatch(name) and name != new:
                with suppress(OSError):  # another user's, or somebody else has just removed it
                    _sweep_one(os.path.join(parent, name))


def _sweep_one(path: str) -> None:
    status = os.lstat(path)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid():
        return
    try:
        users = os.open(os.path.join(path, "users"), os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        os.rmdir(path)  # killed while it made the folder, or removed it; who does so now makes it again
        return
    try:
        _remove_if_unused(path, users)
    finally:
        os.close(users)


def _empty(path: str, but: str = "") -> None:
    with suppress(OSError):
        for name in os.listdir(path):
            inner = os.path.join(path, name)
            if name == but:
                continue
            try:
                os.unlink(inner)
            except IsADirectoryError:
                _empty(inner)
                os.rmdir(inner)


def unique() -> str:
    """Return a name that no other process has, nor this one once more."""
    return f"{os.getpid()}-{next(_numbers)}"


@contextmanager
def locked() -> Iterator[None]:
    """Keep all others, threads and processes, from the same."""
    fd = os.open(os.path.join(open_folder(), "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)  # closing is not enough: another thread may have forked meanwhile
        os.close(fd)
