"""A connection: a pipe for each direction.

Most of what TCP does, the kernel does for pipes: an end, a full buffer, a process that is killed. What it does not:

what a socket does                              how it is told here
─────────────────────────────────────────────  ─────────────────────────────────────────────────────────────────────────
to close with something unread is a reset       who comes to the end of his pipe, while nobody reads the other one any
                                                more and what he has written lies in it, has been reset (FIONREAD). If
                                                he has ended that one himself, the mode of the first one says so
SO_LINGER (1, 0): to close is a reset           a byte is put into the pipe that nobody will read
the first bytes for a peer that has closed go   as here, as many as there would be room for; EPIPE comes with the
nowhere, and only their answer is an error      second write. UNIX sockets say it at once
shutdown(SHUT_RD) wakes who reads               a byte is put into the pipe, and nothing is read from it any more
shutdown(SHUT_WR) ends one direction            the number goes on to stand for a pipe that nobody reads: another thread
                                                may be about to use it; an eventfd wakes who waits for it
the same, where other processes have it, too:   a last byte in the pipe, whose mode says that it is that, see pipes.py
their ends of the pipe stay open
"""

from __future__ import annotations

import errno
from _socket import AF_UNIX, SHUT_RD, SHUT_RDWR, SHUT_WR
from collections.abc import Sequence
from contextlib import suppress
from select import POLLERR, POLLHUP, POLLIN, POLLRDHUP
from threading import RLock
from typing import Any

from socketless._loopback import pipes, state
from socketless._loopback.buffers import Buffer, rest_of, size_of
from socketless._loopback.handover import Unaccepted
from socketless._loopback.pipes import MARK, READABLE, failure
from socketless._loopback.places import Bound
from socketless._loopback.state import Message, State
from socketless._loopback.system import os

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_sendfile = os.sendfile  # socket_module.py puts another one in its place
not_forking = RLock()  # held while an end of a pipe is given up, and by who forks: a child would have it still
_IOV_MAX = 1024  # <limits.h>; sysconf() is refused in some sandboxes


