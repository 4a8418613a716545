"""The names of sockets: what they can be bound to, when a name is in use, and how addresses look."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from loopback.checks import IP, STREAMS, UNIX, Net, check, fails, receive, says

REUSE = socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
SHARE = socket.SOL_SOCKET, socket.SO_REUSEPORT, 1


@check(*STREAMS)
def without_a_name(net: Net) -> None:
    """A socket that is not bound has a name all the same, and no peer."""
    name = {"tcp4": ("0.0.0.0", 0), "tcp6": ("::", 0, 0, 0), "path": "", "abstract": ""}[net.kind]
    for type in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        one = net.stream(type)
        assert one.getsockname() == name
        with fails(errno.ENOTCONN):
            one.getpeername()


@check("pair")
def names_of_a_pair(net: Net) -> None:
    """The ends of a pair have empty names."""
    for one in net.pair():
        assert (one.getsockname(), one.getpeername()) == ("", "")


@check(*IP)
def names_of_a_connection(net: Net) -> None:
    """The name of one end is the peer of the other, for both ends of a connection."""
    client, server = net.pair()
    assert client.getsockname() == server.getpeername()
    assert server.getsockname() == client.getpeername()
    assert client.getsockname() != server.getsockname()
    for one in (client, server):
        host, port, *rest = one.getsockname()
        assert (host, rest) == (net.host, [0, 0] if net.family == socket.AF_INET6 else [])
        assert 1024 <= port <= 65535


@check(*UNIX)
def names_of_a_unix_connection(net: Net) -> None:
    """A UNIX client has no name, its server that of the listener."""
    listener = net.listener()
    address = listener.getsockname()
    client = net.connected_to(listener)
    server, peer = listener.accept()
    with server:
        assert (client.getsockname(), client.getpeername()) == ("", address)
        assert (server.getsockname(), server.getpeername(), peer) == (address, "", "")


@check(*IP)
def ephemeral_ports(net: Net) -> None:
    """Each bind() to port 0 takes another port."""
    bound = [net.bound() for _ in range(50)]
    ports = {one.getsockname()[1] for one in bound}
    assert len(ports) == 50
    assert all(1024 <= port <= 65535 for port in ports)


@check(*STREAMS)
def binds_once(net: Net) -> None:
    """A socket is bound once; one of IP not after it was connected, either."""
    bound = net.bound()
    with fails(errno.EINVAL):
        bound.bind(net.address())
    for one in net.pair() if net.is_ip else ():
        with fails(errno.EINVAL):
            one.bind(net.address())


@check(*STREAMS)
def in_use(net: Net) -> None:
    """A name that somebody has is in use, whether he listens or not, until he closes."""
    for taken in (net.bound(), net.listener()):
        with fails(errno.EADDRINUSE):
            net.stream().bind(taken.getsockname())
        address = taken.getsockname()
        taken.close()
        if net.kind == "path":
            os.unlink(address)
        net.stream().bind(address)


@check(*STREAMS)
def failed_bind_leaves_nothing(net: Net) -> None:
    """A socket whose bind() has failed can be bound elsewhere."""
    taken, other = net.listener(), net.stream()
    for _ in range(2):
        with fails(errno.EADDRINUSE):
            other.bind(taken.getsockname())
    other.bind(net.address())
    other.listen()
    net.connected_to(other)


@check(*IP)
def port_of_a_datagram(net: Net) -> None:
    """Ports of datagrams are others than those of streams, and in use in the same way."""
    listener = net.listener()
    one, other = net.stream(socket.SOCK_DGRAM), net.stream(socket.SOCK_DGRAM)
    one.bind(listener.getsockname())
    with fails(errno.EADDRINUSE):
        other.bind(listener.getsockname())


@check("tcp4")
def one_port_on_two_addresses(net: Net) -> None:
    """A port may be taken once on each address of the loopback, and the wildcard has all of them."""
    one, other, whole = net.listener(), net.stream(), net.stream()
    port = one.getsockname()[1]
    other.bind(("127.0.0.2", port))
    other.listen()
    with fails(errno.EADDRINUSE):
        whole.bind(("", port))
    for host, listener in (("127.0.0.1", one), ("127.0.0.2", other)):
        client = net.stream()
        client.connect((host, port))
        assert net.accepted(listener).getsockname() == (host, port)
        assert client.getpeername() == (host, port)
        assert client.getsockname()[0] == "127.0.0.1"


@check(*IP)
def wildcard(net: Net) -> None:
    """Who listens on all addresses is in the way of each, and accepts from each."""
    listener = net.stream()
    listener.bind(("", 0))
    listener.listen()
    host, port = listener.getsockname()[:2]
    assert host == net.wildcard
    with fails(errno.EADDRINUSE):
        net.stream().bind((net.host, port))
    for name in (net.host, net.wildcard, ""):
        client = net.stream()
        client.connect((name, port))
        server = net.accepted(listener)
        assert client.getpeername()[:2] == server.getsockname()[:2] == (net.host, port)


@check("tcp4")
def whole_loopback(net: Net) -> None:
    """All of 127.0.0.0/8 is this machine."""
    listener = net.stream()
    listener.bind(("0.0.0.0", 0))
    listener.listen()
    for host in ("127.0.0.1", "127.1.2.3", "127.255.255.254"):
        client = net.stream()
        client.connect((host, listener.getsockname()[1]))
        assert net.accepted(listener).getsockname()[0] == host
    one = net.stream()
    one.bind(("127.1.2.3", 0))
    assert one.getsockname()[0] == "127.1.2.3"


@check("tcp4")
def other_spellings(net: Net) -> None:
    """A host is also given as bytes, as a name, and in the short forms of an IPv4 address."""
    for host in ("127.0.0.1", b"127.0.0.1", bytearray(b"127.0.0.1"), "localhost", "127.1", "2130706433"):
        one = net.stream()
        one.bind((host, 0))
        assert one.getsockname()[0] == "127.0.0.1"


@check("tcp6")
def more_of_an_address(net: Net) -> None:
    """An IPv6 address has up to four parts, and only the first two are needed."""
    for rest in ((), (0,), (0, 0)):
        one = net.stream()
        one.bind(("::1", 0, *rest))
        assert one.getsockname()[0] == "::1"
        assert one.getsockname()[2:] == (0, 0)
    with says(OverflowError, "bind(): flowinfo must be 0-1048575."):
        net.stream().bind(("::1", 0, -1))


@check(*IP)
def elsewhere(net: Net) -> None:
    """An address that this machine does not have cannot be bound."""
    host = "2001:db8::1" if net.family == socket.AF_INET6 else "192.0.2.1"
    for type in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with fails(errno.EADDRNOTAVAIL):
            net.stream(type).bind((host, 0))


def error_of(call: Any, *args: object) -> str:
    try:
        call(*args)
    except Exception as error:
        return repr(error)
    return "no error"


@check(*IP)
def no_address_of_ip(net: Net) -> None:
    """What is no address is a TypeError or an OverflowError that says what is wrong with it."""
    one, family = net.stream(), net.family.name
    form = "a pair (host, port)" if family == "AF_INET" else "a tuple (host, port[, flowinfo[, scopeid]])"
    for name in ("bind", "connect", "connect_ex"):
        call = getattr(one, name)
        for port in (-1, 65536):
            assert error_of(call, (net.host, port)) == f"OverflowError('{name}(): port must be 0-65535.')"
        for wrong in ("127.0.0.1", None, ["127.0.0.1", 0]):
            text = f"{name}(): {family} address must be tuple, not {type(wrong).__name__}"
            assert error_of(call, wrong) == f"TypeError('{text}')"
        for wrong in (("127.0.0.1",), ("127.0.0.1", 0, 0, 0, 0)):
            assert error_of(call, wrong) == f"TypeError('{family} address must be {form}')"
        for host in (1, None):
            text = f"str, bytes or bytearray expected, not {type(host).__name__}"
            assert error_of(call, (host, 80)) == f"TypeError('{text}')"
        assert error_of(call, (net.host, "80")).startswith("TypeError(")
        assert error_of(call, ("a\0b", 0)) == "TypeError('host name must not contain null character')"
    assert one.getsockname()[1] == 0


@check(*IP)
def no_such_host(net: Net) -> None:
    """A name that nobody has, or an address of another family, is a gaierror."""
    other = "127.0.0.1" if net.family == socket.AF_INET6 else "::1"
    for host, number in (("no such host", socket.EAI_NONAME), (other, socket.EAI_ADDRFAMILY)):
        for name in ("bind", "connect", "connect_ex"):
            with pytest.raises(socket.gaierror) as raised:
                getattr(net.stream(), name)((host, 80))
            assert raised.value.errno == number


@check("path")
def no_address_of_unix(net: Net) -> None:
    """A name of a UNIX socket is a str or bytes that are not too long."""
    one = net.stream()
    for name in ("bind", "connect", "connect_ex"):
        call = getattr(one, name)
        for wrong in (1, None, Path("a"), ("127.0.0.1", 80)):
            text = f"a bytes-like object is required, not '{type(wrong).__name__}'"
            assert error_of(call, wrong) == f'TypeError("{text}")'
        for long in ("x" * 108, b"\0" + b"x" * 108):
            assert error_of(call, long) == "OSError('AF_UNIX path too long')"


@check("tcp4")
def reuse_of_the_bound(net: Net) -> None:
    """With SO_REUSEADDR on both, two may be bound to one port while none listens; only one of them can listen."""
    one, other = net.stream(), net.stream()
    for each in (one, other):
        each.setsockopt(*REUSE)
    one.bind(net.address())
    other.bind(one.getsockname())
    one.listen()
    with fails(errno.EADDRINUSE):
        other.listen()
    third = net.stream()
    third.setsockopt(*REUSE)
    with fails(errno.EADDRINUSE):
        third.bind(one.getsockname())


@check("tcp4")
def reuse_by_one_of_two(net: Net) -> None:
    """SO_REUSEADDR does nothing unless both have it."""
    one, other = net.bound(), net.stream()
    other.setsockopt(*REUSE)
    with fails(errno.EADDRINUSE):
        other.bind(one.getsockname())


@check(*IP)
def reuse_after_close(net: Net) -> None:
    """While connections of a closed listener live, its port is in use; with SO_REUSEADDR it is free."""
    for reuse in (False, True):
        listener = net.stream()
        if reuse:
            listener.setsockopt(*REUSE)
        listener.bind(net.address())
        listener.listen()
        net.connected_to(listener)
        net.accepted(listener)
        address = listener.getsockname()
        listener.close()
        with fails(errno.EADDRINUSE):
            net.stream().bind(address)
        if reuse:
            again = net.stream()
            again.setsockopt(*REUSE)
            again.bind(address)
            again.listen()
            net.connected_to(again)
            net.accepted(again)


@check(*IP)
def port_is_shared(net: Net) -> None:
    """With SO_REUSEPORT on all, several listen on one port, and each connection comes to one of them."""
    listeners = [net.stream() for _ in range(2)]
    address = net.address()
    for listener in listeners:
        listener.setsockopt(*SHARE)
        listener.bind(address)
        listener.listen()
        listener.setblocking(False)
        address = listener.getsockname()
    with fails(errno.EADDRINUSE):
        net.stream().bind(address)
    clients = [net.connected_to(listeners[0]) for _ in range(40)]
    accepted = [0, 0]
    for number, listener in enumerate(listeners):
        try:
            while True:
                net.accepted(listener)
                accepted[number] += 1
        except BlockingIOError:
            pass
    assert sum(accepted) == len(clients)
    listeners[0].close()
    net.connected_to(listeners[1])
    listeners[1].setblocking(True)
    net.accepted(listeners[1])


@check("tcp6")
def both_families(net: Net) -> None:
    """Who listens on :: has IPv4 as well, unless it says otherwise; then both families have the port."""
    for only in (0, 1):
        listener = net.stream()
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        listener.bind(("::", 0))
        listener.listen()
        port = listener.getsockname()[1]
        v4 = net.keep(socket.socket(socket.AF_INET))
        if only:
            assert v4.connect_ex(("127.0.0.1", port)) == errno.ECONNREFUSED
            net.keep(socket.socket(socket.AF_INET)).bind(("127.0.0.1", port))
        else:
            with fails(errno.EADDRINUSE):
                net.keep(socket.socket(socket.AF_INET)).bind(("127.0.0.1", port))
            v4.connect(("127.0.0.1", port))
            server, peer = listener.accept()
            with server:
                assert peer == ("::ffff:127.0.0.1", v4.getsockname()[1], 0, 0) == server.getpeername()
                assert server.getsockname() == ("::ffff:127.0.0.1", port, 0, 0)
                assert v4.getpeername() == ("127.0.0.1", port)


@check("tcp6")
def mapped_client(net: Net) -> None:
    """An IPv6 socket reaches IPv4 by a mapped address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = net.stream()
        client.connect(("::ffff:127.0.0.1", port))
        assert client.getpeername() == ("::ffff:127.0.0.1", port, 0, 0)
        server, peer = listener.accept()
        with server:
            assert peer == ("127.0.0.1", client.getsockname()[1])
            client.sendall(b"x")
            assert server.recv(1) == b"x"


