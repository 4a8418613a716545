"""The standard library's `http.client` under the switch, and what is built on it: `urllib.request`, urllib3.

A connection gets what it takes for a socket: two pipes, and a thread that answers what comes through one of them.
"""

from __future__ import annotations

import http.client
import importlib
import io
import math
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from weakref import WeakSet

from socketless.errors import (
    AppProtocolError,
    BodyTooLarge,
    IncompleteResponse,
    SocketlessError,
    WorkerDied,
    WorkerStartError,
)
from socketless.families import mixed, name_of
from socketless.host.worker import Worker
from socketless.serving import Service
from socketless.wire.channel import PipeEnd, make_pipe
from socketless.wire.local import close_in_forks

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_THEIR_NAMES: dict[type[SocketlessError], tuple[str, str]] = {
    WorkerStartError: ("builtins", "ConnectionRefusedError"),
    WorkerDied: ("builtins", "ConnectionResetError"),
    AppProtocolError: ("http.client", "HTTPException"),
    BodyTooLarge: ("http.client", "HTTPException"),
    IncompleteResponse: ("http.client", "HTTPException"),
}

_URLLIB3_NAMES: dict[type[SocketlessError], str] = {
    WorkerStartError: "NewConnectionError",
    WorkerDied: "ProtocolError",
    AppProtocolError: "ProtocolError",
    BodyTooLarge: "ProtocolError",
    IncompleteResponse: "ProtocolError",
}


def _as_theirs(error: SocketlessError) -> SocketlessError:
    names = next((names for kind, names in _THEIR_NAMES.items() if isinstance(error, kind)), None)
    return error if names is None else mixed(error, *names)


_open: WeakSet[PipeSocket] = WeakSet()


def close_connections(worker: Worker) -> None:
    """Close those to a worker, whoever keeps them: the next request is for the network, or for another worker."""
    for line in list(_open):
        if line.worker is worker:
            line.end()


