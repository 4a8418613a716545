"""Sockets and processes: fork with open sockets, children that are started anew, and children that are killed."""

from __future__ import annotations

import errno
import multiprocessing
import multiprocessing.connection
import os
import select
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from loopback.checks import CONNECTED, IP, LIMIT, STREAMS, Net, check, fails, receive, receive_all


class Forked:
    """A child by fork that runs one function and is gone."""

    def __init__(self, function: Callable[[], object]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of a fork while there are other threads
            self.pid = os.fork()
        if not self.pid:
            self._run(function)
        self.ended = os.pidfd_open(self.pid)

    @staticmethod
    def _run(function: Callable[[], object]) -> None:
        code = 1
        try:
            function()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def exit_code(self) -> int:
        """Wait until it has ended."""
        assert select.select([self.ended], [], [], LIMIT)[0], "the child goes on"
        return os.waitstatus_to_exitcode(os.waitid(os.P_PIDFD, self.ended, os.WEXITED | os.WNOWAIT).si_status << 8)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        select.select([self.ended], [], [], LIMIT)

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.ended)


def forked(net: Net, function: Callable[[], object]) -> Forked:
    child: Forked = net.keep(Forked(function))
    return child


@check(*STREAMS)
def child_accepts(net: Net) -> None:
    """A forked child accepts on the listener that it has inherited."""
    listener = net.listener()

    def serve() -> None:
        with listener.accept()[0] as server:
            server.sendall(server.recv(10).upper())

    child = forked(net, serve)
    client = net.connected_to(listener)
    client.sendall(b"tea")
    assert receive_all(client) == b"TEA"
    assert child.exit_code() == 0


@check(*STREAMS)
def children_accept(net: Net) -> None:
    """Several children accept on one listener: each connection comes to one of them, which ends when it is told."""
    listener = net.listener()

    def serve() -> None:
        while True:
            with listener.accept()[0] as server:
                if server.recv(1) == b"q":
                    return
                server.sendall(b"%d" % os.getpid())

    children = [forked(net, serve) for _ in range(3)]
    pids = set()
    for _ in range(12):
        client = net.connected_to(listener)
        client.sendall(b"?")
        pids.add(int(receive_all(client)))
    assert pids <= {child.pid for child in children}
    for _ in children:
        net.connected_to(listener).sendall(b"q")
    assert [child.exit_code() for child in children] == [0, 0, 0]


@check(*STREAMS)
def parent_accepts(net: Net) -> None:
    """A forked child connects to its parent's listener."""
    listener = net.listener()

    def ask() -> None:
        with socket.socket(net.family) as client:
            client.connect(listener.getsockname())
            client.sendall(b"tea")
            assert receive(client, 3) == b"TEA"

    child = forked(net, ask)
    server = net.accepted(listener)
    server.sendall(receive(server, 3).upper())
    assert child.exit_code() == 0


@check(*STREAMS)
def child_listens(net: Net) -> None:
    """A forked child listens, and its parent connects; the name is in use meanwhile, and refused after its end."""
    reading, writing = os.pipe()
    address = net.address()

    def serve() -> None:
        with socket.socket(net.family) as listener:
            listener.bind(address)
            listener.listen()
            os.write(writing, repr(listener.getsockname()).encode())
            with listener.accept()[0] as server:
                server.sendall(receive(server, 3).upper())
                receive(server, 1)

    try:
        child = forked(net, serve)
        name = eval(os.read(reading, 1000))
        client = net.stream()
        client.connect(name)
        client.sendall(b"tea")
        assert receive(client, 3) == b"TEA"
        with fails(errno.EADDRINUSE):
            net.stream().bind(name)
        client.close()
        assert child.exit_code() == 0
        with fails(errno.ECONNREFUSED):
            net.stream().connect(name)
    finally:
        os.close(reading)
        os.close(writing)


@check(*CONNECTED)
def connection_is_inherited(net: Net) -> None:
    """A connection is in both processes after a fork, and ends with the last of them."""
    one, other = net.pair()

    def send() -> None:
        other.close()
        assert receive(one, 5) == b"begin"
        one.sendall(b"from the child")

    child = forked(net, send)
    one.close()
    other.sendall(b"begin")
    assert receive_all(other) == b"from the child"
    assert child.exit_code() == 0


@check(*CONNECTED)
def childs_end_is_not_ours(net: Net) -> None:
    """A child that ends leaves its parent's connection as it was, whatever it closed."""
    one, other = net.pair()
    one.sendall(b"before")

    def close() -> None:
        one.close()
        other.close()

    assert forked(net, close).exit_code() == 0
    assert receive(other, 6) == b"before"
    one.sendall(b"after")
    assert receive(other, 5) == b"after"
    other.sendall(b"back")
    assert receive(one, 4) == b"back"


