"""WebSockets of the client libraries themselves: httpx-ws, httpx2's own, and bare frames on the `network_stream`."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import signal
import subprocess
import sys
import threading
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import httpcore
import httpcore2
import httpx
import httpx2
import httpx2.websockets
import httpx_ws
import pytest
import trio
from wsproto import events
from wsproto.connection import Connection, ConnectionType
from wsproto.frame_protocol import CloseReason

from apps import leaving_app, websocket_app, websocket_fastapi  # noqa: F401  # for forked workers, too
from socketless import IpcAsyncTransport, IpcProcess, IpcTransport, errors, switch_to_ipc_connection
from socketless._http11 import upgrade
from socketless._wire import drivers
from support import LIMIT, nothing_leaks, traceback_of

APP = websocket_app.app  # imported here, so that a forked worker has it at once
HOST = "ws://example.org"

Check = Callable[..., Awaitable[Any]]

# Each library meets each moment, each either by a transport or under the switch.
pytestmark = pytest.mark.one_in(2, "library", "moment", "either")


# Six ways to do the same


def run_sync(function: Check) -> Any:
    """Run what awaits nothing that would have to be waited for."""
    try:
        function().__await__().send(None)
    except StopIteration as stop:
        return stop.value
    raise AssertionError("something was awaited that is not sync")


def run_asyncio(function: Check) -> Any:
    return asyncio.run(_limited(function))  # type: ignore[arg-type]


def run_trio(function: Check) -> Any:
    return trio.run(_limited, function)


async def _limited(function: Check) -> Any:
    with anyio.fail_after(LIMIT):
        return await function()


class Awaited:
    """A session, or a stream of bytes, whose methods are all awaited, whether they are async or not."""

    def __init__(self, own: Any) -> None:
        self.own = own

    def __getattr__(self, name: str) -> Any:
        async def call(*args: Any, **options: Any) -> Any:
            if name.startswith("receive"):
                options.setdefault("timeout", LIMIT)
            result = getattr(self.own, name)(*args, **options)
            return await result if inspect.isawaitable(result) else result

        return call


class Library(NamedTuple):
    """A client library and how its code is run."""

    httpx: Any
    core: Any
    ws: Any
    run: Callable[[Check], Any]

    @property
    def is_async(self) -> bool:
        return self.run is not run_sync

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[Any]:
        if self.is_async:
            async with self.httpx.AsyncClient(**options) as client:
                yield client
        else:
            with self.httpx.Client(**options) as client:
                yield client

    @asynccontextmanager
    async def connect(self, client: Any, url: str, **options: Any) -> AsyncIterator[Awaited]:
        """Open a session; without a client, of the library's own making."""
        if self.httpx is httpx:
            made = (httpx_ws.aconnect_ws if self.is_async else httpx_ws.connect_ws)(url, client, **options)
        elif client is not None or self.is_async:
            made = (client or httpx2.AsyncClient()).websocket(url, **options)
        else:
            made = httpx2.websocket(url, **options)
        if self.is_async:
            async with made as session:
                yield Awaited(session)
        else:
            with made as session:
                yield Awaited(session)

    @asynccontextmanager
    async def stream(self, client: Any, url: str, **options: Any) -> AsyncIterator[Any]:
        """Send the opening handshake by hand."""
        made = client.stream("GET", url, headers={**HANDSHAKE, **options.pop("headers", {})}, **options)
        if self.is_async:
            async with made as response:
                yield response
        else:
            with made as response:
                yield response


HANDSHAKE = {
    "connection": "upgrade",
    "upgrade": "websocket",
    "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",  # this one and its answer are in RFC 6455, section 1.3
    "sec-websocket-version": "13",
}

LIBRARIES = {
    "httpx": Library(httpx, httpcore, httpx_ws, run_sync),
    "httpx-asyncio": Library(httpx, httpcore, httpx_ws, run_asyncio),
    "httpx-trio": Library(httpx, httpcore, httpx_ws, run_trio),
    "httpx2": Library(httpx2, httpcore2, httpx2.websockets, run_sync),
    "httpx2-asyncio": Library(httpx2, httpcore2, httpx2.websockets, run_asyncio),
    "httpx2-trio": Library(httpx2, httpcore2, httpx2.websockets, run_trio),
}


each_library = pytest.mark.parametrize("library", list(LIBRARIES), indirect=True)
each_way = pytest.mark.parametrize("library", ["httpx", "httpx-asyncio", "httpx2-trio"], indirect=True)
each_async_library = pytest.mark.parametrize("library", [name for name in LIBRARIES if "-" in name], indirect=True)
each_sync_library = pytest.mark.parametrize("library", ["httpx", "httpx2"], indirect=True)


@pytest.fixture
def library(request: pytest.FixtureRequest) -> Library:
    return LIBRARIES[request.param]


@contextmanager
def nothing_is_left() -> Iterator[None]:
    """Assert that nothing leaks. The threads of the libraries' own pools may take a moment to end."""
    before = set(threading.enumerate())
    with nothing_leaks():
        yield
        for thread in set(threading.enumerate()) - before:
            if not thread.name.startswith("socketless-watch-"):
                thread.join(LIMIT)


@pytest.fixture
def start() -> Iterator[Callable[..., IpcProcess]]:
    """Starts workers. Nothing may be left when they are closed."""
    workers = []

    def start(app: Any = APP, **options: Any) -> IpcProcess:
        workers.append(IpcProcess(app, **{"start_method": "fork", "shutdown_timeout": LIMIT, **options}))
        return workers[-1]

    with nothing_is_left():
        yield start
        for worker in workers:
            worker.close()


