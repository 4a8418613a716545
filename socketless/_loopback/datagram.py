"""A datagram socket: its number is a FIFO, into which everybody writes who sends something to its name."""

from __future__ import annotations

import errno
from _socket import AF_INET, AF_INET6, AF_UNIX, SHUT_RD, SHUT_RDWR, SHUT_WR
from contextlib import suppress
from typing import Any

from socketless._loopback import packets, pipes, places, records
from socketless._loopback.addresses import Place, home, inet_name, nowhere
from socketless._loopback.buffers import Buffer
from socketless._loopback.listening import name_of
from socketless._loopback.pipes import READABLE, close_all, failure, make_pipe, peek, resize
from socketless._loopback.places import Bound
from socketless._loopback.state import Message, State
from socketless._loopback.system import os

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_LARGEST = {AF_UNIX: packets.LARGEST_OF_UNIX, AF_INET: 65507, AF_INET6: 65527}

_MOST_WAITING = 1024  # datagrams


class Datagram(State):
    """A datagram socket, bound or not, connected or not."""

    refusals = {"accept": errno.EOPNOTSUPP, "listen": errno.EOPNOTSUPP, "send": errno.EDESTADDRREQ}
    refusals_of_unix = {**refusals, "send": errno.ENOTCONN}

    def __init__(self, family: int) -> None:
        super().__init__(family)
        # Nobody writes into this one. It stands for the socket before that has a name, and later says it can write.
        self.read_fd, self.write_fd = make_pipe()
        self._own_write_fd = self.write_fd
        self.bound: Bound | None = None
        self._peer: Place | None = None
        self._came_before = 0  # datagrams that had come when it was connected: they may be anybody's
        self._error = 0  # of what was sent before, told once
        self._full = -1  # the FIFO of who has too much to read
        self._is_shut: set[int] = set()
        self._begun: tuple[bytes, Place] | None = None  # a datagram of which more is to come, and where it goes

    def bind(self, bound: Bound) -> int:
        """Have a name from now on; return the number's new descriptor."""
        self.bound = bound
        resize(bound.fd, _MOST_WAITING * records.SIZE)
        return bound.open_number()

    def connect(self, place: Place | None) -> None:
        """Send to one place, and receive from there alone; `None`: from everywhere again.

        Raises:
            OSError: ECONNREFUSED: that is a UNIX socket, and nobody is there.
        """
        to_peer = self._own_write_fd
        if place is not None and self.family == AF_UNIX:
            to_peer = self._open(place)
        self._forget_peer()
        self._peer, self.write_fd = place, to_peer
        self._came_before = pipes.unread(self.bound.fd) // records.SIZE if self.bound is not None else 0

    def _open(self, place: Place) -> int:
        found = places.find(place)
        if found is None:
            raise failure(errno.EPROTOTYPE if places.is_of_another_kind(place) else errno.ECONNREFUSED)
        return found.fd if found.bound is None else places.open_fifo(found.bound.path)

    def _forget_peer(self) -> None:
        if self.write_fd != self._own_write_fd:
            close_all(self.write_fd)
        self._peer, self.write_fd = None, self._own_write_fd

    def sockname(self) -> Any:
        if self.bound is None:
            return nowhere(self.family)
        if self._peer is not None and self.bound.place.is_wildcard:
            return inet_name(self.family, home(self._peer), int(self.bound.place.port))
        return name_of(self.bound, self.family)

    def peername(self, fd: int) -> Any:
        if self._peer is None or self._peer.port == "0":
            raise failure(errno.ENOTCONN)
        return self._named(self._peer)

    def _named(self, place: Place) -> Any:
        return place.path if self.family == AF_UNIX else inet_name(self.family, place.host, int(place.port))

    # Receiving

    def read(self, fd: int, size: int) -> bytes:
        return self.receive(fd, size).data

    def read_into(self, fd: int, view: memoryview) -> int:
        data = self.receive(fd, view.nbytes).data
        view[: len(data)] = data
        return len(data)

    def receive(self, fd: int, size: int, *, peek: bool = False) -> Message:
        while not self._is_shut & {SHUT_RD, SHUT_RDWR}:
            self._raise_error()
            record = _record(fd, peek=peek)
            if not packets.is_nudge(record):
                message = packets.unpack(record, size, peek=peek)
                source = self._source(message.address)
                if self._is_from_peer(source, peek=peek):
                    return message._replace(address=source)
            if peek:
                _record(fd, peek=False)  # the kernel would not have taken it in
        return Message(b"")

    def _is_from_peer(self, source: Any, *, peek: bool) -> bool:
        if self._came_before:
            self._came_before -= not peek
            return True
        return self._peer is None or source == self._named(self._peer)

    def _source(self, name: Any) -> Any:
        return name if self.family == AF_UNIX or name is None else inet_name(self.family, *name)

    def take_error(self) -> int:
        number, self._error = self._error, 0
        if number and self.bound is not None:
            with suppress(BlockingIOError):
                if packets.is_nudge(peek_record(self.bound.fd)):
                    _record(self.bound.fd, peek=False)
        return number

    def _raise_error(self) -> None:
        number = self.take_error() if self._error else 0
        if number:
            raise failure(number)

    # Sending

    def begin(self, data: Buffer, place: Place | None = None) -> int:
        """Keep a part of a datagram, whose last part is sent without MSG_MORE."""
        whole, place = self._from_its_beginning(data, place or self._peer)
        self._checked_size(whole)
        self._begun = bytes(whole), place
        return memoryview(data).nbytes

    def _from_its_beginning(self, data: Buffer, place: Place | None) -> tuple[Buffer, Place]:
        """Return a datagram with the parts of it that were kept, and where it goes."""
        if self._begun is not None:
            (before, place), self._begun = self._begun, None
            return before + bytes(data), place
        if place is None:
            self.refuse("send")
        return data, place

    def write(self, data: Buffer) -> int:
        if self.family != AF_UNIX:
            return self._send(data, self._peer)
        if self._peer is None:
            self.refuse("send")
        size = self._checked_size(data)
        try:
            self._write_record(self.write_fd, packets.pack(data, self._own_name(self._peer)))
        except BrokenPipeError:
            self._forget_peer()
            raise failure(errno.ECONNREFUSED) from None
        return size

    def write_all_of(self, buffers: Any) -> int:
        return self.write(b"".join(bytes(data) for data in buffers))

    def send_to(self, data: Buffer, place: Place) -> int:
        """Send to a place.

        Raises:
            OSError: EMSGSIZE; ECONNREFUSED, of a UNIX socket that is not there, or of what was sent before.
            BlockingIOError: of UNIX sockets, who is there has too much to read.
        """
        if place.port == "0":
            raise failure(errno.EINVAL)
        return self._send(data, place)

    def _send(self, data: Buffer, place: Place | None) -> int:
        size = memoryview(data).nbytes
        data, place = self._from_its_beginning(data, place)
        self._checked_size(data)
        found = places.find(place)
        if found is None:
            self._nobody_is_there(place)
            return size
        try:
            self._write_record(found.fd, packets.pack(data, self._own_name(place)))
        except BlockingIOError:
            self._full = self._open(place)
            raise
        finally:
            found.close()
        return size

    def _checked_size(self, data: Buffer) -> int:
        size = memoryview(data).nbytes
        if size > _LARGEST[self.family]:
            raise failure(errno.EMSGSIZE)
        if self._is_shut & {SHUT_WR, SHUT_RDWR}:
            raise failure(errno.EPIPE)
        self._raise_error()
        return size

    def _write_record(self, fd: int, record: bytes) -> None:
        close_all(self._full)
        self._full = -1
        try:
            os.write(fd, record)
        except OSError as error:
            packets.discard(record)
            if self.family == AF_UNIX or not isinstance(error, BlockingIOError):
                raise

    def _own_name(self, place: Place) -> Any:
        if self.bound is None:
            return None
        if self.family == AF_UNIX:
            return self.bound.place.path
        own = self.bound.place
        return (home(place) if own.is_wildcard else own.host, int(own.port))

    def _nobody_is_there(self, place: Place) -> None:
        if self.family == AF_UNIX:
            raise failure(errno.EPROTOTYPE if places.is_of_another_kind(place) else errno.ECONNREFUSED)
        if self._peer is not None and self.bound is not None:
            # Whoever calls next is told; and who waits, too: an ICMP message makes the socket readable.
            self._error = errno.ECONNREFUSED
            with suppress(BlockingIOError):
                os.write(self.bound.fd, packets.nudge())

    # The end

    def shutdown(self, fd: int, how: int) -> None:
        if how not in (SHUT_RD, SHUT_WR, SHUT_RDWR):
            raise failure(errno.EINVAL)
        self._is_shut.add(how)
        if how != SHUT_WR:  # who waits is woken
            with suppress(BlockingIOError):
                os.write(self._own_write_fd if self.bound is None else self.bound.fd, packets.nudge())
        if self._peer is None and self.family != AF_UNIX:
            raise failure(errno.ENOTCONN)  # it is shut all the same

    def watches(self, fd: int, events: int) -> list[tuple[int, int]]:
        if events == READABLE:
            return [(fd, events)]
        return [(self._full if self._full >= 0 else self.write_fd, events)]

    def close(self) -> None:
        self._forget_peer()
        close_all(self._own_write_fd, self._full)
        self.write_fd = self._own_write_fd = self._full = -1


def _record(fd: int, *, peek: bool) -> bytes:
    record = peek_record(fd) if peek else os.read(fd, records.SIZE)
    if not record:
        raise failure(errno.EAGAIN)
    return record


def peek_record(fd: int) -> bytes:
    """Return the first record, and leave it there."""
    return peek(fd, records.SIZE)
