"""What a socket object does while it is virtual: the methods of `_socket.socket`, on top of an open file."""

from __future__ import annotations

import errno
from _socket import AF_INET, AF_INET6, AF_UNIX, SOCK_DGRAM, SOCK_STREAM, getdefaulttimeout
from typing import Any

from socketless._loopback import arguments, families, idle, places
from socketless._loopback.addresses import Place, reached, resolve
from socketless._loopback.datagram import Datagram
from socketless._loopback.idle import Became, Idle, NobodyThere
from socketless._loopback.listening import Listening
from socketless._loopback.openfile import OpenFile
from socketless._loopback.pipes import READABLE, failure
from socketless._loopback.transfers import Transfers
from socketless._loopback.waiting import ElsewhereError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_SOCK_NONBLOCK, _SOCK_CLOEXEC = 0o4000, 0o2000000
_RESOLVER = "53"  # its port: what is sent there from a socket without a name is meant for the machine's resolver


class Virtual(Transfers):
    """A virtual socket, as one socket object has it."""

    __slots__ = ()

    def getsockopt(self, level: int, option: int, size: int = 0, /) -> int | bytes:
        level, option, size = map(arguments.number, (level, option, size))
        self.check_open()
        return self.file.get_option(level, option, size)

    def setsockopt(self, level: int, option: int, *value: Any) -> None:
        if not value:
            raise TypeError("setsockopt expected at least 3 arguments, got 2")
        level, option = arguments.number(level), arguments.number(option)
        self.check_open()
        self.file.set_option(level, option, *value)

    def getsockname(self) -> Any:
        return self.file.state.sockname()

    def getpeername(self) -> Any:
        return self.file.state.peername(self.number)

    # Names and connections

    def bind(self, address: Any) -> None:
        self.check_open()
        place = self._resolve("bind", address)
        state = self.file.state
        if self.file.bound is not None or not isinstance(state, (Idle, Datagram)):
            state.refuse("bind")
        self._bind(place)

    def _resolve(self, call: str, address: Any) -> Place:
        place = resolve(call, self.file.family, self.file.kind, address)
        if place is None:
            raise ElsewhereError
        return place

    def _bind(self, place: Place) -> None:
        file = self.file
        if file.family == AF_UNIX:
            bound = places.bind_path(place)
        else:
            bound = places.bind(place, idle.bind_options(file.family, file.options))
        file.bound = bound
        if isinstance(file.state, Datagram):
            file.adopt(file.state.bind(bound))
        elif isinstance(file.state, Idle):
            file.state.bound = bound

    def _bind_somewhere(self) -> None:
        """Take any port, as a socket does that nobody has bound before it is used."""
        host = "0.0.0.0" if self.file.family == AF_INET else "::"
        transport = "udp" if self.file.kind == SOCK_DGRAM else "tcp"
        self._bind(Place(transport, "0", host, self.file.family))

    def listen(self, backlog: int = 128, /) -> None:
        self.check_open()
        backlog = arguments.number(backlog)
        state = self.file.state
        if isinstance(state, Listening):
            state.listen(backlog)
        elif isinstance(state, Idle):
            if self.file.bound is None and self.file.family != AF_UNIX:
                self._bind_somewhere()
            became = state.listen(backlog)
            self._become(became)
        else:
            state.refuse("listen")

    def _become(self, became: Became) -> None:
        number = self.file.adopt(became.read_fd, became.state)
        if self.number < 0:  # else it keeps its own: there may be copies
            self.number = number

    def _accept(self) -> tuple[int, Any]:
        options = self.file.options
        accepted = self.patiently(lambda state, number: state.accept(number), READABLE)
        file = OpenFile(self.file.family, self.file.kind, self.file.protocol, accepted.state)
        file.options.inherit(options)
        return file.adopt(accepted.read_fd), accepted.address

    def connect(self, address: Any) -> None:
        self.check_open()
        file = self.file
        if isinstance(file.state, Datagram):
            self._connect_datagram(address)
        elif file.is_connecting:
            self._finish_connecting()
        elif isinstance(file.state, Idle):
            self._connect(self._resolve("connect", address))
        else:
            self._resolve("connect", address)
            file.state.refuse("connect")

    def _connect(self, place: Place) -> None:
        file = self.file
        assert isinstance(file.state, Idle)
        try:
            if file.family == AF_UNIX:
                place = places.locate_path(place)
            became = file.state.connect(reached(place), self.timeout)
        except NobodyThere:
            if file.family == AF_UNIX and places.is_of_another_kind(place):
                raise failure(errno.EPROTOTYPE) from None
            if file.family != AF_UNIX and places.is_taken(reached(place)):
                # The kernel knows nothing of it, and may choose this very port for the socket: it would meet itself.
                raise self.refused() from None
            raise ElsewhereError(nobody_there=True) from None
        self._become(became)
        if self._is_told_later():
            raise failure(errno.EINPROGRESS)

    def _is_told_later(self) -> bool:
        # TCP takes its time, and who does not wait is told so, though it is done. UNIX sockets do it at once.
        self.file.is_connecting = self.timeout == 0 and self.file.family != AF_UNIX
        return self.file.is_connecting

    def refused(self) -> OSError:
        """Take notice that nobody at all is where this was to be connected to; return the error of it."""
        state = self.file.state
        if not isinstance(state, Idle) or not self._is_told_later():
            return failure(errno.ECONNREFUSED)
        state.is_refused()
        return failure(errno.EINPROGRESS)

    def _finish_connecting(self) -> None:
        self.file.is_connecting = False
        state = self.file.state
        error = state.forget_refusal() if isinstance(state, Idle) else state.take_error()
        if error:
            raise failure(error)

    def _connect_datagram(self, address: Any) -> None:
        state = self.file.state
        assert isinstance(state, Datagram)
        if isinstance(address, tuple) and len(address) == 2 and address[0] is None:
            state.connect(None)
            self.file.tell_watchers()
            return
        place = self.destination("connect", address)
        if self.file.family == AF_UNIX:
            place = places.locate_path(place)
        state.connect(place)
        self.file.tell_watchers()

    def destination(self, call: str, address: Any) -> Place:
        place = reached(self._resolve(call, address))
        if place.port == _RESOLVER and self.file.bound is None and not places.is_anybody(place):
            raise ElsewhereError
        if self.file.family != AF_UNIX and self.file.bound is None:
            self._bind_somewhere()
        return place

    def shutdown(self, how: int, /) -> None:
        self.file.state.shutdown(self.fileno(), arguments.number(how))
        self.file.is_connecting = False


