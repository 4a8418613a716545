"""Sockets below those of a mock, which sends on what it does not know: to the worker, instead of the network.

    client library ──▶ mock's socket ──▶ StandIn ── once connected: WorkerSocket ──▶ the app
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from socketless.http11.worker_socket import WorkerSocket

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

Connect = Callable[[tuple[str, int], str, "float | None"], WorkerSocket]  # address, scheme, timeout

_connect: ContextVar[Connect | None] = ContextVar("socketless-stand-ins", default=None)
_Socket: Any = socket.socket


@contextmanager
def stand_ins(connect: Connect) -> Iterator[None]:
    """Let the sockets that are made meanwhile, in this context, be such."""
    token = _connect.set(connect)
    try:
        yield
    finally:
        _connect.reset(token)


def replacements() -> Iterator[tuple[Any, Any]]:
    """Return what is replaced of the standard library while a switch is on; outside of `stand_ins()` nothing changes."""
    original_new, original_getaddrinfo = _Socket.__new__, socket.getaddrinfo
    original_create: Any = ssl.SSLSocket._create.__func__  # type: ignore[attr-defined]

    def __new__(cls: Any, *args: Any, **options: Any) -> Any:
        connect = _connect.get()
        if connect is None or cls is not _Socket:
            return original_new(cls)
        return StandIn(connect, *args, **options)

    yield _Socket, staticmethod(__new__)

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

    yield ssl.SSLSocket, classmethod(_create)


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
        self._sock: WorkerSocket | None = None  # made when it is first used
        self._closed = False  # as of `socket.socket`; mocket looks at it

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

    def close(self) -> None:
        """End the connection, if there is one. May be called twice."""
        self._closed = True
        if self._sock is not None:
            self._sock.close()

    def __enter__(self) -> StandIn:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or self._address is None:
            raise AttributeError(f"a socket that is not connected with {name!r}")
        if self._sock is None:
            self._sock = self._connect(self._address, self._scheme, self._timeout)
        return getattr(self._sock, name)
