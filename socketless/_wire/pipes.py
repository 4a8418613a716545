"""The ends of pipes, as those of `multiprocessing`, which any thread, a fork or the garbage collector may close."""

from __future__ import annotations

from contextlib import suppress
from multiprocessing.connection import Connection

from socketless._genuine import fcntl, os


class PipeEnd(Connection):
    """One end of a pipe. Two threads, or the garbage collector, may close it at once."""

    def __init__(self, fd: int, *, readable: bool = True, writable: bool = True) -> None:
        super().__init__(fd, readable, writable)
        self._open = [fd]  # taken out atomically: a descriptor that is closed twice may be another's by then

    def fileno(self) -> int:
        """Return its descriptor.

        Raises:
            OSError: it is closed.
        """
        try:
            return self._open[0]
        except IndexError:
            raise OSError("handle is closed") from None

    def break_off(self) -> None:
        """Let the pipe end on both sides: who reads comes to its end, and who writes gets a BrokenPipeError.

        Any thread may call it, also while another one is at work with this end: nothing else is given its number.

        Raises:
            OSError: no descriptors are to be had for it.
        """
        reader, writer = os.pipe()
        broken, other = (reader, writer) if self.readable else (writer, reader)
        os.close(other)
        try:
            with suppress(IndexError):  # it is closed
                fd = self._open.pop()
                try:
                    os.dup2(broken, fd, inheritable=False)
                finally:
                    self._open.append(fd)
        finally:
            os.close(broken)

    def close(self) -> None:
        """Close it. May be called twice."""
        with suppress(IndexError):
            self._open.pop()
            super().close()

    def _close(self) -> None:
        # Connection's own has os.close() for a default value, which pyfakefs replaces if it is told to.
        os.close(super().fileno())

    def __del__(self) -> None:
        # Connection's own closes the descriptor and keeps its number, for what else is collected to write to.
        self.close()


def make_pipe() -> tuple[PipeEnd, PipeEnd]:
    """Make what `Pipe(duplex=False)` makes, a pipe; `Pipe()` would be a socketpair."""
    read_fd, write_fd = map(above_stdio, os.pipe())
    return PipeEnd(read_fd, writable=False), PipeEnd(write_fd, readable=False)


def above_stdio(fd: int) -> int:
    """Move a descriptor whose number belongs to a standard stream: this process has closed it, a worker has its own."""
    if fd > 2:
        return fd
    moved = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 3)
    os.close(fd)
    return moved


def fd_of(end: PipeEnd, error: type[Exception]) -> int:
    """Return the descriptor of an end. To be asked for again after each wait.

    Meanwhile another thread or task of the same exchange may have closed it, a forked child, or the collector; then the
    number may be that of something else.

    Raises:
        Exception: `error`; it is closed.
    """
    try:
        return end._open[0]
    except IndexError:
        raise error from None
