"""What select, poll, epoll and selectors see of sockets in each of their states."""

from __future__ import annotations

import errno
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable

from loopback.checks import (
    CONNECTED,
    IP,
    LIMIT,
    MOMENT,
    STREAMS,
    Net,
    becomes,
    check,
    fails,
    fill,
    is_writable,
    receive,
    reset,
)

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
UNIX_CONNECTED = ("path", "abstract", "pair")
SELECTORS = (selectors.SelectSelector, selectors.PollSelector, selectors.EpollSelector)
POLL_BITS = {getattr(select, f"POLL{name}"): name for name in ("IN", "PRI", "OUT", "ERR", "HUP", "NVAL", "RDHUP")}


def polled(one: socket.socket) -> str:
    """The names of what poll() sees."""
    poll = select.poll()
    poll.register(one, select.POLLIN | select.POLLPRI | select.POLLOUT | select.POLLRDHUP)
    events = dict(poll.poll(0)).get(one.fileno(), 0)
    return " ".join(name for bit, name in POLL_BITS.items() if events & bit)


def sees(one: socket.socket, wanted: int) -> None:
    """Assert what every selector sees of a socket."""
    becomes(one, "r" * bool(wanted & READ) + "w" * bool(wanted & WRITE))
    for make in SELECTORS:
        with make() as selector:
            selector.register(one, READ | WRITE)
            seen = [events for _, events in selector.select(0)]
        assert seen == ([wanted] if wanted else [])


@check(*STREAMS)
def listener(net: Net) -> None:
    """A listener is readable while there is somebody to accept."""
    one = net.listener()
    sees(one, 0)
    first, second = net.connected_to(one), net.connected_to(one)
    for _ in (first, second):
        sees(one, READ)
        net.accepted(one)
    sees(one, 0)


@check(*CONNECTED)
def connected(net: Net) -> None:
    """A connection is writable while there is room, and readable while there is data."""
    one, other = net.pair()
    sees(one, WRITE)
    other.sendall(b"ab")
    sees(one, READ | WRITE)
    one.recv(1)
    sees(one, READ | WRITE)
    one.recv(1)
    sees(one, WRITE)
    sent = fill(one)
    sees(one, 0)
    other.sendall(b"x")
    sees(one, READ)
    receive(other, sent)
    sees(one, READ | WRITE)


@check(*CONNECTED)
def at_the_end(net: Net) -> None:
    """The end of the peer's data is readable, for ever; a half-closed connection is writable."""
    one, other = net.pair()
    other.shutdown(socket.SHUT_WR)
    sees(one, READ | WRITE)
    assert one.recv(1) == b""
    sees(one, READ | WRITE)
    sees(other, WRITE)  # send() would not wait: it fails at once
    other.close()
    sees(one, READ | WRITE)


@check(*CONNECTED)
def after_a_reset(net: Net) -> None:
    """After a reset it is both, before and after the error was told."""
    one, other = net.pair()
    one.sendall(b"never read")
    other.close()
    sees(one, READ | WRITE)
    with fails(errno.ECONNRESET):
        one.recv(1)
    sees(one, READ | WRITE)


@check(*CONNECTED)
def after_shutdown(net: Net) -> None:
    """Who has shut down is readable: there is an end."""
    one, other = net.pair()
    one.shutdown(socket.SHUT_RD)
    sees(one, READ | WRITE)
    one.shutdown(socket.SHUT_WR)
    sees(one, READ | WRITE)
    sees(other, READ | WRITE)


@check(*CONNECTED)
def full_and_closed(net: Net) -> None:
    """Who waits to write is told when the peer closes."""
    one, other = net.pair()
    fill(one)
    sees(one, 0)
    other.close()
    assert is_writable(one)


@check(*STREAMS)
def unconnected(net: Net) -> None:
    """A socket that is not connected is both to selectors by poll and epoll: neither recv() nor send() would wait."""
    for one in (net.stream(), net.bound()):
        for make in (selectors.PollSelector, selectors.EpollSelector):
            with make() as selector:
                selector.register(one, READ | WRITE)
                assert [events for _, events in selector.select(0)] == [READ | WRITE]


