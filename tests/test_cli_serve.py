"""`socketless serve`, asked by curl over a UNIX socket, and over standard input and output."""

from __future__ import annotations

import errno
import gc
import json
import os
import select
import shlex
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import wsproto
import wsproto.events

from commands import LIMIT, MODULE, TESTS, environment, run
from projects import under
from socketless import IpcProcess, IpcThread, sandbox
from socketless import _genuine as genuine
from socketless._forking import fork
from socketless.errors import WorkerDied
from socketless.requests import Session
from socketless.unix_server import UnixServer
from support import nothing_leaks, without_path

APP = "apps.conformance_app:asgi"

REQUEST = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"

needs_unix_sockets = pytest.mark.skipif(
    any(not check.works for check in sandbox.examine() if check.name == "unix_server"),
    reason="a UNIX socket is what this serves on, and they are refused here",
)
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, a full queue refuses")
needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is the client of this test")


@contextmanager
def served(path: Path, *options: str, app: str = APP) -> Iterator[subprocess.Popen[str]]:
    """Serve until the block ends."""
    command = [*MODULE, "serve", app, "--uds", str(path), *options]
    with subprocess.Popen(
        command, cwd=TESTS, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            line = process.stderr.readline()
            assert line == f"{app!r} is served on {path}\n", line + process.stderr.read()
            yield process
        finally:
            process.kill()


def curl(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    words = ["curl", "--silent", "--show-error", "--unix-socket", str(path), *options]
    return subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=False)


@needs_curl
@needs_unix_sockets
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_curl(number: signal.Signals, tmp_path: Path) -> None:
    """curl gets answers over one connection, the socket is this user's only, and a signal ends it all."""
    path = tmp_path / "app.sock"
    with served(path, "--root-path", "/api") as process:
        assert stat.filemode(path.stat().st_mode) == "srw-------"
        seen = json.loads(curl(path, "http://shop.example:81/api/seen?x=1").stdout)
        assert (seen["target"], seen["server"]) == ("/api/seen?x=1", ["shop.example", 81])
        twice = curl(
            path, "http://x/status/200", "http://x/status/404", "--write-out", " after %{num_connects} connects;"
        )
        assert twice.stdout == "hello after 1 connects;hello after 0 connects;"
        large = tmp_path / "large"
        large.write_bytes(os.urandom(3 << 20))
        assert curl(path, "http://x/echo", "--data-binary", f"@{large}", "--output", f"{large}.back").returncode == 0
        assert Path(f"{large}.back").read_bytes() == large.read_bytes()
        assert (
            "< HTTP/1.1 100 Continue"
            in curl(path, "http://x/echo", "--verbose", "-d", "hello", "-H", "Expect: 100-continue").stderr
        )
        assert curl(path, "http://x/boom").stdout == "Internal Server Error"
        assert curl(path, "http://x/print").returncode == 0
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=LIMIT)
        assert (process.returncode, stdout) == (0, "")
        assert "LookupError: ('boom', 42)\n" in stderr
        assert stderr.endswith("to stdout\nfrom C\nto stderr\n")
        assert not path.exists()


