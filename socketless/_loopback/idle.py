"""A stream socket that is neither connected nor listening. It may be bound."""

from __future__ import annotations

import errno
from _socket import AF_INET6, AF_UNIX, IPPROTO_IPV6, IPV6_V6ONLY, SO_REUSEADDR, SO_REUSEPORT, SOCK_SEQPACKET
from collections.abc import Sequence
from contextlib import suppress
from select import POLLERR, POLLHUP, POLLIN, POLLRDHUP
from typing import Any, NamedTuple

from socketless._loopback import handover, pipes, places, records
from socketless._loopback.addresses import Place, home, inet_name, nowhere
from socketless._loopback.buffers import Buffer
from socketless._loopback.listening import Listening, name_of
from socketless._loopback.options import Options
from socketless._loopback.packets import PacketStream
from socketless._loopback.pipes import WRITABLE, deadline_after, failure
from socketless._loopback.places import Bound
from socketless._loopback.state import Message, State
from socketless._loopback.stream import Stream
from socketless._loopback.system import monotonic, os

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_MOMENT = 0.02  # seconds after which who connects looks whether there is room again: no descriptor tells that


class NobodyThere(Exception):
    """No socket of ours is where one wants to connect to."""


class Became(NamedTuple):
    """What a socket has become: its reading end, and its state."""

    read_fd: int
    state: State


class Idle(State):
    """A stream socket before `listen()` and `connect()`."""

    refusals = {
        "recv": errno.ENOTCONN,
        "send": errno.EPIPE,
        "sendto": errno.EPIPE,
        "shutdown": errno.ENOTCONN,
        "getpeername": errno.ENOTCONN,
    }
    refusals_of_unix = {
        "send": errno.ENOTCONN,
        "sendto": errno.EOPNOTSUPP,
        "shutdown": errno.ENOTCONN,
        "getpeername": errno.ENOTCONN,
    }

    def __init__(self, family: int, kind: int) -> None:
        super().__init__(family)
        self._stream = PacketStream if kind == SOCK_SEQPACKET else Stream
        self.bound: Bound | None = None
        self._was_refused = False  # a connection that did not wait
        self._error = 0  # of that, while nobody has been told

    def sockname(self) -> Any:
        return nowhere(self.family) if self.bound is None else name_of(self.bound, self.family)

    def shutdown(self, fd: int, how: int) -> None:
        if self.family != AF_UNIX:
            self.refuse("shutdown")

    # After a connection was refused of which nobody has been told yet: whoever calls next is

    def is_refused(self) -> None:
        """Take notice that a connection is refused, of which the caller has been told that it is under way."""
        self._was_refused, self._error = True, errno.ECONNREFUSED

    def forget_refusal(self) -> int:
        """Return the error of it, which who connects once more is told."""
        number = self.take_error() or errno.ECONNABORTED
        self._was_refused = False
        return number

    def take_error(self) -> int:
        number, self._error = self._error, 0
        return number

    def _tell_refusal(self) -> bool:
        number = self.take_error()
        if number:
            raise failure(number)
        return self._was_refused

    def read(self, fd: int, size: int) -> bytes:
        return b"" if self._tell_refusal() else super().read(fd, size)

    def read_into(self, fd: int, view: memoryview) -> int:
        return 0 if self._tell_refusal() else super().read_into(fd, view)

    def receive(self, fd: int, size: int, *, peek: bool = False) -> Message:
        return Message(b"") if self._tell_refusal() else super().receive(fd, size, peek=peek)

    def write_all_of(self, buffers: Sequence[Buffer]) -> int:
        self._tell_refusal()
        return super().write_all_of(buffers)

    def hung_up(self) -> int:
        ended = POLLIN | POLLRDHUP if self._was_refused else 0
        return POLLHUP | ended | (POLLERR if self._error else 0)

    def listen(self, backlog: int) -> Became:
        """Let others connect. So many may wait to be accepted, and one more."""
        if self.bound is None:
            self.refuse("listen")
        self.bound.listen()
        self.bound.let_wait(backlog)
        return Became(self.bound.open_number(), Listening(self.family, self._stream, self.bound))

    def connect(self, place: Place, timeout: float | None) -> Became:
        """Connect to who listens at a place; while too many others wait there, this waits.

        Raises:
            NobodyThere: nobody does.
            TimeoutError: it waited for too long.
            BlockingIOError: a UNIX socket waits without a time limit, or not at all.
        """
        deadline = deadline_after(timeout)
        found = places.find(place)
        if found is None:
            raise NobodyThere
        bound = found.bound
        if timeout != 0 or self.family == AF_UNIX:
            self._wait_for_room(bound, timeout, deadline)
        local, peer = self._names(place, found)
        here = bound if bound is not None and not bound.is_shared else None
        if here is not None:
            read_fd, write_fd, token = handover.offer_here()
            unaccepted = None
        else:
            read_fd, write_fd, unaccepted = handover.offer_elsewhere(
                places.open_fifo(bound.path) if bound is not None else found.fd
            )
            token = unaccepted.token
        record = handover.record(token, local, self._dialled(place), os.getpid())
        state = self._stream(self.family, write_fd, self._shown(local), self._shown(peer), unaccepted, found.name.pid)
        if here is not None and timeout == 0 and self.family != AF_UNIX:
            here.line_up(record)  # who does not wait may be who accepts
        else:
            _write(found.fd, record, deadline)
        return Became(read_fd, state)

    def _wait_for_room(self, bound: Bound | None, timeout: float | None, deadline: float | None) -> None:
        # Only who listens in this process says how many may wait. TCP that does not wait is let in, though it would
        # have to wait: nobody could tell it later that there is room.
        while bound is not None and pipes.unread(bound.fd) // records.SIZE > bound.backlog:
            if self.family == AF_UNIX and timeout is not None:
                raise failure(errno.EAGAIN)
            with suppress(TimeoutError):
                pipes.wait([], deadline_after(_MOMENT))
            if deadline is not None and monotonic() > deadline:
                raise TimeoutError("timed out")

    def _names(self, place: Place, found: places.Found) -> tuple[Any, Any]:
        if self.family == AF_UNIX:
            return (self.bound.place.path if self.bound is not None else ""), found.name.path or place.path
        if self.bound is None:
            return (home(place), places.next_port()), (place.host, int(place.port))
        own = self.bound.place
        return (home(place) if own.is_wildcard else own.host, int(own.port)), (place.host, int(place.port))

    def _dialled(self, place: Place) -> Any:
        return None if self.family == AF_UNIX else (place.host, int(place.port))

    def _shown(self, name: Any) -> Any:
        return name if self.family == AF_UNIX else inet_name(self.family, *name)

    def close(self) -> None:
        pipes.close_all(self.write_fd)
        self.write_fd = -1


def _write(fd: int, record: bytes, deadline: float | None) -> None:
    while True:
        try:
            os.write(fd, record)
            return
        except BlockingIOError:
            pipes.wait([(fd, WRITABLE)], deadline)


def bind_options(family: int, options: Options) -> places.Options:
    """Return what decides whether a socket may be bound where others are."""
    v6_only = family == AF_INET6 and options.flag(IPPROTO_IPV6, IPV6_V6ONLY)
    return places.Options(options.is_on(SO_REUSEADDR), options.is_on(SO_REUSEPORT), v6_only)
