"""What a socket object sends and receives while it is virtual."""

from __future__ import annotations

import errno
from _socket import (
    AF_UNIX,
    MSG_DONTWAIT,
    MSG_ERRQUEUE,
    MSG_MORE,
    MSG_OOB,
    MSG_PEEK,
    MSG_TRUNC,
    MSG_WAITALL,
    SOCK_STREAM,
)
from collections.abc import Iterator
from contextlib import suppress
from operator import index
from time import sleep
from typing import Any

from socketless._loopback import arguments, pipes, places
from socketless._loopback.addresses import Place, check_shape
from socketless._loopback.buffers import Buffer, rest_of, size_of
from socketless._loopback.datagram import Datagram
from socketless._loopback.pipes import READABLE, WRITABLE, failure
from socketless._loopback.state import Message
from socketless._loopback.waiting import Waiting

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

# A pipe has room again as soon as a page of it has been read. A thread that has much to send would be woken for each
# page, and take turns with a reader that takes little at once; so it lets it take half of what the pipe holds.
_MUCH = 1 << 16  # bytes
_PAUSES = 50e-6, 1e-3  # seconds, the shortest and the longest
# The flags that change what a call does.
_SPECIAL = MSG_DONTWAIT | MSG_ERRQUEUE | MSG_OOB | MSG_PEEK | MSG_TRUNC | MSG_WAITALL


