"""Exchanges leave nothing behind, in the host or in the worker: what Python has allocated is counted.

`tox -e soak` counts 200 000 of them for each kind of worker, and prints the resident memory as well.
"""

from __future__ import annotations

import asyncio
import io
import logging
import os
import sys
from collections.abc import Callable
from functools import partial

import httpx
import pytest

from apps.memory_app import blocks, resident
from socketless import IpcAsyncTransport, IpcProcess, IpcThread, IpcTransport
from socketless._host.worker import Worker

EXCHANGES = 100
SOAKED = int(os.environ.get("SOCKETLESS_SOAK_EXCHANGES", "200000"))
ONCE = 200  # blocks that may come and go, or come once, however many exchanges there are


def ask_blocking(worker: Worker) -> None:
    with httpx.Client(transport=IpcTransport(worker), base_url="http://testserver") as client:
        for number in range(EXCHANGES):
            if number % 10:
                assert client.post("/", content=iter([b"one", b"two"])).text == "a pieceanother"
            else:
                with pytest.raises(LookupError):
                    client.get("/boom")


def ask_async(worker: Worker) -> None:
    async def main() -> None:
        async with httpx.AsyncClient(transport=IpcAsyncTransport(worker), base_url="http://testserver") as client:
            for number in range(EXCHANGES):
                if number % 10:
                    assert (await client.get("/")).text == "a pieceanother"
                else:
                    with pytest.raises(LookupError):
                        await client.get("/boom")

    asyncio.run(main())


WORKERS: dict[str, Callable[..., Worker]] = {
    "spawn": IpcProcess,
    "fork": partial(IpcProcess, start_method="fork"),
    "thread": IpcThread,
}


@pytest.mark.parametrize("app", ["wsgi", "asgi"])
@pytest.mark.parametrize("kind", WORKERS)
def test_nothing_is_left(
    kind: str, app: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of hundreds of exchanges, not even one object for each stays."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(open("/dev/null", "wb")))
    caplog.set_level(logging.CRITICAL)
    counts = []
    with WORKERS[kind](f"apps.memory_app:{app}", lifespan=False) as worker:
        for _ in range(3):
            ask_blocking(worker)
            ask_async(worker)
            counts.append((blocks(), worker.run(blocks)))
    sys.stdout.close()
    (host, of_worker), (host_after, of_worker_after) = counts[1:]  # what is made once is there by then
    assert (host_after - host < EXCHANGES, of_worker_after - of_worker < EXCHANGES) == (True, True), counts


def exchange(worker: Worker, count: int) -> None:
    """Exchange messages as the clients do: of each thirty, one is streamed, and one is left."""
    with httpx.Client(transport=IpcTransport(worker), base_url="http://testserver") as client:
        for number in range(count):
            if number % 30 == 1:
                assert client.post("/", content=iter([b"one", b"two"])).text == "onetwo"
            elif number % 30 == 2:
                with client.stream("POST", "/", content=iter([b"one", b"two"])):
                    pass
            else:
                assert client.post("/", content=b"one").text == "one"


def sizes(worker: Worker) -> dict[str, float]:
    return {"host": blocks(), "worker": worker.run(blocks)}


@pytest.mark.parametrize("kind", WORKERS)
def test_nothing_is_left_of_thousands(kind: str) -> None:
    """Not one of ten exchanges leaves an object behind."""
    with WORKERS[kind]("apps.memory_app:quiet", max_connections=4) as worker:
        exchange(worker, ONCE)
        sizes(worker)  # the first call of a function makes what it needs
        before = sizes(worker)
        exchange(worker, ONCE * 10)
        after = sizes(worker)
    assert {side: after[side] - before[side] < ONCE for side in after} == {"host": True, "worker": True}, (
        before,
        after,
    )


@pytest.mark.soak
@pytest.mark.parametrize("kind", WORKERS)
def test_soak(kind: str) -> None:
    """Memory is flat in 200 000 exchanges, on both sides; the figures are printed."""
    with WORKERS[kind]("apps.memory_app:quiet", max_connections=4) as worker:
        exchange(worker, SOAKED // 20)
        sizes(worker)
        print(f"\n{kind:<10}{'exchanges':>12}{'host: blocks':>16}{'MiB':>8}{'worker: blocks':>18}{'MiB':>8}")
        figures = []
        for quarter in range(5):
            if quarter:
                exchange(worker, SOAKED // 4)
            figures.append([blocks(), resident(), worker.run(blocks), worker.run(resident)])
            host, host_size, of_worker, worker_size = figures[-1]
            done = quarter * SOAKED // 4
            print(f"{'':<10}{done:>12}{host:>16}{host_size:>8.1f}{of_worker:>18}{worker_size:>8.1f}", flush=True)
    grown = [after - before for before, after in zip(figures[0], figures[-1], strict=True)]
    assert (grown[0] < ONCE, grown[2] < ONCE) == (True, True), figures
    assert max(grown[1], grown[3]) < 8, figures
