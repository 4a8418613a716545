"""Transports for httpx and httpx2: `IpcTransport` for `Client`, `IpcAsyncTransport` for `AsyncClient`.

One class serves both families. It answers with the `Response` and the error classes of the family that the request came
from, so it imports httpx2 never, and works with it as soon as a request of its comes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import httpx
from anyio import Semaphore, WouldBlock, move_on_after
from anyio.lowlevel import RunVar

from socketless._clients.base import Carrier, RequestBody, chunks_of, close_body
from socketless._clients.response import INTERNAL_SERVER_ERROR, Body, ResponseStream, response_of
from socketless._host.arguments import no_attribute
from socketless._host.exchange import Exchange
from socketless._host.limits import Timeouts
from socketless._host.worker import Worker
from socketless._http11 import upgrade
from socketless._httpx.families import client_error, family_of, network_error
from socketless._wire.drivers import deadline_after, remaining, run_async
from socketless._wire.messages import WEBSOCKET_SCHEMES, Event, Request, port_of
from socketless.errors import SocketlessError

if TYPE_CHECKING:  # clients of either family take one, which is for type checkers to know, too
    import httpx2

    class _SyncBase(httpx.BaseTransport, httpx2.BaseTransport):
        def handle_request(self, request: Any) -> Any: ...

    class _AsyncBase(httpx.AsyncBaseTransport, httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: Any) -> Any: ...

else:
    _SyncBase, _AsyncBase = httpx.BaseTransport, httpx.AsyncBaseTransport

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["IpcAsyncTransport", "IpcTransport"]


_FOR_SYNC = "httpx.Client takes IpcTransport(worker)"
_FOR_ASYNC = "httpx.AsyncClient takes IpcAsyncTransport(worker)"
_INSTEAD = {
    "handle_request": _FOR_SYNC,
    "__enter__": _FOR_SYNC,
    "handle_async_request": _FOR_ASYNC,
    "__aenter__": _FOR_ASYNC,
    "aclose": _FOR_ASYNC,
    "send": "a session of requests takes socketless.requests.IpcAdapter(worker)",
}


class _Transport(Carrier):
    # What the sync and the async transport share: everything but the waiting.

    _is_lenient = False
    _error_page = INTERNAL_SERVER_ERROR  # where the app has raised before its response began
    _breaks_off = True  # the response of an app that raises in the middle of it

    if not TYPE_CHECKING:  # or a type checker would let every name pass

        def __getattr__(self, name: str) -> Any:
            raise no_attribute(self, name, _INSTEAD)

    def _message(self, request: Any) -> Request:
        url, family = request.url, family_of(request)
        scheme = url.scheme
        if self.worker.app_kind == "asgi" and scheme in WEBSOCKET_SCHEMES and upgrade.is_asked_for(request.headers):
            scheme = WEBSOCKET_SCHEMES[scheme]
            upgrade.require_wsproto()
        elif scheme not in ("http", "https"):
            hint = "give the client a base_url, as 'http://testserver'"
            if scheme in WEBSOCKET_SCHEMES and self.worker.app_kind == "asgi":
                hint = "a WebSocket is opened by httpx_ws.connect_ws(), or websocket_connect() of a TestClient"
            elif scheme in WEBSOCKET_SCHEMES:
                hint = "only an ASGI app has WebSockets"
            raise family.UnsupportedProtocol(
                f"Request URL {str(url)!r} has no 'http://' or 'https://'; {hint}", request=request
            )
        try:
            body, more_body = request.content, False
        except family.RequestNotRead:
            body, more_body = b"", True
        return Request(
            method=request.method,
            scheme=scheme,
            server=(url.raw_host.decode("ascii"), port_of(url.port, scheme)),
            raw_target=request.extensions.get("target") or url.raw_path,
            headers=request.headers.raw,
            body=body,
            root_path=self.root_path,
            client=self.client,
            more_body=more_body,
            is_lenient=self._is_lenient,
        )

    def _response(
        self,
        request: Any,
        exchange: Exchange,
        stream_type: Callable[[Any], type],
        upload: RequestBody | None,
        network_stream: type,
    ) -> Any:
        """Make a response of the first answer. What is still to come is its stream's: a `stream_type(family)`."""
        family, answer, as_theirs = family_of(request), exchange.answer, partial(client_error, request=request)
        extensions: dict[str, Any] = {"http_version": b"HTTP/1.1"}
        if isinstance(answer, Event) and answer.event["type"] == "websocket.accept":
            upgraded = upgrade.Upgraded(
                exchange, as_theirs, partial(network_error, request), raise_app_exceptions=self.raise_app_exceptions
            )
            self._keep(upgraded)
            extensions["network_stream"] = network_stream(upgraded)
            headers = upgrade.response_headers(request.headers, answer.event)
            stream = stream_type(family)(upgraded, upload)
            return family.Response(101, headers=headers, stream=stream, extensions=extensions)
        answer = response_of(
            answer, as_theirs, raise_app_exceptions=self.raise_app_exceptions, error_page=self._error_page
        )
        if answer.reason:
            extensions["reason_phrase"] = answer.reason.encode("latin-1")
        extensions.update(answer.extensions)
        if not answer.more_body:
            stream = family.ByteStream(answer.body)
            return family.Response(answer.status, headers=answer.headers, stream=stream, extensions=extensions)
        body = Body(
            exchange,
            request.method,
            answer,
            as_theirs,
            raise_app_exceptions=self.raise_app_exceptions,
            breaks_off=self._breaks_off,
        )
        self._keep(body)
        stream = stream_type(family)(body, upload)
        response = family.Response(answer.status, headers=answer.headers, stream=stream, extensions=extensions)
        body.extensions = response.extensions
        return response


