"""Virtual sockets as the kernel would have them: open files, and the numbers that stand for them.

A number of a virtual socket is a descriptor of its own pipe or FIFO, from which it reads. So it is the kernel who says
which socket is meant by a number, in whatever way it was copied: by the identity of that pipe, which nothing else has
while it is open. A number that has been closed behind our back, and is somebody else's file now, is not taken for one.
"""

from __future__ import annotations

import errno
import sys
from _socket import (
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    SO_ERROR,
    SO_RCVBUF,
    SO_SNDBUF,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    SOL_SOCKET,
)
from contextlib import suppress
from functools import cache
from types import FrameType
from typing import Any, NoReturn, Protocol
from weakref import ReferenceType, ref

from socketless._loopback import pipes
from socketless._loopback.addresses import nowhere
from socketless._loopback.datagram import Datagram
from socketless._loopback.idle import Idle
from socketless._loopback.options import Options
from socketless._loopback.packets import PacketStream, PairedDatagram
from socketless._loopback.pipes import Identity, failure, identity, make_pipe
from socketless._loopback.places import Bound
from socketless._loopback.state import State
from socketless._loopback.stream import Stream
from socketless._loopback.system import os

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_files: dict[Identity, OpenFile] = {}  # every one that has a number
_closing: set[OpenFile] = set()  # those whose numbers are closed once nobody uses them any more
_STREAMS = {SOCK_STREAM: Stream, SOCK_SEQPACKET: PacketStream, SOCK_DGRAM: PairedDatagram}


class Watcher(Protocol):
    """What waits for numbers in a way that depends on what they stand for."""

    def renew(self, number: int) -> None: ...


class OpenFile:
    """A virtual socket: what several numbers and objects may stand for. `state` says what it is at the moment."""

    def __init__(self, family: int, kind: int, protocol: int, state: State | None = None) -> None:
        self.family, self.kind, self.protocol = family, kind, protocol
        self.options = Options(family, kind)
        self.numbers: set[int] = set()
        self.users: list[None] = []  # a `None` for each call that is under way: a list changes atomically
        self.closing: list[tuple[int, bool]] = []  # the arguments of each close() that waits for them
        self.blocks = True  # what O_NONBLOCK is not
        self.bound: Bound | None = None
        self.is_connecting = False  # a connect() that did not wait has not been asked for its end yet
        self._watchers: set[ReferenceType[Watcher]] = set()
        self._identity: Identity | None = None
        self.state: State
        if state is not None:
            self.state = state
        elif kind == SOCK_DGRAM:
            datagram = Datagram(family)
            self.state = datagram
            self.adopt(datagram.read_fd)
        else:
            self.state = Idle(family, kind)

    # Numbers

    def number(self) -> int:
        """Return a number that stands for it. A socket that is not connected yet may have none before this."""
        if not self.numbers:
            # What nobody writes to, and what can always be written to: it is hung up, as one that is not connected is.
            reader, writer = make_pipe()
            os.close(writer)
            self.state.write_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self.adopt(reader)
        return next(iter(self.numbers))

    def adopt(self, read_fd: int, state: State | None = None) -> int:
        """Let its numbers stand for another descriptor from now on, and be in another state; return one of them."""
        before, self.state = self.state, state or self.state
        self._forget_stale_numbers()
        self._forget()
        if self.numbers:
            for number in self.numbers:
                os.dup2(read_fd, number, inheritable=False)
            os.close(read_fd)
        else:
            self.numbers.add(read_fd)
        if before is not self.state:
            before.close()
        if isinstance(self.state, Stream):
            self._size_pipes(self.state)
        number = self.number()
        self._identity = identity(number)
        _files[self._identity] = self
        self.tell_watchers()
        return number

    def watched_by(self, watcher: Watcher) -> bool:
        """Tell somebody when it has other descriptors; return whether it ever will."""
        changes = isinstance(self.state, (Idle, Datagram))
        if changes:
            self._watchers.add(ref(watcher))
        return changes

    def tell_watchers(self) -> None:
        """Take notice that it has other descriptors."""
        watchers, self._watchers = self._watchers, set()
        for reference in watchers:
            watcher = reference()
            if watcher is not None:
                for number in self.numbers:
                    watcher.renew(number)

    def is_passed_on(self) -> None:
        """Take notice that another process will have it, too, and may accept what comes."""
        if self.bound is not None:
            self.bound.is_shared = True
            if isinstance(self.state, Idle):  # by its FIFO the other process knows what it is
                self.adopt(self.bound.open_number())

    def copy_number(self, number: int) -> int:
        """As `os.dup()`."""
        copy = os.dup(number)
        self.numbers.add(copy)
        return copy

    def _forget_stale_numbers(self) -> None:
        """Take notice of the copies that were closed by C code, such as that of a file."""
        for number in list(self.numbers) if self._identity is not None else ():
            if _identity_of(number) != self._identity:
                self.numbers.discard(number)

    # Being used by several threads
    #
    # A call that reads or writes a number must not do so once it is somebody else's. The kernel counts who uses a file;
    # so does this, without a lock: who enters looks for the file after that, who closes looks for users after that.

    def enter(self) -> None:
        """Begin to use it. What is closed meanwhile stays until `leave()`."""
        self.users.append(None)

    def leave(self) -> None:
        """End to use it."""
        if self.users:  # else this is a child of fork(), see `after_fork_in_child`
            self.users.pop()
        if self.closing and not self.users:
            self.finish_closing()

    def close(self, number: int, *, keep_number: bool = False) -> None:
        """Close a number; with the last one, the socket is closed. One that is kept is somebody else's already."""
        try:
            if number >= 0:
                self.numbers.remove(number)
        except KeyError:
            return  # another thread was first
        self._forget_stale_numbers()
        if not self.numbers:
            self._forget()
        self.closing.append((number, keep_number))
        _closing.add(self)
        if not self.users or self._is_used_by_this_thread_alone():
            self.finish_closing()

    def _is_used_by_this_thread_alone(self) -> bool:
        # A signal's handler may close what its own thread waits for. The call finds that out when it goes on.
        frame: FrameType | None = sys._getframe()
        calls = 0  # of methods that `methods._using()` has made, by the name of their local variable
        while frame is not None:
            calls += frame.f_locals.get("users") is self.users
            frame = frame.f_back
        return calls == len(self.users)

    def finish_closing(self) -> None:
        """Close what was to be closed."""
        while self.closing:
            with suppress(IndexError):  # another thread takes it
                self._close(*self.closing.pop())
        _closing.discard(self)

    def _close(self, number: int, is_kept: bool) -> None:
        is_last = not self.numbers and not self.closing and not isinstance(self.state, Closed)
        has_number = number >= 0 and not is_kept
        if is_last and has_number:
            self.state.before_close(number, resets=self.options.resets)
        try:
            if has_number:
                os.close(number)
        finally:
            if is_last:
                state, self.state = self.state, Closed(self.family)
                state.close()  # after the number: see stream.py, and who looks for a reset
                if self.bound is not None:
                    self.bound.close()
                    self.bound = None

    def _forget(self) -> None:
        if self._identity is not None and _files.get(self._identity) is self:
            del _files[self._identity]
        self._identity = None

    # Options

    def set_option(self, level: int, option: int, *value: Any) -> None:
        """As `setsockopt()`."""
        if (level, option) == (IPPROTO_IPV6, IPV6_V6ONLY) and self.bound is not None:
            raise failure(errno.EINVAL)
        self.options.set(level, option, *value)
        if level == SOL_SOCKET and option in (SO_SNDBUF, SO_RCVBUF) and isinstance(self.state, Stream):
            self._size_pipes(self.state)

    def _size_pipes(self, stream: Stream) -> None:
        for fd, option in ((stream.write_fd, SO_SNDBUF), (self.number(), SO_RCVBUF)):
            size = self.options.number(option)
            if size is not None:
                stream.size = size
                pipes.resize(fd, size)

    def get_option(self, level: int, option: int, size: int = 0) -> int | bytes:
        """As `getsockopt()`."""
        if level == SOL_SOCKET and option == SO_ERROR:
            return self.state.take_error()
        fixed = self.options.fixed(self.state, self.protocol, level, option, size)
        return self.options.get(level, option, size) if fixed is None else fixed