class Stream(State):
    """A connected stream socket.

    Args:
        family: of the socket.
        write_fd: the writing end of one pipe. The reading end of the other one is the socket's number.
        local, peer: the names of both sides.
        unaccepted: what tells whether somebody has accepted it; `None`: that is done.
    """

    refusals = {"connect": errno.EISCONN, "accept": errno.EINVAL}
    refusals_of_unix = {**refusals, "sendto": errno.EISCONN}
    tcp_state = 1  # TCP_ESTABLISHED

    def __init__(
        self, family: int, write_fd: int, local: Any, peer: Any, unaccepted: Unaccepted | None = None, peer_pid: int = 0
    ) -> None:
        super().__init__(family)
        self.write_fd = write_fd
        self.local, self.peer, self.peer_pid = local, peer, peer_pid
        self._unaccepted = unaccepted
        self._port: Bound | None = None  # which an accepted connection keeps in use
        self.reads_no_more = self._writes_no_more = False
        self._read_path = -1  # the pipe that we read, once our writing has been shut: see `pipes.path_of`
        self._shut_event: list[int] = []  # an eventfd, once somebody has waited for room: its writing has been shut
        self._has_byte = False  # one of ours is in the pipe that we read, see `shutdown`
        self._has_written_to_nobody = False
        self._has_waited = False  # for room, since it last wrote
        self._error = 0  # that nobody has been told of
        self._is_reset = False  # and whoever has called has been told
        self.size: int | None = None  # of the pipe that we write into, if somebody has said it

    def keep_port(self, bound: Bound) -> None:
        """Let nobody else have the port before this has been closed."""
        bound.hold(self)
        self._port = bound

    def sockname(self) -> Any:
        return self.local

    def peername(self, fd: int) -> Any:
        if self.family != AF_UNIX and (self._is_over(fd) or (self._unaccepted is None and self._was_reset())):
            raise failure(errno.ENOTCONN)
        return self.peer

    def _is_over(self, fd: int) -> bool:
        """Return whether nothing goes in either direction any more; a reset counts when somebody has been told."""
        if self._is_reset or self._has_written_to_nobody:
            return True
        has_ended = not pipes.has_other_end(fd) or (not self.reads_no_more and pipes.is_marked(fd))
        return self._writes_no_more and has_ended

    def take_error(self) -> int:
        """Return what SO_ERROR says: what the next call would fail with, which then does not."""
        error, self._error = self._error, 0
        if not error and not self._is_reset and self._unaccepted is None and self._was_reset():
            self._is_reset, error = True, errno.ECONNRESET
        return error

    def hung_up(self) -> int:
        ended = POLLIN | POLLRDHUP
        if self._error or (not self._is_reset and self._unaccepted is None and self._was_reset()):
            return ended | POLLHUP | POLLERR
        is_over = self._is_reset or self._has_written_to_nobody or self._writes_no_more
        if self.family == AF_UNIX and not is_over:
            is_over = not pipes.has_other_end(self.write_fd)
        return ended | POLLHUP if is_over else ended

    # Reading

    def read(self, fd: int, size: int) -> bytes:
        self.expects_answer = False
        if self.reads_no_more:
            return self._read_rest(fd, size)
        data = os.read(fd, size)
        if data:
            return data if data[-1] != MARK else self._before_mark(fd, data)
        return data if not size or self._is_at_end() else self.read(fd, size)

    def read_into(self, fd: int, view: memoryview) -> int:
        self.expects_answer = False
        if self.reads_no_more:
            rest = self._read_rest(fd, view.nbytes)
            view[: len(rest)] = rest
            return len(rest)
        count = os.readv(fd, [view])
        return count if count and view[count - 1] != MARK else self.after_reading(fd, view, count)

    def after_reading(self, fd: int, view: memoryview, count: int) -> int:
        """Return what has been received if nothing was read, or what ends as a pipe does that has been ended."""
        if count:
            return len(self._before_mark(fd, view[:count]))
        return count if not view or self._is_at_end() else self.read_into(fd, view)

    def _read_rest(self, fd: int, size: int) -> bytes:
        """Read what came before the end that shutdown() has made."""
        if self._has_byte or not pipes.unread(fd):
            self._tell_reset()
            return b""
        data = os.read(fd, size)
        self._stop_reading(fd)
        return data

    def _before_mark(self, fd: int, data: Any) -> Any:
        """Return what has been read, without the byte that ends a pipe, if that is what it ends with."""
        if pipes.unread(fd) or not pipes.is_marked(fd):
            return data
        self._stop_reading(fd)
        return data[:-1]

    def receive(self, fd: int, size: int, *, peek: bool = False) -> Message:
        if not peek:
            return Message(self.read(fd, size))
        if self.reads_no_more:
            return Message(b"")
        data = pipes.peek(fd, size)
        if data and data[-1] == MARK and pipes.unread(fd) == len(data) and pipes.is_marked(fd):
            data = data[:-1]
        elif not data and size and not self._is_at_end():
            return self.receive(fd, size, peek=True)
        return Message(data)

    def _is_at_end(self) -> bool:
        """Return whether a read of nothing was the end; otherwise, try again.

        Raises:
            BlockingIOError: nobody has accepted the connection yet.
            ConnectionResetError: the other side has closed it with something unread. It is told once.
        """
        if self._unaccepted is not None:
            if not self._settle():
                raise failure(errno.EAGAIN)
            return False
        self._tell_reset()
        return True

    def _tell_reset(self) -> None:
        if not self._is_reset and self._was_reset():
            self._is_reset = True
            raise failure(errno.ECONNRESET)

    def _was_reset(self) -> bool:
        if self._writes_no_more:
            return self._read_path >= 0 and pipes.was_reset(self._read_path)
        return bool(pipes.unread(self.write_fd)) and not pipes.has_other_end(self.write_fd)

    def _settle(self) -> bool:
        """Return whether somebody has accepted the connection, or never will: then it is a reset."""
        unaccepted = self._unaccepted
        if unaccepted is None or not unaccepted.is_over():
            return unaccepted is None
        self._unaccepted = None
        if unaccepted.was_hopeless:
            self._is_reset = True
            raise failure(errno.ECONNRESET)
        return True

    # Writing

    def write(self, data: Buffer) -> int:
        # So few calls are made for a request that each one of Python's counts. This is all that is usual.
        size = len(data) if type(data) is bytes else data.nbytes if type(data) is memoryview else 0
        is_special = self._writes_no_more or self._unaccepted is not None or self._forks != state.forks
        if not size or is_special or self.family == AF_UNIX:
            return self.write_all_of([data])
        try:
            count = os.write(self.write_fd, data)
        except (BlockingIOError, BrokenPipeError):
            return self.write_all_of([data])
        self._has_waited, self.expects_answer = False, True
        return count if count == size else self._write_rest([data], count)

    def write_all_of(self, buffers: Sequence[Buffer]) -> int:
        self._check_writing()
        has_waited, self._has_waited = self._has_waited, False
        try:
            count = self._write_and_grow(buffers)
            if not count and not pipes.has_other_end(self.write_fd):
                return self._write_to_nobody(0)  # the kernel does not look, if nothing is written
            return count
        except BrokenPipeError:
            if has_waited and self.take_error() == errno.ECONNRESET:
                raise failure(errno.ECONNRESET) from None
            return self._write_to_nobody(size_of(buffers))

    def _check_writing(self) -> None:
        if self._writes_no_more or (self.is_shared and pipes.is_marked(self.write_fd)):
            if self.family != AF_UNIX:
                self._tell_reset()
            raise failure(errno.EPIPE)
        if self.family == AF_UNIX and pipes.is_refused(self.write_fd):
            raise failure(errno.EPIPE)
        if self._unaccepted is not None:
            self._settle()

    def send_file(self, fd: int, offset: int | None, count: int) -> int:
        self._check_writing()
        try:
            return _sendfile(self.write_fd, fd, offset, count)
        except BrokenPipeError:
            return self._send_file_to_nobody(fd, offset, count)

    def _send_file_to_nobody(self, fd: int, offset: int | None, count: int) -> int:
        start = os.lseek(fd, 0, os.SEEK_CUR) if offset is None else offset
        size = len(os.pread(fd, min(count, pipes.capacity(self.write_fd)), start))
        sent = self._write_to_nobody(size) if size else 0  # the end of the file is that, whoever reads
        if offset is None:
            os.lseek(fd, sent, os.SEEK_CUR)
        return sent

    def _write_and_grow(self, buffers: Sequence[Buffer]) -> int:
        # A socket has room for more than a pipe has at first. Some programs lose what a short write leaves to them.
        if self.size is not None:
            return self._write(buffers)
        try:
            count = self._write(buffers)
        except BlockingIOError:
            if not self._grow():
                raise
            return self._write(buffers)
        return self._write_rest(buffers, count)

    def _write_rest(self, buffers: Sequence[Buffer], count: int) -> int:
        if count < size_of(buffers) and self._grow():
            with suppress(BlockingIOError):
                count += self._write([rest_of(buffers, count)])
        return count

    def _write(self, buffers: Sequence[Buffer]) -> int:
        if len(buffers) == 1:
            return os.write(self.write_fd, buffers[0])
        return os.writev(self.write_fd, buffers[:_IOV_MAX])

    def _grow(self) -> bool:
        # Once: a pipe that has been full is that of somebody who sends much.
        if self.size is not None:
            return False
        self.size = 0
        return pipes.resize(self.write_fd)

    def _write_to_nobody(self, size: int) -> int:
        if self.family == AF_UNIX or self._has_written_to_nobody or self._is_reset:
            self._error = 0
            raise failure(errno.EPIPE)
        if self._was_reset():
            self._is_reset = self._has_written_to_nobody = True
            raise failure(errno.ECONNRESET)
        if size:
            self._has_written_to_nobody, self._error = True, errno.EPIPE
            self._grow()
        return min(size, pipes.capacity(self.write_fd))

    def write_to(self, data: Buffer, address: Any) -> int:
        if self.family == AF_UNIX:
            self.refuse("sendto")
        return self.write(data)  # TCP does not look at the address

    # The end

    def shutdown(self, fd: int, how: int) -> None:
        if how not in (SHUT_RD, SHUT_WR, SHUT_RDWR):
            raise failure(errno.EINVAL)
        if self.family != AF_UNIX and self._is_over(fd):
            raise failure(errno.ENOTCONN)
        if how != SHUT_RD and not self._writes_no_more:
            with suppress(OSError):
                self._read_path = pipes.path_of(fd)
            self._writes_no_more = True
            self._stop_writing()
        if how != SHUT_WR and not self.reads_no_more:
            self._stop_reading(fd)

    def _stop_reading(self, fd: int) -> None:
        if self.family == AF_UNIX:
            pipes.refuse(fd)  # TCP goes on to send, and nobody is told
        self._has_byte = not pipes.unread(fd)  # said before it is there: other threads may wait for it
        self.reads_no_more = True
        if self._has_byte:
            pipes.mark(fd)  # they may even be about to read it

    def _stop_writing(self) -> None:
        reader, writer = pipes.make_pipe()
        os.close(reader)
        with not_forking:
            if self.is_shared:
                pipes.mark(self.write_fd)
            pipes.move(writer, self.write_fd)
        for event in self._shut_event:
            os.eventfd_write(event, 1)

    def watches(self, fd: int, events: int) -> list[tuple[int, int]]:
        watches = [(fd, events)] if events == READABLE else self._watches_for_room(events)
        if self._unaccepted is not None and not self._settle():
            watches.append(self._unaccepted.watch())
        return watches

    def _watches_for_room(self, events: int) -> list[tuple[int, int]]:
        self._has_waited = True
        if not self._shut_event:
            self._shut_event.append(os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK))
            if self._writes_no_more:
                os.eventfd_write(self._shut_event[-1], 1)  # it has been shut just now
        return [(self.write_fd, events), (self._shut_event[0], READABLE)]

    def before_close(self, fd: int, *, resets: bool) -> None:
        if self._unaccepted is not None:
            self._unaccepted.close()
        if self._has_byte and pipes.unread(fd) == 1:
            with suppress(OSError):
                os.read(fd, 1)  # ours: for the other side, it would be something unread
        resets = resets and self.family != AF_UNIX
        if resets:
            pipes.add_byte(fd)
        if not self.is_shared and (resets or pipes.unread(fd)):
            pipes.reset(self.write_fd)

    def close(self) -> None:
        write_fd, self.write_fd = self.write_fd, -1
        read_path, self._read_path = self._read_path, -1
        pipes.close_all(write_fd, read_path, *self._shut_event)
        self._shut_event.clear()
        port, self._port = self._port, None
        if port is not None:
            port.release(self)
