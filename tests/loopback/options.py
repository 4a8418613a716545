"""Options of sockets: what is asked of them, and what is set."""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Any

import pytest

from loopback.checks import CONNECTED, IP, STREAMS, UNIX, Index, Net, check, fails

SOCKET = socket.SOL_SOCKET
TCP = socket.IPPROTO_TCP


@check(*STREAMS)
def what_it_is(net: Net) -> None:
    """A socket tells its type, family, protocol, and whether it listens."""
    listener, client, datagram = net.listener(), net.stream(), net.datagram()
    for one, type in ((listener, socket.SOCK_STREAM), (client, socket.SOCK_STREAM), (datagram, socket.SOCK_DGRAM)):
        assert one.getsockopt(SOCKET, socket.SO_TYPE) == type == one.type
        assert one.getsockopt(SOCKET, socket.SO_DOMAIN) == net.family == one.family
        protocol = (TCP if type == socket.SOCK_STREAM else socket.IPPROTO_UDP) if net.is_ip else 0
        assert one.getsockopt(SOCKET, socket.SO_PROTOCOL) == protocol
        assert one.getsockopt(SOCKET, socket.SO_ACCEPTCONN) == (one is listener)
        assert one.getsockopt(SOCKET, socket.SO_ERROR) == 0
        assert one.proto == 0


@check(*CONNECTED)
def switches(net: Net) -> None:
    """Switches are off, and stay as they are set."""
    options = [socket.SO_REUSEADDR, socket.SO_KEEPALIVE, socket.SO_BROADCAST, socket.SO_OOBINLINE]
    for one in net.pair():
        for option in options:
            assert one.getsockopt(SOCKET, option) == 0
            for value in (1, 0, 5, True, False):
                one.setsockopt(SOCKET, option, value)
                assert one.getsockopt(SOCKET, option) == bool(value)


@check(*IP)
def switches_of_tcp(net: Net) -> None:
    """Those of TCP, too."""
    for one in (net.stream(), net.listener(), *net.pair()):
        for option in (socket.TCP_NODELAY, socket.TCP_CORK):
            assert one.getsockopt(TCP, option) == 0
            one.setsockopt(TCP, option, 1)
            assert one.getsockopt(TCP, option) == 1
            one.setsockopt(TCP, option, 0)
            assert one.getsockopt(TCP, option) == 0
        one.setsockopt(TCP, socket.TCP_QUICKACK, 1)


@check(*IP)
def times_of_keepalive(net: Net) -> None:
    """The times of keep-alive probes are in seconds, and stay as they are set."""
    one = net.pair()[0]
    for option, default in ((socket.TCP_KEEPIDLE, 7200), (socket.TCP_KEEPINTVL, 75), (socket.TCP_KEEPCNT, 9)):
        assert one.getsockopt(TCP, option) == default
        one.setsockopt(TCP, option, 30)
        assert one.getsockopt(TCP, option) == 30
        with fails(errno.EINVAL):
            one.setsockopt(TCP, option, 0)
    one.setsockopt(TCP, socket.TCP_USER_TIMEOUT, 1000)
    assert one.getsockopt(TCP, socket.TCP_USER_TIMEOUT) == 1000


@check(*IP)
def more_of_tcp(net: Net) -> None:
    """What servers set on their listeners can be set."""
    listener = net.listener()
    listener.setsockopt(TCP, socket.TCP_FASTOPEN, 5)
    listener.setsockopt(TCP, socket.TCP_DEFER_ACCEPT, 1)
    for one in net.pair():
        assert one.getsockopt(TCP, socket.TCP_MAXSEG) > 500
        state = one.getsockopt(TCP, socket.TCP_INFO, 104)[0]
        assert state == 1  # TCP_ESTABLISHED


@check("tcp4")
def options_of_ip(net: Net) -> None:
    """Options of IPv4 can be set."""
    for one in (net.stream(), net.datagram()):
        assert one.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 64
        one.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 10)
        assert one.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 10
        assert one.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 0
        one.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 16)
        assert one.getsockopt(socket.IPPROTO_IP, socket.IP_TOS) == 16