@check(*CONNECTED)
def shutdown_is_ours(net: Net) -> None:
    """A child that shuts a connection down does so for its parent, too."""
    one, other = net.pair()
    assert forked(net, lambda: one.shutdown(socket.SHUT_RDWR)).exit_code() == 0
    assert other.recv(1) == b""
    with fails(errno.EPIPE):
        one.send(b"x")


@check(*CONNECTED)
def talk_across_a_fork(net: Net) -> None:
    """Parent and child talk over a pair that was made before the fork, back and forth, and much at once."""
    one, other = net.pair()
    data = os.urandom(1 << 20) * 4

    def echo() -> None:
        one.close()
        for _ in range(100):
            other.sendall(receive(other, 3).upper())
        other.sendall(receive(other, len(data)))

    child = forked(net, echo)
    other.close()
    for number in range(100):
        one.sendall(b"%3d" % number)
        assert receive(one, 3) == b"%3d" % number
    sending = net.in_thread(lambda: one.sendall(data))
    assert receive(one, len(data)) == data
    sending.result()
    assert receive_all(one) == b""
    assert child.exit_code() == 0


@check(*CONNECTED)
def fork_in_the_middle(net: Net) -> None:
    """A fork in the middle of a transfer between two threads loses nothing of it and repeats nothing."""
    one, other = net.pair()
    data = os.urandom(1 << 20) * 8
    sending = net.in_thread(lambda: one.sendall(data))
    received = receive(other, 1 << 20)
    assert forked(net, lambda: None).exit_code() == 0
    received += receive(other, len(data) - len(received))
    sending.result()
    assert received == data


@check(*CONNECTED)
def child_is_killed(net: Net) -> None:
    """When a child is killed, its connections end, in the middle or not."""
    one, other = net.pair()

    def send() -> None:
        other.close()
        one.sendall(b"half")
        threading.Event().wait()

    child = forked(net, send)
    one.close()
    assert receive(other, 4) == b"half"
    waiting = net.in_thread(lambda: other.recv(1))
    assert waiting.still_runs()
    child.kill()
    assert waiting.result() == b""


@check(*STREAMS)
def child_is_killed_with_much_to_read(net: Net) -> None:
    """What a killed child has sent is there to read after its end."""
    listener = net.listener()

    def send() -> None:
        with socket.socket(net.family) as client:
            client.connect(listener.getsockname())
            client.sendall(b"x" * 10_000)
            threading.Event().wait()

    child = forked(net, send)
    server = net.accepted(listener)
    assert receive(server, 1) == b"x"
    child.kill()
    assert len(receive_all(server)) == 9_999


@check(*STREAMS)
def datagrams_across_a_fork(net: Net) -> None:
    """Datagrams cross processes, with addresses that answer."""
    one = net.datagram()

    def ask() -> None:
        with socket.socket(net.family, socket.SOCK_DGRAM) as other:
            other.bind(net.address())
            other.sendto(b"tea", one.getsockname())
            assert other.recvfrom(10) == (b"TEA", one.getsockname())

    child = forked(net, ask)
    data, address = one.recvfrom(10)
    one.sendto(data.upper(), address)
    assert child.exit_code() == 0


@contextmanager
def python(code: str, *args: str, **kwargs: object) -> Iterator[subprocess.Popen[str]]:
    """A child that is started anew, with what it says as a pipe."""
    command = [sys.executable, "-c", textwrap.dedent(code), *args]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **kwargs) as child:  # type: ignore[call-overload]
        try:
            yield child
        finally:
            child.kill()


def says_line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


@check(*STREAMS)
def new_child_connects(net: Net) -> None:
    """A Python that is started anew connects to its parent's listener."""
    listener = net.listener()
    code = """
    import socket, sys
    client = socket.socket(int(sys.argv[1]))
    client.connect(eval(sys.argv[2]))
    client.sendall(b"tea")
    print(client.recv(10), client.getpeername() == eval(sys.argv[2]), flush=True)
    """
    with python(code, str(int(net.family)), repr(listener.getsockname())) as child:
        server = net.accepted(listener)
        assert receive(server, 3) == b"tea"
        server.sendall(b"TEA")
        assert says_line(child) == "b'TEA' True"
        assert receive_all(server) == b""
        assert child.wait(LIMIT) == 0


