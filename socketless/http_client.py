"""The standard library's `http.client` under the switch, and what is built on it: `urllib.request`, urllib3.

A connection gets what it takes for a socket: two pipes, and a thread that answers what comes through one of them.
"""

from __future__ import annotations

import http.client
import importlib.util
import io
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from socketless.errors import (
    AppProtocolError,
    IncompleteResponse,
    PoolTimeout,
    SocketlessError,
    WorkerDied,
    WorkerStartError,
)
from socketless.families import mixed
from socketless.host.worker import Worker
from socketless.serving import serve_connection
from socketless.wire.channel import PipeEnd, make_pipe
from socketless.wire.local import close_in_forks

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_THEIR_NAMES: dict[type[SocketlessError], tuple[str, str]] = {
    WorkerStartError: ("builtins", "ConnectionRefusedError"),
    WorkerDied: ("builtins", "ConnectionResetError"),
    PoolTimeout: ("builtins", "ConnectionRefusedError"),
    AppProtocolError: ("http.client", "HTTPException"),
    IncompleteResponse: ("http.client", "HTTPException"),
}


def _as_theirs(error: SocketlessError) -> SocketlessError:
    names = next((names for kind, names in _THEIR_NAMES.items() if isinstance(error, kind)), None)
    return error if names is None else mixed(error, *names)


class PipeSocket:
    """What `http.client` takes for a connected socket. One thread uses it at a time.

    What the app raises is raised where the response is read.
    """

    def __init__(self, worker: Worker, timeout: float | None, **options: Any) -> None:
        self._timeout = timeout
        self._error: BaseException | None = None  # what has ended the connection
        self._uses = 1  # this, and the files that makefile() has made
        requests, self._writer = make_pipe()
        self._reader, responses = make_pipe()
        for end in (requests, self._writer, self._reader, responses):
            close_in_forks(end)
        self._writer_fd = self._writer.fileno()
        os.set_blocking(self._writer_fd, False)
        threading.Thread(
            target=self._serve, args=(worker, requests, responses, options), name="socketless-http-client", daemon=True
        ).start()

    def _serve(self, worker: Worker, requests: PipeEnd, responses: PipeEnd, options: dict[str, Any]) -> None:
        # Runs in the thread socketless-http-client, until one side ends the connection.
        try:
            serve_connection(worker, requests.fileno(), responses.fileno(), as_theirs=_as_theirs, **options)
        except BaseException as error:
            self._error = error
        finally:
            requests.close()
            responses.close()

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Write bytes; while the app does not read, this waits.

        Raises:
            TimeoutError: it waited for too long.
            BrokenPipeError: the connection has ended.
        """
        view = memoryview(data).cast("B")
        while view:
            try:
                view = view[os.write(self._writer.fileno(), view) :]
            except BlockingIOError:
                self._wait(self._writer, select.POLLOUT)
            except BrokenPipeError:
                if self._error is not None:
                    self._raise()
                raise

    def send(self, data: Any, flags: int = 0) -> int:
        """Write bytes, as `sendall()`, and return how many."""
        self.sendall(data)
        return len(memoryview(data).cast("B"))

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read up to `size` bytes; `b""` at the end.

        Raises:
            TimeoutError: none came in time.
            Exception: what the app has raised.
        """
        self._wait(self._reader, select.POLLIN)
        data = os.read(self._reader.fileno(), size)
        if not data and self._error is not None:
            self._raise()
        return data

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        """Read into a buffer, as `recv()`, and return how many bytes."""
        data = self.recv(size or len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _raise(self) -> None:
        error, self._error = self._error, None
        assert error is not None
        raise error

    def _wait(self, end: PipeEnd, events: int) -> None:
        poller = select.poll()
        poller.register(end.fileno(), events)
        if not poller.poll(None if self._timeout is None else self._timeout * 1000):
            raise TimeoutError("timed out")

    def makefile(self, mode: str = "r", buffering: int | None = None, **text_options: Any) -> Any:
        """Return a file for reading or writing, as of `socket.socket.makefile()`."""
        self._uses += 1
        raw = _File(self)
        if buffering == 0:
            return raw
        size = io.DEFAULT_BUFFER_SIZE if buffering in (None, -1) else buffering
        file: Any
        if "w" in mode:
            file = io.BufferedRWPair(raw, raw, size) if "r" in mode else io.BufferedWriter(raw, size)
        else:
            file = io.BufferedReader(raw, size)
        return file if "b" in mode else io.TextIOWrapper(file, **text_options)

    def settimeout(self, timeout: float | None) -> None:
        """Set how many seconds a read or a write may wait; `None`: for ever."""
        self._timeout = timeout

    def gettimeout(self) -> float | None:
        """Return it."""
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        """Wait for ever, or not at all."""
        self._timeout = None if flag else 0.0

    def fileno(self) -> int:
        """Return the descriptor that is readable when there is something to be read; -1 after `close()`."""
        try:
            return self._reader.fileno()
        except OSError:
            return -1

    def setsockopt(self, *args: Any) -> None:
        """Do nothing: a pipe has no options."""

    def shutdown(self, how: int) -> None:
        """Write no more, if `how` says so."""
        if how != socket.SHUT_RD:
            self._writer.close()

    def close(self) -> None:
        """End the connection, once the files of `makefile()` are closed, too."""
        self._uses -= 1
        if self._uses <= 0:
            self._writer.close()
            self._reader.close()


class _File(io.RawIOBase):
    def __init__(self, pipes: PipeSocket) -> None:
        self._pipes = pipes

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._pipes.recv_into(buffer)

    def write(self, data: Any) -> int:
        return self._pipes.send(data)

    def fileno(self) -> int:
        return self._pipes.fileno()

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._pipes.close()


def replacements(worker: Worker, options: Mapping[str, Any]) -> Iterator[tuple[type, Callable[..., Any]]]:
    """Return classes, and functions to replace their methods of the same name."""
    classes: list[tuple[Any, str, int]] = [
        (http.client.HTTPConnection, "http", 80),
        (http.client.HTTPSConnection, "https", 443),
    ]
    if importlib.util.find_spec("urllib3") is not None:
        import urllib3.connection

        classes += [
            (urllib3.connection.HTTPConnection, "http", 80),
            (urllib3.connection.HTTPSConnection, "https", 443),
        ]
    for owner, scheme, port in classes:
        yield owner, _connect_for(worker, scheme, port, options)


def _connect_for(worker: Worker, scheme: str, port: int, options: Mapping[str, Any]) -> Callable[[Any], None]:
    def connect(self: Any) -> None:
        timeout = socket.getdefaulttimeout() if self.timeout is socket._GLOBAL_DEFAULT_TIMEOUT else self.timeout  # type: ignore[attr-defined]
        server = (self.host, self.port or port)
        self.sock = PipeSocket(worker, timeout, scheme=scheme, server=server, **options)
        self.is_verified = True  # or urllib3 would warn of it

    return connect