@check("tcp6")
def options_of_ipv6(net: Net) -> None:
    """Options of IPv6 can be set; IPV6_V6ONLY not once it is bound."""
    level = socket.IPPROTO_IPV6
    for one in (net.stream(), net.stream(socket.SOCK_DGRAM)):
        assert one.getsockopt(level, socket.IPV6_UNICAST_HOPS) == 64
        assert one.getsockopt(level, socket.IPV6_V6ONLY) == 0
        one.setsockopt(level, socket.IPV6_V6ONLY, True)
        assert one.getsockopt(level, socket.IPV6_V6ONLY) == 1
        one.bind(net.address())
        with fails(errno.EINVAL):
            one.setsockopt(level, socket.IPV6_V6ONLY, 0)


@check(*CONNECTED)
def sizes_of_buffers(net: Net) -> None:
    """A buffer is twice as large as is asked for, and has a least size."""
    for one in net.pair():
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            assert one.getsockopt(SOCKET, option) > 16_000
            one.setsockopt(SOCKET, option, 50_000)
            assert one.getsockopt(SOCKET, option) == 100_000
            one.setsockopt(SOCKET, option, 0)
            assert 1000 < one.getsockopt(SOCKET, option) < 10_000


@check(*CONNECTED)
def linger(net: Net) -> None:
    """SO_LINGER is two numbers."""
    one = net.pair()[0]
    assert struct.unpack("ii", one.getsockopt(SOCKET, socket.SO_LINGER, 8)) == (0, 0)
    one.setsockopt(SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 5))
    assert struct.unpack("ii", one.getsockopt(SOCKET, socket.SO_LINGER, 8)) == (1, 5)
    with fails(errno.EINVAL):
        one.setsockopt(SOCKET, socket.SO_LINGER, b"\0")
    one.setsockopt(SOCKET, socket.SO_LINGER, struct.pack("ii", 0, 0))


@check(*CONNECTED)
def times(net: Net) -> None:
    """SO_RCVTIMEO and SO_SNDTIMEO are times."""
    one = net.pair()[0]
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        assert struct.unpack("ll", one.getsockopt(SOCKET, option, 16)) == (0, 0)
        one.setsockopt(SOCKET, option, struct.pack("ll", 5, 500_000))
        assert struct.unpack("ll", one.getsockopt(SOCKET, option, 16))[0] == 5


@check(*CONNECTED)
def as_bytes(net: Net) -> None:
    """An option may be asked for, and set, as bytes."""
    one = net.pair()[0]
    number = struct.Struct("i")
    one.setsockopt(SOCKET, socket.SO_KEEPALIVE, number.pack(1))
    assert one.getsockopt(SOCKET, socket.SO_KEEPALIVE, 4) == number.pack(1)
    assert one.getsockopt(SOCKET, socket.SO_KEEPALIVE, 2) == number.pack(1)[:2]
    assert one.getsockopt(SOCKET, socket.SO_TYPE, 100) == number.pack(socket.SOCK_STREAM)
    with fails(errno.EINVAL):
        one.setsockopt(SOCKET, socket.SO_KEEPALIVE, b"")
    for wrong in ("1", None, 1.5):
        with pytest.raises(TypeError):
            one.setsockopt(SOCKET, socket.SO_KEEPALIVE, wrong)
    for size in (-1, 1025):
        with pytest.raises(OSError, match="getsockopt buflen out of range"):
            one.getsockopt(SOCKET, socket.SO_TYPE, size)


@check(*CONNECTED)
def unknown(net: Net) -> None:
    """What nobody knows is no option; of TCP, a UNIX socket knows nothing."""
    one = net.pair()[0]
    for call in (lambda: one.getsockopt(SOCKET, 9999), lambda: one.setsockopt(SOCKET, 9999, 1)):
        with fails(errno.ENOPROTOOPT):
            call()
    if net.is_ip:
        with fails(errno.ENOPROTOOPT):
            one.getsockopt(TCP, 9999)
    else:
        with fails(errno.EOPNOTSUPP):
            one.getsockopt(TCP, socket.TCP_NODELAY)
        with fails(errno.EOPNOTSUPP):
            one.setsockopt(TCP, socket.TCP_NODELAY, 1)


