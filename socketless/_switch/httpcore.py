"""What the switch replaces of httpcore and httpcore2: what connects, beneath their pools and their connections.

A request comes by here if somebody may see what is above (see `socketless._switch.httpx`), or has httpcore for a
client itself. Proxies are not asked.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any

from socketless._http11.worker_socket import WorkerSocket
from socketless._httpx.families import core_error
from socketless._switch.hosts import Hosts
from socketless._switch.replacing import lowest, original_of
from socketless._switch.stand_ins import stand_ins
from socketless._switch.untouched import sockets_are_mocked
from socketless._wire.drivers import poll, run_async
from socketless._wire.messages import port_of
from socketless._wire.steps import Wait, Woken

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

MODULES = ("httpcore", "httpcore2")  # when one is imported, its replacements are due

_OPTIONS = (  # of a pool, for its connections
    *("ssl_context", "keepalive_expiry", "http1", "http2", "retries", "local_address", "uds"),
    *("network_backend", "socket_options"),
)

Replacements = Iterator[tuple[Any, Callable[..., Any]]]


def replacements(name: str, hosts: Hosts, options: Mapping[str, Any]) -> Replacements:
    """Return classes of one of `MODULES`, and functions to replace their methods of the same name."""
    core = sys.modules[name]
    connect = partial(_connect, core.__name__, options)
    yield core.SyncBackend, _connect_tcp_for(core, hosts, connect)
    for owner in (core.AnyIOBackend, core.TrioBackend):
        if hasattr(owner, "connect_tcp"):  # where trio is not installed, it is something else
            yield owner, _async_connect_tcp_for(core, owner, hosts, connect)
    for prefix in ("", "Async"):
        connection = getattr(core, f"{prefix}HTTPConnection")
        yield connection, _has_expired_for(connection, hosts)
        for name in ("ConnectionPool", "HTTPProxy", "SOCKSProxy"):
            pool = getattr(core, prefix + name)
            if "create_connection" in vars(pool):  # without socksio, there is something else in the place of one
                yield pool, _create_connection_for(pool, connection, hosts)


def _connect(
    core_name: str, options: Mapping[str, Any], worker: Any, server: tuple[str, int], scheme: str, timeout: Any
) -> WorkerSocket:
    as_theirs = partial(core_error, core_name)
    return WorkerSocket(worker, timeout, scheme=scheme, server=server, as_theirs=as_theirs, **options)


def _connect_tcp_for(core: Any, hosts: Hosts, connect: Callable[..., WorkerSocket]) -> Callable[..., Any]:
    original = original_of(core.SyncBackend, "connect_tcp")

    @lowest
    def connect_tcp(self: Any, host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        worker = hosts.find(host, port)
        if worker is None:
            return original(self, host, port, *args, **kwargs)
        if sockets_are_mocked():
            with stand_ins(partial(connect, worker)):
                return original(self, host, port, *args, **kwargs)
        return _stream_type(core)(partial(connect, worker), (host, port))

    return connect_tcp


def _async_connect_tcp_for(
    core: Any, owner: Any, hosts: Hosts, connect: Callable[..., WorkerSocket]
) -> Callable[..., Any]:
    original = original_of(owner, "connect_tcp")

    @lowest
    async def connect_tcp(self: Any, host: str, port: int, *args: Any, **kwargs: Any) -> Any:
        worker = hosts.find(host, port)
        if worker is None:
            return await original(self, host, port, *args, **kwargs)
        if sockets_are_mocked():
            with stand_ins(partial(connect, worker)):
                return await original(self, host, port, *args, **kwargs)
        return _async_stream_type(core)(partial(connect, worker), (host, port))

    return connect_tcp


def _has_expired_for(owner: Any, hosts: Hosts) -> Callable[[Any], bool]:
    original = original_of(owner, "has_expired")

    def has_expired(self: Any) -> bool:
        # One that was kept from before the switch leads elsewhere.
        stream = getattr(self._connection, "_network_stream", None)
        worker = getattr(stream, "worker", None)
        if stream is not None and self.is_idle() and worker is not _of_origin(hosts, self._origin):
            return True
        return bool(original(self))

    return has_expired


def _of_origin(hosts: Hosts, origin: Any) -> Any:
    return hosts.find(origin.host, port_of(origin.port, origin.scheme.decode()))


def _create_connection_for(owner: Any, connection: Any, hosts: Hosts) -> Callable[..., Any]:
    original = original_of(owner, "create_connection")

    def create_connection(self: Any, origin: Any) -> Any:
        if _of_origin(hosts, origin) is None:
            return original(self, origin)
        return connection(origin=origin, **{name: getattr(self, f"_{name}") for name in _OPTIONS})

    return create_connection


class _Connected:
    """What a blocking stream and an asynchronous one share. TLS is not spoken, only remembered."""

    def __init__(self, connect: Callable[..., WorkerSocket], server: tuple[str, int]) -> None:
        self._connect, self._server = connect, server
        self._scheme = "http"
        self._made: WorkerSocket | None = None

    @property
    def _sock(self) -> WorkerSocket:
        if self._made is None:
            self._made = self._connect(self._server, self._scheme, None)
        return self._made

    @property
    def worker(self) -> Any:
        """What is at the other end."""
        return self._sock.worker

    def get_extra_info(self, info: str) -> Any:
        """Return the addresses, and whether there is something to be read; there is no socket and no TLS."""
        if info == "is_readable":
            return poll(Wait(self._sock.fileno(), deadline=0.0)) is not Woken.LATE
        if info == "client_addr":
            return self._sock.getsockname()
        return self._server if info == "server_addr" else None


class _Stream(_Connected):
    """What httpcore calls a `NetworkStream`."""

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._sock.settimeout(timeout)
        return self._sock.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._sock.settimeout(timeout)
        self._sock.sendall(buffer)

    def close(self) -> None:
        self._sock.close()

    def start_tls(self, *args: Any, **options: Any) -> Any:
        self._scheme = "https"
        return self


class _AsyncStream(_Connected):
    """What httpcore calls an `AsyncNetworkStream`, for asyncio and trio."""

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._sock.settimeout(timeout)
        return await run_async(self._sock.receiving(max_bytes))

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._sock.settimeout(timeout)
        await run_async(self._sock.sending(buffer))

    async def aclose(self) -> None:
        self._sock.close()

    async def start_tls(self, *args: Any, **options: Any) -> Any:
        self._scheme = "https"
        return self


@lru_cache
def _stream_type(core: Any) -> type:
    return type("IpcStream", (_Stream, core.NetworkStream), {})


@lru_cache
def _async_stream_type(core: Any) -> type:
    return type("IpcAsyncStream", (_AsyncStream, core.AsyncNetworkStream), {})
