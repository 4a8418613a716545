"""The socket as an object and as a descriptor: what it is called, who holds it, and when it ends."""

from __future__ import annotations

import _socket
import copy
import errno
import fcntl
import gc
import io
import os
import pickle
import select
import signal
import socket
import stat
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from loopback.checks import (
    CONNECTED,
    IP,
    STREAMS,
    UNIX,
    Index,
    Net,
    check,
    fails,
    is_readable,
    receive,
    receive_all,
    says,
)


@check(*STREAMS)
def types(net: Net) -> None:
    """Family, type and protocol are members of their enumerations, whatever they were made from."""
    for one in (net.stream(), net.keep(socket.socket(int(net.family), int(socket.SOCK_STREAM)))):
        assert one.family is net.family
        assert one.type is socket.SOCK_STREAM
        assert one.proto == 0
    client, server = net.pair()
    for one in (client, server):
        assert (one.family, one.type, one.proto) == (net.family, socket.SOCK_STREAM, 0)
        assert type(one) is socket.socket
        assert isinstance(one, _socket.socket)
        assert isinstance(one, socket.SocketType)
        assert isinstance(one.fileno(), int)
        assert one.fileno() > 2


@check("tcp4")
def defaults(net: Net) -> None:
    """A socket is of IPv4 and a stream unless it is told otherwise."""
    one = net.keep(socket.socket())
    assert (one.family, one.type, one.proto) == (socket.AF_INET, socket.SOCK_STREAM, 0)
    other = net.keep(socket.socket(type=socket.SOCK_DGRAM, proto=socket.IPPROTO_UDP))
    assert (other.family, other.type, other.proto) == (socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_UDP)


@check(*STREAMS)
def kinds_that_cannot_be(net: Net) -> None:
    """A family, a type and a protocol must fit."""
    with fails(errno.EAFNOSUPPORT):
        socket.socket(999)
    with fails(errno.EINVAL, errno.ESOCKTNOSUPPORT):
        socket.socket(net.family, 99)
    with fails(errno.EPROTONOSUPPORT):
        socket.socket(net.family, socket.SOCK_STREAM, socket.IPPROTO_UDP)
    with pytest.raises(TypeError):
        socket.socket("tcp")


@check(*STREAMS)
def shown(net: Net) -> None:
    """repr() shows number, kind and names, and those only that there are."""
    kind = f"family={net.family!s}, type={socket.SOCK_STREAM!s}, proto=0"  # which differ before Python 3.11
    one = net.stream()
    start = f"<socket.socket fd={one.fileno()}, {kind}"
    assert repr(one) == (f"{start}, laddr={one.getsockname()}>" if net.is_ip else f"{start}>")
    client, server = net.pair()
    names = f"laddr={server.getsockname()}" + (f", raddr={server.getpeername()}" if net.is_ip else "")
    assert repr(server) == f"<socket.socket fd={server.fileno()}, {kind}, {names}>"
    raddr = f"raddr={client.getpeername()}"
    assert repr(client).endswith(f"laddr={client.getsockname()}, {raddr}>" if net.is_ip else f"{kind}, {raddr}>")
    client.close()
    assert repr(client) == f"<socket.socket [closed] fd=-1, {kind}>"


@check(*CONNECTED)
def in_a_block(net: Net) -> None:
    """A socket is a context manager that closes it."""
    one, other = net.pair()
    with one as entered:
        assert entered is one
    assert one.fileno() == -1
    assert other.recv(1) == b""


@check(*CONNECTED)
def neither_pickled_nor_copied(net: Net) -> None:
    """A socket is not pickled, nor copied."""
    one = net.pair()[0]
    for call in (pickle.dumps, copy.copy, copy.deepcopy):
        with says(TypeError, "cannot pickle 'socket' object"):
            call(one)


@check(*CONNECTED)
def as_a_key(net: Net) -> None:
    """A socket is equal to itself alone, can be a key, and be held weakly."""
    one, other = net.pair()
    assert one != other
    assert {one: 1, other: 2}[one] == 1
    held = weakref.ref(one)
    assert held() is one
    with pytest.raises(AttributeError):
        one.something_else = 1  # type: ignore[attr-defined]


