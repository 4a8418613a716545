"""The clients of the cells: those of `tests/clients.py`, `TestClient`, `http.client`, and some of WebSockets."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import aiohttp
import httpx
import httpx2
import httpx_ws
import trio

from clients import CLIENTS, Client, Stream, SyncClient
from socketless import IpcTransport, switch_to_ipc_connection
from socketless._host.worker import Worker
from socketless.aiohttp import ASGIApplicationConnector
from socketless.testclient import TestClient
from support import LIMIT


class Given(SyncClient):
    """`TestClient`."""

    def __init__(self, worker: Worker, **options: Any) -> None:
        super().__init__(httpx2, worker, **options)

    def _open(self, base_url: str) -> Any:
        return TestClient(self.worker, base_url, timeout=LIMIT)


class HttpClient:
    """`http.client` under the switch."""

    library = SimpleNamespace(
        ReadError=ConnectionResetError,
        ReadTimeout=TimeoutError,
        PoolTimeout=TimeoutError,
        Timeout=lambda limit, read=None, pool=None: min(each for each in (limit, read, pool) if each is not None),
    )

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    @contextmanager
    def stream(self, method: str, url: str, *, content: Any = None, timeout: float = LIMIT) -> Iterator[Stream]:
        with switch_to_ipc_connection(self.worker):
            connection = http.client.HTTPConnection("testserver", timeout=timeout)
            try:
                connection.request(method, url, content)
                with connection.getresponse() as response:
                    yield Stream(connection, HttpResponse(response))
            finally:
                connection.close()

    def request(self, method: str, url: str, **options: Any) -> HttpResponse:
        with self.stream(method, url, **options) as stream:
            return stream._response.read()  # type: ignore[no-any-return]

    def body(self, chunks: Any) -> Any:
        return chunks


class HttpResponse:
    """A response of `http.client`, in the words of httpx."""

    extensions: dict[str, Any] = {}

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self._response = response
        self.status_code, self.headers = response.status, response.headers
        self.content = b""

    def read(self) -> HttpResponse:
        self.content = self._response.read()
        return self

    def iter_raw(self) -> Iterator[bytes]:
        while piece := self._response.read1():
            yield piece

    def close(self) -> None:
        self._response.close()


ALL_CLIENTS: dict[str, Callable[[Worker], Client]] = {
    **{name: make for name, make in CLIENTS.items() if not name.startswith("httpx2")},
    "TestClient": Given,
    "http.client": HttpClient,  # type: ignore[dict-item]
}


class Asking:
    """A request in the main thread, which another one can cancel."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.cancel: Callable[[], Any] = lambda: None

    def ask(self, *args: Any, **options: Any) -> Any:
        if not hasattr(self._client, "request_async"):
            return self._client.request(*args, **options)
        asking = partial(self._client.request_async, *args, **options)
        if getattr(self._client, "_backend", "asyncio") == "trio":
            return trio.run(self._in_trio, asking)
        return asyncio.run(self._in_asyncio(asking))

    async def _in_asyncio(self, asking: Callable[[], Any]) -> Any:
        task, loop = asyncio.ensure_future(asking()), asyncio.get_running_loop()
        self.cancel = lambda: loop.call_soon_threadsafe(task.cancel)
        return await task

    async def _in_trio(self, asking: Callable[[], Any]) -> Any:
        token = trio.lowlevel.current_trio_token()
        with trio.CancelScope() as scope:
            self.cancel = lambda: token.run_sync_soon(scope.cancel)
            return await asking()
        raise asyncio.CancelledError


# WebSockets: each sends a text, and wants two

TEXT = "1234567890"


class Messages:
    """A client of WebSockets, in the words of `clients.Client` as far as a cell has them."""

    library: Any = SimpleNamespace(Timeout=lambda limit, read=None: read or limit)

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def body(self, chunks: Any) -> Any:
        return None

    def connect(self, path: str, timeout: float) -> Any:
        return self.worker.websocket_connect(path, timeout=timeout)

    def request(self, method: str, path: str, *, content: None, timeout: float = LIMIT) -> Any:
        with self.connect(path, timeout) as session:
            session.send_text(TEXT)
            return SimpleNamespace(content=(session.receive_text() + session.receive_text()).encode())


class MessagesOfTestClient(Messages):
    def connect(self, path: str, timeout: float) -> Any:
        return TestClient(self.worker).websocket_connect(path, timeout=timeout)


class MessagesOfHttpx(Messages):
    @contextmanager
    def connect(self, path: str, timeout: float) -> Iterator[Any]:
        with (
            httpx.Client(transport=IpcTransport(self.worker), timeout=timeout) as client,
            httpx_ws.connect_ws(f"http://testserver{path}", client, keepalive_ping_interval_seconds=None) as session,
        ):
            yield SimpleNamespace(send_text=session.send_text, receive_text=partial(session.receive_text, timeout))


class MessagesOfAiohttp(Messages):
    async def request_async(self, method: str, path: str, *, content: None, timeout: float = LIMIT) -> Any:
        limits = aiohttp.ClientTimeout(total=None, sock_read=timeout)
        connector = ASGIApplicationConnector(self.worker)
        async with (
            aiohttp.ClientSession("http://testserver", connector=connector, timeout=limits) as session,
            session.ws_connect(path) as socket,
        ):
            await socket.send_str(TEXT)
            texts = [await socket.receive_str(timeout=timeout) for _ in range(2)]
        return SimpleNamespace(content="".join(texts).encode())


MESSAGES: dict[str, Callable[[Worker], Any]] = {
    "session": Messages,
    "TestClient": MessagesOfTestClient,
    "aiohttp": MessagesOfAiohttp,
    "httpx-ws": MessagesOfHttpx,
}
IN_BYTES = ("aiohttp", "httpx-ws")
