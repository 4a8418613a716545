"""aiohttp as a client of `tests/clients.py`: in the words of httpx, which the checks are written in."""

from __future__ import annotations

import asyncio
import io
import threading
from base64 import b64encode
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
from yarl import URL

from socketless._host.worker import Worker
from socketless.aiohttp import ASGIApplicationConnector
from support import LIMIT

BASE_URL = "http://testserver"

# What aiohttp is to raise, by httpx's name for it.
LIBRARY = SimpleNamespace(
    TransportError=aiohttp.ClientError,
    ReadError=aiohttp.ServerConnectionError,
    PoolTimeout=getattr(aiohttp, "ConnectionTimeoutError", aiohttp.ServerTimeoutError),  # since 3.10, as below
    RemoteProtocolError=aiohttp.ClientPayloadError,
    ProtocolError=aiohttp.ClientPayloadError,
    ReadTimeout=getattr(aiohttp, "SocketTimeoutError", aiohttp.ServerTimeoutError),
    Timeout=lambda limit, read=None, pool=None: aiohttp.ClientTimeout(
        total=None, connect=pool or limit, sock_read=read or limit
    ),
)

# The checks that cannot hold, and why; tests/test_aiohttp.py says what holds instead.
LACKS = {
    "request_headers": "aiohttp writes header values as UTF-8, never as latin-1",
    "unsupported_scheme": "aiohttp refuses such a URL before it asks for a connection",
    "echo_while_it_is_sent": "aiohttp writes a body as soon as it can, and does not wait to be asked for it",
    "answer_before_the_body": "as before: how much of the body was taken is no matter of the app's",
    "body_that_is_not_used_up": "as before",
    "large_bodies_both_ways": "as before; its first half is a test of its own",
    "body_that_raises": "as before: it may raise before the app has answered to what came before",
    "body_that_is_no_bytes": "aiohttp's writer raises a TypeError of its own",
    "trailers": "aiohttp does not tell the trailers of a response",
    "debug": "a response of aiohttp has no place for the extensions of ASGI",
}


@cache
def loop() -> asyncio.AbstractEventLoop:
    """The loop that all requests run on, for as long as this process is there."""
    new = asyncio.new_event_loop()
    threading.Thread(target=new.run_forever, name="aiohttp-client", daemon=True).start()
    return new


def call(function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Any:
    return asyncio.run_coroutine_threadsafe(function(*args), loop()).result(2 * LIMIT)


class Response:
    """A response that is still coming, with the names of httpx."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status_code, self.reason_phrase = response.status, response.reason
        self.headers = httpx.Headers(list(response.raw_headers))
        self.extensions: dict[str, Any] = {}
        self.history = response.history
        self.cookies = {name: morsel.value for name, morsel in response.cookies.items()}
        assert response.version is not None
        self.http_version = f"HTTP/{response.version.major}.{response.version.minor}"
        self.content = b""

    @property
    def text(self) -> str:
        return self.content.decode()

    def json(self) -> Any:
        return httpx.Response(200, content=self.content).json()

    async def read(self) -> None:
        self.content = await self._response.read()

    async def aiter_raw(self) -> AsyncIterator[bytes]:
        """Yield the chunks of the wire; where there are none, what has come at once."""
        is_chunked, chunk = "transfer-encoding" in self.headers, b""
        content = self._response.content
        while not content.at_eof():
            piece, is_end = await content.readchunk()
            chunk += piece
            if chunk and (is_end or not is_chunked):
                yield chunk
                chunk = b""

    async def aiter_lines(self) -> AsyncIterator[str]:
        async for line in self._response.content:
            yield line.decode().rstrip("\n")

    async def aclose(self) -> None:
        self._response.close()


class Session:
    """A `ClientSession` for one request, with the options of httpx."""

    def __init__(self, application: Any, options: Mapping[str, Any]) -> None:
        connector = ASGIApplicationConnector(application, **options)
        timeout = aiohttp.ClientTimeout(total=None, sock_read=LIMIT)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)

    async def request(self, method: str, url: str, options: Mapping[str, Any]) -> Response:
        url = url if "://" in url else options["base_url"] + url
        try:
            return Response(await self._session.request(method, URL(url, encoded=True), **theirs(options)))
        except aiohttp.ClientConnectionError as error:
            if type(error) is aiohttp.ClientConnectionError and error.__cause__ is not None:
                raise error.__cause__ from None  # what the source of the body has raised
            raise

    async def aclose(self) -> None:
        await self._session.close()


def theirs(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a request as aiohttp has them."""
    known = {name: options[name] for name in ("headers", "json", "timeout") if name in options}
    known["allow_redirects"] = options.get("follow_redirects", False)
    if "auth" in options:
        known["headers"] = {"Authorization": "Basic " + b64encode(":".join(options["auth"]).encode()).decode()}
    if "content" in options:
        content = options["content"]
        known["data"] = io.BytesIO(content) if isinstance(content, bytes) else content  # which it warns of, if large
    elif "files" in options:
        known["data"] = form = aiohttp.FormData(options.get("data", ()))
        for name, (filename, file) in options["files"].items():
            form.add_field(name, pieces(file) if type(file).__name__ == "Unsized" else file, filename=filename)
    elif "data" in options:
        known["data"] = options["data"]
    return known


async def pieces(file: Any) -> AsyncIterator[bytes]:
    while piece := file.read(65536):
        yield piece


class AiohttpClient:
    """aiohttp over a worker; or, `in_process`, over the app of a thread worker, without that."""

    library = LIBRARY

    def __init__(self, worker: Worker, *, in_process: bool = False, **options: Any) -> None:
        self.worker = worker
        self._in_process = in_process
        self._options = options

    def configure(self, **options: Any) -> AiohttpClient:
        if "raise_app_exceptions" in options:
            options["propagate_exceptions"] = options.pop("raise_app_exceptions")
        return AiohttpClient(self.worker, in_process=self._in_process, **options)

    async def _open(self) -> Session:
        return Session(self.worker.app if self._in_process else self.worker, self._options)

    def request(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Any:
        return call(partial(self.request_async, method, url, base_url, **options))

    async def request_async(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Response:
        session = await self._open()
        try:
            response = await session.request(method, url, {"base_url": base_url, **options})
            await response.read()
            return response
        finally:
            await session.aclose()

    @contextmanager
    def stream(self, method: str, url: str, base_url: str = BASE_URL, **options: Any) -> Iterator[Any]:
        from clients import Stream

        session = call(self._open)
        try:
            response = call(session.request, method, url, {"base_url": base_url, **options})
            try:
                yield Stream(session, response, call)
            finally:
                call(response.aclose)
        finally:
            call(session.aclose)

    async def body(self, chunks: Iterable[Any]) -> AsyncIterator[Any]:
        for chunk in chunks:
            await asyncio.sleep(0)
            yield chunk
