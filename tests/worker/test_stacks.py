"""Where is the app stuck? A read timeout says so."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from apps import stuck_app
from socketless import IpcProcess, IpcTransport
from socketless._host import process_run
from socketless.errors import ReadTimeout
from support import LIMIT, stopped

API = f"{stuck_app.__name__}:api"  # imported here: a fork has it at once


@pytest.fixture(params=["spawn", "fork"])
def start_method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def asgi_worker(start_method: str) -> Iterator[IpcProcess]:
    with IpcProcess(API, start_method=start_method, shutdown_timeout=0.1) as worker:
        yield worker


def timeout_at(worker: IpcProcess, path: str, line: str) -> ReadTimeout:
    """Ask until the app has come to the line; how long that takes is not to matter."""
    transport = IpcTransport(worker)
    client = httpx.Client(transport=transport, base_url="http://testserver", timeout=httpx.Timeout(LIMIT, read=0.1))
    for _ in range(worker.max_connections):
        with pytest.raises(ReadTimeout) as caught:
            client.get(path)
        if f"    {line}\n" in caught.value.stack:
            break
    return caught.value


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/await", "await asyncio.Event().wait()  # the line of a task"),
        ("/generator", "await asyncio.Event().wait()  # the line of a generator"),
        ("/thread", "never.wait(60)  # the line of a sync route"),
        ("/block", "never.wait()  # the line that blocks the loop"),
    ],
)
def test_asgi(asgi_worker: IpcProcess, path: str, line: str) -> None:
    """The stack of a task goes down to the coroutine that waits, to the thread that it waits for, or to what blocks."""
    error = timeout_at(asgi_worker, path, line)
    assert f"\n    {line}\n" in error.stack
    assert "socketless" not in error.stack


def test_idle_threads_are_left_out(asgi_worker: IpcProcess) -> None:
    """Of the threads, only those are shown that are at work."""
    with httpx.Client(transport=IpcTransport(asgi_worker), base_url="http://testserver") as client:
        for _ in range(3):
            assert client.get("/quick").text == "null"
    error = timeout_at(asgi_worker, "/thread", "never.wait(60)  # the line of a sync route")
    shown = error.stack.count("In thread ")
    assert shown == error.stack.count("# the line of a sync route") >= 1


def test_stopped_worker(start_method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that is stopped cannot say where it is; the timeout comes all the same, and the next one at once."""
    monkeypatch.setattr(process_run, "_CONTROL_SECONDS", 0.2)
    with IpcProcess(API, start_method=start_method) as worker:
        transport = IpcTransport(worker)
        with httpx.Client(transport=transport, base_url="http://testserver", timeout=0.05) as client:
            assert client.get("/quick", timeout=LIMIT).status_code == 200
            with stopped(worker.pid):
                for _ in range(2):
                    with pytest.raises(ReadTimeout) as caught:
                        client.get("/quick")
                    assert caught.value.stack == ""
            assert client.get("/quick", timeout=LIMIT).status_code == 200
        # The lifespan is shut down, though the question for the stack and the Stop may come together.
        run = worker._run
    assert run is not None
    assert run.exitcode == 0


def test_wsgi(start_method: str) -> None:
    """The stack of a WSGI app is that of its thread, in full, without the worker's own frames."""
    with IpcProcess(f"{stuck_app.__name__}:wsgi", start_method=start_method) as worker:
        error = timeout_at(worker, "/", "never.wait()  # the line of a thread")
    lines = [line for line in error.stack.splitlines() if line.startswith("    ")]
    assert lines[:2] == ["    return wait_in_thread()", "    never.wait()  # the line of a thread"]
    shown = "".join(error.__notes__) if sys.version_info >= (3, 11) else str(error)
    assert f"The app is at:\n{error.stack.rstrip()}" in shown


def test_several_at_once() -> None:
    """Requests that time out together are each told where they are."""

    async def main(worker: IpcProcess) -> list[Any]:
        from socketless import IpcAsyncTransport

        async with httpx.AsyncClient(
            transport=IpcAsyncTransport(worker), base_url="http://testserver", timeout=httpx.Timeout(None, read=0.2)
        ) as client:
            return await asyncio.gather(*(client.get("/await") for _ in range(5)), return_exceptions=True)

    with IpcProcess(API) as worker:
        timeout_at(worker, "/await", "await asyncio.Event().wait()  # the line of a task")
        errors = asyncio.run(main(worker))
    assert [type(error).__mro__[1] for error in errors] == [ReadTimeout] * 5
    assert all(error.stack for error in errors)
