"""Names of hosts and services, as far as they need no network: numbers and localhost."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from loopback.checks import Index, Net, check

STREAM, DGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
V4, V6 = socket.AF_INET, socket.AF_INET6


def found(*args: Any, **kwargs: Any) -> list[tuple[int, int, int, str, Any]]:
    return socket.getaddrinfo(*args, **kwargs)


def error_of(*args: Any, **kwargs: Any) -> int:
    with pytest.raises(socket.gaierror) as raised:
        socket.getaddrinfo(*args, **kwargs)
    assert str(raised.value).startswith(f"[Errno {raised.value.errno}] ")
    return raised.value.errno or 0


@check("tcp4")
def numbers(net: Net) -> None:
    """A number is found for each type of socket, or for the one that is asked for."""
    assert found("127.0.0.1", 80) == [
        (V4, STREAM, 6, "", ("127.0.0.1", 80)),
        (V4, DGRAM, 17, "", ("127.0.0.1", 80)),
        (V4, socket.SOCK_RAW, 0, "", ("127.0.0.1", 80)),
    ]
    assert found("127.0.0.1", 80, type=STREAM) == [(V4, STREAM, 6, "", ("127.0.0.1", 80))]
    assert found("127.0.0.1", 80, proto=socket.IPPROTO_UDP) == [(V4, DGRAM, 17, "", ("127.0.0.1", 80))]
    assert found("::1", 80, 0, STREAM) == [(V6, STREAM, 6, "", ("::1", 80, 0, 0))]
    [(family, kind, *_)] = found("127.0.0.1", 80, type=STREAM)
    assert (family, kind) == (socket.AddressFamily.AF_INET, socket.SocketKind.SOCK_STREAM)
    assert isinstance(family, socket.AddressFamily)
    assert isinstance(kind, socket.SocketKind)


@check("tcp4")
def ports(net: Net) -> None:
    """A port is a number, a string, or nothing."""
    for port, number in ((80, 80), ("80", 80), (b"80", 80), (None, 0), (0, 0), ("0", 0)):
        assert found("127.0.0.1", port, V4, STREAM)[0][4] == ("127.0.0.1", number)
    for port, number in ((65536, 0), (65617, 81), (2**32 + 80, 80), (" 80", 80), ("+80", 80), ("65617", 81)):
        assert found("127.0.0.1", port, V4, STREAM)[0][4] == ("127.0.0.1", number)
    wrong: Any
    for wrong in (1.5, True):
        with pytest.raises(OSError, match="Int or String expected"):
            found("127.0.0.1", wrong)
    for wrong in (2**63, -(2**63) - 1):
        with pytest.raises(OverflowError, match="Python int too large to convert to C long"):
            found("127.0.0.1", wrong)
    for wrong in (-1, 2**31, 2**32 - 1, "-1", b"-1", "2147483648", "\N{ARABIC-INDIC DIGIT THREE}", "80 "):
        assert error_of("127.0.0.1", wrong) == socket.EAI_SERVICE
    assert error_of("127.0.0.1", "no such service") == socket.EAI_SERVICE
    assert error_of("127.0.0.1", "no such service", 0, STREAM) == socket.EAI_SERVICE


@check("tcp4")
def numbers_by_index(net: Net) -> None:
    """Everything but a port may be an object that stands for a number."""
    expected = [(V4, STREAM, 6, "", ("127.0.0.1", 80))]
    assert found("127.0.0.1", 80, Index(V4), Index(STREAM), Index(6), Index(0)) == expected
    for position, value in enumerate((V4, STREAM, 6, 0)):
        numbers: list[Any] = [V4, STREAM, 6, 0]
        numbers[position] = Index(value)
        assert found("127.0.0.1", 80, *numbers) == expected
        for wrong in (None, "1", 1.0):
            numbers[position] = wrong
            with pytest.raises(TypeError, match="object cannot be interpreted as an integer"):
                found("127.0.0.1", 80, *numbers)
    with pytest.raises(OSError, match="Int or String expected"):
        found("127.0.0.1", Index(80))
    flags: Any = Index(socket.NI_NUMERICHOST | socket.NI_NUMERICSERV)
    assert socket.getnameinfo(("127.0.0.1", 80), flags) == ("127.0.0.1", "80")


@check("tcp4")
def hosts(net: Net) -> None:
    """A host is a str, bytes, or nothing: that is this machine."""
    for host in ("127.0.0.1", b"127.0.0.1"):
        assert found(host, 80, V4, STREAM)[0][4] == ("127.0.0.1", 80)
    assert found(None, 80, V4, STREAM)[0][4] == ("127.0.0.1", 80)
    assert found(None, 80, V6, STREAM)[0][4] == ("::1", 80, 0, 0)
    assert found(None, 80, V4, STREAM, 0, socket.AI_PASSIVE)[0][4] == ("0.0.0.0", 80)
    assert found(None, 80, V6, STREAM, 0, socket.AI_PASSIVE)[0][4] == ("::", 80, 0, 0)
    assert error_of("", 80) == socket.EAI_NONAME
    assert found("0.0.0.0", 80, V4, STREAM)[0][4] == ("0.0.0.0", 80)
    assert {entry[0] for entry in found(None, 80, type=STREAM)} == {V4, V6}
    with pytest.raises(TypeError, match="must be string"):
        found(1, 80)
    assert error_of(None, None) == socket.EAI_NONAME


@check("tcp4")
def localhost(net: Net) -> None:
    """localhost is 127.0.0.1, whatever else it may be."""
    assert (V4, STREAM, 6, "", ("127.0.0.1", 80)) in found("localhost", 80, type=STREAM)
    assert found("localhost", 80, V4, STREAM) == [(V4, STREAM, 6, "", ("127.0.0.1", 80))]
    assert {entry[4][0] for entry in found("localhost", 80)} <= {"127.0.0.1", "::1"}
    assert found("LocalHost", 80, V4, DGRAM)[0][4] == ("127.0.0.1", 80)
    assert socket.gethostbyname("localhost") == "127.0.0.1"
    assert "127.0.0.1" in socket.gethostbyname_ex("localhost")[2]


@check("tcp4")
def canonical_name(net: Net) -> None:
    """The canonical name of a number is the number."""
    assert found("127.0.0.1", 80, V4, STREAM, 0, socket.AI_CANONNAME)[0][3] == "127.0.0.1"


@check("tcp4")
def what_is_not_found(net: Net) -> None:
    """A number of the other family, and a name where only numbers are wanted, are not found."""
    assert error_of("::1", 80, V4) == socket.EAI_ADDRFAMILY
    assert error_of("127.0.0.1", 80, V6) == socket.EAI_ADDRFAMILY
    assert error_of("localhost", 80, flags=socket.AI_NUMERICHOST) == socket.EAI_NONAME
    assert error_of("127.0.0.1", "http", 0, STREAM, 0, socket.AI_NUMERICSERV) == socket.EAI_NONAME
    assert error_of("127.0.0.1", 80, 999) == socket.EAI_FAMILY
    assert error_of("127.0.0.1", 80, V4, 99) == socket.EAI_SOCKTYPE
    assert error_of("no such host", 80) == socket.EAI_NONAME
    assert error_of("127.0.0.256", 80) == socket.EAI_NONAME


@check("tcp4")
def mapped(net: Net) -> None:
    """AI_V4MAPPED finds an IPv4 number for IPv6."""
    flags = socket.AI_V4MAPPED | socket.AI_NUMERICHOST
    assert found("127.0.0.1", 80, V6, STREAM, 0, flags)[0][4] == ("::ffff:127.0.0.1", 80, 0, 0)


@check("tcp4")
def by_number(net: Net) -> None:
    """gethostbyname() leaves a number as it is, and getnameinfo() gives it back."""
    assert socket.gethostbyname("127.0.0.1") == "127.0.0.1"
    assert socket.gethostbyname("") == "0.0.0.0"
    assert socket.gethostbyname("<broadcast>") == "255.255.255.255"
    assert socket.gethostbyname_ex("127.0.0.1") == ("127.0.0.1", [], ["127.0.0.1"])
    flags = socket.NI_NUMERICHOST | socket.NI_NUMERICSERV
    assert socket.getnameinfo(("127.0.0.1", 80), flags) == ("127.0.0.1", "80")
    assert socket.getnameinfo(("::1", 80, 0, 0), flags) == ("::1", "80")
    with pytest.raises(socket.gaierror):
        socket.getnameinfo(("localhost.no such host", 80), flags)


@check("tcp4")
def of_this_machine(net: Net) -> None:
    """A machine has a name."""
    assert socket.gethostname()
    assert socket.getfqdn("127.0.0.1")
    assert socket.getfqdn()


@check("tcp4")
def interfaces(net: Net) -> None:
    """Loopback is an interface, which has a number and a name."""
    found = dict(socket.if_nameindex())
    assert found[socket.if_nametoindex("lo")] == "lo"
    for number, name in found.items():
        assert socket.if_nametoindex(name) == number
        assert socket.if_indextoname(number) == name
    with pytest.raises(OSError, match="no interface with this name|No such device"):
        socket.if_nametoindex("no such one")
    with pytest.raises(OSError, match="No such device or address"):
        socket.if_indextoname(1 << 20)
    with pytest.raises(ValueError, match="embedded null byte"):
        socket.if_nametoindex("lo\0")
    for wrong in (1, None):
        with pytest.raises(TypeError):
            socket.if_nametoindex(wrong)  # type: ignore[arg-type]