@needs_unix_sockets
def test_requests_are_finished(tmp_path: Path) -> None:
    """A server that is stopped answers the requests that have begun, and ends connections that rest."""
    path = tmp_path / "app.sock"
    os.mkfifo(tmp_path / "fifo")
    with (
        served(path) as process,
        socket.socket(socket.AF_UNIX) as resting,
        socket.socket(socket.AF_UNIX) as asking,
        socket.socket(socket.AF_UNIX) as sending,
    ):
        for each in (resting, asking, sending):
            each.settimeout(LIMIT)
            each.connect(str(path))
        head, _, _ = REQUEST.partition(b"hello")
        sending.sendall(head.replace(b"Host: x", b"Host: x\r\nExpect: 100-continue"))
        assert sending.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        asking.sendall(f"GET /fifo?{tmp_path}/fifo HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with open(tmp_path / "fifo", "w"):  # now the app reads it
            process.send_signal(signal.SIGTERM)
            assert resting.recv(1) == b""
            sending.sendall(b"hello")
            assert sending.recv(65536).endswith(b"\r\n5\r\nhello\r\n0\r\n\r\n")
        assert asking.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert process.wait(LIMIT) == 0


@needs_unix_sockets
def test_requests_that_hang(tmp_path: Path) -> None:
    """A request that takes too long is cut off when the server is stopped."""
    path = tmp_path / "app.sock"
    with served(path, "--shutdown-timeout", "0.1") as process, socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(LIMIT)
        asking.connect(str(path))
        asking.sendall(b"GET /stream/held?token=never HTTP/1.1\r\nHost: x\r\n\r\n")
        assert asking.recv(65536).startswith(b"HTTP/1.1 200 ")
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT) == 0
        assert not b"".join(iter(lambda: asking.recv(65536), b"")).endswith(b"0\r\n\r\n")


@needs_unix_sockets
def test_file_where_the_lock_would_be(tmp_path: Path) -> None:
    """A file of somebody's that has the lock's name is left alone."""
    lock = tmp_path / "app.sock.lock"
    lock.write_text("mine")
    with IpcThread(APP) as worker, pytest.raises(FileExistsError, match="there is a file already, which is not a lock"):
        UnixServer(worker, tmp_path / "app.sock")
    assert lock.read_text() == "mine"


@needs_curl
@needs_unix_sockets
def test_how_often_a_worker_is_replaced(tmp_path: Path) -> None:
    """--max-restarts says it."""
    path = tmp_path / "app.sock"
    with served(path, "--max-restarts", "0"):
        for url in ("http://x/kill", "http://x/status/200"):
            assert curl(path, url, "--output", os.devnull, "--write-out", "%{http_code}").stdout == "502"


@needs_unix_sockets
def test_body_over_the_limit(tmp_path: Path) -> None:
    """A request's body over the worker's limit is a 413; a response's, a 502."""
    told: list[BaseException] = []
    with (
        IpcThread(APP, max_body_bytes=1000) as worker,
        UnixServer(worker, tmp_path / "app.sock", told.append) as server,
        Session() as session,
    ):
        url = f"http+unix://{quote(server.path, safe='')}"
        assert session.post(f"{url}/echo", data=bytes(1001)).status_code == 413
        assert session.get(f"{url}/large?1001").status_code == 502
        assert session.post(f"{url}/echo", data=bytes(1000)).status_code == 200
    assert not told


@needs_unix_sockets
def test_websocket_when_the_server_is_closed(tmp_path: Path) -> None:
    """Its app is told, and the client too; nobody waits for the time limit."""
    client = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
    with (
        nothing_leaks(),
        IpcThread("apps.websocket_app:app") as worker,
        socket.socket(socket.AF_UNIX) as asking,
        UnixServer(worker, tmp_path / "app.sock") as server,
    ):
        asking.settimeout(LIMIT)
        asking.connect(server.path)
        asking.sendall(client.send(wsproto.events.Request(host="x", target="/raw/echo")))
        client.receive_data(asking.recv(65536))
        assert [type(event).__name__ for event in client.events()] == ["AcceptConnection"]
        server.close(None)
        client.receive_data(b"".join(iter(lambda: asking.recv(65536), b"")))
        assert [event.code for event in client.events()] == [1012]  # as of uvicorn


@needs_unix_sockets
def test_file_that_is_there(tmp_path: Path) -> None:
    """What a killed server has left behind is replaced; another server, and another file, are left alone."""
    path = tmp_path / "app.sock"
    with served(path) as process:
        process.kill()
        process.wait()
    assert path.exists()
    with served(path):
        assert run([*MODULE, "serve", APP, "--uds", str(path)]) == (
            1,
            "",
            f"OSError: [Errno {errno.EADDRINUSE}] another server listens there: '{path}'\n",
        )
        assert path.exists()
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    assert run([*MODULE, "serve", APP, "--uds", str(other)]) == (
        1,
        "",
        f"FileExistsError: [Errno {errno.EEXIST}] there is a file already, which is not a socket: '{other}'\n",
    )
    assert other.read_text() == "mine"