@check("tcp4")
def taken_for_another_family(net: Net) -> None:
    """What a number stands for is what it is, whatever family it is opened as: so gunicorn finds out what it has."""
    listener = net.listener()
    code = """
    import socket, sys
    for family in (socket.AF_UNIX, socket.AF_INET6, socket.AF_INET):
        one = socket.fromfd(int(sys.argv[1]), family, socket.SOCK_STREAM)
        print(one.getsockname(), one.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN), flush=True)
    """
    with python(code, str(listener.fileno()), pass_fds=[listener.fileno()]) as child:
        for _ in range(3):
            assert says_line(child) == f"{listener.getsockname()} {int(net.family)}"
        assert child.wait(LIMIT) == 0


@check(*STREAMS)
def told_not_to_wait(net: Net) -> None:
    """A child may say of a listener's bare number that calls do not wait, before it makes a socket of it."""
    listener = net.listener()
    code = """
    import fcntl, os, socket, sys
    number, family = map(int, sys.argv[1:])
    os.set_blocking(number, False)
    print(os.get_blocking(number), bool(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_NONBLOCK), flush=True)
    try:
        socket.fromfd(number, family, socket.SOCK_STREAM).accept()
    except BlockingIOError:
        print("nobody", flush=True)
    """
    arguments = str(listener.fileno()), str(int(net.family))
    with python(code, *arguments, pass_fds=[listener.fileno()]) as child:
        assert says_line(child) == "False True"
        assert says_line(child) == "nobody"
        assert child.wait(LIMIT) == 0


@check(*IP)
def kept_to_the_end(net: Net) -> None:
    """A socket that outlives its module, as one that is kept by another module, ends with the interpreter."""
    code = f"import os, socket; os.kept = socket.socket({int(net.family)})"
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=LIMIT)
    assert (done.stderr, done.returncode) == ("", 0)


@check(*STREAMS)
def new_child_listens(net: Net) -> None:
    """A parent connects to what such a child listens on; in use, and refused, are seen across the two."""
    address = net.address()
    code = """
    import socket, sys
    listener = socket.socket(int(sys.argv[1]))
    listener.bind(eval(sys.argv[2]))
    listener.listen()
    print(repr(listener.getsockname()), flush=True)
    server, address = listener.accept()
    server.sendall(server.recv(10).upper())
    sys.stdin.read()
    """
    with python(code, str(int(net.family)), repr(address)) as child:
        name = eval(says_line(child))
        client = net.stream()
        client.connect(name)
        client.sendall(b"tea")
        assert receive(client, 3) == b"TEA"
        with fails(errno.EADDRINUSE):
            net.stream().bind(name)
        child.kill()
        assert receive_all(client) == b""
        child.wait(LIMIT)
    with fails(errno.ECONNREFUSED):
        net.stream().connect(name)


@check(*STREAMS)
def much_across_processes(net: Net) -> None:
    """16 MiB go to such a child and come back."""
    listener = net.listener()
    code = """
    import socket, sys
    client = socket.socket(int(sys.argv[1]))
    client.connect(eval(sys.argv[2]))
    while data := client.recv(1 << 16):
        client.sendall(data)
    """
    data = os.urandom(1 << 20) * 16
    with python(code, str(int(net.family)), repr(listener.getsockname())) as child:
        server = net.accepted(listener)
        sending = net.in_thread(lambda: (server.sendall(data), server.shutdown(socket.SHUT_WR)))
        assert receive_all(server) == data
        sending.result()
        assert child.wait(LIMIT) == 0


@check(*IP)
def two_children_meet(net: Net) -> None:
    """Two children of one parent meet."""
    listens = """
    import socket, sys
    listener = socket.create_server((sys.argv[1], 0), family=int(sys.argv[2]))
    print(listener.getsockname()[1], flush=True)
    server, address = listener.accept()
    server.sendall(b"met")
    """
    connects = """
    import socket, sys
    print(socket.create_connection((sys.argv[1], int(sys.argv[2]))).recv(10), flush=True)
    """
    with python(listens, net.host, str(int(net.family))) as one:
        with python(connects, net.host, says_line(one)) as other:
            assert says_line(other) == "b'met'"


@check(*STREAMS)
def listener_is_passed_on(net: Net) -> None:
    """A listener is passed to such a child by its number, as reloaders and systemd do."""
    listener = net.listener()
    code = """
    import socket, sys
    listener = socket.socket(fileno=int(sys.argv[1]))
    server, address = listener.accept()
    server.sendall(server.recv(10).upper())
    """
    number = listener.fileno()
    with python(code, str(number), pass_fds=[number]) as child:
        client = net.connected_to(listener)
        listener.close()
        client.sendall(b"tea")
        assert receive_all(client) == b"TEA"
        assert child.wait(LIMIT) == 0


