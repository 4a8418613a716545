"""Options of a virtual socket: kept, and told as the kernel tells them. A few of them say what the socket does."""

from __future__ import annotations

import errno
import struct
import sys
from _socket import (
    AF_INET6,
    AF_UNIX,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_TCP,
    IPPROTO_UDP,
    IPV6_MULTICAST_HOPS,
    IPV6_MULTICAST_LOOP,
    IPV6_UNICAST_HOPS,
    IPV6_V6ONLY,
    SO_ACCEPTCONN,
    SO_BINDTODEVICE,
    SO_BROADCAST,
    SO_DEBUG,
    SO_DOMAIN,
    SO_DONTROUTE,
    SO_ERROR,
    SO_KEEPALIVE,
    SO_LINGER,
    SO_OOBINLINE,
    SO_PEERCRED,
    SO_PROTOCOL,
    SO_RCVBUF,
    SO_RCVLOWAT,
    SO_RCVTIMEO,
    SO_REUSEADDR,
    SO_REUSEPORT,
    SO_SNDBUF,
    SO_SNDTIMEO,
    SO_TYPE,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_CORK,
    TCP_INFO,
    TCP_KEEPCNT,
    TCP_KEEPIDLE,
    TCP_KEEPINTVL,
    TCP_MAXSEG,
    TCP_NODELAY,
    TCP_SYNCNT,
)
from operator import index
from typing import Any

from socketless._loopback import interfaces
from socketless._loopback.pipes import failure
from socketless._loopback.state import State
from socketless._loopback.system import os

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

Key = tuple[int, int]
Value = int | bytes

_READ_ONLY = {SO_TYPE, SO_ERROR, SO_ACCEPTCONN, SO_DOMAIN, SO_PROTOCOL, SO_PEERCRED}
_SIZES = {SO_SNDBUF: 4608, SO_RCVBUF: 2304}  # and the least that the kernel makes of them, see socket(7)
_STRUCTURES = {SO_LINGER: 8, SO_RCVTIMEO: 16, SO_SNDTIMEO: 16}
_SWITCHES: set[Key] = {
    *((SOL_SOCKET, one) for one in (SO_BROADCAST, SO_DEBUG, SO_DONTROUTE, SO_KEEPALIVE, SO_OOBINLINE)),
    *((SOL_SOCKET, one) for one in (SO_REUSEADDR, SO_REUSEPORT)),
    *((IPPROTO_TCP, one) for one in (TCP_CORK, TCP_NODELAY)),
    (IPPROTO_IPV6, IPV6_V6ONLY),
}
_POSITIVE: set[Key] = {(IPPROTO_TCP, one) for one in (TCP_KEEPCNT, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_SYNCNT)}
_LAST = 100  # of the numbers that the kernel has for options; of no level are there more
_LONGEST = 1024  # bytes that Python asks getsockopt() for
_LONGEST_DEVICE = 15  # bytes of the name of an interface, <linux/if.h>

_IP_TTL, _IP_MULTICAST_TTL, _IP_MULTICAST_LOOP = 2, 33, 34  # <linux/in.h>
_DEFAULTS: dict[Key, Value] = {
    (SOL_SOCKET, SO_SNDBUF): 212992,
    (SOL_SOCKET, SO_RCVBUF): 212992,
    (SOL_SOCKET, SO_RCVLOWAT): 1,
    (SOL_SOCKET, SO_BINDTODEVICE): b"",
    **{(SOL_SOCKET, option): bytes(size) for option, size in _STRUCTURES.items()},
    (IPPROTO_TCP, TCP_MAXSEG): 65483,
    (IPPROTO_TCP, TCP_KEEPIDLE): 7200,
    (IPPROTO_TCP, TCP_KEEPINTVL): 75,
    (IPPROTO_TCP, TCP_KEEPCNT): 9,
    (IPPROTO_TCP, TCP_SYNCNT): 6,
    (IPPROTO_IP, _IP_TTL): 64,
    (IPPROTO_IP, _IP_MULTICAST_TTL): 1,
    (IPPROTO_IP, _IP_MULTICAST_LOOP): 1,
    (IPPROTO_IPV6, IPV6_UNICAST_HOPS): 64,
    (IPPROTO_IPV6, IPV6_MULTICAST_HOPS): 1,
    (IPPROTO_IPV6, IPV6_MULTICAST_LOOP): 1,
}


