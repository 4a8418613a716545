"""A server for other tools does not trust its clients: what they may write, for how long, and who they may be."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from test_cli_serve import linux_only, needs_unix_sockets, served

from socketless import IpcThread
from socketless import _genuine as genuine
from socketless._http11.service import Service
from socketless.unix_server import UnixServer
from support import LIMIT, nothing_leaks

pytestmark = pytest.mark.usefixtures("worker")


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [environ.get("HTTP_X", "none").encode("latin-1")]


@pytest.fixture(scope="module")
def worker() -> Iterator[IpcThread]:
    with IpcThread(app, app_kind="wsgi") as worker:
        yield worker


def answer_to(worker: IpcThread, *pieces: bytes, is_over: bool = False, **options: Any) -> bytes:
    """Return all that a client reads who has written these, and stays without a word; or leaves, if it `is_over`."""
    read_fd, write = os.pipe()
    read, write_fd = os.pipe()
    thread = Thread(target=Service(worker, read_fd, write_fd, **options).run)
    thread.start()
    for piece in pieces:
        os.write(write, piece)
    if is_over:
        os.close(write)
    thread.join(LIMIT)
    assert not thread.is_alive()
    os.close(write_fd)
    with open(read, "rb") as answers:
        answer = answers.read()
    for fd in (read_fd,) if is_over else (read_fd, write):
        os.close(fd)
    return answer


def refusal(status: str, text: str) -> bytes:
    head = "content-type: text/plain; charset=utf-8\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{}"
    return f"HTTP/1.1 {status}\r\n{head.format(len(text), text)}".encode()


LATE = refusal("408 Request Timeout", "the head of the request did not come in time\n").lower()


@pytest.mark.parametrize("pieces", [(b"G",), (b"GET / HTTP/1.1\r\n", b"Host: x\r\n")])
def test_late_head(worker: IpcThread, pieces: tuple[bytes, ...]) -> None:
    """A head that has begun and does not end in time is a 408, and the end of the connection."""
    with nothing_leaks():
        assert answer_to(worker, *pieces, head_timeout=0.01).lower() == LATE


def test_late_second_head(worker: IpcThread) -> None:
    """That holds for each request of a connection; what came before is answered."""
    whole = b"GET / HTTP/1.1\r\nHost: x\r\nX: first\r\n\r\n"
    answer = answer_to(worker, whole + whole[:-2], head_timeout=0.01).lower()
    assert answer.startswith(b"http/1.1 200 ok\r\n")
    assert answer.endswith(b"5\r\nfirst\r\n0\r\n\r\n" + LATE)


def test_head_in_time(worker: IpcThread) -> None:
    """Between requests a connection may rest, and the body of one may take its time."""
    read_fd, write = os.pipe()
    read, write_fd = os.pipe()
    thread = Thread(target=Service(worker, read_fd, write_fd, head_timeout=0.0).run)
    thread.start()
    with open(read, "rb") as answers:
        for _ in range(2):
            os.write(write, b"POST / HTTP/1.1\r\nHost: x\r\nX: one\r\nContent-Length: 4\r\n\r\n12")
            os.write(write, b"34")
            while answers.readline() != b"0\r\n":
                pass
        os.close(write)
        thread.join(LIMIT)
    for fd in (read_fd, write_fd):
        os.close(fd)


@pytest.mark.parametrize(
    ("request_line", "version"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "2.0"),
        (b"GET / HTTP/2.0\r\n\r\n", "2.0"),
        (b"GET / HTTP/0.9\r\n\r\n", "0.9"),
    ],
)
def test_other_versions(worker: IpcThread, request_line: bytes, version: str) -> None:
    """Another version of HTTP is a 505 (RFC 9110, section 15.6.6), and no request of the app's."""
    text = f"HTTP/{version} is not spoken here, but HTTP/1.1\n"
    answer = refusal("505 HTTP Version Not Supported", text).lower()
    assert answer_to(worker, request_line).lower() == answer


@pytest.mark.parametrize("control", [b"\x01", b"\x1b", b"\x7f", b"\x0b"])
def test_control_characters(worker: IpcThread, control: bytes) -> None:
    """A control character in a header is a 400, as of most servers."""
    answer = answer_to(worker, b"GET / HTTP/1.1\r\nHost: x\r\nX: a" + control + b"b\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")


def test_tab_and_latin_1(worker: IpcThread) -> None:
    """A tab is white space, and what is beyond ASCII is allowed (RFC 9110, section 5.5)."""
    answer = answer_to(worker, b"GET / HTTP/1.0\r\nHost: x\r\nX: a\t\xe9b\r\n\r\n", is_over=True)
    assert answer.endswith(b"\r\n\r\na\t\xe9b")


@needs_unix_sockets
@linux_only
@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_mode_from_the_beginning(
    worker: IpcThread, umask: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The socket's file is this user's from the moment that it is there: nothing is changed afterwards."""

    def refuse(*args: object) -> None:
        raise AssertionError

    monkeypatch.setattr(genuine.os, "chmod", refuse)
    before = os.umask(umask)
    try:
        with UnixServer(worker, tmp_path / "s"):
            assert stat.filemode((tmp_path / "s").stat().st_mode) == "srw-------"
    finally:
        os.umask(before)


@needs_unix_sockets
@linux_only
@pytest.mark.parametrize(("options", "most"), [((), 200), (("--backlog", "3"), 4)])
def test_backlog(options: tuple[str, ...], most: int, tmp_path: Path) -> None:
    """Many clients may wait to be accepted, or as many as it says."""
    path = tmp_path / "s"
    with served(path, *options) as process, ExitStack() as clients:
        os.kill(process.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        waiting = 0
        while waiting < 200:
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            if client.connect_ex(str(path)):
                break
            waiting += 1
    assert waiting == most