@contextmanager
def warns_of_unclosed() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    texts = [str(warning.message) for warning in caught if warning.category is ResourceWarning]
    assert len(texts) == 1
    assert texts[0].startswith("unclosed <socket.socket fd=")


@check(*CONNECTED)
def dropped(net: Net) -> None:
    """A socket that is dropped open is closed, with a ResourceWarning."""
    if net.kind == "pair":
        one, other = socket.socketpair()
    else:
        listener = net.listener()
        one = socket.socket(net.family)
        one.connect(listener.getsockname())
        other = net.accepted(listener)
    net.keep(other)
    number = one.fileno()
    with warns_of_unclosed():
        del one
    assert other.recv(1) == b""
    with pytest.raises(OSError):
        os.fstat(number)


@check(*STREAMS)
def dropped_listener(net: Net) -> None:
    """So is a listener, whose name is free then, and which refuses."""
    listener = socket.socket(net.family)
    listener.bind(net.address())
    listener.listen()
    address = listener.getsockname()
    with warns_of_unclosed():
        del listener
    with fails(errno.ECONNREFUSED):
        net.stream().connect(address)


@check(*CONNECTED)
def closed_without_a_word(net: Net) -> None:
    """A socket that was closed, or detached, is dropped silently."""
    one, other = net.pair()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        copied = one.dup()
        os.close(copied.detach())
        copied.close()
        del copied
        gc.collect()
    one.sendall(b"x")
    assert other.recv(1) == b"x"


@check(*CONNECTED)
def detached(net: Net) -> None:
    """detach() gives the descriptor away; the object is closed, the connection is not."""
    one, other = net.pair()
    number = one.fileno()
    assert one.detach() == number
    assert one.fileno() == -1
    assert one.detach() == -1
    with fails(errno.EBADF):
        one.send(b"x")
    one.close()
    again = net.keep(socket.socket(fileno=number))
    assert again.fileno() == number
    again.sendall(b"still there")
    assert receive(other, 11) == b"still there"
    again.close()
    assert other.recv(1) == b""


@check(*CONNECTED)
def from_a_descriptor(net: Net) -> None:
    """socket(fileno=...) finds out what the descriptor is, and takes it over with its mode."""
    one, other = net.pair()
    one.setblocking(False)
    again = net.keep(socket.socket(fileno=one.detach()))
    assert (again.family, again.type) == (net.family, socket.SOCK_STREAM)
    assert again.proto == (socket.IPPROTO_TCP if net.is_ip else 0)
    assert again.gettimeout() is None
    again.setblocking(True)
    other.sendall(b"x")
    assert again.recv(1) == b"x"


@check(*STREAMS)
def listener_from_a_descriptor(net: Net) -> None:
    """A listener may be handed on by its number: systemd and reloaders do."""
    listener = net.listener()
    address = listener.getsockname()
    again = net.keep(socket.socket(fileno=listener.detach()))
    assert again.getsockname() == address
    client = net.connected_to(again)
    net.accepted(again).sendall(b"x")
    assert client.recv(1) == b"x"


@check(*STREAMS)
def copied_listener(net: Net) -> None:
    """A copy of a listener listens on after the first is closed."""
    listener = net.listener()
    copied = net.keep(listener.dup())
    listener.close()
    client = net.connected_to(copied)
    client.sendall(b"x")
    assert net.accepted(copied).recv(1) == b"x"
    with fails(errno.EADDRINUSE):
        net.stream().bind(copied.getsockname())


@check(*CONNECTED)
def copied(net: Net) -> None:
    """dup() and fromfd() make another socket of the same connection, which ends with the last of them."""
    one, other = net.pair()
    one.settimeout(7)
    second = net.keep(one.dup())
    third = net.keep(socket.fromfd(one.fileno(), one.family, one.type))
    assert len({one.fileno(), second.fileno(), third.fileno()}) == 3
    assert (second.gettimeout(), third.gettimeout()) == (7, None)
    assert second.getsockname() == one.getsockname()
    for each in (one, second, third):
        each.setblocking(True)
        other.sendall(b"x")
        assert each.recv(1) == b"x"
    one.close()
    second.sendall(b"of the second")
    assert receive(other, 13) == b"of the second"
    second.close()
    third.sendall(b"of the third")
    assert receive(other, 12) == b"of the third"
    third.close()
    assert other.recv(1) == b""


