"""The machine's network interfaces, without asking the kernel by a socket: loopback's, and what /sys tells."""

from __future__ import annotations

import _socket
import errno
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from socketless._loopback import families
from socketless._loopback.arguments import number
from socketless._loopback.pipes import failure
from socketless._loopback.system import os, read_file

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

T = TypeVar("T")
_SYS = "/sys/class/net"


def if_nameindex() -> list[tuple[int, str]]:
    """As `socket.if_nameindex()`."""
    return _asked(_socket.if_nameindex) or _interfaces()


def if_nametoindex(name: str, /) -> int:
    """As `socket.if_nametoindex()`."""
    wanted = os.fsdecode(name)
    if "\0" in wanted:
        raise ValueError("embedded null byte")
    found = _asked(lambda: _socket.if_nametoindex(name))
    if found is None:
        found = next((index for index, known in _interfaces() if known == wanted), None)
    if found is None:
        raise OSError("no interface with this name")
    return found


def if_indextoname(index: int, /) -> str:
    """As `socket.if_indextoname()`."""
    wanted = number(index)
    found = _asked(lambda: _socket.if_indextoname(wanted))
    if found is None:
        found = next((name for known, name in _interfaces() if known == wanted), None)
    if found is None:
        raise failure(errno.ENXIO)
    return found


def _asked(function: Callable[[], T]) -> T | None:
    # What is refused and what there is not are one error to some versions of Python.
    if not families.are_real_forbidden():
        with suppress(OSError):
            return function()
    return None


def _interfaces() -> list[tuple[int, str]]:
    found = []
    with suppress(OSError):
        for name in os.listdir(_SYS):
            with suppress(OSError, ValueError):
                found.append((int(read_file(f"{_SYS}/{name}/ifindex")), name))
    return sorted(found) or [(1, "lo")]