@pytest.mark.parametrize("profile", ["none", "codex", "strict"])
def test_standard_input_and_output(profile: str) -> None:
    """--stdio answers what comes on standard input; nothing but the answers goes to standard output."""
    code, stdout, stderr = run(
        [*under(profile), *MODULE, "serve", APP, "--stdio"],
        REQUEST + b"GET /print HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
    )
    assert code == 0
    first, second = stdout.split("HTTP/1.1 200 OK\r\n")[1:]
    assert first.endswith("\r\n5\r\nhello\r\n0\r\n\r\n")
    assert "to stdout" in stderr
    assert "to stdout" not in second


def test_pipes_that_do_not_block() -> None:
    """--stdio serves on descriptors that another process has made non-blocking, and leaves them so."""
    requests, responses = os.pipe(), os.pipe()
    for fd in (*requests, *responses):
        os.set_blocking(fd, False)
    command = [*MODULE, "serve", APP, "--stdio"]
    with subprocess.Popen(command, cwd=TESTS, env=environment(), stdin=requests[0], stdout=responses[1]) as process:
        os.close(responses[1])
        with open(requests[1], "wb") as writer, open(responses[0], "rb") as reader:
            writer.write(b"GET /large?2000000 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            writer.flush()
            received = 0
            while select.select([reader], [], [], LIMIT)[0]:
                piece = os.read(responses[0], 1 << 20)
                if not piece:
                    break
                received += len(piece)
            assert not os.get_blocking(responses[0])
        assert process.wait(LIMIT) == 0
    os.close(requests[0])
    assert received > 1 << 20


def test_standard_input_that_is_closed() -> None:
    """--stdio says that it cannot serve."""
    code, stdout, stderr = run(["sh", "-c", f"exec {shlex.join([*MODULE, 'serve', APP, '--stdio'])} <&-"])
    assert (code, stdout) == (1, "")
    assert stderr.endswith("standard input is closed, but --stdio needs it\n")


@needs_curl
@needs_unix_sockets
def test_standard_input_that_nobody_needs(tmp_path: Path) -> None:
    """--uds serves without one, as daemons are started."""
    path = tmp_path / "app.sock"
    command = f"exec {shlex.join([*MODULE, 'serve', APP, '--uds', str(path)])} <&- >&-"
    with subprocess.Popen(
        ["sh", "-c", command], cwd=TESTS, env=environment(), stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            assert process.stderr.readline() == f"{APP!r} is served on {path}\n"
            assert curl(path, "http://x/status/200").stdout == "hello"
            process.terminate()
            assert process.wait(LIMIT) == 0
        finally:
            process.kill()


@needs_unix_sockets
def test_worker_that_dies(tmp_path: Path) -> None:
    """A request that the worker cannot answer gets a 502 that says why, the last ones as well."""
    told: list[BaseException] = []
    with (
        IpcProcess(APP, max_restarts=1) as worker,
        UnixServer(worker, tmp_path / "app.sock", told.append) as server,
        Session() as session,
    ):
        url = f"http+unix://{quote(server.path, safe='')}"
        answers = [session.get(f"{url}{path}") for path in ("/status/200", "/kill", "/kill", "/status/200")]
        assert session.head(url).status_code == 502
    assert [answer.status_code for answer in answers] == [200, 502, 502, 502]
    assert answers[1].text.startswith("GET /kill: the worker (pid ")
    assert "not started again, after 1 of max_restarts=1" in answers[3].text
    assert [type(error) for error in told] == [WorkerDied] * 4


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([APP], 2, "Error: Give either --uds PATH or --stdio."),
        ([APP, "--stdio", "--uds", "x"], 2, "Error: Give either --uds PATH or --stdio."),
        (
            ["nowhere:app", "--stdio"],
            1,
            "WorkerStartError: the worker could not start: cannot import 'nowhere:app': there is no module 'nowhere' "
            "on sys.path",
        ),
    ],
)
def test_wrong_usage(args: list[str], code: int, message: str) -> None:
    """Wrong usage, and an app that cannot start, are said."""
    got, stdout, stderr = run([*MODULE, "serve", *args])
    assert (got, stdout, without_path(stderr).splitlines()[-1]) == (code, "", message)


