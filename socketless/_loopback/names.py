"""Names of loopback, without a resolver: some sandboxes have no /etc/hosts, and the C library may ask by a socket.

Where the process would be killed for a socket, nothing else is asked for either.
"""

from __future__ import annotations

import _socket
import re
import sys
from _socket import (
    AF_INET,
    AF_INET6,
    AF_UNSPEC,
    AI_CANONNAME,
    AI_NUMERICHOST,
    AI_NUMERICSERV,
    AI_PASSIVE,
    AI_V4MAPPED,
    EAI_ADDRFAMILY,
    EAI_AGAIN,
    EAI_FAMILY,
    EAI_NONAME,
    EAI_SERVICE,
    EAI_SOCKTYPE,
    IPPROTO_TCP,
    IPPROTO_UDP,
    NI_NUMERICHOST,
    NI_NUMERICSERV,
    SOCK_DGRAM,
    SOCK_RAW,
    SOCK_STREAM,
    gaierror,
    gethostname,
    inet_aton,
    inet_ntop,
    inet_pton,
)
from collections.abc import Callable
from typing import Any, TypeVar

from socketless._loopback import arguments, families

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

# IPv4 comes first: most servers that tests start listen there alone, and a refusal on the way costs time.
_HOSTS = {AF_INET: "127.0.0.1", AF_INET6: "::1"}
_NAMES = {"localhost", "localhost.localdomain", "ip6-localhost", "ip6-loopback"}
_ANY = {AF_INET: "0.0.0.0", AF_INET6: "::"}
_KINDS = ((SOCK_STREAM, IPPROTO_TCP), (SOCK_DGRAM, IPPROTO_UDP), (SOCK_RAW, 0))
_SERVICES = {"http": 80, "https": 443, "ftp": 21, "smtp": 25, "domain": 53}
_PORTS = {port: name for name, port in _SERVICES.items()}

_NUMBER = re.compile(r"\s*[+-]?[0-9]+", re.ASCII)

Entry = tuple[int, int, int, str, Any]
T = TypeVar("T")


def is_loopback_name(host: str) -> bool:
    """Whether a name is that of loopback (RFC 6761, section 6.3)."""
    name = host.lower().rstrip(".")
    if name in _NAMES or name.endswith(".localhost"):
        return True
    return families.are_real_forbidden() and host == gethostname()


def _by_c(function: Callable[..., T], *args: Any) -> T:
    """Ask the C library."""
    if families.are_real_forbidden():
        raise gaierror(EAI_AGAIN, "Temporary failure in name resolution")
    return function(*args)


def loopback_address(host: str, family: int) -> str | None:
    """Return the address of a name of loopback; `None`: it is not one."""
    return _HOSTS[family] if is_loopback_name(host) else None


def getaddrinfo(host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0) -> list[Any]:
    """As `_socket.getaddrinfo()`; the C library is asked for what is neither a number nor a name of loopback."""
    name = _text(host)
    family, type, proto, flags = map(arguments.number, (family, type, proto, flags))
    if name == "" or (name is None and port is None):
        raise gaierror(EAI_NONAME, "Name or service not known")
    addresses = _addresses(name, family, flags)
    if addresses is None:
        return _by_c(_socket.getaddrinfo, host, port, family, type, proto, flags)
    sys.audit("socket.getaddrinfo", host, port, family, type, proto)
    kinds = [(kind, number) for kind, number in _KINDS if type in (0, kind) and proto in (0, number)]
    if type == SOCK_RAW:
        kinds = [(SOCK_RAW, proto)]
    if not kinds:
        raise gaierror(EAI_SOCKTYPE, "ai_socktype not supported")
    canonical = (name or "") if flags & AI_CANONNAME else ""
    port = _port(port, kinds, flags)
    found: list[Entry] = []
    for of_family, address in addresses:
        for kind, number in kinds:
            end = (address, port) if of_family == AF_INET else (address, port, 0, 0)
            found.append((of_family, kind, number, canonical, end))
            canonical = ""
    return found


def _text(host: Any) -> str | None:
    if host is None:
        return None
    if isinstance(host, str):
        return host
    if isinstance(host, (bytes, bytearray)):
        return bytes(host).decode("ascii", "replace")
    raise TypeError("getaddrinfo() argument 1 must be string or None")


def _addresses(host: str | None, family: int, flags: int) -> list[tuple[int, str]] | None:
    """Return the families and addresses of a host; `None`: that is for the C library to say."""
    if family not in (AF_UNSPEC, AF_INET, AF_INET6):
        raise gaierror(EAI_FAMILY, "ai_family not supported")
    if host is None:
        own = _ANY if flags & AI_PASSIVE else _HOSTS
        return [(one, own[one]) for one in _HOSTS if family in (AF_UNSPEC, one)]
    number = _number(host)
    if number is not None:
        if family in (AF_UNSPEC, number[0]):
            return [number]
        if flags & AI_V4MAPPED:
            return None
        raise gaierror(EAI_ADDRFAMILY, "Address family for hostname not supported")
    if flags & AI_NUMERICHOST and "%" not in host:
        raise gaierror(EAI_NONAME, "Name or service not known")
    if is_loopback_name(host):
        return [(one, _HOSTS[one]) for one in _HOSTS if family in (AF_UNSPEC, one)]
    return None


