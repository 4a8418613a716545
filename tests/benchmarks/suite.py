"""Tests for a whole run of pytest, whose requests go the way that the environment variable `SUITE` names."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import httpx
import pytest

APP, BASE_URL = "app_fastapi:app", "http://testserver"
TESTS, REQUESTS = 300, 2
NEW_CLIENT, KEPT_CLIENT, TEST_CLIENT = (
    "socketless, httpx.get()",
    "socketless, a fixture's client",
    "starlette TestClient",
)

Get = Callable[[str], Any]


@contextmanager
def _switch() -> Iterator[Get]:
    from socketless import switch_to_ipc_connection

    with switch_to_ipc_connection(APP):
        yield httpx.get


@contextmanager
def _client() -> Iterator[Get]:
    from socketless import IpcProcess, IpcTransport

    with IpcProcess(APP) as worker, httpx.Client(transport=IpcTransport(worker), base_url=BASE_URL) as client:
        yield client.get


@contextmanager
def _test_client(module: str) -> Iterator[Get]:
    with import_module(module).TestClient(import_module("app_fastapi").app) as client:
        yield client.get


@contextmanager
def _baseline() -> Iterator[Get]:
    switch_back = import_module("socketless_http").switch_to_ipc_connection(APP, startup_timeout=30)
    try:
        yield lambda path: httpx.Client().get(path)  # its switch does not know of httpx.get()
    finally:
        switch_back()


@contextmanager
def _nobody() -> Iterator[Get]:
    yield lambda path: httpx.Response(200, json={"hello": "world"})


WAYS: dict[str, Callable[[], Any]] = {
    NEW_CLIENT: _switch,
    KEPT_CLIENT: _client,
    "socketless TestClient": lambda: _test_client("socketless.testclient"),
    TEST_CLIENT: lambda: _test_client("starlette.testclient"),
    "socketless-http": _baseline,
    "no requests": _nobody,
}


@pytest.fixture(scope="session")
def get() -> Iterator[Get]:
    with WAYS[os.environ["SUITE"]]() as get:
        yield get


@pytest.mark.parametrize("number", range(TESTS))
def test_requests(get: Get, number: int) -> None:
    """Each of the requests is answered."""
    for _ in range(REQUESTS):
        response = get("/")
        assert (response.status_code, response.json()) == (200, {"hello": "world"})
