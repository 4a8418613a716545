"""What the switch replaces of requests: the way of its own adapter to the network, and what a relative URL is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter

from socketless.host.worker import Worker
from socketless.requests.adapter import IpcAdapter
from socketless.requests.session import with_absolute_url

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_WAYS = ("get_connection_with_tls_context", "get_connection")  # requests before 2.32 has the second one only


def replacements(
    worker: Worker, base_url: str, options: Mapping[str, Any]
) -> Iterator[tuple[type, Callable[..., Any]]]:
    """Return classes, and functions to replace their methods of the same name."""
    ours = IpcAdapter(worker, **options)
    original_send, original_prepare = HTTPAdapter.send, requests.Session.prepare_request

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
        if urlsplit(request.url).scheme not in ("http", "https") or _has_a_way_of_its_own(self):
            return original_send(self, request, **arguments)
        self.add_headers(request, **arguments)
        return self.build_response(request, ours.send_raw(request, timeout, proxies))

    # No `close`: requests.get(url, stream=True) has closed its session when it returns, and the response is open.
    yield HTTPAdapter, send

    def prepare_request(self: Any, request: Any) -> Any:
        return original_prepare(self, with_absolute_url(request, base_url))

    yield requests.Session, prepare_request


def _has_a_way_of_its_own(adapter: HTTPAdapter) -> bool:
    # To a UNIX socket, for example.
    return any(getattr(type(adapter), name, None) is not getattr(HTTPAdapter, name, None) for name in _WAYS)
