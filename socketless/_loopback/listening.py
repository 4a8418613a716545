"""A socket that others connect to: its number is a FIFO, in which are the connections that nobody has accepted."""

from __future__ import annotations

import errno
from _socket import AF_UNIX
from contextlib import suppress
from typing import Any

from socketless._loopback import handover, records
from socketless._loopback.addresses import inet_name
from socketless._loopback.pipes import failure
from socketless._loopback.places import Bound
from socketless._loopback.state import Accepted, State
from socketless._loopback.stream import Stream
from socketless._loopback.system import os

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_NOBODY = ""  # the token of a record that only wakes who waits


class Listening(State):
    """A socket after `listen()`."""

    refusals = {
        "recv": errno.ENOTCONN,
        "send": errno.EPIPE,
        "sendto": errno.EPIPE,
        "connect": errno.EISCONN,
        "getpeername": errno.ENOTCONN,
    }
    refusals_of_unix = {"send": errno.ENOTCONN, "sendto": errno.EOPNOTSUPP, "getpeername": errno.ENOTCONN}
    is_listening = True
    tcp_state = 10  # TCP_LISTEN

    def __init__(self, family: int, kind: type[Stream], bound: Bound) -> None:
        super().__init__(family)
        self._kind = kind
        self._bound = bound
        self._is_shut = False

    def sockname(self) -> Any:
        return name_of(self._bound, self.family)

    def listen(self, backlog: int) -> None:
        """Do it again: that is allowed, and changes how many may wait."""
        self._bound.let_wait(backlog)

    def accept(self, fd: int) -> Accepted:
        while not self._is_shut:
            token, name, dialled, pid = records.read(fd)
            self._bound.move_up()
            ends = handover.take(token) if token != _NOBODY else None
            if ends is not None:
                return self._accepted(ends, name, dialled, pid)
        raise failure(errno.EINVAL)

    def _accepted(self, ends: tuple[int, int], name: Any, dialled: Any, pid: int) -> Accepted:
        if self.family == AF_UNIX:
            local, peer = self.sockname(), name
        else:
            local, peer = inet_name(self.family, *dialled), inet_name(self.family, *name)
        stream = self._kind(self.family, ends[1], local, peer, peer_pid=pid)
        if self.family != AF_UNIX:
            stream.keep_port(self._bound)
        return Accepted(ends[0], stream, peer)

    def shutdown(self, fd: int, how: int) -> None:
        self._is_shut = True
        self._bound.stop_listening()
        record = records.pack((_NOBODY, None, None, 0))
        with suppress(BlockingIOError):
            os.write(self._bound.fd, record or b"")

    def before_close(self, fd: int, *, resets: bool) -> None:
        if self._bound.is_shared:
            return  # what is left may be accepted by another process
        with suppress(BlockingIOError):
            while True:
                token, *_ = records.read(fd)
                self._bound.move_up()
                if token != _NOBODY:
                    handover.refuse(token)


def name_of(bound: Bound, family: int) -> Any:
    """Return the name of a socket that is bound."""
    place = bound.place
    return place.path if family == AF_UNIX else inet_name(family, place.host, int(place.port))
