"""Processes meet on loopback without a socket: programs, forks, what multiprocessing starts, and the killed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Client, Listener
from pathlib import Path
from typing import Any

import pytest

from projects import everywhere, under
from support import LIMIT, open_fds

pytestmark = [
    pytest.mark.usefixtures("virtual"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning"),
]


@contextmanager
def program(code: str, *args: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start Python with some code, and kill it afterwards."""
    command = [sys.executable, "-c", textwrap.dedent(code), *args]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as process:
        try:
            yield process
        finally:
            process.kill()


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


SERVER = """
    import socket
    server = socket.create_server(("127.0.0.1", 0))
    print(server.getsockname()[1], flush=True)
    while True:
        peer, _ = server.accept()
        with peer:
            while data := peer.recv(1 << 16):
                peer.sendall(data.upper())
"""


def test_a_program_serves() -> None:
    """A server in a program answers, one connection after the other."""
    with program(SERVER) as process:
        address = ("127.0.0.1", int(line_of(process)))
        for _ in range(3):
            with socket.create_connection(address) as client:
                for data in (b"tea", b"x" * 10):
                    client.sendall(data)
                    assert client.recv(100) == data.upper()
                client.shutdown(socket.SHUT_WR)
                assert client.recv(1) == b""


def test_a_program_asks() -> None:
    """A program is answered by a server of its parent."""
    code = """
        import socket, sys
        with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as client:
            client.sendall(b"tea")
            print(client.recv(100).decode())
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        with program(code, str(server.getsockname()[1])) as process, server.accept()[0] as peer:
            assert peer.recv(100) == b"tea"
            peer.sendall(b"TEA")
            assert line_of(process) == "TEA"


def test_a_program_is_gone_before_it_is_accepted() -> None:
    """What a program has sent is there for who accepts it after the program's end."""
    code = """
        import socket, sys
        socket.create_connection(("127.0.0.1", int(sys.argv[1]))).sendall(b"x" * 50000)
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        with program(code, str(server.getsockname()[1])) as process:
            assert process.wait(LIMIT) == 0
        with server.accept()[0] as peer:
            assert peer.makefile("rb").read() == b"x" * 50000


def test_a_killed_server() -> None:
    """A killed process ends its connections, and its port refuses."""
    with program(SERVER) as process:
        address = ("127.0.0.1", int(line_of(process)))
        with socket.create_connection(address) as client:
            client.sendall(b"tea")
            assert client.recv(100) == b"TEA"
            process.send_signal(signal.SIGKILL)
            assert client.recv(1) == b""
            process.wait()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        with socket.create_server(address):
            pass


def test_a_server_that_is_killed_before_it_accepts() -> None:
    """Who waits for a server that is killed gets a reset."""
    code = """
        import socket, sys
        server = socket.create_server(("127.0.0.1", 0))
        print(server.getsockname()[1], flush=True)
        sys.stdin.read()
    """
    with program(code, stdin=subprocess.PIPE) as process:
        with socket.create_connection(("127.0.0.1", int(line_of(process)))) as client:
            client.sendall(b"x")
            process.kill()
            with pytest.raises(ConnectionResetError):
                client.recv(1)


def test_a_port_of_another_process() -> None:
    """A port that another process has is in use."""
    with program(SERVER) as process:
        port = int(line_of(process))
        with pytest.raises(OSError, match="Address already in use"):
            socket.create_server(("127.0.0.1", port))


def test_datagrams_between_processes(tmp_path: Path) -> None:
    """Datagrams, small and large, get to another process and back."""
    code = """
        import socket
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        print(sock.getsockname()[1], flush=True)
        while True:
            sock.sendto(*sock.recvfrom(1 << 16))
    """
    with program(code) as process, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        address = ("127.0.0.1", int(line_of(process)))
        for size in (1, 60000):
            client.sendto(bytes(size), address)
            assert client.recvfrom(1 << 16) == (bytes(size), address)


def test_a_unix_path_of_another_process(tmp_path: Path) -> None:
    """A UNIX path leads to another process, also from another folder and by a link."""
    code = """
        import socket, sys
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("s")
            server.listen()
            print("ready", flush=True)
            server.accept()[0].sendall(b"x")
    """
    (tmp_path / "link").symlink_to("s")
    with program(code, cwd=tmp_path) as process, socket.socket(socket.AF_UNIX) as client:
        assert line_of(process) == "ready"
        client.connect(str(tmp_path / "link"))
        assert client.recv(1) == b"x"


def test_pre_forking_server() -> None:
    """Children that are forked after listen() accept, each a connection, and the parent none."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        children = [fork(lambda: answer_with_pid(server)) for _ in range(3)]
        seen = set()
        for _ in children:
            with socket.create_connection(server.getsockname()) as client:
                seen.add(int(client.makefile("rb").read()))
        for pid in children:
            assert os.waitpid(pid, 0)[1] == 0
        assert seen == set(children)