@check("tcp6")
def dualstack_server(net: Net) -> None:
    """create_server(dualstack_ipv6=True) accepts both families."""
    assert socket.has_dualstack_ipv6()
    with socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port)) as client:
                client.sendall(b"x")
                with listener.accept()[0] as server:
                    assert receive(server, 1) == b"x"
    with socket.create_server(("", 0), family=socket.AF_INET6) as listener:
        assert listener.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY) == 1


@check("path")
def file_of_a_socket(net: Net) -> None:
    """bind() makes a file that is a socket, which stays until somebody unlinks it."""
    listener = net.listener()
    path = listener.getsockname()
    mode = os.stat(path).st_mode
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o777 & ~umask
    net.connected_to(listener)
    listener.close()
    assert os.path.exists(path)
    with fails(errno.EADDRINUSE):
        net.stream().bind(path)
    with fails(errno.ECONNREFUSED):
        net.stream().connect(path)
    os.unlink(path)
    with fails(errno.ENOENT):
        net.stream().connect(path)
    again = net.stream()
    again.bind(path)
    again.listen()
    net.connected_to(again)


@check("path")
def file_goes_away(net: Net) -> None:
    """A path that was unlinked can be bound anew, and each listener keeps its own connections."""
    one = net.listener()
    path = one.getsockname()
    early = net.connected_to(one)
    os.unlink(path)
    other = net.stream()
    other.bind(path)
    other.listen()
    late = net.stream()
    late.connect(path)
    for client, listener in ((early, one), (late, other)):
        client.sendall(b"x")
        assert net.accepted(listener).recv(1) == b"x"


