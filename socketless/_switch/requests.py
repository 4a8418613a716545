"""What the switch replaces of requests: the way of its own adapter to the network, and what a relative URL is."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from socketless._requests.adapter import IpcAdapter
from socketless._requests.errors import head_error
from socketless._requests.session import with_absolute_url
from socketless._switch.hosts import Hosts
from socketless._switch.http_client import is_of_worker
from socketless._switch.replacing import original_of
from socketless._switch.untouched import Pieces, connection_classes, sockets_are_mocked
from socketless._wire.messages import DEFAULT_PORTS, port_of
from socketless.errors import SocketlessError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_WAYS = ("get_connection_with_tls_context", "get_connection")  # requests before 2.32 has the second one only


def replacements(
    hosts: Hosts, base_url: str | None, options: Mapping[str, Any]
) -> Iterator[tuple[type, Callable[..., Any]]]:
    """Return classes, and functions to replace their methods of the same name."""
    ours: dict[Any, IpcAdapter] = {}  # by their workers
    original_send = original_of(HTTPAdapter, "send")
    original_prepare = original_of(requests.Session, "prepare_request")
    pieces = Pieces([HTTPAdapter, *_pieces_of_urllib3()], ("requests", "urllib3", "http"))

    def send(
        self: Any,
        request: Any,
        stream: Any = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Any:
        arguments = {"stream": stream, "timeout": timeout, "verify": verify, "cert": cert, "proxies": proxies}
        url = urlsplit(request.url)
        if url.scheme not in DEFAULT_PORTS or _has_a_way_of_its_own(self):
            return original_send(self, request, **arguments)
        worker = hosts.find(url.hostname, port_of(url.port, url.scheme))
        if worker is None:
            return original_send(self, request, **arguments)
        if not pieces.are_untouched() or sockets_are_mocked():
            return _sent(original_send, self, request, arguments)
        self.add_headers(request, **arguments)
        adapter = ours.get(worker) or ours.setdefault(worker, IpcAdapter(worker, **options))
        return self.build_response(request, adapter.send_raw(request, timeout, proxies))

    # No `close`: requests.get(url, stream=True) has closed its session when it returns, and the response is open.
    yield HTTPAdapter, send

    if base_url is None:
        return

    def prepare_request(self: Any, request: Any) -> Any:
        return original_prepare(self, with_absolute_url(request, base_url))

    yield requests.Session, prepare_request


def _sent(send: Any, adapter: Any, request: Any, arguments: dict[str, Any]) -> Any:
    """Send a request by what somebody has put between requests and the network; beneath that is the worker again."""
    try:
        return send(adapter, request, **arguments | {"proxies": None})
    except requests.RequestException as error:
        said = next(filter(is_of_worker, _within(error)), None)
        if said is None:
            raise
        raise (head_error(said, request) if isinstance(said, SocketlessError) else said) from said.__cause__


def _within(error: BaseException) -> Iterator[BaseException]:
    """Yield what requests and urllib3 have wrapped: an error, in its `args` or as its `reason`."""
    for each in (*error.args, getattr(error, "reason", None)):
        if isinstance(each, BaseException):
            yield each
            yield from _within(each)


def _pieces_of_urllib3() -> list[type]:
    from urllib3 import connection, connectionpool, poolmanager

    pools = [connectionpool.HTTPConnectionPool, connectionpool.HTTPSConnectionPool, poolmanager.PoolManager]
    return [*pools, *connection_classes(connection), *connection_classes(http.client)]


def _has_a_way_of_its_own(adapter: HTTPAdapter) -> bool:
    # To a UNIX socket, for example.
    return any(getattr(type(adapter), name, None) is not getattr(HTTPAdapter, name, None) for name in _WAYS)