@check(*STREAMS)
def datagrams(net: Net) -> None:
    """A datagram socket is writable, and readable while there is a datagram."""
    one, other = net.datagram(), net.datagram()
    sees(one, WRITE)
    other.sendto(b"", one.getsockname())
    sees(one, READ | WRITE)
    one.recv(1)
    sees(one, WRITE)


@check(*STREAMS)
def bits_of_the_unconnected(net: Net) -> None:
    """To poll(), a socket that is not connected is hung up."""
    assert polled(net.stream()) == "OUT HUP"
    assert polled(net.listener()) == ""
    assert polled(net.datagram()) == "OUT"


@check(*CONNECTED)
def bits_of_the_connected(net: Net) -> None:
    """To poll(), an end is also RDHUP, a connection that is over HUP, and an error ERR."""
    one, other = net.pair()
    assert polled(one) == "OUT"
    other.sendall(b"x")
    becomes(one, "rw")
    assert polled(one) == "IN OUT"
    other.shutdown(socket.SHUT_WR)
    one.recv(1)
    becomes(one, "rw")
    assert polled(one) == "IN OUT RDHUP"
    one.shutdown(socket.SHUT_WR)
    becomes(other, "rw")
    assert polled(one) == "IN OUT HUP RDHUP"


@check(*CONNECTED)
def bits_of_the_reset(net: Net) -> None:
    """A reset is everything, and without the error once that was told."""
    one, other = net.pair()
    one.sendall(b"never read")
    other.close()
    becomes(one, "rw")
    assert polled(one) == "IN OUT ERR HUP RDHUP"
    with fails(errno.ECONNRESET):
        one.recv(1)
    assert polled(one) == "IN OUT HUP RDHUP"


@check(*IP)
def bits_of_the_refused(net: Net) -> None:
    """So is a connection that was refused."""
    one = net.nonblocking()
    assert one.connect_ex(net.nobody()) == errno.EINPROGRESS
    becomes(one, "rw")
    assert polled(one) == "IN OUT ERR HUP RDHUP"


@check(*UNIX_CONNECTED)
def bits_of_the_closed(net: Net) -> None:
    """A UNIX socket whose peer has closed is hung up."""
    one, other = net.pair()
    other.close()
    assert polled(one) == "IN OUT HUP RDHUP"


@check(*IP)
def bits_of_a_closed_peer(net: Net) -> None:
    """One of TCP is at an end only, as the peer may have closed one direction."""
    one, other = net.pair()
    other.close()
    becomes(one, "rw")
    assert polled(one) == "IN OUT RDHUP"


@check(*CONNECTED)
def bits_of_what_is_waited_for(net: Net) -> None:
    """poll() tells HUP and ERR without being asked, and nothing else."""
    one, other = net.pair()
    one.sendall(b"never read")
    other.close()
    becomes(one, "rw")
    poll = select.poll()
    poll.register(one, 0)
    assert poll.poll(0) == [(one.fileno(), select.POLLERR | select.POLLHUP)]
    poll.modify(one, select.POLLIN)
    assert poll.poll(0)[0][1] & select.POLLIN
    poll.unregister(one)
    assert poll.poll(0) == []


@check(*CONNECTED)
def waits(net: Net) -> None:
    """Every selector waits until there is something, and no longer than it is told."""
    for make in SELECTORS:
        one, other = net.pair()
        with make() as selector:
            selector.register(one, READ)
            started = time.monotonic()
            assert selector.select(MOMENT) == []
            assert time.monotonic() - started >= MOMENT * 0.9
            task = net.in_thread(lambda: selector.select(LIMIT))
            assert task.still_runs()
            other.sendall(b"x")
            [(key, events)] = task.result()
            assert (key.fileobj, events) == (one, READ)


@check(*CONNECTED)
def waits_to_write(net: Net) -> None:
    """So does it for room."""
    for make in SELECTORS:
        one, other = net.pair()
        sent = fill(one)
        with make() as selector:
            selector.register(one, WRITE)
            assert selector.select(MOMENT) == []
            task = net.in_thread(lambda: selector.select(LIMIT))
            assert task.still_runs()
            receive(other, sent)
            assert [events for _, events in task.result()] == [WRITE]


