"""What the lists of checks are made of: a registry, the kinds of sockets, and words for what a check says often.

A check is a function that is given a `Net`. It asserts what Linux does, so it passes on real sockets, and must pass on
virtual ones for the same reason. It knows of sockets what `import socket` gives, and nothing else.
"""

from __future__ import annotations

import errno
import faulthandler
import gc
import os
import select
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import count
from typing import Any, Generic, TypeVar

import pytest

LIMIT = 30.0  # seconds for what takes milliseconds; only a defect reaches it
MOMENT = 0.05  # seconds in which something must not happen: too short for it to be missed, if it happens at once

CHECKS: dict[str, tuple[Callable[[Net], None], str]] = {}  # by name: the function, and the kind of socket it is given

# The kinds of stream sockets. A pair is what socketpair() makes, and has no addresses.
IP = ("tcp4", "tcp6")
UNIX = ("path", "abstract")
STREAMS = (*IP, *UNIX)
CONNECTED = (*STREAMS, "pair")

FAMILIES = {
    "tcp4": socket.AF_INET,
    "tcp6": socket.AF_INET6,
    "path": socket.AF_UNIX,
    "abstract": socket.AF_UNIX,
    "pair": socket.AF_UNIX,
}

Result = TypeVar("Result")
Check = Callable[["Net"], None]

_numbers = count()


def check(*kinds: str) -> Callable[[Check], Check]:
    """Add a function to the list, once for each of `kinds`."""

    def add(function: Check) -> Check:
        subject = function.__module__.rpartition(".")[2]
        for kind in kinds:
            name = f"{subject}.{function.__name__}-{kind}"
            assert name not in CHECKS, f"two checks are called {name}"
            CHECKS[name] = function, kind
        return function

    return add


class TooLong(BaseException):
    """A check has taken longer than it may. No `except Exception` takes it for something else."""


