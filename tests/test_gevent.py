"""Apps, and tests, whose threads gevent has made greenlets, all in one thread, which nothing of ours may block."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from projects import Project, header, where_refused
from socketless import IpcProcess, IpcTransport, errors
from support import LIMIT, nothing_leaks

pytest.importorskip("gevent", reason="httpbin wants an older greenlet before Python 3.12")

PATCHED = ("-m", "gevent.monkey", "--module", "pytest")
BIG = bytes(3_000_000)

WAYS: dict[str, dict[str, Any]] = {
    "spawn": {"start_method": "spawn"},
    "fork": {"start_method": "fork"},
    "eventlet": {"start_method": "spawn", "env": {"GREEN": "eventlet"}},
}
if find_spec("eventlet") is None:
    del WAYS["eventlet"]


@pytest.fixture(scope="module", params=WAYS)
def worker(request: pytest.FixtureRequest) -> Iterator[IpcProcess]:
    options = {"reset_hook": "apps.green_shop:reset", "startup_timeout": LIMIT, **WAYS[request.param]}
    with nothing_leaks(), IpcProcess("apps.green_shop:app", **options) as worker:
        yield worker
    assert "gevent.monkey" not in sys.modules  # what is tested here is not patched


@pytest.fixture
def client(worker: IpcProcess) -> Iterator[httpx.Client]:
    with httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=LIMIT) as client:
        yield client


def test_app(client: httpx.Client, capfd: pytest.CaptureFixture[str]) -> None:
    """An app that is patched while it is imported answers; what it prints and raises is seen."""
    assert client.get("/").text == "hello"
    assert capfd.readouterr().out == "printed\n"
    with pytest.raises(LookupError, match="boom") as caught:
        client.get("/boom")
    assert 'raise LookupError("boom")' in "".join(traceback.format_exception(caught.value))


def test_app_at_once(client: httpx.Client) -> None:
    """Its greenlets run side by side: one request waits for another, and for the rest of a stream."""
    with ThreadPoolExecutor(3) as pool, client.stream("GET", "/stream") as response:
        assert [each.text for each in pool.map(client.get, ["/meet", "/meet"])] == ["met", "met"]
        assert sum(map(len, response.iter_bytes())) == 500_000


def test_app_uploads(client: httpx.Client) -> None:
    """A body arrives, whole or in pieces."""
    assert client.post("/echo", content=BIG).content == BIG
    assert client.post("/echo", content=iter([BIG, BIG])).content == BIG + BIG


def test_app_timeout(client: httpx.Client) -> None:
    """A read timeout says where the greenlet is; the next request is answered."""
    with pytest.raises(httpx.ReadTimeout) as caught:
        client.get("/stuck", timeout=0.3)
    [note] = caught.value.__notes__ if sys.version_info >= (3, 11) else [str(caught.value)]
    assert "threading.Event().wait()" in note
    assert client.get("/").text == "hello"


def test_app_worker(worker: IpcProcess, client: httpx.Client) -> None:
    """Functions run in it, in a greenlet of a channel; it is reset, and started again after its death."""
    assert worker.run(eval, "__import__('threading').current_thread().name").startswith("socketless-channel-")
    assert client.post("/items").json() == ["tea"]
    worker.reset()
    assert client.post("/items").json() == ["tea"]
    with pytest.raises(errors.WorkerDied, match="exited with code 3"):
        worker.run(os._exit, 3)
    assert client.get("/").text == "hello"


@pytest.mark.parametrize("start_method", ["spawn", "fork"])
def test_asgi(start_method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An ASGI app cannot be patched so; the error says what to do, and that helps."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, arguments in (("green", ""), ("half_green", "thread=False")):
        text = f"from gevent import monkey\n\nmonkey.patch_all({arguments})\nfrom apps.fastapi_app import app\n"
        (tmp_path / f"{name}.py").write_text(text)
    with pytest.raises(errors.WorkerStartError, match=r"ASGI .* gevent .* monkey\.patch_all\(thread=False\)"):
        IpcProcess("green:app", start_method=start_method)
    with IpcProcess("half_green:app", start_method=start_method) as worker:
        with httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=LIMIT) as client:
            assert client.get("/openapi.json").status_code == 200


TESTS = """
    import os

    import gevent
    import httpx
    import pytest
    import requests
    from flask import Flask, request

    from socketless import IpcProcess, IpcThread, IpcTransport, errors, switch_to_ipc_connection
    from socketless.testclient import TestClient

    BIG = bytes(3_000_000)
    app = Flask(__name__)
    turns = []
    freed = []


    @app.get("/")
    def hello():
        return "hello"


    @app.get("/wait")
    def wait():
        turns.append(1)
        while len(turns) < 2:
            gevent.sleep(0.001)
        return "both"


    @app.post("/echo")
    def echo():
        return request.stream.read()


    @app.get("/stream")
    def stream():
        return (bytes(100_000) for _ in range(5))


    @app.get("/stuck")
    def stuck():
        while not freed:
            gevent.sleep(0.01)
        return "free"


    def reset():
        turns.clear()
        freed.append(1)  # or the end of the threads would be waited for


    WAYS = {
        "spawn": (IpcProcess, {"start_method": "spawn"}),
        "fork": (IpcProcess, {"start_method": "fork"}),
        "thread": (IpcThread, {}),
    }


    @pytest.fixture(scope="module", params=WAYS)
    def worker(request):
        kind, options = WAYS[request.param]
        with kind("test_green:app", reset_hook=reset, **options) as worker:
            yield worker


    def test_transport(worker):
        with httpx.Client(transport=IpcTransport(worker), base_url="http://testserver") as client:
            assert client.get("/").text == "hello"
            assert client.post("/echo", content=iter([BIG, BIG])).content == BIG + BIG
            with client.stream("GET", "/stream") as response:
                assert client.get("/").text == "hello"
                assert sum(map(len, response.iter_bytes())) == 500_000
            with pytest.raises(httpx.ReadTimeout):
                client.get("/stuck", timeout=0.3)


    def test_switch(worker):
        worker.reset()
        with switch_to_ipc_connection(worker):
            both = [gevent.spawn(httpx.get, "/wait"), gevent.spawn(requests.get, "http://testserver/wait")]
            gevent.joinall(both, raise_error=True)
            assert [greenlet.value.text for greenlet in both] == ["both", "both"]


    def test_test_client(worker):
        with TestClient(worker) as client:
            assert client.get("/").text == "hello"
        with TestClient(app) as client:
            assert client.get("/").text == "hello"


    def test_run(worker):
        assert worker.run(str.upper, "tea") == "TEA"
        if isinstance(worker, IpcProcess):
            with pytest.raises(errors.WorkerDied):
                worker.run(exec, "import os; os._exit(3)")
            assert worker.run(str.upper, "tea") == "TEA"


    @pytest.mark.parametrize("start_method", ["spawn", "fork"])
    def test_two(start_method):
        options = {"start_method": start_method}
        with IpcProcess("test_green:app", **options) as first, IpcProcess("test_green:app", **options) as second:
            pids = [first.pid, second.pid]
            gevent.sleep(0.1)  # in which a forked child could take up what its parent's greenlets were at
            assert [first.run(os.getpid), second.run(os.getpid)] == [first.pid, second.pid] == pids
"""


def test_patched_tests(project: Project) -> None:
    """Tests that gevent has patched reach workers of any kind, one or several at once, by any client."""
    project.write("test_green.py", TESTS)
    seen = project.run(command=PATCHED)
    assert (seen.end, seen.exit_code) == ("14 passed", 0), seen.text
    assert "Traceback" not in seen.text


@where_refused
def test_patched_rescue(project: Project, profile: str) -> None:
    """The plugin rescues loops of such tests, and leaves alone the sockets, which gevent has replaced."""
    project.write(
        "test_loop.py",
        """
        import asyncio


        def test():
            assert asyncio.run(asyncio.to_thread(str.upper, "tea")) == "TEA"
        """,
    )
    seen = project.run(command=PATCHED, profile=profile)
    assert (seen.header, seen.end) == ([line for line in header(profile) if "virtual" not in line], "1 passed"), (
        seen.text
    )
