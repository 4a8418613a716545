"""A virtual socket does what a real one does: each test runs on both."""

from __future__ import annotations

import errno
import os
import select
import selectors
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("sockets")

ANY = ("127.0.0.1", 0)


@contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return a connection, on the side of who has connected and of who has accepted."""
    with socket.create_server(ANY) as server:
        client = socket.create_connection(server.getsockname())
        peer, _ = server.accept()
    with client, peer:
        yield client, peer


@contextmanager
def unix_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


both_families = pytest.mark.parametrize("make_pair", [tcp_pair, unix_pair])


def error_of(call: Callable[[], object]) -> str | None:
    """Return the name of the error that a call raises."""
    try:
        call()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return None


# Names


def test_names_of_a_connection() -> None:
    """Both sides know their own name and the other's."""
    with socket.create_server(ANY) as server, socket.create_connection(server.getsockname()) as client:
        peer, address = server.accept()
        with peer:
            assert address == client.getsockname() == peer.getpeername()
            assert client.getpeername() == peer.getsockname() == server.getsockname()


def test_names_of_ipv6() -> None:
    """A server for both protocols shows an IPv4 client in IPv6's way."""
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        for host, seen in (("::1", "::1"), ("127.0.0.1", "::ffff:127.0.0.1")):
            with socket.create_connection((host, port)), server.accept()[0] as peer:
                assert peer.getpeername()[0] == peer.getsockname()[0] == seen


def test_ipv6_alone() -> None:
    """A server for IPv6 alone refuses IPv4."""
    with socket.create_server(("::", 0), family=socket.AF_INET6) as server:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.getsockname()[1]))


@pytest.mark.parametrize("host", ["", "0.0.0.0", "127.0.0.1", "localhost"])
def test_hosts_of_loopback(host: str) -> None:
    """A server on any name of loopback is found at 127.0.0.1."""
    with socket.create_server((host, 0)) as server:
        with socket.create_connection(("127.0.0.1", server.getsockname()[1])), server.accept()[0] as peer:
            assert peer.getsockname()[0] == "127.0.0.1"


