"""Which process is bound where, of all processes of the folder.

Each bound socket has a FIFO, `transport/port/host,options,number`, which it holds open for reading. So it is the kernel
who knows whether somebody is there: to open the FIFO for writing says ENXIO once the last process that held it has
gone, even if it was killed. That the socket listens is a bit of the FIFO's mode. The number begins with that of the
process. A UNIX socket's path is in the place of the host, and in the place of the port is which file that was.
"""

from __future__ import annotations

import errno
import stat
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from socketless._loopback import folder, pipes, records
from socketless._loopback.addresses import ANY4, ANY6, Place
from socketless._loopback.pipes import failure
from socketless._loopback.system import os

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

EPHEMERAL = range(32768, 61000)  # the ports that Linux gives away
_LISTENS = 0o100  # the bit of the FIFO's mode
_SOMAXCONN = 4096
_MOST_WAITING = 1 << 20  # bytes in a FIFO, as large as one may be

_mine: dict[tuple[str, str], list[Bound]] = {}  # by transport and port; what a fork has inherited is among it
_count = 0


class Options(NamedTuple):
    """What decides whether two sockets may be bound to one place; see socket(7), SO_REUSEADDR and SO_REUSEPORT."""

    reuse_address: bool = False
    reuse_port: bool = False
    v6_only: bool = False

    def __str__(self) -> str:
        return "".join(letter for letter, is_set in zip("apv", self, strict=True) if is_set)

    @classmethod
    def parse(cls, text: str) -> Options:
        return cls("a" in text, "p" in text, "v" in text)


class Holder(NamedTuple):
    """A socket that is bound."""

    host: str
    options: Options
    is_listening: bool


class Name(NamedTuple):
    """What the name of a FIFO tells."""

    host: str
    options: Options
    path: str  # that a UNIX socket was bound to; an abstract name is where others have the port
    pid: int

    def __str__(self) -> str:
        label = self.host or os.fsencode(self.path).hex()
        return f"{label},{self.options},{folder.unique()}"

    @classmethod
    def parse(cls, transport: str, text: str) -> Name:
        label, options, number = text.split(",")
        pid = int(number.partition("-")[0])
        if transport.startswith("unix"):
            return cls("", Options.parse(options), os.fsdecode(bytes.fromhex(label)), pid)
        return cls(label, Options.parse(options), "", pid)


class Found(NamedTuple):
    """The process at a place: where to write what is meant for it, and what is known of it."""

    fd: int
    bound: Bound | None  # if he is one of this process
    name: Name

    def close(self) -> None:
        """Give the descriptor back."""
        if self.bound is None:
            os.close(self.fd)