@check("path")
def file_moves(net: Net) -> None:
    """A listener is reached by the file that it made, whatever that is called now."""
    listener = net.listener()
    path, moved, link = listener.getsockname(), net.path(), net.path()
    os.rename(path, moved)
    os.symlink(moved, link)
    for name in (moved, link, f"{os.path.dirname(moved)}/../{os.path.relpath(moved, os.path.dirname(net.folder()))}"):
        client = net.stream()
        client.connect(name)
        net.accepted(listener)
        assert client.getpeername() == listener.getsockname() == path
    with fails(errno.ENOENT):
        net.stream().connect(path)


@check("path")
def relative_path(net: Net) -> None:
    """A relative path is seen from the working folder of the moment, and stays relative in the name."""
    folder = os.getcwd()
    listener = net.stream()
    os.chdir(net.folder())
    try:
        listener.bind("relative")
        listener.listen()
    finally:
        os.chdir(folder)
    assert listener.getsockname() == "relative"
    client = net.stream()
    client.connect(f"{net.folder()}/relative")
    assert client.getpeername() == "relative"
    with fails(errno.ENOENT):
        net.stream().connect("relative")


@check("path")
def paths_that_cannot_be(net: Net) -> None:
    """bind() needs a folder to make the file in, and makes it where nothing is."""
    file = net.path()
    Path(file).write_text("")
    for path, number in (
        (net.path() + "/in no folder", errno.ENOENT),
        (file, errno.EADDRINUSE),
        (net.folder(), errno.EADDRINUSE),
        (file + "/below", errno.ENOTDIR),
    ):
        with fails(number):
            net.stream().bind(path)