def test_unix_path(tmp_path: Path) -> None:
    """A UNIX socket is a file of its kind, which stays behind, and cannot be bound to again."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        assert Path(path).is_socket()
        with socket.socket(socket.AF_UNIX) as client:
            assert error_of(lambda: client.connect(path)) == "ECONNREFUSED"
            server.listen()
            client.connect(path)
            assert (client.getsockname(), client.getpeername()) == ("", path)
            with server.accept()[0] as peer:
                assert (peer.getsockname(), peer.getpeername()) == (path, "")
    with socket.socket(socket.AF_UNIX) as other:
        assert error_of(lambda: other.connect(path)) == "ECONNREFUSED"
        assert error_of(lambda: other.bind(path)) == "EADDRINUSE"
        assert error_of(lambda: other.connect(path + "x")) == "ENOENT"


def test_abstract_name() -> None:
    """An abstract name needs no file, and ends with its socket."""
    name = b"\0socketless-%d" % os.getpid()
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(name)
        server.listen()
        client.connect(name)
        assert client.getpeername() == server.getsockname() == name
    with socket.socket(socket.AF_UNIX) as client:
        assert error_of(lambda: client.connect(name)) == "ECONNREFUSED"


# Ports


def test_a_port_twice() -> None:
    """A port belongs to one socket, on all hosts that it covers."""
    with socket.create_server(("0.0.0.0", 0)) as server, socket.socket() as other:
        port = server.getsockname()[1]
        assert error_of(lambda: other.bind(("127.0.0.1", port))) == "EADDRINUSE"
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        assert error_of(lambda: other.bind(("127.0.0.1", port))) == "EADDRINUSE"


def test_a_port_again() -> None:
    """A port is free as soon as its server is closed."""
    with socket.create_server(ANY) as server:
        name = server.getsockname()
        with socket.create_connection(name), server.accept()[0]:
            pass
    with socket.create_server(name) as server:
        assert server.getsockname() == name


def test_reuse_address() -> None:
    """Two sockets that allow it may have one port, but one alone may listen."""
    with socket.socket() as one, socket.socket() as two:
        for sock in (one, two):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(ANY)
        two.bind(one.getsockname())
        one.listen()
        assert error_of(two.listen) == "EADDRINUSE"


def test_reuse_port() -> None:
    """Two servers that allow it may listen at one port."""
    with socket.create_server(ANY, reuse_port=True) as one:
        with socket.create_server(one.getsockname(), reuse_port=True) as two:
            assert one.getsockname() == two.getsockname()


def test_nobody_listens() -> None:
    """A port that is bound, but does not listen, refuses; as does one that is closed."""
    with socket.socket() as server:
        server.bind(ANY)
        name = server.getsockname()
        with socket.socket() as client:
            assert error_of(lambda: client.connect(name)) == "ECONNREFUSED"
            server.listen()
            client.connect(name)
    with socket.socket() as client:
        assert client.connect_ex(name) == errno.ECONNREFUSED


# What a call says that comes at the wrong time


def test_before_a_connection() -> None:
    """A socket that is not connected refuses what needs a connection."""
    with socket.socket() as sock:
        assert error_of(lambda: sock.recv(1)) == "ENOTCONN"
        assert error_of(lambda: sock.send(b"x")) == "EPIPE"
        assert error_of(lambda: sock.shutdown(socket.SHUT_WR)) == "ENOTCONN"
        assert error_of(sock.getpeername) == "ENOTCONN"
        assert error_of(sock.accept) == "EINVAL"
        assert sock.getsockname() == ("0.0.0.0", 0)


def test_within_a_connection() -> None:
    """A connection cannot be bound, connected or listened at."""
    with tcp_pair() as (client, _):
        assert error_of(lambda: client.bind(ANY)) == "EINVAL"
        assert error_of(lambda: client.connect(client.getpeername())) == "EISCONN"
        assert error_of(client.listen) == "EINVAL"
        assert error_of(client.accept) == "EINVAL"


def test_after_the_end() -> None:
    """A socket that is closed has no number, but is still of its kind."""
    with socket.socket() as sock:
        pass
    assert (sock.fileno(), sock.family, sock.type) == (-1, socket.AF_INET, socket.SOCK_STREAM)
    assert error_of(lambda: sock.recv(1)) == error_of(lambda: sock.bind(ANY)) == "EBADF"
    assert error_of(lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE)) == "EBADF"
    assert "[closed]" in repr(sock)


# The end of a connection


@both_families
def test_half_close(make_pair: Callable[[], Iterator[tuple[socket.socket, socket.socket]]]) -> None:
    """After the end of one direction, the other one goes on."""
    with make_pair() as (client, peer):
        client.sendall(b"question")
        client.shutdown(socket.SHUT_WR)
        assert error_of(lambda: client.send(b"x")) == "EPIPE"
        assert peer.makefile("rb").read() == b"question"
        peer.sendall(b"answer")
        peer.close()
        assert client.makefile("rb").read() == b"answer"
        assert client.recv(1) == b""


def test_closed_with_something_unread() -> None:
    """Who closes with something unread resets the connection; what was sent before arrives, the error is told once."""
    with tcp_pair() as (client, peer):
        peer.sendall(b"last words")
        client.sendall(b"unread")
        peer.close()
        assert client.recv(100) == b"last words"
        assert error_of(lambda: client.recv(1)) == "ECONNRESET"
        assert client.recv(1) == b""


def test_linger() -> None:
    """SO_LINGER without time makes a reset of the end."""
    with tcp_pair() as (client, peer):
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.close()
        assert error_of(lambda: client.recv(1)) == "ECONNRESET"


def test_writing_to_nobody() -> None:
    """The first bytes for a peer that has gone get lost, and the next ones are an error."""
    with tcp_pair() as (client, peer):
        peer.close()
        assert client.recv(1) == b""
        assert client.send(b"lost") == 4
        assert error_of(lambda: client.send(b"x")) == "EPIPE"


def test_writing_to_nobody_by_unix() -> None:
    """Of a UNIX socket, the first bytes already are an error."""
    with unix_pair() as (left, right):
        right.close()
        assert error_of(lambda: left.send(b"x")) == "EPIPE"


def test_closed_before_it_is_accepted() -> None:
    """What a client has sent is there for who accepts it afterwards."""
    with socket.create_server(ANY) as server:
        with socket.create_connection(server.getsockname()) as client:
            client.sendall(b"gone already")
        with server.accept()[0] as peer:
            assert peer.makefile("rb").read() == b"gone already"


def test_server_closed_before_it_accepts() -> None:
    """A connection that nobody has accepted is reset when its server is closed."""
    with socket.create_server(ANY) as server:
        client = socket.create_connection(server.getsockname())
    with client:
        assert error_of(lambda: client.recv(1)) == "ECONNRESET"


def test_shutdown_wakes_a_reader() -> None:
    """Who waits for bytes is woken when another thread ends the connection."""
    with tcp_pair() as (client, _):
        seen: list[bytes] = []
        thread = threading.Thread(target=lambda: seen.append(client.recv(1)))
        thread.start()
        client.shutdown(socket.SHUT_RDWR)
        thread.join()
        assert seen == [b""]


def test_shutdown_wakes_who_accepts() -> None:
    """Who waits for a connection is woken when another thread ends the server."""
    with socket.create_server(ANY) as server:
        seen: list[str | None] = []
        thread = threading.Thread(target=lambda: seen.append(error_of(server.accept)))
        thread.start()
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
        assert seen == ["EINVAL"]


def test_shut_down_without_anything_unread() -> None:
    """Who ends both directions and closes says an end, not a reset."""
    with tcp_pair() as (client, peer):
        peer.shutdown(socket.SHUT_RDWR)
        peer.close()
        assert client.recv(1) == client.recv(1) == b""


# Waiting, and not


@both_families
def test_time_limit(make_pair: Callable[[], Iterator[tuple[socket.socket, socket.socket]]]) -> None:
    """A time limit holds for reading, for writing and for accepting."""
    with make_pair() as (client, _), socket.create_server(ANY) as server:
        server.settimeout(0.01)
        client.settimeout(0.01)
        for call in (lambda: client.recv(1), lambda: client.sendall(bytes(1 << 24)), server.accept):
            with pytest.raises(TimeoutError, match="^timed out$"):
                call()


@both_families
def test_without_waiting(make_pair: Callable[[], Iterator[tuple[socket.socket, socket.socket]]]) -> None:
    """Who does not wait gets BlockingIOError, when there is nothing to read, or no room to write."""
    with make_pair() as (client, peer):
        client.setblocking(False)
        assert error_of(lambda: client.recv(1)) == "EAGAIN"
        assert error_of(lambda: peer.recv(1, socket.MSG_DONTWAIT)) == "EAGAIN"
        sent = fill(client)
        assert len(peer.recv(sent, socket.MSG_WAITALL)) == sent


def test_connecting_without_waiting() -> None:
    """A connection takes its time, and who does not wait is told its end by SO_ERROR."""
    with socket.create_server(ANY) as server:
        name = server.getsockname()
        with socket.socket() as client:
            client.setblocking(False)
            assert client.connect_ex(name) == errno.EINPROGRESS
            assert select.select([], [client], [], 30)[1] == [client]
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            assert client.getpeername() == name
    with socket.socket() as client:
        client.setblocking(False)
        assert client.connect_ex(name) == errno.EINPROGRESS
        assert select.select([], [client], [], 30)[1] == [client]
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


SELECTORS = [selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector]
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


@both_families
@pytest.mark.parametrize("kind", SELECTORS)
def test_selectors(
    kind: Callable[[], selectors.BaseSelector],
    make_pair: Callable[[], Iterator[tuple[socket.socket, socket.socket]]],
) -> None:
    """A selector says in which directions a connection is ready: none, one, the other, both."""
    with make_pair() as (client, peer), kind() as selector:
        client.setblocking(False)

        def ready() -> int:
            return next((events for _, events in selector.select(0)), 0)

        selector.register(client, READ | WRITE)
        assert ready() == WRITE
        fill(client)
        assert ready() == 0
        peer.sendall(b"x")
        assert ready() == READ
        selector.modify(client, WRITE)
        assert ready() == 0
        drain(peer)
        assert ready() == WRITE
        selector.modify(client, READ | WRITE)
        assert ready() == READ | WRITE
        assert client.recv(10) == b"x"
        assert ready() == WRITE
        selector.modify(client, READ)
        assert ready() == 0
        peer.shutdown(socket.SHUT_WR)
        assert ready() == READ
        selector.unregister(client)
        assert ready() == 0


def fill(sock: socket.socket) -> int:
    sent = 0
    with suppress(BlockingIOError):
        while True:
            sent += sock.send(bytes(1 << 16))
    return sent


def drain(sock: socket.socket) -> None:
    sock.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            sock.recv(1 << 20)


@pytest.mark.parametrize("kind", SELECTORS)
def test_a_selector_knows_it_before_it_connects(kind: Callable[[], selectors.BaseSelector]) -> None:
    """A socket may be registered before it is connected, or before it listens."""
    with socket.socket() as server, socket.socket() as client, kind() as selector:
        server.bind(ANY)
        selector.register(server, READ)
        server.listen()
        client.setblocking(False)
        selector.register(client, READ | WRITE)
        client.connect_ex(server.getsockname())
        assert {key.fileobj for key, _ in selector.select(30)} == {server, client}
        with server.accept()[0] as peer:
            peer.sendall(b"x")
            assert [key.fileobj for key, events in selector.select(30) if events & READ] == [client]


@pytest.mark.parametrize("kind", SELECTORS)
def test_a_number_that_is_used_again(kind: Callable[[], selectors.BaseSelector]) -> None:
    """A selector that nobody has told of a socket's end does not take the next one for it."""
    with kind() as selector:
        for _ in range(3):
            with unix_pair() as (left, right):
                key = selector.register(left, READ | WRITE)
                right.sendall(b"x")
                assert [events for _, events in selector.select(30)] == [READ | WRITE]
            selector.unregister(key.fileobj if kind is selectors.SelectSelector else left)


