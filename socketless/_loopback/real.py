"""Real sockets, for all that is not loopback; and whether there may be any."""

from __future__ import annotations

import _socket
import errno
from typing import Any

from socketless._loopback import families
from socketless._loopback.pipes import failure
from socketless._loopback.system import os
from socketless._loopback.virtual import Virtual

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

# What sandboxes say of a socket; and ENETUNREACH, where the loopback interface is down.
_REFUSALS = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT, errno.ENETUNREACH, errno.EADDRNOTAVAIL}

_MOST_REMEMBERED = 10

refused: list[str] = []  # the last calls that needed a real socket where there is none to be had, for reports


def check_allowed() -> None:
    """Raise EPERM where the process would be killed for a real socket."""
    if families.are_real_forbidden():
        raise failure(errno.EPERM)


def create(virtual: Virtual) -> _socket.socket:
    """Make a real socket of the kind that a virtual one is.

    Raises:
        OSError: the sandbox refuses one.
    """
    check_allowed()
    return _socket.socket(virtual.family, virtual.type, virtual.proto)


def remember_refusal(call: str, arguments: tuple[Any, ...], error: OSError) -> None:
    """Remember that a call has failed, if it is for want of a socket."""
    if error.errno in _REFUSALS:
        refused.append(f"{call}({', '.join(map(repr, arguments))}): {error.strerror}")
        del refused[:-_MOST_REMEMBERED]


def connect(virtual: Virtual, address: Any) -> tuple[_socket.socket, OSError | None]:
    """Return a real socket that is connected to somebody on loopback who is not one of us, or is about to be.

    The error is for who does not wait. Where there is nobody, the virtual one stays as it is.

    Raises:
        OSError: ECONNREFUSED, where the sandbox has no real sockets; else what the kernel says.
    """
    sock: _socket.socket | None = None
    try:
        sock = create(virtual)
        sock.settimeout(virtual.timeout)
        sock.connect(address)
    except BlockingIOError as error:
        assert sock is not None
        return sock, error
    except OSError as error:
        if sock is not None:
            sock.close()
        if error.errno not in _REFUSALS:
            raise
        raise virtual.refused() from None
    return sock, None


def adopt(sock: Any, virtual: Virtual, real: _socket.socket) -> None:
    """Make a virtual socket the real one. The object stays, and its number."""
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
