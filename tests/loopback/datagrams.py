"""Datagrams: of IP and of UNIX sockets, connected and not."""

from __future__ import annotations

import errno
import os
import select
import socket

import pytest

from loopback.checks import IP, LIMIT, MOMENT, STREAMS, UNIX, Net, becomes, check, fails, says, times_out

DATAGRAM = socket.SOCK_DGRAM
DATAGRAMS = (*STREAMS, "pair")


def two(net: Net) -> tuple[socket.socket, socket.socket]:
    """Two datagram sockets that are connected to each other."""
    if net.kind == "pair":
        one, other = socket.socketpair(type=DATAGRAM)
        return net.keep(one), net.keep(other)
    return net.datagram_pair()


@check(*STREAMS)
def to_an_address(net: Net) -> None:
    """A datagram goes to an address, and tells whose it is."""
    one, other = net.datagram(), net.datagram()
    assert one.sendto(b"there", other.getsockname()) == 5
    assert other.recvfrom(100) == (b"there", one.getsockname())
    assert other.sendto(b"back", 0, one.getsockname()) == 4
    data, ancillary, _flags, address = one.recvmsg(100)
    assert (data, ancillary, address) == (b"back", [], other.getsockname())
    assert one.sendmsg([b"in ", b"parts"], [], 0, other.getsockname()) == 8
    buffer = bytearray(20)
    assert other.recvfrom_into(buffer) == (8, one.getsockname())
    assert buffer[:8] == b"in parts"


@check(*DATAGRAMS)
def one_by_one(net: Net) -> None:
    """Each datagram is received by itself, in order."""
    one, other = two(net)
    for size in (1, 3, 0, 2):
        assert one.send(b"x" * size) == size
    one.sendall(b"all")
    assert [other.recv(100) for _ in range(5)] == [b"x", b"xxx", b"", b"xx", b"all"]


@check(*IP)
def in_parts(net: Net) -> None:
    """With MSG_MORE, a datagram is kept until its last part is sent; all of it goes where the first part was to go."""
    one, other, third = net.datagram(), net.datagram(), net.datagram()
    more, name = socket.MSG_MORE, other.getsockname()
    assert (one.sendto(b"abc", more, name), one.sendto(b"d", more, third.getsockname()), one.send(b"ef")) == (3, 1, 2)
    assert other.recv(100) == b"abcdef"
    one.connect(name)
    assert (one.send(b"1", more), one.sendmsg([b"2", b"3"], [], more)) == (1, 2)
    one.sendall(b"4", more)
    assert one.send(b"5") == 1
    assert other.recv(100) == b"12345"
    assert one.send(bytes(40_000), more) == 40_000
    with fails(errno.EMSGSIZE):
        one.send(bytes(40_000), more)
    assert one.send(b"alone") == 5
    assert other.recv(100) == b"alone"
    one.send(b"never sent", more)
    one.close()
    third.sendto(b"last", name)
    assert other.recv(100) == b"last"
    with fails(errno.EDESTADDRREQ):
        third.send(b"x", more)


@check(*DATAGRAMS)
def too_long_for_the_buffer(net: Net) -> None:
    """What does not fit into the buffer is lost, and recvmsg() says so."""
    one, other = two(net)
    for _ in range(4):
        one.send(b"abcdef")
    one.send(b"last")
    assert other.recv(2) == b"ab"
    buffer = bytearray(3)
    assert other.recv_into(buffer) == 3
    assert buffer == b"abc"
    data, _, flags, _ = other.recvmsg(4)
    assert (data, flags & socket.MSG_TRUNC) == (b"abcd", socket.MSG_TRUNC)
    first, second = bytearray(1), bytearray(2)
    count, _, flags, _ = other.recvmsg_into([first, second], 0, socket.MSG_TRUNC)
    assert (count, first, second, flags & socket.MSG_TRUNC) == (6, b"a", b"bc", socket.MSG_TRUNC)
    assert other.recv(100) == b"last"


