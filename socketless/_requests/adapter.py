"""`IpcAdapter`: carries the requests of a `requests.Session` to a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import Any
from urllib.parse import SplitResult, urlsplit

import urllib3
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.exceptions import InvalidHeader, InvalidSchema
from requests.models import PreparedRequest, Response
from requests.utils import check_header_validity, select_proxy
from urllib3 import Timeout
from urllib3._collections import HTTPHeaderDict

from socketless._clients.base import Carrier, RequestBody, chunks_of, close_body
from socketless._clients.response import Body, reason_of, response_of
from socketless._host.exchange import Exchange
from socketless._host.limits import Timeouts
from socketless._requests.errors import body_error, head_error
from socketless._requests.raw import RawResponse
from socketless._wire import heads, messages
from socketless._wire.messages import is_bodiless
from socketless.errors import InvalidRequest, SocketlessError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["IpcAdapter"]

_READ_SIZE = 64 * 1024
# What urllib3 says, if requests does not.
_DEFAULTS = {"accept-encoding": "identity", "user-agent": f"python-urllib3/{urllib3.__version__}"}  # type: ignore[attr-defined]
_SKIPPED = "@@@SKIP_HEADER@@@"  # urllib3.util.SKIP_HEADER


class IpcAdapter(Carrier, BaseAdapter):
    """Sends the requests of a `requests.Session` to a worker.

        with IpcProcess("myapp:app") as worker, requests.Session() as session:
            session.mount("http://", IpcAdapter(worker))
            session.get("http://testserver/")

    Any thread may use it. Closing the session does not end responses that are still open, nor the worker, as other
    clients may share it.

    Args:
        worker: the worker that answers the requests.
        raise_app_exceptions: whether the client raises the app's exceptions, as their own types; otherwise, it gets a
            500.
        root_path: the path that the app is mounted at: `SCRIPT_NAME` (PEP 3333) or `root_path` (ASGI).
        client: the client's address and port, as the app sees them.
    """

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Response:
        """Carry a request to the worker and return the app's response.

        There is no connection, so `verify`, `cert` and `proxies` have no effect, nor have proxies of the environment.
        As behind a proxy, the app does not see a header for the proxy (`Proxy-Authorization`).

        Args:
            request: the request to send.
            stream: whether the caller reads the body; requests itself takes care of it.
            timeout: seconds, or a pair of them (to wait for a free channel, and for each wait for the app), or a
                `urllib3.Timeout`; `None`: no limit.

        Raises:
            Exception: the app raised it.
            AppError: the app raised an exception that cannot be pickled.
            requests.RequestException: another error of `socketless.errors`, which is the matching error of requests as
                well: a `WorkerDied`, for example, is also a `requests.ConnectionError`.
            TransferError: a piece of the request's body is neither bytes nor text.
            StateError: the worker is closed.
        """
        return self.build_response(request, self.send_raw(request, timeout, proxies))

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        """Turn urllib3's response into one of requests; a subclass may extend this, as with an `HTTPAdapter`."""
        return HTTPAdapter.build_response(self, req, resp)  # type: ignore[arg-type]

    def send_raw(self, request: PreparedRequest, timeout: Any = None, proxies: Any = None) -> RawResponse:
        """Carry a request to the worker, as `send()` does; return what `HTTPAdapter.build_response()` takes."""
        message, upload = self._message(request, proxies), None
        exchange: Exchange | None = None
        if message.more_body:
            upload = RequestBody(_chunks_of(request.body), request.body)
        try:
            exchange = self.worker.exchange_blocking(message, _timeouts(timeout), upload)
            return self._raw(request, message, exchange, upload)
        except InvalidRequest as error:
            if not _is_sent(request, message):
                raise head_error(error, request) from None
            return _raw_response(request, message, _refusal(message, error), close=ExitStack(), drop=ExitStack())
        except SocketlessError as error:
            raise head_error(error, request) from error.__cause__
        finally:
            if upload is not None and (exchange is None or exchange.is_over):
                upload.close()

    def _message(self, request: PreparedRequest, proxies: Any) -> messages.Request:
        url = urlsplit(str(request.url))
        if url.scheme not in ("http", "https") or url.hostname is None:
            raise InvalidSchema(f"a worker answers http:// and https://, not {request.url!r}", request=request)
        body = _whole(request.body)
        return messages.Request(
            method=str(request.method),
            scheme=url.scheme,
            server=(url.hostname, messages.port_of(url.port, url.scheme)),
            raw_target=request.path_url.encode(),
            headers=_raw_headers(request, _host(url), has_proxy=bool(select_proxy(str(request.url), proxies))),
            body=body or b"",
            root_path=self.root_path,
            client=self.client,
            more_body=body is None,
        )

    def _raw(
        self, request: PreparedRequest, message: messages.Request, exchange: Exchange, upload: RequestBody | None
    ) -> RawResponse:
        answer = response_of(
            exchange.answer, partial(head_error, request=request), raise_app_exceptions=self.raise_app_exceptions
        )
        body: Body | None = None
        on_close, on_drop = ExitStack(), ExitStack()
        if upload is not None:
            on_close.callback(upload.close)
        if answer.more_body:
            as_theirs = partial(body_error, request=request)
            body = Body(exchange, message.method, answer, as_theirs, raise_app_exceptions=self.raise_app_exceptions)
            on_close.callback(close_body, body)
            on_drop.callback(body.abandon)
        return _raw_response(request, message, answer, body, close=on_close, drop=on_drop)

    def close(self) -> None:
        """Do nothing: as over a connection, responses that are still open may be read to their end."""


