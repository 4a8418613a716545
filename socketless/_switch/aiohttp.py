"""What the switch replaces of aiohttp: the connections of `TCPConnector`, which sessions have unless given another.

And what a session with `trust_env` hears of the environment's proxies: that there are none.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakSet

from socketless._http11.worker_socket import WorkerSocket
from socketless._switch.hosts import Hosts
from socketless._switch.replacing import lowest, original_of
from socketless._switch.stand_ins import stand_ins
from socketless._switch.untouched import sockets_are_mocked

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

MODULE = "aiohttp.connector"  # which takes 120 to 160 ms to import
PROXIES_MODULE = "aiohttp.client"  # the module that calls it


def proxy_replacements(hosts: Hosts) -> Iterator[tuple[Any, Callable[..., Any]]]:
    """Return a module, and a function to replace that of the same name."""
    module = sys.modules[PROXIES_MODULE]
    original = original_of(module, "get_env_proxy_for_url")

    def get_env_proxy_for_url(url: Any) -> Any:
        if hosts.find(url.host, url.port) is None:
            return original(url)
        raise LookupError(f"under the switch there is no proxy for {url}")

    yield module, get_env_proxy_for_url


class Connections:
    """Those that sessions of aiohttp have to workers, while a switch is on."""

    def __init__(self, hosts: Hosts, options: Mapping[str, Any]) -> None:
        self._hosts = hosts
        self._options = options
        self._open: WeakSet[Any] = WeakSet()

    def replacements(self) -> Iterator[tuple[type, Callable[..., Any]]]:
        """Return a class, and a function to replace its method of the same name. aiohttp must have been imported."""
        hosts, options, opened = self._hosts, self._options, self._open
        owner = sys.modules[MODULE].TCPConnector
        original = original_of(owner, "_create_connection")

        def connect(worker: Any, server: tuple[str, int], scheme: str, timeout: float | None) -> WorkerSocket:
            return WorkerSocket(worker, timeout, scheme=scheme, server=server, **options)

        @lowest
        async def _create_connection(self: Any, req: Any, traces: Any, timeout: Any) -> Any:
            worker = hosts.find(req.url.host, req.url.port)
            if worker is None:
                return await original(self, req, traces, timeout)
            if sockets_are_mocked():
                with stand_ins(partial(connect, worker)):
                    return await original(self, req, traces, timeout)
            from socketless._aiohttp.connector import connected_to_worker  # which needs aiohttp

            protocol = connected_to_worker(worker, req, timeout, **options)
            opened.add(protocol)
            return protocol

        yield owner, _create_connection

    def close(self) -> None:
        """Close those that idle in a session's pool: the next request of the session is for the network."""
        for protocol in list(self._open):
            protocol.force_close()
            with suppress(RuntimeError):  # its loop is closed
                protocol._loop.call_soon_threadsafe(protocol.close)
