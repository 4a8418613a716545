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

from socketless.genuine import os
from socketless.host.trace import logger
from socketless.host.worker import Worker
from socketless.http11.asyncio_transport import BridgeTransport
from socketless.http11.pipe_socket import PipeSocket
from socketless.switch.http_client import as_of_sockets
from socketless.switch.stand_ins import StandIn
from socketless.wire.pipes import PipeEnd, make_pipe

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

Replacements = Iterator[tuple[Any, Any]]


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


def _blocking(module: str) -> Callable[[Worker, Mapping[str, Any]], Replacements]:
    def replacements(worker: Worker, options: Mapping[str, Any]) -> Replacements:
        """Return a module, and another module `socket` for it."""

        def connect(server: tuple[str, int], scheme: str, timeout: float | None) -> PipeSocket:
            return PipeSocket(worker, timeout, scheme=scheme, server=server, **_of_bridge(options))

        def make_socket(family: int = socket.AF_INET, *args: Any, **kwargs: Any) -> Any:
            if family not in (socket.AF_INET, socket.AF_INET6):
                return socket.socket(family, *args, **kwargs)
            return StandIn(connect, family, *args, **kwargs)

        def create_connection(address: Any, timeout: Any = None, *args: Any, **kwargs: Any) -> StandIn:
            sock = StandIn(connect)
            sock.settimeout(timeout)
            sock.connect(address)
            return sock

        def getaddrinfo(host: Any, port: Any, *args: Any, **kwargs: Any) -> list[Any]:
            return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port))]

        owner = sys.modules[module]
        yield owner, _Module(socket, socket=make_socket, create_connection=create_connection, getaddrinfo=getaddrinfo)
        yield from _without_proxies(owner)

    return replacements


def _wakeups(worker: Worker, options: Mapping[str, Any]) -> Replacements:
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


def _without_proxies(owner: Any) -> Replacements:
    def get_proxy(*args: Any, **kwargs: Any) -> None:
        """Return that there is none, for `websockets`."""

    def get_proxy_info(*args: Any, **kwargs: Any) -> tuple[None, int, None]:
        """Return that there is none, for websocket-client."""
        return None, 0, None

    for replacement in (get_proxy, get_proxy_info):
        if hasattr(owner, replacement.__name__):
            yield owner, replacement


def _asynchronous(module: str) -> Callable[[Worker, Mapping[str, Any]], Replacements]:
    def replacements(worker: Worker, options: Mapping[str, Any]) -> Replacements:
        """Return a module, and another module `asyncio` for it."""
        owner, make_loop = sys.modules[module], partial(_Loop, worker=worker, options=options)
        yield (
            owner,
            _Module(
                asyncio,
                get_running_loop=lambda: make_loop(asyncio.get_running_loop()),
                get_event_loop=lambda: make_loop(asyncio.get_event_loop()),
            ),
        )
        yield from _without_proxies(owner)

    return replacements


class _Loop:
    """An event loop whose connections lead to a worker."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, worker: Worker, options: Mapping[str, Any]) -> None:
        self._loop = loop
        self._worker = worker
        self._options = options

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def create_connection(
        self, factory: Callable[[], Any], host: Any = None, port: Any = None, **kwargs: Any
    ) -> tuple[Any, Any]:
        if kwargs.get("sock") is not None:
            return await self._loop.create_connection(factory, host, port, **kwargs)
        protocol = factory()
        transport = BridgeTransport(
            _Client(protocol),
            self._worker,
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