@check(*CONNECTED)
def copies_share(net: Net) -> None:
    """Copies share what can be read, whether they block, options, and shutdown."""
    one, other = net.pair()
    copied = net.keep(one.dup())
    other.sendall(b"abcdef")
    assert one.recv(3) == b"abc"
    assert copied.recv(3) == b"def"
    copied.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    copied.setblocking(False)
    assert not os.get_blocking(one.fileno())
    with fails(errno.EAGAIN):
        one.recv(1)
    copied.shutdown(socket.SHUT_WR)
    with fails(errno.EPIPE):
        one.send(b"x")
    assert other.recv(1) == b""


@check(*CONNECTED)
def copied_by_os(net: Net) -> None:
    """os.dup() copies the descriptor, from which a socket can be made."""
    one, other = net.pair()
    copied = net.keep(socket.socket(fileno=os.dup(one.fileno())))
    one.close()
    copied.sendall(b"x")
    assert other.recv(1) == b"x"
    copied.close()
    assert other.recv(1) == b""


@check(*CONNECTED)
def copied_and_closed(net: Net) -> None:
    """A copied descriptor keeps the connection open, though nobody has made a socket of it."""
    one, other = net.pair()
    number = one.detach()
    for copy_of in (
        lambda number: os.dup(number),
        lambda number: os.dup2(number, os.open(os.devnull, os.O_RDONLY)),
        lambda number: fcntl.fcntl(number, fcntl.F_DUPFD, 0),
        lambda number: fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, 0),
    ):
        before, number = number, copy_of(number)
        os.close(before)
        assert not is_readable(other, 0)
    copied = net.keep(socket.socket(fileno=number))
    copied.sendall(b"x")
    assert other.recv(1) == b"x"
    copied.close()
    assert other.recv(1) == b""


@check(*STREAMS)
def copied_before_it_is_connected(net: Net) -> None:
    """A descriptor that was copied before connect() stands for the connection after it."""
    listener, one = net.listener(), net.stream()
    copied = os.dup(one.fileno())
    one.connect(listener.getsockname())
    one.close()
    peer = net.keep(listener.accept()[0])
    peer.sendall(b"x")
    assert net.keep(socket.socket(fileno=copied)).recv(1) == b"x"


@check(*STREAMS)
def copies_that_files_close(net: Net) -> None:
    """A copy that a file object closes is gone: its number may be another file's, and the connection ends."""
    listener, one = net.listener(), net.stream()
    with open(os.devnull, "rb") as another:
        number = os.dup(one.fileno())
        open(number, "rb", buffering=0).close()
        os.dup2(another.fileno(), number)
        one.connect(listener.getsockname())
        peer = net.keep(listener.accept()[0])
        assert os.path.samestat(os.fstat(number), os.fstat(another.fileno()))
    one.close()
    assert peer.recv(1) == b""
    os.close(number)


@check(*CONNECTED)
def copies_are_ready_alike(net: Net) -> None:
    """What makes one copy readable makes the other so, and both cease together."""
    one, other = net.pair()
    copied = net.keep(one.dup())
    other.sendall(b"x")
    assert is_readable(one)
    assert is_readable(copied)
    assert one.recv(1) == b"x"
    assert not is_readable(copied, 0)
    assert not is_readable(one, 0)


@check(*CONNECTED)
def closed_by_number(net: Net) -> None:
    """os.close() and socket.close() of the descriptor close the connection; the object finds EBADF."""
    for close in (os.close, socket.close):
        one, other = net.pair()
        number = one.fileno()
        close(number)
        assert other.recv(1) == b""
        assert one.fileno() == number
        with fails(errno.EBADF):
            one.send(b"x")
        with fails(errno.EBADF):
            one.recv(1)
        with fails(errno.EBADF):
            one.close()
        assert one.fileno() == -1
    with fails(errno.EBADF):
        socket.close(number)


