"""Exchanges leave nothing behind, in the host or in the worker: what Python has allocated is counted."""

from __future__ import annotations

import asyncio
import gc
import io
import logging
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import httpx
import pytest

from socketless import IpcAsyncTransport, IpcProcess, IpcThread, IpcTransport
from socketless.host.worker import Worker

EXCHANGES = 100


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    print("printed")
    logging.getLogger("app").warning("logged")
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/boom":
        raise LookupError
    return [b"a piece", b"another"]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    print("printed")
    if scope["type"] != "http" or scope["path"] == "/boom":
        raise LookupError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a piece", "more_body": True})
    await send({"type": "http.response.body", "body": b"another"})


def blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


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
    with WORKERS[kind](f"{__name__}:{app}", lifespan=False) as worker:
        for _ in range(3):
            ask_blocking(worker)
            ask_async(worker)
            counts.append((blocks(), worker.run(blocks)))
    sys.stdout.close()
    (host, of_worker), (host_after, of_worker_after) = counts[1:]  # what is made once is there by then
    assert (host_after - host < EXCHANGES, of_worker_after - of_worker < EXCHANGES) == (True, True), counts
