"""What happens in a cell: somebody asks, others are asked, something fails, and everything is looked at."""

from __future__ import annotations

import gc
import itertools
import os
import re
import select
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from cells.clients import Asking
from cells.table import CHANNELS, IN_FLIGHT, OF_THE_APP, WHILE_CONNECTED, Expected
from clients import RequestsErrors
from socketless import IpcProcess, IpcTransport, errors
from socketless._host.worker import Worker
from support import LIMIT

BODY = [b"12345", b"67890"]
_numbers = itertools.count()


class Hang(BaseException):
    """A cell has not come to its end. The text says where each thread is."""


@contextmanager
def deadline(seconds: float = LIMIT) -> Iterator[None]:
    """Raise `Hang` in the block, wherever that is after so many seconds. It must be in the main thread."""

    def give_up(*args: object) -> None:
        frames = sys._current_frames()
        raise Hang("".join(each for thread in threading.enumerate() for each in stack_of(thread, frames)))

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def stack_of(thread: threading.Thread, frames: dict[int, Any]) -> list[str]:
    frame = frames.get(thread.ident or 0)
    return [f"\n{thread.name}:\n", *traceback.format_stack(frame)[-12:]] if frame is not None else []


class Hold:
    """Where an app says that it has come to a moment, and waits."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fds = []
        for end in ("-arrived", "-release"):
            os.mkfifo(f"{path}{end}")
            self._fds.append(os.open(f"{path}{end}", os.O_RDWR))

    def wait(self) -> None:
        """Wait until it has come there, or `stop_waiting()`."""
        ready, _, _ = select.select([self._fds[0]], [], [], LIMIT)
        assert ready, "the app has not come to that moment"
        os.read(self._fds[0], 1)

    def stop_waiting(self) -> None:
        os.write(self._fds[0], b".")

    def release(self) -> None:
        os.write(self._fds[1], b".")

    def close(self) -> None:
        for fd, end in zip(self._fds, ("-arrived", "-release"), strict=True):
            os.close(fd)
            os.unlink(f"{self.path}{end}")


class Others:
    """Requests of others that are in the app while something fails."""

    def __init__(self, worker: Worker, folder: Path, count: int) -> None:
        self.client = httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=LIMIT)
        self._hold = Hold(folder / f"other-{next(_numbers)}")
        self._responses = [self._ask() for _ in range(count)]

    def _ask(self) -> tuple[bytes, Any, Iterator[bytes]]:
        nonce = str(next(_numbers)).encode()
        url = f"/other?moment=body&deed=hold&nonce={nonce.decode()}&fifo={self._hold.path}"
        response = self.client.send(self.client.build_request("POST", url, content=b"-other"), stream=True)
        pieces = response.iter_raw()
        assert next(pieces) == nonce
        self._hold.wait()
        return nonce, response, pieces

    def check(self, error: type[BaseException] | None) -> None:
        """Let them go on, and assert that they are unharmed, or that they get this error."""
        for _ in self._responses:
            self._hold.release()
        for _, response, pieces in self._responses:
            if error is None:
                assert b"".join(pieces) == b"-other"
            else:
                with pytest.raises(error, match="^POST /other"):
                    b"".join(pieces)
            response.close()

    def close(self) -> None:
        for _, response, _ in self._responses:
            response.close()
        self.client.close()
        self._hold.close()


@contextmanager
def a_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path)


def use_all_channels(worker: Worker, folder: Path) -> None:
    others = Others(worker, folder, CHANNELS)
    others.check(None)
    others.close()
    settle(worker)


def settle(worker: Worker, but: int = 0) -> None:
    """Wait until the worker has let go of all that was given up, `but` for so many that are in use."""
    for thread in threading.enumerate():
        if thread.name.startswith(("socketless-parked-", "socketless-sending-")):
            thread.join(LIMIT)
    assert (len(worker._pool._busy), worker._pool._parked) == (but, {})


@contextmanager
def threads_end() -> Iterator[None]:
    """Wait for new threads: those of a worker that was closed end when its app lets go, and those of httpx-ws soon."""
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(LIMIT)
    gc.collect()


def wait_until_ended(pid: int) -> None:
    for thread in threading.enumerate():
        if thread.name == f"socketless-watch-{pid}":
            thread.join(LIMIT)


class Cell:
    """What happens in one."""

    def __init__(self, worker: Worker, moment: str, failure: str, client: Any, folder: Path) -> None:
        self._worker, self._moment, self._failure = worker, moment, failure
        self._client = client
        self._asking = Asking(self._client)
        self._is_over = threading.Event()
        self.hold = Hold(folder / f"cell-{next(_numbers)}")
        self.pid = worker.pid if isinstance(worker, IpcProcess) else None
        self.nonce = f"n{next(_numbers)}"
        deed = failure if failure in OF_THE_APP else "hold"
        where = "" if failure == "body-raises" else moment
        self.path = f"/cell?moment={where}&deed={deed}&nonce={self.nonce}&fifo={self.hold.path}"
        self.answer = self.nonce.encode() + b"".join(BODY)

    def run(self) -> bytes:
        """Ask, and return what comes as the body of the response."""
        if self._moment == "idle":
            assert self.ask(f"/cell?nonce={self.nonce}") == self.answer
        thread = threading.Thread(target=self._fail, name="failing")
        thread.start()
        try:
            if self._moment == "idle":
                thread.join(LIMIT)
            if self._failure == "leave":
                with self._client.stream("POST", self.path, content=self._body()) as stream:
                    assert next(stream.chunks) == self.nonce.encode()
                return self.answer
            return self.ask(self.path, **self._limits())
        finally:
            self._is_over.set()
            self.hold.stop_waiting()  # on a slow machine, the client may have been late before the app has come there
            thread.join(LIMIT)

    def ask(self, path: str, **options: Any) -> bytes:
        answer: bytes = self._asking.ask("POST", path, content=self._body(), **options).content
        return answer

    def _body(self) -> Any:
        def pieces() -> Iterator[bytes]:
            yield BODY[0]
            if self._failure == "body-raises":
                self._failure = ""  # once
                raise ZeroDivisionError("of the body")
            yield BODY[1]

        return self._client.body(pieces())

    def _limits(self) -> dict[str, Any]:
        if self._failure not in ("be-late", "SIGSTOP"):
            return {}
        limits = {"pool": 0.1} if self._moment == "waiting" else {"read": 0.1}
        return {"timeout": self._client.library.Timeout(LIMIT, **limits)}

    def _fail(self) -> None:
        # Runs in the thread "failing", until it is done.
        if self._moment == "waiting":
            while not (self._worker._pool._waiters or self._is_over.is_set()):
                pass
        elif self._moment in IN_FLIGHT + WHILE_CONNECTED and self._failure not in (*OF_THE_APP, "body-raises", "leave"):
            self.hold.wait()
        if self._failure == "kill":
            self.send(signal.SIGKILL)
            if self._moment == "idle":
                assert self.pid is not None
                wait_until_ended(self.pid)
        elif self._failure == "SIGSTOP":
            self.send(signal.SIGSTOP)
        elif self._failure == "stop":
            self._worker.close()
        elif self._failure == "cancel":
            self._asking.cancel()
        elif self._failure == "interrupt":
            main = threading.main_thread().ident
            assert main is not None
            signal.pthread_kill(main, signal.SIGINT)
            while not self._is_over.wait(5):  # it came between Python's last look and a system call, which waits on
                signal.pthread_kill(main, signal.SIGINT)
        elif (self._failure, self._moment) == ("be-late", "end"):
            self.hold.release()

    def send(self, number: signal.Signals) -> None:
        assert self.pid is not None
        os.kill(self.pid, number)

    def check(self, error: BaseException, wanted: Expected) -> None:
        """Assert that it is this error, in full."""
        assert wanted.error is not None
        assert isinstance(error, wanted.error)
        worker = "the worker" if self.pid is None else f"the worker (pid {self.pid})"
        label = f"(GET|POST|WebSocket) {re.escape(self.path)}"
        text = wanted.text.replace("{label}", label).replace("{worker}", re.escape(worker))
        assert re.fullmatch(text, str(error)), str(error)
        if wanted.theirs:
            theirs = getattr(self._client.library, wanted.theirs)
            if self._client.library is RequestsErrors and wanted.theirs == "ReadError":
                theirs = RequestsErrors.ProtocolError  # it has two: before the head, and from there on
            assert isinstance(error, theirs)
            if isinstance(error, httpx.RequestError):
                assert error.request.url.path == "/cell"
        if isinstance(error, errors.ReadTimeout) and self._failure != "SIGSTOP":
            assert "cells_app.py" in error.stack

    def close(self) -> None:
        self.hold.close()


def one_cell(worker: Worker, moment: str, failure: str, client: Any, wanted: Expected, folder: Path) -> None:
    """Let it happen, and assert that nobody comes to harm who need not."""
    with ExitStack() as stack:
        cell = Cell(worker, moment, failure, client, folder)
        stack.callback(cell.close)
        others = Others(worker, folder, CHANNELS if moment == "waiting" else 1)
        stack.callback(others.close)
        try:
            answer = cell.run()
        except BaseException as error:
            if wanted.error is None:
                raise
            cell.check(error, wanted)
            error.__traceback__ = None  # whose frames hold the response
        else:
            assert wanted.error is None or not wanted.is_sure, answer
            assert answer == cell.answer
        if failure == "SIGSTOP":
            cell.send(signal.SIGCONT)
        others.check(wanted.others)
        if failure not in OF_THE_APP and (failure, moment) != ("be-late", "end"):
            cell.hold.release()
        if wanted.after is None:
            assert cell.ask(f"/cell?nonce={cell.nonce}") == cell.answer
            use_all_channels(worker, folder)
        else:
            with pytest.raises(wanted.after):
                cell.ask("/cell?nonce=x")
