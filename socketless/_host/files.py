"""A file without a name, into which a worker writes and from which its host reads, once each.

What has been read is given back to the system: a hole is punched where it was. So a file needs no more room than what
has yet to be read, however much a worker prints in its life.
"""

from __future__ import annotations

import errno
import mmap
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from io import FileIO

from socketless._genuine import fcntl, os
from socketless._host.trace import logger
from socketless._wire.pipes import above_stdio

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_HOLE_SIZE = 1024 * 1024  # bytes that are worth a hole
_BLOCK = b"\0" * mmap.PAGESIZE


class NamelessFile:
    """The worker writes at its end. One thread of the host at a time may use it.

    Args:
        keep: how many of the bytes that have been read last shall stay, for `tail()`.

    Raises:
        OSError: no descriptor is to be had.
    """

    def __init__(self, keep: int = 0) -> None:
        self._file = _open()
        self._keep = keep
        self._position = 0  # of what has yet to be read
        self._hole_end = 0

    def fileno(self) -> int:
        """Its descriptor, which is the worker's, too."""
        return self._file.fileno()

    def read(self, size: int) -> bytes:
        """Return what comes next, at most that many bytes; `b""` if there is nothing yet."""
        fd = self._file.fileno()
        end = os.lseek(fd, 0, os.SEEK_END)  # what is written goes there anyway
        if end == self._position:
            return b""
        if end < self._position:
            self._position = self._hole_end = 0  # the app has opened /dev/stdout anew, which empties it
        data = os.pread(fd, size, self._position)
        self._position += len(data)
        if self._position - self._keep - self._hole_end >= _HOLE_SIZE:
            self._punch()
        return data

    def read_until(self, end: int, size: int) -> bytes:
        """Return what comes next, and ends before that position of the file."""
        return self.read(min(size, end - self._position)) if self._position < end else b""

    def tail(self) -> tuple[bytes, bool]:
        """Return the last bytes that there are, at most `keep`, and whether there were others before them."""
        size = os.fstat(self._file.fileno()).st_size
        return os.pread(self._file.fileno(), self._keep, max(0, size - self._keep)), size > self._keep

    def _punch(self) -> None:
        end = (self._position - self._keep) // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        if sys.platform == "linux":
            # The system call for it, fallocate(), is one that Python does not have. Some file systems have no holes.
            with suppress(OSError, ValueError):
                with mmap.mmap(self._file.fileno(), end - self._hole_end, offset=self._hole_end) as hole:
                    hole.madvise(mmap.MADV_REMOVE)
        self._hole_end = end

    def close(self) -> None:
        """Let go of it. May be called twice."""
        self._file.close()


def any_news(files: Iterable[NamelessFile]) -> bool:
    """Return whether there is something to be read in one of the files. That is a system call for each, and no more."""
    for each in files:
        if os.lseek(each._file.fileno(), 0, os.SEEK_END) != each._position:
            return True
    return False


def _open() -> FileIO:
    fd = _open_first()
    file = FileIO(above_stdio(fd), "r+")
    # Whoever opens it again, as /dev/stdout, must not write over what is there.
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    return file


def _open_first() -> int:
    for make in (_make_in_memory, _make_on_disk):
        try:
            fd = make()
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise
            continue
        try:
            os.pwrite(fd, _BLOCK, 0)  # or there is no room
            os.truncate(fd, 0)
        except OSError:
            os.close(fd)
        else:
            return fd
    _say_that_it_is_lost()
    return os.open(os.devnull, os.O_RDWR)


@cache
def _say_that_it_is_lost() -> None:
    # Once: each worker has three of these files.
    try:
        folder = tempfile.gettempdir()
    except OSError:
        folder = "any temporary folder"
    logger.warning(
        "the output of workers is lost: memfd_create() is refused, and there is no room in %s; set TMPDIR to another "
        "folder",
        folder,
    )


def _make_in_memory() -> int:
    if not hasattr(os, "memfd_create"):  # Linux only
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return os.memfd_create("socketless-output")


def _make_on_disk() -> int:
    # Not tempfile's: under pyfakefs, those have no descriptor.
    name = os.path.join(tempfile.gettempdir(), f"socketless-{os.urandom(8).hex()}")
    fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    os.unlink(name)
    return fd
