"""What a socket object does while it is virtual: the methods of `_socket.socket`, on top of an open file."""

from __future__ import annotations

import errno
from _socket import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    MSG_DONTWAIT,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    SOCK_DGRAM,
    SOCK_STREAM,
    getdefaulttimeout,
)
from collections.abc import Callable
from operator import index
from typing import Any, TypeVar

from socketless.loopback import arguments, families, idle, openfile, places
from socketless.loopback.addresses import Place, reached, resolve
from socketless.loopback.datagram import Datagram
from socketless.loopback.idle import Idle, NobodyThere
from socketless.loopback.listening import Listening
from socketless.loopback.openfile import OpenFile
from socketless.loopback.pipes import READABLE, WRITABLE, deadline_after, failure, wait
from socketless.loopback.state import Buffer, Message

T = TypeVar("T")

_SOCK_NONBLOCK, _SOCK_CLOEXEC = 0o4000, 0o2000000
_SPECIAL = MSG_DONTWAIT | MSG_OOB | MSG_PEEK | MSG_TRUNC | MSG_WAITALL  # the flags that change what a call does
_RESOLVER = "53"  # its port: what is sent there from a socket without a name is meant for the machine's resolver


class ElsewhereError(Exception):
    """What is asked for is not on loopback, or there is nobody of ours: it is for a real socket."""

    def __init__(self, *, nobody_there: bool = False) -> None:
        super().__init__(nobody_there)
        self.nobody_there = nobody_there