async def _aclose(body: ResponseStream) -> None:
    await run_async(body.cancel())
    await run_async(body.finish())


def _request_body(request: Any, chunks: Any) -> RequestBody:
    # What the client library makes of it is a generator around the caller's, which it never closes: over TCP it reads
    # all of it.
    return RequestBody(chunks, getattr(request.stream, "_stream", None))


class _SyncStream:
    # What is the stream of a response, together with the SyncByteStream of its family.

    def __init__(self, body: ResponseStream, upload: RequestBody | None) -> None:
        self._body = body
        self._upload = upload

    def __iter__(self) -> Iterator[bytes]:
        return chunks_of(self._body)

    def close(self) -> None:
        try:
            close_body(self._body)
        finally:
            if self._upload is not None:
                self._upload.close()


class _AsyncStream:
    # What is the stream of a response, together with the AsyncByteStream of its family.

    def __init__(self, body: ResponseStream, upload: RequestBody | None) -> None:
        self._body = body
        self._upload = upload

    # No generator: trio warns of one that is not read to its end.
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        chunk = await run_async(self._body.next_chunk())
        if chunk is None:
            raise StopAsyncIteration
        return chunk

    async def aclose(self) -> None:
        try:
            await _aclose(self._body)
        finally:
            if self._upload is not None:
                await self._upload.aclose()


@lru_cache
def _sync_stream_type(family: Any) -> type:
    return type("IpcStream", (_SyncStream, family.SyncByteStream), {})


@lru_cache
def _async_stream_type(family: Any) -> type:
    return type("IpcAsyncStream", (_AsyncStream, family.AsyncByteStream), {})


