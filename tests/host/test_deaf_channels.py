"""A channel of which the host learns that it has ended, and the worker does not: whoever is at work with it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import trio
import trio.testing

from apps.deaf_app import asgi, let_end, may_end, told, was_told, wsgi
from socketless import IpcProcess, IpcThread
from socketless._host.exchange import Exchange
from socketless._host.limits import NO_LIMITS
from socketless._host.worker import Worker
from socketless._wire.drivers import run_async, run_blocking
from socketless._wire.messages import Event, Request
from socketless.errors import ChannelClosed
from support import LIMIT, nothing_leaks

KINDS: dict[str, Callable[..., Worker]] = {
    "spawn": partial(IpcProcess, "apps.deaf_app:asgi"),
    "fork": partial(IpcProcess, "apps.deaf_app:asgi", start_method="fork"),
    "trio": partial(IpcProcess, "apps.deaf_app:asgi", backend="trio"),
    "thread": partial(IpcThread, asgi),
}
KINDS_OF_WSGI: dict[str, Callable[..., Worker]] = {
    "spawn": partial(IpcProcess, "apps.deaf_app:wsgi"),
    "fork": partial(IpcProcess, "apps.deaf_app:wsgi", start_method="fork"),
    "thread": partial(IpcThread, wsgi),
}
MESSAGE = Event({"type": "websocket.receive", "text": "anything"})


def deaf_exchange(worker: Worker) -> Exchange:
    """Return a WebSocket whose channel is deaf."""
    session = worker.websocket_connect("/").__enter__()
    assert session.receive_text() == "deaf"
    assert session._exchange is not None
    return session._exchange


def in_threads(exchange: Exchange) -> list[str]:
    """Receive, send meanwhile, and return what both get."""
    with ThreadPoolExecutor(1) as threads:
        receiving = threads.submit(run_blocking, exchange.receive())
        while exchange._directions._reader is None:
            pass
        with pytest.raises(ChannelClosed) as sender:
            run_blocking(exchange.send(MESSAGE))
        with pytest.raises(ChannelClosed) as receiver:
            receiving.result(LIMIT)
    return [str(sender.value), str(receiver.value)]


def in_tasks_of_asyncio(exchange: Exchange) -> list[str]:
    """The same in two tasks."""

    async def main() -> list[str]:
        receiving = asyncio.create_task(run_async(exchange.receive()))
        await asyncio.sleep(0)
        with pytest.raises(ChannelClosed) as sender:
            await run_async(exchange.send(MESSAGE))
        with pytest.raises(ChannelClosed) as receiver:
            await asyncio.wait_for(receiving, LIMIT)
        return [str(sender.value), str(receiver.value)]

    return asyncio.run(main())


def in_tasks_of_trio(exchange: Exchange) -> list[str]:
    """The same on trio."""
    said = []

    async def receive() -> None:
        with pytest.raises(ChannelClosed) as receiver, trio.fail_after(LIMIT):
            await run_async(exchange.receive())
        said.append(str(receiver.value))

    async def main() -> list[str]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(ChannelClosed) as sender:
                await run_async(exchange.send(MESSAGE))
        return [str(sender.value), *said]

    return trio.run(main)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("talk", [in_threads, in_tasks_of_asyncio, in_tasks_of_trio])
def test_receiving_when_sending_finds_it_ended(talk: Callable[[Exchange], list[str]], kind: str) -> None:
    """Who sends is told, and so is who receives, and the app; the worker goes on."""
    told.clear()
    with nothing_leaks(), KINDS[kind](max_connections=2, lifespan=False) as worker:
        pid = getattr(worker, "pid", None)
        said = talk(deaf_exchange(worker))
        whose = "the worker" if pid is None else f"the worker (pid {pid})"
        lost = f"WebSocket /: {whose} closed the channel of this request, but still runs"
        assert said == [f"{lost}: [Errno 32] Broken pipe", lost]
        assert worker.run(was_told)
        assert getattr(worker, "pid", None) == pid


@pytest.mark.parametrize("kind", KINDS_OF_WSGI)
def test_receiving_when_leaving_finds_it_ended(kind: str) -> None:
    """Who receives a response that another thread has cancelled is told, though the app does not hear of it."""
    may_end.clear()
    request = Request("GET", "http", ("testserver", 80), b"/", [])
    with (
        nothing_leaks(),
        KINDS_OF_WSGI[kind](max_connections=2, app_kind="wsgi") as worker,
        ThreadPoolExecutor(1) as threads,
    ):
        exchange = worker.exchange_blocking(request, NO_LIMITS)
        receiving = threads.submit(run_blocking, exchange.receive())
        while exchange._directions._reader is None:
            pass
        exchange.cancel()
        with pytest.raises(ChannelClosed):
            receiving.result(LIMIT)
        worker.run(let_end)