@check(*DATAGRAMS)
def empty(net: Net) -> None:
    """An empty datagram is readable, and received as such."""
    one, other = two(net)
    becomes(other, "w")
    one.send(b"")
    becomes(other, "rw")
    assert other.recvmsg(10)[0] == b""
    becomes(other, "w")
    one.send(b"")
    assert other.recv(0) == b""  # which does nothing, though this receives it
    assert other.recvfrom(0)[0] == b""
    becomes(other, "w")


@check(*DATAGRAMS)
def looks_ahead(net: Net) -> None:
    """MSG_PEEK leaves the datagram, whole."""
    one, other = two(net)
    one.send(b"abcdef")
    one.send(b"next")
    for _ in range(2):
        assert other.recv(3, socket.MSG_PEEK) == b"abc"
    assert other.recv(100) == b"abcdef"
    assert other.recv(100) == b"next"


@check(*DATAGRAMS)
def nothing_comes(net: Net) -> None:
    """Who waits for a datagram waits as for anything else."""
    one, other = two(net)
    one.settimeout(MOMENT)
    with times_out():
        one.recvfrom(1)
    one.setblocking(False)
    with fails(errno.EAGAIN):
        one.recv(1)
    one.setblocking(True)
    with fails(errno.EAGAIN):
        one.recv(1, socket.MSG_DONTWAIT)
    task = net.in_thread(lambda: one.recv(10))
    assert task.still_runs()
    other.send(b"at last")
    assert task.result() == b"at last"


@check(*IP)
def receives_unbound(net: Net) -> None:
    """Who is not bound receives nothing."""
    one = net.stream(DATAGRAM)
    one.settimeout(MOMENT)
    with times_out():
        one.recv(1)


@check(*STREAMS)
def no_address_given(net: Net) -> None:
    """Who is not connected must say whereto."""
    one = net.datagram()
    for call in (lambda: one.send(b"x"), lambda: one.sendall(b"x"), lambda: one.sendmsg([b"x"])):
        with fails(errno.EDESTADDRREQ if net.is_ip else errno.ENOTCONN):
            call()


@check(*IP)
def takes_a_port(net: Net) -> None:
    """Who sends unbound has a port after that, on all addresses; and is seen as the loopback."""
    one, other = net.stream(DATAGRAM), net.datagram()
    one.sendto(b"x", other.getsockname())
    host, port = one.getsockname()[:2]
    assert host == net.wildcard
    _, address = other.recvfrom(10)
    assert address[:2] == (net.host, port)
    other.sendto(b"y", address)
    assert one.recv(10) == b"y"
    with fails(errno.EINVAL):
        one.bind((net.host, 0))


@check(*UNIX)
def has_no_name(net: Net) -> None:
    """A UNIX socket that is not bound sends without a name, and cannot be answered."""
    one, other = net.stream(DATAGRAM), net.datagram()
    one.sendto(b"x", other.getsockname())
    assert one.getsockname() == ""
    assert not other.recvfrom(10)[1]
    assert not one.getsockname()


@check(*IP)
def to_nobody(net: Net) -> None:
    """A datagram for nobody is lost, and who is not connected hears nothing of it."""
    one, nobody = net.datagram(), net.nobody(DATAGRAM)
    for _ in range(3):
        assert one.sendto(b"x", nobody) == 1
    one.settimeout(MOMENT)
    with times_out():
        one.recv(1)
    assert one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


@check(*IP)
def connected_to_nobody(net: Net) -> None:
    """Who is connected hears of it at the next call, whichever that is, once."""
    for call in (lambda one: one.send(b"x"), lambda one: one.recv(1), lambda one: one.recvfrom(1)):
        one = net.stream(DATAGRAM)
        one.connect(net.nobody(DATAGRAM))
        assert one.send(b"x") == 1
        becomes(one, "rw")
        with fails(errno.ECONNREFUSED):
            call(one)
        becomes(one, "w")
        one.setblocking(False)
        with fails(errno.EAGAIN):
            one.recv(1)
    one = net.stream(DATAGRAM)
    one.connect(net.nobody(DATAGRAM))
    one.send(b"x")
    becomes(one, "rw")
    number = [one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) for _ in range(2)]
    assert number == [errno.ECONNREFUSED, 0]


