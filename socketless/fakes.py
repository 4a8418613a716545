"""Fakes of the services that an app calls: turns handlers for `httpx.MockTransport` into apps for the switch.

    def handler(request):
        return httpx.Response(200, json={"paid": True})

    payments = FakeApp(handler)
    with switch_to_ipc_connection({"shop.test": shop.app, "payments.test": payments}, others="refuse"):
        httpx.post("http://shop.test/buy")
        assert [request.url.path for request in payments.requests] == ["/v1/charges"]

Clients of every library reach it, not only httpx's. Many fakes are apps already: those of pytest-httpserver
(`HTTPServer.application`), moto, httpbin, and every WSGI or ASGI app.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from http import HTTPStatus
from typing import Any
from wsgiref.util import request_uri

import httpx
from werkzeug.datastructures import EnvironHeaders
from werkzeug.wsgi import get_host, get_input_stream

__all__ = ["FakeApp"]

_OF_CONNECTION = {b"connection", b"keep-alive", b"transfer-encoding", b"upgrade"}  # an app has none (PEP 3333)


class FakeApp:
    """A WSGI app made from a function that takes an `httpx.Request` and returns an `httpx.Response`.

    Any thread may call it. An exception of the function is raised where the request was sent, so the function may use
    `assert`. A response with a generator as its content is streamed.

    Args:
        handler: a handler as for `httpx.MockTransport`: a function, or the `handler` of a respx router.

    Attributes:
        requests: the requests received so far, in order, with their bodies read. You may clear the list.
    """

    def __init__(self, handler: Callable[[httpx.Request], httpx.Response]) -> None:
        self.handler = handler
        self.requests: list[httpx.Request] = []

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.handler!r}>"

    def __call__(self, environ: Mapping[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        request = _request_of(environ)
        self.requests.append(request)
        response = self.handler(request)
        if not isinstance(response.stream, httpx.SyncByteStream):
            raise TypeError(f"a fake app takes responses with sync content, not {type(response.stream).__name__}")
        headers = [(name, value) for name, value in response.headers.raw if name.lower() not in _OF_CONNECTION]
        start_response(
            f"{response.status_code} {_reason_of(response)}",
            [(name.decode("latin-1"), value.decode("latin-1")) for name, value in headers],
        )
        return _Body(response.stream)


class _Body:
    """The body of a response, piece by piece, as it was encoded."""

    def __init__(self, stream: httpx.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream)

    def close(self) -> None:
        self._stream.close()


def _request_of(environ: Mapping[str, Any]) -> httpx.Request:
    environ = dict(environ)
    url = request_uri(environ)
    if "REQUEST_URI" in environ:  # as it was sent; not every server tells that
        url = f"{environ['wsgi.url_scheme']}://{get_host(environ)}{environ['REQUEST_URI']}"
    headers = list(EnvironHeaders(environ))
    body = get_input_stream(environ).read()
    return httpx.Request(environ["REQUEST_METHOD"], url, headers=headers, content=body)


def _reason_of(response: httpx.Response) -> str:
    try:
        return str(response.reason_phrase or HTTPStatus(response.status_code).phrase)
    except ValueError:
        return "Unknown"