@check(*STREAMS)
def waits_to_accept(net: Net) -> None:
    """So does it for somebody to accept, and for a connection to be made."""
    for make in SELECTORS:
        one = net.listener()
        with make() as selector:
            selector.register(one, READ)
            task = net.in_thread(lambda: selector.select(LIMIT))
            assert task.still_runs()
            net.connected_to(one)
            assert [events for _, events in task.result()] == [READ]


@check(*CONNECTED)
def changes_its_mind(net: Net) -> None:
    """What is waited for can be changed, while it waits as well."""
    one, other = net.pair()
    with selectors.DefaultSelector() as selector:
        selector.register(one, READ)
        assert selector.select(0) == []
        selector.modify(one, READ | WRITE)
        assert [events for _, events in selector.select(0)] == [WRITE]
        selector.modify(one, READ)
        assert selector.select(0) == []
        selector.unregister(one)
        other.sendall(b"x")
        assert selector.select(0) == []
    with select.epoll() as epoll:
        epoll.register(one, 0)
        task = net.in_thread(lambda: epoll.poll(LIMIT))
        assert task.still_runs()
        epoll.modify(one, select.EPOLLOUT)
        assert task.result() == [(one.fileno(), select.EPOLLOUT)]


@check(*CONNECTED)
def many(net: Net) -> None:
    """Of many sockets, a selector finds those that are ready."""
    pairs = [net.pair() for _ in range(50)]
    for make in SELECTORS:
        with make() as selector:
            for number, (one, _) in enumerate(pairs):
                selector.register(one, READ, number)
            for _, other in pairs[::7]:
                other.sendall(b"x")
            ready: set[int] = set()
            while len(ready) < len(pairs[::7]):
                ready |= {key.data for key, _ in selector.select(LIMIT)}
            assert ready == set(range(0, 50, 7))
            for one, _ in pairs[::7]:
                one.recv(1)


@check(*CONNECTED)
def level_triggered(net: Net) -> None:
    """epoll tells again and again of what is still so."""
    one, other = net.pair()
    with select.epoll() as epoll:
        epoll.register(one, select.EPOLLIN)
        other.sendall(b"ab")
        for _ in range(3):
            assert epoll.poll(LIMIT) == [(one.fileno(), select.EPOLLIN)]
        one.recv(1)
        assert epoll.poll(LIMIT) == [(one.fileno(), select.EPOLLIN)]
        one.recv(1)
        assert epoll.poll(0) == []


@check(*CONNECTED)
def edge_triggered(net: Net) -> None:
    """With EPOLLET, epoll tells once of each thing that happens."""
    one, other = net.pair()
    with select.epoll() as epoll:
        epoll.register(one, select.EPOLLIN | select.EPOLLET)
        other.sendall(b"a")
        assert epoll.poll(LIMIT) == [(one.fileno(), select.EPOLLIN)]
        assert epoll.poll(0) == []
        other.sendall(b"b")
        assert epoll.poll(LIMIT) == [(one.fileno(), select.EPOLLIN)]
        assert receive(one, 2) == b"ab"
        assert epoll.poll(0) == []
        other.sendall(b"c")
        assert epoll.poll(LIMIT) == [(one.fileno(), select.EPOLLIN)]
        other.close()
        assert epoll.poll(LIMIT)[0][1] & select.EPOLLIN


@check(*CONNECTED)
def edge_triggered_write(net: Net) -> None:
    """So it tells of room: at first, and when there is room again after it was full."""
    one, other = net.pair()
    with select.epoll() as epoll:
        epoll.register(one, select.EPOLLOUT | select.EPOLLET)
        assert epoll.poll(LIMIT) == [(one.fileno(), select.EPOLLOUT)]
        assert epoll.poll(0) == []
        sent = fill(one)
        receive(other, sent)
        assert epoll.poll(LIMIT) == [(one.fileno(), select.EPOLLOUT)]


@check(*CONNECTED)
def one_shot(net: Net) -> None:
    """With EPOLLONESHOT, epoll tells once, until it is asked again."""
    one, other = net.pair()
    with select.epoll() as epoll:
        epoll.register(one, select.EPOLLIN | select.EPOLLONESHOT)
        other.sendall(b"ab")
        assert epoll.poll(LIMIT) == [(one.fileno(), select.EPOLLIN)]
        assert epoll.poll(0) == []
        one.recv(1)
        other.sendall(b"c")
        assert epoll.poll(0) == []
        epoll.modify(one, select.EPOLLIN | select.EPOLLONESHOT)
        assert epoll.poll(LIMIT) == [(one.fileno(), select.EPOLLIN)]