def _number(host: str) -> tuple[int, str] | None:
    try:
        if ":" in host:
            return None if "%" in host else (AF_INET6, inet_ntop(AF_INET6, inet_pton(AF_INET6, host)))
        return (AF_INET, inet_ntop(AF_INET, inet_aton(host))) if host[:1].isdigit() else None
    except (OSError, ValueError):
        return None


def _port(port: Any, kinds: list[tuple[int, int]], flags: int) -> int:
    if port is None:
        return 0
    if isinstance(port, (bytes, bytearray)):
        port = bytes(port).decode("ascii", "replace")
    if isinstance(port, str):
        return _service(port, kinds, flags)
    if type(port) is not int:  # CPython takes no subclass of it, such as `bool`
        raise OSError("Int or String expected")
    if not -1 << 63 <= port < 1 << 63:
        raise OverflowError("Python int too large to convert to C long")
    return _service(str(port), kinds, flags)


def _service(name: str, kinds: list[tuple[int, int]], flags: int) -> int:
    if not name:
        return 0
    if _NUMBER.fullmatch(name):
        # As strtoul() says it, in an `int`; int() takes no more than 4300 digits.
        number = (max(-1, min(int(name), (1 << 64) - 1)) if len(name) < 100 else -1) & 0xFFFFFFFF
        if number >> 31:
            raise gaierror(EAI_SERVICE, "Servname not supported for ai_socktype")
        return number & 0xFFFF
    if flags & AI_NUMERICSERV:
        raise gaierror(EAI_NONAME, "Name or service not known")
    if name in _SERVICES:
        return _SERVICES[name]
    try:
        return _by_c(_socket.getservbyname, name, "udp" if kinds[0][0] == SOCK_DGRAM else "tcp")
    except OSError:
        raise gaierror(EAI_SERVICE, "Servname not supported for ai_socktype") from None


def gethostbyname(host: str) -> str:
    """As `socket.gethostbyname()`."""
    known = loopback_address(host, AF_INET) or _literal4(host)
    return _told("gethostbyname", host, known) if known else _by_c(_socket.gethostbyname, host)


def _told(event: str, asked: Any, answer: T) -> T:
    sys.audit(f"socket.{event}", asked)
    return answer


def _literal4(host: str) -> str | None:
    number = _number(host)
    return number[1] if number is not None and number[0] == AF_INET else None


def gethostbyname_ex(host: str) -> tuple[str, list[str], list[str]]:
    """As `socket.gethostbyname_ex()`."""
    known = loopback_address(host, AF_INET)
    return _told("gethostbyname", host, (host, [], [known])) if known else _by_c(_socket.gethostbyname_ex, host)


def gethostbyaddr(host: str) -> tuple[str, list[str], list[str]]:
    """As `socket.gethostbyaddr()`."""
    number = _number(host)
    if number is not None and number[1] in _HOSTS.values():
        return _told("gethostbyaddr", host, ("localhost", [], [number[1]]))
    if is_loopback_name(host):
        return _told("gethostbyaddr", host, (host, [], [_HOSTS[AF_INET]]))
    return _by_c(_socket.gethostbyaddr, host)


def getnameinfo(address: Any, flags: int) -> tuple[str, str]:
    """As `socket.getnameinfo()`."""
    if not isinstance(address, tuple) or len(address) < 2 or not isinstance(address[0], str):
        return _socket.getnameinfo(address, flags)
    flags = arguments.number(flags)
    number = _number(address[0])
    is_wrong = any(not 0 <= flow <= 0xFFFFF for flow in address[2:3])  # for C to say
    if is_wrong or number is None or number[1] not in _HOSTS.values():
        return _by_c(_socket.getnameinfo, address, flags)
    host, service = number[1] if flags & NI_NUMERICHOST else "localhost", str(address[1])
    if not flags & NI_NUMERICSERV and address[1]:
        if not families.are_real_forbidden():
            return _socket.getnameinfo(address, flags)
        service = _PORTS.get(address[1], service)
    return _told("getnameinfo", address, (host, service))


def getservbyname(name: str, *protocol: str) -> int:
    """As `socket.getservbyname()`."""
    if not families.are_real_forbidden():
        return _socket.getservbyname(name, *protocol)
    if name not in _SERVICES:
        raise OSError("service/proto not found")
    return _SERVICES[name]


def getservbyport(port: int, *protocol: str) -> str:
    """As `socket.getservbyport()`."""
    if not families.are_real_forbidden():
        return _socket.getservbyport(port, *protocol)
    if port not in _PORTS:
        raise OSError("port/proto not found")
    return _PORTS[port]


__all__ = [
    "EAI_NONAME",
    "getaddrinfo",
    "gethostbyaddr",
    "gethostbyname",
    "gethostbyname_ex",
    "getnameinfo",
    "getservbyname",
    "getservbyport",
]
