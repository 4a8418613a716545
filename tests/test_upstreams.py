"""What apps in worker processes ask others for: it goes to the apps of the switch, as it does for apps on threads."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from asking import WAYS, WEBSOCKETS
from flask import Flask, Response, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from socketless import IpcProcess, IpcProcesses, IpcThread, IpcTransport, switch_to_ipc_connection
from socketless._host.outside import OutsideWorker
from socketless._host.upstreams import GREETING, Upstreams
from socketless._wire import messages as wire
from socketless._wire.drivers import deadline_after, poll, run_blocking
from socketless._wire.fifos import offered_channel, open_offered
from socketless._wire.steps import Wait, Woken
from socketless.errors import ClientDisconnected, UnknownHost, WorkerStartError
from socketless.fakes import FakeApp
from socketless.switch import active_switch
from support import LIMIT, nothing_leaks

HERE = __name__

flask_app = Flask(__name__)
flask_app.testing = True  # lets exceptions through
left: list[str] = []


@flask_app.get("/down/<int:steps>")
def down(steps: int) -> Any:
    """Return who was asked: this, and what the other says that is asked."""
    others = httpx.get(f"http://starlette.test/down/{steps - 1}", timeout=LIMIT).json() if steps else []
    return [os.getpid(), *others]


@flask_app.get("/ask")
def ask() -> str:
    """Ask somebody by a client library."""
    return WAYS[request.args["way"]](request.args["url"])


@flask_app.get("/stream")
def stream() -> Any:
    """Stream, until the client leaves."""

    def lines() -> Iterator[str]:
        try:
            for number in itertools.count():
                yield f"{number}\n"
        finally:
            left.append("flask")

    return Response(lines())


@flask_app.post("/size")
def size() -> Any:
    """Return how large the body is."""
    return str(len(request.get_data()))


@flask_app.get("/raise")
def fail() -> Any:
    """Raise."""
    raise LookupError("in Flask")


class OnlyInWorkers(Exception):
    """What the tests' own process cannot rebuild."""

    def __reduce__(self) -> Any:
        return rebuild, ()


TESTS_PID = os.getpid()


def rebuild() -> OnlyInWorkers:
    """Do so, in any other process."""
    if os.getpid() == TESTS_PID:
        raise ImportError
    return OnlyInWorkers()


@flask_app.get("/raise/only-in-workers")
def fail_far() -> Any:
    """Raise that."""
    raise OnlyInWorkers


@flask_app.get("/caught")
def caught() -> str:
    """Return what kind of exception the other app has raised."""
    try:
        return httpx.get("http://other.test/raise/only-in-workers", timeout=LIMIT).text
    except Exception as error:
        return type(error).__name__


async def starlette_down(request: Request) -> Any:
    """Do as Flask's does."""
    steps = request.path_params["steps"]
    async with httpx.AsyncClient(timeout=LIMIT) as client:
        others = (await client.get(f"https://flask.test/down/{steps - 1}")).json() if steps else []
    return JSONResponse([os.getpid(), *others])


async def starlette_stream(request: Request) -> Any:
    """Pass on what the other streams."""

    async def lines() -> Any:
        async with httpx.AsyncClient() as client, client.stream("GET", "http://flask.test/stream") as response:
            async for piece in response.aiter_raw():
                yield piece

    return StreamingResponse(lines())


async def starlette_pass(request: Request) -> Any:
    """Pass on what was asked, its body piece by piece."""
    async with httpx.AsyncClient(timeout=LIMIT) as client:
        url = f"http://flask.test/{request.path_params['path']}"
        response = await client.request(request.method, url, content=request.stream())
    return PlainTextResponse(response.text, response.status_code)


starlette_app = Starlette(
    routes=[
        Route("/down/{steps:int}", starlette_down),
        Route("/stream", starlette_stream),
        Route("/pass/{path:path}", starlette_pass, methods=["GET", "POST"]),
    ]
)

fake = FakeApp(lambda request: httpx.Response(200, text=request.url.host))