class Peer:
    """A library, and a way to the worker: by a transport, or by the switch."""

    def __init__(self, library: Library, worker: IpcProcess, *, switched: bool = False, **options: Any) -> None:
        self.library = library
        self.worker = worker
        self._switched = switched
        self._options = options

    @asynccontextmanager
    async def client(self, **options: Any) -> AsyncIterator[Any]:
        if not self._switched:
            transport = IpcAsyncTransport if self.library.is_async else IpcTransport
            options["transport"] = transport(self.worker, **self._options)
        async with self.library.client(timeout=LIMIT, **options) as client:
            yield client

    @asynccontextmanager
    async def connect(self, path: str, **options: Any) -> AsyncIterator[Awaited]:
        if self._switched:
            async with self.library.connect(None, HOST + path, **options) as session:
                yield session
        else:
            async with self.client() as client, self.library.connect(client, HOST + path, **options) as session:
                yield session

    @asynccontextmanager
    async def stream(self, path: str, **options: Any) -> AsyncIterator[Awaited]:
        async with self.client() as client, self.library.stream(client, HOST + path, **options) as response:
            assert response.status_code == 101
            yield Awaited(response.extensions["network_stream"])

    def run(self, function: Check, *args: Any) -> Any:
        return self.library.run(lambda: function(self, *args))


@pytest.fixture(scope="module")
def worker_of_one_channel() -> Iterator[IpcProcess]:
    """For tests that leave it as it was."""
    with IpcProcess(APP, start_method="fork", shutdown_timeout=LIMIT, max_connections=1) as worker:
        yield worker


@pytest.fixture(scope="module")
def worker() -> Iterator[IpcProcess]:
    """The same, of several channels."""
    with IpcProcess(APP, start_method="fork", shutdown_timeout=LIMIT) as worker:
        yield worker


@pytest.fixture
def peer(library: Library, worker_of_one_channel: IpcProcess) -> Iterator[Peer]:
    """A library with a transport to a worker of one channel. Nothing may be left, of the session either."""
    before = worker_of_one_channel.pid
    with nothing_is_left():
        yield Peer(library, worker_of_one_channel)
        assert still_serves(worker_of_one_channel)
    assert worker_of_one_channel.pid == before


@pytest.fixture(params=["transport", "switch"])
def either(request: pytest.FixtureRequest, library: Library, worker: IpcProcess) -> Iterator[Peer]:
    """A library with a transport to a worker, or under the switch."""
    with nothing_is_left():
        if request.param == "transport":
            yield Peer(library, worker)
        else:
            with switch_to_ipc_connection(worker):
                yield Peer(library, worker, switched=True)


def new_name() -> str:
    """Return a name that no other test notes something down by."""
    return uuid.uuid4().hex


def noted(worker: IpcProcess, name: str) -> str:
    """Wait for what the app notes down by a name."""
    with worker.websocket_connect(f"/raw/noted/{name}", timeout=LIMIT) as session:
        return session.receive_text()


def still_serves(worker: IpcProcess) -> bool:
    """Whether the channel, which may be the only one, is as good as new; nothing was dropped open."""
    gc.collect()  # what was dropped open warns, and that is an error
    with worker.websocket_connect("/raw/echo", timeout=LIMIT) as session:
        session.send_text("still there")
        return session.receive_text() == "still there"


# What everybody does with a session


@each_library
def test_messages(either: Peer) -> None:
    """Texts, bytes and JSON go both ways."""

    async def check(peer: Peer) -> None:
        async with peer.connect("/raw/echo") as session:
            await session.send_text("caf\xe9 \N{PILE OF POO}")
            assert await session.receive_text() == "caf\xe9 \N{PILE OF POO}"
            await session.send_bytes(b"\x00\xff")
            assert await session.receive_bytes() == b"\x00\xff"
            for mode in ("text", "binary"):
                await session.send_json({"a": [1, None]}, mode=mode)
                assert await session.receive_json(mode=mode) == {"a": [1, None]}
            for index in range(100):
                await session.send_text(str(index))
            assert [await session.receive_text() for _ in range(100)] == [str(index) for index in range(100)]

    either.run(check)
    assert still_serves(either.worker)


@pytest.mark.parametrize("start_method", ["spawn", "fork"])
@pytest.mark.parametrize("library", ["httpx", "httpx2-asyncio"], indirect=True)
def test_start_methods(library: Library, start: Callable[..., IpcProcess], start_method: str) -> None:
    """A spawned worker does the same as a forked one."""

    async def check(peer: Peer) -> None:
        async with peer.connect("/fastapi/echo", subprotocols=["a"]) as session:
            await session.send_text("x")
            assert await session.receive_text() == "x"

    Peer(library, start(start_method=start_method)).run(check)


@each_library
def test_handshake(either: Peer) -> None:
    """The app sees the client's headers, and the client the app's choice and headers in a response of status 101."""

    async def check(peer: Peer) -> None:
        async with peer.connect("/starlette/echo", subprotocols=["one", "two"]) as session:
            assert session.own.subprotocol == "two"
            assert session.own.response.status_code == 101
            assert session.own.response.headers["upgrade"] == "websocket"
            assert session.own.response.headers["connection"] == "Upgrade"
        options = {"headers": {"x-token": "secret"}, "params": {"q": "a b"}}
        async with peer.connect("/starlette/seen/x/1", **options) as session:
            assert session.own.subprotocol is None
            assert session.own.response.headers.get_list("x-one") == ["a", "b"]
            seen = await session.receive_json()
        assert seen["url"] == "ws://example.org/starlette/seen/x/1?q=a+b"
        assert ["x-token", "secret"] in seen["headers"]
        assert ["host", "example.org"] in seen["headers"]

    either.run(check)


@each_library
def test_ping(either: Peer) -> None:
    """A ping is answered, also between messages that nobody has received yet."""

    async def check(peer: Peer) -> None:
        async with peer.connect("/raw/echo") as session:
            for payload in (b"", b"a payload"):
                if peer.library.is_async:
                    await (await session.ping(payload)).wait()
                else:
                    assert session.own.ping(payload).wait(LIMIT)
            await session.send_text("x")
            assert await session.receive_text() == "x"

    either.run(check)


@each_library
def test_closed_by_the_app(either: Peer) -> None:
    """The app's code and reason are raised, after what it had sent before."""

    async def check(peer: Peer) -> None:
        for query, code, reason in [
            ("code=1000", 1000, ""),
            ("code=4001&reason=it%20is%20late", 4001, "it is late"),
            ("code=1011&reason=caf%C3%A9", 1011, "caf\xe9"),
        ]:
            async with peer.connect(f"/starlette/close?name={new_name()}&{query}") as session:
                assert await session.receive_text() == "one"
                with pytest.raises(peer.library.ws.WebSocketDisconnect) as caught:
                    await session.receive_text()
                assert (caught.value.code, caught.value.reason) == (code, reason)

    either.run(check)
    assert still_serves(either.worker)


