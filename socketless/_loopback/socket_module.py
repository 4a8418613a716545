"""What changes in the module `socket`."""

from __future__ import annotations

import _socket
import errno
import fcntl
import os
import socket
from types import ModuleType
from typing import Any

from socketless._loopback import arguments, inherited, interfaces, names, openfile, real, virtual
from socketless._loopback.methods import Methods
from socketless._loopback.patches import Patches
from socketless._loopback.system import fcntl as _fcntl
from socketless._loopback.system import os as _os
from socketless._loopback.virtual import attach

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_sendfile = os.sendfile
# The modes of a file, their letters sorted, and those of `makefile()`.
_WAYS = {"r": "r", "w": "w", "br": "rb", "bw": "wb", "+br": "rwb", "+bw": "rwb"}


class _CModule(ModuleType):
    """What the functions of `socket.py` find as `_socket`: the same, with ours in front."""

    def __init__(self) -> None:
        super().__init__("_socket", _socket.__doc__)
        self.socket = Methods
        self.socketpair = socketpair
        self.getaddrinfo = names.getaddrinfo

    def __getattr__(self, name: str) -> Any:
        return getattr(_socket, name)


class _Number:
    """One of the two results of `_socket.socketpair()`, of which `socket.py` takes the numbers alone."""

    def __init__(self, number: int) -> None:
        self._number = number

    def detach(self) -> int:
        return self._number


def socketpair(family: int = _socket.AF_UNIX, type: int = _socket.SOCK_STREAM, proto: int = 0) -> tuple[Any, Any]:
    """As `_socket.socketpair()`."""
    family, type, proto = map(arguments.number, (family, type, proto))
    kind = virtual.plain_kind(family, type, proto)
    if kind is None or family != _socket.AF_UNIX:
        real.check_allowed()
        return _socket.socketpair(family, type, proto)
    left, right = openfile.pair(family, kind, proto)
    return _Number(left), _Number(right)


def dup(number: int) -> int:
    """As `socket.dup()`."""
    file = openfile.find(number)
    return _socket.dup(number) if file is None else file.copy_number(number)


def _noticed(copy: int) -> int:
    # Else the socket would be closed with the number that was copied.
    openfile.find(copy)
    return copy


def copy(fd: int, /) -> int:
    """As `os.dup()`."""
    return _noticed(_os.dup(fd))


def copy_to(fd: int, fd2: int, inheritable: bool = True) -> int:
    """As `os.dup2()`."""
    before = openfile.find(fd2)
    copy = _os.dup2(fd, fd2, inheritable)
    after = openfile.find(copy)
    if before is not None and before is not after:
        before.close(copy, keep_number=True)
    return copy


def open_file(
    fd: int,
    mode: str = "r",
    buffering: int = -1,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
    closefd: bool = True,
    opener: Any = None,
) -> Any:
    """As `os.fdopen()`."""
    file = openfile.find(fd) if isinstance(fd, int) else None
    ways = _WAYS.get("".join(sorted(mode.replace("t", "")))) if file is not None else None
    has_buffer = buffering != 0  # which what is read and written would have to be seekable for
    if file is None or ways is None or (has_buffer and len(ways) > 2):
        return _os.fdopen(fd, mode, buffering, encoding, errors, newline, closefd, opener)
    with socket.socket(fileno=fd if closefd else file.copy_number(fd)) as sock:
        return sock.makefile(ways, buffering, encoding=encoding, errors=errors, newline=newline)  # type: ignore[call-overload]


def close(number: int) -> None:
    """As `socket.close()`."""
    file = openfile.find(number)
    if file is None:
        _socket.close(number)
    else:
        file.close(number)


class _Close:
    """As `os.close()`; an object, since it may become an attribute of a class."""

    def __call__(self, fd: int) -> None:
        file = openfile.find(fd)
        if file is None:
            _os.close(fd)
        else:
            file.close(fd)


class _Write:
    """As `os.write()`."""

    def __call__(self, fd: int, data: Any, /) -> int:
        try:
            return _os.write(fd, data)
        except OSError as error:  # what a virtual socket's number stands for is not for writing
            file = openfile.find(fd) if error.errno == errno.EBADF else None
            if file is None:
                raise
        return attach(file, fd, None if file.blocks else 0.0).send(data)


def get_blocking(fd: int, /) -> bool:
    """As `os.get_blocking()`."""
    file = inherited.find(fd)
    return _os.get_blocking(fd) if file is None else file.blocks


def set_blocking(fd: int, blocking: bool, /) -> None:
    """As `os.set_blocking()`."""
    file = inherited.find(fd)
    if file is None:
        _os.set_blocking(fd, blocking)
    else:
        file.blocks = bool(blocking)


def control(fd: Any, cmd: int, arg: Any = 0, /) -> Any:
    """As `fcntl.fcntl()`."""
    number = fd if isinstance(fd, int) or not hasattr(fd, "fileno") else fd.fileno()
    is_ours = cmd in (fcntl.F_GETFL, fcntl.F_SETFL) and isinstance(number, int)
    file = inherited.find(number) if is_ours else None
    if file is None:
        result = _fcntl.fcntl(fd, cmd, arg)
        return _noticed(result) if cmd in (fcntl.F_DUPFD, fcntl.F_DUPFD_CLOEXEC) else result
    if cmd == fcntl.F_GETFL:
        return os.O_RDWR | (0 if file.blocks else os.O_NONBLOCK)
    file.blocks = not arg & os.O_NONBLOCK
    return 0


def sendfile(out_fd: int, in_fd: int, offset: Any, count: int, *args: Any, **kwargs: Any) -> int:
    """As `os.sendfile()`."""
    file = openfile.find(out_fd)
    if file is None:
        return _sendfile(out_fd, in_fd, offset, count, *args, **kwargs)
    file.enter()
    try:
        return file.state.send_file(in_fd, offset, count)
    finally:
        file.leave()


def patch(patches: Patches) -> None:
    """Make the sockets of the module virtual."""
    patches.set_special(socket.socket, "__bases__", (Methods, _socket.socket))
    patches.set_special(socket.socket._real_close, "__defaults__", (Methods,))  # type: ignore[attr-defined]
    patches.set(socket, "_socket", _CModule())
    patches.set(socket, "dup", dup)
    patches.set(socket, "close", close)
    patches.set(os, "sendfile", sendfile)
    patches.set(os, "dup", copy)
    patches.set(os, "dup2", copy_to)
    patches.set(os, "fdopen", open_file)
    patches.set(os, "close", _Close())
    patches.set(os, "write", _Write())
    patches.set(os, "get_blocking", get_blocking)
    patches.set(os, "set_blocking", set_blocking)
    patches.set(fcntl, "fcntl", control)
    for name in ("gethostbyaddr", "gethostbyname", "gethostbyname_ex", "getnameinfo", "getservbyname", "getservbyport"):
        patches.set(socket, name, getattr(names, name))
    for name in ("if_indextoname", "if_nameindex", "if_nametoindex"):
        patches.set(socket, name, getattr(interfaces, name))