class IpcTransport(_Transport, _SyncBase):
    """Sends the requests of an `httpx.Client` or `httpx2.Client` to a worker.

        with IpcProcess("myapp:app") as worker, httpx.Client(
            transport=IpcTransport(worker), base_url="http://testserver"
        ) as client:
            client.get("/")

    Any thread may use it. Closing the client leaves the worker running, as other clients may share it.

    Args:
        worker: the worker that answers the requests.
        raise_app_exceptions: whether the client raises the app's exceptions, as their own types; otherwise, it gets a
            500.
        root_path: the path that the app is mounted at: `SCRIPT_NAME` (PEP 3333) or `root_path` (ASGI).
        client: the client's address and port, as the app sees them.
    """

    def handle_request(self, request: Any) -> Any:
        """Carry a request to the worker and return the app's response.

        The time limits are those of the request's `timeout` extension: `pool`, `write` and `read`.

        Raises:
            Exception: the app raised it.
            AppError: the app raised an exception that cannot be pickled.
            httpx.TransportError: another error of `socketless.errors`, which is the matching error of httpx as well: a
                `WorkerDied`, for example, is also an `httpx.ReadError`.
            StateError: the worker is closed.
        """
        message, upload, exchange = self._message(request), None, None
        if message.more_body:
            upload = _request_body(request, iter(request.stream))
        try:
            exchange = self.worker.exchange_blocking(message, _timeouts(request), upload)
            return self._response(request, exchange, _sync_stream_type, upload, upgrade.NetworkStream)
        except SocketlessError as error:
            raise client_error(error, request) from error.__cause__
        finally:
            if upload is not None and (exchange is None or exchange.is_over):
                upload.close()

    def close(self) -> None:
        """End the responses that are still open; the app learns that the client has gone."""
        self._close_all()


class IpcAsyncTransport(_Transport, _AsyncBase):
    """Sends the requests of an `httpx.AsyncClient` or `httpx2.AsyncClient` to a worker, under asyncio or trio.

    It takes the arguments of `IpcTransport`. It waits for the worker on the running event loop, without a thread.
    """

    async def handle_async_request(self, request: Any) -> Any:
        """Carry a request to the worker and return the app's response; see `IpcTransport.handle_request`."""
        message, upload, exchange = self._message(request), None, None
        if message.more_body:
            upload = _request_body(request, aiter(request.stream))
        timeouts = _timeouts(request)
        deadline = deadline_after(timeouts.pool)
        try:
            async with _turn(self.worker, timeouts.pool):
                timeouts.pool = remaining(deadline)
                exchange = await run_async(self.worker.exchange(message, timeouts, upload))
            return self._response(request, exchange, _async_stream_type, upload, upgrade.AsyncNetworkStream)
        except SocketlessError as error:
            raise client_error(error, request) from error.__cause__
        finally:
            if upload is not None and (exchange is None or exchange.is_over):
                await upload.aclose()

    async def aclose(self) -> None:
        """End the responses that are still open; the app learns that the client has gone."""
        async with AsyncExitStack() as stack:  # closes all, whatever one of them raises
            for body in self._open_bodies():
                stack.push_async_callback(_aclose, body)


@asynccontextmanager
async def _turn(worker: Worker, timeout: float | None) -> AsyncIterator[None]:
    # Lets only as many tasks of a loop at the worker as it has channels: those that wait there need a pipe each, and a
    # thousand tasks would use up the descriptors. A task that is late here tries the exchange all the same, with no
    # time left: it says what holds the channels. (anyio comes with httpx.)
    if worker.max_connections is None:
        yield
        return
    turns = _turns.get(WeakKeyDictionary())
    _turns.set(turns)
    semaphore = turns.setdefault(worker, Semaphore(worker.max_connections))
    try:
        semaphore.acquire_nowait()
        got = True
    except WouldBlock:
        with move_on_after(timeout) as scope:
            await semaphore.acquire()
        got = not scope.cancelled_caught
    try:
        yield
    finally:
        if got:
            semaphore.release()


_turns: RunVar[WeakKeyDictionary[Worker, Semaphore]] = RunVar("socketless-turns")


def _timeouts(request: Any) -> Timeouts:
    limits = request.extensions.get("timeout") or {}
    return Timeouts(limits.get("pool"), limits.get("write"), limits.get("read"))
