"""What must hold a hundred times in a row, or a thousand times, under `tox -e slow`."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx
import pytest

from apps.soak_app import for_ever
from socketless import IpcAsyncTransport, IpcProcess, IpcTransport
from support import LIMIT, nothing_leaks

CHANNELS = 4

times = pytest.mark.parametrize("times", [100, pytest.param(1000, marks=pytest.mark.slow)])


@times
def test_messages(times: int) -> None:
    """A WebSocket loses no message and keeps their order, though nobody reads while they are written."""
    with IpcProcess("apps.soak_app:echo_messages") as worker, worker.websocket_connect("/") as session:
        for number in range(100 * times):
            session.send_text(str(number))
        for number in range(100 * times):
            assert session.receive_text() == str(number)


def whole(client: httpx.Client) -> bool:
    return client.post("/echo", content=[b"a", b"b"]).content == b"ab"


def all_channels_work(worker: IpcProcess) -> bool:
    """Hold as many streams as there are channels at the same time."""
    with httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=LIMIT) as client:
        requests = [client.build_request("GET", "/for-ever") for _ in range(CHANNELS)]
        responses = [client.send(request, stream=True) for request in requests]
        return all(next(response.iter_raw()).startswith(b"x") for response in responses)


def state_at_rest(client: httpx.Client) -> Any:
    """Return the worker's state once it has let go of all that was left."""
    for thread in threading.enumerate():
        if thread.name.startswith("socketless-parked-"):
            thread.join(LIMIT)
    return client.get("/state").json()


@times
@pytest.mark.parametrize("app", ["wsgi", "asgi"])
def test_streams_that_threads_leave(app: str, times: int) -> None:
    """Streams that are left at random moments leave nothing behind, on either side, and every channel usable."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # pytest shows it where this fails

    def leave_some(number: int) -> None:
        choices = random.Random(seed + number)
        for _ in range(times // CHANNELS):
            path = choices.choice(["/for-ever", "/echo"])
            content = for_ever() if path == "/echo" else None
            with client.stream("POST", path, content=content) as response:
                pieces = response.iter_raw()
                for _ in range(choices.choice([0, 1, 3, 100])):
                    assert next(pieces)
            if choices.random() < 0.1:
                assert whole(client)

    with nothing_leaks(), IpcProcess(f"apps.soak_app:{app}", max_connections=CHANNELS) as worker:
        client = httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=LIMIT)
        assert all_channels_work(worker)
        before = state_at_rest(client)
        with ThreadPoolExecutor(CHANNELS) as threads:
            list(threads.map(leave_some, range(CHANNELS)))
        assert all_channels_work(worker)
        assert state_at_rest(client) == before


@times
@pytest.mark.parametrize("app", ["wsgi", "asgi"])
def test_streams_whose_tasks_are_cancelled(app: str, times: int) -> None:
    """Tasks that are cancelled at random moments leave nothing behind, on either side, and every channel usable."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    choices = random.Random(seed)

    async def read(client: httpx.AsyncClient, path: str) -> None:
        async with client.stream("POST", path, content=endless() if path == "/echo" else None) as response:
            async for piece in response.aiter_raw():
                assert piece

    async def endless() -> AsyncIterator[bytes]:
        for piece in for_ever():
            yield piece
            await asyncio.sleep(0)

    async def leave_some(client: httpx.AsyncClient) -> None:
        for _ in range(times // CHANNELS):
            task = asyncio.create_task(read(client, choices.choice(["/for-ever", "/echo"])))
            for _ in range(choices.choice([0, 1, 2, 5, 20, 100])):
                await asyncio.sleep(0)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def main() -> None:
        transport = IpcAsyncTransport(worker)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver", timeout=LIMIT) as client:
            await asyncio.gather(*(leave_some(client) for _ in range(CHANNELS)))

    with nothing_leaks(), IpcProcess(f"apps.soak_app:{app}", max_connections=CHANNELS) as worker:
        client = httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=LIMIT)
        assert all_channels_work(worker)
        before = state_at_rest(client)
        asyncio.run(main())
        assert all_channels_work(worker)
        assert state_at_rest(client) == before
        assert whole(client)