@check("tcp4")
def what_is_no_socket(net: Net) -> None:
    """A file is no socket, nor is a number that nobody has."""
    reading, writing = os.pipe()
    try:
        with fails(errno.ENOTSOCK):
            socket.socket(fileno=reading)
    finally:
        os.close(reading)
        os.close(writing)
    with fails(errno.EBADF):
        socket.socket(fileno=reading)
    with says(ValueError, "negative file descriptor"):
        socket.socket(fileno=-1)


@check(*CONNECTED)
def seen_by_fstat(net: Net) -> None:
    """The descriptor is that of a socket."""
    for one in net.pair():
        assert stat.S_ISSOCK(os.fstat(one.fileno()).st_mode)


@check(*CONNECTED)
def inherited(net: Net) -> None:
    """A socket is not inherited, nor is its copy, unless it is told."""
    for one in net.pair():
        assert one.get_inheritable() is False
        assert os.get_inheritable(one.fileno()) is False
        one.set_inheritable(True)
        assert os.get_inheritable(one.fileno()) is True
        with one.dup() as copied:
            assert copied.get_inheritable() is False
        os.set_inheritable(one.fileno(), False)
        assert one.get_inheritable() is False


@check(*STREAMS)
def accepted_is_not_inherited(net: Net) -> None:
    """Nor is an accepted socket, whatever its listener is."""
    listener = net.listener()
    listener.set_inheritable(True)
    net.connected_to(listener)
    assert net.accepted(listener).get_inheritable() is False


