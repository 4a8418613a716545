"""A client that leaves its WebSocket: what it has sent is worked through, and the app learns it from `receive()`."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable, Iterator
from functools import partial

import aiohttp
import httpx
import httpx_ws
import pytest
from starlette.testclient import TestClient as StarlettesClient

from apps import leaving_app
from socketless import IpcProcess, IpcThread, IpcTransport, switch_to_ipc_connection
from socketless._host.worker import Worker
from socketless._worker import asgi_websocket
from socketless.testclient import TestClient
from support import LIMIT

APP = "apps.leaving_app:app"
WORKERS: dict[str, Callable[..., Worker]] = {
    "spawn": partial(IpcProcess, APP),
    "fork": partial(IpcProcess, APP, start_method="fork"),
    "trio process": partial(IpcProcess, APP, backend="trio"),
    "thread": partial(IpcThread, leaving_app.app),
    "trio thread": partial(IpcThread, leaving_app.app, backend="trio"),
}
WORK = [str(number) for number in range(20)]


@pytest.fixture(scope="module", params=WORKERS)
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with WORKERS[request.param]() as worker:
        yield worker


@pytest.fixture(params=["thread", "trio thread"])
def patient_worker(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Worker]:
    """A worker that has so much patience with apps that a slow machine does not use it up."""
    monkeypatch.setattr(asgi_websocket, "_PATIENCE", LIMIT)
    with WORKERS[request.param]() as worker:
        yield worker


@pytest.fixture
def lenient_worker(worker: Worker) -> Iterator[Worker]:
    """A worker that leaves an app so much time to send once more that a slow machine does not use it up."""
    grace = worker.run(leaving_app.set_grace, LIMIT)
    yield worker
    worker.run(leaving_app.set_grace, grace)


@pytest.fixture
def hurried_worker(worker: Worker) -> Iterator[Worker]:
    """A worker that has next to no patience with apps."""
    patience = worker.run(leaving_app.set_patience, 0.05)
    yield worker
    worker.run(leaving_app.set_patience, patience)


@pytest.fixture
def name() -> str:
    return uuid.uuid4().hex


def notes_on(worker: Worker, name: str) -> list[str]:
    """Wait for the app's end, and return what it has stored."""
    with TestClient(worker, timeout=LIMIT) as client:
        return client.get(f"/{name}").json()  # type: ignore[no-any-return]


def with_test_client(worker: Worker, path: str) -> None:
    with TestClient(worker, timeout=LIMIT).websocket_connect(path) as session:
        for each in WORK:
            session.send_text(each)


def with_session(worker: Worker, path: str) -> None:
    with worker.websocket_connect(path, timeout=LIMIT) as session:
        for each in WORK:
            session.send_text(each)


def with_httpx_ws(worker: Worker, path: str) -> None:
    with httpx.Client(transport=IpcTransport(worker), timeout=LIMIT) as client:
        with httpx_ws.connect_ws(f"http://testserver{path}", client, keepalive_ping_interval_seconds=None) as session:
            for each in WORK:
                session.send_text(each)


def with_aiohttp(worker: Worker, path: str) -> None:
    async def main() -> None:
        async with aiohttp.ClientSession() as session, session.ws_connect(f"http://testserver{path}") as socket:
            for each in WORK:
                await socket.send_str(each)

    with switch_to_ipc_connection(worker):
        asyncio.run(main())


@pytest.mark.parametrize("send_all", [with_test_client, with_session, with_httpx_ws, with_aiohttp])
@pytest.mark.parametrize("how", ["before=1", "after=1", "before=2&after=2&turns=3"])
def test_all_is_worked_through(worker: Worker, name: str, how: str, send_all: Callable[[Worker, str], None]) -> None:
    """An app that answers each message gets all of them, and then the end, though nobody hears its answers."""
    send_all(worker, f"/{name}?do=store&{how}")
    assert notes_on(worker, name) == [*WORK, "told 1000", "returned"]


def test_starlettes_works_through_all(name: str) -> None:
    """So it is with Starlette's own, as long as the app does not wait for anything."""
    with StarlettesClient(leaving_app.app) as client:
        with client.websocket_connect(f"/{name}?do=store&after=1") as session:
            for each in WORK:
                session.send_text(each)
        assert client.get(f"/{name}").json()[:20] == WORK


def test_app_that_takes_its_time(patient_worker: Worker, name: str) -> None:
    """An app may take longer for a message, and for its end, than one has that never asks."""
    with patient_worker.websocket_connect(f"/{name}?do=store&before=1&seconds={3 * asgi_websocket._GRACE}") as session:
        for each in WORK[:4]:
            session.send_text(each)
    assert notes_on(patient_worker, name) == [*WORK[:4], "told 1000", "returned"]


@pytest.mark.parametrize("how", ["", "&turns=1", "&seconds=0.01", "&subscribes=yes&seconds=0.01"])
def test_app_that_sends_for_ever(lenient_worker: Worker, name: str, how: str) -> None:
    """An app that sends and does not ask gets the OSError of the ASGI specification."""
    with lenient_worker.websocket_connect(f"/{name}?do=tick{how}", timeout=LIMIT) as session:
        session.send_text("subscribe")
        assert session.receive_text() == "tick"
    assert notes_on(lenient_worker, name) == ["ClientDisconnected('the client has closed the WebSocket')"]


@pytest.mark.one_in(2, "worker", "how")
@pytest.mark.parametrize("how", ["do=wait", "do=wait&receives=1", "do=wait&receives=2", "do=ask"])
def test_app_that_does_not_end(hurried_worker: Worker, name: str, how: str) -> None:
    """An app that goes on whatever it hears is cancelled."""
    with hurried_worker.websocket_connect(f"/{name}?{how}", timeout=LIMIT) as session:
        session.send_text("one")
    assert notes_on(hurried_worker, name) == ["cancelled"]


@pytest.mark.parametrize("how", ["", "&turns=20", f"&seconds={3 * asgi_websocket._GRACE}"])
@pytest.mark.parametrize("receives", [True, False])
def test_app_that_closes_and_raises(patient_worker: Worker, name: str, how: str, receives: bool) -> None:
    """What an app raises after it has closed is raised in the test, whether that has seen the end or not."""

    def leave() -> None:
        with TestClient(patient_worker).websocket_connect(f"/{name}?do=close{how}") as session:
            if receives:
                session.receive_text()

    with pytest.raises(LookupError, match="^after closing$"):
        leave()
    assert notes_on(patient_worker, name)[0].startswith("LookupError")
