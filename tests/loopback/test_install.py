"""What is changed by `loopback.install()`, and that nothing of it is left after `uninstall()`."""

from __future__ import annotations

import _socket
import errno
import importlib
import multiprocessing.connection
import os
import select
import selectors
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from loopback.probe import why_not_real
from socketless import loopback
from socketless._loopback import places, real
from support import LIMIT


def everything() -> dict[str, Any]:
    """Return all that install() may change."""
    seen: dict[str, Any] = {}
    modules = (socket, select, selectors, signal, ssl, subprocess, multiprocessing.connection, os)
    for module in modules:
        seen |= {f"{module.__name__}.{name}": value for name, value in vars(module).items()}
    owners = (
        socket.socket,
        ssl.SSLContext,
        ssl.SSLSocket,
        selectors.SelectSelector,
        selectors.PollSelector,
        selectors.EpollSelector,
        subprocess.Popen,
        multiprocessing.connection.Connection,
    )
    for owner in owners:
        seen |= {f"{owner.__qualname__}.{name}": value for name, value in vars(owner).items()}
    seen["bases"] = socket.socket.__bases__
    seen["defaults"] = socket.socket._real_close.__defaults__  # type: ignore[attr-defined]
    seen["path"] = os.environ.get("PYTHONPATH")
    return seen


def test_nothing_is_left() -> None:
    """Every attribute is what it was before, and so is the environment that children get."""
    before = everything()
    loopback.install()
    loopback.install()
    assert loopback.is_installed()
    assert everything() != before
    loopback.uninstall()
    loopback.uninstall()
    assert not loopback.is_installed()
    assert everything() == before


def test_the_class_stays() -> None:
    """Whoever has imported or subclassed the class before has virtual sockets, too."""
    from socket import socket as imported

    class Mine(imported):
        pass

    loopback.install()
    with Mine() as server, imported() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        assert type(client) is socket.socket is imported
        assert isinstance(server, _socket.socket)
        with server.accept()[0] as peer:
            assert isinstance(peer, imported)
    loopback.uninstall()


def test_what_is_not_on_loopback(virtual: None) -> None:
    """Another address than loopback's is for a real socket, and fails as it always did."""
    with socket.socket() as sock:
        assert error_far_away(lambda: sock) == error_far_away(_socket.socket)


def error_far_away(make: Callable[[], Any]) -> int | None:
    try:
        sock = make()
    except OSError as error:  # a real one may be refused at once
        return error.errno
    sock.settimeout(0.01)
    with pytest.raises(OSError) as seen:
        sock.connect(("192.0.2.1", 80))
    sock.close()
    return seen.value.errno