@each_library
def test_closed_by_the_client(either: Peer) -> None:
    """The app sees the client's code and reason, and 1000 if the session is just left."""

    async def check(peer: Peer, name: str, *arguments: Any) -> None:
        async with peer.connect(f"/starlette/watch/{name}") as session:
            await session.send_text("one")
            if arguments:
                await session.close(*arguments)

    for arguments, code, reason in [((), 1000, ""), ((4002, "bye"), 4002, "bye"), ((1001,), 1001, "")]:
        name = new_name()
        either.run(check, name, *arguments)
        assert noted(either.worker, name) == repr((code, reason))


@each_library
@pytest.mark.parametrize("raise_app_exceptions", [True, False])
def test_app_that_returns(library: Library, start: Callable[..., IpcProcess], raise_app_exceptions: bool) -> None:
    """An app that returns without closing breaks the connection off, as before a server: no normal closure."""

    async def check(peer: Peer) -> None:
        async with peer.connect("/starlette/return") as session:
            with pytest.raises(peer.library.ws.WebSocketNetworkError):
                await session.receive_text()

    Peer(library, start(max_connections=1), raise_app_exceptions=raise_app_exceptions).run(check)


# Refused


async def refused(peer: Peer, path: str) -> Any:
    """Return the response that the app refuses a WebSocket with, read by a hook: the libraries close it unread."""

    def read(response: Any) -> None:
        response.read()

    async def aread(response: Any) -> None:
        await response.aread()

    hooks = {"response": [aread if peer.library.is_async else read]}
    async with peer.client(event_hooks=hooks) as client:
        with pytest.raises(peer.library.ws.WebSocketUpgradeError) as caught:
            async with peer.library.connect(client, HOST + path):
                raise AssertionError("not reached")
        return caught.value.response


@each_library
def test_refused(either: Peer) -> None:
    """An app that closes before it accepts refuses with status 403, which is what servers make of it."""

    async def check(peer: Peer) -> None:
        for path in ("/starlette/refuse?code=4003", "/fastapi/policy", "/starlette/nowhere"):
            response = await refused(peer, path)
            assert (response.status_code, response.reason_phrase, response.content) == (403, "Forbidden", b"")

    either.run(check)
    assert still_serves(either.worker)


@each_library
def test_denial(either: Peer) -> None:
    """A denial is a response with status, headers and content."""

    async def check(peer: Peer) -> None:
        response = await refused(peer, "/starlette/deny/json")
        assert response.status_code == 402
        assert response.json() == {"why": "unpaid"}
        assert response.headers["x-why"] == "unpaid"
        assert response.headers.get_list("set-cookie") == [f"{name}; Path=/; SameSite=lax" for name in ("a=1", "b=2")]
        response = await refused(peer, "/starlette/deny/stream")
        assert (response.status_code, response.text) == (418, "".join(f"{index}," for index in range(100)))
        response = await refused(peer, "/starlette/deny/large")
        assert (response.status_code, response.content) == (503, bytes(3 << 20))
        response = await refused(peer, "/fastapi/policy?token=x")
        assert (response.status_code, response.json()) == (401, {"detail": "a bad token"})

    either.run(check)


@each_library
def test_unread_denial(peer: Peer) -> None:
    """A denial that nobody reads leaves its status, and the channel free."""

    async def check(peer: Peer) -> None:
        for path, status in {"/starlette/deny/json": 402, "/starlette/deny/large": 503, "/raw/linger/x": 402}.items():
            async with peer.client() as client:
                with pytest.raises(peer.library.ws.WebSocketUpgradeError) as caught:
                    async with peer.library.connect(client, HOST + path):
                        raise AssertionError("not reached")
                assert caught.value.response.status_code == status

    peer.run(check)
    assert still_serves(peer.worker)


@each_library
def test_wsgi(library: Library, start: Callable[..., IpcProcess]) -> None:
    """A WSGI app has no WebSockets: ws:// says so, and a handshake over http:// is a plain request."""

    async def check(peer: Peer) -> None:
        async with peer.client() as client:
            with pytest.raises(peer.library.httpx.UnsupportedProtocol) as caught:
                async with peer.library.connect(client, "ws://example.org/"):
                    raise AssertionError("not reached")
            assert str(caught.value) == (
                "Request URL 'ws://example.org/' has no 'http://' or 'https://'; only an ASGI app has WebSockets"
            )
            with pytest.raises(peer.library.ws.WebSocketUpgradeError) as refused:
                async with peer.library.connect(client, "http://example.org/"):
                    raise AssertionError("not reached")
            assert refused.value.response.status_code == 200

    Peer(library, start("wsgiref.simple_server:demo_app")).run(check)


# The app raises


@each_library
@pytest.mark.parametrize("moment", ["after", "message", "disconnect"])
def test_app_raises(either: Peer, moment: str) -> None:
    """What the app raises is raised when the session is left; who receives until then sees code 1011."""

    async def check(peer: Peer) -> None:
        async with peer.connect(f"/raw/boom/{moment}") as session:
            if moment == "message":
                await session.send_text("go")
            if moment != "disconnect":
                with pytest.raises(peer.library.ws.WebSocketDisconnect) as caught:
                    await session.receive_text()
                assert (caught.value.code, caught.value.reason) == (1011, "")

    with pytest.raises(LookupError, match=f"^{moment}$") as caught:
        either.run(check)
    assert "raise LookupError(moment)" in traceback_of(caught.value)
    assert still_serves(either.worker)


@each_library
def test_app_raises_unseen(peer: Peer) -> None:
    """Who neither sends nor receives is told as well."""

    async def check(peer: Peer) -> None:
        async with peer.connect("/raw/boom/after"):
            pass

    with pytest.raises(LookupError, match="^after$"):
        peer.run(check)
    assert still_serves(peer.worker)


