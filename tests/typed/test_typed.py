# pyright: strict
"""What a user writes who has mypy and pyright at their strictest; `tox -e types` runs both on it, pytest runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import httpx
import httpx2
import pytest
import requests

import socketless.requests
import typed_app
from socketless import (
    IpcAsyncTransport,
    IpcProcess,
    IpcProcesses,
    IpcThread,
    IpcTransport,
    eventloop,
    reset_ipc_state,
    switch_to_ipc_connection,
)
from socketless.aiohttp import ASGIApplicationConnector
from socketless.errors import SocketlessError, WorkerDied, WorkerStartError
from socketless.lowlevel import connection_pool
from socketless.pytest_plugin import ipc_connection_fixture, reset_between_tests_fixture
from socketless.requests import IpcAdapter, Session
from socketless.testcase import SocketlessTestCase
from socketless.testclient import AsyncTestClient, TestClient

switched = ipc_connection_fixture("typed_app:app", reset_hook="typed_app:reset", scope="module")
reset = reset_between_tests_fixture(autouse=False)


@pytest.fixture(scope="module")
def worker() -> Iterator[IpcProcess]:
    with IpcProcess("typed_app:app", reset_hook=typed_app.reset, lifespan=False, env={"SHOP": "1"}) as worker:
        yield worker


def test_httpx(worker: IpcProcess) -> None:
    worker.reset()
    with httpx.Client(transport=IpcTransport(worker), base_url="http://testserver") as client:
        assert client.post("/", params={"tea": ""}).text == "tea="
    with httpx2.Client(transport=IpcTransport(worker, root_path="/shop"), base_url="http://testserver") as client2:
        assert client2.get("/").text == "tea="
    names: list[str] = worker.run(lambda: list(typed_app.items))
    assert names == ["tea="]
    assert worker.run(len, "four") + 1 == 5


def test_async_clients(worker: IpcProcess) -> None:
    async def main() -> None:
        transport = IpcAsyncTransport(worker, client=("10.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            response: httpx.Response = await client.get("/")
            assert response.status_code == 200
        async with aiohttp.ClientSession(connector=ASGIApplicationConnector(worker)) as session:
            async with session.get("http://testserver/") as answer:
                assert answer.status == 200

    asyncio.run(main())


def test_bytes(worker: IpcProcess) -> None:
    async def main() -> None:
        async with connection_pool() as pool, pool.connection(worker) as connection:
            await pool.send(connection, b"GET / HTTP/1.1\r\nHost: testserver\r\n\r\n")
            code, cursor = await pool.recv_status_line(connection)
            headers = [field[:2] async for field in pool.recv_headers(connection, cursor)]
            body = b"".join([piece async for piece in pool.recv_body(connection, cursor)])
            assert (code, bool(headers), body.decode()[:0]) == (200, True, "")

    asyncio.run(main())


def test_requests(worker: IpcProcess) -> None:
    with Session(worker=worker) as session:
        response: requests.Response = session.get("/")
        assert response.ok
    with requests.Session() as plain:
        plain.mount("http://", IpcAdapter(worker))
        assert plain.get("http://testserver/").text == response.text
    assert socketless.requests.DEFAULT_SCHEME == "http+unix://"


def test_client() -> None:
    typed_app.reset()
    with TestClient(typed_app.app) as client:
        assert client.get("/").text == ""
        assert client.worker.app_kind == "wsgi"
        client.worker.run(typed_app.items.append, "cake")
        assert client.get("/").text == "cake"


def test_async_client() -> None:
    async def main() -> None:
        typed_app.reset()
        async with AsyncTestClient(typed_app.app) as client:
            response = await client.get("/")
            assert (response.text, client.worker.app_kind) == ("", "wsgi")

    asyncio.run(main())


def test_processes() -> None:
    with IpcProcesses("typed_app:app", processes=2, start_method="fork") as worker:
        httpx.Client(transport=IpcTransport(worker), base_url="http://testserver").close()
        lengths: list[int] = worker.run(len, "tea")
        assert lengths == [3, 3]


def test_switch() -> None:
    with switch_to_ipc_connection(
        "typed_app:app", start_method="fork", reset_hook="typed_app:reset", shutdown_timeout=1
    ) as switch:
        assert httpx.get("/").text == requests.get("http://testserver/").text
        reset_ipc_state()
        print(switch.worker.description)


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(WorkerStartError, match="nowhere"):
        IpcThread("nowhere:app")
    died: SocketlessError = WorkerDied("GET /", None, 3)
    assert isinstance(died, WorkerDied)
    assert died.exitcode == 3
    with ExitStack() as stack:
        stack.callback(eventloop.install)
        assert tmp_path.is_dir()


class ShopTest(SocketlessTestCase):
    app = "typed_app:app"
    reset_hook = "typed_app:reset"
    worker_options = {"max_connections": 4}

    def test_empty(self) -> None:
        assert self.client.get("/").text == ""
        self.worker.reset()