FLASK, STARLETTE = f"{HERE}:flask_app", f"{HERE}:starlette_app"
PLACES: dict[str, tuple[Callable[[], Any], Callable[[], Any]]] = {
    "processes": (
        lambda: IpcProcess(FLASK, start_method="fork"),
        lambda: IpcProcess(STARLETTE, start_method="fork"),
    ),
    "thread, process": (lambda: IpcThread(flask_app), lambda: IpcProcess(STARLETTE, start_method="fork")),
    "process, thread": (lambda: IpcProcess(FLASK, start_method="fork"), lambda: IpcThread(starlette_app)),
    "threads": (lambda: IpcThread(flask_app), lambda: IpcThread(starlette_app)),
}


@pytest.fixture(params=PLACES)
def switched(request: Any) -> Iterator[Any]:
    left.clear()
    make_flask, make_starlette = PLACES[request.param]
    with nothing_leaks(), make_flask() as of_flask, make_starlette() as of_starlette:
        apps = {"flask.test": of_flask, "starlette.test": of_starlette}
        with switch_to_ipc_connection(apps, others="refuse") as switch:
            yield switch


def test_there_and_back(switched: Any) -> None:
    """An app asks another, which asks the first, and so on: no request blocks another."""
    found = httpx.get("http://starlette.test/down/6", timeout=LIMIT).json()
    pids = [getattr(switched.workers[f"{name}.test"], "pid", os.getpid()) for name in ("starlette", "flask")]
    assert found == [*pids, *pids, *pids, pids[0]]


def test_streams(switched: Any) -> None:
    """A streamed response comes through, however long it is; when the client leaves, both apps are told."""
    with httpx.stream("GET", "http://starlette.test/stream", timeout=LIMIT) as response:
        lines = response.iter_lines()
        assert [next(lines) for _ in range(3)] == ["0", "1", "2"]
    deadline = time.monotonic() + LIMIT
    while not (found := switched.workers["flask.test"].run(lambda: left)) and time.monotonic() < deadline:
        # An async generator that was dropped has left its response when its worker has something to do again.
        assert httpx.get("http://starlette.test/down/1", timeout=LIMIT).status_code == 200
    assert found == ["flask"]


def test_streamed_request(switched: Any) -> None:
    """So does a streamed request."""
    pieces = (b"x" * 100_000 for _ in range(20))
    assert httpx.post("http://starlette.test/pass/size", content=pieces, timeout=LIMIT).text == "2000000"


def test_exceptions(switched: Any) -> None:
    """What the other app raises is raised where it was asked, and so in the test."""
    with pytest.raises(LookupError, match="in Flask"):
        httpx.get("http://starlette.test/pass/raise", timeout=LIMIT)
    with pytest.raises(UnknownHost, match=r"no app has the host nowhere\.test:80"):
        httpx.get("http://flask.test/ask?way=httpx&url=http://nowhere.test/", timeout=LIMIT)
    assert httpx.get("http://flask.test/down/1", timeout=LIMIT).status_code == 200


def test_exception_that_only_workers_can_rebuild() -> None:
    """What one worker raises arrives in another as it is, whether or not the process in between knows its class."""
    fork = partial(IpcProcess, FLASK, start_method="fork")
    with (
        nothing_leaks(),
        fork() as of_flask,
        fork() as other,
        switch_to_ipc_connection({"flask.test": of_flask, "other.test": other}),
    ):
        assert httpx.get("http://flask.test/caught", timeout=LIMIT).text == "OnlyInWorkers"


def test_every_library() -> None:
    """Every client library in a process reaches the apps of the switch, here a fake in the tests' own process."""
    fake.requests.clear()
    apps: Any = {"flask.test": IpcProcess(FLASK, start_method="fork"), "fake.test": fake}
    with nothing_leaks(), apps["flask.test"], switch_to_ipc_connection(apps, others="refuse"):
        urls = {way: f"http://flask.test/ask?way={quote(way)}&url=https://fake.test/" for way in WAYS}
        assert {way: httpx.get(url, timeout=LIMIT).text for way, url in urls.items()} == dict.fromkeys(
            WAYS, "fake.test"
        )
    assert len(fake.requests) == len(WAYS)


def connect_by_test_client() -> None:
    """Open a WebSocket by Starlette's client, which the switch takes."""
    with TestClient(starlette_app).websocket_connect("ws://starlette.test/"):
        pass