@needs_unix_sockets
def test_server_of_ones_own(tmp_path: Path) -> None:
    """`UnixServer` serves a worker that is there, and leaves nothing behind but that."""
    path = tmp_path / "app.sock"
    with nothing_leaks(), IpcThread(APP) as worker:
        for _ in range(2):
            with UnixServer(worker, path) as server, socket.socket(socket.AF_UNIX) as client:
                client.settimeout(LIMIT)
                client.connect(server.path)
                client.sendall(REQUEST)
                assert client.recv(65536).endswith(b"\r\n5\r\nhello\r\n0\r\n\r\n")
            assert not path.exists()
        worker.run(int)


@linux_only
@needs_unix_sockets
def test_server_whose_queue_is_full(tmp_path: Path) -> None:
    """A server that has too much to do to accept is one that is there, and is not waited for."""
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)
        with IpcThread(APP) as worker, pytest.raises(OSError) as caught:
            UnixServer(worker, path)
        assert (caught.value.errno, caught.value.strerror) == (errno.EADDRINUSE, "another server listens there")
        assert os.listdir(tmp_path) == ["app.sock"]


@needs_unix_sockets
def test_two_that_replace_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two servers that find the same file left behind, one replaces it, and the other says why it does not."""
    path = str(tmp_path / "app.sock")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
    unlink = os.unlink
    errors: list[OSError] = []

    def unlink_later(name: str) -> None:
        monkeypatch.setattr(genuine.os, "unlink", unlink)
        try:
            stack.enter_context(UnixServer(worker, path))
        except OSError as error:
            errors.append(error)
        unlink(name)

    with nothing_leaks(), IpcThread(APP) as worker, ExitStack() as stack:
        monkeypatch.setattr(genuine.os, "unlink", unlink_later)
        stack.enter_context(UnixServer(worker, path))
        assert [(error.errno, error.strerror) for error in errors] == [
            (errno.EADDRINUSE, "another server is starting there")
        ]
        assert os.listdir(tmp_path) == ["app.sock"]


@needs_unix_sockets
def test_mode_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The socket is this user's only, without a umask, which would be that of all threads."""
    monkeypatch.setattr(genuine.os, "umask", None)
    with IpcThread(APP) as worker, UnixServer(worker, tmp_path / "app.sock") as server:
        assert stat.filemode(os.stat(server.path).st_mode) == "srw-------"


def sockets_of(pid: int | str) -> set[str]:
    links = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with suppress(FileNotFoundError):  # that of the folder itself
            links.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    return {link for link in links if link.startswith("socket:")}


@linux_only
@needs_unix_sockets
def test_worker_that_is_forked_again(tmp_path: Path) -> None:
    """A forked worker that is started while clients are connected holds no socket, and keeps none of them open."""
    before = sockets_of("self")
    with (
        IpcProcess(APP, start_method="fork") as worker,
        UnixServer(worker, tmp_path / "app.sock") as server,
        socket.socket(socket.AF_UNIX) as client,
    ):
        client.settimeout(LIMIT)
        client.connect(server.path)
        answers = []
        for path in (b"/exit", b"/status/200"):
            with socket.socket(socket.AF_UNIX) as other:
                other.settimeout(LIMIT)
                other.connect(server.path)
                other.sendall(b"GET %s HTTP/1.0\r\nHost: x\r\n\r\n" % path)
                answers.append(b"".join(iter(lambda sock=other: sock.recv(65536), b""))[:13])
        assert answers == [b"HTTP/1.1 502 ", b"HTTP/1.1 200 "]
        assert worker.pid is not None
        servers = sockets_of("self") - before - {f"socket:[{os.fstat(client.fileno()).st_ino}]"}
        assert servers
        assert not sockets_of(worker.pid) & servers


def wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith(("socketless-unix-server", "socketless-connection")):
            thread.join(LIMIT)


@needs_unix_sockets
def test_server_that_is_dropped(tmp_path: Path) -> None:
    """A server that is dropped open is a ResourceWarning; it ends, its file is removed, its clients are cut off."""
    path = tmp_path / "app.sock"
    with nothing_leaks(), IpcThread(APP) as worker, socket.socket(socket.AF_UNIX) as client:
        server = UnixServer(worker, path)
        client.settimeout(LIMIT)
        client.connect(server.path)
        client.sendall(REQUEST)
        assert client.recv(65536).endswith(b"\r\n5\r\nhello\r\n0\r\n\r\n")
        with pytest.warns(ResourceWarning, match=f"^unclosed <UnixServer '{path}'>$"):
            del server
            gc.collect()
        assert client.recv(1) == b""
        wait_for_threads()
        assert not path.exists()
        worker.run(int)


@needs_unix_sockets
def test_server_in_a_fork(tmp_path: Path) -> None:
    """A fork's copy of a server can be closed and dropped, and the server goes on."""
    with IpcThread(APP) as worker, UnixServer(worker, tmp_path / "app.sock") as server:
        pid = fork()
        if pid == 0:
            code = 1
            with suppress(BaseException), warnings.catch_warnings():
                warnings.simplefilter("error")
                server.close()
                server.__del__()
                code = 0
            os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(LIMIT)
            client.connect(server.path)
            client.sendall(REQUEST)
            assert client.recv(65536).endswith(b"\r\n5\r\nhello\r\n0\r\n\r\n")


@needs_unix_sockets
def test_no_thread_for_a_connection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread is to be had, that connection ends, `on_error` is told why, and the next one is served."""
    told: list[BaseException] = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name == "socketless-connection-1":
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    with nothing_leaks(), IpcThread(APP) as worker, UnixServer(worker, tmp_path / "app.sock", told.append) as server:
        with socket.socket(socket.AF_UNIX) as first:
            first.settimeout(LIMIT)
            first.connect(server.path)
            assert first.recv(1) == b""
        with socket.socket(socket.AF_UNIX) as second:
            second.settimeout(LIMIT)
            second.connect(server.path)
            second.sendall(REQUEST)
            assert second.recv(65536).endswith(b"\r\n5\r\nhello\r\n0\r\n\r\n")
    assert [repr(error) for error in told] == ['RuntimeError("can\'t start new thread")']


def test_what_is_no_worker(tmp_path: Path) -> None:
    """A server takes a worker, and the path of a file."""
    wrong: Any = APP
    with pytest.raises(TypeError, match="^UnixServer takes a worker, UnixServer"):
        UnixServer(wrong, tmp_path / "app.sock")
    with IpcThread(APP) as worker, pytest.raises(ValueError, match="is not the path of a file"):
        UnixServer(worker, "\0abstract")
    with IpcThread(APP) as worker, pytest.raises(FileNotFoundError) as caught:
        UnixServer(worker, tmp_path / "none" / "app.sock")
    assert str(caught.value).endswith(f"there is no such folder: '{tmp_path}/none'")


def test_refused_socket(tmp_path: Path) -> None:
    """Where UNIX sockets are refused, it says what works."""
    code, stdout, stderr = run([*under("strict"), *MODULE, "serve", APP, "--uds", str(tmp_path / "app.sock")])
    assert (code, stdout) == (1, "")
    assert stderr.splitlines()[-1] == "Sockets are refused here; --stdio needs none."