class Closed(State):
    """The state after `close()`."""

    def watches(self, fd: int, events: int) -> NoReturn:
        self.refuse("poll")

    def refuse(self, call: str) -> NoReturn:
        raise failure(errno.EBADF)


def closed(like: OpenFile) -> OpenFile:
    """Return a file that is closed already: all that is left of another one."""
    return _closed(like.family, like.kind, like.protocol)


@cache
def _closed(family: int, kind: int, protocol: int) -> OpenFile:
    # One is enough for all: nothing can be done with it.
    return OpenFile(family, kind, protocol, Closed(family))


def find(number: int) -> OpenFile | None:
    """Return which virtual socket a number stands for; `None`: none of this process."""
    known_by = _identity_of(number)
    file = _files.get(known_by) if known_by is not None else None
    if file is not None:
        file.numbers.add(number)
    return file


def _identity_of(number: int) -> Identity | None:
    try:
        return identity(number)
    except (OSError, OverflowError):
        return None


def is_any_open() -> bool:
    """Whether a number stands for a virtual socket still."""
    return any(find(number) is file for file in list(_files.values()) for number in list(file.numbers))


def after_fork_in_child() -> None:
    """Close what waits for threads that are the parent's."""
    for file in (*_files.values(), *_closing):
        file.users.clear()
    for file in list(_closing):
        file.finish_closing()


def pair(family: int, kind: int, protocol: int) -> tuple[int, int]:
    """Make two virtual sockets that are connected with each other, and return their numbers."""
    (left_reads, right_writes), (right_reads, left_writes) = make_pipe(), make_pipe()
    name = nowhere(family)
    states = [
        _STREAMS[kind](family, writes, name, name, peer_pid=os.getpid()) for writes in (left_writes, right_writes)
    ]
    for state, other in zip(states, reversed(states), strict=True):
        if isinstance(state, PairedDatagram):
            state.keeps = os.dup(other.write_fd)
    left, right = (OpenFile(family, kind, protocol, state) for state in states)
    return left.adopt(left_reads), right.adopt(right_reads)