# Ways to read and write


@both_families
def test_ways_to_read(make_pair: Callable[[], Iterator[tuple[socket.socket, socket.socket]]]) -> None:
    """Whatever a client reads by, it gets the same bytes."""
    with make_pair() as (client, peer):
        peer.sendmsg([b"one ", b"two ", b"three four five six"])
        buffer = bytearray(4)
        assert client.recv(3, socket.MSG_PEEK) == b"one"
        assert (client.recv_into(buffer), bytes(buffer)) == (4, b"one ")
        assert client.recvfrom(4) == (b"two ", None)
        assert client.recvfrom_into(buffer, 3) == (3, None)
        assert bytes(buffer) == b"thr "
        assert client.recvmsg(3)[:2] == (b"ee ", [])
        other = bytearray(5)
        assert client.recvmsg_into([buffer, other])[:3] == (9, [], 0)
        assert bytes(buffer + other) == b"four five"
        assert client.recv(100) == b" six"
        with pytest.raises(ValueError, match="buffer too small for requested bytes"):
            client.recv_into(buffer, 10)


@both_families
def test_files(make_pair: Callable[[], Iterator[tuple[socket.socket, socket.socket]]]) -> None:
    """A file of a socket keeps it open, until both are closed."""
    with make_pair() as (client, peer):
        file = peer.makefile("rwb")
        peer.close()
        client.sendall(b"line\nrest")
        assert file.readline() == b"line\n"
        file.write(b"answer")
        file.close()
        assert client.recv(10) == b"answer"