@each_sync_library
def test_error_of_the_app_is_never_lost(peer: Peer) -> None:
    """What the app raises on leaving is raised, however slow the library's thread is that hears of it first."""
    waiting, left = threading.Event(), threading.Event()
    dawdled = []

    def dawdle(frame: Any, event: str, argument: Any) -> None:
        # Runs in the threads that are started below, whenever they call something, or go on with a generator.
        if event == "call" and frame.f_code is drivers.poll.__code__:
            waiting.set()
        elif event == "call" and frame.f_code.co_filename == upgrade.__file__ and waiting.is_set():
            dawdled.append(frame.f_code.co_name)
            left.wait(0.2)

    async def check(peer: Peer) -> None:
        try:
            async with peer.connect("/raw/boom/disconnect"):
                assert waiting.wait(LIMIT)
        finally:
            left.set()

    threading.setprofile(dawdle)
    try:
        with pytest.raises(LookupError, match="^disconnect$"):
            peer.run(check)
    finally:
        threading.setprofile(None)  # type: ignore[arg-type]
    assert dawdled


@each_library
@pytest.mark.parametrize("moment", ["before", "closed", "denied"])
def test_app_raises_before_accept(peer: Peer, moment: str) -> None:
    """What the app raises instead of accepting is raised on connecting; also when it has closed or denied before."""

    async def check(peer: Peer) -> None:
        await refused(peer, f"/raw/boom/{moment}")

    with pytest.raises(LookupError, match=f"^{moment}$"):
        peer.run(check)
    assert still_serves(peer.worker)


@each_library
def test_app_raises_and_nobody_wants_to_know(library: Library, start: Callable[..., IpcProcess]) -> None:
    """With raise_app_exceptions=False, there is status 500, or code 1011, and nothing is raised."""

    async def check(peer: Peer) -> None:
        assert (await refused(peer, "/raw/boom/before")).status_code == 500
        async with peer.connect("/raw/boom/after") as session:
            with pytest.raises(peer.library.ws.WebSocketDisconnect) as caught:
                await session.receive_text()
            assert caught.value.code == 1011
        async with peer.connect("/raw/boom/disconnect"):
            pass

    peer = Peer(library, start(max_connections=1), raise_app_exceptions=False)
    peer.run(check)
    assert still_serves(peer.worker)


@each_library
def test_careless_app(peer: Peer) -> None:
    """An app that lets Starlette's own exception through when the client closes has done nothing wrong."""

    async def check(peer: Peer) -> None:
        async with peer.connect("/starlette/careless") as session:
            await session.close(4002, "bye")
        async with peer.connect("/starlette/careless"):
            pass

    peer.run(check)


@each_library
def test_client_raises(peer: Peer) -> None:
    """An exception of the test leaves the session, and the app is told."""
    name = new_name()

    async def check(peer: Peer) -> None:
        async with peer.connect(f"/starlette/watch/{name}"):
            raise ZeroDivisionError

    with pytest.raises(BaseException) as caught:
        peer.run(check)
    error = caught.value
    while hasattr(error, "exceptions"):  # an ExceptionGroup, of the libraries' task groups
        (error,) = error.exceptions
    assert isinstance(error, ZeroDivisionError)
    assert noted(peer.worker, name) == "(1000, '')"


@each_library
@pytest.mark.parametrize("path", ["/raw/flood/", "/raw/deaf/"])
def test_left_while_the_app_is_busy(peer: Peer, path: str) -> None:
    """An app that only sends, or does not look, ends when the session is left, and is not blamed."""
    name = new_name()

    async def check(peer: Peer) -> None:
        async with peer.connect(path + name) as session:
            if "flood" in path:
                assert await session.receive_bytes() == bytes(1000)

    peer.run(check)
    what = "ClientDisconnected: the client has closed the WebSocket" if "flood" in path else "cancelled"
    assert noted(peer.worker, name) == what


# Bare frames


def frames(*what: Any) -> bytes:
    """Return the frames of events, as a client sends them."""
    connection = Connection(ConnectionType.CLIENT)
    return b"".join(bytes(connection.send(event)) for event in what)


class Reader:
    """Reads events off a stream, with messages in one piece."""

    def __init__(self, stream: Awaited, size: int = 65_536) -> None:
        self._stream = stream
        self._size = size
        self._connection = Connection(ConnectionType.CLIENT)

    async def read(self) -> Any:
        """Return the next event; `None` at the end."""
        parts: list[Any] = []
        while True:
            for event in self._connection.events():
                if not isinstance(event, events.Message):
                    return event
                parts.append(event.data)
                if event.message_finished:
                    return type(event)(type(event.data)().join(parts))
            data = await self._stream.read(self._size, LIMIT)
            if not data:
                return None
            assert type(data) is bytes
            assert len(data) <= self._size
            self._connection.receive_data(data)


