"""When to spin before a wait, and that nothing else changes by it."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from socketless import IpcProcess, IpcTransport
from socketless._host import process
from socketless._wire import drivers, spinning
from socketless._wire.drivers import poll
from socketless._wire.pipes import make_pipe
from socketless._wire.steps import Wait, Woken
from socketless.errors import ReadTimeout, WorkerDied
from support import LIMIT, nothing_leaks


@pytest.fixture
def spinners(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers and hosts spin, however many processors there are and whoever shares them."""
    monkeypatch.setattr(process, "may_spin", lambda: True)


def set_processors(monkeypatch: pytest.MonkeyPatch, count: int, cpu_max: Path) -> None:
    monkeypatch.setattr(spinning, "_CPU_MAX", str(cpu_max))
    affinity = {"sched_getaffinity": lambda pid: set(range(count))} if hasattr(os, "sched_getaffinity") else {}
    for name, value in {"cpu_count": lambda: count, **affinity}.items():
        monkeypatch.setattr(spinning.os, name, value)


@pytest.mark.parametrize(
    ("processors", "runs", "expected"),
    [
        (1, None, False),
        (2, None, True),
        (2, "1", True),
        (2, "2", False),
        (3, "2", False),
        (4, "2", True),
        (9, "?", False),
    ],
)
def test_processors(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, processors: int, runs: str | None, expected: bool
) -> None:
    """Each of the runs of pytest-xdist and its worker need a processor."""
    set_processors(monkeypatch, processors, tmp_path / "none")
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    if runs is not None:
        monkeypatch.setenv("PYTEST_XDIST_WORKER_COUNT", runs)
    assert spinning.may_spin() is expected


@pytest.mark.parametrize(
    ("cpu_max", "expected"),
    [("max 100000\n", True), ("200000 100000\n", True), ("150000 100000\n", False), ("", True), ("what", True)],
)
def test_share_of_a_container(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpu_max: str, expected: bool) -> None:
    """A container may use less than the processors that it sees (`docker run --cpus 1.5`)."""
    (tmp_path / "cpu.max").write_text(cpu_max)
    set_processors(monkeypatch, 8, tmp_path / "cpu.max")
    monkeypatch.delenv("PYTEST_XDIST_WORKER_COUNT", raising=False)
    assert spinning.may_spin() is expected


def test_child_of_multiprocessing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One of several processes that run tests (Django's `--parallel`) leaves the processors to the others."""
    set_processors(monkeypatch, 8, tmp_path / "none")
    monkeypatch.setattr(multiprocessing, "parent_process", lambda: multiprocessing.current_process())
    assert not spinning.may_spin()


def test_spin(monkeypatch: pytest.MonkeyPatch) -> None:
    """It looks until there is something, and no further."""
    monkeypatch.setattr(spinning, "_SECONDS", LIMIT)
    found = iter([[], [], ["something"], ["more"]])
    assert spinning.spin(lambda: next(found)) == ["something"]
    assert next(found) == ["more"]


def test_spin_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends, whatever the clock of the test says."""
    now = iter([0.0, 0.0001, 0.0003, 0.0005])
    monkeypatch.setattr(spinning, "monotonic", lambda: next(now))
    looks: list[None] = []
    assert spinning.spin(lambda: looks.append(None)) is None
    assert len(looks) == 3


def test_wait_that_spins(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that spins has the outcome of one that does not; and a greenlet never spins."""
    spins: list[Any] = []
    monkeypatch.setattr(drivers, "spin", lambda look: spins.append(None) or look())
    reader, writer = make_pipe()
    with reader, writer:
        wait = Wait(reader.fileno(), deadline=0.0, spins=True)
        assert poll(wait) is Woken.LATE
        writer.send_bytes(b"x")
        assert poll(wait) is Woken.READY
        assert len(spins) == 2
        monkeypatch.setattr(drivers, "is_green", lambda: True)
        assert poll(wait) is Woken.READY
        assert len(spins) == 2


@pytest.mark.usefixtures("spinners")
@pytest.mark.parametrize("seconds", [0.0, None, 0.1], ids=["in vain", "as usual", "at length"])
@pytest.mark.parametrize("app", ["apps.conformance_app:wsgi", "apps.conformance_app:asgi"])
def test_workers_that_spin(monkeypatch: pytest.MonkeyPatch, app: str, seconds: float | None) -> None:
    """Neither side misses what comes while it spins, or after that."""
    if seconds is not None:
        monkeypatch.setattr(spinning, "_SECONDS", seconds)
    with nothing_leaks(), IpcProcess(app, start_method="fork") as worker:
        client = httpx.Client(transport=IpcTransport(worker), base_url="http://testserver")
        for number in range(20):
            assert client.post("/echo", content=b"%d" % number).content == b"%d" % number
        assert len(client.get("/large?3000000").content) == 3_000_000
        assert worker.run(os.getpid) == worker.pid
        with pytest.raises(LookupError):
            client.get("/boom")
        with pytest.raises(WorkerDied):
            client.get("/exit")
        assert client.get("/status/404").status_code == 404


@pytest.mark.usefixtures("spinners")
@pytest.mark.parametrize("app", ["apps.conformance_app:wsgi", "apps.conformance_app:asgi"])
def test_time_limit_of_one_that_spins(app: str) -> None:
    """It is late as it would be without."""
    with nothing_leaks(), IpcProcess(app, max_connections=2, shutdown_timeout=0.2) as worker:
        client = httpx.Client(transport=IpcTransport(worker), base_url="http://testserver")
        assert client.get("/status/200", timeout=LIMIT).status_code == 200
        with pytest.raises(ReadTimeout):
            client.get("/hang", timeout=httpx.Timeout(LIMIT, read=0.2))


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answer a request, or what comes over a WebSocket, on any backend."""
    event = await receive()
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": event["body"]})
    elif scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"]})


@pytest.mark.usefixtures("spinners")
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_several_exchanges_of_one_that_spins(backend: Any) -> None:
    """A worker that spins for one channel serves the others as well."""
    pytest.importorskip(backend)
    with nothing_leaks(), IpcProcess(echo, app_kind="asgi", start_method="fork", backend=backend) as worker:
        client = httpx.Client(transport=IpcTransport(worker), base_url="http://testserver")
        with worker.websocket_connect("/") as one, worker.websocket_connect("/") as other:
            for number in range(5):
                for session in (one, other):
                    session.send_text(str(number))
                assert client.post("/", content=b"%d" % number).content == b"%d" % number
                assert one.receive_text() == other.receive_text() == str(number)
        assert client.post("/", content=b"last").content == b"last"
