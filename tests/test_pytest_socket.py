"""pytest-socket and its like put what raises in the place of `socket.socket`: then event loops wake by a pipe."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import trio

from projects import MORE, Project
from socketless import eventloop
from support import sockets_are_refused

PROJECT = {
    "conftest.py": """
        import pytest_socket


        def pytest_runtest_setup(item):
            if "conftest" in item.name:
                pytest_socket.disable_socket()
    """,
    "test_blocked.py": """
        import asyncio
        import socket

        import httpx
        import pytest
        import requests
        import trio
        from fastapi.testclient import TestClient
        from shop import app

        from socketless import IpcProcess, IpcThread, switch_to_ipc_connection
        from socketless.testclient import TestClient as TestClientOfWorker


        @pytest.mark.enable_socket
        def test_not_blocked():
            loop = asyncio.new_event_loop()
            assert isinstance(loop._ssock, socket.socket)
            loop.close()


        def nothing_is_missing():
            assert socket.socket.__module__ == "pytest_socket"  # it is blocked
            assert asyncio.run(asyncio.to_thread(str.upper, "tea")) == "TEA"
            assert trio.run(trio.to_thread.run_sync, str.upper, "tea") == "TEA"
            with TestClient(app) as client:
                assert client.get("/items").json() == []


        @pytest.mark.option
        def test_option():
            nothing_is_missing()


        @pytest.mark.option
        @pytest.mark.parametrize("kind", [IpcProcess, IpcThread])
        def test_workers(kind):
            with kind("shop:app") as worker:
                assert TestClientOfWorker(worker).get("/items").json() == []
                with switch_to_ipc_connection(worker):
                    assert requests.get("http://testserver/items").json() == httpx.get("/items").json() == []


        def test_fixture(socket_disabled):
            nothing_is_missing()


        @pytest.mark.disable_socket
        def test_marker():
            nothing_is_missing()


        def test_disabled_by_conftest():
            nothing_is_missing()
    """,
    "pytest.ini": """
        [pytest]
        filterwarnings = error
        markers = option
    """,
}
HEADER = "socketless: event loops wake by a pipe (pytest --disable-socket)"


@pytest.fixture
def blocked(project: Project) -> Project:
    for name, text in PROJECT.items():
        project.write(name, text)
    return project


@pytest.mark.parametrize("order", [1, -1])
def test_option(blocked: Project, order: int) -> None:
    """Under `--disable-socket`, loops, workers and the switch work, whichever plugin is first; the header says so."""
    blocked.loading = [word for name in ("socketless", "pytest_socket")[::order] for word in ("-p", name)]
    seen = blocked.run("--disable-socket", profile="none")
    assert (seen.header, seen.end) == ([HEADER, MORE], "7 passed"), seen.text


def test_without_the_option(blocked: Project) -> None:
    """A fixture, a marker and a call in a conftest.py block sockets for a test; other loops keep their sockets."""
    seen = blocked.run("-p", "pytest_socket", "-m", "not option", profile="none")
    assert (seen.header, seen.end) == ([], "4 passed, 3 deselected"), seen.text


def test_before_everything(blocked: Project) -> None:
    """A plugin that blocks sockets while it is imported does the same as a sandbox."""
    blocked.write("early.py", "import pytest_socket\n\npytest_socket.disable_socket()\n")
    blocked.loading = ["-p", "pytest_socket", "-p", "early", "-p", "socketless"]
    seen = blocked.run("-k", "fixture", profile="none", PYTHONPATH=str(blocked.folder))
    refusal = "this sandbox refuses socketpair(): A test tried to use socket.socket."
    assert seen.header == [f"socketless: event loops wake by a pipe ({refusal})", MORE], seen.text
    assert seen.end == "1 passed, 6 deselected"


@pytest.fixture
def when_blocked() -> Iterator[None]:
    before = eventloop.wake_by_pipe("never")
    eventloop.wake_by_pipe("blocked")
    yield
    eventloop.wake_by_pipe(before)


def refuse(*args: Any, **options: Any) -> Any:
    raise RuntimeError("no network in tests!")


@pytest.mark.usefixtures("when_blocked")
@pytest.mark.parametrize("name", ["socket", "socketpair"])
def test_home_made(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever it is that a test puts in that place: no attempt is made with it, which could lose a descriptor."""
    monkeypatch.setattr(socket, name, refuse)
    assert asyncio.run(asyncio.to_thread(str.upper, "tea")) == "TEA"
    assert trio.run(trio.to_thread.run_sync, str.upper, "tea") == "TEA"


@pytest.mark.usefixtures("when_blocked")
@pytest.mark.skipif(sockets_are_refused(), reason="asks for asyncio's own socketpair")
def test_not_blocked() -> None:
    """Where nobody is in the way, loops have their sockets."""
    loop: Any = asyncio.new_event_loop()
    assert isinstance(loop._ssock, socket.socket)
    loop.close()
