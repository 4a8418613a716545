"""`select.select`, `select.poll` and `select.epoll` for sockets that are read at one descriptor and written at another.

What waits for a virtual socket's number to be readable is the kernel's affair. What waits for it to be writable is sent
to the other descriptor here, and comes back under the number. What the kernel says of a pipe's end is put into a
socket's words: a connection that the other side has ended is readable, not hung up.
"""

from __future__ import annotations

import select
import selectors
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from socketless._loopback import openfile, pipes
from socketless._loopback.openfile import OpenFile
from socketless._loopback.patches import Patches

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_OUT, _HUP, _ERR = select.POLLOUT, select.POLLHUP, select.POLLERR
_WRITING = _OUT | select.POLLWRNORM | select.POLLWRBAND
_EPOLLET, _EPOLLONESHOT = 1 << 31, 1 << 30
_HOW = _EPOLLET | _EPOLLONESHOT  # how it is told
_DEFAULT_POLL = select.POLLIN | select.POLLPRI | select.POLLOUT
_DEFAULT_EPOLL = _DEFAULT_POLL

_real_select, _real_poll, _real_epoll = select.select, select.poll, select.epoll

Event = tuple[int, int]


class _Poller(Protocol):
    def register(self, fd: Any, eventmask: int = ..., /) -> Any: ...
    def modify(self, fd: Any, eventmask: int, /) -> Any: ...
    def unregister(self, fd: Any, /) -> Any: ...


class _Both:
    """What `poll` and `epoll` objects have in common: which descriptor of a socket is watched for writing."""

    _make: Callable[..., _Poller]

    def __init__(self, *args: Any) -> None:
        self._real: Any = self._make(*args)
        self._writers: dict[int, tuple[int, bool]] = {}  # by number, and whether that is watched as well, for reading
        self._numbers: dict[int, dict[int, int]] = {}  # by writer: what each number of it is watched for
        self._changing: dict[int, int] = {}  # what is watched of numbers that will stand for another descriptor
        self._asked: dict[int, int] = {}  # by number of a virtual socket: what is watched

    def _register(self, number: int, file: OpenFile | None, events: int) -> None:
        self._forget_closed(number)
        if file is not None:
            self._asked[number] = events
            if file.watched_by(self):
                self._changing[number] = events
            if file.state.is_listening:
                events &= ~_WRITING
        writer = _writer(file, events)
        if writer is None:
            self._real.register(number, events)
            return
        reads = bool(events & ~(_WRITING | _HOW))
        if reads:
            self._real.register(number, events & ~_WRITING)
        numbers = self._numbers.get(writer, {})
        self._writers[number] = writer, reads  # before it is watched: another thread may be in poll()
        self._numbers[writer] = {**numbers, number: events & (_WRITING | _HOW)}
        self._watch(writer, is_new=not numbers)

    def _watch(self, writer: int, *, is_new: bool) -> None:
        events = 0
        for wanted in self._numbers[writer].values():
            events |= wanted
        (self._real.register if is_new else self._real.modify)(writer, events)

    def _forget_closed(self, number: int) -> None:
        # The kernel has dropped a descriptor that was closed. By now, its number may be another file's.
        if number in self._writers:
            self._forget_writer(number)
        for other in self._numbers.pop(number, ()):
            self._writers.pop(other, None)

    def _forget_writer(self, number: int) -> tuple[int, bool]:
        writer, reads = self._writers.pop(number)
        numbers = {one: events for one, events in self._numbers.pop(writer, {}).items() if one != number}
        if numbers:
            self._numbers[writer] = numbers
        return writer, reads

    def _unregister(self, fd: Any) -> None:
        number = _number(fd)
        self._changing.pop(number, None)
        self._asked.pop(number, None)
        if number not in self._writers:
            self._real.unregister(number)
            return
        writer, reads = self._forget_writer(number)
        with suppress(OSError, KeyError):  # the socket has been closed
            if writer in self._numbers:
                self._watch(writer, is_new=False)
            else:
                self._real.unregister(writer)
        if reads:
            self._real.unregister(number)

    def _modify(self, fd: Any, events: int) -> None:
        number = _number(fd)
        file = openfile.find(number)
        if number not in self._writers and _writer(file, events) is None:
            self._real.modify(number, events & ~_WRITING if _never_writes(file) else events)
            if file is not None:
                self._asked[number] = events
        else:
            self._unregister(number)
            self._register(number, file, events)

    def renew(self, number: int) -> None:
        """Watch what a number stands for now: the kernel goes by what it stood for."""
        events = self._changing.get(number)
        if events is not None:
            with suppress(OSError, KeyError):
                self._unregister(number)
            self._changing.pop(number, None)
            with suppress(OSError):
                self._register(number, openfile.find(number), events)

    def _translate(self, events: list[Event]) -> list[Event]:
        found: dict[int, int] = {}
        for fd, event in events:
            numbers = self._numbers.get(fd)
            if numbers is None:
                found[fd] = found.get(fd, 0) | (self._hung_up(fd, event) if event & _HUP else event)
            else:
                # A pipe that nobody reads takes what is written, too.
                for number in numbers:
                    wrote = _OUT | self._hung_up_as_well(number) if event & _ERR else event & _OUT
                    found[number] = found.get(number, 0) | wrote
        for number in found:
            if self._asked.get(number, 0) & _EPOLLET:
                found[number] |= self._ready_now(number)
        return list(found.items())

    def _ready_now(self, number: int) -> int:
        """Return all that a socket is ready for: who is told of edges is told of it at each."""
        asked, poll = self._asked[number], Poll()
        poll.register(number, asked & ~_HOW)
        return next((event for _, event in poll.poll(0)), 0)

    def _hung_up_as_well(self, number: int) -> int:
        return 0 if pipes.has_other_end(number) else self._hung_up(number, 0) & (_HUP | _ERR)

    def _hung_up(self, number: int, event: int) -> int:
        """Say that a pipe has come to its end as a socket does."""
        file = openfile.find(number)
        if file is None:
            return event
        return (event & ~_HUP | file.state.hung_up()) & (self._asked.get(number, 0) | _HUP | _ERR)