def test_who_does_not_listen_is_not_elsewhere(virtual: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is bound refuses connections by itself; a real socket might get this port, and meet itself."""
    monkeypatch.setattr(real, "create", lambda virtual: pytest.fail("a real socket was made"))
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.socket(family) as bound, socket.socket(family) as client:
            bound.bind((host, 0))
            with pytest.raises(ConnectionRefusedError):
                client.connect(bound.getsockname())
            client.setblocking(False)
            assert client.connect_ex(bound.getsockname()) == errno.EINPROGRESS
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED


def test_real_sockets_can_be_forbidden(virtual: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a real socket must not even be tried, it is refused without one."""
    monkeypatch.setenv("SOCKETLESS_LOOPBACK_ONLY", "1")
    with socket.socket() as sock, pytest.raises(PermissionError):
        sock.connect(("192.0.2.1", 80))
    with socket.socket() as sock, pytest.raises(ConnectionRefusedError):
        sock.connect(("127.0.0.1", 1))
    for call in (lambda: socket.socket(socket.AF_PACKET), lambda: socket.socketpair(socket.AF_INET)):
        with pytest.raises(PermissionError):
            call()


AUDITED = """
import socket, sys

listener = socket.create_server(("127.0.0.1", 0))
address = listener.getsockname()

def tell(event, args):
    if event.startswith("socket."):
        args = [arg for arg in args if not isinstance(arg, socket.socket)]
        print(event, *["address" if arg == address else arg for arg in args])

sys.addaudithook(tell)
client, other, sender = socket.socket(), socket.socket(), socket.socket(type=socket.SOCK_DGRAM)
client.connect(address)
other.connect_ex(address)
accepted = listener.accept()
sender.bind(address)
sender.sendto(b"x", address), sender.sendto(b"x", 0, address), sender.sendmsg([b"x"], [], 0, address)
client.sendmsg([b"x"])
socket.socketpair()
socket.getaddrinfo("localhost", 80)
socket.gethostbyname("localhost"), socket.gethostbyname_ex("localhost"), socket.gethostbyaddr("127.0.0.1")
socket.getnameinfo(("127.0.0.1", 80), socket.NI_NUMERICSERV)
"""


def test_audit_events(virtual: None) -> None:
    """Hooks are told of what they would be told of real sockets."""
    told = python(AUDITED)
    if not why_not_real():
        assert told == python(AUDITED, SOCKETLESS_LOOPBACK="")
    assert told.splitlines()[:5] == [
        *["socket.__new__ 2 1 0"] * 2,
        "socket.__new__ 2 2 0",
        *["socket.connect address"] * 2,
    ]


def test_what_is_not_asked_for(virtual: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is the C library, which may make a socket for what it is asked."""
    monkeypatch.setenv("SOCKETLESS_LOOPBACK_ONLY", "1")
    asked: list[Callable[[], Any]] = [
        lambda: socket.getaddrinfo("shop.example", 80),
        lambda: socket.gethostbyname("shop.example"),
        lambda: socket.gethostbyname_ex("shop.example"),
        lambda: socket.gethostbyaddr("192.0.2.1"),
        lambda: socket.getnameinfo(("192.0.2.1", 80), 0),
    ]
    for function in (
        "getaddrinfo",
        "getnameinfo",
        "gethostbyname",
        "gethostbyname_ex",
        "gethostbyaddr",
        "getservbyname",
    ):
        monkeypatch.setattr(_socket, function, lambda *args: pytest.fail("the C library was asked"))
    for call in asked:
        with pytest.raises(socket.gaierror) as caught:
            call()
        assert caught.value.args == (socket.EAI_AGAIN, "Temporary failure in name resolution")
    own = socket.gethostname()
    assert socket.gethostbyname(own) == socket.getaddrinfo(own, 80, socket.AF_INET)[0][4][0] == "127.0.0.1"
    assert socket.getfqdn("shop.example") == "shop.example"
    assert socket.getfqdn() == own
    assert socket.getnameinfo(("127.0.0.1", 80), 0) == ("localhost", "http")
    assert socket.getnameinfo(("127.0.0.1", 8017), 0) == ("localhost", "8017")
    assert (socket.getservbyname("http"), socket.getservbyport(80, "tcp")) == (80, "http")
    for wrong in (lambda: socket.getservbyname("no-such", "tcp"), lambda: socket.getservbyport(1)):
        with pytest.raises(OSError, match="/proto not found"):
            wrong()


def python(code: str, **env: str) -> str:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env={**os.environ, **env}, check=True, capture_output=True, text=True).stdout


@pytest.mark.unmeasured
def test_a_child_pays_nothing(virtual: None) -> None:
    """A child that needs no socket imports nothing for it."""
    code = "import sys; print(*sys.modules)"
    env = {"SOCKETLESS_LOOPBACK": ""}
    plain = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True).stdout
    assert set(python(code).split()) - set(plain.split()) <= {"sitecustomize"}


def test_an_environment_from_nothing(virtual: None) -> None:
    """A child has virtual sockets in an environment that was made for it, unless that says no; it has nothing else."""
    code = "import os, socket; print(socket.socket.__bases__[0].__name__, sorted(os.environ))"
    for env, seen in (
        ({}, "Methods ['PYTHONPATH', 'SOCKETLESS_LOOPBACK', 'SOCKETLESS_LOOPBACK_FAMILIES']"),
        ({"PYTHONPATH": "/x"}, "Methods ['PYTHONPATH', 'SOCKETLESS_LOOPBACK', 'SOCKETLESS_LOOPBACK_FAMILIES']"),
        ({"SOCKETLESS_LOOPBACK": ""}, "socket ['SOCKETLESS_LOOPBACK']"),
    ):
        done = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
        assert done.stdout.replace("'LC_CTYPE', ", "") == f"{seen}\n"  # which Python sets itself


def test_a_child_pays_little(virtual: None) -> None:
    """A child that needs sockets imports neither asyncio nor ssl nor multiprocessing for it."""
    code = "import sys, socket; print(*sys.modules)"
    absent = {"asyncio", "ssl", "multiprocessing", "subprocess", "ctypes", "tempfile", "random", "logging"}
    more = set(python(code).split()) - set(python(code, SOCKETLESS_LOOPBACK="").split())
    assert "socketless._loopback.methods" in more
    assert more & absent == set()


def test_its_own_sitecustomize(virtual: None, tmp_path: Path) -> None:
    """The environment's own sitecustomize runs in a child, as if there were no other."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\nprint('mine', [p for p in sys.path if p.endswith('site')])\n"
    )
    path = os.pathsep.join([os.environ["PYTHONPATH"], str(tmp_path)])
    assert python("import sitecustomize; print(sitecustomize.__file__)", PYTHONPATH=path) == (
        f"mine []\n{tmp_path / 'sitecustomize.py'}\n"
    )


def test_who_imports_socket_first(virtual: None) -> None:
    """In a child, sockets are virtual whoever imports the module first, and their TLS works."""
    for module in ("socket", "ssl", "multiprocessing.connection", "asyncio", "selectors, socket"):
        code = f"import {module}; import socket, ssl; socket.socket().close(); print(ssl.SSLContext._wrap_socket)"
        assert "<function _wrap_socket" in python(code)


def test_the_folder_goes() -> None:
    """Who has made the folder removes it at its end; who has inherited it does not."""
    code = "from socketless import loopback; loopback.install(); import os; print(os.environ['SOCKETLESS_LOOPBACK'])"
    path = Path(python(code, SOCKETLESS_LOOPBACK="").strip())
    assert not path.exists()
    loopback.install()
    mine = os.environ["SOCKETLESS_LOOPBACK"]
    assert python(code).strip() == mine
    assert Path(mine).stat().st_mode & 0o777 == 0o700
    loopback.uninstall()


def test_the_folder_of_who_was_killed() -> None:
    """Whoever makes the next folder removes those whose processes were all killed, and no other."""
    code = (
        "from socketless import loopback; loopback.install()\n"
        "import os, sys; print(os.environ['SOCKETLESS_LOOPBACK'], flush=True); sys.stdin.read()"
    )
    env = {**os.environ, "SOCKETLESS_LOOPBACK": ""}

    def start() -> tuple[subprocess.Popen[str], Path]:
        process = subprocess.Popen(
            [sys.executable, "-c", code], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    killed, of_killed = start()
    other, of_other = start()
    killed.kill()
    killed.communicate()
    last, of_last = start()
    assert [path.exists() for path in (of_killed, of_other, of_last)] == [False, True, True]
    for process in (other, last):
        process.communicate()
    assert not any(path.exists() for path in (of_other, of_last))


def test_folders_that_are_not_ours() -> None:
    """Nothing else goes, whatever its name begins with."""
    loopback.install()
    parent = Path(os.environ["SOCKETLESS_LOOPBACK"]).parent
    loopback.uninstall()
    other = parent / f"socketless-project-{os.getpid()}"
    other.mkdir()
    try:
        (other / "users").touch()
        python("from socketless import loopback; loopback.install()", SOCKETLESS_LOOPBACK="")
        assert (other / "users").exists()
    finally:
        shutil.rmtree(other)


def test_what_tests_put_in_the_place_of_os(virtual: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who replaces functions of the module `os` for a test does not meet the sockets."""

    def blocks(*args: object, **options: object) -> None:
        raise AssertionError("this blocks")

    for name in ("listdir", "mkdir", "open", "stat", "unlink", "rename", "access", "read", "write"):
        monkeypatch.setattr(os, name, blocks)
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            with socket.create_connection(server.getsockname()) as client, server.accept()[0] as peer:
                client.sendall(b"x")
                assert peer.recv(1) == b"x"
            with pytest.raises(OSError):
                socket.create_connection(("127.0.0.1", 1))
    finally:
        monkeypatch.undo()


def test_a_clock_that_a_test_has_moved(virtual: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """freezegun puts its clock into each module that has one by name: a time limit is still that of the real one."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        monotonic = time.monotonic
        before = monotonic()
        now = iter(range(0, 10**9, 10**6))  # seconds: each look is many time limits later
        modules = [module for name, module in sys.modules.items() if name.startswith("socketless.")]
        for module in [*modules, time]:
            for name in [name for name, value in vars(module).items() if value is monotonic]:
                monkeypatch.setattr(module, name, lambda: float(next(now)))
        client.settimeout(0.05)
        with pytest.raises(TimeoutError):
            client.recv(1)
        assert monotonic() - before >= 0.05
        with server.accept()[0] as peer, ThreadPoolExecutor(1) as threads:
            client.settimeout(LIMIT)
            waiting = threads.submit(client.recv, 1)
            peer.sendall(b"x")
            assert waiting.result(LIMIT) == b"x"
        monkeypatch.undo()


def test_more_wait_than_a_fifo_holds(virtual: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who connects without waiting is let in all the same, in order; and is reset if he is never accepted."""
    monkeypatch.setattr(places, "_MOST_WAITING", 1)  # so it stays as large as the kernel makes it: 128 records
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1000))
        clients = [stack.enter_context(socket.socket()) for _ in range(140)]
        for client in clients:
            client.setblocking(False)
            assert client.connect_ex(listener.getsockname()) in (0, errno.EINPROGRESS)
        for client in clients[:5]:
            accepted, name = listener.accept()
            accepted.close()
            assert name == client.getsockname()
        listener.close()
        for client in clients[5:]:
            with pytest.raises(ConnectionResetError):
                client.recv(1)


def test_urllib3_finds_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who has imported urllib3 where sockets are refused reaches `::1` by it, once they are virtual."""
    connection: Any = importlib.import_module("urllib3.util.connection")
    monkeypatch.setattr(connection, "HAS_IPV6", False)
    loopback.install()
    try:
        assert connection.HAS_IPV6
    finally:
        loopback.uninstall()
    assert not connection.HAS_IPV6