class PipeSocket:
    """What `http.client` takes for a connected socket. One thread uses it at a time.

    What the app raises is raised where the response is read.
    """

    def __init__(self, worker: Worker, timeout: float | None, **options: Any) -> None:
        self.worker = worker
        self._timeout = timeout
        self._errors: list[BaseException] = []  # what has ended the connection
        self._uses = 1  # this, and the files that makefile() has made
        requests, self._writer = make_pipe()
        self._reader, responses = make_pipe()
        for end in (requests, self._writer, self._reader, responses):
            close_in_forks(end)
        _open.add(self)
        self._writer_fd = self._writer.fileno()
        os.set_blocking(self._writer_fd, False)
        # The thread knows nothing of this object, which closes its ends when it is dropped.
        service = Service(worker, requests.fileno(), responses.fileno(), as_theirs=_as_theirs, **options)
        arguments = service, requests, responses, self._errors
        threading.Thread(target=_serve, args=arguments, name="socketless-http-client", daemon=True).start()

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
                self._raise_error()
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
        if not data:
            self._raise_error()
        return data

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        """Read into a buffer, as `recv()`, and return how many bytes."""
        data = self.recv(size or len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _raise_error(self) -> None:
        if self._errors:
            error = self._errors.pop()
            error._is_final = True  # type: ignore[attr-defined]  # for urllib3, see below
            raise error

    def _wait(self, end: PipeEnd, events: int) -> None:
        poller = select.poll()
        poller.register(end.fileno(), events)
        if not poller.poll(None if self._timeout is None else math.ceil(self._timeout * 1000)):
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

    def end(self) -> None:
        """Write no more, so that all that is left to be read is the end; any thread may call it."""
        self._writer.close()

    def close(self) -> None:
        """End the connection, once the files of `makefile()` are closed, too."""
        self._uses -= 1
        if self._uses <= 0:
            self._writer.close()
            self._reader.close()


def _serve(service: Service, requests: PipeEnd, responses: PipeEnd, errors: list[BaseException]) -> None:
    # Runs in the thread socketless-http-client, until one side ends the connection.
    try:
        service.run()
    except BaseException as error:
        errors.append(error)
    finally:
        requests.close()
        responses.close()


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


Replacements = Iterator[tuple[type, Callable[..., Any]]]


def _replacements(worker: Worker, options: Mapping[str, Any]) -> Replacements:
    """Return classes of `http.client`, and functions to replace their methods of the same name."""
    yield http.client.HTTPConnection, _connect_for(worker, options, "http", 80)
    yield http.client.HTTPSConnection, _connect_for(worker, options, "https", 443)
    original_putrequest = http.client.HTTPConnection.putrequest

    def putrequest(self: Any, *args: Any, **kwargs: Any) -> None:
        # One that was kept from before the switch, or from another, goes elsewhere.
        line = self.sock
        if isinstance(line, socket.socket) and line.family != socket.AF_UNIX:
            self.close()
        elif isinstance(line, PipeSocket) and line.worker is not worker:
            self.close()
        original_putrequest(self, *args, **kwargs)

    yield http.client.HTTPConnection, putrequest
    original: Any = http.client.HTTPResponse._get_chunk_left  # type: ignore[attr-defined]

    def _get_chunk_left(self: Any) -> Any:
        # It takes what the app raises, if that is a ValueError, for a chunk's size that is no number.
        try:
            return original(self)
        except http.client.IncompleteRead as error:
            if getattr(error.__context__, "_is_final", False):
                raise error.__context__ from error.__context__.__cause__  # type: ignore[misc, union-attr]
            raise

    yield http.client.HTTPResponse, _get_chunk_left


def _urllib3_connections(worker: Worker, options: Mapping[str, Any]) -> Replacements:
    """Return the same of urllib3. A class with a way of its own, to a UNIX socket for example, keeps that."""
    connection: Any = importlib.import_module("urllib3.connection")
    for owner, scheme, port in ((connection.HTTPConnection, "http", 80), (connection.HTTPSConnection, "https", 443)):
        yield owner, _urllib3_connect_for(worker, options, scheme, port, owner)


def _urllib3_retries(worker: Worker, options: Mapping[str, Any]) -> Replacements:
    retry: Any = importlib.import_module("urllib3.util.retry").Retry
    original = retry.increment

    def increment(self: Any, *args: Any, error: Any = None, **kwargs: Any) -> Any:
        # It takes what the app raises, if that is an OSError, for the connection's, and would ask the app again.
        said = _said_by_us(error)
        if said is not None:
            raise said from said.__cause__
        return original(self, *args, error=error, **kwargs)

    yield retry, increment


def _urllib3_responses(worker: Worker, options: Mapping[str, Any]) -> Replacements:
    response: Any = importlib.import_module("urllib3.response").HTTPResponse
    original_catcher = response._error_catcher

    @contextmanager
    def _error_catcher(self: Any) -> Iterator[None]:
        try:
            with original_catcher(self):
                yield
        except Exception as error:
            said = _said_by_us(error)
            if said is None or said is error:
                raise
            raise said from said.__cause__

    yield response, _error_catcher


def _said_by_us(error: BaseException | None) -> Any:
    """Return what the app has raised, or our error as urllib3's, of an error that urllib3 has made of it; or `None`."""
    if error is None:
        return None
    said = next((each for each in (error, error.__cause__, *error.args) if getattr(each, "_is_final", False)), None)
    if not isinstance(said, SocketlessError) or hasattr(said, "pool"):
        return said
    name = name_of(said, _URLLIB3_NAMES)
    if name is None:
        return said
    both: Any = mixed(said, "urllib3.exceptions", name)
    both._is_final, both.pool, both.url = True, getattr(error, "pool", None), getattr(error, "url", None)
    return both


# By the module that they are for: when it is imported, they are due.
REPLACEMENTS = {
    "http.client": _replacements,
    "urllib3.connection": _urllib3_connections,
    "urllib3.util.retry": _urllib3_retries,
    "urllib3.response": _urllib3_responses,
}


def _connect_for(worker: Worker, options: Mapping[str, Any], scheme: str, port: int) -> Callable[[Any], None]:
    default: Any = socket._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]

    def connect(self: Any) -> None:
        timeout = socket.getdefaulttimeout() if self.timeout is default else self.timeout
        self.sock = PipeSocket(worker, timeout, scheme=scheme, server=(self.host, self.port or port), **options)

    return connect


def _urllib3_connect_for(
    worker: Worker, options: Mapping[str, Any], scheme: str, port: int, owner: Any
) -> Callable[[Any], None]:
    original, its_way, ours = owner.connect, owner._new_conn, _connect_for(worker, options, scheme, port)

    def connect(self: Any) -> None:
        if type(self)._new_conn is not its_way:
            original(self)
            return
        ours(self)
        self.is_verified = True  # or it would warn

    return connect
