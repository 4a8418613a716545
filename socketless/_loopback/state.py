"""The states of a virtual socket, and which call has which error in which of them.

                 ┌─ listen() ──▶ Listening ─ accept() ─▶ a new one in Stream
    Idle ────────┤
                 └─ connect() ─▶ Stream                          socketpair() makes two in Stream

    Datagram                      from the beginning to the end

A state holds the descriptors that go with it and does what a call does there, without ever waiting: BlockingIOError
says that there is nothing to be had yet. virtual.py waits.
"""

from __future__ import annotations

import errno
from _socket import AF_UNIX
from collections.abc import Mapping, Sequence
from select import POLLIN
from typing import Any, ClassVar, NamedTuple, NoReturn

from socketless._loopback.buffers import Buffer
from socketless._loopback.pipes import failure

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


forks = 0  # of this process, and of its parents


def count_fork() -> None:
    """Take notice of a fork: from now on, two processes have all that was open before it."""
    global forks
    forks += 1


class Message(NamedTuple):
    """What has been received at once."""

    data: bytes
    address: Any = None
    flags: int = 0
    length: int = -1  # of a datagram that was cut


class Accepted(NamedTuple):
    """A new connection: its reading end, and its state."""

    read_fd: int
    state: State
    address: Any


class State:
    """What each state does unless it says otherwise: it refuses."""

    # What Linux says, by call; what is not in it is EINVAL.
    refusals: ClassVar[Mapping[str, int]] = {}
    refusals_of_unix: ClassVar[Mapping[str, int]] = {}
    is_listening = False
    tcp_state = 7  # TCP_CLOSE, of <netinet/tcp.h>
    peer_pid = 0  # the process that the other end of a UNIX connection belongs to
    can_connect_elsewhere = False
    expects_answer = False  # something has been written since it was last read: a call that reads is going to wait

    def __init__(self, family: int) -> None:
        self.family = family
        # What is writable when the socket is. What is readable when it is, is its number.
        self.write_fd = -1
        self._forks = forks  # before it was made

    @property
    def is_shared(self) -> bool:
        """Whether another process may have its descriptors, too."""
        return self._forks != forks

    def share(self) -> None:
        """Take notice that another process has them."""
        self._forks = -1

    def refuse(self, call: str) -> NoReturn:
        table = self.refusals_of_unix if self.family == AF_UNIX else self.refusals
        raise failure(table.get(call, errno.EINVAL))

    def read(self, fd: int, size: int) -> bytes:
        """Take up to so many bytes."""
        self.refuse("recv")

    def read_into(self, fd: int, view: memoryview) -> int:
        """Take as many bytes as there is room for."""
        self.refuse("recv")

    def receive(self, fd: int, size: int, *, peek: bool = False) -> Message:
        """Take what has come at once, or only look at it."""
        self.refuse("recv")

    def write(self, data: Buffer) -> int:
        """Give bytes, and return how many have been taken."""
        return self.write_all_of([data])

    def write_all_of(self, buffers: Sequence[Buffer]) -> int:
        """Give the bytes of several buffers, and return how many have been taken."""
        self.refuse("send")

    def write_to(self, data: Buffer, address: Any) -> int:
        """Give bytes for an address."""
        self.refuse("sendto")

    def send_file(self, fd: int, offset: int | None, count: int) -> int:
        """As `os.sendfile()`."""
        self.refuse("send")

    def accept(self, fd: int) -> Accepted:
        """Take the next connection."""
        self.refuse("accept")

    def shutdown(self, fd: int, how: int) -> None:
        """End one direction or both."""
        self.refuse("shutdown")

    def sockname(self) -> Any:
        """Return the socket's own name."""
        self.refuse("getsockname")

    def peername(self, fd: int) -> Any:
        """Return the other side's name."""
        self.refuse("getpeername")

    def take_error(self) -> int:
        """Return an error that nobody has been told of, once."""
        return 0

    def watches(self, fd: int, events: int) -> list[tuple[int, int]]:
        """Return what to wait for until a call can go on."""
        return [(self.write_fd if events & ~1 and self.write_fd >= 0 else fd, events)]

    def hung_up(self) -> int:
        """Return what poll() says once the number is that of a pipe which nobody writes to any more."""
        return POLLIN

    def before_close(self, fd: int, *, resets: bool) -> None:
        """Do what has to be done before the last number of the socket is closed."""

    def close(self) -> None:
        """Close all but the number."""
