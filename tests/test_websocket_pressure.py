"""A client that sends more to its WebSocket than the app receives: it waits, and what waits takes up limited memory."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import aiohttp
import httpx
import httpx_ws
import pytest
import websocket
import websockets.asyncio.client
import websockets.sync.client
from starlette.testclient import TestClient as StarlettesClient

from apps import holding_app
from socketless import IpcAsyncTransport, IpcProcess, IpcThread, IpcTransport, switch_to_ipc_connection
from socketless._host.websocket_exchange import WebSocketExchange
from socketless._host.worker import Worker
from socketless._http11.worker_socket import WorkerSocket
from socketless._inloop.exchange import LoopExchange
from socketless._wire.messages import MOST_AHEAD
from socketless.aiohttp import ASGIApplicationConnector
from socketless.errors import WorkerDied, WriteTimeout
from socketless.testclient import TestClient
from support import LIMIT, stopped

APP = "apps.holding_app:app"
WORKERS: dict[str, Callable[..., Worker]] = {
    "spawn": partial(IpcProcess, APP),
    "trio process": partial(IpcProcess, APP, backend="trio"),
    "thread": partial(IpcThread, holding_app.app),
    "trio thread": partial(IpcThread, holding_app.app, backend="trio"),
}
PIECE = bytes(64 * 1024)
MOST = MOST_AHEAD // len(PIECE)  # pieces: fewer than this fit in, and one
ON_THE_WAY = 16  # pieces, in the pipes and buffers of clients that speak bytes


@pytest.fixture(scope="module", params=WORKERS)
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with WORKERS[request.param]() as worker:
        yield worker


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


def let_receive(worker: Worker, name: str) -> None:
    with TestClient(worker, timeout=LIMIT) as client:
        client.get(f"/{name}/go")


def notes_on(worker: Worker, name: str) -> Any:
    """Wait for the app's end, and return how many messages it has received, how many bytes, and how it has ended."""
    with TestClient(worker, timeout=LIMIT) as client:
        return client.get(f"/{name}").json()


def is_waiting(exchange: Any) -> bool:
    """Whether a client waits for room, for which it reads, or takes its turn."""
    assert not exchange.is_over
    if isinstance(exchange, LoopExchange):
        return not exchange._call.room.is_set()  # type: ignore[union-attr]
    return exchange._waiter is not None or bool(exchange._directions._turns)


def waiting(exchange: Any) -> None:
    """Wait until it is."""
    deadline = time.monotonic() + LIMIT
    while not is_waiting(exchange):
        assert time.monotonic() < deadline, "it does not have to wait"


def test_client_waits(worker: Worker, name: str) -> None:
    """A client waits as soon as so much is on its way, and goes on when its app has received it."""
    sent = []

    def send_all() -> None:
        for _ in range(3 * MOST):
            session.send_bytes(PIECE)
            sent.append(1)

    with ThreadPoolExecutor() as threads, worker.websocket_connect(f"/{name}") as session:
        sending = threads.submit(send_all)
        waiting(session._exchange)
        assert MOST - 1 <= len(sent) <= MOST
        let_receive(worker, name)
        sending.result(LIMIT)
    assert notes_on(worker, name) == [3 * MOST, 3 * MOST * len(PIECE), "told 1000"]


def test_message_that_is_larger(worker: Worker, name: str) -> None:
    """A message of any size can be sent, when the app has received what was before it."""
    sizes = [1, 2 * MOST_AHEAD, 3 * MOST_AHEAD, 1]

    def send_all() -> None:
        for size in sizes:
            session.send_bytes(bytes(size))

    with ThreadPoolExecutor() as threads, worker.websocket_connect(f"/{name}") as session:
        sending = threads.submit(send_all)
        waiting(session._exchange)
        let_receive(worker, name)
        sending.result(LIMIT)
    assert notes_on(worker, name) == [len(sizes), sum(sizes), "told 1000"]


def test_time_limit(worker: Worker, name: str) -> None:
    """A write timeout says that the app does not receive; then it can be tried again."""
    with worker.websocket_connect(f"/{name}", timeout=LIMIT) as session:
        exchange: Any = session._exchange
        for _ in range(MOST):
            session.send_bytes(PIECE)
        exchange._timeouts.write = 0.01
        with pytest.raises(WriteTimeout) as caught:
            session.send_bytes(PIECE)
        assert str(caught.value) == f"WebSocket /{name}: the app did not receive what was sent to it within 0.01 s"
        exchange._timeouts.write = LIMIT
        let_receive(worker, name)
        session.send_text("how many")
        assert session.receive_text() == str(MOST + 1)
    assert notes_on(worker, name)[2:] == ["told 1000"]


