"""A stand-in for a socket that several threads use: what one closes, another neither reads from nor writes to."""

from __future__ import annotations

import errno
import gc
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from socketless import IpcThread
from socketless import _genuine as genuine
from socketless._forking import fork
from socketless._http11.pipe_socket import PipeSocket, end_pipe_sockets
from socketless._wire.drivers import poll
from socketless._wire.pipes import PipeEnd
from socketless._wire.steps import Wait, Woken
from support import LIMIT, held_elsewhere, nothing_leaks

POLL = ("7", "271", "73")  # as the kernel numbers it: on x86-64 poll and ppoll, on arm64 ppoll
HEAD = b"POST / HTTP/1.1\r\nHost: testserver\r\nContent-Length: 100000000\r\n\r\n"
PIECE = bytes(64 * 1024)

_may_read = threading.Event()


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """Read nothing, until it may."""
    assert _may_read.wait(LIMIT)
    while environ["wsgi.input"].read(len(PIECE)):
        pass
    start_response("200 OK", [])
    return []


@pytest.fixture
def sock() -> Iterator[PipeSocket]:
    _may_read.clear()
    with nothing_leaks(), IpcThread(app, app_kind="wsgi") as worker:
        sock = PipeSocket(worker, None, server=("testserver", 80))
        try:
            yield sock
        finally:
            _may_read.set()
            sock.close()
            sock._served.join(LIMIT)


class Caller(threading.Thread):
    """Calls a function, and knows whether it waits for a descriptor."""

    def __init__(self, call: Callable[[], Any]) -> None:
        super().__init__()
        self.outcome: Future[Any] = Future()
        self._call = call
        self.start()

    def run(self) -> None:
        try:
            self.outcome.set_result(self._call())
        except OSError as error:
            self.outcome.set_result(f"{errno.errorcode[error.errno or 0]}: {error.strerror}")

    def begin_waiting(self) -> None:
        while not is_waiting(self):
            assert not self.outcome.done()


def is_waiting(thread: threading.Thread) -> bool:
    """Return whether a thread waits for descriptors."""
    return Path(f"/proc/self/task/{thread.native_id}/syscall").read_text().split()[0] in POLL


def reused(end: PipeEnd, close: Callable[[], None], fd: int) -> int:
    """Close an end, and let its number be that of something else, at once."""
    number = end.fileno()
    close()
    os.dup2(fd, number, inheritable=False)
    return number


@pytest.mark.parametrize("end", [PipeSocket.close, lambda sock: sock.shutdown(socket.SHUT_RD)], ids=["close", "shut"])
def test_waking_who_receives(sock: PipeSocket, end: Callable[[PipeSocket], None]) -> None:
    """Who receives is at the end at once, whatever the app is doing."""
    sock.sendall(HEAD)
    receiver = Caller(lambda: sock.recv(100))
    receiver.begin_waiting()
    end(sock)
    assert receiver.outcome.result(LIMIT) in (b"", "EBADF: the connection is closed")
    receiver.join()


def test_waking_who_sends(sock: PipeSocket) -> None:
    """Who sends is told at once."""
    sock.sendall(HEAD)
    sender = Caller(lambda: sock.sendall(bytes(1_000_000)))
    while poll(Wait(sock._writer.fileno(), for_writing=True, deadline=0.0)) is not Woken.LATE:
        pass
    sender.begin_waiting()
    sock.close()
    assert sender.outcome.result(LIMIT) == "EBADF: the connection is closed"
    sender.join()


def test_closed_while_another_thread_sends(sock: PipeSocket, tmp_path: Path) -> None:
    """Who sends writes nothing into a file that has been given the number of the descriptor."""

    def send() -> None:
        sock.sendall(HEAD)
        while True:
            sock.sendall(PIECE)

    with open(tmp_path / "of somebody else", "w+b") as file:
        sender = Caller(send)
        while poll(Wait(sock._writer.fileno(), for_writing=True, deadline=0.0)) is not Woken.LATE:
            pass
        sender.begin_waiting()
        number = reused(sock._writer, lambda: sock.shutdown(socket.SHUT_WR), file.fileno())
        _may_read.set()
        assert sender.outcome.result(LIMIT) == "EBADF: the connection is closed"
        sender.join()
        os.close(number)
        assert file.read() == b""


def test_closed_while_another_thread_receives(sock: PipeSocket) -> None:
    """Who receives reads nothing out of it, either."""
    reader, writer = os.pipe()
    os.write(writer, b"of somebody else")
    sock.sendall(HEAD)
    receiver = Caller(lambda: sock.recv(100))
    receiver.begin_waiting()
    number = reused(sock._reader, sock._reader.close, reader)
    sock.shutdown(socket.SHUT_RD)  # which wakes who waits
    assert receiver.outcome.result(LIMIT) == "EBADF: the connection is closed"
    receiver.join()
    assert os.read(reader, 100) == b"of somebody else"
    for fd in (number, reader, writer):
        os.close(fd)


def test_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread is to be had, nothing of the socket is left, and others can be ended."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with nothing_leaks(), IpcThread(app, app_kind="wsgi") as worker:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(RuntimeError, match="^can't start new thread$"):
                PipeSocket(worker, None, server=("testserver", 80))
        gc.collect()
        end_pipe_sockets(worker)


def test_no_descriptors(sock: PipeSocket, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who receives, and cannot be given the descriptors to wait with, keeps none."""

    def none_left(*args: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    while not is_waiting(sock._served._thread):  # it has made all that it needs
        pass
    for name in ("dup", "pipe"):
        with nothing_leaks(), monkeypatch.context() as patch:
            patch.setattr(genuine.os, name, none_left)
            with pytest.raises(OSError, match="Too many open files"):
                sock.recv(100)


def test_fork(sock: PipeSocket) -> None:
    """A forked child can close its copy, whatever other threads were doing, and keeps no descriptor of it."""
    with held_elsewhere(sock._lock, sock._served._lock):
        pid = fork()
        if pid == 0:
            signal.alarm(int(LIMIT))
            try:
                with nothing_leaks():
                    end_pipe_sockets(sock.worker)
                    sock.close()
                os._exit(0)
            finally:
                os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