@check("path")
def paths_as_bytes(net: Net) -> None:
    """A path may be bytes, not only of UTF-8, and is told as a str."""
    path = os.fsencode(net.path()) + b"\xff"
    listener = net.stream()
    listener.bind(path)
    listener.listen()
    assert listener.getsockname() == os.fsdecode(path)
    net.stream().connect(bytearray(path))
    longest = net.path()
    longest += "x" * (107 - len(longest))
    last = net.stream()
    last.bind(longest)
    assert last.getsockname() == longest


@check("abstract")
def autobind(net: Net) -> None:
    """A UNIX socket that is bound to nothing gets an abstract name of five hexadecimal digits."""
    one, other = net.stream(), net.stream(socket.SOCK_DGRAM)
    for each in (one, other):
        each.bind("")
        assert re.fullmatch(rb"\0[0-9a-f]{5}", each.getsockname())
    one.listen()
    net.connected_to(one)


@check("abstract")
def abstract_names(net: Net) -> None:
    """An abstract name is any bytes after a zero, told as bytes; it leaves no file, and ends with its socket."""
    for name in (
        b"\0",
        b"\0a\0b\0",
        "\0caf\xe9" + net.path(),
        b"\0" + b"x" * 107,
        bytearray(b"\0\xff" + net.address()),
    ):
        listener = net.stream()
        listener.bind(name)
        listener.listen()
        wanted = os.fsencode(name) if isinstance(name, str) else bytes(name)
        assert listener.getsockname() == wanted
        client = net.stream()
        client.connect(name)
        assert client.getpeername() == wanted
        listener.close()
        with fails(errno.ECONNREFUSED):
            net.stream().connect(name)
    one, other = net.bound(), net.stream(socket.SOCK_DGRAM)
    other.bind(one.getsockname())  # datagrams have names of their own