@check(*STREAMS)
def accepted_like_the_listener(net: Net) -> None:
    """An accepted socket of IP has the options of its listener."""
    listener = net.listener()
    listener.setsockopt(SOCKET, socket.SO_KEEPALIVE, 1)
    listener.setsockopt(SOCKET, socket.SO_REUSEADDR, 1)
    if net.is_ip:
        listener.setsockopt(TCP, socket.TCP_NODELAY, 1)
    client = net.connected_to(listener)
    server = net.accepted(listener)
    assert server.getsockopt(SOCKET, socket.SO_KEEPALIVE) == net.is_ip
    assert server.getsockopt(SOCKET, socket.SO_REUSEADDR) == net.is_ip
    assert server.getsockopt(SOCKET, socket.SO_ACCEPTCONN) == 0
    assert client.getsockopt(SOCKET, socket.SO_KEEPALIVE) == 0
    if net.is_ip:
        assert server.getsockopt(TCP, socket.TCP_NODELAY) == 1


@check(*UNIX, "pair")
def who_is_there(net: Net) -> None:
    """A UNIX socket tells the process, user and group at the other end."""
    for one in net.pair():
        peer = struct.unpack("3i", one.getsockopt(SOCKET, socket.SO_PEERCRED, 12))
        assert peer == (os.getpid(), os.geteuid(), os.getegid())


@check(*IP)
def nobody_is_there(net: Net) -> None:
    """Another socket tells none."""
    peer = struct.unpack("3i", net.pair()[0].getsockopt(SOCKET, socket.SO_PEERCRED, 12))
    assert peer == (0, -1, -1)


@check(*IP)
def bytes_that_wait(net: Net) -> None:
    """FIONREAD tells how much there is to read."""
    import fcntl
    import termios

    one, other = net.pair()
    one.sendall(b"12345")
    assert struct.unpack("i", fcntl.ioctl(other, termios.FIONREAD, b"\0\0\0\0")) == (5,)


@check(*STREAMS)
def numbers_by_index(net: Net) -> None:
    """An option is named by what stands for a number, and by nothing else."""
    one = net.stream()
    level: Any = Index(SOCKET)
    option: Any = Index(socket.SO_KEEPALIVE)
    size: Any = Index(4)
    one.setsockopt(level, option, Index(1))
    assert one.getsockopt(level, option) == 1
    assert one.getsockopt(level, option, size) == struct.pack("i", 1)
    wrong: Any
    for wrong in (None, "1", 1.0):
        for call in (
            lambda: one.setsockopt(wrong, option, 1),  # noqa: B023
            lambda: one.setsockopt(level, wrong, 1),  # noqa: B023
            lambda: one.getsockopt(wrong, option),  # noqa: B023
            lambda: one.getsockopt(level, wrong),  # noqa: B023
            lambda: one.getsockopt(level, option, wrong),  # noqa: B023
        ):
            with pytest.raises(TypeError, match="object cannot be interpreted as an integer"):
                call()


@check(*IP)
def device(net: Net) -> None:
    """A socket is bound to an interface by its name, and to none by an empty one."""
    one = net.stream()
    for name, told in ((b"lo", b"lo\0"), (b"", b""), (b"lo\0", b"lo\0"), (0, b"")):
        one.setsockopt(SOCKET, socket.SO_BINDTODEVICE, name)
        assert one.getsockopt(SOCKET, socket.SO_BINDTODEVICE, 16) == told
    with fails(errno.ENODEV):
        one.setsockopt(SOCKET, socket.SO_BINDTODEVICE, b"none such")
    one.setsockopt(SOCKET, socket.SO_BINDTODEVICE, None, 0)
    assert one.getsockopt(SOCKET, socket.SO_BINDTODEVICE, 16) == b""


@check("tcp6")
def multicast6(net: Net) -> None:
    """Multicast goes one hop far, and back to this machine, unless something else is set."""
    for one in (net.stream(), net.datagram()):
        for option in (socket.IPV6_MULTICAST_HOPS, socket.IPV6_MULTICAST_LOOP):
            assert one.getsockopt(socket.IPPROTO_IPV6, option) == 1