class Transfers(Waiting):
    """The methods of `_socket.socket` that send and receive."""

    __slots__ = ()

    def destination(self, call: str, address: Any) -> Place:
        """Return the place that an address of a datagram means; the socket is bound after this."""
        raise NotImplementedError

    # Receiving

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        if flags & _SPECIAL:
            return self._receive(bufsize, flags).data
        file, number, deadline = self.file, self.number, None
        if file.state.expects_answer and bufsize:
            file, number, deadline = self.wait_for_answer()
        try:
            return file.state.read(number, bufsize) if bufsize else b""
        except BlockingIOError:
            if not self.waits(flags):
                raise
        return self.again(lambda state, number: state.read(number, bufsize), READABLE, deadline)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        view = arguments.writable(buffer, nbytes, "recv_into")
        if flags & _SPECIAL:
            return arguments.fill(view, self._receive(view.nbytes, flags), flags)
        file, number, deadline = self.file, self.number, None
        if file.state.expects_answer and view.nbytes:
            file, number, deadline = self.wait_for_answer()
        try:
            return file.state.read_into(number, view) if view.nbytes else 0
        except BlockingIOError:
            if not self.waits(flags):
                raise
        return self.again(lambda state, number: state.read_into(number, view), READABLE, deadline)

    def recvfrom(self, bufsize: int, flags: int = 0, /) -> tuple[bytes, Any]:
        if bufsize < 0:
            raise ValueError("negative buffersize in recvfrom")
        message = self._receive(bufsize, flags)
        return message.data, message.address

    def recvfrom_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> tuple[int, Any]:
        view = arguments.writable(buffer, nbytes, "recvfrom_into", "nbytes is greater than the length of the buffer")
        message = self._receive(view.nbytes, flags)
        return arguments.fill(view, message, flags), message.address

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
        return arguments.count(message, flags), [], message.flags, message.address

    def _receive(self, size: int, flags: int) -> Message:
        if index(flags) & MSG_OOB:
            raise failure(errno.EINVAL)
        if flags & MSG_ERRQUEUE:
            raise failure(errno.EAGAIN)  # nothing is ever in that queue
        is_peek = bool(flags & MSG_PEEK)
        message = self.patiently(lambda state, number: state.receive(number, size, peek=is_peek), READABLE, flags)
        if flags & MSG_WAITALL and not is_peek and self.file.kind == SOCK_STREAM:
            return self._receive_rest(message, size, flags)
        return message

    def _receive_rest(self, message: Message, size: int, flags: int) -> Message:
        data, piece = bytearray(message.data), message.data
        while piece and len(data) < size:
            left = size - len(data)
            piece = self.patiently(lambda state, number: state.read(number, left), READABLE, flags)  # noqa: B023
            data += piece
        return message._replace(data=bytes(data))

    # Sending

    def send(self, data: Buffer, flags: int = 0, /) -> int:
        unfinished = self._unfinished(flags) if flags else None
        if unfinished is not None:
            return unfinished.begin(data)
        try:
            sent = self.file.state.write(data)
        except BlockingIOError:
            if not self.waits(flags):
                raise
            sent = self.again(lambda state, _: state.write(data), WRITABLE)
        is_all = sent == (len(data) if type(data) is bytes else size_of([data]))
        return sent if is_all or self.timeout is not None else self._send_rest([data], sent, flags)

    def _unfinished(self, flags: int) -> Datagram | None:
        """Return what keeps a part of a datagram, if there is more to come; to a stream, it makes no difference."""
        state = self.file.state
        return state if flags & MSG_MORE and isinstance(state, Datagram) and state.family != AF_UNIX else None

    def _send_rest(self, buffers: list[Any], sent: int, flags: int) -> int:
        """Send what is left after a part has gone: a call that waits does so until all has."""
        if sent < size_of(buffers) and self.waits(flags):
            with suppress(OSError):  # as the kernel does: it is said of the next call
                for count in self._write_on(rest_of(buffers, sent)):
                    sent += count
        return sent

    def sendall(self, data: Buffer, flags: int = 0, /) -> None:
        unfinished = self._unfinished(flags) if flags else None
        if unfinished is not None:
            unfinished.begin(data)
            return
        rest = memoryview(data) if type(data) is bytes else arguments.readable(data).cast("B")
        try:
            rest = rest[self.file.state.write(rest) :]
            while rest and not self.waits(flags):
                rest = rest[self.file.state.write(rest) :]
        except BlockingIOError:
            if not self.waits(flags):
                raise
        if rest:
            for _ in self._write_on(rest):
                pass

    def _write_on(self, rest: memoryview) -> Iterator[int]:
        """Go on to write after the first attempt, until all has gone; yield how much has, each time."""
        file, number, deadline = self.file, self.number, self.deadline(WRITABLE)
        half, pause = pipes.capacity(file.state.write_fd) // 2, 0.0
        while rest:
            file, number = self.wait(file, number, WRITABLE, deadline)
            if pause >= _PAUSES[0] and len(rest) > _MUCH:
                sleep(pause)
            try:
                count = file.state.write(rest)
            except BlockingIOError:
                continue
            pause = pause / 2 if count >= half else min(max(_PAUSES[0], pause * 2), _PAUSES[1])
            rest = rest[count:]
            yield count

    def sendto(self, data: Buffer, *args: Any) -> int:
        if not 1 <= len(args) <= 2:
            raise TypeError(f"sendto() takes 2 or 3 arguments ({1 + len(args)} given)")
        flags = args[0] if len(args) == 2 else 0
        return self._send_to(arguments.readable(data), args[-1], index(flags))

    def _send_to(self, data: Buffer, address: Any, flags: int) -> int:
        self.check_open()
        datagram = self.file.state
        if not isinstance(datagram, Datagram):
            check_shape("sendto", self.file.family, address)  # or else, nobody looks at it
            return self.patiently(lambda state, _: state.write_to(data, address), WRITABLE, flags)
        place = self.destination("sendto", address)
        if self.file.family == AF_UNIX:
            place = places.locate_path(place)
        elif flags & MSG_MORE:
            return datagram.begin(data, place)
        return self.patiently(lambda _, __: datagram.send_to(data, place), WRITABLE, flags)

    def sendmsg(self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None, /) -> int:
        pieces = [arguments.readable(piece) for piece in arguments.iterable(buffers, "sendmsg", 1)]
        messages = [arguments.control(item) for item in arguments.iterable(ancdata, "sendmsg", 2)]
        index(flags)
        if messages and self.file.family == AF_UNIX:
            raise OSError(errno.EOPNOTSUPP, "a virtual socket carries no descriptors (SCM_RIGHTS) or other messages")
        if address is not None:
            return self._send_to(b"".join(bytes(piece) for piece in pieces), address, flags)
        if not pieces:
            return 0
        unfinished = self._unfinished(flags) if flags else None
        if unfinished is not None:
            return unfinished.begin(b"".join(pieces))
        sent = self.patiently(lambda state, _: state.write_all_of(pieces), WRITABLE, flags)
        return sent if self.timeout is not None else self._send_rest(pieces, sent, flags)
