"""Runs `tests/conformance.py` for each client over each kind of worker."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import conformance
from clients import CLIENTS, Client
from socketless import IpcProcess
from support import needs_trio

APPS = ("wsgi", "asgi", "outer")


@pytest.fixture(scope="module", params=["spawn", "fork"])
def start_method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=APPS)
def worker(request: pytest.FixtureRequest, start_method: str) -> Iterator[IpcProcess]:
    with IpcProcess(f"apps.conformance_app:{request.param}", start_method=start_method) as process:
        yield process


@pytest.mark.parametrize("function", conformance.names())
@pytest.mark.parametrize("name", [pytest.param(name, marks=needs_trio if "trio" in name else ()) for name in CLIENTS])
def test_conformance(function: Callable[[Client], None], name: str, worker: IpcProcess) -> None:
    """A client sees of a worker what `conformance` says."""
    function(CLIENTS[name](worker))