class Bound:
    """A place that a socket of this process has. It is kept until `close()`."""

    def __init__(self, place: Place, name: Name, path: str, keeps: int = -1) -> None:
        self.place, self.name, self.path = place, name, path
        self.options = name.options
        # Of the FIFO, for reading and writing. A program may write to a number that it has closed, as waitress does; so
        # this is none that is given away again soon.
        self.fd = pipes.far_away(os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC))
        self._keeps = keeps  # a descriptor of the file that a UNIX socket is named by
        self._users: set[object] = set()  # the connections that hold it
        self._is_closed = False
        self.is_listening = bool(os.fstat(self.fd).st_mode & _LISTENS)
        self.is_shared = False  # another process may accept what comes
        self.backlog = _SOMAXCONN
        self._line: deque[bytes] = deque()  # records of who is let in, and the FIFO has no room for
        _mine.setdefault(place[:2], []).append(self)

    def listen(self) -> None:
        """Let others connect.

        Raises:
            OSError: EADDRINUSE: another socket listens there.
        """
        with folder.locked():
            others = (one for one in holders(self.place, but=self.path) if one.is_listening)
            if any(_conflict(self.place, self.options, one) for one in others):
                raise failure(errno.EADDRINUSE)
            os.fchmod(self.fd, 0o600 | _LISTENS)
        self.is_listening = True

    def let_wait(self, backlog: int) -> None:
        """Let so many wait to be accepted, and one more."""
        self.backlog = min(max(0, backlog), _SOMAXCONN)
        wanted = min((self.backlog + 1) * records.SIZE, _MOST_WAITING)
        if wanted > pipes.capacity(self.fd):
            pipes.resize(self.fd, wanted)

    def line_up(self, record: bytes) -> None:
        """Write a record for who listens, now or when there is room for it."""
        self._line.append(record)
        self.move_up()

    def move_up(self) -> None:
        """Write what there is room for."""
        while self._line:
            with suppress(IndexError):  # another thread was faster
                record = self._line.popleft()
                try:
                    os.write(self.fd, record)
                except BlockingIOError:
                    self._line.appendleft(record)
                    return

    def open_number(self) -> int:
        """Return a descriptor for who reads what comes, which cannot be written to."""
        return os.open(self.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)

    def stop_listening(self) -> None:
        """Let nobody connect any more."""
        os.fchmod(self.fd, 0o600)
        self.is_listening = False

    def holder(self) -> Holder:
        return Holder(self.place.host, self.options, self.is_listening)

    def hold(self, user: object) -> None:
        """Keep the place for an accepted connection: while one lives, the port is in use."""
        self._users.add(user)

    def release(self, user: object) -> None:
        """Keep it for that one no more."""
        self._users.discard(user)
        if self._is_closed and not self._users:
            self._give_back()

    def close(self) -> None:
        """Give the place back, once no connection holds it. It is another process's, too: then that has it."""
        self._is_closed = True
        if self._users and not self.is_shared:
            self.stop_listening()
        else:
            self._give_back()

    def _give_back(self) -> None:
        mine = _mine.get(self.place[:2], [])
        try:
            mine.remove(self)
        except ValueError:
            return  # it is done
        if not mine:
            _mine.pop(self.place[:2], None)
        os.close(self.fd)
        if self._keeps >= 0:
            os.close(self._keeps)
        if not (self.is_shared and _is_alive(self.path)):
            with suppress(OSError):
                os.unlink(self.path)
                os.rmdir(os.path.dirname(self.path))


def share_all() -> None:
    """Take notice of a fork: from now on, two processes have all that was bound before it."""
    for bounds in _mine.values():
        for bound in bounds:
            bound.is_shared = True


def bind(place: Place, options: Options) -> Bound:
    """Take a place; any free port, if it is 0.

    Raises:
        OSError: EADDRINUSE.
    """
    with folder.locked():
        if place.port == "0":
            place = place._replace(port=_free_port(place.transport))
        elif any(_conflict(place, options, one) for one in holders(place)):
            raise failure(errno.EADDRINUSE)
        return _make(place, options)


def bind_path(place: Place) -> Bound:
    """Take a path of the file system, or an abstract name.

    Raises:
        OSError: EADDRINUSE, or what is wrong with the path.
    """
    if place.port:
        return bind(place, Options())
    try:
        os.mknod(place.path, stat.S_IFSOCK | 0o777)
    except FileExistsError:
        raise failure(errno.EADDRINUSE) from None
    except OSError as error:
        raise failure(error.errno or errno.EINVAL) from None
    # While somebody is bound there, no other file may get the number, which a file that is removed leaves free.
    keeps = os.open(place.path, os.O_PATH | os.O_CLOEXEC)
    with folder.locked():
        return _make(place._replace(port=_filed_under(os.fstat(keeps))), Options(), keeps)


def locate_path(place: Place) -> Place:
    """Return the place that a path leads to.

    Raises:
        OSError: there is no socket.
    """
    if place.port:
        return place
    try:
        status = os.stat(place.path)
    except OSError as error:
        raise failure(error.errno or errno.ENOENT) from None
    if not stat.S_ISSOCK(status.st_mode):
        raise failure(errno.ECONNREFUSED)
    if not os.access(place.path, os.W_OK):
        raise failure(errno.EACCES)
    return place._replace(port=_filed_under(status))


def _filed_under(status: os.stat_result) -> str:
    return f"{status.st_dev}-{status.st_ino}"


def _make(place: Place, options: Options, keeps: int = -1) -> Bound:
    name = Name(place.host, options, place.path if isinstance(place.path, str) else "", os.getpid())
    path = os.path.join(_folder_of(place.transport, place.port), str(name))
    for directory in (os.path.dirname(os.path.dirname(path)), os.path.dirname(path)):
        with suppress(FileExistsError):
            os.mkdir(directory, 0o700)
    os.mkfifo(path, 0o600)
    return Bound(place, name, path, keeps)


