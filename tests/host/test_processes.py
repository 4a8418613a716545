"""`IpcProcesses`: an app in several processes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from socketless import IpcAsyncTransport, IpcProcesses, IpcTransport, errors
from support import nothing_leaks

PROCESSES = 3
METHODS = ["spawn", "fork"]


@pytest.fixture(params=METHODS)
def worker(request: pytest.FixtureRequest) -> Iterator[IpcProcesses]:
    with (
        nothing_leaks(),
        IpcProcesses("apps.process_app:app", processes=PROCESSES, start_method=request.param) as worker,
    ):
        yield worker


def client_of(worker: IpcProcesses) -> httpx.Client:
    return httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=30)


def test_one_by_one(worker: IpcProcesses) -> None:
    """Requests that come one by one all go to the first process."""
    with client_of(worker) as client:
        assert {client.get("/pid").json() for _ in range(2 * PROCESSES)} == {worker.pids[0]}


def test_side_by_side(worker: IpcProcesses, tmp_path: Any) -> None:
    """A request goes to the process that has the fewest: each of them has one, where all wait for each other."""
    params = {"folder": str(tmp_path), "count": PROCESSES}
    with client_of(worker) as client, ThreadPoolExecutor(PROCESSES) as threads:
        answers = threads.map(lambda _: client.get("/meet", params=params).json(), range(PROCESSES))
        assert sorted(answers) == sorted(filter(None, worker.pids))
        assert worker.in_flight == 0


def test_side_by_side_async(worker: IpcProcesses, tmp_path: Any) -> None:
    """The tasks of a loop use them all, too."""

    async def main() -> list[int]:
        transport = IpcAsyncTransport(worker)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver", timeout=30) as client:
            params = {"folder": str(tmp_path), "count": PROCESSES}
            return [
                response.json()
                for response in await asyncio.gather(*(client.get("/meet", params=params) for _ in range(PROCESSES)))
            ]

    assert sorted(asyncio.run(main())) == sorted(filter(None, worker.pids))


def test_response_that_goes_on(worker: IpcProcesses) -> None:
    """A response that is still being read counts: the next request goes to another process."""
    with client_of(worker) as client, client.stream("GET", "/stream") as response:
        assert next(response.iter_lines()) == str(worker.pids[0])
        assert client.get("/pid").json() == worker.pids[1]


def test_run(worker: IpcProcesses) -> None:
    """`run()` calls the function in each process, and returns the results."""
    assert worker.run(os.getpid) == worker.pids


def test_run_raises(worker: IpcProcesses) -> None:
    """An exception of one process is raised when the function was called in all of them."""
    with pytest.raises(ZeroDivisionError):
        worker.run(_divide, worker.pids[0])
    assert worker.run(os.environ.get, "SOCKETLESS_DIVIDED") == ["yes"] * PROCESSES


def _divide(pid: int) -> None:
    os.environ["SOCKETLESS_DIVIDED"] = "yes"
    if os.getpid() == pid:
        raise ZeroDivisionError


def test_reset() -> None:
    """`reset()` calls the reset hook in each process."""
    with IpcProcesses("apps.process_app:app", reset_hook="apps.process_app:count_reset") as worker:
        worker.reset()
        worker.reset()
        assert worker.run(_resets) == [2, 2]


def _resets() -> int:
    from apps import process_app

    return len(process_app.resets)


def test_one_dies(worker: IpcProcesses) -> None:
    """A process that dies is replaced; the others are what they were."""
    before = worker.pids
    with client_of(worker) as client:
        with pytest.raises(errors.WorkerDied):
            client.get("/exit")
        assert client.get("/pid").json() == worker.pids[0]
    assert worker.pids[1:] == before[1:]
    assert worker.pids[0] not in before


@pytest.mark.parametrize("method", METHODS)
def test_start_that_fails(method: str) -> None:
    """If one cannot start, none is left."""
    with nothing_leaks(), pytest.raises(errors.WorkerStartError):
        IpcProcesses("apps.process_app:no_such_app", start_method=method)


@pytest.mark.parametrize("processes", [0, "2"])
def test_wrong_number(processes: Any) -> None:
    """It is a number, and there is at least one."""
    with pytest.raises(ValueError, match="processes must be a number, at least 1"):
        IpcProcesses("apps.process_app:app", processes=processes)


def test_seen_as_one(worker: IpcProcesses) -> None:
    """What clients ask of a worker, they are told of all together."""
    assert (worker.app_kind, worker.max_connections, worker.max_body_bytes) == ("wsgi", 32 * PROCESSES, None)
    assert repr(worker) == f"<IpcProcesses 'apps.process_app:app', {PROCESSES} processes>"
    assert worker.wait_idle(20)
    assert not worker.end_leftovers()
    worker.renew()
    assert worker.run(is_callable, worker.app) == [True] * PROCESSES


def is_callable(app: Any) -> bool:
    return callable(app)


def test_closed() -> None:
    """After `close()`, which may be called twice, there is no process any more."""
    with nothing_leaks():
        worker = IpcProcesses("apps.process_app:app")
        worker.close()
        worker.close()
        assert worker.pids == [None, None]
        with client_of(worker) as client, pytest.raises(errors.StateError):
            client.get("/pid")
