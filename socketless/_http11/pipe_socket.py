"""A stand-in for a connected, blocking socket that several threads may use: what clients of WebSockets want.

    client's threads ── pipe ─▶ Service, in a thread of its own ──▶ the app
                     ◀─ pipe ──

Its descriptor stays the same and says truly whether there is something to be read. `WorkerSocket` needs no thread.
"""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar
from weakref import WeakSet

from socketless._forking import close_in_forks
from socketless._genuine import os
from socketless._host.trace import logger
from socketless._host.turns import Turn
from socketless._host.worker import Worker
from socketless._http11.service import Service
from socketless._locks import make_lock
from socketless._wire.drivers import deadline_after, poll, remaining
from socketless._wire.pipes import PipeEnd, fd_of, make_pipe
from socketless._wire.steps import Wait, Woken

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

T = TypeVar("T")

_PATIENCE = 1.0  # seconds, with apps whose clients have gone

_open: WeakSet[PipeSocket] = WeakSet()
_serving: set[_Served] = set()  # whose threads are running


def end_pipe_sockets(worker: Worker) -> None:
    """End those to a worker, whoever keeps them: the next connection is for the network, or for another worker."""
    for sock in list(_open):
        if sock.worker is worker:
            sock.shutdown(socket.SHUT_RDWR)  # its thread, if that waits in a selector, would not hear of a close()
    deadline = deadline_after(_PATIENCE)
    for served in list(_serving):
        if served.worker is worker:
            served.join(remaining(deadline))


