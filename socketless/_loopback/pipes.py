"""What this package asks of the kernel: pipes, and the waiting for them.

A pipe's bytes, its ends, and the end of a process that held one are the kernel's business. So a fork, a `kill -9`, a
full buffer and a Ctrl-C need little care of ours.
"""

from __future__ import annotations

import select
import sys
import termios
from collections.abc import Iterable
from contextlib import suppress

from socketless._loopback.system import fcntl, monotonic, os

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

READABLE, WRITABLE = select.POLLIN, select.POLLOUT

_poll = select.poll  # the kernel's own; polling.py puts another one in its place
_LARGE = 1 << 20  # /proc/sys/fs/pipe-max-size, where nobody has changed it
_F_SETPIPE_SZ = getattr(fcntl, "F_SETPIPE_SZ", 1031)
_F_GETPIPE_SZ = getattr(fcntl, "F_GETPIPE_SZ", 1032)

MARK = 0xF7  # the last byte of a pipe that has been ended, see `mark`; one that UTF-8 does not have
_IS_MARKED, _IS_REFUSED, _WAS_RESET = 0o100, 0o010, 0o001  # bits of its mode

_SPLICE_F_NONBLOCK = 2  # <fcntl.h>

_FAR = 256  # a number
_LONGEST_POLL = 0x7FFFFFFF / 1000  # seconds

Identity = tuple[int, int]


def failure(number: int) -> OSError:
    """Make the error that a system call would raise."""
    return OSError(number, os.strerror(number))


def make_pipe() -> tuple[int, int]:
    """Return the two ends of a new pipe, the reading one first. Neither ever blocks, nor goes to another program."""
    return os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)


def identity(fd: int) -> Identity:
    """Return what a descriptor's pipe is known by, however often its number is copied, in whatever process."""
    status = os.fstat(fd)
    return status.st_dev, status.st_ino


def unread(fd: int) -> int:
    """Return how many bytes wait in a pipe; either end will do."""
    return int.from_bytes(fcntl.ioctl(fd, termios.FIONREAD, bytes(4)), sys.byteorder)


def capacity(fd: int) -> int:
    """Return how many bytes a pipe has room for; 0: it is none, or closed."""
    try:
        return fcntl.fcntl(fd, _F_GETPIPE_SZ)
    except OSError:
        return 0


def move(fd: int, number: int) -> None:
    """Let another number stand for what a descriptor stands for, in place of what it stood for."""
    os.dup2(fd, number, inheritable=False)
    os.close(fd)


def far_away(fd: int) -> int:
    """Give a descriptor a number that is not among the first ones, if the limits of the process let it."""
    try:
        moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FAR)
    except OSError:
        return fd
    os.close(fd)
    return moved


def reopen_for_writing(fd: int) -> int:
    """Return a writing end of the pipe that we have a reading end of.

    Raises:
        OSError: there is no /proc.
    """
    return os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def add_byte(fd: int) -> bool:
    """Put a byte into the pipe that we have a reading end of, so that it is readable; return whether it is there."""
    with suppress(OSError):
        writer = reopen_for_writing(fd)
        try:
            return os.write(writer, b"\0") == 1
        finally:
            os.close(writer)
    return False


def mark(fd: int) -> None:
    """End a pipe whose ends are open in other processes: a last byte says so to its reader, and its mode to all."""
    _set_mode(fd, _IS_MARKED)
    with suppress(OSError):
        writer = reopen_for_writing(fd)
        try:
            _write_mark(writer)
        finally:
            os.close(writer)


def _write_mark(writer: int) -> None:
    for size in (0, _LARGE):
        with suppress(BlockingIOError):
            if size:
                resize(writer, size)
            os.write(writer, bytes([MARK]))
            return


def is_marked(fd: int) -> bool:
    """Whether a pipe has been ended."""
    return bool(os.fstat(fd).st_mode & _IS_MARKED)


def refuse(fd: int) -> None:
    """Let those know who write into a pipe that nobody will read any more, though its reading end stays open."""
    _set_mode(fd, _IS_REFUSED)


def is_refused(fd: int) -> bool:
    """Whether nobody will read what is written into a pipe."""
    return bool(os.fstat(fd).st_mode & _IS_REFUSED)


def reset(fd: int) -> None:
    """Let who reads a pipe know that it ends by a reset, should he not see it: he has ended the other one."""
    _set_mode(fd, _WAS_RESET)


def was_reset(fd: int) -> bool:
    """Whether a pipe has ended by a reset."""
    return bool(os.fstat(fd).st_mode & _WAS_RESET)


def path_of(fd: int) -> int:
    """Return a descriptor that stands for the same pipe and is none of its ends, for its mode alone.

    Raises:
        OSError: there is no /proc.
    """
    return os.open(f"/proc/self/fd/{fd}", os.O_PATH | os.O_CLOEXEC)


def _set_mode(fd: int, bit: int) -> None:
    os.fchmod(fd, os.fstat(fd).st_mode & 0o777 | bit)


def resize(fd: int, size: int = _LARGE) -> bool:
    """Let a pipe hold so many bytes; return whether it does. Users who are not root have a share of pages for all."""
    with suppress(OSError):
        return fcntl.fcntl(fd, _F_SETPIPE_SZ, size) >= size
    return False


def close_all(*fds: int) -> None:
    """Close descriptors, save those that are -1 already."""
    for fd in fds:
        if fd >= 0:
            os.close(fd)


def deadline_after(timeout: float | None) -> float | None:
    """Return when a time limit is over."""
    return None if timeout is None else monotonic() + timeout


def wait(watches: Iterable[tuple[int, int]], deadline: float | None) -> None:
    """Wait until one of these descriptors is ready for what it is watched for, or at its end.

    Raises:
        TimeoutError: none was in time.
    """
    poll = _poll()
    for fd, events in watches:
        poll.register(fd, events)
    if not poll.poll(_milliseconds(None if deadline is None else max(0.0, deadline - monotonic()))):
        raise TimeoutError("timed out")


def is_ready(fd: int, events: int, timeout: float | None) -> bool:
    """Wait for one descriptor, for so many seconds, and return whether it is ready, or at its end."""
    poll = _poll()
    poll.register(fd, events)
    return bool(poll.poll(_milliseconds(timeout)))


def _milliseconds(timeout: float | None) -> float | None:
    """Return a time limit for poll(), which has room for 24 days; a longer one is none."""
    return None if timeout is None or timeout > _LONGEST_POLL else timeout * 1000


def has_other_end(fd: int) -> bool:
    """Whether anybody has the other end of the pipe that we have one end of."""
    poll = _poll()
    poll.register(fd, 0)
    return not poll.poll(0)


def peek(fd: int, size: int) -> bytes:
    """Return what is first in a pipe, and leave it there.

    Raises:
        BlockingIOError: nothing is.
    """
    reader, writer = make_pipe()
    try:
        count = _tee(fd, writer, size)
        return os.read(reader, count) if count else b""
    finally:
        close_all(reader, writer)


def _tee(source: int, target: int, size: int) -> int:
    import ctypes  # Python has no tee(2), and few sockets are peeked into

    count = int(ctypes.CDLL(None, use_errno=True).tee(source, target, ctypes.c_size_t(size), _SPLICE_F_NONBLOCK))
    if count < 0:
        raise failure(ctypes.get_errno())
    return count
