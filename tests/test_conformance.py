"""Runs `tests/conformance.py` for each client over each kind of worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import pytest

import conformance
from aiohttp_client import AiohttpClient
from clients import CLIENTS, Client
from socketless import IpcProcess, IpcThread
from socketless.host.worker import Worker

APPS = ("wsgi", "asgi", "outer")


KINDS: dict[str, Callable[..., Worker]] = {
    "spawn": IpcProcess,
    "fork": partial(IpcProcess, start_method="fork"),
    "thread": IpcThread,
}


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=APPS)
def app(request: pytest.FixtureRequest) -> str:
    return f"apps.conformance_app:{request.param}"


@pytest.fixture(scope="module")
def worker(app: str, kind: str) -> Iterator[Worker]:
    with KINDS[kind](app, max_connections=2) as worker:
        yield worker


@pytest.fixture(scope="module")
def limited_worker(app: str, kind: str) -> Iterator[Worker]:
    with KINDS[kind](app, max_connections=2, max_body_bytes=conformance.MAX_BODY_BYTES) as worker:
        yield worker


@pytest.mark.parametrize(("name", "function"), conformance.for_each(CLIENTS, conformance.CHECKS))
def test_conformance(function: Callable[[Client], None], name: str, worker: Worker) -> None:
    """A client sees of a worker what `conformance` says, which leaves all channels usable."""
    client = CLIENTS[name](worker)
    function(client)
    conformance.all_channels_work(client)


@pytest.mark.parametrize(("name", "function"), conformance.for_each(CLIENTS, conformance.LIMITED))
def test_conformance_with_a_limit(function: Callable[[Client], None], name: str, limited_worker: Worker) -> None:
    """The same for a worker that limits bodies."""
    client = CLIENTS[name](limited_worker)
    function(client)
    conformance.all_channels_work(client)


@pytest.fixture(scope="module")
def thread_worker(app: str) -> Iterator[Worker]:
    with IpcThread(app) as worker:
        yield worker


@pytest.mark.parametrize(("name", "function"), conformance.for_each(["aiohttp"], conformance.CHECKS))
def test_conformance_without_a_worker(function: Callable[[Client], None], name: str, thread_worker: Worker) -> None:
    """aiohttp's connector sees the same of an app that it was given itself."""
    client = AiohttpClient(thread_worker, in_process=True)
    function(client)
    conformance.all_channels_work(client)


def test_debug_that_only_the_worker_can_rebuild() -> None:
    """Of a template whose module only the worker has, the name crosses; the channel is kept."""
    with IpcProcess("apps.conformance_app:asgi", max_connections=1) as worker:
        client, pid = CLIENTS["httpx"](worker), worker.pid
        debug = client.request("GET", "/stream/debug_of_its_own").extensions["http.response.debug"]
        assert (debug["template"].name, worker.pid) == ("index.html", pid)


@pytest.mark.parametrize("app", ["wsgi", "asgi"])
def test_head_of_an_endless_answer(app: str) -> None:
    """The answer to a HEAD is its headers: an app that goes on for ever is told that nobody wants more."""
    with IpcProcess(f"apps.conformance_app:{app}", max_connections=1) as worker:
        client = CLIENTS["httpx"](worker)
        assert client.request("HEAD", "/stream/endless?token=head&size=1").content == b""
        assert conformance.notes_on(client, "head") == ["closed" if app == "wsgi" else "ClientDisconnected"]
