"""Addresses: which of them are on loopback, and how they are written.

A `Place` is what a socket can be bound to: a transport, a host or a path, and a port. It says nothing of who is there.
"""

from __future__ import annotations

import errno
from _socket import (
    AF_INET,
    AF_INET6,
    AF_UNIX,
    SOCK_DGRAM,
    SOCK_SEQPACKET,
    SOCK_STREAM,
    inet_aton,
    inet_ntop,
    inet_pton,
)
from typing import Any, NamedTuple

from socketless._loopback import names
from socketless._loopback.pipes import failure
from socketless._loopback.system import os

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

ANY4, ANY6 = "0.0.0.0", "::"
_LOOPBACK = {AF_INET: "127.0.0.1", AF_INET6: "::1"}
_ANY = {AF_INET: ANY4, AF_INET6: ANY6}
_MAPPED = "::ffff:"  # what an IPv4 address is written with where an IPv6 one is expected
_PATH_BYTES = 107  # what `struct sockaddr_un` has room for
_FAMILY_NAMES = {AF_INET: "AF_INET", AF_INET6: "AF_INET6"}
_TRANSPORTS = {
    (AF_INET, SOCK_STREAM): "tcp",
    (AF_INET6, SOCK_STREAM): "tcp",
    (AF_INET, SOCK_DGRAM): "udp",
    (AF_INET6, SOCK_DGRAM): "udp",
    (AF_UNIX, SOCK_STREAM): "unix-stream",
    (AF_UNIX, SOCK_DGRAM): "unix-dgram",
    (AF_UNIX, SOCK_SEQPACKET): "unix-seqpacket",
}


class Place(NamedTuple):
    """Where a socket of ours can be bound."""

    transport: str
    port: str  # of a UNIX socket, what its name is filed under
    host: str = ""
    family: int = AF_UNIX
    path: str | bytes = ""  # of a UNIX socket, its name as it was given

    @property
    def is_wildcard(self) -> bool:
        return self.host in (ANY4, ANY6)

    def sockname(self) -> Any:
        """Return it as `getsockname()` does."""
        if self.family == AF_UNIX:
            return self.path
        return inet_name(self.family, self.host, int(self.port))


def inet_name(family: int, host: str, port: int) -> Any:
    """Return a host and a port as `getsockname()` does; in IPv6's way, for an IPv4 host, too."""
    if family == AF_INET6:
        return (host if ":" in host else _MAPPED + host, port, 0, 0)
    return (host, port)


def nowhere(family: int) -> Any:
    """Return the name of a socket that has none."""
    return "" if family == AF_UNIX else inet_name(family, _ANY[family], 0)


def is_loopback(host: str) -> bool:
    """Whether a numeric host is this machine's loopback interface, or all its interfaces."""
    if ":" in host:
        return host in ("::1", ANY6)
    return host.startswith("127.") or host == ANY4


def reached(place: Place) -> Place:
    """Return where one gets who connects to it: a wildcard is the machine itself."""
    return place._replace(host=_LOOPBACK[place.family]) if place.is_wildcard else place


def home(place: Place) -> str:
    """Return the host that a connection to a place comes from."""
    return _LOOPBACK[AF_INET6 if ":" in place.host else AF_INET]


def resolve(call: str, family: int, kind: int, address: Any) -> Place | None:
    """Return the place that an address of `bind()` or `connect()` names; `None`: it is not on loopback.

    Raises:
        TypeError: it is no address of this family.
        OverflowError: there is no such port.
        OSError: there is no such host.
    """
    transport = _TRANSPORTS[family, kind]
    if family == AF_UNIX:
        return _resolve_path(call, transport, address)
    host, port = _host_and_port(call, family, address)
    number = numeric(family, host)
    if number is None or not is_loopback(number):
        return None
    # An IPv4 host in IPv6's dress is that host: the two families share the ports of a dual-stack socket.
    return Place(transport, str(port), number, AF_INET6 if ":" in number else AF_INET)


def check_shape(call: str, family: int, address: Any) -> None:
    """Raise what is wrong with an address that nothing will be sent to."""
    if family != AF_UNIX:
        _host_and_port(call, family, address)
    elif not isinstance(address, str):
        _path_like(address)


def _host_and_port(call: str, family: int, address: Any) -> tuple[str, int]:
    if not isinstance(address, tuple):
        raise TypeError(f"{call}(): {_FAMILY_NAMES[family]} address must be tuple, not {type(address).__name__}")
    longest = 2 if family == AF_INET else 4
    if not 2 <= len(address) <= longest:
        shape = "a pair (host, port)" if family == AF_INET else "a tuple (host, port[, flowinfo[, scopeid]])"
        raise TypeError(f"{_FAMILY_NAMES[family]} address must be {shape}")
    host, port = address[:2]
    if isinstance(host, (bytes, bytearray)):
        host = bytes(host).decode("ascii")
    if not isinstance(host, str):
        raise TypeError(f"str, bytes or bytearray expected, not {type(host).__name__}")
    if not hasattr(port, "__index__"):
        raise TypeError(f"'{type(port).__name__}' object cannot be interpreted as an integer")
    if not 0 <= port.__index__() <= 0xFFFF:
        raise OverflowError(f"{call}(): port must be 0-65535.")
    if any(not 0 <= flow.__index__() <= 0xFFFFF for flow in address[2:3]):
        raise OverflowError(f"{call}(): flowinfo must be 0-1048575.")
    return host, port.__index__()


def numeric(family: int, host: str) -> str | None:
    """Return a host as a number, an IPv4 one without IPv6's dress; `None`: it is a name, and not one of loopback."""
    if not host:
        return _ANY[family]
    number = _literal(family, host)
    if number is None:
        number = names.loopback_address(host, family)
    if number is not None and number.startswith(_MAPPED) and "." in number:
        return number.removeprefix(_MAPPED)
    return number


def _literal(family: int, host: str) -> str | None:
    try:
        if family == AF_INET:
            return inet_ntop(AF_INET, inet_aton(host)) if host[0].isdigit() else None
        return inet_ntop(AF_INET6, inet_pton(AF_INET6, host.partition("%")[0]))
    except (OSError, ValueError):
        return None


def _resolve_path(call: str, transport: str, address: Any) -> Place:
    if isinstance(address, (str, bytes, bytearray)) and not address:
        if call != "bind":
            raise failure(errno.EINVAL)
        address = b"\0" + os.urandom(3).hex()[:5].encode()  # unix(7): autobind
    path = address if isinstance(address, str) else bytes(memoryview(_path_like(address)))
    raw = os.fsencode(path) if isinstance(path, str) else path
    if len(raw) > _PATH_BYTES + raw.startswith(b"\0"):
        raise OSError("AF_UNIX path too long")
    if raw.startswith(b"\0"):
        return Place(transport, "@" + raw.hex(), path=raw)
    if b"\0" in raw:
        raise ValueError("embedded null byte") if isinstance(path, str) else failure(errno.EINVAL)
    return Place(transport, "", path=os.fsdecode(raw))  # filed under the file that it names, see `unix_files`


def _path_like(address: Any) -> Any:
    if not isinstance(address, (bytes, bytearray, memoryview)):
        raise TypeError(f"a bytes-like object is required, not '{type(address).__name__}'")
    return address
