"""How a connection comes from who connects to who accepts.

A connection is two pipes, and who connects makes both. Within one process, the two ends that are the other side's wait
in a table; what is written to the listener's FIFO says which they are.

Between processes (and where a listener is inherited, so that nobody knows who will accept) the pipes have names, and
who accepts opens them. Until then

    who connects holds                                    so that
    the reading end of `.down`                            it waits: without a writer, there is no end yet
    the writing end of `.up`
    the reading end of `.up`, and never reads             what it writes before somebody has accepted is kept
    the listener's FIFO, for writing                      it sees that the listener has gone

To accept is to open both and then to remove `.up`, whose absence says so. A side that closes what nobody has accepted
renames it, and leaves in `.rest` what was written until then: whichever of the two is first decides.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from socketless._loopback import folder, pipes, records
from socketless._loopback.pipes import close_all, make_pipe
from socketless._loopback.system import exists, os, read_file, write_file

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC

_waiting: dict[str, tuple[int, int]] = {}  # the ends of who accepts, reading and writing; each is taken once
_named: set[Unaccepted] = set()  # what this process has written to others that have not accepted


def offer_here() -> tuple[int, int, str]:
    """Make a connection that a thread of this process will accept: our reading and writing end, and its token."""
    up, down = make_pipe(), make_pipe()
    token = folder.unique()
    _waiting[token] = (up[0], down[1])
    return down[0], up[1], token


def offer_elsewhere(listener: int) -> tuple[int, int, Unaccepted]:
    """Make a connection that any process may accept: our reading and writing end, and its state until that.

    Args:
        listener: a descriptor of the listener's FIFO, ours from now on.
    """
    token = folder.unique()
    path = _path(token)
    os.mkfifo(path + ".up", 0o600)
    os.mkfifo(path + ".down", 0o600)
    down = os.open(path + ".down", _READ)
    holder = os.open(path + ".up", _READ)
    return down, os.open(path + ".up", _WRITE), Unaccepted(token, holder, listener)


def _path(token: str) -> str:
    return os.path.join(folder.open_folder(), "c", token)


class Unaccepted:
    """What becomes of a connection that was offered to other processes, until one has accepted it."""

    def __init__(self, token: str, holder: int, listener: int) -> None:
        self.token = token
        self.was_hopeless = False  # the listener has gone without accepting it
        self._path = _path(token)
        self._holder, self._listener = holder, listener
        self._is_held = [True]  # until both are closed, which only one thread may do
        _named.add(self)

    def is_over(self) -> bool:
        """Whether it has been accepted, or never will be; what was held for that time is given back then."""
        if self._holder >= 0:
            if exists(self._path + ".up"):
                if pipes.has_other_end(self._listener):
                    return False
                self.was_hopeless = _remove(self._path + ".up")
                _remove(self._path + ".down")
            self._release()
        return True

    def watch(self) -> tuple[int, int]:
        """Return what tells that the listener has gone."""
        return self._listener, 0

    def close(self) -> None:
        """Close it before its ends are, on the side of who has connected: what was written is left for who accepts."""
        if self._holder < 0:
            return
        with suppress(OSError):
            os.rename(self._path + ".up", self._path + ".closing")  # FileNotFoundError: it has been accepted just now
            # Whoever accepts it at this moment waits for the end of this.
            writer = os.open(self._path + ".closing", _WRITE)
            self._leave_rest()
            os.close(writer)
            _remove(self._path + ".closing")
            _remove(self._path + ".down")
        self._release()

    def _leave_rest(self) -> None:
        rest = bytearray()
        with suppress(BlockingIOError):
            while data := os.read(self._holder, 1 << 16):
                rest += data
        write_file(self._path + ".new", rest)
        os.rename(self._path + ".new", self._path + ".rest")

    def _release(self) -> None:
        _named.discard(self)
        with suppress(IndexError):
            self._is_held.pop()
            close_all(self._holder, self._listener)
            self._holder = self._listener = -1

    def forget(self) -> None:
        """In a fork: what is not accepted is the parent's."""
        self._release()


def take(token: str) -> tuple[int, int] | None:
    """Accept: return our reading and writing end; `None`: there is nobody any more.

    Both are ours to close.
    """
    if token in _waiting:
        return _waiting.pop(token, None)
    path = _path(token)
    up, down = _open(path + ".up", _READ), _open(path + ".down", _WRITE)
    if up >= 0 and down >= 0 and _remove(path + ".up"):
        _remove(path + ".down")
        return up, down
    close_all(up, down)
    _wait_until_closed(path)
    return _take_rest(path)


def _open(path: str, how: int) -> int:
    try:
        return os.open(path, how)
    except OSError:
        return -1


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
    except OSError:
        return False
    return True


def _wait_until_closed(path: str) -> None:
    # The side that has connected is leaving what it has written, and holds the pipe until that is done, unless it is
    # killed.
    up = _open(path + ".closing", _READ)
    if up >= 0:
        with suppress(TimeoutError):
            pipes.wait([(up, 0)], pipes.deadline_after(0 if exists(path + ".rest") else 5))
        os.close(up)


def _take_rest(path: str) -> tuple[int, int] | None:
    try:
        rest = read_file(path + ".rest")
        os.unlink(path + ".rest")
    except OSError:
        return None
    reader, writer = make_pipe()
    pipes.resize(writer)
    with suppress(BlockingIOError):
        os.write(writer, rest)
    os.close(writer)
    reader_of_nobody, to_nobody = make_pipe()
    os.close(reader_of_nobody)
    return reader, to_nobody


def refuse(token: str) -> None:
    """End a connection that was offered to a listener which closes: who has connected gets a reset."""
    ends = take(token)
    if ends is not None:
        pipes.add_byte(ends[0])
        pipes.reset(ends[1])
        close_all(*ends)


def record(token: str, *names: Any) -> bytes:
    """Return what is written to the listener."""
    packed = records.pack((token, *names))
    assert packed is not None, "addresses are short"
    return packed


def forget_all() -> None:
    """In a fork: what nobody has accepted yet is the parent's."""
    while _waiting:
        close_all(*_waiting.popitem()[1])
    for one in list(_named):
        one.forget()


def finish_all() -> None:
    """At the exit of this process: leave what it has written to those who will accept only then."""
    for one in list(_named):
        one.close()