@check(*IP)
def refused_while_it_waits(net: Net) -> None:
    """Who waits in recv() hears of it as well."""
    one, other = net.datagram_pair()
    task = net.in_thread(lambda: one.recv(1))
    assert task.still_runs()
    other.close()
    one.send(b"x")
    with fails(errno.ECONNREFUSED):
        task.result()


@check("path")
def to_no_path(net: Net) -> None:
    """To send to a path that does not exist is ENOENT; to one where nobody is, it is refused."""
    one = net.datagram()
    with fails(errno.ENOENT):
        one.sendto(b"x", net.path())
    with fails(errno.ENOENT):
        one.connect(net.path())


@check(*UNIX)
def unix_to_nobody(net: Net) -> None:
    """A UNIX datagram for nobody is refused at once, also when the peer has gone."""
    one, nobody = net.datagram(), net.nobody(DATAGRAM)
    with fails(errno.ECONNREFUSED):
        one.sendto(b"x", nobody)
    with fails(errno.ECONNREFUSED):
        one.connect(nobody)
    other = net.datagram()
    one.connect(other.getsockname())
    other.close()
    with fails(errno.ECONNREFUSED):
        one.send(b"x")
    with fails(errno.ENOTCONN):
        one.send(b"x")


@check(*DATAGRAMS)
def peer_has_closed(net: Net) -> None:
    """What was sent before the peer closed is received after it."""
    one, other = two(net)
    one.send(b"before")
    one.close()
    assert other.recv(100) == b"before"


@check("pair")
def end_of_a_pair(net: Net) -> None:
    """A pair of datagram sockets has no end: the peer's closing is a reset, and sending is refused."""
    one, other = two(net)
    other.close()
    with fails(errno.ECONNREFUSED):
        one.send(b"x")
    one.setblocking(False)
    with fails(errno.EAGAIN, errno.ECONNRESET):
        one.recv(1)


@check(*STREAMS)
def connects(net: Net) -> None:
    """A connected datagram socket has a peer, to which it sends, and may be given another."""
    one, first, second = net.datagram(), net.datagram(), net.datagram()
    for peer in (first, second):
        one.connect(peer.getsockname())
        assert one.getpeername() == peer.getsockname()
        one.send(b"x")
        assert peer.recvfrom(10) == (b"x", one.getsockname())
        assert one.connect_ex(peer.getsockname()) == 0
    one.sendto(b"to another", first.getsockname())
    assert first.recv(100) == b"to another"


@check(*IP)
def has_an_address_once_connected(net: Net) -> None:
    """connect() gives an IP socket the address from which it will send."""
    one, other = net.stream(DATAGRAM), net.datagram()
    one.connect(other.getsockname())
    host, port = one.getsockname()[:2]
    assert host == net.host
    assert port
    assert other.getsockname() == one.getpeername()


@check(*IP)
def only_from_the_peer(net: Net) -> None:
    """Who is connected receives from the peer alone; others' datagrams are lost."""
    one, peer, stranger = net.datagram(), net.datagram(), net.datagram()
    one.connect(peer.getsockname())
    stranger.sendto(b"unheard", one.getsockname())
    peer.sendto(b"heard", one.getsockname())
    assert one.recvfrom(100) == (b"heard", peer.getsockname())
    one.setblocking(False)
    with fails(errno.EAGAIN):
        one.recv(100)


@check(*UNIX)
def only_from_the_peer_of_unix(net: Net) -> None:
    """To a UNIX socket that is connected to somebody else, sending is forbidden."""
    one, peer, stranger = net.datagram(), net.datagram(), net.datagram()
    one.connect(peer.getsockname())
    with fails(errno.EPERM):
        stranger.sendto(b"x", one.getsockname())
    with fails(errno.EPERM):
        stranger.connect(one.getsockname())
    peer.sendto(b"heard", one.getsockname())
    assert one.recv(100) == b"heard"


@check(*IP)
def too_large(net: Net) -> None:
    """A datagram of IP holds 65507 bytes, or 20 more by IPv6, and no more."""
    one, other = net.datagram_pair()
    largest = 65527 if net.family == socket.AF_INET6 else 65507
    for size in (largest, 65507):
        assert one.send(b"x" * size) == size
        assert len(other.recv(1 << 17)) == size
    for size in (largest + 1, 1 << 17):
        with fails(errno.EMSGSIZE):
            one.send(b"x" * size)
        with fails(errno.EMSGSIZE):
            one.sendto(b"x" * size, other.getsockname())


