"""Runs `tests/conformance.py` for each client over each kind of app, and over each kind of worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from functools import partial
from itertools import product
from typing import Any

import pytest

import conformance
from aiohttp_client import AiohttpClient
from clients import CLIENTS, FOR_ALL, Client, can, in_pairs
from socketless import IpcProcess, IpcThread
from socketless._aiohttp import connector
from socketless._host.worker import Worker

APPS = ("wsgi", "asgi", "outer")

KINDS: dict[str, Callable[..., Worker]] = {
    "spawn": IpcProcess,
    "fork": partial(IpcProcess, start_method="fork"),
    "thread": IpcThread,
}

# Both reach a client by the same code as their siblings: ASGI 2 is called by asgiref's adapter, and a worker that was
# forked differs from one that was spawned until it is ready.
ALIKE = ("outer", "fork")


def combinations(checks: list[Callable[[Client], None]]) -> list[Any]:
    """Return the app and the kind of a worker, a client's name and a check, for all that can hold."""
    return [
        pytest.param(app, kind, name, function, id=f"{app}-{kind}-{function.__name__}-{name}", marks=marks)
        for app, kind, name, marks in in_pairs(APPS, [*KINDS], ALIKE)
        for function in checks
        if can(name, function)
    ]


def test_every_pair() -> None:
    """By default, one client meets each kind of worker of each app; the others, what may be of a kind of its own."""
    run = [(app, kind, name) for app, kind, name, marks in in_pairs(APPS, [*KINDS], ALIKE) if not marks]
    assert {(app, kind) for app, kind, name in run if name == FOR_ALL} == {*product(APPS, KINDS)}
    assert {(app, name) for app, _, name in run} >= {*product({*APPS} - {*ALIKE}, CLIENTS)}
    assert {(kind, name) for _, kind, name in run} >= {*product({*KINDS} - {*ALIKE}, CLIENTS)}
    assert len(run) < len(CLIENTS) * len(APPS) * len(KINDS) / 3


class Latest:
    """The worker that tests have in common until one wants another."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._wanted: tuple[str, str] | None = None

    def get(self, app: str, kind: str, **options: Any) -> Worker:
        if self._wanted != (app, kind):
            self.close()
            start = KINDS[kind](f"apps.conformance_app:{app}", max_connections=2, **options)
            self._worker = self._stack.enter_context(start)
            self._wanted = app, kind
        return self._worker

    def close(self) -> None:
        self._stack.close()


@pytest.fixture(scope="module")
def worker() -> Iterator[Latest]:
    with closing(Latest()) as latest:
        yield latest


@pytest.fixture(scope="module")
def limited_worker() -> Iterator[Latest]:
    with closing(Latest()) as latest:
        yield latest


@pytest.mark.parametrize(("app", "kind", "name", "function"), combinations(conformance.CHECKS))
def test_conformance(function: Callable[[Client], None], name: str, worker: Latest, app: str, kind: str) -> None:
    """A client sees of a worker what `conformance` says, which leaves all channels usable."""
    client = CLIENTS[name](worker.get(app, kind))
    function(client)
    conformance.all_channels_work(client)


@pytest.mark.parametrize(("app", "kind", "name", "function"), combinations(conformance.LIMITED))
def test_conformance_with_a_limit(
    function: Callable[[Client], None], name: str, limited_worker: Latest, app: str, kind: str
) -> None:
    """The same for a worker that limits bodies."""
    client = CLIENTS[name](limited_worker.get(app, kind, max_body_bytes=conformance.MAX_BODY_BYTES))
    function(client)
    conformance.all_channels_work(client)


@pytest.fixture(scope="module", params=APPS)
def thread_worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with IpcThread(f"apps.conformance_app:{request.param}") as worker:
        yield worker


@pytest.mark.parametrize(("name", "function"), conformance.for_each(["aiohttp"], conformance.CHECKS))
def test_conformance_without_a_worker(
    function: Callable[[Client], None], name: str, thread_worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """aiohttp's connector sees the same of an app that it was given itself."""
    # Where the app waits for what comes after leaving it.
    monkeypatch.setattr(connector, "LEAVE_SECONDS", 0.5)
    monkeypatch.setattr(connector, "IpcThread", partial(IpcThread, shutdown_timeout=0.5))
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