class Counting(socket.socket):
    """A subclass with a life of its own."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]
        self.sent = 0

    def send(self, data: bytes, *args: int) -> int:  # type: ignore[override]
        sent = super().send(data, *args)
        self.sent += sent
        return sent


@check(*STREAMS)
def subclass(net: Net) -> None:
    """A subclass works as its base does, and its copies are of it."""
    listener = net.listener()
    with Counting(net.family) as client:
        client.connect(listener.getsockname())
        client.send(b"abc")
        assert client.sent == 3
        assert receive(net.accepted(listener), 3) == b"abc"
        assert repr(client).startswith(f"<{__name__}.Counting fd=")
        with client.dup() as copied:
            assert type(copied) is Counting
    with Counting(net.family) as other:
        other.bind(net.address())
        other.listen()
        net.connected_to(other)
        with other.accept()[0] as server:
            assert type(server) is socket.socket


@check(*STREAMS)
def bare(net: Net) -> None:
    """The type below, that of _socket, does the same, and its accept is a number and an address."""
    listener = _socket.socket(net.family, socket.SOCK_STREAM)
    listener.bind(net.address())
    listener.listen()
    client = net.connected_to(listener)
    number, address = listener._accept()
    server = net.keep(socket.socket(net.family, socket.SOCK_STREAM, fileno=number))
    if net.is_ip:
        assert address == client.getsockname()
    server.sendall(b"x")
    assert client.recv(1) == b"x"
    listener.close()


@check("pair")
def pairs(net: Net) -> None:
    """socketpair() is of UNIX streams, or what else it is told."""
    for one in net.pair():
        assert (one.family, one.type, one.proto) == (socket.AF_UNIX, socket.SOCK_STREAM, 0)
        assert type(one) is socket.socket
        assert mode_of(one) == (None, False)
    for family in (socket.AF_INET, socket.AF_INET6):
        with fails(errno.EOPNOTSUPP):
            socket.socketpair(family)
    one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    for each in (one, other):
        with each:
            assert each.type == socket.SOCK_STREAM


def mode_of(one: socket.socket) -> tuple[float | None, bool]:
    return one.gettimeout(), one.get_inheritable()


@check(*CONNECTED)
def file_closes_last(net: Net) -> None:
    """The connection stays open until the socket and all of its files are closed."""
    one, other = net.pair()
    reader, writer = one.makefile("rb"), one.makefile("wb")
    one.close()
    other.sendall(b"line\n")
    assert reader.readline() == b"line\n"
    reader.close()
    writer.write(b"answer")
    writer.close()
    assert receive_all(other) == b"answer"


@check(*CONNECTED)
def files(net: Net) -> None:
    """makefile() reads and writes, bytes and text, with a buffer and without."""
    one, other = net.pair()
    with one.makefile("rwb") as both, other.makefile("rw", encoding="latin-1", newline="\n") as text:
        both.write(b"caf\xe9\r\nmore\n")
        both.flush()
        assert text.readline() == "caf\xe9\r\n"
        assert text.readline() == "more\n"
        text.write("\xe9\n")
        text.flush()
        assert both.readline() == b"\xe9\n"
        assert (both.readable(), both.writable(), both.seekable()) == (True, True, False)
    with one.makefile("wb", buffering=0) as unbuffered:
        assert unbuffered.write(b"abc") == 3
        assert (unbuffered.mode, unbuffered.fileno()) == ("wb", one.fileno())
        assert unbuffered.name == one.fileno()
    assert receive(other, 3) == b"abc"
    with other.makefile() as default:
        one.sendall(b"a\nb")
        one.shutdown(socket.SHUT_WR)
        assert list(default) == ["a\n", "b"]
    with other.makefile("rb", buffering=1) as lines:
        assert lines.read() == b""


@check(*CONNECTED)
def files_that_cannot_be(net: Net) -> None:
    """A mode is of r, w and b; text has a buffer."""
    one, _ = net.pair()
    with says(ValueError, "invalid mode 'a' (only r, w, b allowed)"):
        one.makefile("a")
    with says(ValueError, "unbuffered streams must be binary"):
        one.makefile("r", buffering=0)
    gc.collect()  # the file that was not made
    with one.makefile("rb") as reader:
        with pytest.raises(OSError):
            reader.write(b"x")
        one.setblocking(False)
        assert reader.read(1) is None


@check(*CONNECTED)
def file_times_out(net: Net) -> None:
    """A file whose socket has timed out can be read no more."""
    one, other = net.pair()
    one.settimeout(0.01)
    with one.makefile("rb") as reader:
        with says(TimeoutError, "timed out"):
            reader.read(1)
        other.sendall(b"x")
        with says(OSError, "cannot read from timed out object"):
            reader.read(1)
    assert one.recv(1) == b"x"


@check(*CONNECTED)
def file_of_the_descriptor(net: Net) -> None:
    """open() of the descriptor is a file on the connection."""
    one, other = net.pair()
    with open(one.fileno(), "wb", buffering=0, closefd=False) as file:
        file.write(b"x")
    assert other.recv(1) == b"x"


@check(*CONNECTED)
def file_by_fdopen(net: Net) -> None:
    """os.fdopen() makes a file of a connection, which ends with it: to read, to write, and both without a buffer."""
    for mode, buffering, data in (("wb", 0, b"x"), ("wb", -1, b"x"), ("w", -1, "x"), ("wt", 1, "x"), ("r+b", 0, b"x")):
        one, other = net.pair()
        with os.fdopen(one.detach(), mode, buffering) as file:
            file.write(data)
            assert file.name == file.fileno()
        assert receive_all(other) == b"x"
    for mode, buffering, line in (("rb", 0, b"tea\n"), ("rb", -1, b"tea\n"), ("r", -1, "tea\n")):
        one, other = net.pair()
        other.sendall(b"tea\nrest")
        with os.fdopen(one.detach(), mode, buffering) as file:
            assert file.readline() == line
        with fails(errno.EPIPE, errno.ECONNRESET):
            while True:
                other.send(b"x")


@check(*CONNECTED)
def file_by_fdopen_of_a_copy(net: Net) -> None:
    """Each of the files and sockets that a connection has keeps it open."""
    one, other = net.pair()
    with os.fdopen(os.dup(one.fileno()), "wb") as file:
        one.close()
        file.write(b"x")
        file.flush()
        assert other.recv(2) == b"x"
    assert other.recv(1) == b""
    one, other = net.pair()
    with os.fdopen(one.fileno(), "wb", closefd=False) as file:
        file.write(b"y")
    one.sendall(b"z")
    assert receive(other, 2) == b"yz"


@check(*CONNECTED)
def file_by_fdopen_that_cannot_be(net: Net) -> None:
    """With a buffer, a file that is read and written has to be seekable."""
    one, _ = net.pair()
    with pytest.raises(io.UnsupportedOperation):
        os.fdopen(one.fileno(), "r+b", closefd=False)
    with pytest.raises(ValueError):
        os.fdopen(one.fileno(), "wrong", closefd=False)


@check(*CONNECTED)
def copied_over_another(net: Net) -> None:
    """os.dup2() closes what had the number before."""
    one, other = net.pair()
    third, fourth = net.pair()
    number = third.detach()
    os.dup2(one.fileno(), number)
    assert fourth.recv(1) == b""
    one.close()
    os.write(number, b"x")
    assert other.recv(1) == b"x"
    os.close(number)
    assert other.recv(1) == b""


@check(*STREAMS)
def copies_keep_their_numbers(net: Net) -> None:
    """A copy stays open when the original is closed, also if it was made before that listened or connected."""
    one, client = net.bound(), net.stream()
    listener, connected = net.keep(one.dup()), net.keep(client.dup())
    one.listen()
    one.close()
    client.connect(listener.getsockname())
    client.close()
    server = net.accepted(listener)
    connected.sendall(b"x")
    assert server.recv(1) == b"x"


@check(*CONNECTED)
def numbers_are_reused(net: Net) -> None:
    """The number of a closed socket goes to the next file, to which the old object does nothing."""
    one, other = net.pair()
    number = one.fileno()
    one.close()
    reading, writing = os.pipe()
    try:
        assert number in (reading, writing)
        other.close()
        one.close()
        with fails(errno.EBADF):
            one.send(b"x")
        assert select.select([reading], [], [], 0)[0] == []
        os.write(writing, b"still mine")
        assert os.read(reading, 100) == b"still mine"
    finally:
        os.close(reading)
        os.close(writing)


@check(*IP)
def other_families_go_on(net: Net) -> None:
    """Sockets that have nothing to do with loopback are not hindered: the names of interfaces."""
    assert (1, "lo") in socket.if_nameindex()
    assert socket.if_nametoindex("lo") == 1


@check(*UNIX)
def lockable(net: Net) -> None:
    """Two sockets never have the same number at the same time."""
    numbers = [net.stream().fileno() for _ in range(20)]
    assert len(set(numbers)) == 20


@check("pair")
def wakes_by_signal(net: Net) -> None:
    """What signals write to is the number that was set, and that is told when another one is."""
    (reader, writer), (other_reader, other_writer) = net.pair(), net.pair()
    for one in (reader, writer, other_reader, other_writer):
        one.setblocking(False)
    handler = signal.signal(signal.SIGUSR1, lambda *_: None)
    before = signal.set_wakeup_fd(writer.fileno())
    try:
        signal.raise_signal(signal.SIGUSR1)
        assert reader.recv(10) == bytes([signal.SIGUSR1])
        assert signal.set_wakeup_fd(other_writer.fileno()) == writer.fileno()
        signal.raise_signal(signal.SIGUSR1)
        assert other_reader.recv(10) == bytes([signal.SIGUSR1])
        assert signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False) == other_writer.fileno()
        assert signal.set_wakeup_fd(-1) == writer.fileno()
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGUSR1, handler)


@check("pair")
def made_by_index(net: Net) -> None:
    """A pair's family, type and protocol are what stands for a number, and nothing else."""
    numbers: list[Any] = [Index(socket.AF_UNIX), Index(socket.SOCK_STREAM), Index(0)]
    for one in socket.socketpair(*numbers):
        assert (net.keep(one).family, one.type) == (socket.AF_UNIX, socket.SOCK_STREAM)
        copy = net.keep(socket.socket(fileno=Index(one.detach())))  # type: ignore[arg-type]
        assert copy.type is socket.SOCK_STREAM
    for position in range(3):
        for wrong in ("1", 1.0):
            with pytest.raises(TypeError, match="object cannot be interpreted as an integer"):
                socket.socketpair(*numbers[:position], wrong)