def test_sendfile(tmp_path: Path) -> None:
    """A file is sent from a place of it, as many bytes as asked for."""
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 1000)
    with tcp_pair() as (client, peer), path.open("rb") as file:
        assert client.sendfile(file, offset=256, count=512) == 512
        client.close()
        assert peer.makefile("rb").read() == bytes(range(256)) * 2


def test_threads_that_share_a_connection() -> None:
    """Pieces of several threads arrive whole, as far as each is sent by one call."""
    pieces = [bytes([number]) * 1000 for number in range(64)]
    with tcp_pair() as (client, peer):
        threads = [threading.Thread(target=client.sendall, args=(piece,)) for piece in pieces]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        client.close()
        data = peer.makefile("rb").read()
    assert sorted(data[at : at + 1000] for at in range(0, len(data), 1000)) == pieces


# Numbers


def test_detach_and_wrap() -> None:
    """A number that was detached can be wrapped again, and is the same connection."""
    with tcp_pair() as (client, peer):
        number = client.detach()
        assert client.fileno() == -1
        with socket.socket(fileno=number) as again:
            assert (again.fileno(), again.family, again.type) == (number, socket.AF_INET, socket.SOCK_STREAM)
            again.sendall(b"x")
            assert peer.recv(1) == b"x"


@pytest.mark.parametrize("copy", [lambda sock: sock.dup(), lambda sock: socket.fromfd(sock.fileno(), 2, 1)])
def test_copies(copy: Callable[[socket.socket], socket.socket]) -> None:
    """A connection ends with the last of its copies."""
    with tcp_pair() as (client, peer):
        with copy(client) as other:
            client.close()
            other.sendall(b"x")
            assert peer.recv(1) == b"x"
        assert peer.recv(1) == b""