@check(*UNIX, "pair")
def large_by_unix(net: Net) -> None:
    """A datagram of UNIX holds as much as the buffer."""
    one, other = two(net)
    assert one.send(b"x" * 150_000) == 150_000
    assert len(other.recv(1 << 20)) == 150_000
    with fails(errno.EMSGSIZE):
        one.send(b"x" * (8 << 20))


@check(*IP)
def overflow(net: Net) -> None:
    """Who does not read loses what does not fit; who sends does not notice."""
    one, other = net.datagram_pair()
    one.setblocking(False)
    for number in range(2000):
        assert one.send(b"%4d" % number + b"x" * 1000) == 1004
    other.setblocking(False)
    seen = []
    with fails(errno.EAGAIN):
        while True:
            seen.append(int(other.recv(2000)[:4]))
    assert 10 < len(seen) < 2000
    assert seen == list(range(len(seen)))


@check(*UNIX, "pair")
def backlog_of_unix(net: Net) -> None:
    """A UNIX socket whose peer does not read must wait, and is not writable until he does."""
    one, other = two(net)
    one.setblocking(False)
    sent = 0
    with fails(errno.EAGAIN):
        while True:
            one.send(b"%d" % sent)
            sent += 1
    assert 5 <= sent < 2000
    becomes(one, "")
    assert [int(other.recv(10)) for _ in range(sent)] == list(range(sent))
    becomes(one, "w")
    one.settimeout(MOMENT)
    with times_out():
        while True:
            one.send(b"x")


@check(*DATAGRAMS)
def shut(net: Net) -> None:
    """A connected datagram socket can be shut down: an end to read, and EPIPE to write."""
    one, other = two(net)
    one.shutdown(socket.SHUT_WR)
    with fails(errno.EPIPE):
        one.send(b"x")
    other.send(b"x")
    assert one.recv(1) == b"x"
    one.shutdown(socket.SHUT_RD)
    assert one.recv(1) == b""
    task = net.in_thread(lambda: other.recv(1))
    assert task.still_runs()
    other.shutdown(socket.SHUT_RDWR)
    assert task.result() == b""


@check(*IP)
def unconnected_is_not_shut(net: Net) -> None:
    """One that is not connected cannot, though whoever waits is woken."""
    one = net.datagram()
    with fails(errno.ENOTCONN):
        one.shutdown(socket.SHUT_RDWR)


@check(*IP)
def wildcard(net: Net) -> None:
    """Who is bound to all addresses receives for each, and answers."""
    one, other = net.stream(DATAGRAM), net.datagram()
    one.bind(("", 0))
    port = one.getsockname()[1]
    for host in (net.host, net.wildcard, ""):
        other.sendto(b"x", (host, port))
        assert one.recvfrom(10) == (b"x", other.getsockname())
    one.sendto(b"y", other.getsockname())
    _, address = other.recvfrom(10)
    assert address[:2] == (net.host, port)


@check("tcp4")
def names_of_hosts(net: Net) -> None:
    """A datagram may be sent to a name."""
    one, other = net.datagram(), net.stream(DATAGRAM)
    other.sendto(b"x", ("localhost", one.getsockname()[1]))
    assert one.recv(10) == b"x"
    with pytest.raises(socket.gaierror):
        other.sendto(b"x", ("no such host", 80))
    with says(OverflowError, "sendto(): port must be 0-65535."):
        other.sendto(b"x", ("127.0.0.1", 65536))


@check("tcp4")
def to_port_0(net: Net) -> None:
    """Nobody has port 0, nor may one send to all without saying so."""
    one = net.datagram()
    with fails(errno.EINVAL):
        one.sendto(b"x", ("127.0.0.1", 0))
    with fails(errno.EACCES):
        net.stream(DATAGRAM).connect(("255.255.255.255", 9))