@pytest.mark.parametrize("receives", [False, True])
def test_leaving(worker: Worker, name: str, receives: bool) -> None:
    """A client that leaves waits no more, whether another thread is receiving or not; its app is told."""

    def send_all() -> None:
        for _ in range(2 * MOST):
            session.send_bytes(PIECE)

    with ThreadPoolExecutor() as threads:
        with worker.websocket_connect(f"/{name}") as session:
            receiving = threads.submit(session.receive) if receives else None
            sending = threads.submit(send_all)
            waiting(session._exchange)
        sending.result(LIMIT)
        if receiving is not None:
            assert receiving.result(LIMIT)["type"] == "websocket.close"
    assert notes_on(worker, name) == [0, 0, "cancelled"]


def test_echo(worker: Worker) -> None:
    """Nothing gets stuck if both send much, and only then receive."""
    with worker.websocket_connect("/echo", timeout=LIMIT) as session:
        for number in range(3 * MOST):
            session.send_bytes(PIECE + bytes([number % 256]))
        for number in range(3 * MOST):
            assert session.receive_bytes()[-1] == number % 256


def test_echo_in_threads(worker: Worker) -> None:
    """Who receives lets those that wait go on: several threads send at once, and one receives."""
    with ThreadPoolExecutor() as threads, worker.websocket_connect("/echo", timeout=LIMIT) as session:

        def send_all() -> None:
            for _ in range(MOST):
                session.send_bytes(PIECE)

        sending = [threads.submit(send_all) for _ in range(3)]
        for _ in range(3 * MOST):
            assert len(session.receive_bytes()) == len(PIECE)
        for each in sending:
            each.result(LIMIT)


@pytest.mark.parametrize("client_class", [TestClient, StarlettesClient])
def test_many_small_messages(client_class: Any, name: str) -> None:
    """A test that sends thousands of messages before the app receives the first of them does not get stuck."""
    with client_class(holding_app.app) as client, client.websocket_connect(f"/{name}") as session:
        for _ in range(10_000):
            session.send_text("0123456789")
        session.send_text("how many")
        client.get(f"/{name}/go")
        assert session.receive_text() == "10001"


def test_worker_that_dies(name: str) -> None:
    """Who waits for the app learns that it has died."""
    with IpcProcess(APP) as worker, ThreadPoolExecutor() as threads:

        def send_all() -> None:
            while True:
                session.send_bytes(PIECE)

        with worker.websocket_connect(f"/{name}") as session:
            sending = threads.submit(send_all)
            waiting(session._exchange)
            assert worker.pid is not None
            os.kill(worker.pid, signal.SIGKILL)
            with pytest.raises(WorkerDied):
                sending.result(LIMIT)


def test_app_that_closes() -> None:
    """Nobody waits for an app that has closed its WebSocket, even if it does not return."""
    with ThreadPoolExecutor() as threads, IpcThread(closing, lifespan=False) as worker:
        may_close.clear()
        with worker.websocket_connect("/") as session:

            def send_all() -> None:
                for _ in range(3 * MOST):
                    session.send_bytes(PIECE)

            sending = threads.submit(send_all)
            waiting(session._exchange)
            may_close.set()
            sending.result(LIMIT)
            assert session.receive()["code"] == 4000


may_close = threading.Event()