def fork(function: Any) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        function()
        code = 0
    finally:
        os._exit(code)


def answer_with_pid(server: socket.socket) -> None:
    with server.accept()[0] as peer:
        peer.sendall(b"%d" % os.getpid())


def test_a_fork_has_the_connections_of_its_parent() -> None:
    """A connection goes on in a fork, and ends once both have closed it."""
    left, right = socket.socketpair()
    with left:
        pid = fork(lambda: right.sendall(b"of the child"))
        right.close()
        assert left.makefile("rb").read() == b"of the child"
        assert os.waitpid(pid, 0)[1] == 0


def double(connection: Any) -> None:
    connection.send(2 * connection.recv())


def answer_client(sock: socket.socket) -> None:
    answer_with_pid(sock)


def upper(sock: socket.socket) -> None:
    sock.sendall(sock.recv(100).upper())
    sock.close()


def ask(address: Any) -> None:
    with Client(address, authkey=b"key") as connection:
        connection.send("tea")
        assert connection.recv() == "TEA"


METHODS = ["fork", "spawn", "forkserver"]


@pytest.mark.parametrize("method", METHODS)
def test_multiprocessing(method: str) -> None:
    """Pipes, listeners, sockets that are passed, and managers work with every start method."""
    context: Any = multiprocessing.get_context(method)
    before, after = context.Pipe()
    with running(context, double, after):
        before.send([1])
        assert before.recv() == [1, 1]
    after.close()
    with pytest.raises(EOFError):
        before.recv()
    before.close()
    for family in ("AF_UNIX", "AF_INET"):
        with Listener(None, family, authkey=b"key") as listener, running(context, ask, listener.address):
            with listener.accept() as connection:
                connection.send(connection.recv().upper())
    with socket.create_server(("127.0.0.1", 0)) as server, running(context, answer_client, server) as process:
        with socket.create_connection(server.getsockname()) as client:
            assert int(client.makefile("rb").read()) == process.pid
    left, right = socket.socketpair()
    with left, right, running(context, upper, right):
        right.close()
        left.sendall(b"tea")
        assert left.makefile("rb").read() == b"TEA"
    with context.Manager() as manager:
        shared = manager.dict(tea=1)
        assert shared["tea"] == 1


@contextmanager
def running(context: Any, target: Any, *args: Any) -> Iterator[Any]:
    process = context.Process(target=target, args=args)
    process.start()
    yield process
    process.join(LIMIT)
    assert process.exitcode == 0


def test_a_listener_that_is_passed() -> None:
    """A program that is started with a listener's number accepts its connections."""
    code = """
        import socket, sys
        with socket.socket(fileno=int(sys.argv[1])) as server:
            server.accept()[0].sendall(b"x")
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        number = server.fileno()
        with program(code, str(number), pass_fds=[number]), socket.create_connection(server.getsockname()) as client:
            assert client.recv(1) == b"x"


def test_standard_streams() -> None:
    """A connection can be a program's standard input and output."""
    left, right = socket.socketpair()
    with left:
        command = [sys.executable, "-c", "print(input().upper())"]
        with right:
            process = subprocess.Popen(command, stdin=right, stdout=right)
        left.sendall(b"tea\n")
        assert left.makefile("rb").read() == b"TEA\n"
        assert process.wait(LIMIT) == 0


def test_nothing_is_left() -> None:
    """After many connections, there is no descriptor and no file more than before."""
    folder = Path(os.environ["SOCKETLESS_LOOPBACK"])
    with program(SERVER) as process:
        address = ("127.0.0.1", int(line_of(process)))
        for turn in range(300):
            with socket.create_connection(address) as client:
                client.sendall(b"x")
                assert client.recv(1) == b"X"
            if turn == 0:
                before = open_fds()
        assert open_fds() == before
    assert [path for path in folder.rglob("*") if "c" in path.parts[-2:-1]] == []


@everywhere
def test_where_sockets_are_refused(profile: str, tmp_path: Path) -> None:
    """A program that starts another one needs no socket for all of it."""
    code = f"""
        import subprocess, sys
        from socketless import loopback
        loopback.install()
        import socket
        child = subprocess.Popen([sys.executable, "-c", {textwrap.dedent(SERVER)!r}], stdout=subprocess.PIPE)
        with socket.create_connection(("127.0.0.1", int(child.stdout.readline()))) as client:
            client.sendall(b"tea")
            print(client.recv(100).decode())
        child.kill()
    """
    command = [*under(profile), sys.executable, "-c", textwrap.dedent(code)]
    seen = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    assert (seen.stdout, seen.returncode) == ("TEA\n", 0), seen.stderr