def test_websockets_are_refused() -> None:
    """A WebSocket out of an app in a process is refused, in words that say so."""
    flask = IpcProcess(FLASK, start_method="fork")
    with (
        nothing_leaks(),
        flask as of_flask,
        IpcThread(starlette_app) as of_starlette,
        switch_to_ipc_connection({"flask.test": of_flask, "starlette.test": of_starlette}),
    ):
        for way in WEBSOCKETS:
            with pytest.raises(ConnectionRefusedError, match="a WebSocket out of an app in a worker process is not"):
                of_flask.run(WEBSOCKETS[way], "ws://starlette.test/")
        with pytest.raises(UnknownHost, match="a WebSocket out of an app in a worker process is not"):
            of_flask.run(connect_by_test_client)


def test_large_fake_answers_and_errors() -> None:
    """Large bodies cross; an assertion of a fake fails the test; what cannot be pickled arrives as its text."""

    class Local(Exception):
        def __reduce__(self) -> Any:
            raise TypeError("no")

    def handler(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            raise Local("cannot cross")
        assert request.url.path != "/raise", "nobody shall ask this"
        return httpx.Response(200, text="x" * 3_000_000)

    starlette = IpcProcess(STARLETTE, start_method="fork")
    with nothing_leaks(), starlette, switch_to_ipc_connection({"a.test": starlette, "flask.test": FakeApp(handler)}):
        assert len(httpx.get("http://a.test/pass/large", timeout=LIMIT).text) == 3_000_000
        with pytest.raises(AssertionError, match="nobody shall ask this"):
            httpx.get("http://a.test/pass/raise", timeout=LIMIT)
        with pytest.raises(Exception, match="cannot cross"):
            httpx.post("http://a.test/pass/size", content=b"", timeout=LIMIT)


def is_switched() -> bool:
    """Return whether the clients of this process are switched."""
    return active_switch() is not None


def test_restarted_and_given_back() -> None:
    """A process that was started again is switched as well; one that was given is, at the end, as it was."""
    fork = IpcProcess(FLASK, start_method="fork")
    with nothing_leaks(), fork as of_flask, IpcThread(starlette_app) as of_starlette:
        with switch_to_ipc_connection({"flask.test": of_flask, "starlette.test": of_starlette}):
            assert of_flask.run(is_switched)
            assert of_flask.pid is not None
            os.kill(of_flask.pid, signal.SIGKILL)
            of_flask.renew()
            assert len(httpx.get("http://flask.test/down/3", timeout=LIMIT).json()) == 4
        assert not of_flask.run(is_switched)


def test_several_processes_of_an_app() -> None:
    """Each process of an app in several is switched, and given back; so is one that was started again."""
    with nothing_leaks(), IpcProcesses(FLASK, processes=2, start_method="fork") as of_flask, IpcThread(fake) as of_fake:
        with switch_to_ipc_connection({"flask.test": of_flask, "fake.test": of_fake}, others="refuse"):
            assert of_flask.run(is_switched) == [True, True]
            url = "http://flask.test/ask?way=httpx&url=http://fake.test/"
            assert httpx.get(url, timeout=LIMIT).text == "fake.test"
            for pid in filter(None, of_flask.pids):
                os.kill(pid, signal.SIGKILL)
            of_flask.renew()
            assert httpx.get(url, timeout=LIMIT).text == "fake.test"
        assert of_flask.run(is_switched) == [False, False]


def test_switch_that_fails(monkeypatch: Any) -> None:
    """Where a process that was given cannot be switched, the switch raises, and leaves it as it was."""

    def fail(function: Any) -> None:
        raise LookupError

    with nothing_leaks(), IpcProcess(FLASK, start_method="fork") as of_flask:
        with monkeypatch.context() as patches:
            patches.setattr(of_flask, "run", fail)
            with pytest.raises(LookupError):
                switch_to_ipc_connection({"flask.test": of_flask})
        assert of_flask.pid is not None
        os.kill(of_flask.pid, signal.SIGKILL)
        of_flask.renew()
        assert not of_flask.run(is_switched)


def test_channel_that_opens_half(tmp_path: Any) -> None:
    """If the second pipe of a channel cannot be opened, the first is closed, though the error is kept."""
    names = [str(tmp_path / name) for name in ("requests", "responses")]
    os.mkfifo(names[0])
    with nothing_leaks(), pytest.raises(FileNotFoundError) as caught:
        open_offered(1, *names)
    assert caught.value.filename == names[1]


def test_request_and_cancel_at_once() -> None:
    """A client that has gone before its request is read is heard of all the same."""
    heard: list[type] = []

    class Endless:
        def exchange(self, *arguments: Any) -> Any:
            try:
                yield Wait(never)
            except ClientDisconnected as error:
                heard.append(type(error))
                raise

    with nothing_leaks(), offered_channel(1) as (channel, requests, responses):
        never, writer = os.pipe()
        upstreams = Upstreams(lambda host, port: Endless())
        for message in (wire.Request("GET", "http", ("b.test", 80), b"/", []), wire.Cancel()):
            channel.put(channel.frame_of(message))
        assert channel.write() is None
        with open(upstreams.path, "w") as fifo:
            fifo.write(f"1\t{requests}\t{responses}\n")
        deadline = deadline_after(LIMIT)
        assert poll(Wait(channel.read_fd, deadline=deadline)) is Woken.READY
        assert os.read(channel.read_fd, 1) == GREETING
        assert poll(Wait(channel.read_fd, deadline=deadline)) is Woken.READY
        assert heard == [ClientDisconnected]
        assert isinstance(run_blocking(channel.receive()), wire.Done)
        channel.close()
        upstreams.close()
        os.close(never)
        os.close(writer)


AT_EXIT = """
from socketless import switch_to_ipc_connection

switch_to_ipc_connection({"a.test": "wsgiref.simple_server:demo_app"}, start_method="fork")
"""


def test_never_called_back(tmp_path: Any) -> None:
    """A process that never calls its switch back leaves no folder when it ends."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", AT_EXIT], env=environment, check=True, timeout=LIMIT)
    assert os.listdir(tmp_path) == []


def test_one_app_alone() -> None:
    """One app that answers all hosts is not switched itself."""
    with nothing_leaks(), switch_to_ipc_connection(FLASK, start_method="fork") as switch:
        assert not switch.worker.run(is_switched)


UNREACHED = "apps in worker processes cannot reach the other apps of the switch"


def test_no_folder(monkeypatch: Any, caplog: Any) -> None:
    """Where there is no folder for FIFOs, the switch is on all the same, and says what that does not reach."""
    with nothing_leaks(), IpcProcess(FLASK, start_method="fork") as of_flask:
        monkeypatch.setattr(tempfile, "tempdir", "/nowhere")
        with switch_to_ipc_connection({"flask.test": of_flask}):
            assert httpx.get("http://flask.test/down/0", timeout=LIMIT).status_code == 200
            assert not of_flask.run(is_switched)
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [UNREACHED]


def test_switch_that_is_over(tmp_path: Any) -> None:
    """Once the process of the switch listens no more, clients cannot connect, and are told why."""
    with nothing_leaks(), OutsideWorker(str(tmp_path / "channels")) as worker:
        with (
            httpx.Client(transport=IpcTransport(worker)) as client,
            pytest.raises(httpx.ConnectError, match="the other apps of the switch cannot be reached") as caught,
        ):
            client.get("http://flask.test/", timeout=None)
        assert isinstance(caught.value, WorkerStartError)
        os.mkfifo(worker._path)  # which nobody reads
        with pytest.raises(WorkerStartError, match="the other apps of the switch cannot be reached"):
            worker.exchange_blocking(wire.Reset())


def test_green_process(monkeypatch: Any, caplog: Any) -> None:
    """So it is where greenlets have taken the place of threads."""
    monkeypatch.setattr("socketless._host.upstreams.is_green", lambda: True)
    with nothing_leaks(), IpcProcess(FLASK, start_method="fork") as of_flask:
        with switch_to_ipc_connection({"flask.test": of_flask}):
            assert not of_flask.run(is_switched)
    assert [record.getMessage() for record in caplog.records] == [
        f"{UNREACHED}: gevent or eventlet has patched this process"
    ]