def _number(fd: Any) -> int:
    """Return the number that C would take this for, with its errors."""
    if not isinstance(fd, int):
        if not hasattr(fd, "fileno"):
            raise TypeError("argument must be an int, or have a fileno() method.")
        fd = fd.fileno()
        if not isinstance(fd, int):
            raise TypeError("fileno() returned a non-integer")
    if fd < 0:
        raise ValueError(f"file descriptor cannot be a negative integer ({fd})")
    return fd


def _writer(file: OpenFile | None, events: int) -> int | None:
    """Return the descriptor to watch in place of a number's writing; `None`: the number itself."""
    if file is None or not events & _WRITING or file.state.write_fd < 0:
        return None
    return file.state.write_fd


def _never_writes(file: OpenFile | None) -> bool:
    # A listener's number is a FIFO that could be written to.
    return file is not None and file.state.is_listening


class Poll(_Both):
    """As `select.poll()`."""

    _make = _real_poll

    def register(self, fd: Any, eventmask: int = _DEFAULT_POLL, /) -> None:
        number = fd if type(fd) is int else _number(fd)
        if not eventmask & _WRITING and number not in self._writers and number not in self._numbers:
            self._real.register(number, eventmask)  # as HTTP clients do before they use a connection once more
            self._asked[number] = eventmask
            return
        file = openfile.find(number)
        if number in self._writers or _writer(file, eventmask) is not None:
            with suppress(OSError, KeyError):  # to register once more is to change it
                self._unregister(number)
        self._register(number, file, eventmask)

    def modify(self, fd: Any, eventmask: int, /) -> None:
        self._modify(fd, eventmask)

    def unregister(self, fd: Any, /) -> None:
        self._unregister(fd)

    def poll(self, timeout: float | None = None, /) -> list[Event]:
        events: list[Event] = self._real.poll(timeout)
        return self._translate(events) if events and (self._numbers or _has_hung_up(events)) else events


class Epoll(_Both):
    """As `select.epoll()`."""

    _make = _real_epoll

    def __init__(self, sizehint: int = -1, flags: int = 0) -> None:
        super().__init__(sizehint, flags)

    @classmethod
    def fromfd(cls, fd: int, /) -> Any:
        """As `select.epoll.fromfd()`."""
        return _real_epoll.fromfd(fd)

    @property
    def closed(self) -> bool:
        return bool(self._real.closed)

    def fileno(self) -> int:
        return int(self._real.fileno())

    def close(self) -> None:
        self._real.close()

    def __enter__(self) -> Epoll:
        self._real.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._real.close()

    def register(self, fd: Any, eventmask: int = _DEFAULT_EPOLL) -> None:
        number = _number(fd)
        self._register(number, openfile.find(number), eventmask)

    def modify(self, fd: Any, eventmask: int) -> None:
        self._modify(fd, eventmask)

    def unregister(self, fd: Any) -> None:
        self._unregister(fd)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[Event]:
        events: list[Event] = self._real.poll(timeout, maxevents + len(self._writers) if maxevents > 0 else maxevents)
        return self._translate(events) if events and (self._numbers or _has_hung_up(events)) else events


def _has_hung_up(events: list[Event]) -> bool:
    for _, event in events:
        if event & _HUP:
            return True
    return False


class _Select:
    """As `select.select()`; an object, so that it can be an attribute of a class, as it is in `selectors`."""

    def __call__(self, rlist: Any, wlist: Any, xlist: Any, timeout: float | None = None, /) -> tuple[Any, Any, Any]:
        originals: dict[int, list[Any]] = {}  # by what is watched
        for one in wlist:
            number = _number(one)
            file = openfile.find(number)
            if not _never_writes(file):
                originals.setdefault(_writer(file, _OUT) or number, []).append(one)
        readable, writable, exceptional = _real_select(rlist, list(originals), xlist, timeout)
        return readable, [one for found in writable for one in originals[found]], exceptional


def patch(patches: Patches) -> None:
    """Let all that wait by the modules `select` and `selectors` know both descriptors."""
    both = _Select()
    patches.set(select, "select", both)
    patches.set(select, "poll", Poll)
    patches.set(select, "epoll", Epoll)
    patches.set(selectors.PollSelector, "_selector_cls", Poll)
    patches.set(selectors.EpollSelector, "_selector_cls", Epoll)
    patches.set(selectors.SelectSelector, "_select", both)