class PipeSocket:
    """A stand-in for a connected `socket.socket`. What the app raises is raised where its answer is read.

    Args:
        worker: what answers.
        timeout: how many seconds a read or a write may wait; `None`: for ever.
        server, client, options: of `Bridge`.
    """

    def __init__(
        self,
        worker: Worker,
        timeout: float | None,
        *,
        server: tuple[str, int],
        client: tuple[str, int] = ("127.0.0.1", 123),
        **options: Any,
    ) -> None:
        self.worker = worker
        self._timeout = timeout
        self._server, self._client = server, client
        self._reader, its_writer = make_pipe()
        its_reader, self._writer = make_pipe()
        for end in (self._reader, its_writer, its_reader, self._writer):
            close_in_forks(end)
        for end in (self._reader, self._writer):
            os.set_blocking(end.fileno(), False)
        self._writes_at_end = 0  # since the other end has gone
        self._lock = make_lock()  # held where an end is closed, or is read from or written to
        self._is_closed = False  # guarded by _lock
        self._is_deaf = False  # guarded by _lock; what is there is read, and nothing that comes
        self._turns: set[Turn] = set()  # guarded by _lock; of threads that wait, to look at how things are
        self._served = _Served(worker, its_reader, its_writer, {"server": server, "client": client, **options})
        _open.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.worker!r}>"

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read up to `size` bytes; `b""` at the end.

        Raises:
            TimeoutError: none came in time.
            BlockingIOError: none is there, and the time limit is 0.
            Exception: what the app has raised.
        """
        data = self._do(lambda fd: self._read(fd, size), self._reader)
        if not data:
            self._served.raise_error()
        return data

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        """Read into a buffer, as `recv()`, and return how many bytes."""
        data = self.recv(size or len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def send(self, data: Any, flags: int = 0) -> int:
        """Write bytes, and return how many.

        Raises:
            TimeoutError, BlockingIOError: they were not taken in time.
            BrokenPipeError: the connection has ended.
            Exception: what the app has raised.
        """
        try:
            return self._do(lambda fd: os.write(fd, data), self._writer, for_writing=True)
        except BrokenPipeError:
            self._served.raise_error()
            self._writes_at_end += 1  # as with a socket, the first one goes nowhere, and the next one fails
            if self._writes_at_end > 1:
                raise
            return memoryview(data).nbytes

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Write all bytes, as `send()`."""
        view = memoryview(data).cast("B")
        while view:
            view = view[self.send(view) :]

    def _read(self, fd: int, size: int) -> bytes:
        try:
            return os.read(fd, size)
        except BlockingIOError:
            if self._is_deaf:
                return b""
            raise

    def _do(self, call: Callable[[int], T], end: PipeEnd, *, for_writing: bool = False) -> T:
        # Another thread may close the end at any time, and then its number may be that of another file.
        deadline = deadline_after(self._timeout)
        while True:
            with self._lock:
                fd = fd_of(end, _Closed)
                try:
                    return call(fd)
                except BlockingIOError:
                    turn = Turn()  # first: if one of both is not to be had, it closes itself
                    copy = os.dup(fd)
                    self._turns.add(turn)
            try:
                woken = poll(Wait(copy, for_writing, turn.fd, deadline))
            finally:
                os.close(copy)
                with self._lock:
                    self._turns.discard(turn)
                turn.close()
            if woken is Woken.LATE:
                if self._timeout == 0:
                    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
                raise TimeoutError("timed out")

    def fileno(self) -> int:
        """Return the descriptor that is readable when something is there to be read; -1 after `close()`."""
        return -1 if self._is_closed else self._reader.fileno()

    def pending(self) -> int:
        """Return 0: unlike TLS, it keeps nothing back that could be read."""
        return 0

    def settimeout(self, timeout: float | None) -> None:
        """Set how many seconds a read or a write may wait; `None`: for ever."""
        self._timeout = timeout

    def gettimeout(self) -> float | None:
        """Return it."""
        return self._timeout

    def getpeername(self) -> tuple[str, int]:
        """Return what the client has asked to be connected with."""
        return self._server

    def getsockname(self) -> tuple[str, int]:
        """Return the address that the app sees as the client's."""
        return self._client

    def shutdown(self, how: int) -> None:
        """Write no more, read no more, or both; who is reading in another thread is at the end then."""
        with self._lock:
            if how != socket.SHUT_RD:
                self._writer.close()
            if how != socket.SHUT_WR:
                self._is_deaf = True
            for turn in self._turns:
                turn.come()
        if how != socket.SHUT_WR:
            self._served.write_to_nobody()

    def close(self) -> None:
        """End the connection. May be called twice."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._reader.close()
        self._served.log_error()

    def __del__(self) -> None:
        if hasattr(self, "_served"):  # nothing was missing for it
            self.close()


class _Closed(OSError):
    """What is said of a connection that was closed."""

    def __init__(self) -> None:
        super().__init__(errno.EBADF, "the connection is closed")


class _Served:
    """The other end: a thread that answers. It does not keep the socket."""

    def __init__(self, worker: Worker, reader: Any, writer: Any, options: dict[str, Any]) -> None:
        self.worker = worker
        self._reader, self._writer = reader, writer
        self._service = Service(worker, reader.fileno(), writer.fileno(), **options)
        self._lock = make_lock()
        self._has_ended = False  # guarded by _lock; the descriptors are closed
        self._is_left = False  # nobody reads any more
        self._error: BaseException | None = None  # set before the descriptors are closed
        self._thread = threading.Thread(target=self._serve, name="socketless-connection", daemon=True)
        _serving.add(self)
        try:
            self._thread.start()
        except RuntimeError:  # no thread is to be had
            self._end()
            raise

    def _serve(self) -> None:
        # Runs in the thread socketless-connection, until one side ends the connection.
        try:
            self._service.run()
        except BaseException as error:
            self._error = error
            if self._is_left:
                self.log_error()
        finally:
            self._end()

    def _end(self) -> None:
        with self._lock:
            self._has_ended = True
            self._reader.close()
            self._writer.close()
        _serving.discard(self)

    def join(self, timeout: float | None) -> None:
        """Wait until its thread has ended."""
        if self._thread is not threading.current_thread():
            with suppress(RuntimeError):  # it is about to be started
                self._thread.join(timeout)

    def log_error(self) -> None:
        """Log what has ended the connection, if it was not raised: a WebSocket's client may go without reading on."""
        error, self._error = self._error, None
        if error is not None:
            logger.error("the app raised after its client had gone", exc_info=error)

    def raise_error(self) -> None:
        """Raise what has ended the connection, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def write_to_nobody(self) -> None:
        """Let who reads be at the end, and what is still written be lost."""
        with self._lock, suppress(OSError):
            self._is_left = True
            self._service.let_through()
            if not self._has_ended:
                nobody = os.open(os.devnull, os.O_WRONLY)
                try:
                    os.dup2(nobody, self._writer.fileno(), inheritable=False)
                finally:
                    os.close(nobody)


def _renew_locks() -> None:
    # Runs in every forked child: another thread of the parent may have had one.
    for sock in _open:
        sock._lock = make_lock()
    for served in _serving:
        served._lock = make_lock()


os.register_at_fork(after_in_child=_renew_locks)
