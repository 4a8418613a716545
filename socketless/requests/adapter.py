"""`IpcAdapter`: carries the requests of a `requests.Session` to a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any
from urllib.parse import SplitResult, urlsplit

from requests.adapters import BaseAdapter, HTTPAdapter
from requests.exceptions import InvalidSchema
from requests.models import PreparedRequest, Response
from requests.utils import select_proxy
from urllib3 import Timeout
from urllib3._collections import HTTPHeaderDict

from socketless.clients.answer import Body, reason_of, response_of
from socketless.clients.carrier import Carrier, RequestBody, chunks_of, leave
from socketless.errors import SocketlessError
from socketless.host.exchange import Exchange
from socketless.host.limits import Timeouts
from socketless.requests.errors import body_error, head_error
from socketless.requests.raw import RawResponse
from socketless.wire import messages
from socketless.wire.messages import is_bodiless

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["IpcAdapter"]

_READ_SIZE = 64 * 1024
_SKIPPED = "@@@SKIP_HEADER@@@"  # urllib3.util.SKIP_HEADER


class IpcAdapter(Carrier, BaseAdapter):
    """Sends the requests of a `requests.Session` to a worker.

        with IpcProcess("myapp:app") as worker, requests.Session() as session:
            session.mount("http://", IpcAdapter(worker))
            session.get("http://testserver/")

    Any thread may use it. Closing the session ends the responses that are still open, and leaves the worker as it is:
    others may share it.

    Args:
        worker: where to send them.
        raise_app_exceptions: raise what the app raises, as its own type; else answer 500.
        root_path: the path that the app is mounted at: `SCRIPT_NAME` (PEP 3333) or `root_path` (ASGI).
        client: the address that the app sees as the client's.
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

        There is no connection, so `verify`, `cert` and `proxies`, also those of the environment, have no meaning. What
        a request says to its proxy (`Proxy-Authorization`) the app does not see, as behind a proxy.

        Args:
            request: what to send.
            stream: whether the body is to be read by the caller; requests itself sees to it.
            timeout: seconds, a pair of them (for a free channel, and for each time that the app is waited for) or a
                `urllib3.Timeout`; `None`: for ever.

        Raises:
            Exception: what the app raised.
            AppError: what the app raised cannot cross.
            requests.RequestException: the other errors of `socketless.errors`, as that and as the error that requests
                has for it, for example `WorkerDied` and `requests.ConnectionError`.
            TransferError: a piece of the request's body is neither bytes nor text.
            StateError: the worker is closed.
        """
        return HTTPAdapter.build_response(self, request, self.send_raw(request, timeout, proxies))  # type: ignore[arg-type]

    def send_raw(self, request: PreparedRequest, timeout: Any = None, proxies: Any = None) -> RawResponse:
        """Carry a request to the worker, as `send()` does; return what `HTTPAdapter.build_response()` takes."""
        message, upload = self._message(request, proxies), None
        exchange: Exchange | None = None
        if message.more_body:
            upload = RequestBody(_chunks_of(request.body), request.body)
        try:
            exchange = self.worker.exchange_blocking(message, _timeouts(timeout), upload)
            return self._raw(request, message, exchange, upload)
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
        headers = HTTPHeaderDict()
        for name, value in answer.headers:
            headers.add(name.decode("latin-1"), value.decode("latin-1"))
        extensions = dict(answer.extensions)
        chunks, on_close, on_drop = iter([answer.body]), ExitStack(), ExitStack()
        if upload is not None:
            on_close.callback(upload.close)
        if answer.more_body:
            as_theirs = partial(body_error, request=request)
            body = Body(exchange, message.method, answer, as_theirs, raise_app_exceptions=self.raise_app_exceptions)
            body.extensions = extensions
            self._keep(body)
            chunks = chunks_of(body)
            on_close.callback(leave, body)
            on_drop.callback(body.abandon)
        return RawResponse(
            method=message.method,
            url=request.path_url,
            status=answer.status,
            reason=reason_of(answer),
            headers=headers,
            chunks=chunks,
            close=on_close.close,
            abandon=on_drop.close,
            is_streamed=answer.more_body and not is_bodiless(message.method, answer.status),
            extensions=extensions,
        )

    def close(self) -> None:
        """End the responses that are still open: their apps are told that the client has gone."""
        self._leave_all()


def _host(url: SplitResult) -> str:
    host = url.netloc.rpartition("@")[2]
    return host.rpartition(":")[0] if url.port == messages.DEFAULT_PORTS[url.scheme] else host


def _raw_headers(request: PreparedRequest, host: str, *, has_proxy: bool) -> messages.RawHeaders:
    headers: messages.RawHeaders = []
    if "Host" not in request.headers:
        headers.append((b"host", host.encode()))
    for name, value in request.headers.items():
        is_for_proxy = has_proxy and name.lower() == "proxy-authorization"  # requests adds it to a redirected request
        if value != _SKIPPED and not is_for_proxy:
            headers.append((_encoded(name), _encoded(value)))
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
