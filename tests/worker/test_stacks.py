"""Where is the app stuck? A read timeout says so."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from socketless import IpcProcess, IpcTransport
from socketless.errors import ReadTimeout

api = FastAPI()
never = threading.Event()


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    return wait_in_thread()


def wait_in_thread() -> list[bytes]:
    never.wait()  # the line of a thread
    return []


@api.get("/await")
async def waits() -> None:
    await inner()


async def inner() -> None:
    await asyncio.Event().wait()  # the line of a task


@api.get("/generator")
async def waits_in_generator() -> None:
    async for _ in generator():
        pass


async def generator() -> Any:
    await asyncio.Event().wait()  # the line of a generator
    yield


@api.get("/thread")
def sync_route() -> None:
    never.wait(3)  # the line of a sync route


@api.get("/block")
async def blocks() -> None:
    time.sleep(2)  # the line that blocks the loop


@pytest.fixture(params=["spawn", "fork"])
def start_method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def asgi_worker(start_method: str) -> Iterator[IpcProcess]:
    with IpcProcess(f"{__name__}:api", start_method=start_method, shutdown_timeout=0.1) as worker:
        yield worker


def stack_of(worker: IpcProcess, path: str) -> ReadTimeout:
    transport = IpcTransport(worker)
    client = httpx.Client(transport=transport, base_url="http://testserver", timeout=httpx.Timeout(None, read=0.2))
    with pytest.raises(ReadTimeout) as caught:
        client.get(path)
    return caught.value


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("/await", "await asyncio.Event().wait()  # the line of a task"),
        ("/generator", "await asyncio.Event().wait()  # the line of a generator"),
        ("/thread", "never.wait(3)  # the line of a sync route"),
        ("/block", "time.sleep(2)  # the line that blocks the loop"),
    ],
)
def test_asgi(asgi_worker: IpcProcess, path: str, line: str) -> None:
    """The stack of a task goes down to the coroutine that waits, to the thread that it waits for, or to what blocks."""
    error = stack_of(asgi_worker, path)
    assert f"\n    {line}\n" in error.stack
    assert "socketless" not in error.stack


def test_wsgi(start_method: str) -> None:
    """The stack of a WSGI app is that of its thread, in full, without the worker's own frames."""
    with IpcProcess(f"{__name__}:wsgi", start_method=start_method) as worker:
        error = stack_of(worker, "/")
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

    with IpcProcess(f"{__name__}:api") as worker:
        errors = asyncio.run(main(worker))
    assert ["the line of a task" in error.stack for error in errors] == [True] * 5
