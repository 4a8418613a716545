"""Options of a virtual socket: kept, and told as the kernel tells them. A few of them say what the socket does."""

from __future__ import annotations

import errno
import struct
from _socket import (
    AF_UNIX,
    IPPROTO_TCP,
    SO_ACCEPTCONN,
    SO_DOMAIN,
    SO_ERROR,
    SO_LINGER,
    SO_PEERCRED,
    SO_PROTOCOL,
    SO_RCVBUF,
    SO_RCVTIMEO,
    SO_REUSEADDR,
    SO_SNDBUF,
    SO_SNDTIMEO,
    SO_TYPE,
    SOL_SOCKET,
    TCP_MAXSEG,
)
from typing import Any

from socketless.loopback.pipes import failure
from socketless.loopback.system import os

Key = tuple[int, int]
Value = int | bytes

_READ_ONLY = {SO_TYPE, SO_ERROR, SO_ACCEPTCONN, SO_DOMAIN, SO_PROTOCOL, SO_PEERCRED}
_SIZES = {SO_SNDBUF: 4608, SO_RCVBUF: 2304}  # and the least that the kernel makes of them, see socket(7)
_STRUCTURES = {SO_LINGER: 8, SO_RCVTIMEO: 16, SO_SNDTIMEO: 16}
_DEFAULTS: dict[Key, Value] = {
    (SOL_SOCKET, SO_SNDBUF): 212992,
    (SOL_SOCKET, SO_RCVBUF): 212992,
    (IPPROTO_TCP, TCP_MAXSEG): 65483,
}


class Options:
    """The options of a socket."""

    def __init__(self) -> None:
        self._values: dict[Key, Value] = {}
        self.given: list[
            tuple[Any, ...]
        ] = []  # the arguments of each setsockopt(), for a socket that becomes a real one

    def set(self, level: int, option: int, value: Any, length: int | None = None) -> None:
        """As `setsockopt()`.

        Raises:
            OSError: there is no such option.
        """
        if level == SOL_SOCKET and option in _READ_ONLY:
            raise failure(errno.ENOPROTOOPT)
        self.given.append((level, option, value) if length is None else (level, option, value, length))
        self._values[level, option] = _kept(level, option, value, length)

    def get(self, level: int, option: int, size: int = 0) -> Value:
        """As `getsockopt()`: a number, or so many bytes."""
        value = self._values.get((level, option), _DEFAULTS.get((level, option), 0))
        if size:
            raw = value if isinstance(value, bytes) else struct.pack("i", value)
            return raw[:size] if value else bytes(min(size, _STRUCTURES.get(option, size)))
        return value if isinstance(value, int) else int.from_bytes(value[:4], "little", signed=True)

    def inherit(self, other: Options) -> None:
        """Have what another one has: a connection has its listener's."""
        self._values.update(other._values)

    def is_on(self, option: int) -> bool:
        """Whether an option of the socket's own level is on."""
        return bool(self._values.get((SOL_SOCKET, option)))

    def flag(self, level: int, option: int) -> bool:
        """Whether an option of another level is on."""
        return bool(self._values.get((level, option)))

    def number(self, option: int) -> int | None:
        """Return what was set of the socket's own level; `None`: nothing was."""
        value = self._values.get((SOL_SOCKET, option))
        return value if isinstance(value, int) else None

    def seconds(self, option: int) -> float | None:
        """Return a time limit, SO_RCVTIMEO or SO_SNDTIMEO; `None`: there is none."""
        value = self._values.get((SOL_SOCKET, option))
        if not isinstance(value, bytes):
            return None
        seconds, microseconds = struct.unpack("@ll", value[:16])
        return seconds + microseconds / 1e6 or None

    @property
    def resets(self) -> bool:
        """Whether to close is to reset: SO_LINGER with no time at all."""
        linger = self._values.get((SOL_SOCKET, SO_LINGER))
        if not isinstance(linger, bytes):
            return False
        is_on, seconds = struct.unpack("ii", linger[:8])
        return bool(is_on) and not seconds


def _kept(level: int, option: int, value: Any, length: int | None) -> Value:
    if value is None:
        return bytes(length or 0)
    if not hasattr(value, "__index__"):
        raw = bytes(value)
        if level == SOL_SOCKET and option in _STRUCTURES and len(raw) < _STRUCTURES[option]:
            raise failure(errno.EINVAL)
        return raw if len(raw) != 4 else int.from_bytes(raw, "little", signed=True)
    number = int(value)
    if level != SOL_SOCKET:
        return number
    if option in _STRUCTURES:
        raise failure(errno.EINVAL)
    if option in _SIZES:
        return max(2 * number, _SIZES[option])
    return int(bool(number)) if option == SO_REUSEADDR else number


def fixed(family: int, kind: int, protocol: int, is_listening: bool, option: int, peer: int) -> Value | None:
    """Return an option that nobody can set; `None`: it is none of them."""
    if option == SO_PEERCRED and family == AF_UNIX:
        return struct.pack("iii", peer or 0, os.getuid(), os.getgid())
    fixed = {SO_TYPE: kind, SO_DOMAIN: family, SO_PROTOCOL: protocol, SO_ACCEPTCONN: int(is_listening)}
    return fixed.get(option)