async def closing(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await asyncio.to_thread(may_close.wait, LIMIT)
    await send({"type": "websocket.close", "code": 4000})
    while True:
        await receive()


# Clients that speak bytes: each sends until its exchange waits, leaves, and returns how many pieces it could send.


def exchange_of(path: str) -> Any:
    """Return what the client of a path has with the worker."""
    kinds = (WebSocketExchange, LoopExchange)
    [exchange] = [each for each in gc.get_objects() if type(each) in kinds and each.label.endswith(f" {path}")]
    return exchange


def until_closed(path: str, send: Callable[[bytes], Any], close: Callable[[], Any]) -> int:
    sent = []

    def send_all() -> None:
        with suppress(Exception):  # what a client raises that has left
            while True:
                send(PIECE)
                sent.append(1)

    with ThreadPoolExecutor() as threads:
        sending = threads.submit(send_all)
        try:
            waiting(exchange_of(path))
            count = len(sent)
        finally:
            close()  # or the thread would be waited for without end
        sending.result(LIMIT)
    return count


async def until_it_waits(path: str, send: Callable[[bytes], Any]) -> int:
    sent = []

    async def send_all() -> None:
        while True:
            await send(PIECE)
            sent.append(1)

    exchange, sending = exchange_of(path), asyncio.create_task(send_all())
    deadline = time.monotonic() + LIMIT
    while not is_waiting(exchange):
        assert time.monotonic() < deadline, "it does not have to wait"
        await asyncio.sleep(0)
    sending.cancel()
    await asyncio.wait([sending])
    return len(sent)


def with_httpx_ws(worker: Worker, path: str) -> int:
    with httpx.Client(transport=IpcTransport(worker), timeout=LIMIT) as client:
        with httpx_ws.connect_ws(f"http://testserver{path}", client, **NO_PINGS) as session:
            return until_closed(path, session.send_bytes, session.stream.close)


async def with_httpx_ws_async(worker: Worker, path: str) -> int:
    async with httpx.AsyncClient(transport=IpcAsyncTransport(worker), timeout=LIMIT) as client:
        async with httpx_ws.aconnect_ws(f"http://testserver{path}", client, **NO_PINGS) as session:
            return await until_it_waits(path, session.send_bytes)


NO_PINGS: dict[str, Any] = {"keepalive_ping_interval_seconds": None}


async def with_websockets(worker: Worker, path: str) -> int:
    with switch_to_ipc_connection(worker):
        connect = websockets.asyncio.client.connect
        async with connect(f"ws://testserver{path}", close_timeout=SOON, ping_interval=None) as connection:
            return await until_it_waits(path, connection.send)


async def with_aiohttp(worker: Worker, path: str) -> int:
    with switch_to_ipc_connection(worker):
        async with aiohttp.ClientSession() as session:
            async with session.ws_connect(f"http://testserver{path}", timeout=BRIEF) as socket:
                return await until_it_waits(path, socket.send_bytes)


SOON = 0.1  # seconds, for an answer to a goodbye that does not come
BRIEF = aiohttp.ClientWSTimeout(ws_close=SOON)


def with_blocking_websockets(worker: Worker, path: str) -> int:
    with switch_to_ipc_connection(worker):
        connect = websockets.sync.client.connect
        with connect(f"ws://testserver{path}", close_timeout=SOON, ping_interval=None) as connection:
            return until_closed(path, connection.send, connection.socket.close)


def with_websocket_client(worker: Worker, path: str) -> int:
    with switch_to_ipc_connection(worker):
        connection = websocket.create_connection(f"ws://testserver{path}")
        return until_closed(path, connection.send_binary, connection.shutdown)


CLIENTS = [
    with_httpx_ws,
    with_httpx_ws_async,
    with_websockets,
    with_aiohttp,
    with_blocking_websockets,
    with_websocket_client,
]


@pytest.mark.parametrize("client", CLIENTS)
def test_client_of_bytes(worker: Worker, name: str, client: Callable[[Worker, str], Any]) -> None:
    """It has to wait as well, and the app is told when it leaves."""
    sent = client(worker, f"/{name}")
    if asyncio.iscoroutine(sent):
        sent = asyncio.run(sent)
    assert sent <= MOST + ON_THE_WAY
    assert notes_on(worker, name) == [0, 0, "cancelled"]


def test_socket_without_a_thread(worker: Worker, name: str) -> None:
    """A `WorkerSocket` waits as a socket does, and reads meanwhile, since nobody else does."""

    sent = 0
    with WorkerSocket(worker, LIMIT) as sock, suppress(websocket.WebSocketTimeoutException):
        connection = websocket.create_connection(f"ws://testserver/{name}", socket=sock)
        sock.settimeout(0.01)
        while sent <= MOST + ON_THE_WAY:
            connection.send_binary(PIECE)
            sent += 1
    assert sent <= MOST + ON_THE_WAY
    assert notes_on(worker, name) == [0, 0, "cancelled"]
    with WorkerSocket(worker, LIMIT) as sock:
        connection = websocket.create_connection("ws://testserver/echo", socket=sock)
        for number in range(2 * MOST):
            connection.send_binary(PIECE + bytes([number % 256]))
        for number in range(2 * MOST):
            assert connection.recv()[-1] == number % 256


def test_socket_left_in_the_middle(name: str) -> None:
    """An app is told of a client that goes while the half of a message is on its way, and that keeps its socket."""
    with IpcProcess(holding_app.app, start_method="fork") as worker, WorkerSocket(worker, LIMIT) as sock:
        connection = websocket.create_connection(f"ws://testserver/{name}", socket=sock)
        sock.settimeout(0.01)
        with stopped(worker.pid):
            with pytest.raises(websocket.WebSocketTimeoutException):
                all(connection.send_binary(PIECE) for _ in range(MOST + ON_THE_WAY))
            sock.close()
        assert notes_on(worker, name) == [0, 0, "cancelled"]


def test_app_in_the_loop(name: str) -> None:
    """So does a session of aiohttp, whose app is on its own loop. What it has written arrives."""

    async def main() -> int:
        connector = ASGIApplicationConnector(holding_app.app)
        async with aiohttp.ClientSession(connector=connector) as session:
            async with session.ws_connect(f"http://testserver/{name}", timeout=BRIEF) as socket:
                sent = await until_it_waits(f"/{name}", socket.send_bytes)
            async with session.get(f"http://testserver/{name}/go"):
                pass
            async with session.get(f"http://testserver/{name}") as response:
                received, _, end = await response.json(content_type=None)
            assert (received - sent in (0, 1, 2), end) == (True, "told 1000")
            async with session.ws_connect("http://testserver/echo") as socket:
                for _ in range(2 * MOST):
                    await socket.send_bytes(PIECE)
                    assert (await socket.receive()).data == PIECE
        return sent

    assert asyncio.run(main()) <= MOST + ON_THE_WAY