class Options:
    """The options of a socket."""

    def __init__(self, family: int, kind: int) -> None:
        self._family, self._kind = family, kind
        self._values: dict[Key, Value] = {}
        # The arguments of each setsockopt(), for a socket that becomes a real one.
        self.given: list[tuple[Any, ...]] = []

    def set(self, level: int, option: int, value: Any, length: int | None = None) -> None:
        """As `setsockopt()`.

        Raises:
            OSError: there is no such option, or no such value of it.
            TypeError: it is no value of an option at all.
        """
        kept = _number_or_bytes(value, length)
        self._check(level, option)
        if level == SOL_SOCKET and option in _READ_ONLY:
            raise failure(errno.ENOPROTOOPT)
        self._values[level, option] = _kept(level, option, kept)
        self.given.append((level, option, value) if length is None else (level, option, value, length))

    def get(self, level: int, option: int, size: int = 0) -> Value:
        """As `getsockopt()`: a number, or up to so many bytes.

        Raises:
            OSError: there is no such option, or there is no such size.
        """
        self._check(level, option)
        return _told(self._values.get((level, option), _DEFAULTS.get((level, option), 0)), size)

    def fixed(self, state: State, protocol: int, level: int, option: int, size: int) -> Value | None:
        """Return an option that nobody can set; `None`: it is none of them."""
        if (level, option) == (IPPROTO_TCP, TCP_INFO) and self._kind == SOCK_STREAM and self._family != AF_UNIX:
            return _told(bytes([state.tcp_state]).ljust(_LONGEST, b"\0"), size)
        if level != SOL_SOCKET:
            return None
        if option == SO_PEERCRED:
            is_known = state.peer_pid and self._family == AF_UNIX
            peer = (state.peer_pid, os.getuid(), os.getgid()) if is_known else (0, -1, -1)
            return _told(struct.pack("3i", *peer), size)
        if option == SO_PROTOCOL:
            protocol = protocol or self.protocol
        fixed = {SO_TYPE: self._kind, SO_DOMAIN: self._family, SO_PROTOCOL: protocol, SO_ACCEPTCONN: state.is_listening}
        return None if option not in fixed else _told(int(fixed[option]), size)

    @property
    def protocol(self) -> int:
        """The protocol that the kernel chooses for a socket of this kind."""
        if self._family == AF_UNIX:
            return 0
        return IPPROTO_TCP if self._kind == SOCK_STREAM else IPPROTO_UDP

    def _check(self, level: int, option: int) -> None:
        if level != SOL_SOCKET and self._family == AF_UNIX:
            raise failure(errno.EOPNOTSUPP)
        levels = {SOL_SOCKET, IPPROTO_IP, self.protocol}
        if self._family == AF_INET6:
            levels.add(IPPROTO_IPV6)
        if level not in levels or not 0 < option <= _LAST:
            raise failure(errno.ENOPROTOOPT)

    def inherit(self, other: Options) -> None:
        """Have what another one has: a connection of IP has its listener's."""
        if self._family != AF_UNIX:
            self._values.update(other._values)

    def is_on(self, option: int) -> bool:
        """Whether an option of the socket's own level is on."""
        return self.flag(SOL_SOCKET, option)

    def flag(self, level: int, option: int) -> bool:
        """Whether an option of any level is on."""
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


def _number_or_bytes(value: Any, length: int | None) -> Value:
    if value is None and length is not None:
        return bytes(length)
    if hasattr(value, "__index__"):
        return index(value)
    try:
        return bytes(memoryview(value))
    except TypeError:
        raise TypeError(f"a bytes-like object is required, not '{type(value).__name__}'") from None


def _kept(level: int, option: int, value: Value) -> Value:
    """Return what the kernel makes of a value."""
    key = (level, option)
    if key == (SOL_SOCKET, SO_BINDTODEVICE):
        return _device(value)
    if level == SOL_SOCKET and option in _STRUCTURES:
        if isinstance(value, int) or len(value) < _STRUCTURES[option]:
            raise failure(errno.EINVAL)
        return value
    if isinstance(value, bytes):
        if level == SOL_SOCKET and len(value) < 4:
            raise failure(errno.EINVAL)
        if len(value) != 4:
            return value  # a group's address, a congestion control's name
        value = int.from_bytes(value, sys.byteorder, signed=True)
    if key in _POSITIVE and value < 1:
        raise failure(errno.EINVAL)
    if level == SOL_SOCKET and option in _SIZES:
        return max(2 * value, _SIZES[option])
    return int(bool(value)) if key in _SWITCHES else value


def _device(value: Value) -> bytes:
    """Return the name of an interface; none: of no one."""
    name = (struct.pack("i", value) if isinstance(value, int) else value)[:_LONGEST_DEVICE].partition(b"\0")[0]
    if not name:
        return b""
    try:
        interfaces.if_nametoindex(os.fsdecode(name))
    except OSError:
        raise failure(errno.ENODEV) from None
    return name + b"\0"


def _told(value: Value, size: int) -> Value:
    if not 0 <= size <= _LONGEST:
        raise OSError("getsockopt buflen out of range")
    if size:
        return (value if isinstance(value, bytes) else struct.pack("i", value))[:size]
    return value if isinstance(value, int) else int.from_bytes(value[:4], sys.byteorder, signed=True)
