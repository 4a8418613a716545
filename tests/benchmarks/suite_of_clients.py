"""300 tests with a client each, for a whole run of pytest; the environment variable `SUITE` names its class."""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

import pytest
from app_fastapi import app

OURS, STARLETTES, FLOOR = "socketless TestClient", "starlette TestClient", "floor: no clients"
MODULES = {OURS: "socketless.testclient", STARLETTES: "starlette.testclient", FLOOR: "starlette.testclient"}


@pytest.fixture(scope="session")
def client_class() -> Any:
    return import_module(MODULES[os.environ["SUITE"]]).TestClient


@pytest.mark.parametrize("number", range(300))
def test_client(client_class: Any, number: int) -> None:
    """It starts the app, and gets an answer."""
    if os.environ["SUITE"] == FLOOR:
        return
    with client_class(app) as client:
        assert client.get("/").json() == {"hello": "world"}