def test_a_copy_by_the_kernel() -> None:
    """A copy that os.dup() has made is the same connection."""
    with tcp_pair() as (client, peer), socket.socket(fileno=os.dup(client.fileno())) as other:
        other.sendall(b"x")
        assert peer.recv(1) == b"x"


def test_what_is_no_socket(tmp_path: Path) -> None:
    """A file is not taken for a socket."""
    with (tmp_path / "file").open("w") as file:
        assert error_of(lambda: socket.socket(fileno=file.fileno())) == "ENOTSOCK"


def test_kinds() -> None:
    """A socket knows its kind, and has no flags in it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
        assert (sock.family, sock.type, sock.proto) == (socket.AF_UNIX, socket.SOCK_STREAM, 0)
        assert sock.gettimeout() == 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0


def test_dropped() -> None:
    """A socket that is dropped is closed, with a warning."""
    with tcp_pair() as (client, peer):
        held = [client.dup()]
        client.close()
        with pytest.warns(ResourceWarning, match="^unclosed <socket.socket fd="):
            held.clear()
        assert peer.recv(1) == b""


# Datagrams


def udp() -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(ANY)
    return sock


@pytest.mark.parametrize("size", [0, 1, 400, 5000, 60000])
def test_datagrams(size: int) -> None:
    """A datagram arrives as a whole, with its sender's name, and is cut to what its reader asks for."""
    data = os.urandom(size)
    with udp() as one, udp() as two:
        for _ in range(2):
            one.sendto(data, two.getsockname())
        assert two.recvfrom(1 << 16) == (data, one.getsockname())
        assert two.recvmsg(10)[:3] == (data[:10], [], socket.MSG_TRUNC if size > 10 else 0)
        assert error_of(lambda: two.recv(10, socket.MSG_DONTWAIT)) == "EAGAIN"


def test_datagram_that_is_too_large() -> None:
    """What is larger than a datagram can be is an error."""
    with udp() as one:
        assert error_of(lambda: one.sendto(bytes(70000), one.getsockname())) == "EMSGSIZE"


def test_connected_datagrams() -> None:
    """A connected socket gets datagrams of its peer alone, and hears of it when nobody is there."""
    with udp() as one, udp() as other, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(one.getsockname())
        other.sendto(b"of somebody else", client.getsockname())
        one.sendto(b"x", client.getsockname())
        assert client.recv(100) == b"x"
        client.send(b"y")
        assert one.recvfrom(1) == (b"y", client.getsockname())
        one.close()
        client.send(b"z")
        assert error_of(lambda: client.recv(1)) == "ECONNREFUSED"


def test_datagram_for_nobody() -> None:
    """A datagram that nobody is there for is lost without an error."""
    with udp() as one:
        name = one.getsockname()
    with udp() as client:
        assert client.sendto(b"lost", name) == 4


def test_unix_datagrams(tmp_path: Path) -> None:
    """A UNIX datagram socket is known by its path, and its absence is an error."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as one:
        one.bind(str(tmp_path / "one"))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as two:
            two.sendto(b"x", str(tmp_path / "one"))
            assert one.recvfrom(10) == (b"x", None)
            two.bind(str(tmp_path / "two"))
            two.connect(str(tmp_path / "one"))
            two.send(b"y")
            assert one.recvfrom(10) == (b"y", str(tmp_path / "two"))
            one.close()
            assert error_of(lambda: two.send(b"z")) == "ECONNREFUSED"


@pytest.mark.parametrize("kind", [socket.SOCK_DGRAM, socket.SOCK_SEQPACKET])
def test_pairs_of_packets(kind: int) -> None:
    """The messages of a pair stay apart."""
    left, right = socket.socketpair(socket.AF_UNIX, kind)
    with left, right:
        for data in (b"one", bytes(5000), b"three"):
            left.send(data)
        assert [right.recv(10000) for _ in range(3)] == [b"one", bytes(5000), b"three"]


# Names of hosts


def test_localhost() -> None:
    """localhost is 127.0.0.1, to all that look names up."""
    assert socket.gethostbyname("localhost") == "127.0.0.1"
    found = socket.getaddrinfo("localhost", 80, socket.AF_INET, socket.SOCK_STREAM)
    assert found == [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", 80))]
    assert socket.getaddrinfo("127.0.0.1", "http", 0, socket.SOCK_STREAM)[0][4] == ("127.0.0.1", 80)
    assert socket.getfqdn("127.0.0.1") == "localhost"
