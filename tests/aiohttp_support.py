"""What the tests of `socketless.aiohttp` share: the ways in which an app can be there, and a session for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import pytest

from apps import aiohttp_app
from socketless import IpcProcess, IpcThread
from socketless.aiohttp import ASGIApplicationConnector
from support import LIMIT, nothing_leaks

WAYS = ("app", "thread", "process")
EACH_WAY = pytest.mark.parametrize("way", WAYS)

Test = Callable[[aiohttp.ClientSession], Coroutine[Any, Any, None]]


def application(way: str) -> Any:
    """Return what the connector gets: the app itself, or a worker."""
    if way == "app":
        return aiohttp_app.app
    if way == "thread":
        return IpcThread(aiohttp_app.app)
    # One that is spawned has to import FastAPI first, which takes longer than most of the tests.
    return IpcProcess("apps.aiohttp_app:app", start_method="fork")


@asynccontextmanager
async def session_for(
    way: str, timeout: aiohttp.ClientTimeout | None = None, **options: Any
) -> AsyncIterator[aiohttp.ClientSession]:
    """A session whose connector goes to the app; `options` are the connector's."""
    what = application(way)
    try:
        async with ASGIApplicationConnector(what, **options) as connector:
            timeout = timeout or aiohttp.ClientTimeout(total=LIMIT)
            async with aiohttp.ClientSession("http://testserver", connector=connector, timeout=timeout) as session:
                yield session
    finally:
        if way != "app":
            what.close()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run a test on a loop of its own. It leaves no task, thread, descriptor or process."""

    async def checked() -> None:
        await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    aiohttp_app.notes.clear()
    aiohttp_app.calls.clear()
    with nothing_leaks():
        asyncio.run(checked())


def run_with(way: str, test: Test, **options: Any) -> None:
    """Run a test that gets a session."""

    async def main() -> None:
        context: AbstractAsyncContextManager[aiohttp.ClientSession] = session_for(way, **options)
        async with context as session:
            await test(session)

    run(main)


async def note(session: aiohttp.ClientSession, name: str) -> str:
    """Wait for a note of the app, and return it."""
    async with session.get(f"/note/{name}") as response:
        text: str = await response.json()
        return text


async def say(session: aiohttp.ClientSession, name: str) -> None:
    async with session.post(f"/note/{name}") as response:
        await response.read()


async def hello(session: aiohttp.ClientSession) -> Any:
    """Make a request that is answered at once, and return what the app has seen."""
    async with session.get("/hello") as response:
        assert response.status == 200
        return await response.json()