@each_library
def test_response(peer: Peer) -> None:
    """The handshake's answer is what RFC 6455 says, and has no body."""

    async def check(peer: Peer) -> None:
        async with peer.client() as client, peer.library.stream(client, HOST + "/raw/offer/soap") as response:
            assert response.status_code == 101
            assert response.headers.raw == [
                (b"upgrade", b"websocket"),
                (b"connection", b"Upgrade"),
                (b"sec-websocket-accept", b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="),
                (b"sec-websocket-protocol", b"soap"),
                (b"X-Raw", b"1"),
            ]
            assert (await response.aread() if peer.library.is_async else response.read()) == b""
            stream = Awaited(response.extensions["network_stream"])
            assert stream.own.get_extra_info("ssl_object") is None

    peer.run(check)
    assert still_serves(peer.worker)


@each_way
@pytest.mark.parametrize(("scheme", "seen"), [("http", "ws"), ("https", "wss"), ("ws", "ws"), ("wss", "wss")])
def test_schemes(peer: Peer, scheme: str, seen: str) -> None:
    """A handshake may have any of four schemes; the app sees a WebSocket's."""

    async def check(peer: Peer) -> None:
        async with peer.client() as client:
            url = f"{scheme}://example.org/starlette/seen/x/1"
            async with peer.library.connect(client, url) as session:
                got = await session.receive_json()
            assert got["url"] == f"{seen}://example.org/starlette/seen/x/1"
            assert got["server"] == ["example.org", 443 if seen == "wss" else 80]
            assert client.cookies["c"] == "1"

    peer.run(check)


@each_sync_library
def test_no_handshake(peer: Peer) -> None:
    """Another upgrade, or none, is plain HTTP, and ws:// without a handshake is an error."""

    async def check(peer: Peer) -> None:
        async with peer.client() as client:
            headers = {"connection": "upgrade", "upgrade": "h2c"}
            assert client.get("http://example.org/raw", headers=headers).text == "this is HTTP"
            assert client.get("http://example.org/raw", headers={"upgrade": "websocket"}).text == "this is HTTP"
            with pytest.raises(peer.library.httpx.UnsupportedProtocol, match="opened by httpx_ws.connect_ws"):
                client.get("ws://example.org/raw")

    peer.run(check)


@each_way
def test_pieces(peer: Peer) -> None:
    """Frames may be written byte by byte, or several at once, and be read in pieces of any size."""
    sent = [events.TextMessage("caf\xe9"), events.BytesMessage(bytes(300)), events.Ping(b"?"), events.TextMessage("")]

    async def check(peer: Peer) -> None:
        for size in (1, 7, 65_536):
            async with peer.stream("/raw/echo") as stream:
                reader = Reader(stream, size)
                data = frames(*sent)
                for start in range(0, len(data), size):
                    await stream.write(data[start : start + size])
                got = [await reader.read() for _ in sent]
                # The pong may come before the answers of the app.
                assert [event for event in got if not isinstance(event, events.Pong)] == [sent[0], sent[1], sent[3]]
                (pong,) = (event for event in got if isinstance(event, events.Pong))
                assert bytes(pong.payload) == b"?"

    peer.run(check)


@each_way
def test_fragments(peer: Peer) -> None:
    """A message in fragments reaches the app as one, with a ping answered between them."""
    name = new_name()

    async def check(peer: Peer) -> None:
        async with peer.stream(f"/raw/listen/{name}") as stream:
            await stream.write(frames(events.TextMessage("a", message_finished=False)))
            await stream.write(frames(events.Ping(b"between")))
            pong = await Reader(stream).read()
            assert isinstance(pong, events.Pong)
            assert bytes(pong.payload) == b"between"
            # The opcode of a continuation, and a piece of a character in each.
            whole = "\N{PILE OF POO}".encode()
            await stream.write(masked(0x00, whole[:1]) + masked(0x00, whole[1:3]))
            await stream.write(masked(0x80, whole[3:]))
            connection = Connection(ConnectionType.CLIENT)
            for index in range(10):
                await stream.write(connection.send(events.BytesMessage(b"%d" % index, message_finished=index == 9)))
            await stream.write(connection.send(events.Pong(b"unasked")))
            await stream.write(connection.send(events.CloseConnection(1001, "bye")))
            reader = Reader(stream)
            assert await reader.read() == events.CloseConnection(CloseReason.GOING_AWAY, "bye")
            assert await reader.read() is None

    peer.run(check)
    end = {"type": "websocket.disconnect", "code": 1001, "reason": "bye"}
    assert noted(peer.worker, name) == repr(
        [
            {"type": "websocket.receive", "text": "a\N{PILE OF POO}"},
            {"type": "websocket.receive", "bytes": b"0123456789"},
            end,
            end,
        ]
    )


def masked(first: int, payload: bytes) -> bytes:
    """Return a frame of a client, with a mask of zeros (RFC 6455, section 5.2)."""
    assert len(payload) < 126
    return bytes([first, 0x80 | len(payload), 0, 0, 0, 0]) + payload


BAD_FRAMES = {
    "rubbish": (b"\xff" * 20, 1002, "Invalid opcode 0xf"),
    "unmasked": (b"\x81\x01x", 1002, "server received unexpected unmasked frame"),
    "reserved bit": (masked(0xC1, b"x"), 1002, "Reserved bit set unexpectedly"),
    "lone continuation": (masked(0x80, b"x"), 1002, "unexpected CONTINUATION"),
    "bad text": (masked(0x81, b"\xff"), 1007, "'utf-8' codec can't decode byte 0xff in position 0: invalid start byte"),
    "bad code": (masked(0x88, b"\x00\x01"), 1002, "CLOSE with invalid code"),
}


@each_way
@pytest.mark.parametrize("kind", BAD_FRAMES)
def test_bad_frames(peer: Peer, kind: str) -> None:
    """Bad frames close the WebSocket with the code that RFC 6455 has for it, on both sides; it is not used any more."""
    data, code, reason = BAD_FRAMES[kind]
    name = new_name()

    async def check(peer: Peer) -> None:
        async with peer.stream(f"/raw/listen/{name}") as stream:
            await stream.write(data)
            await stream.write(frames(events.TextMessage("after it")))
            reader = Reader(stream)
            event = await reader.read()
            assert isinstance(event, events.CloseConnection)
            assert event.code == code
            assert await reader.read() is None

    peer.run(check)
    end = {"type": "websocket.disconnect", "code": code, "reason": reason}
    assert noted(peer.worker, name) == repr([end, end])


@each_way
@pytest.mark.parametrize(
    ("payload", "code", "reason"),
    [
        (b"", 1005, ""),
        (b"\x03\xe8", 1000, ""),
        (b"\x03\xe9bye", 1001, "bye"),
        (b"\x0f\xa2" + b"x" * 123, 4002, "x" * 123),
    ],
)
def test_closing_handshake(peer: Peer, payload: bytes, code: int, reason: str) -> None:
    """A close frame is answered with the same one, and the app sees what it says as plain values."""
    name = new_name()

    async def check(peer: Peer) -> None:
        async with peer.stream(f"/raw/listen/{name}") as stream:
            for byte in masked(0x88, payload):
                await stream.write(bytes([byte]))
            answer = b""
            while piece := await stream.read(10, LIMIT):
                answer += piece
            assert answer == bytes([0x88, len(payload)]) + payload

    peer.run(check)
    end = {"type": "websocket.disconnect", "code": code, "reason": reason}
    assert noted(peer.worker, name) == repr([end, end])


@each_way
def test_closed_at_once_by_both(peer: Peer) -> None:
    """When both sides close at the same time, both are content."""

    async def check(peer: Peer) -> None:
        async with peer.stream(f"/starlette/close?code=4001&name={new_name()}") as stream:
            await stream.write(frames(events.CloseConnection(4002, "me, too")))
            reader = Reader(stream)
            seen = []
            while (event := await reader.read()) is not None:
                seen.append(event)
            assert isinstance(seen[-1], events.CloseConnection)
            assert sum(isinstance(event, events.CloseConnection) for event in seen) == 1

    peer.run(check)
    assert still_serves(peer.worker)


@each_way
@pytest.mark.parametrize("late", [events.Ping(b"late"), events.TextMessage("late"), events.Pong(b"late")])
def test_written_after_the_app_has_closed(peer: Peer, late: Any) -> None:
    """What crosses with the app's close frame is dropped: a ping is not answered then (RFC 6455, section 5.5.1)."""
    name = new_name()

    async def check(peer: Peer) -> None:
        async with peer.stream(f"/raw/late/{name}") as stream:
            assert await Reader(stream).read() == events.CloseConnection(4001, "enough")
            await stream.write(frames(late))
            await stream.write(frames(events.CloseConnection(4001, "enough")))

    before = peer.worker.run(leaving_app.set_patience, 0.05)
    peer.run(check)
    peer.worker.run(leaving_app.set_patience, before)
    assert still_serves(peer.worker)


@each_library
def test_written_after_the_end(peer: Peer) -> None:
    """To write when the closing handshake is over is the library's WriteError, as where a socket is closed."""

    async def check(peer: Peer) -> None:
        async with peer.stream("/raw/echo") as stream:
            await stream.write(frames(events.CloseConnection(1000)))
            reader = Reader(stream)
            assert isinstance(await reader.read(), events.CloseConnection)
            assert await reader.read() is None
            with pytest.raises(peer.library.core.WriteError):
                await stream.write(frames(events.TextMessage("late")))
            assert await stream.read(100) == b""
        async with peer.stream("/starlette/return") as stream:
            assert await Reader(stream).read() is None
            with pytest.raises(peer.library.core.WriteError) as caught:
                await stream.write(frames(events.TextMessage("late")))
            assert str(caught.value) == "WebSocket /starlette/return: the exchange is over"

    peer.run(check)
    assert still_serves(peer.worker)


@each_way
@pytest.mark.parametrize("how", ["response", "stream", "client"])
def test_left_without_a_close_frame(peer: Peer, how: str) -> None:
    """A connection that ends without a close frame is code 1006 for the app."""
    name = new_name()

    async def check(peer: Peer) -> None:
        async with peer.client() as client, peer.library.stream(client, f"{HOST}/starlette/watch/{name}") as response:
            if how == "stream":
                stream = response.extensions["network_stream"]
                await (Awaited(stream).aclose() if peer.library.is_async else Awaited(stream).close())
                assert await Awaited(stream).read(100, LIMIT) in (frames_of_end(1000), b"")
            elif how == "client":
                await (Awaited(client).aclose() if peer.library.is_async else Awaited(client).close())

    peer.run(check)
    assert noted(peer.worker, name) == "(1006, '')"


def frames_of_end(code: int) -> bytes:
    """Return a server's close frame."""
    return bytes(Connection(ConnectionType.SERVER).send(events.CloseConnection(code)))


@each_library
def test_read_timeout(peer: Peer) -> None:
    """A read that takes too long is the library's ReadTimeout and ours, which says where the app is; it can go on."""

    async def check(peer: Peer) -> None:
        async with peer.stream("/raw/echo") as stream:
            for _ in range(2):
                with pytest.raises(errors.ReadTimeout) as caught:
                    await stream.read(100, 0.05)
            assert isinstance(caught.value, peer.library.core.ReadTimeout)
            assert caught.value.args[0] == "WebSocket /raw/echo: the app did not go on with its answer within 0.05 s"
            assert 'while (event := await receive())["type"] == "websocket.receive":\n' in caught.value.stack
            await stream.write(frames(events.TextMessage("x")))
            assert (await Reader(stream).read()).data == "x"

    peer.run(check)
    assert still_serves(peer.worker)


@each_library
def test_handshake_timeout(peer: Peer) -> None:
    """An app that does not accept in time is the client's read timeout."""

    async def check(peer: Peer) -> None:
        async with peer.client() as client:
            client.timeout = peer.library.httpx.Timeout(LIMIT, read=0.05)
            path = f"/raw/slow/{new_name()}"
            with pytest.raises(peer.library.httpx.ReadTimeout) as caught:
                async with peer.library.connect(client, HOST + path):
                    raise AssertionError("not reached")
            assert isinstance(caught.value, errors.ReadTimeout)
            assert caught.value.args[0] == f"WebSocket {path}: the app did not answer within 0.05 s"

    peer.run(check)
    assert still_serves(peer.worker)


@each_library
def test_worker_killed(library: Library, start: Callable[..., IpcProcess]) -> None:
    """A worker that is killed is the libraries' network error, and on the stream WorkerDied. The next has a new one."""

    async def check(peer: Peer) -> None:
        async with peer.connect("/raw/kill") as session:
            await session.send_text("die")
            with pytest.raises(peer.library.ws.WebSocketNetworkError):
                await session.receive_text()

    async def check_stream(peer: Peer, pid: int | None) -> None:
        async with peer.stream("/raw/deaf/x") as stream:
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(errors.WorkerDied) as caught:
                await stream.read(100)
            assert isinstance(caught.value, peer.library.core.ReadError)
            assert str(caught.value) == f"WebSocket /raw/deaf/x: the worker (pid {pid}) was killed by SIGKILL"

    peer = Peer(library, start(max_connections=1))
    peer.run(check)
    assert still_serves(peer.worker)
    peer = Peer(library, start())
    peer.run(check_stream, peer.worker.pid)
    assert still_serves(peer.worker)


# Large, and many


@pytest.mark.parametrize("library", ["httpx", "httpx-asyncio", "httpx-trio"], indirect=True)
@pytest.mark.parametrize("size", [65_535, 65_536, 200_000, 5 << 20])
def test_large_messages_of_httpx_ws(peer: Peer, size: int) -> None:
    """A message that is larger than what httpx-ws reads at once comes whole."""
    raw = bytes(range(256)) * (size // 256) + b"the end"
    text = "\xe9\N{PILE OF POO}" * (size // 6)

    async def check(peer: Peer) -> None:
        async with peer.connect("/raw/echo") as session:
            await session.send_bytes(raw)
            assert await session.receive_bytes() == raw
            await session.send_text(text)
            assert await session.receive_text() == text

    peer.run(check)


@pytest.mark.parametrize("library", ["httpx2", "httpx2-asyncio", "httpx2-trio"], indirect=True)
def test_large_messages_of_httpx2(peer: Peer) -> None:
    """A message over httpx2's limit closes with code 1009, which the app sees; with a higher limit it comes."""
    name = new_name()

    async def check(peer: Peer) -> None:
        raw = bytes(range(256)) * (5 << 12)
        async with peer.connect("/raw/echo", max_message_size_bytes=5 << 20) as session:
            await session.send_bytes(raw)
            assert await session.receive_bytes() == raw
        async with peer.connect(f"/raw/repeat/{name}") as session:
            await session.send_bytes(bytes(100_000))
            with pytest.raises(peer.library.ws.WebSocketDisconnect) as caught:
                await session.receive_bytes()
            assert (caught.value.code, caught.value.reason) == (1009, "Message too big")

    peer.run(check)
    assert noted(peer.worker, name) == "1009 Message too big"


@each_library
def test_many_sessions(peer: Peer) -> None:
    """One channel serves many sessions, one after the other, however they end, of one client and of many."""

    async def one(peer: Peer, client: Any, index: int) -> None:
        if index % 5 == 4:
            with pytest.raises(peer.library.ws.WebSocketUpgradeError):
                async with peer.library.connect(client, HOST + "/starlette/refuse?code=1000"):
                    raise AssertionError("not reached")
            return
        path = "/raw/echo" if index % 5 < 3 else f"/starlette/close?code=4001&name={new_name()}"
        async with peer.library.connect(client, HOST + path) as session:
            if index % 5 < 3:
                await session.send_text(str(index))
            if index % 5:
                assert await session.receive_text() == ("one" if index % 5 == 3 else str(index))

    async def check(peer: Peer) -> None:
        async with peer.client() as client:
            for index in range(50):
                await one(peer, client, index)
        for index in range(10):
            async with peer.client() as client:
                await one(peer, client, index)

    peer.run(check)
    assert still_serves(peer.worker)


@each_library
def test_nothing_leaks_while_the_worker_lives(library: Library, start: Callable[..., IpcProcess]) -> None:
    """No session leaves a descriptor, a thread or a busy channel behind."""
    peer = Peer(library, start(max_connections=1))

    async def check(peer: Peer) -> None:
        for path in ("/raw/echo", "/starlette/return", f"/starlette/close?code=4001&name={new_name()}"):
            async with peer.connect(path):
                pass
        await refused(peer, "/starlette/refuse?code=1000")
        async with peer.stream("/raw/echo") as stream:
            await stream.write(b"\x81")  # half a frame

    peer.run(check)
    with nothing_is_left():
        peer.run(check)
    assert still_serves(peer.worker)


# What a thread of httpx-ws ends with when its ping comes just after the close; httpx2 has mended that.
@pytest.mark.filterwarnings(
    r"ignore:Exception in thread .*_background_keepalive_ping:pytest.PytestUnhandledThreadExceptionWarning"
)
@each_library
def test_keepalive(peer: Peer) -> None:
    """Pings at a tiny interval get between nothing, neither while messages go nor when the session ends."""
    # With a limit, the sync sessions leave a thread behind that waits as long for the pong that a close has overtaken.
    limit = LIMIT if peer.library.is_async else None
    options = {"keepalive_ping_interval_seconds": 0.0005, "keepalive_ping_timeout_seconds": limit}

    async def check(peer: Peer) -> None:
        for _ in range(5):
            async with peer.connect("/raw/echo", **options) as session:
                for index in range(100):
                    await session.send_text(str(index))
                    assert await session.receive_text() == str(index)

    peer.run(check)
    assert still_serves(peer.worker)


COUNT = 2000


@each_async_library
def test_send_and_receive_in_two_tasks(peer: Peer) -> None:
    """One task may send while another receives: nothing is lost, nothing is reordered."""

    async def check(peer: Peer) -> None:
        async with peer.connect("/raw/echo") as session:

            async def send() -> None:
                for index in range(COUNT):
                    await session.send_text(str(index))

            async with anyio.create_task_group() as group:
                group.start_soon(send)
                assert [await session.receive_text() for _ in range(COUNT)] == [str(index) for index in range(COUNT)]

    peer.run(check)


@each_sync_library
def test_send_and_receive_in_two_threads(peer: Peer) -> None:
    """One thread may send while another receives: nothing is lost, nothing is reordered."""

    async def check(peer: Peer) -> None:
        async with peer.connect("/raw/echo") as session:
            sending = threading.Thread(target=lambda: [session.own.send_text(str(index)) for index in range(COUNT)])
            sending.start()
            assert [await session.receive_text() for _ in range(COUNT)] == [str(index) for index in range(COUNT)]
            sending.join(LIMIT)

    peer.run(check)


@each_async_library
def test_many_tasks(library: Library, start: Callable[..., IpcProcess]) -> None:
    """Many tasks have a session each, and more than there are channels wait for their turn."""
    heard = []

    async def check(peer: Peer) -> None:
        async with peer.client() as client, anyio.create_task_group() as group:

            async def talk(number: int) -> None:
                async with peer.library.connect(client, HOST + "/raw/echo") as session:
                    for index in range(10):
                        await session.send_text(f"{number}.{index}")
                        heard.append(await session.receive_text())

            for number in range(20):
                group.start_soon(talk, number)

    Peer(library, start(max_connections=4)).run(check)
    assert sorted(heard) == sorted(f"{number}.{index}" for number in range(20) for index in range(10))


# Given up


@each_async_library
@pytest.mark.parametrize("path", ["/starlette/watch/", "/raw/deaf/"])
def test_cancelled_scope(peer: Peer, path: str) -> None:
    """A cancelled scope around a session that receives ends it: the app is told, and the channel comes back."""
    name = new_name()

    async def check(peer: Peer) -> None:
        with anyio.CancelScope() as scope:
            async with peer.client() as client, peer.library.connect(client, HOST + path + name) as session:
                async with anyio.create_task_group() as group:
                    group.start_soon(session.receive_text)
                    await anyio.lowlevel.checkpoint()
                    scope.cancel()
        assert scope.cancelled_caught

    peer.run(check)
    assert noted(peer.worker, name) == ("cancelled" if "deaf" in path else "(1000, '')")
    assert still_serves(peer.worker)


@pytest.mark.parametrize("library", ["httpx-asyncio", "httpx2-asyncio"], indirect=True)
def test_cancelled_task(peer: Peer) -> None:
    """A cancelled asyncio task that receives ends its session."""
    name = new_name()

    async def check(peer: Peer) -> None:
        connected = asyncio.Event()

        async def talk() -> None:
            async with peer.connect(f"/starlette/watch/{name}") as session:
                connected.set()
                await session.receive_text()

        task = asyncio.create_task(talk())
        await connected.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    peer.run(check)
    assert noted(peer.worker, name) == "(1000, '')"
    assert still_serves(peer.worker)


@each_async_library
def test_cancelled_read(peer: Peer) -> None:
    """A read of the stream that is cancelled can be made again, and nothing is lost."""

    async def check(peer: Peer) -> None:
        async with peer.stream("/raw/echo") as stream:
            for _ in range(3):
                with anyio.move_on_after(0.01):
                    await stream.read(100)
                    raise AssertionError("not reached")
            await stream.write(frames(events.TextMessage("x")))
            assert (await Reader(stream).read()).data == "x"

    peer.run(check)
    assert still_serves(peer.worker)


@each_async_library
def test_cancelled_stream(peer: Peer) -> None:
    """A cancelled scope around a bare stream ends it as well."""
    name = new_name()

    async def check(peer: Peer) -> None:
        with anyio.CancelScope() as scope:
            async with peer.stream(f"/starlette/watch/{name}") as stream:
                scope.cancel()
                await stream.read(100)
        assert scope.cancelled_caught

    peer.run(check)
    assert noted(peer.worker, name) == "(1006, '')"
    assert still_serves(peer.worker)


@each_async_library
def test_client_closed_by_another_task(library: Library, start: Callable[..., IpcProcess]) -> None:
    """Closing the client ends the read of another task; the app is told."""
    peer, name = Peer(library, start(max_connections=1)), new_name()

    async def check(peer: Peer) -> None:
        ends = []
        async with peer.client() as client, anyio.create_task_group() as group:

            async def read() -> None:
                async with peer.library.stream(client, f"{HOST}/starlette/watch/{name}") as response:
                    reading.set()
                    ends.append(await response.extensions["network_stream"].read(100))

            reading = anyio.Event()
            group.start_soon(read)
            await reading.wait()
            await anyio.lowlevel.checkpoint()
            await client.aclose()
        assert ends == [b""]

    peer.run(check)
    assert noted(peer.worker, name) == "(1006, '')"
    assert still_serves(peer.worker)


@each_sync_library
def test_client_closed_by_another_thread(peer: Peer) -> None:
    """Closing the client ends the read of another thread; the app is told."""
    name = new_name()

    async def check(peer: Peer) -> None:
        ends: list[Any] = []
        async with peer.client() as client, peer.library.stream(client, f"{HOST}/starlette/watch/{name}") as response:
            stream = response.extensions["network_stream"]
            reading = threading.Thread(target=lambda: ends.append(stream.read(100)))
            reading.start()
            client.close()
            reading.join(LIMIT)
        assert ends == [b""]

    peer.run(check)
    assert noted(peer.worker, name) == "(1006, '')"
    assert still_serves(peer.worker)


# Without wsproto

WITHOUT_WSPROTO = """
import sys


class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "wsproto":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


sys.meta_path.insert(0, Refuse())

import asyncio, gc, httpx
from socketless import IpcAsyncTransport, IpcProcess, IpcTransport, eventloop

HEADERS = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}


async def app(scope, receive, send):
    assert scope["type"] == "websocket"
    await send({"type": "websocket.accept"})
    assert (await receive())["type"] == "websocket.connect"
    assert (await receive())["type"] == "websocket.receive"
    await send({"type": "websocket.send", "text": "without wsproto"})


def connect(worker):
    with httpx.Client(transport=IpcTransport(worker)) as client:
        client.get("ws://example.org/", headers=HEADERS)


async def aconnect(worker):
    async with httpx.AsyncClient(transport=IpcAsyncTransport(worker)) as client:
        await client.get("ws://example.org/", headers=HEADERS)


if __name__ == "__main__":
    eventloop.install()
    with IpcProcess(app, max_connections=1, start_method=sys.argv[1]) as worker:
        for ask in (connect, lambda worker: asyncio.run(aconnect(worker))):
            try:
                ask(worker)
            except ModuleNotFoundError as error:
                print(error.name, error)
        gc.collect()
        with worker.websocket_connect("/", timeout=20) as session:
            session.send_text("x")
            print(session.receive_text())
"""


@pytest.mark.parametrize("start_method", ["spawn", "fork"])
def test_without_wsproto(start_method: str, tmp_path: Path) -> None:
    """Where wsproto is missing, the error names the extra, nothing is left open, and sessions of ours need none."""
    program = tmp_path / "program.py"
    program.write_text(WITHOUT_WSPROTO)
    done = subprocess.run(
        [sys.executable, "-W", "always::ResourceWarning", str(program), start_method],
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    error = "wsproto a WebSocket needs wsproto: pip install 'socketless-testing[websocket]'\n"
    assert (done.stdout, done.stderr, done.returncode) == (2 * error + "without wsproto\n", "", 0)


async def half_a_pair(scope: Any, receive: Any, send: Any) -> None:
    """Send a text that cannot be encoded."""
    assert scope["type"] == "websocket"
    await receive()
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.send", "text": "\ud800"})
    await receive()


def test_text_of_the_app_that_is_no_utf8() -> None:
    """A text that cannot be encoded closes the WebSocket with code 1007, and nobody waits for ever."""
    with IpcProcess(f"{__name__}:half_a_pair") as worker, httpx.Client(transport=IpcTransport(worker)) as client:
        with httpx_ws.connect_ws("http://testserver/", client) as session:
            with pytest.raises(httpx_ws.WebSocketDisconnect) as caught:
                session.receive_text(timeout=LIMIT)
            assert (caught.value.code, caught.value.reason) == (1007, "the app's text is not UTF-8")