def make(family: int, kind: int, protocol: int) -> Virtual | None:
    """Return a new virtual socket; `None`: none of this kind is."""
    plain = plain_kind(family, kind, protocol)
    if plain is None:
        return None
    timeout = 0.0 if kind & _SOCK_NONBLOCK else getdefaulttimeout()
    return attach(OpenFile(family, plain, protocol), timeout=timeout)


def attach(file: OpenFile, number: int = -1, timeout: float | None = None) -> Virtual:
    """Return one more object for a file."""
    if number < 0 and file.numbers:
        number = file.number()
    return Virtual(file, number, timeout)


def plain_kind(family: int, kind: int, protocol: int) -> int | None:
    """Return a kind of socket without its flags; `None`: none of ours is of it."""
    plain = kind & ~(_SOCK_NONBLOCK | _SOCK_CLOEXEC)
    return plain if _is_ours(family, plain, protocol) else None


def _is_ours(family: int, kind: int, protocol: int) -> bool:
    if family not in families.chosen:
        return False
    if family == AF_UNIX:
        return protocol == 0 and kind in (SOCK_STREAM, SOCK_DGRAM, 5)
    return family in (AF_INET, AF_INET6) and (kind, protocol) in _INTERNET


_INTERNET = {(SOCK_STREAM, 0), (SOCK_STREAM, 6), (SOCK_DGRAM, 0), (SOCK_DGRAM, 17)}  # protocols: TCP, UDP