@check(*STREAMS)
def bound_is_passed_on(net: Net) -> None:
    """A socket that is bound, and will listen in the child alone, is passed to such a child by its number."""
    bound = net.stream()
    bound.bind(net.address())
    code = """
    import socket, sys
    listener = socket.socket(fileno=int(sys.argv[1]))
    listener.listen()
    print("listens", flush=True)
    server, address = listener.accept()
    server.sendall(server.recv(10).upper())
    """
    number = bound.fileno()
    with python(code, str(number), pass_fds=[number]) as child:
        assert says_line(child) == "listens"
        client = net.connected_to(bound)
        client.sendall(b"tea")
        assert receive_all(client) == b"TEA"
        assert child.wait(LIMIT) == 0


# multiprocessing's own reducer of sockets is changed as soon as that is imported, be it without its connections.
PICKLES = """
import socket, sys
from multiprocessing import get_context
from time import monotonic


def serve(listener, listens):
    if listens:
        listener.listen()
    server, _ = listener.accept()
    server.sendall(server.recv(10).upper())


if __name__ == "__main__":
    assert "multiprocessing.connection" not in sys.modules
    for listens in (False, True):
        with socket.socket() as bound:
            bound.bind(("127.0.0.1", 0))
            if not listens:
                bound.listen()
            child = get_context("spawn").Process(target=serve, args=(bound, listens))
            child.start()
            while True:
                try:
                    client = socket.create_connection(bound.getsockname())
                    break
                except ConnectionRefusedError:
                    assert child.is_alive()
            client.sendall(b"tea")
            print(client.recv(10))
            child.join()
"""


@check("tcp4")
def sockets_are_pickled(net: Net) -> None:
    """A socket that is bound, and one that listens, are arguments of a process that is spawned (uvicorn --workers)."""
    script = Path(net.folder(), "pickles.py")
    script.write_text(PICKLES, encoding="utf-8")
    done = subprocess.run([sys.executable, script], check=False, capture_output=True, text=True, timeout=LIMIT)
    assert (done.stdout, done.stderr) == ("b'TEA'\nb'TEA'\n", "")


@check(*CONNECTED)
def connection_as_standard_input(net: Net) -> None:
    """A connection may be the standard input and output of a child, as inetd does it."""
    one, other = net.pair()
    code = "import sys; print(sys.stdin.readline().upper(), end='')"
    with subprocess.Popen([sys.executable, "-c", code], stdin=other, stdout=other) as child:
        other.close()
        one.sendall(b"tea\n")
        assert receive_all(one) == b"TEA\n"
        assert child.wait(LIMIT) == 0


@check(*CONNECTED)
def not_inherited_by_a_new_child(net: Net) -> None:
    """A child that is started anew does not keep connections open."""
    one, other = net.pair()
    with python("import sys; print('up', flush=True); sys.stdin.read()") as child:
        assert says_line(child) == "up"
        one.close()
        assert other.recv(1) == b""


@check("pair")
def pipes_of_multiprocessing(net: Net) -> None:
    """multiprocessing.Pipe() goes both ways, within a process and with a child."""
    one, other = multiprocessing.Pipe()
    with one, other:
        one.send({"a": 1})
        assert other.poll(LIMIT)
        assert other.recv() == {"a": 1}
        other.send_bytes(b"x" * 100)
        assert one.recv_bytes() == b"x" * 100
        assert not one.poll(0)
        assert multiprocessing.connection.wait([one, other], 0) == []

        def echo() -> None:
            other.send(other.recv() + 1)

        child = forked(net, echo)
        one.send(1)
        assert one.recv() == 2
        assert child.exit_code() == 0


@check("tcp4", "path")
def listeners_of_multiprocessing(net: Net) -> None:
    """Listener and Client of multiprocessing meet, with a key."""
    with multiprocessing.connection.Listener(net.address(), authkey=b"key") as listener:

        def serve() -> object:
            with listener.accept() as connection:
                connection.send(connection.recv() * 2)
                return listener.last_accepted

        serving = net.in_thread(serve)
        with multiprocessing.connection.Client(listener.address, authkey=b"key") as client:
            client.send([1, 2])
            assert client.recv() == [1, 2, 1, 2]
        serving.result()


@check("pair")
def managers(net: Net) -> None:
    """A manager's process serves its objects."""
    for method in ("fork", "spawn"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with multiprocessing.get_context(method).Manager() as manager:
                shared = manager.dict(a=1)
                shared["b"] = 2
                assert dict(shared) == {"a": 1, "b": 2}


@check("pair")
def pools(net: Net) -> None:
    """A pool of processes works."""
    for method in ("fork", "spawn"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as pool:
                assert pool.submit(pow, 2, 5).result(LIMIT) == 32