class Virtual:
    """A virtual socket, as one socket object has it: with a number and a time limit of its own."""

    __slots__ = ("file", "number", "timeout")

    def __init__(self, file: OpenFile, number: int = -1, timeout: float | None = None) -> None:
        self.file = file
        self.number = number  # -1 before there is one, see fileno()
        self.timeout = timeout  # as settimeout(): 0 is not to wait

    # Being there

    @property
    def family(self) -> int:
        return self.file.family

    @property
    def type(self) -> int:
        return self.file.kind

    @property
    def proto(self) -> int:
        return self.file.protocol

    @property
    def is_closed(self) -> bool:
        return isinstance(self.file.state, openfile.Closed)

    def fileno(self) -> int:
        if self.number < 0 and not self.is_closed:
            self.number = self.file.number()
        return self.number

    def detach(self) -> int:
        number = self.fileno()
        self.file, self.number = openfile.closed(self.file), -1
        return number

    def close(self) -> None:
        file, number = self.file, self.number
        self.file, self.number = openfile.closed(file), -1
        if not isinstance(file.state, openfile.Closed):
            file.close(number)
        elif number >= 0:
            raise failure(errno.EBADF)  # somebody has closed the number

    def settimeout(self, timeout: Any) -> None:
        self.timeout = arguments.seconds(timeout)

    def gettimeout(self) -> float | None:
        return self.timeout

    def setblocking(self, flag: Any) -> None:
        self.timeout = None if flag else 0.0

    def getblocking(self) -> bool:
        return self.timeout != 0

    def getsockopt(self, level: int, option: int, size: int = 0, /) -> int | bytes:
        self._check_open()
        return self.file.get_option(level, option, size)

    def setsockopt(self, level: int, option: int, *value: Any) -> None:
        self._check_open()
        if not value:
            raise TypeError("setsockopt expected at least 3 arguments, got 2")
        self.file.set_option(level, option, *value)

    def getsockname(self) -> Any:
        return self.file.state.sockname()

    def getpeername(self) -> Any:
        return self.file.state.peername()

    def _check_open(self) -> None:
        if self.is_closed:
            raise failure(errno.EBADF)

    # Waiting

    def _patiently(self, attempt: Callable[[], T], events: int, flags: int = 0) -> T:
        """Try until it succeeds, as long as the time limit lets it wait."""
        deadline = deadline_after(self.timeout)
        while True:
            try:
                return attempt()
            except BlockingIOError:
                if self.timeout == 0 or flags & MSG_DONTWAIT:
                    raise
            self._wait(events, deadline)

    def _wait(self, events: int, deadline: float | None) -> None:
        wait(self.file.state.watches(self.fileno(), events), deadline)

    # Names and connections

    def bind(self, address: Any) -> None:
        self._check_open()
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
        self._check_open()
        if index(backlog) > 0x7FFFFFFF:
            raise OverflowError("Python int too large to convert to C int")
        state = self.file.state
        if isinstance(state, Listening):
            state.listen()
        elif isinstance(state, Idle):
            if self.file.bound is None and self.file.family != AF_UNIX:
                self._bind_somewhere()
            became = state.listen()
            self.number = self.file.adopt(became.read_fd, became.state)
        else:
            state.refuse("listen")

    def _accept(self) -> tuple[int, Any]:
        accepted = self._patiently(lambda: self.file.state.accept(self.fileno()), READABLE)
        file = OpenFile(self.file.family, self.file.kind, self.file.protocol, accepted.state)
        file.options.inherit(self.file.options)
        return file.adopt(accepted.read_fd), accepted.address

    def connect(self, address: Any) -> None:
        self._check_open()
        file = self.file
        if isinstance(file.state, Datagram):
            self._connect_datagram(address)
        elif file.is_connecting:
            self._finish_connecting()
        elif isinstance(file.state, Idle):
            self._connect(self._resolve("connect", address))
        else:
            file.state.refuse("connect")

    def _connect(self, place: Place) -> None:
        file = self.file
        assert isinstance(file.state, Idle)
        try:
            if file.family == AF_UNIX:
                place = places.locate_path(place)
            became = file.state.connect(reached(place), deadline_after(self.timeout))
        except NobodyThere:
            raise ElsewhereError(nobody_there=True) from None
        self.number = file.adopt(became.read_fd, became.state)
        if self._is_told_later():
            raise failure(errno.EINPROGRESS)

    def _is_told_later(self, error: int = 0) -> bool:
        # TCP takes its time, and who does not wait is told so, though it is done. UNIX sockets do it at once.
        if self.timeout != 0 or self.file.family == AF_UNIX:
            return False
        self.file.is_connecting, self.file.error = True, error
        return True

    def refused(self) -> OSError:
        """Take notice that nobody at all is where this was to be connected to; return the error of it."""
        return failure(errno.EINPROGRESS if self._is_told_later(errno.ECONNREFUSED) else errno.ECONNREFUSED)

    def _finish_connecting(self) -> None:
        self.file.is_connecting = False
        error = self.file.take_error()
        if error:
            raise failure(error)
        if isinstance(self.file.state, Idle):
            raise failure(errno.ECONNABORTED)  # SO_ERROR has told why

    def _connect_datagram(self, address: Any) -> None:
        state = self.file.state
        assert isinstance(state, Datagram)
        if isinstance(address, tuple) and len(address) == 2 and address[0] is None:
            state.connect(None)
            return
        place = self._destination("connect", address)
        if self.file.family == AF_UNIX:
            place = places.locate_path(place)
            if places.find(place) is None:
                raise failure(errno.ECONNREFUSED)
        elif self.file.bound is None:
            self._bind_somewhere()
        state.connect(place)

    def _destination(self, call: str, address: Any) -> Place:
        place = reached(self._resolve(call, address))
        if place.port == _RESOLVER and self.file.bound is None and places.find(place) is None:
            raise ElsewhereError
        return place

    def shutdown(self, how: int, /) -> None:
        self.file.state.shutdown(self.fileno(), how)

    # Receiving

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        if flags & _SPECIAL:
            return self._receive(bufsize, flags).data
        try:
            return self.file.state.read(self.number, bufsize)
        except BlockingIOError:
            if self.timeout == 0:
                raise
        return self._patiently(lambda: self.file.state.read(self.number, bufsize), READABLE)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        view = arguments.writable(buffer, nbytes, "recv_into")
        if flags & _SPECIAL:
            return arguments.fill(view, self._receive(view.nbytes, flags))
        try:
            return self.file.state.read_into(self.number, view)
        except BlockingIOError:
            if self.timeout == 0:
                raise
        return self._patiently(lambda: self.file.state.read_into(self.number, view), READABLE)

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        if bufsize < 0:
            raise ValueError("negative buffersize in recvfrom")
        message = self._receive(bufsize, flags)
        return message.data, message.address

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        view = arguments.writable(buffer, nbytes, "recvfrom_into")
        message = self._receive(view.nbytes, flags)
        return arguments.fill(view, message), message.address

    def recvmsg(self, bufsize: int, ancbufsize: int = 0, flags: int = 0, /) -> tuple[bytes, list[Any], int, Any]:
        if bufsize < 0:
            raise ValueError("negative buffer size in recvmsg()")
        arguments.check_room(ancbufsize)
        message = self._receive(bufsize, flags)
        return message.data, [], message.flags, message.address

    def recvmsg_into(self, buffers: Any, ancbufsize: int = 0, flags: int = 0, /) -> tuple[int, list[Any], int, Any]:
        views = [
            arguments.writable(buffer, 0, "recvmsg_into") for buffer in arguments.iterable(buffers, "recvmsg_into", 1)
        ]
        arguments.check_room(ancbufsize)
        message = self._receive(sum(view.nbytes for view in views), flags)
        left = memoryview(message.data)
        for view in views:
            count = min(len(left), view.nbytes)
            view[:count], left = left[:count], left[count:]
        return len(message.data), [], message.flags, message.address

    def _receive(self, size: int, flags: int) -> Message:
        if index(flags) & MSG_OOB:
            raise failure(errno.EINVAL)
        is_peek = bool(flags & MSG_PEEK)
        message = self._patiently(lambda: self.file.state.receive(self.fileno(), size, peek=is_peek), READABLE, flags)
        if flags & MSG_WAITALL and not is_peek and self.file.kind == SOCK_STREAM:
            return self._receive_rest(message, size, flags)
        return message

    def _receive_rest(self, message: Message, size: int, flags: int) -> Message:
        data, piece = bytearray(message.data), message.data
        while piece and len(data) < size:
            left = size - len(data)
            piece = self._patiently(lambda: self.file.state.read(self.number, left), READABLE, flags)  # noqa: B023
            data += piece
        return message._replace(data=bytes(data))

    # Sending

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        try:
            return self.file.state.write(data)
        except BlockingIOError:
            if self.timeout == 0 or flags & MSG_DONTWAIT:
                raise
        return self._patiently(lambda: self.file.state.write(data), WRITABLE, flags)

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:
        view = memoryview(data).cast("B")
        deadline = deadline_after(self.timeout)
        while True:
            try:
                view = view[self.file.state.write(view) :]
                if not view:
                    return
            except BlockingIOError:
                if self.timeout == 0 or flags & MSG_DONTWAIT:
                    raise
                self._wait(WRITABLE, deadline)

    def sendto(self, data: Buffer, *args: Any) -> int:
        if not 1 <= len(args) <= 2:
            raise TypeError(f"sendto() takes 2 or 3 arguments ({1 + len(args)} given)")
        flags = args[0] if len(args) == 2 else 0
        return self._send_to(arguments.readable(data), args[-1], index(flags))

    def _send_to(self, data: Buffer, address: Any, flags: int) -> int:
        self._check_open()
        state = self.file.state
        if not isinstance(state, Datagram):
            return self._patiently(lambda: state.write_to(data, address), WRITABLE, flags)
        place = self._destination("sendto", address)
        if self.file.family == AF_UNIX:
            place = places.locate_path(place)
        elif self.file.bound is None:
            self._bind_somewhere()
        return self._patiently(lambda: state.send_to(data, place), WRITABLE, flags)

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        pieces = [arguments.readable(piece) for piece in arguments.iterable(buffers, "sendmsg", 1)]
        messages = [arguments.control(item) for item in arguments.iterable(ancdata, "sendmsg", 2)]
        index(flags)
        if messages:
            raise failure(errno.EOPNOTSUPP)
        if address is not None:
            return self._send_to(b"".join(bytes(piece) for piece in pieces), address, flags)
        if not pieces:
            return 0
        return self._patiently(lambda: self.file.state.write_all_of(pieces), WRITABLE, flags)


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
