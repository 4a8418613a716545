"""ASGI apps that know no lifespan, and how they say so: each is served, as by every server."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
import pytest

from apps.without_lifespan import (
    OfVersion2,
    answer,
    answers_before_it_is_asked,
    answers_with_an_error_page,
    raises_at_once,
    reads_its_body_first,
    returns,
    sends_no_type,
    sends_nonsense,
    swallows,
)
from socketless import IpcProcess, IpcThread, IpcTransport, switch_to_ipc_connection
from socketless.aiohttp import ASGIApplicationConnector
from socketless.errors import WorkerStartError

APPS = [
    answer,
    raises_at_once,
    reads_its_body_first,
    answers_with_an_error_page,
    swallows,
    sends_nonsense,
    sends_no_type,
    returns,
    answers_before_it_is_asked,
    OfVersion2,
]


def _by_a_worker(worker: IpcProcess | IpcThread) -> str:
    with worker, httpx.Client(transport=IpcTransport(worker), base_url="http://testserver") as client:
        return client.get("/").text


def _by_the_switch(app: Any) -> str:
    with switch_to_ipc_connection(f"apps.without_lifespan:{app.__name__}"):
        return httpx.get("http://testserver/").text


def _by_aiohttp(app: Any) -> str:
    async def ask() -> str:
        async with (
            ASGIApplicationConnector(app) as connector,
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://testserver/") as response,
        ):
            return await response.text()

    return asyncio.run(ask())


WAYS: dict[str, Callable[[Any], str]] = {
    "threads": lambda app: _by_a_worker(IpcThread(app)),
    "threads, trio": lambda app: _by_a_worker(IpcThread(app, backend="trio")),
    "forked": lambda app: _by_a_worker(IpcProcess(app, start_method="fork")),
    "switch": _by_the_switch,
    "aiohttp": _by_aiohttp,
}


@pytest.mark.one_in(2, "way", "app")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("app", APPS)
def test_apps_without_a_lifespan(app: Any, way: str) -> None:
    """An app that raises at the lifespan, answers nonsense or returns, however late, is served without one."""
    assert WAYS[way](app) == "kettle"


@pytest.mark.parametrize("app", [answer, raises_at_once, reads_its_body_first, OfVersion2])
def test_required_lifespan(app: Any) -> None:
    """With lifespan="on", an app that raises there cannot start, and what it raised is the cause."""
    with pytest.raises(WorkerStartError, match="^the worker could not start: the app's lifespan raised ") as caught:
        IpcThread(app, lifespan="on")
    assert caught.value.__cause__ is not None


def test_log_of_a_lifespan_that_raised(caplog: pytest.LogCaptureFixture) -> None:
    """What the app has raised at its lifespan is in the log at level INFO, as servers have it."""
    with caplog.at_level(logging.INFO, "socketless"), IpcProcess("apps.without_lifespan:raises_at_once"):
        pass
    (record,) = [record for record in caplog.records if record.name == "socketless"]
    assert record.message == "the ASGI app raised at its lifespan, so it goes on without"
    assert "NotImplementedError: lifespan" in caplog.text
