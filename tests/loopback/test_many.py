"""What must hold ten thousand times in a row: nothing is left of a connection that has ended."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from loopback.checks import LIMIT, Net, limited, receive, receive_all, reset
from loopback.processes import forked, python, says_line
from support import nothing_leaks

if sys.platform != "linux":
    pytest.skip("virtual sockets are for Linux", allow_module_level=True)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("sockets")]
KINDS = ("tcp4", "tcp6", "path", "abstract", "pair")
CONNECTIONS = 10_000
THREADS = 64
MANY = 4 * LIMIT  # seconds
PAGES = 4 << 20 >> 12  # of memory, in which what ten thousand connections leave would not fit


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def net(kind: str) -> Iterator[Net]:
    with Net(kind) as warm:
        warm.pair()  # what is made once, and stays, is not a leak
    with limited(MANY), nothing_leaks(), Net(kind) as net:
        yield net


def pages() -> int:
    """How much of this process is in memory."""
    gc.collect()
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1])


def maker(net: Net) -> Callable[[], tuple[socket.socket, socket.socket]]:
    """Return what makes connections, over one listener."""
    if net.kind == "pair":
        return socket.socketpair
    listener = net.listener()
    address = listener.getsockname()

    def make() -> tuple[socket.socket, socket.socket]:
        client = socket.socket(net.family)
        client.connect(address)
        return client, listener.accept()[0]

    return make


def talk(one: socket.socket, other: socket.socket) -> None:
    one.sendall(b"question")
    assert receive(other, 8) == b"question"
    other.sendall(b"answer")
    assert receive(one, 6) == b"answer"
    reset(one)  # or the ports of real ones would be used up
    other.close()


def test_ten_thousand(net: Net) -> None:
    """Ten thousand connections leave no descriptor, no thread and no memory behind."""
    make = maker(net)
    for _ in range(CONNECTIONS // 10):
        talk(*make())
    before = pages()
    for _ in range(CONNECTIONS):
        talk(*make())
    assert pages() - before < PAGES


def test_ways_to_leave(net: Net) -> None:
    """Nor does one that is left in some other way: unread, never accepted, dropped, half closed, refused."""
    make = maker(net)
    for _ in range(300):
        one, other = make()
        one.sendall(b"never read")
        other.close()
        one.close()
        one, other = make()
        one.shutdown(socket.SHUT_WR)
        with one.makefile("rb"), other.dup():
            other.close()
            one.close()
        if net.kind == "pair":
            continue
        with socket.socket(net.family) as listener, socket.socket(net.family) as client:
            listener.bind(net.address())
            listener.listen()
            client.connect(listener.getsockname())
            client.sendall(b"never accepted")
        with socket.socket(net.family) as client:
            client.connect_ex(net.nobody())


def test_many_threads(net: Net) -> None:
    """Nor do those of many threads at once."""
    make = maker(net)

    def talk_often() -> None:
        for _ in range(20):
            one, other = make()
            one.sendall(b"question")
            other.sendall(b"question")  # whichever of the clients it belongs to
            assert receive(one, 8) == receive(other, 8) == b"question"
            reset(one)
            other.close()

    tasks = [net.in_thread(talk_often) for _ in range(THREADS)]
    for task in tasks:
        task.result(MANY)


def test_many_at_once(net: Net) -> None:
    """Nor do many that are open at the same time."""
    make = maker(net)
    for _ in range(3):
        ends = [make() for _ in range(120)]
        for number, (one, _) in enumerate(ends):
            one.sendall(b"%3d" % number)
        assert [receive(other, 3) for _, other in ends] == [b"%3d" % number for number in range(120)]
        for one, other in ends:
            reset(one)
            other.close()


@pytest.mark.parametrize("kind", ["tcp4", "path"])
def test_many_across_processes(net: Net) -> None:
    """Nor do a thousand connections to another process, here or there."""
    code = """
    import os, socket, sys
    listener = socket.socket(int(sys.argv[1]))
    listener.bind(eval(sys.argv[2]))
    listener.listen()
    print(repr(listener.getsockname()), flush=True)
    while True:
        server, _ = listener.accept()
        with server:
            if server.recv(1) == b"?":
                server.sendall(b"%3d" % len(os.listdir("/dev/fd")))
    """
    with python(code, str(int(net.family)), repr(net.address())) as child:
        name = eval(says_line(child))

        def ask() -> int:
            with socket.socket(net.family) as client:
                client.connect(name)
                client.sendall(b"?")
                return int(receive_all(client))

        before = ask()
        for _ in range(1000):
            assert ask() <= before + 2


@pytest.mark.parametrize("kind", ["tcp4", "path"])
def test_many_are_killed(net: Net) -> None:
    """Nor do connections to processes that are killed in the middle, at whatever moment."""
    listener = net.listener()
    address = listener.getsockname()

    def send() -> None:
        while True:
            with socket.socket(net.family) as client:
                client.connect(address)
                client.sendall(b"x" * 200_000)

    for moment in (0, 1, 1000, 150_000, 400_000) * 3:
        child = forked(net, send)
        got = 0
        while True:
            with listener.accept()[0] as server:
                got += len(receive(server, max(moment - got, 0)))
                if got >= moment:
                    child.kill()
                    drain(server)
                    break
        accept_the_rest(listener)


def drain(one: socket.socket) -> None:
    try:
        receive_all(one)
    except ConnectionResetError:
        pass


def accept_the_rest(listener: socket.socket) -> None:
    """Take what a process that is gone has left in the backlog."""
    listener.setblocking(False)
    try:
        while True:
            with listener.accept()[0] as server:
                drain(server)
    except BlockingIOError:
        listener.setblocking(True)


@pytest.mark.parametrize("kind", ["tcp4"])
def test_many_children(net: Net) -> None:
    """Nor do children that come and go, one after the other, each with connections of its own."""
    listener = net.listener()
    code = "import socket, sys; socket.create_connection(eval(sys.argv[1])).sendall(b'x')"
    for _ in range(10):
        subprocess.run([sys.executable, "-c", code, repr(listener.getsockname())], check=True, timeout=LIMIT)
        with listener.accept()[0] as server:
            assert receive_all(server) == b"x"