def _folder_of(transport: str, port: str) -> str:
    return os.path.join(folder.open_folder(), transport, port)


def next_port() -> int:
    """Return a port for a socket that nobody has bound; a different one each time, until all have been."""
    global _count
    _count += 1
    return EPHEMERAL[(os.getpid() * 7919 + _count) % len(EPHEMERAL)]


def _free_port(transport: str) -> str:
    for _ in EPHEMERAL:
        port = str(next_port())
        if not any(True for _ in holders(Place(transport, port))):
            return port
    raise failure(errno.EADDRINUSE)


def holders(place: Place, but: str | None = None) -> Iterator[Holder]:
    """Go through who is bound to a port, in all processes; what the dead have left is removed on the way."""
    directory = _folder_of(place.transport, place.port)
    for name in _names(directory):
        path = os.path.join(directory, name)
        if path == but:
            continue
        with suppress(OSError):
            fd = open_fifo(path)
            mode = os.fstat(fd).st_mode
            os.close(fd)
            named = Name.parse(place.transport, name)
            yield Holder(named.host, named.options, bool(mode & _LISTENS))
            continue
        with suppress(OSError):
            os.unlink(path)


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:
        return []


def open_fifo(path: str) -> int:
    """Open a FIFO for writing; OSError: nobody is there."""
    return os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _is_alive(path: str) -> bool:
    with suppress(OSError):
        os.close(open_fifo(path))
        return True
    return False


def _conflict(place: Place, options: Options, other: Holder) -> bool:
    """Whether a place is taken, by the rules of Linux."""
    if options.reuse_port and other.options.reuse_port:
        return False
    if options.reuse_address and other.options.reuse_address and not other.is_listening:
        return False
    return _covers(place.host, options, other.host) or _covers(other.host, other.options, place.host)


def _covers(host: str, options: Options, other: str) -> bool:
    """Whether who is bound to a host has what is meant for another one, too."""
    if host == other:
        return True
    is_v6 = ":" in other
    return (host == ANY4 and not is_v6) or (host == ANY6 and (is_v6 or not options.v6_only))


def find(place: Place) -> Found | None:
    """Return who is at a place, to be closed by the caller; `None`: nobody is there, or nobody listens."""
    mine = [one for one in _mine.get(place[:2], ()) if _covers(one.place.host, one.options, place.host)]
    if mine:
        best = max(reversed(mine), key=lambda one: _rank(one.holder(), place))  # of equals, who came last
        if best.is_listening or not _needs_listener(place):
            return Found(best.fd, best, best.name)
    return _find_elsewhere(place)


def _needs_listener(place: Place) -> bool:
    return not place.transport.endswith(("udp", "dgram"))


def _rank(one: Holder, place: Place) -> tuple[bool, bool, bool]:
    # Of those whom it may be meant for, the kernel takes who has named the host, then who has named the family.
    return (
        one.is_listening or not _needs_listener(place),
        one.host == place.host,
        (":" in one.host) == (":" in place.host),
    )


def is_anybody(place: Place) -> bool:
    """Whether somebody is at a place."""
    found = find(place)
    if found is not None:
        found.close()
    return found is not None


def is_taken(place: Place) -> bool:
    """Whether somebody is bound there, who need not listen."""
    return any(_covers(one.host, one.options, place.host) for one in holders(place))


def is_of_another_kind(place: Place) -> bool:
    """Whether who is at a path has another kind of UNIX socket."""
    kinds = ("unix-stream", "unix-dgram", "unix-seqpacket")
    return "@" not in place.port and any(is_anybody(place._replace(transport=kind)) for kind in kinds)


def _find_elsewhere(place: Place) -> Found | None:
    directory = _folder_of(place.transport, place.port)
    named = [(Name.parse(place.transport, text), text) for text in _names(directory)]
    found = [one for one in named if _covers(one[0].host, one[0].options, place.host)]
    for name, text in sorted(
        found, key=lambda one: _rank(Holder(one[0].host, one[0].options, False), place), reverse=True
    ):
        with suppress(OSError):
            fd = open_fifo(os.path.join(directory, text))
            if os.fstat(fd).st_mode & _LISTENS or not _needs_listener(place):
                return Found(fd, None, name)
            os.close(fd)
    return None