@check(*CONNECTED)
def closed_in_epoll(net: Net) -> None:
    """A socket that is closed leaves epoll by itself, and its number can be registered anew."""
    one, other = net.pair()
    again, far = net.pair()
    with select.epoll() as epoll:
        number = one.fileno()
        epoll.register(one, select.EPOLLIN)
        other.sendall(b"x")
        one.close()
        assert epoll.poll(0) == []
        with fails(errno.EBADF):
            epoll.unregister(number)
        while net.keep(again.dup()).fileno() != number:
            pass
        epoll.register(number, select.EPOLLIN)
        assert epoll.poll(0) == []
        far.sendall(b"x")
        assert epoll.poll(LIMIT) == [(number, select.EPOLLIN)]


@check(*CONNECTED)
def closed_elsewhere(net: Net) -> None:
    """Of a closed number, select() is EBADF and poll() tells NVAL."""
    one = net.pair()[0]
    number = one.fileno()
    one.close()
    with fails(errno.EBADF):
        select.select([number], [], [], 0)
    poll = select.poll()
    poll.register(number)
    assert poll.poll(0) == [(number, select.POLLNVAL)]


@check(*CONNECTED)
def by_number(net: Net) -> None:
    """Selectors take the number as well as the object."""
    one, other = net.pair()
    other.sendall(b"x")
    assert select.select([one.fileno()], [one], [], LIMIT)[:2] == ([one.fileno()], [one])
    assert one.recv(1) == b"x"


@check(*CONNECTED)
def never_exceptional(net: Net) -> None:
    """Neither an end nor a reset is exceptional to select()."""
    for close in (socket.socket.close, reset):
        one, other = net.pair()
        close(other)
        becomes(one, "rw")
        assert select.select([], [], [one], 0) == ([], [], [])


@check(*CONNECTED)
def read_by_another(net: Net) -> None:
    """Two threads may wait for one socket: both are woken, and one of them finds nothing."""
    one, other = net.pair()
    one.setblocking(False)
    tasks = [net.in_thread(lambda: select.select([one], [], [], LIMIT)[0]) for _ in range(2)]
    assert all(task.still_runs() for task in tasks)
    other.sendall(b"x")
    for task in tasks:
        assert task.result() == [one]
    assert one.recv(1) == b"x"
    with fails(errno.EAGAIN):
        one.recv(1)


@check(*CONNECTED)
def no_wakeup_is_lost(net: Net) -> None:
    """Readiness is right however sending, receiving and waiting meet."""
    one, other = net.pair()
    answers = 3000

    def echo() -> None:
        with selectors.DefaultSelector() as selector:
            selector.register(other, READ)
            for _ in range(answers):
                assert selector.select(LIMIT)
                other.send(other.recv(1))

    other.setblocking(False)
    task = net.in_thread(echo)
    for number in range(answers):
        one.send(b"%d" % (number % 10))
        assert one.recv(1) == b"%d" % (number % 10)
    task.result()


def threads_wait(net: Net, wait: Callable[[], object], wake: Callable[[], object]) -> None:
    tasks = [net.in_thread(wait) for _ in range(8)]
    wake()
    for task in tasks:
        task.result()


@check(*STREAMS)
def many_wait_for_a_listener(net: Net) -> None:
    """Several threads may wait for one listener, and each connection is accepted once."""
    one = net.listener()
    one.setblocking(False)
    accepted: list[socket.socket] = []
    done = threading.Event()

    def accept() -> None:
        while not done.is_set():
            if select.select([one], [], [], MOMENT)[0]:
                try:
                    accepted.append(net.accepted(one))
                except BlockingIOError:
                    continue

    def connect() -> None:
        clients = [net.connected_to(one) for _ in range(50)]
        for client in clients:
            client.sendall(b"x")
        while len(accepted) < len(clients):
            assert not done.wait(0.001)
        done.set()

    threads_wait(net, accept, connect)
    assert [receive(server, 1) for server in accepted] == [b"x"] * 50
