"""Many threads at once, and descriptors that change hands between them."""

from __future__ import annotations

import os
import random
import select
import socket
import threading

from loopback.checks import CONNECTED, MOMENT, STREAMS, Net, check, receive, receive_all

THREADS = 64


@check(*STREAMS)
def accept_together(net: Net) -> None:
    """Of many threads that wait in accept(), each gets a connection of its own."""
    listener = net.listener()
    tasks = [net.in_thread(listener.accept) for _ in range(THREADS)]
    clients = [net.connected_to(listener) for _ in tasks]
    servers = [net.keep(task.result()[0]) for task in tasks]
    for number, client in enumerate(clients):
        client.sendall(b"%2d" % number)
    assert sorted(receive(server, 2) for server in servers) == sorted(b"%2d" % number for number in range(THREADS))


@check(*STREAMS)
def talk_together(net: Net) -> None:
    """Many conversations at once do not disturb each other."""
    listener = net.listener()
    address = listener.getsockname()

    def serve() -> None:
        with listener.accept()[0] as server:
            while data := server.recv(1000):
                server.sendall(data.upper())

    def ask(number: int) -> None:
        with socket.socket(net.family) as client:
            client.connect(address)
            for turn in range(20):
                question = b"%d asks %d" % (number, turn)
                client.sendall(question)
                assert receive(client, len(question)) == question.upper()

    tasks = [net.in_thread(serve) for _ in range(THREADS)]
    tasks += [net.in_thread(lambda number=number: ask(number)) for number in range(THREADS)]  # type: ignore[misc]
    for task in tasks:
        task.result()


@check(*CONNECTED)
def send_together(net: Net) -> None:
    """What several threads send over one connection arrives whole: small pieces are not mixed."""
    one, other = net.pair()
    lines = [bytes([65 + number]) * 99 + b"\n" for number in range(8)]
    tasks = [net.in_thread(lambda line=line: [one.send(line) for _ in range(200)]) for line in lines]  # type: ignore[misc]
    received = receive(other, 8 * 200 * 100).splitlines(keepends=True)
    for task in tasks:
        task.result()
    assert sorted(received) == sorted(lines * 200)


@check(*CONNECTED)
def receive_together(net: Net) -> None:
    """Of several threads that read one connection, each byte comes to one of them, and the end to all."""
    one, other = net.pair()
    tasks = [net.in_thread(lambda: receive_all(one)) for _ in range(8)]
    other.sendall(b"x" * 100_000)
    other.close()
    assert sum(len(task.result()) for task in tasks) == 100_000


@check(*CONNECTED)
def close_together(net: Net) -> None:
    """A socket that several threads close at once is closed."""
    for _ in range(20):
        one, other = net.pair()
        go = threading.Barrier(4)

        def close(one: socket.socket = one, go: threading.Barrier = go) -> None:
            go.wait()
            one.close()

        for task in [net.in_thread(close) for _ in range(4)]:
            task.result()
        assert other.recv(1) == b""


@check(*CONNECTED)
def shut_down_together(net: Net) -> None:
    """All that wait in recv() for one socket are woken by its shutdown."""
    one, _ = net.pair()
    tasks = [net.in_thread(lambda: one.recv(1)) for _ in range(8)]
    assert all(task.still_runs() for task in tasks[:1])
    one.shutdown(socket.SHUT_RDWR)
    assert [task.result() for task in tasks] == [b""] * 8


def pipes_stay_whole(done: threading.Event) -> int:
    """Make pipes, use and close them, until it is done: nobody else may read, write or close their descriptors."""
    rounds = 0
    while not done.is_set():
        reading, writing = os.pipe()
        token = random.randbytes(8)
        os.write(writing, token)
        assert select.select([reading], [], [], 0)[0] == [reading]
        assert os.read(reading, 100) == token
        os.close(writing)
        assert os.read(reading, 1) == b""
        os.close(reading)
        rounds += 1
    return rounds


@check(*CONNECTED)
def numbers_change_hands(net: Net) -> None:
    """While sockets come and go in some threads, the pipes of others, which get the same numbers, are left alone."""
    done = threading.Event()
    listener = None if net.kind == "pair" else net.listener()

    def make() -> tuple[socket.socket, socket.socket]:
        if listener is None:
            return socket.socketpair()
        client = socket.socket(net.family)
        client.connect(listener.getsockname())
        return client, listener.accept()[0]

    def come_and_go() -> None:
        for number in range(150):
            one, other = make()
            with one, other:
                one.send(b"x")
                assert other.recv(1) == b"x"
                if number % 2:
                    other.close()
                    one.recv(1)

    watching = [net.in_thread(lambda: pipes_stay_whole(done)) for _ in range(2)]
    for task in [net.in_thread(come_and_go) for _ in range(3)]:
        task.result()
    done.set()
    assert all(task.result() for task in watching)


@check(*CONNECTED)
def closes_under_the_sender(net: Net) -> None:
    """A number that is given back while another thread sends is not written to once somebody else has it."""
    for _ in range(30):
        one, other = net.pair()
        started = threading.Event()

        def send(one: socket.socket = one, started: threading.Event = started) -> None:
            started.set()
            try:
                while True:
                    one.send(b"not for the pipe")
            except OSError:
                return

        task = net.in_thread(send)
        started.wait()
        drain = net.in_thread(lambda other=other: receive_all(other))  # type: ignore[misc]
        one.close()
        pipes = [os.pipe() for _ in range(3)]
        try:
            task.result()
            drain.result()
            assert select.select([reading for reading, _ in pipes], [], [], 0)[0] == []
        finally:
            for end in sum(pipes, ()):
                os.close(end)


@check(*CONNECTED)
def closes_under_the_selector(net: Net) -> None:
    """A socket that is closed while another thread waits for it in select() lets that wait on: nobody is disturbed."""
    one, _ = net.pair()
    task = net.in_thread(lambda: select.select([one], [], [], 4 * MOMENT))
    assert task.still_runs()
    one.close()
    reading, writing = os.pipe()
    try:
        task.thread.join(30)
        assert not task.thread.is_alive()
        os.write(writing, b"x")
        assert os.read(reading, 1) == b"x"
    finally:
        os.close(reading)
        os.close(writing)