@check(*UNIX)
def kind_of_a_unix_socket(net: Net) -> None:
    """A stream does not connect to datagrams, nor a datagram socket to a listener."""
    datagram, listener = net.datagram(), net.listener()
    with fails(errno.EPROTOTYPE if net.kind == "path" else errno.ECONNREFUSED):
        net.stream().connect(datagram.getsockname())
    with fails(errno.EPROTOTYPE if net.kind == "path" else errno.ECONNREFUSED):
        net.stream(socket.SOCK_DGRAM).connect(listener.getsockname())
    with fails(errno.EPROTOTYPE if net.kind == "path" else errno.ECONNREFUSED):
        net.stream(socket.SOCK_DGRAM).sendto(b"x", listener.getsockname())


@check(*STREAMS)
def written_to_by_a_stale_number(net: Net) -> None:
    """A program that writes to numbers which it has closed, as waitress may, does no harm to a listener."""
    stale = [os.dup(0) for _ in range(8)]
    for number in stale:
        os.close(number)

    def write() -> None:
        for number in stale:
            with suppress(OSError):
                os.write(number, b"x")

    listener = net.stream()
    listener.bind(net.address())
    write()
    listener.listen()
    write()
    client = net.connected_to(listener)
    server = net.accepted(listener)
    client.sendall(b"tea")
    assert server.recv(10) == b"tea"


@check(*IP, *UNIX)
def datagrams_to_a_stale_number(net: Net) -> None:
    """Nor to a datagram socket."""
    stale = [os.dup(0) for _ in range(8)]
    for number in stale:
        os.close(number)
    one, other = net.datagram(), net.datagram()
    for number in stale:
        with suppress(OSError):
            os.write(number, b"x")
    other.sendto(b"tea", one.getsockname())
    assert one.recv(10) == b"tea"