def _raw_response(
    request: PreparedRequest,
    message: messages.Request,
    answer: messages.Response,
    body: Body | None = None,
    *,
    close: ExitStack,
    drop: ExitStack,
) -> RawResponse:
    headers = HTTPHeaderDict()
    for name, value in answer.headers:
        headers.add(name.decode("latin-1"), value.decode("latin-1"))
    extensions = dict(answer.extensions)
    if body is not None:
        body.extensions = extensions
    return RawResponse(
        method=message.method,
        url=request.path_url,
        status=answer.status,
        reason=reason_of(answer),
        headers=headers,
        chunks=iter([answer.body]) if body is None else chunks_of(body),
        close=close.close,
        abandon=drop.close,
        is_streamed=answer.more_body and not is_bodiless(message.method, answer.status),
        extensions=extensions,
    )


def _is_sent(request: PreparedRequest, message: messages.Request) -> bool:
    """Return whether requests and urllib3 would write such a head, so that it is a server that refuses it."""
    try:
        heads.check_request(replace(message, method="GET", more_body=True))
    except InvalidRequest:
        with suppress(InvalidHeader):
            for header in request.headers.items():
                check_header_validity(header)
            return heads.is_token(message.method.encode())
    return False


def _refusal(message: messages.Request, error: InvalidRequest) -> messages.Response:
    text = f"{error}\n".encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
    return messages.Response(400, "Bad Request", headers, b"" if message.method == "HEAD" else text)


def _host(url: SplitResult) -> str:
    host = url.netloc.rpartition("@")[2]
    return host.rpartition(":")[0] if url.port == messages.DEFAULT_PORTS[url.scheme] else host


def _raw_headers(request: PreparedRequest, host: str, *, has_proxy: bool) -> messages.RawHeaders:
    headers: messages.RawHeaders = []
    if "Host" not in request.headers:
        headers.append((b"host", host.encode()))
    headers += [(name.encode(), value.encode()) for name, value in _DEFAULTS.items() if name not in request.headers]
    for name, value in request.headers.items():
        is_for_proxy = has_proxy and name.lower() == "proxy-authorization"  # requests adds it to a redirected request
        if value != _SKIPPED and not is_for_proxy:
            headers.append((_encoded(name), _encoded(value).strip(b" \t")))  # as the server does
    return headers


def _encoded(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def _whole(body: Any) -> bytes | None:
    # None: it is to be streamed. The rules for bodies are urllib3's.
    if body is None or isinstance(body, str):
        return (body or "").encode()
    if hasattr(body, "read"):
        return None
    try:
        return bytes(memoryview(body))
    except TypeError:
        return None


def _chunks_of(body: Any) -> Iterator[Any]:
    for chunk in _blocks_of(body) if hasattr(body, "read") else body:
        yield chunk.encode() if isinstance(chunk, str) else chunk


def _blocks_of(file: Any) -> Iterator[Any]:
    while block := file.read(_READ_SIZE):
        yield block


def _timeouts(timeout: Any) -> Timeouts:
    if not isinstance(timeout, Timeout):
        try:
            connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        except ValueError:
            raise ValueError(f"a timeout is seconds, or (connect, read), not {timeout!r}") from None
        timeout = Timeout(connect=connect, read=read)
    clock = timeout.clone()
    clock.start_connect()  # the time that is left of a total
    connect, read = _seconds(clock.connect_timeout), _seconds(clock.read_timeout)
    return Timeouts(connect, connect, read)


def _seconds(timeout: Any) -> float | None:
    return timeout if isinstance(timeout, (int, float)) else None  # there is a mark for "not given", too
