"""Every client library behind one small interface, so that one list of checks runs on all of them."""

from __future__ import annotations

import asyncio
import http.cookies
import json
import threading
from collections.abc import AsyncIterator, Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, AsyncExitStack, closing, contextmanager
from functools import partial
from itertools import product
from types import SimpleNamespace
from typing import Any, Protocol

import anyio.lowlevel
import httpx
import httpx2
import pytest
import requests
import trio
import urllib3
from anyio.from_thread import start_blocking_portal

import aiohttp_client
from aiohttp_client import AiohttpClient
from socketless import IpcAsyncTransport, IpcTransport, errors, switch_to_ipc_connection
from socketless._host.worker import Worker
from socketless.lowlevel import Connection, ConnectionPool, connection_pool
from socketless.requests import Session
from support import LIMIT

BASE_URL = "http://testserver"


class Stream:
    """A response that is still coming, in the same words for sync and async clients."""

    def __init__(self, client: Any, response: Any, call: Callable[..., Any] | None = None) -> None:
        self.status, self.headers, self.extensions = response.status_code, response.headers, response.extensions
        self._client, self._response, self._call = client, response, call
        self._iterators: list[Any] = []  # an async one that is dropped before its end makes trio complain
        self.chunks: Iterator[bytes] = self.iterate("raw")

    def iterate(self, what: str) -> Iterator[Any]:
        """Iterate over the response's "raw" chunks, its "lines" or whatever httpx has an `iter_` for."""
        if self._call is None:
            yield from getattr(self._response, f"iter_{what}")()
            return
        iterator = getattr(self._response, f"aiter_{what}")()
        self._iterators.append(iterator)

        async def step() -> Any:
            return await anext(iterator, None)

        while (item := self._call(step)) is not None:
            yield item

    def close(self) -> None:
        """Close the response."""
        self._response.close() if self._call is None else self._call(self._response.aclose)

    def close_client(self) -> None:
        """Close the client that the response is of."""
        self._client.close() if self._call is None else self._call(self._client.aclose)


class Client(Protocol):
    """What a check may do. `options` are those of httpx; the time limits are generous, unless it gives others."""

    library: Any  # the module that the error classes come from
    worker: Worker

    def request(self, method: str, url: str, **options: Any) -> Any: ...
    def stream(self, method: str, url: str, **options: Any) -> AbstractContextManager[Stream]: ...
    def body(self, chunks: Iterable[Any]) -> Any:
        """Make of chunks what the client takes as `content`."""

    def configure(self, **options: Any) -> Client: ...


