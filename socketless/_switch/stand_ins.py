"""Sockets below those of a mock, which sends on what it does not know: to the worker, instead of the network.

client library ──▶ mock's socket ──▶ StandIn ── once connected: WorkerSocket ──▶ the app
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from socketless._http11.pipe_socket import PipeSocket
from socketless._http11.worker_socket import WorkerSocket
from socketless._switch.untouched import Socket
from socketless._wire.pipes import PipeEnd, make_pipe

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

Connect = Callable[
    [tuple[str, int], str, "float | None"], Any
]  # address, scheme, timeout; a stand-in that is connected

_connect: ContextVar[Connect | None] = ContextVar("socketless-stand-ins", default=None)
_SSLSocket: Any = ssl.SSLContext.sslsocket_class


@contextmanager
def stand_ins(connect: Connect) -> Iterator[None]:
    """Let the sockets that are made meanwhile, in this context, be such."""
    token = _connect.set(connect)
    try:
        yield
    finally:
        _connect.reset(token)


def replacements() -> Iterator[tuple[Any, Any]]:
    """Return what is replaced of the standard library; outside of `stand_ins()` nothing changes by that."""
    original_new, original_getaddrinfo = Socket.__new__, socket.getaddrinfo
    original_create = _SSLSocket._create.__func__

    def __new__(cls: Any, *args: Any, **options: Any) -> Any:
        connect = _connect.get()
        if connect is None or cls is not Socket:
            return original_new(cls)
        return StandIn(connect, *args, **options)

    yield Socket, staticmethod(__new__)

    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if _connect.get() is None:
            return original_getaddrinfo(host, port, *args, **options)
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]

    yield socket, getaddrinfo

    def _create(cls: Any, sock: Any, *args: Any, **options: Any) -> Any:
        if not isinstance(sock, StandIn):
            return original_create(cls, sock, *args, **options)
        sock.start_tls()
        return sock

    yield _SSLSocket, classmethod(_create)


class StandIn:
    """A socket that is not connected yet; TLS is not spoken, only remembered."""

    def __init__(
        self, connect: Connect, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None
    ) -> None:
        self._connect = connect
        self.family = socket.AF_INET if family == -1 else family
        self.type = socket.SOCK_STREAM if type == -1 else type
        self.proto = 0 if proto == -1 else proto
        self._timeout = socket.getdefaulttimeout()
        self._address: tuple[str, int] | None = None
        self._scheme = "http"
        self._sock: Any = None  # made when it is first used; guarded by _lock
        self._lock = threading.Lock()
        self._nobody: PipeEnd | None = None  # what is waited for before there is a connection
        self._closed = False  # as that of `socket.socket`; mocket looks at it

    def connect(self, address: Any) -> None:
        """Connect with the worker, whatever the address."""
        host, port = address[:2]
        self._address = host.decode() if isinstance(host, bytes) else host, port

    def connect_ex(self, address: Any) -> int:
        """Connect, as `connect()`."""
        self.connect(address)
        return 0

    def start_tls(self) -> None:
        """Ask by https from now on."""
        self._scheme = "https"

    def do_handshake(self, block: bool = False) -> None:
        """Do nothing: TLS is not spoken."""

    def getsockopt(self, level: int, option: int, *size: int) -> int:
        """Say that it is a stream; of the rest, nothing is set."""
        return socket.SOCK_STREAM if (level, option) == (socket.SOL_SOCKET, socket.SO_TYPE) else 0

    def setsockopt(self, *args: Any) -> None:
        """Do nothing: there are no options."""

    def gettimeout(self) -> float | None:
        """Return how many seconds a read or a write may wait."""
        return self._timeout

    def settimeout(self, timeout: float | None) -> None:
        """Set it."""
        self._timeout = timeout
        if self._sock is not None:
            self._sock.settimeout(timeout)

    def setblocking(self, flag: bool) -> None:
        """Wait for ever, or not at all."""
        self.settimeout(None if flag else 0.0)

    def getsockname(self) -> tuple[str, int]:
        """Return the address that the app sees as the client's; before that, nobody's."""
        return ("0.0.0.0", 0) if self._address is None else self._connected().getsockname()

    def fileno(self) -> int:
        """Return a descriptor to wait for: before there is a connection, one whose other end has gone."""
        if self._address is not None:
            return int(self._connected().fileno())
        if self._closed:
            return -1
        if self._nobody is None:
            self._nobody, writer = make_pipe()
            writer.close()
        return self._nobody.fileno()

    def close(self) -> None:
        """End the connection, if there is one. May be called twice."""
        self._closed = True
        if self._nobody is not None:
            self._nobody.close()
        if self._sock is not None:
            self._sock.close()

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not (hasattr(WorkerSocket, name) or hasattr(PipeSocket, name)):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return lambda *args, **options: getattr(self._connected(), name)(*args, **options)

    def _connected(self) -> Any:
        with self._lock:
            if self._sock is None:
                if self._address is None:
                    raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
                self._sock = self._connect(self._address, self._scheme, self._timeout)
            return self._sock