@contextmanager
def limited(seconds: float = LIMIT) -> Iterator[None]:
    """Let the block take so long at most. It runs in the main thread, and what it waits for can be interrupted."""

    def stop(number: int, frame: object) -> None:
        if threading.active_count() > 1:
            faulthandler.dump_traceback(file=sys.__stderr__)
        raise TooLong(f"it takes longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)  # again and again, should somebody swallow it
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def fails(*numbers: int) -> Iterator[None]:
    """Assert that the block raises the OSError of one of these numbers, with the type and text that Python gives it."""
    with pytest.raises(OSError) as raised:
        yield
    error = raised.value
    assert error.errno in numbers, f"{error!r}, not {' or '.join(errno.errorcode[number] for number in numbers)}"
    assert type(error) is type(OSError(error.errno, ""))
    assert str(error) == f"[Errno {error.errno}] {os.strerror(error.errno)}"


@contextmanager
def says(type_of_error: type[BaseException], text: str) -> Iterator[None]:
    """Assert that the block raises this error with this text."""
    with pytest.raises(type_of_error) as raised:
        yield
    assert (type(raised.value), str(raised.value)) == (type_of_error, text)


@contextmanager
def times_out() -> Iterator[None]:
    """Assert that the block waits in vain, as long as its socket's timeout says."""
    with says(TimeoutError, "timed out"):
        yield


class Index:
    """What C takes for a number; a `MagicMock` is one, too."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return int(self.value)  # an enumeration's member is no plain number


class Task(Generic[Result]):
    """A function that runs in a thread."""

    def __init__(self, function: Callable[[], Result]) -> None:
        self._function = function
        self._result: Result
        self._error: BaseException | None = None
        self.thread = threading.Thread(target=self._run, daemon=True, name=f"check-{next(_numbers)}")
        self.thread.start()

    def _run(self) -> None:
        # Runs in the thread check-N, until the function has returned.
        try:
            self._result = self._function()
        except BaseException as error:
            self._error = error

    def result(self, timeout: float = LIMIT) -> Result:
        self.thread.join(timeout)
        assert not self.thread.is_alive(), "the thread is still busy"
        if self._error is not None:
            raise self._error
        return self._result

    def still_runs(self) -> bool:
        """Whether it has not ended within a moment."""
        self.thread.join(MOMENT)
        return self.thread.is_alive()


class Net:
    """What one check works with: sockets of one kind, files, threads. `close()` ends all of them."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.family = FAMILIES.get(kind, socket.AF_INET)
        self.is_ip = self.family != socket.AF_UNIX
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._tasks: list[Task[Any]] = []
        self._stack = ExitStack()

    def close(self) -> None:
        self._stack.close()
        for task in self._tasks:
            task.thread.join(LIMIT)
            assert not task.thread.is_alive(), f"{task.thread.name} has not ended"
        if self._folder is not None:
            self._folder.cleanup()
        gc.collect()

    def __enter__(self) -> Net:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def keep(self, closable: Any) -> Any:
        """Close this at the end, and return it."""
        self._stack.callback(closable.close)
        return closable

    def folder(self) -> str:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="checks-")
        return self._folder.name

    def path(self) -> str:
        """A path that does not exist."""
        return f"{self.folder()}/{next(_numbers)}"

    def address(self) -> Any:
        """An address to bind to: of an IP socket, with port 0."""
        if self.kind == "abstract":
            return b"\0checks-%d-%d" % (os.getpid(), next(_numbers))
        return (self.host, 0) if self.is_ip else self.path()

    @property
    def host(self) -> str:
        return "::1" if self.family == socket.AF_INET6 else "127.0.0.1"

    @property
    def wildcard(self) -> str:
        return "::" if self.family == socket.AF_INET6 else "0.0.0.0"

    def stream(self, type: int = socket.SOCK_STREAM) -> socket.socket:
        made: socket.socket = self.keep(socket.socket(self.family, type))
        return made

    def nonblocking(self, type: int = socket.SOCK_STREAM) -> socket.socket:
        made = self.stream(type)
        made.setblocking(False)
        return made

    def datagram(self) -> socket.socket:
        """A bound datagram socket."""
        made = self.stream(socket.SOCK_DGRAM)
        made.bind(self.address())
        return made

    def bound(self) -> socket.socket:
        made = self.stream()
        made.bind(self.address())
        return made

    def listener(self, backlog: int = 128) -> socket.socket:
        made = self.bound()
        made.listen(backlog)
        return made

    def nobody(self, type: int = socket.SOCK_STREAM) -> Any:
        """An address of this kind that somebody has had and given up."""
        with socket.socket(self.family, type) as had:
            had.bind(self.address())
            return had.getsockname()

    def connected_to(self, listener: socket.socket) -> socket.socket:
        client = self.stream()
        client.connect(listener.getsockname())
        return client

    def accepted(self, listener: socket.socket) -> socket.socket:
        server: socket.socket = self.keep(listener.accept()[0])
        return server

    def pair(self) -> tuple[socket.socket, socket.socket]:
        """Two sockets that are connected: of a client and of a server."""
        if self.kind == "pair":
            one, other = socket.socketpair()
            return self.keep(one), self.keep(other)
        with socket.socket(self.family) as listener:
            listener.bind(self.address())
            listener.listen()
            return self.connected_to(listener), self.accepted(listener)

    def datagram_pair(self) -> tuple[socket.socket, socket.socket]:
        """Two datagram sockets, each connected to the other."""
        one, other = self.datagram(), self.datagram()
        one.connect(other.getsockname())
        other.connect(one.getsockname())
        return one, other

    def in_thread(self, function: Callable[[], Result]) -> Task[Result]:
        task = Task(function)
        self._tasks.append(task)
        return task


def is_readable(one: socket.socket, timeout: float = LIMIT) -> bool:
    """Whether it becomes readable within so many seconds."""
    return bool(select.select([one], [], [], timeout)[0])


def is_writable(one: socket.socket, timeout: float = LIMIT) -> bool:
    return bool(select.select([], [one], [], timeout)[1])


def becomes(one: socket.socket, wanted: str) -> None:
    """Assert that this is what select() sees of a socket once it has settled: r, w, rw or nothing."""
    is_readable(one, LIMIT if "r" in wanted else 0)
    is_writable(one, LIMIT if "w" in wanted else 0)
    readable, writable, _ = select.select([one], [one], [], 0)
    assert "r" * bool(readable) + "w" * bool(writable) == wanted


def receive(one: socket.socket, size: int) -> bytes:
    """Read so many bytes, or fewer if the end comes before."""
    data = b""
    while len(data) < size and (more := one.recv(size - len(data))):
        data += more
    return data


def receive_all(one: socket.socket) -> bytes:
    """Read until the end."""
    parts = []
    while part := one.recv(1 << 16):
        parts.append(part)
    return b"".join(parts)


def fill(one: socket.socket) -> int:
    """Send until no more goes in, and return how much has."""
    one.setblocking(False)
    sent = 0
    try:
        while True:
            sent += one.send(b"x" * 65536)
    except BlockingIOError:
        pass
    one.setblocking(True)
    return sent


def tells_of_a_reset(one: socket.socket) -> None:
    """Assert that a connection says once that it was reset, and then that it has ended."""
    with fails(errno.ECONNRESET):
        one.recv(1)
    assert one.recv(1) == b""
    with fails(errno.EPIPE):
        one.send(b"x")


def reset(one: socket.socket) -> None:
    """Close a TCP socket so that the other end is reset."""
    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    one.close()
