"""A virtual socket as one socket object has it: with a number and a time limit of its own, and how its calls wait."""

from __future__ import annotations

import errno
from _socket import MSG_DONTWAIT, SO_RCVTIMEO, SO_SNDTIMEO
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from socketless._loopback import arguments, openfile
from socketless._loopback.openfile import OpenFile
from socketless._loopback.pipes import READABLE, deadline_after, failure, is_ready, wait
from socketless._loopback.state import State
from socketless._loopback.system import monotonic

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

T = TypeVar("T")


class ElsewhereError(Exception):
    """What is asked for is not on loopback, or there is nobody of ours: it is for a real socket."""

    def __init__(self, *, nobody_there: bool = False) -> None:
        super().__init__(nobody_there)
        self.nobody_there = nobody_there


class Waiting:
    """What a socket object knows by itself, without its open file.

    Another thread may close it at any time. Then it has another file, one that is closed; and a call that is under way
    goes on with what it had, which is there until the last such call has returned (see `OpenFile.enter`).
    """

    __slots__ = ("file", "number", "proto", "timeout")

    def __init__(self, file: OpenFile, number: int = -1, timeout: float | None = None) -> None:
        self.file = file
        self.proto = file.protocol
        self.number = number  # -1 before there is one, see fileno()
        self.timeout = timeout  # as settimeout(): 0 is not to wait
        if timeout is not None:
            file.blocks = False

    @property
    def family(self) -> int:
        return self.file.family

    @property
    def type(self) -> int:
        return self.file.kind

    @property
    def is_closed(self) -> bool:
        return isinstance(self.file.state, openfile.Closed)

    def check_open(self) -> None:
        """Raise EBADF after `close()`."""
        if self.is_closed:
            raise failure(errno.EBADF)

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

    @contextmanager
    def using(self) -> Iterator[None]:
        """Keep what another thread closes meanwhile, as the methods of a socket do."""
        file = self.file
        file.enter()
        try:
            yield
        finally:
            file.leave()

    # Time limits

    def settimeout(self, timeout: Any) -> None:
        seconds = arguments.seconds(timeout)
        self.check_open()
        self.timeout = seconds
        self.file.blocks = seconds is None

    def gettimeout(self) -> float | None:
        return self.timeout

    def setblocking(self, flag: Any) -> None:
        self.settimeout(None if arguments.is_true(flag) else 0.0)

    def getblocking(self) -> bool:
        return self.timeout != 0

    def waits(self, flags: int = 0) -> bool:
        """Whether a call waits at all."""
        if self.timeout is None:
            return self.file.blocks and not flags & MSG_DONTWAIT
        return self.timeout != 0 and not flags & MSG_DONTWAIT

    def patiently(self, attempt: Callable[[State, int], T], events: int, flags: int = 0) -> T:
        """Try until it succeeds, as long as the time limit lets it wait."""
        try:
            return attempt(self.file.state, self.fileno())
        except BlockingIOError:
            if not self.waits(flags):
                raise
        return self.again(attempt, events)

    def wait_for_answer(self) -> tuple[OpenFile, int, float | None]:
        """Wait for what answers that which was written last; return what to read, and when that has lasted too long.

        To try it first, as other calls do, would be in vain. If nothing has come in time, or this is not to wait, the
        attempt that comes after this says so.
        """
        file, number, timeout = self.file, self.number, self.timeout
        if timeout is None:
            timeout = file.options.seconds(SO_RCVTIMEO) if file.blocks else 0
        if timeout == 0 or number < 0:
            return file, number, None
        deadline = None if timeout is None else monotonic() + timeout
        is_ready(number, READABLE, timeout)
        return (file, number, deadline) if self.timeout is None else (self.file, self.number, deadline)

    def again(self, attempt: Callable[[State, int], T], events: int, deadline: float | None = None) -> T:
        """Go on to do so after a first attempt that was in vain."""
        file, number = self.file, self.number
        if deadline is None:
            deadline = self.deadline(events)
        while True:
            file, number = self.wait(file, number, events, deadline)
            try:
                return attempt(file.state, number)
            except BlockingIOError:
                pass

    def deadline(self, events: int) -> float | None:
        """Return when a call that begins now has waited for long enough."""
        if self.timeout is not None:
            return deadline_after(self.timeout)
        return deadline_after(self.file.options.seconds(SO_RCVTIMEO if events == READABLE else SO_SNDTIMEO))

    def wait(self, file: OpenFile, number: int, events: int, deadline: float | None) -> tuple[OpenFile, int]:
        """Wait until a call can go on; return with what.

        Raises:
            TimeoutError: it has waited for too long.
            BlockingIOError: for longer than an option of the socket says.
        """
        try:
            wait(file.state.watches(number, events), deadline)
        except TimeoutError:
            if self.timeout is None:
                raise failure(errno.EAGAIN) from None
            self.check_open()
            raise
        # A thread that waits in the kernel does not notice that another thread has closed the socket. With a time
        # limit, it is Python that waits, and looks for the socket again.
        return (file, number) if self.timeout is None else (self.file, self.number)
