"""How a connection begins: connect, listen and accept, and every way in which they fail."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from loopback.checks import (
    IP,
    MOMENT,
    STREAMS,
    UNIX,
    Net,
    becomes,
    check,
    fails,
    fill,
    is_readable,
    is_writable,
    receive,
    receive_all,
    reset,
    says,
    tells_of_a_reset,
    times_out,
)


@check(*STREAMS)
def connects(net: Net) -> None:
    """A client is connected before the server accepts, and what it sends until then waits."""
    listener = net.listener()
    client = net.connected_to(listener)
    client.sendall(b"early")
    server, address = listener.accept()
    with server:
        assert receive(server, 5) == b"early"
        assert address == server.getpeername()
        server.sendall(b"late")
        assert receive(client, 4) == b"late"


@check(*STREAMS)
def nobody_is_there(net: Net) -> None:
    """To connect where nobody listens is refused, and the socket can be used again."""
    client, listener = net.stream(), net.listener()
    for _ in range(2):
        with fails(errno.ECONNREFUSED):
            client.connect(net.nobody())
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    client.connect(listener.getsockname())
    client.sendall(b"x")
    assert net.accepted(listener).recv(1) == b"x"


@check("path")
def no_such_path(net: Net) -> None:
    """A path that does not exist is ENOENT; a file that is no socket is refused, as a folder is."""
    client = net.stream()
    with fails(errno.ENOENT):
        client.connect(net.path())
    file = net.path()
    Path(file).write_text("")
    for path in (file, net.folder()):
        with fails(errno.ECONNREFUSED):
            client.connect(path)
    with fails(errno.ENOTDIR):
        client.connect(file + "/below")


@check(*STREAMS)
def only_bound(net: Net) -> None:
    """Who is bound but does not listen refuses."""
    bound = net.bound()
    with fails(errno.ECONNREFUSED):
        net.stream().connect(bound.getsockname())


@check(*STREAMS)
def listener_has_gone(net: Net) -> None:
    """Who has closed a listener refuses."""
    listener = net.listener()
    address = listener.getsockname()
    net.connected_to(listener)
    listener.close()
    with fails(errno.ECONNREFUSED):
        net.stream().connect(address)


@check(*STREAMS)
def connect_ex(net: Net) -> None:
    """connect_ex() returns the number, and raises what is wrong with the address."""
    client, listener = net.stream(), net.listener()
    assert client.connect_ex(net.nobody()) == errno.ECONNREFUSED
    assert client.connect_ex(listener.getsockname()) == 0
    assert client.connect_ex(listener.getsockname()) == errno.EISCONN
    with pytest.raises(TypeError):
        client.connect_ex(1)  # type: ignore[arg-type]


@check(*STREAMS)
def connected_already(net: Net) -> None:
    """A socket connects once."""
    listener = net.listener()
    client = net.connected_to(listener)
    server = net.accepted(listener)
    for one in (client, server):
        with fails(errno.EISCONN):
            one.connect(listener.getsockname())
    client.close()
    assert server.recv(1) == b""
    with fails(errno.EISCONN):
        server.connect(listener.getsockname())


@check("pair")
def pair_is_connected(net: Net) -> None:
    """Both ends of a pair are connected."""
    path = net.path()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        for one in net.pair():
            with fails(errno.EISCONN):
                one.connect(path)


@check(*STREAMS)
def listener_connects(net: Net) -> None:
    """A listener cannot connect."""
    one, other = net.listener(), net.listener()
    with fails(errno.EISCONN if net.is_ip else errno.EINVAL):
        one.connect(other.getsockname())


@check(*STREAMS)
def closed_socket_connects(net: Net) -> None:
    """A closed socket does nothing of the kind."""
    closed, listener = net.stream(), net.listener()
    closed.close()
    for call in (
        lambda: closed.connect(listener.getsockname()),
        lambda: closed.bind(net.address()),
        closed.listen,
        closed.accept,
    ):
        with fails(errno.EBADF):
            call()
    assert closed.connect_ex(listener.getsockname()) == errno.EBADF


@check(*IP)
def in_progress(net: Net) -> None:
    """A non-blocking connect goes on by itself: writable, SO_ERROR 0, and EISCONN after that."""
    listener, client = net.listener(), net.nonblocking()
    with fails(errno.EINPROGRESS):
        client.connect(listener.getsockname())
    assert is_writable(client)
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    assert client.connect_ex(listener.getsockname()) == 0
    assert client.connect_ex(listener.getsockname()) == errno.EISCONN
    assert client.getpeername() == listener.getsockname()


@check(*IP)
def in_progress_by_number(net: Net) -> None:
    """So does that of connect_ex()."""
    listener, client = net.listener(), net.nonblocking()
    assert client.connect_ex(listener.getsockname()) == errno.EINPROGRESS
    assert is_writable(client)
    net.accepted(listener).sendall(b"x")
    assert is_readable(client)
    assert client.recv(1) == b"x"


@check(*IP)
def in_progress_and_refused(net: Net) -> None:
    """A non-blocking connect to nobody fails later: readable and writable, and SO_ERROR says it, once."""
    client, nobody = net.nonblocking(), net.nobody()
    assert client.connect_ex(nobody) == errno.EINPROGRESS
    becomes(client, "rw")
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    with fails(errno.ENOTCONN):
        client.getpeername()
    listener = net.listener()
    client.setblocking(True)
    assert client.connect_ex(listener.getsockname()) == errno.ECONNABORTED  # the attempt before is cleared away
    client.connect(listener.getsockname())


@check(*IP)
def refused_at_the_next_call(net: Net) -> None:
    """Whatever call comes next says that a non-blocking connect was refused; connect() itself does so, too."""
    for call in (
        lambda one: one.connect(net.nobody()),
        lambda one: one.recv(1),
        lambda one: one.send(b"x"),
    ):
        client = net.nonblocking()
        assert client.connect_ex(net.nobody()) == errno.EINPROGRESS
        becomes(client, "rw")
        with fails(errno.ECONNREFUSED):
            call(client)
        assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


@check(*UNIX)
def nonblocking_at_once(net: Net) -> None:
    """A non-blocking connect of a UNIX socket is done, or refused, at once."""
    listener, client = net.listener(), net.nonblocking()
    assert net.nonblocking().connect_ex(net.nobody()) == errno.ECONNREFUSED
    assert client.connect_ex(listener.getsockname()) == 0
    becomes(client, "w")


@check(*IP)
def backlog_is_full(net: Net) -> None:
    """Where the backlog is full, connecting goes on: EALREADY, not writable, and a timeout where there is one."""
    listener = net.listener(backlog=0)
    net.connected_to(listener)
    client = net.nonblocking()
    assert client.connect_ex(listener.getsockname()) == errno.EINPROGRESS
    assert client.connect_ex(listener.getsockname()) == errno.EALREADY
    assert not is_writable(client, MOMENT)
    with fails(errno.ENOTCONN):
        client.getpeername()
    for call in (lambda: client.send(b"x"), lambda: client.recv(1)):
        with fails(errno.EAGAIN):
            call()
    waiting = net.stream()
    waiting.settimeout(MOMENT)
    with times_out():
        waiting.connect(listener.getsockname())


@check(*UNIX)
def backlog_of_unix_is_full(net: Net) -> None:
    """Where the backlog of a UNIX socket is full, a blocking connect waits, and with a timeout it is EAGAIN at once."""
    listener = net.listener(backlog=0)
    net.connected_to(listener)
    with fails(errno.EAGAIN):
        net.nonblocking().connect(listener.getsockname())
    assert net.nonblocking().connect_ex(listener.getsockname()) == errno.EAGAIN
    client = net.stream()
    client.settimeout(MOMENT)
    with fails(errno.EAGAIN):
        client.connect(listener.getsockname())
    waiting = net.stream()
    task = net.in_thread(lambda: waiting.connect(listener.getsockname()))
    assert task.still_runs()
    net.accepted(listener)
    task.result()


@check(*IP)
def many_wait(net: Net) -> None:
    """As many as the backlog says may wait, also who connects without waiting, and are accepted in order."""
    listener = net.listener(backlog=200)
    clients = [net.nonblocking() for _ in range(150)]
    for client in clients:
        assert client.connect_ex(listener.getsockname()) in (0, errno.EINPROGRESS)
        assert is_writable(client)
    for client in clients:
        assert net.accepted(listener).getpeername() == client.getsockname()


@check(*STREAMS)
def backlog_holds_one_more(net: Net) -> None:
    """A backlog of N holds N + 1 connections; a negative one is none."""
    for backlog, holds in ((1, 2), (5, 6), (-1, 1)):
        listener = net.listener(backlog)
        for _ in range(holds):
            net.connected_to(listener)
        late = net.nonblocking()
        assert late.connect_ex(listener.getsockname()) == (errno.EINPROGRESS if net.is_ip else errno.EAGAIN)


@check(*STREAMS)
def accepts_in_order(net: Net) -> None:
    """Connections are accepted in the order in which they came, and none of them twice."""
    listener = net.listener()
    clients = [net.connected_to(listener) for _ in range(10)]
    for number, client in enumerate(clients):
        client.sendall(b"%d" % number)
    assert [net.accepted(listener).recv(1) for _ in clients] == [b"%d" % number for number in range(10)]
    becomes(listener, "")


@check(*STREAMS)
def nothing_to_accept(net: Net) -> None:
    """accept() waits, or says at once that it would."""
    listener = net.listener()
    listener.setblocking(False)
    with fails(errno.EAGAIN):
        listener.accept()
    listener.settimeout(MOMENT)
    with times_out():
        listener.accept()
    listener.settimeout(None)
    task = net.in_thread(listener.accept)
    assert task.still_runs()
    net.connected_to(listener)
    task.result()[0].close()


@check(*STREAMS)
def accepts_from_no_listener(net: Net) -> None:
    """Only who listens accepts."""
    for one in (net.stream(), net.bound(), *net.pair()):
        with fails(errno.EINVAL):
            one.accept()
        one.setblocking(False)
        with fails(errno.EINVAL):
            one.accept()


@check(*STREAMS)
def listens_twice(net: Net) -> None:
    """listen() again changes the backlog."""
    listener = net.listener(0)
    listener.listen(5)
    for _ in range(4):
        net.connected_to(listener)
    listener.listen()


@check(*STREAMS)
def connected_does_not_listen(net: Net) -> None:
    """A connected socket cannot listen."""
    for one in net.pair():
        with fails(errno.EINVAL):
            one.listen()


@check(*STREAMS)
def datagrams_do_not_listen(net: Net) -> None:
    """A datagram socket neither listens nor accepts."""
    one = net.datagram()
    with fails(errno.EOPNOTSUPP):
        one.listen()
    with fails(errno.EOPNOTSUPP):
        one.accept()


@check(*IP)
def listens_unbound(net: Net) -> None:
    """listen() without bind() takes a port of its own, on all addresses."""
    listener = net.stream()
    listener.listen()
    host, port = listener.getsockname()[:2]
    assert host == net.wildcard
    assert port
    net.stream().connect((net.host, port))
    net.accepted(listener)


@check(*UNIX)
def unix_does_not_listen_unbound(net: Net) -> None:
    """A UNIX socket that is not bound cannot listen."""
    with fails(errno.EINVAL):
        net.stream().listen()


@check(*STREAMS)
def client_has_gone_before(net: Net) -> None:
    """A connection whose client has gone is accepted all the same, with all that it has sent."""
    listener = net.listener()
    client = net.connected_to(listener)
    client.sendall(b"farewell")
    client.close()
    assert receive_all(net.accepted(listener)) == b"farewell"


@check(*IP)
def client_was_reset_before(net: Net) -> None:
    """So is one that was reset."""
    listener = net.listener()
    reset(net.connected_to(listener))
    assert is_readable(listener)
    server = net.accepted(listener)
    with fails(errno.ECONNRESET):
        server.recv(1)
    with fails(errno.ENOTCONN):
        server.getpeername()


@check(*STREAMS)
def listener_closes_on_those_who_wait(net: Net) -> None:
    """Who was never accepted is reset when the listener closes."""
    listener = net.listener()
    client = net.connected_to(listener)
    listener.close()
    becomes(client, "rw")
    tells_of_a_reset(client)


@check(*STREAMS)
def listener_closes_on_those_who_have_sent(net: Net) -> None:
    """So is who has sent something."""
    listener = net.listener()
    client = net.connected_to(listener)
    client.sendall(b"never read")
    listener.close()
    with fails(errno.ECONNRESET):
        client.recv(1)


@check(*STREAMS)
def listener_closes_on_the_accepted(net: Net) -> None:
    """Connections that were accepted go on without the listener."""
    client, server = net.pair()
    client.sendall(b"x")
    assert server.recv(1) == b"x"


@check(*STREAMS)
def shut_listener(net: Net) -> None:
    """A listener that is shut down accepts nobody; whoever waits in accept() is told."""
    listener = net.listener()
    task = net.in_thread(listener.accept)
    assert task.still_runs()
    listener.shutdown(socket.SHUT_RDWR)
    with fails(errno.EINVAL):
        task.result()
    with fails(errno.ECONNREFUSED):
        net.stream().connect(listener.getsockname())


@check(*STREAMS)
def wait_for_a_server(net: Net) -> None:
    """A client that tries again and again gets through once somebody listens."""
    bound = net.bound()
    client = net.stream()
    assert [client.connect_ex(bound.getsockname()) for _ in range(3)] == [errno.ECONNREFUSED] * 3
    bound.listen()
    assert client.connect_ex(bound.getsockname()) == 0


@check(*IP)
def bound_client(net: Net) -> None:
    """A client that has bound itself connects from that port."""
    listener, client = net.listener(), net.bound()
    address = client.getsockname()
    client.connect(listener.getsockname())
    server, peer = listener.accept()
    with server:
        assert address == client.getsockname() == server.getpeername() == peer


@check(*UNIX)
def bound_unix_client(net: Net) -> None:
    """A UNIX client has the name that it has bound itself to."""
    listener, client = net.listener(), net.bound()
    client.connect(listener.getsockname())
    server, peer = listener.accept()
    with server:
        assert client.getsockname() == server.getpeername() == peer


@check(*IP)
def create_connection(net: Net) -> None:
    """socket.create_connection() connects, with a timeout and from a source address."""
    listener = net.listener()
    with socket.create_connection(listener.getsockname()[:2]) as client:
        assert client.gettimeout() is None
        assert client.getpeername() == listener.getsockname()
    bound = net.nobody()[:2]
    with socket.create_connection(listener.getsockname()[:2], timeout=5, source_address=bound) as client:
        assert client.gettimeout() == 5
        assert client.getsockname()[:2] == bound
    with fails(errno.ECONNREFUSED):
        socket.create_connection(net.nobody()[:2])


@check("tcp4")
def create_connection_by_name(net: Net) -> None:
    """localhost is 127.0.0.1, whatever else it may be."""
    listener = net.listener()
    with socket.create_connection(("localhost", listener.getsockname()[1])) as client:
        assert client.getpeername() == listener.getsockname()
        assert client.type == socket.SOCK_STREAM
        assert client.proto == socket.IPPROTO_TCP


@check("tcp4")
def create_connection_times_out(net: Net) -> None:
    """create_connection() raises the timeout of its connect()."""
    listener = net.listener(0)
    net.connected_to(listener)
    with times_out():
        socket.create_connection(listener.getsockname(), timeout=MOMENT)


@check(*IP)
def create_server(net: Net) -> None:
    """socket.create_server() listens, and may take a port again at once; that which is in use says which."""
    with socket.create_server((net.host, 0), family=net.family) as server:
        address = server.getsockname()[:2]
        with socket.create_connection(address):
            accepted = server.accept()[0]
        text = f"{os.strerror(errno.EADDRINUSE)} (while attempting to bind on address {address})"
        with says(OSError, f"[Errno {errno.EADDRINUSE}] {text}"):
            socket.create_server(address, family=net.family)
    accepted.close()
    with socket.create_server(address, family=net.family):
        pass


@check(*STREAMS)
def accepted_is_blocking(net: Net) -> None:
    """An accepted socket has the default timeout, whatever that of the listener is."""
    for timeout in (None, 0.0, 5.0):
        listener = net.listener()
        net.connected_to(listener)
        listener.settimeout(timeout)
        assert is_readable(listener)
        server = net.accepted(listener)
        assert (server.gettimeout(), os.get_blocking(server.fileno())) == (None, True)
    socket.setdefaulttimeout(7.0)
    try:
        client = net.connected_to(listener)
        assert client.gettimeout() == net.accepted(listener).gettimeout() == 7.0
    finally:
        socket.setdefaulttimeout(None)


@check(*STREAMS)
def listener_sends(net: Net) -> None:
    """Nothing is sent to or received from a listener."""
    listener = net.listener()
    listener.setblocking(False)
    with fails(errno.EPIPE if net.is_ip else errno.ENOTCONN):
        listener.send(b"x")
    with fails(errno.ENOTCONN if net.is_ip else errno.EINVAL):
        listener.recv(1)
    with fails(errno.ENOTCONN):
        listener.getpeername()


@check(*STREAMS)
def many_at_once(net: Net) -> None:
    """A hundred connections wait, and each has its own data."""
    listener = net.listener(128)
    clients = [net.connected_to(listener) for _ in range(100)]
    servers = [net.accepted(listener) for _ in clients]
    for number, server in enumerate(servers):
        server.sendall(b"%3d" % number)
    assert [receive(client, 3) for client in clients] == [b"%3d" % number for number in range(100)]


@check("tcp4", "path")
def full_client_before_accept(net: Net) -> None:
    """Who is not yet accepted can send only so much."""
    listener = net.listener()
    client = net.connected_to(listener)
    sent = fill(client)
    client.shutdown(socket.SHUT_WR)
    assert len(receive_all(net.accepted(listener))) == sent
