"""`tox -e validate`: that it sees what it is for, in threads, in processes, and in the loop of a session of aiohttp."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

VALIDATING = Path(__file__).parent / "validating"
TEST = """
import asyncio
import aiohttp
import pytest
from socketless import IpcProcess, IpcThread
from socketless.aiohttp import ASGIApplicationConnector
from socketless.testclient import TestClient


def wsgi(environ, start_response):
    start_response("200 OK", [("Status", "200 OK")])
    return [b"as CGI has it"]


async def asgi(scope, receive, send):
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.parametrize("kind", [IpcThread, IpcProcess])
def test_wsgi(kind):
    with kind("test_it:wsgi") as worker, pytest.raises(AssertionError):
        TestClient(worker).get("/")


def test_asgi():
    with IpcThread(asgi, lifespan=False) as worker, pytest.raises(AssertionError):
        TestClient(worker).get("/")


def test_in_loop():
    async def main():
        async with aiohttp.ClientSession(connector=ASGIApplicationConnector(asgi)) as session:
            with pytest.raises(AssertionError):
                await session.get("http://testserver/")

    asyncio.run(main())
"""


OURS = """
from socketless._worker.asgi_http import HttpCall

scope = HttpCall._scope
HttpCall._scope = lambda self: {**scope(self), "path": b"/"}
"""


def test_validating(tmp_path: Path) -> None:
    """What is wrong, of an app or of socketless, fails the run, even if the tests pass."""
    (tmp_path / "test_it.py").write_text(TEST)
    (tmp_path / "conftest.py").write_text(OURS)
    paths = os.pathsep.join([str(VALIDATING), str(tmp_path)])
    environ = {**os.environ, "PYTHONPATH": paths, "SOCKETLESS_VALIDATED": str(tmp_path / "broken")}
    command = [sys.executable, "-m", "pytest", "-p", "validated", "-p", "no:cacheprovider", "-q"]
    ran = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, check=False)
    assert "4 passed" in ran.stdout, ran.stdout
    assert ran.returncode == 1
    assert "broken 2 times: ASGI: path is str, not b'/'" in ran.stdout
    assert "broken 2 times: WSGI: The Status header" in ran.stdout