@check("tcp6")
def both_families(net: Net) -> None:
    """A socket on :: receives from IPv4 as well, and answers to the mapped address."""
    one = net.stream(DATAGRAM)
    one.bind(("::", 0))
    port = one.getsockname()[1]
    other = net.keep(socket.socket(socket.AF_INET, DATAGRAM))
    other.bind(("127.0.0.1", 0))
    other.sendto(b"x", ("127.0.0.1", port))
    data, address = one.recvfrom(10)
    assert (data, address) == (b"x", ("::ffff:127.0.0.1", other.getsockname()[1], 0, 0))
    one.sendto(b"y", address)
    assert other.recvfrom(10) == (b"y", ("127.0.0.1", port))


@check(*IP)
def reuse(net: Net) -> None:
    """With SO_REUSEADDR on all, datagram sockets have one port; a datagram comes to that which was bound last."""
    all_of_them = [net.stream(DATAGRAM) for _ in range(3)]
    sender, address = net.datagram(), (net.host, 0)
    for each in all_of_them:
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        each.bind(address)
        address = each.getsockname()
    while all_of_them:
        sender.sendto(b"x", address)
        assert select.select(all_of_them, [], [], LIMIT)[0] == all_of_them[-1:]
        assert all_of_them[-1].recv(10) == b"x"
        all_of_them.pop().close()


@check(*IP)
def port_is_free_after_close(net: Net) -> None:
    """A port is free once its socket is closed."""
    one = net.datagram()
    address = one.getsockname()
    one.close()
    again = net.stream(DATAGRAM)
    again.bind(address)
    again.close()


@check("path")
def file_of_a_socket(net: Net) -> None:
    """A UNIX datagram socket leaves its file, as a stream does."""
    one = net.datagram()
    path = one.getsockname()
    one.close()
    with fails(errno.EADDRINUSE):
        net.stream(DATAGRAM).bind(path)
    os.unlink(path)
    net.stream(DATAGRAM).bind(path)


@check("pair")
def packets(net: Net) -> None:
    """SOCK_SEQPACKET is a stream of packets: connected, with an end, and each by itself."""
    one, other = socket.socketpair(type=socket.SOCK_SEQPACKET)
    net.keep(one), net.keep(other)
    assert one.type == socket.SOCK_SEQPACKET
    one.send(b"abc")
    one.send(b"de")
    assert other.recv(2) == b"ab"
    assert other.recv(10) == b"de"
    one.close()
    assert other.recv(1) == b""
    with fails(errno.EPIPE):
        other.send(b"x")


@check("path", "abstract")
def packets_over_a_listener(net: Net) -> None:
    """SOCK_SEQPACKET listens and accepts."""
    listener, client = net.stream(socket.SOCK_SEQPACKET), net.stream(socket.SOCK_SEQPACKET)
    listener.bind(net.address())
    listener.listen()
    client.connect(listener.getsockname())
    server = net.accepted(listener)
    server.send(b"one")
    server.send(b"two")
    assert [client.recv(10), client.recv(10)] == [b"one", b"two"]


@check(*STREAMS)
def descriptors_by_datagram(net: Net) -> None:
    """A UNIX datagram carries descriptors as well; one of IP does not."""
    one, other = net.datagram_pair()
    reading, writing = os.pipe()
    try:
        socket.send_fds(one, [b"x"], [writing])
        data, numbers, _, _ = socket.recv_fds(other, 10, 2)
        assert (data, len(numbers)) == (b"x", 0 if net.is_ip else 1)
        for number in numbers:
            os.write(number, b"y")
            assert os.read(reading, 1) == b"y"
            os.close(number)
    finally:
        os.close(reading)
        os.close(writing)


@check(*DATAGRAMS)
def many_senders(net: Net) -> None:
    """Several threads may send to one socket, and nothing is mixed."""
    if net.kind == "pair":
        sender, receiver = two(net)
        senders = [sender] * 4
    else:
        receiver = net.datagram()
        senders = [net.datagram() for _ in range(4)]
        for sender in senders:
            sender.connect(receiver.getsockname())
    got: list[bytes] = []
    for _ in range(20):
        tasks = [net.in_thread(lambda sender=sender: sender.send(b"abcdef" * 10)) for sender in senders]
        got += [receiver.recv(100) for _ in tasks]
        assert [task.result() for task in tasks] == [60] * len(tasks)
    assert got == [b"abcdef" * 10] * 80
