"""Real sockets, for all that is not loopback; and whether there may be any."""

from __future__ import annotations

import _socket
import errno
import os
from typing import Any

from socketless.loopback.pipes import failure
from socketless.loopback.virtual import Virtual

VARIABLE = "SOCKETLESS_LOOPBACK_ONLY"  # of the environment: not even try a real socket
# What sandboxes say of a socket; and ENETUNREACH, where the loopback interface is down.
_REFUSALS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT, errno.ENETUNREACH, errno.EADDRNOTAVAIL}


def forbid() -> None:
    """Let nobody of this process, or of those that it starts, even try a real socket."""
    os.environ[VARIABLE] = "1"


def is_forbidden() -> bool:
    """Whether nobody may."""
    return bool(os.environ.get(VARIABLE))


def become(sock: Any, virtual: Virtual) -> None:
    """Make a real socket of a virtual one that nobody is connected with. The object stays, and its number.

    Raises:
        OSError: the sandbox refuses one.
    """
    if is_forbidden():
        raise failure(errno.EPERM)
    file = virtual.file
    _adopt(sock, virtual, _socket.socket(file.family, file.kind, file.protocol))


def connect(sock: Any, virtual: Virtual, address: Any) -> None:
    """Connect to somebody on loopback who is not one of us. Where there is nobody, the socket stays virtual.

    Raises:
        OSError: ECONNREFUSED, where the sandbox has no real sockets; else what the kernel says.
    """
    if is_forbidden():
        virtual.refused()
    other: _socket.socket | None = None
    try:
        other = _socket.socket(virtual.family, virtual.type, virtual.proto)
        other.settimeout(virtual.timeout)
        other.connect(address)
    except BlockingIOError:
        assert other is not None
        _adopt(sock, virtual, other)
        raise
    except OSError as error:
        if other is not None:
            other.close()
        if error.errno not in _REFUSALS:
            raise
        virtual.refused()
    else:
        _adopt(sock, virtual, other)


def _adopt(sock: Any, virtual: Virtual, real: _socket.socket) -> None:
    number = real.detach()
    file = virtual.file
    _socket.socket.__init__(sock, file.family, file.kind, file.protocol, fileno=_moved(number, virtual))
    _socket.socket.settimeout(sock, virtual.timeout)
    for given in file.options.given:
        _socket.socket.setsockopt(sock, *given)


def _moved(number: int, virtual: Virtual) -> int:
    """Let the number of a virtual socket, if it has been asked for, stand for a real one."""
    if virtual.number < 0:
        virtual.file.close(-1)
        return number
    os.dup2(number, virtual.number, inheritable=False)
    os.close(number)
    virtual.file.close(virtual.number, keep_number=True)
    return virtual.number
