"""What the switch replaces of `websockets` (blocking, and asyncio) and of websocket-client: what they connect with.

Their modules call `socket.create_connection()` and the like by the name of a module, which is theirs to look up: there
they find one that differs in these functions alone. So functions that were imported before are switched, too.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import ModuleType
from typing import Any

from socketless._genuine import os
from socketless._host.outside import OutsideWorker
from socketless._host.trace import logger
from socketless._http11.asyncio_transport import BridgeTransport
from socketless._http11.pipe_socket import PipeSocket
from socketless._switch.hosts import Hosts, Refusal
from socketless._switch.http_client import as_of_sockets
from socketless._switch.replacing import original_of
from socketless._switch.stand_ins import StandIn
from socketless._wire.pipes import PipeEnd, make_pipe

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

Replacements = Iterator[tuple[Any, Any]]


class _OfWorker(int):
    """The family of an address that a worker answers: of such a family is a `StandIn`."""


class _Module(ModuleType):
    """A module with some of its functions replaced."""

    def __init__(self, original: ModuleType, **replaced: Any) -> None:
        super().__init__(original.__name__, original.__doc__)
        vars(self).update(replaced, _original=original)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


def _of_bridge(options: Mapping[str, Any]) -> dict[str, Any]:
    # None of these clients lets an exception of its socket through as it is. So what the app raises is what it is
    # before a server: a 500 or the close code 1011, and logged.
    return {**options, "raise_app_exceptions": False, "on_failure": _log, "as_theirs": as_of_sockets}


def _log(traceback: str) -> None:
    if "WebSocketDisconnect" in traceback.rstrip().rpartition("\n")[2]:
        return  # the client has closed it, and an app that lets Starlette's error through has done nothing wrong
    logger.error("the app raised:\n%s", traceback.rstrip())


def _find(hosts: Hosts, server: tuple[str, int]) -> Any:
    """Return what answers a server, if that is a worker; a refusal is raised: these clients ask only once connected."""
    worker = hosts.find(*server)
    if isinstance(worker, Refusal):
        raise as_of_sockets(worker.error("WebSocket", server))
    if isinstance(worker, OutsideWorker):
        raise as_of_sockets(worker.websocket_error(f"WebSocket to {server[0]}:{server[1]}"))
    return worker


def _blocking(module: str) -> Callable[[Hosts, Mapping[str, Any]], Replacements]:
    def replacements(hosts: Hosts, options: Mapping[str, Any]) -> Replacements:
        """Return a module, and another module `socket` for it."""

        def connect(server: tuple[str, int], scheme: str, timeout: float | None) -> PipeSocket:
            return PipeSocket(hosts.find(*server), timeout, scheme=scheme, server=server, **_of_bridge(options))

        def make_socket(family: int = socket.AF_INET, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(family, _OfWorker):
                return socket.socket(family, *args, **kwargs)
            return StandIn(connect, family, *args, **kwargs)

        def create_connection(address: Any, timeout: Any = None, *args: Any, **kwargs: Any) -> Any:
            if _find(hosts, address) is None:
                return socket.create_connection(address, timeout, *args, **kwargs)
            sock = StandIn(connect)
            sock.settimeout(timeout)
            sock.connect(address)
            return sock

        def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
            if _find(hosts, (host, port)) is None:
                return socket.getaddrinfo(host, port, *args, **kwargs)
            return [(_OfWorker(socket.AF_INET), socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]

        owner = sys.modules[module]
        yield owner, _Module(socket, socket=make_socket, create_connection=create_connection, getaddrinfo=getaddrinfo)
        yield from _without_proxies(owner, hosts)

    return replacements


def _wakeups(hosts: Hosts, options: Mapping[str, Any]) -> Replacements:
    """Return a module, and another module `socket` for it: a connection wakes its thread by a pipe."""

    def socketpair(*args: Any) -> tuple[PipeEnd, _Notifier]:
        reader, writer = make_pipe()
        return reader, _Notifier(writer)

    yield sys.modules["websockets.sync.connection"], _Module(socket, socketpair=socketpair)


class _Notifier:
    def __init__(self, end: PipeEnd) -> None:
        self._end = end

    def send(self, data: bytes) -> int:
        return os.write(self._end.fileno(), data)

    def close(self) -> None:
        self._end.close()


def _without_proxies(owner: Any, hosts: Hosts) -> Replacements:
    def get_proxy(uri: Any) -> Any:
        """Return that there is none, for `websockets`."""
        return None if hosts.find(uri.host, uri.port) is not None else original(uri)

    def get_proxy_info(hostname: str, *args: Any, **kwargs: Any) -> Any:
        """Return that there is none, for websocket-client."""
        return (None, 0, None) if hosts.find_any(hostname) is not None else original(hostname, *args, **kwargs)

    for replacement in (get_proxy, get_proxy_info):
        if hasattr(owner, replacement.__name__):
            original = original_of(owner, replacement.__name__)
            yield owner, replacement


def _asynchronous(module: str) -> Callable[[Hosts, Mapping[str, Any]], Replacements]:
    def replacements(hosts: Hosts, options: Mapping[str, Any]) -> Replacements:
        """Return a module, and another module `asyncio` for it."""
        owner, make_loop = sys.modules[module], partial(_Loop, hosts=hosts, options=options)
        yield (
            owner,
            _Module(
                asyncio,
                get_running_loop=lambda: make_loop(asyncio.get_running_loop()),
                get_event_loop=lambda: make_loop(asyncio.get_event_loop()),
            ),
        )
        yield from _without_proxies(owner, hosts)

    return replacements


class _Loop:
    """An event loop whose connections lead to workers."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, hosts: Hosts, options: Mapping[str, Any]) -> None:
        self._loop = loop
        self._hosts = hosts
        self._options = options

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(
        self, factory: Callable[[], Any], host: Any = None, port: Any = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        worker = _find(self._hosts, (host, port)) if kwargs.get("sock") is None else None
        if worker is None:
            return await self._loop.create_connection(factory, host, port, **kwargs)
        protocol = factory()
        transport = BridgeTransport(
            _Client(protocol),
            worker,
            scheme="https" if kwargs.get("ssl") else "http",
            server=(host, port),
            **_of_bridge(self._options),
        )
        return transport, protocol


class _Client:
    """A protocol of the library's, which can be told what has ended the connection."""

    def __init__(self, protocol: Any) -> None:
        self._protocol = protocol
        self._transport: Any = None
        self._error: Any = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._protocol, name)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._protocol.connection_made(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._protocol.connection_lost(exc or self._error)

    def fail(self, error: BaseException, *, is_answered: bool) -> None:
        self._error = error
        self._transport.abort()


# By the module that they are for: when it is imported, they are due.
REPLACEMENTS = {
    "websockets.sync.client": _blocking("websockets.sync.client"),
    "websockets.sync.connection": _wakeups,
    "websocket._http": _blocking("websocket._http"),
    "websockets.asyncio.client": _asynchronous("websockets.asyncio.client"),
    "websockets.legacy.client": _asynchronous("websockets.legacy.client"),
}