class SyncClient:
    """`httpx.Client` or `httpx2.Client`."""

    def __init__(self, library: Any, worker: Worker, **transport_options: Any) -> None:
        self.library, self.worker = library, worker
        self._transport_options = transport_options

    def configure(self, **options: Any) -> SyncClient:
        return SyncClient(self.library, self.worker, **options)

    def _open(self, base_url: str) -> Any:
        transport = IpcTransport(self.worker, **self._transport_options)
        return self.library.Client(transport=transport, base_url=base_url, timeout=LIMIT)

    def request(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Any:
        with self._open(base_url) as client:
            return client.request(method, url, **options)

    @contextmanager
    def stream(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Iterator[Stream]:
        with self._open(base_url) as client, client.stream(method, url, **options) as response:
            yield Stream(client, response)

    def body(self, chunks: Iterable[Any]) -> Iterable[Any]:
        return chunks


class AsyncClient:
    """`httpx.AsyncClient` or `httpx2.AsyncClient`, on a loop of its own for each request.

    The loop of a stream runs in a thread for as long as the stream is open.
    """

    def __init__(self, library: Any, backend: str, worker: Worker, **transport_options: Any) -> None:
        self.library, self.worker, self._backend = library, worker, backend
        self._transport_options = transport_options

    def configure(self, **options: Any) -> AsyncClient:
        return AsyncClient(self.library, self._backend, self.worker, **options)

    def _open(self, base_url: str) -> Any:
        transport = IpcAsyncTransport(self.worker, **self._transport_options)
        return self.library.AsyncClient(transport=transport, base_url=base_url, timeout=LIMIT)

    def request(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Any:
        return RUN[self._backend](partial(self.request_async, method, url, base_url, **options))

    async def request_async(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Any:
        async with self._open(base_url) as client:
            return await client.request(method, url, **options)

    @contextmanager
    def stream(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Iterator[Stream]:
        with (
            start_blocking_portal(self._backend) as portal,
            portal.wrap_async_context_manager(self._open(base_url)) as client,
            portal.wrap_async_context_manager(client.stream(method, url, **options)) as response,
        ):
            yield Stream(client, response, portal.call)

    async def body(self, chunks: Iterable[Any]) -> AsyncIterator[Any]:
        for chunk in chunks:
            await anyio.lowlevel.checkpoint()
            yield chunk


class RequestsErrors:
    """What requests has for the names of httpx. It tells the headers and the body apart, where a connection fails."""

    ReadError = requests.ConnectionError
    PoolTimeout = requests.ConnectTimeout
    ReadTimeout = (requests.ReadTimeout, requests.ConnectionError)
    RemoteProtocolError = requests.exceptions.ChunkedEncodingError
    LocalProtocolError = TypeError
    ProtocolError = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
    TransportError = requests.RequestException

    @staticmethod
    def Timeout(limit: float, *, read: float | None = None, pool: float | None = None) -> tuple[float, float]:
        return pool or limit, read or limit


class RequestsHeaders(dict[str, Any]):
    """The headers of a response, in the words of httpx."""

    def __init__(self, raw: Any) -> None:
        super().__init__({name.lower(): value for name, value in raw.headers.items()})
        self.get_list = raw.headers.getlist


class RequestsResponse:
    """A response of requests, in the words of httpx."""

    http_version = "HTTP/1.1"

    def __init__(self, response: requests.Response) -> None:
        self.response = response
        self.reason_phrase, self.extensions = response.reason, response.raw.extensions
        self.headers = RequestsHeaders(response.raw)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.response, name)

    def iter_raw(self) -> Iterator[bytes]:
        return self.response.raw.stream(None, decode_content=False)  # type: ignore[no-any-return]

    def iter_lines(self) -> Iterator[str]:
        return (line.decode() for line in self.response.iter_lines())


class Sized:
    """A body that tells its length, which is how requests is told it."""

    def __init__(self, chunks: Iterable[Any], size: int) -> None:
        self._chunks, self._size = chunks, size

    def __iter__(self) -> Iterator[Any]:
        return iter(self._chunks)

    def __len__(self) -> int:
        return self._size


class RequestsClient:
    """`socketless.requests.Session`."""

    library = RequestsErrors

    def __init__(self, worker: Worker, **options: Any) -> None:
        self.worker, self._options = worker, options

    def configure(self, **options: Any) -> RequestsClient:
        return RequestsClient(self.worker, **options)

    @contextmanager
    def stream(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Iterator[Stream]:
        with (
            Session(worker=self.worker, base_url=base_url, **self._options) as session,
            session.request(method, url, stream=True, **in_words_of_requests(**options)) as response,
        ):
            yield Stream(response, RequestsResponse(response))  # which outlives its session

    def request(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> RequestsResponse:
        with Session(worker=self.worker, base_url=base_url, **self._options) as session:
            return RequestsResponse(session.request(method, url, **in_words_of_requests(**options)))

    def body(self, chunks: Iterable[Any]) -> Any:
        return iter(chunks) if isinstance(chunks, list) else chunks


def in_words_of_requests(
    *, content: Any = None, headers: Any = (), follow_redirects: bool = False, timeout: Any = LIMIT, **options: Any
) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    for name, value in dict(headers).items() if isinstance(headers, dict) else headers:
        merged[name] = f"{merged[name]}, {value}" if name in merged else value
    if "Content-Length" in merged:
        content = Sized(content, int(merged.pop("Content-Length")))
    if content is not None:
        options["data"] = content
    return {"headers": merged, "allow_redirects": follow_redirects, "timeout": timeout, **options}


class Urllib3Errors:
    """What urllib3 has for the names of httpx."""

    ReadError = urllib3.exceptions.ProtocolError
    PoolTimeout = urllib3.exceptions.ConnectTimeoutError
    ReadTimeout = urllib3.exceptions.ReadTimeoutError
    RemoteProtocolError = ProtocolError = urllib3.exceptions.ProtocolError
    TransportError = urllib3.exceptions.HTTPError

    @staticmethod
    def Timeout(limit: float, *, read: float | None = None, pool: float | None = None) -> urllib3.Timeout:
        return urllib3.Timeout(connect=pool or limit, read=read or limit)


class Urllib3Response:
    """A response of urllib3, in the words of httpx."""

    def __init__(self, response: Any) -> None:
        self.response = response
        self.status_code, self.reason_phrase = response.status, response.reason
        self.http_version, self.extensions = response.version_string, {}
        self.headers = RequestsHeaders(response)
        self.history = response.retries.history if response.retries is not None else ()
        self.cookies = {
            name: morsel.value
            for value in response.headers.getlist("set-cookie")
            for name, morsel in http.cookies.SimpleCookie(value).items()
        }

    @property
    def content(self) -> bytes:
        return self.response.data  # type: ignore[no-any-return]

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return json.loads(self.content)

    def iter_raw(self) -> Iterator[bytes]:
        if self.response.chunked:
            yield from self.response.read_chunked(decode_content=False)
        while data := self.response.read1(decode_content=False):
            yield data

    def iter_lines(self) -> Iterator[str]:
        return (line.decode().rstrip("\n") for line in self.response)

    def close(self) -> None:
        self.response.close()


class Urllib3Client:
    """A `urllib3.PoolManager` under the switch."""

    library = Urllib3Errors
    _lock = threading.Lock()
    _users = 0  # guarded by _lock
    _switched: tuple[Any, Any] | None = None  # guarded by _lock; what the switch is for, and the switch

    def __init__(self, worker: Worker, **options: Any) -> None:
        self.worker, self._options = worker, options

    def configure(self, **options: Any) -> Urllib3Client:
        return Urllib3Client(self.worker, **options)

    @contextmanager
    def _pool(self) -> Iterator[urllib3.PoolManager]:
        with self._switch(), urllib3.PoolManager() as pool:
            yield pool

    @contextmanager
    def _switch(self) -> Iterator[None]:
        # A check may ask while a response is under way, or in several threads: the last one switches back.
        wanted, shared = (self.worker, self._options), Urllib3Client
        with shared._lock:
            if not shared._users:
                shared._switched = wanted, switch_to_ipc_connection(self.worker, **self._options)
            assert shared._switched is not None
            assert shared._switched[0] == wanted
            shared._users += 1
        try:
            yield
        finally:
            with shared._lock:
                shared._users -= 1
                if not shared._users:
                    shared._switched[1]()

    @contextmanager
    def stream(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Iterator[Stream]:
        with self._pool() as pool:
            known = in_words_of_urllib3(**options)
            response = pool.request(method, absolute(base_url, url), preload_content=False, **known)
            with closing(response):
                client = SimpleNamespace(close=response.close)  # a pool forgets a response that is under way
                yield Stream(client, Urllib3Response(response))

    def request(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Urllib3Response:
        with self._pool() as pool:
            return Urllib3Response(pool.request(method, absolute(base_url, url), **in_words_of_urllib3(**options)))

    def body(self, chunks: Iterable[Any]) -> Any:
        return iter(chunks) if isinstance(chunks, list) else chunks


def absolute(base_url: str, url: str) -> str:
    return url if "://" in url.partition("?")[0] else base_url + url


def in_words_of_urllib3(
    *,
    content: Any = None,
    headers: Any = (),
    data: Any = None,
    files: Any = None,
    auth: Any = None,
    follow_redirects: bool = False,
    timeout: Any = LIMIT,
    **options: Any,
) -> dict[str, Any]:
    merged = urllib3.HTTPHeaderDict()
    for name, value in dict(headers).items() if isinstance(headers, dict) else headers:
        merged.add(name, value)
    if auth is not None:
        merged.extend(urllib3.make_headers(basic_auth=":".join(auth)))
    if content is not None:
        options["body"] = content
    if data is not None or files is not None:
        options |= {"fields": {**(data or {}), **(files or {})}, "encode_multipart": files is not None}
    retries = urllib3.Retry(None, connect=False, read=False, other=False, redirect=5) if follow_redirects else False
    return {"headers": merged, "redirect": follow_redirects, "retries": retries, "timeout": timeout, **options}


class LowlevelClient(AsyncClient):
    """`socketless.lowlevel` behind an `httpx.AsyncClient`, which writes the requests; the errors are our own."""

    library = SimpleNamespace(
        **dict.fromkeys(("TransportError", "ProtocolError", "LocalProtocolError", "RemoteProtocolError"), Exception),
        ReadError=ConnectionResetError,
        PoolTimeout=errors.PoolTimeout,
        ReadTimeout=errors.ReadTimeout,
        UnsupportedProtocol=httpx.UnsupportedProtocol,
        Timeout=httpx.Timeout,
    )

    def __init__(self, worker: Worker, **options: Any) -> None:
        super().__init__(self.library, "asyncio", worker)
        self._options = options

    def configure(self, **options: Any) -> LowlevelClient:
        return LowlevelClient(self.worker, **options)

    def _open(self, base_url: str) -> Any:
        transport = LowlevelTransport(self.worker, **self._options)
        return httpx.AsyncClient(transport=transport, base_url=base_url, timeout=LIMIT)


class LowlevelTransport(httpx.AsyncBaseTransport):
    """Sends each request over a connection of a pool, while its response is received."""

    def __init__(self, worker: Worker, **options: Any) -> None:
        self._worker, self._options = worker, options
        self._open: set[AsyncExitStack] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if not request.url.scheme:
            raise httpx.UnsupportedProtocol("give the client a base_url")
        limits = request.extensions["timeout"]
        stack = AsyncExitStack()
        self._open.add(stack)
        try:
            waits = {"max_wait_connection_seconds": limits["pool"], "max_wait_send_recv_seconds": limits["read"]}
            pool = await stack.enter_async_context(connection_pool(**waits))
            scheme = request.url.scheme
            options = {"scheme": scheme, "server": ("testserver", {"http": 80, "https": 443}[scheme]), **self._options}
            connection = await stack.enter_async_context(pool.connection(self._worker, **options))
            sending = asyncio.ensure_future(self._send(pool, connection, request))
            stack.push_async_callback(self._stop, sending)
            code, cursor = await self._unless(sending, pool.recv_status_line(connection))
            headers = [(name, value) async for name, value, _ in pool.recv_headers(connection, cursor)]
        except BaseException:
            await stack.aclose()
            raise
        has_body = request.method != "HEAD"
        stream = LowlevelBody(self, stack, sending, pool.recv_body(connection, cursor, has_body=has_body))
        return httpx.Response(code, headers=headers, stream=stream, extensions={"reason_phrase": cursor.reason})

    async def _send(self, pool: ConnectionPool, connection: Connection, request: httpx.Request) -> None:
        head = [b"%s %s HTTP/1.1" % (request.method.encode(), request.url.raw_path)]
        head += [b"%s: %s" % field for field in request.headers.raw]
        await pool.send(connection, b"\r\n".join([*head, b"", b""]))
        is_chunked = "transfer-encoding" in request.headers
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for chunk in request.stream:
            if chunk:
                await pool.send(connection, b"%x\r\n%s\r\n" % (len(chunk), chunk) if is_chunked else chunk)
        if is_chunked:
            await pool.send(connection, b"0\r\n\r\n")

    async def _unless(self, sending: asyncio.Future[None], receiving: Coroutine[Any, Any, Any]) -> Any:
        """Await what is received, or raise what the request's body raises before that."""
        task = asyncio.ensure_future(receiving)
        try:
            await asyncio.wait({task, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and not task.done():
                await sending
            return await task
        finally:
            task.cancel()

    async def _stop(self, sending: asyncio.Future[None]) -> None:
        sending.cancel()
        await asyncio.wait({sending})
        sending.cancelled() or sending.exception()

    async def close_stack(self, stack: AsyncExitStack) -> None:
        self._open.discard(stack)
        await stack.aclose()

    async def aclose(self) -> None:
        for stack in [*self._open]:
            await self.close_stack(stack)


class LowlevelBody(httpx.AsyncByteStream):
    """A response's body, and the end of its connection."""

    def __init__(self, transport: LowlevelTransport, stack: AsyncExitStack, sending: Any, pieces: Any) -> None:
        self._transport, self._stack, self._sending, self._pieces = transport, stack, sending, pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self._transport._unless(self._sending, anext(self._pieces, b"")):
            yield piece

    async def aclose(self) -> None:
        await self._transport.close_stack(self._stack)


def run_asyncio(function: Callable[[], Coroutine[Any, Any, Any]]) -> Any:
    return asyncio.run(function())


RUN: dict[str, Callable[..., Any]] = {"asyncio": run_asyncio, "trio": trio.run}

CLIENTS: dict[str, Callable[[Worker], Client]] = {
    "httpx": lambda worker: SyncClient(httpx, worker),
    "httpx2": lambda worker: SyncClient(httpx2, worker),
    "httpx-asyncio": lambda worker: AsyncClient(httpx, "asyncio", worker),
    "httpx2-asyncio": lambda worker: AsyncClient(httpx2, "asyncio", worker),
    "lowlevel": LowlevelClient,
    "httpx-trio": lambda worker: AsyncClient(httpx, "trio", worker),
    "requests": RequestsClient,
    "urllib3": Urllib3Client,
    "aiohttp": AiohttpClient,
}

FOR_ALL = "httpx"  # the client that is tried in every combination


def in_pairs(
    ones: Sequence[str], others: Sequence[str], alike: Collection[str] = ()
) -> Iterator[tuple[str, str, str, Any]]:
    """Yield one, other and client in every combination, and the mark of those that `tox -e slow` alone runs.

    By default, `FOR_ALL` meets each pair of one and other, since what depends on the pair is on the worker's side, and
    the same for all clients; each other client meets each one and each other, but for those which are `alike` to it.
    """
    usual = [other for other in others if other not in alike]
    for one, other, (shift, name) in product(ones, others, enumerate(CLIENTS)):
        turn = usual[(ones.index(one) + shift) % len(usual)]
        is_needed = name == FOR_ALL or (one not in alike and other == turn)
        yield one, other, name, [] if is_needed else pytest.mark.slow


SENT_AHEAD = "bytes wait between client and app, as in a socket's buffers: a body is not taken in step with the app"
NOT_IN_BYTES = "HTTP/1.1 has no place for the extensions of ASGI"

# Checks that cannot hold for a client, or do not yet, and why.
LACKS: dict[str, dict[str, str]] = {
    "aiohttp": aiohttp_client.LACKS,
    "lowlevel": {
        "echo_while_it_is_sent": SENT_AHEAD,
        "answer_before_the_body": SENT_AHEAD,
        "body_that_is_not_used_up": SENT_AHEAD,
        "body_that_raises": SENT_AHEAD,
        "large_bodies_both_ways": SENT_AHEAD,
        "trailers": NOT_IN_BYTES,
        "debug": NOT_IN_BYTES,
        "body_that_is_no_bytes": "it is the caller who makes the bytes",
    },
    "requests": {
        "body_that_is_no_bytes": "a body may hold text, which is sent as UTF-8",
        "response_headers": "urllib3 keeps the values of a header together, wherever they stood",
        "unsupported_scheme": "requests refuses a URL without a scheme itself, in its own words",
        "uploads": "requests reads a multipart upload into memory, so that its length is always known",
    },
    "urllib3": {
        "echo_while_it_is_sent": SENT_AHEAD,
        "answer_before_the_body": SENT_AHEAD,
        "body_that_is_not_used_up": SENT_AHEAD,
        "body_that_raises": SENT_AHEAD,
        "large_bodies_both_ways": SENT_AHEAD,
        "chunks_are_what_the_app_has_sent": "without a chunk's size, nothing in the pipe says where it ends",
        "reading_on_after_closing": "urllib3 fails with an AttributeError of its own",
        "trailers": NOT_IN_BYTES,
        "debug": NOT_IN_BYTES,
        "body_that_is_no_bytes": "a body may hold text, which is sent as UTF-8",
        "mounted": "the switch has no option for the client's address",
        "response_headers": "urllib3 keeps the values of a header together, wherever they stood",
        "unsupported_scheme": "urllib3 refuses a URL without a scheme itself, in its own words",
        "uploads": "urllib3 reads a multipart upload into memory, so that its length is always known",
    },
}


def can(name: str, check: Callable[[Client], None]) -> bool:
    """Return whether a check can hold for a client."""
    return check.__name__ not in LACKS.get(name, {})
