"""What a worker does without: clocks that go on, threads, descriptors, a Python, calls that a sandbox refuses."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from apps.limits_app import RELEASE, app
from socketless import IpcAsyncTransport, IpcProcess, IpcThread, IpcTransport
from socketless import _genuine as genuine
from socketless._host.worker import Worker
from socketless.errors import WorkerStartError
from support import LIMIT, nothing_leaks, open_fds, unix_sockets_are_refused


def client(worker: Worker) -> httpx.Client:
    return httpx.Client(transport=IpcTransport(worker), base_url="http://testserver")


def get_blocking(worker: Worker, timeout: httpx.Timeout) -> None:
    with client(worker) as one:
        one.get("/hang", timeout=timeout)


def get_on(run: Callable[..., Any]) -> Callable[[Worker, httpx.Timeout], None]:
    async def get(worker: Worker, timeout: httpx.Timeout) -> None:
        async with httpx.AsyncClient(transport=IpcAsyncTransport(worker), base_url="http://testserver") as one:
            await one.get("/hang", timeout=timeout)

    return lambda worker, timeout: run(get, worker, timeout)


CLIENTS = {
    "blocking": get_blocking,
    "asyncio": get_on(lambda function, *args: asyncio.run(function(*args))),
    "trio": get_on(trio.run),
}


@pytest.mark.parametrize("way", CLIENTS)
@pytest.mark.parametrize("clock", ["function", "module"])
def test_time_stands_still(way: str, clock: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits hold where a test has stopped the clocks, those of the event loops too, as freezegun does."""
    RELEASE.clear()
    with nothing_leaks(), IpcThread(app, app_kind="wsgi", max_connections=1) as worker:
        try:
            now = time.monotonic()
            with monkeypatch.context() as patch:
                patch.setattr(time, "monotonic", lambda: now)
                patch.setattr("trio._core._run.perf_counter", lambda: now)
                if clock == "module":
                    patch.setattr(time, "time", lambda: 0.0)
                    patch.setattr(time, "perf_counter", lambda: now)
                with pytest.raises(httpx.ReadTimeout):
                    CLIENTS[way](worker, httpx.Timeout(None, read=0.01))
                with pytest.raises(httpx.PoolTimeout):
                    CLIENTS[way](worker, httpx.Timeout(None, pool=0.01))
        finally:
            RELEASE.set()


class Text(str):
    __slots__ = ()

    def __reduce__(self) -> Any:
        raise TypeError


class Broken:
    def __str__(self) -> str:
        raise RuntimeError


ARGUMENTS = [Text("one"), Path("two"), 3, lambda: 4, Broken()]


@pytest.mark.parametrize("start_method", ["spawn", "fork"])
@pytest.mark.parametrize("argv", [ARGUMENTS, None], ids=["objects", "none"])
def test_argv_of_objects(argv: Any, start_method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sys.argv` that cannot be pickled, or is none, is no reason not to start."""
    monkeypatch.setattr(sys, "argv", argv)
    with nothing_leaks(), IpcProcess("apps.limits_app:app", start_method=start_method) as worker, client(worker) as one:
        seen = one.get("/").text
    if start_method == "spawn":
        expected = ["one", "two", "3", str(ARGUMENTS[3]), object.__repr__(ARGUMENTS[4])]
        assert seen == repr([] if argv is None else expected)


@pytest.mark.parametrize("executable", [None, ""])
def test_no_executable(executable: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nobody knows which Python this is, spawning says so, and forking works."""
    monkeypatch.setattr(sys, "executable", executable)
    with nothing_leaks():
        with pytest.raises(WorkerStartError) as caught:
            IpcProcess("apps.limits_app:app")
        with IpcProcess(app, start_method="fork") as worker, client(worker) as one:
            assert one.get("/").status_code == 200
    assert str(caught.value) == (
        f"the worker cannot be spawned: sys.executable is {executable!r} and does not tell which Python to run. Set it "
        'to the path of one, or fork the worker, start_method="fork"'
    )


def refuse_threads(patch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise RuntimeError("can't start new thread")

    for name in ("_start_new_thread", "_start_joinable_thread"):  # the latter from Python 3.13 on
        patch.setattr(threading, name, refuse, raising=False)


NOT_WATCHED = "the worker's process was ended, as no thread can watch it: can't start new thread"
WORKERS: dict[str, tuple[Callable[[], Worker], str]] = {
    "spawn": (lambda: IpcProcess("apps.limits_app:app"), NOT_WATCHED),
    "fork": (lambda: IpcProcess("apps.limits_app:app", start_method="fork"), NOT_WATCHED),
    "thread": (lambda: IpcThread(app), "the worker's thread could not be started: can't start new thread"),
}


@pytest.mark.parametrize("kind", WORKERS)
def test_no_thread(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread is to be had, a worker does not start, nothing is left, and the next one starts once there is."""
    make, text = WORKERS[kind]
    with nothing_leaks():
        with monkeypatch.context() as patch:
            refuse_threads(patch)
            with pytest.raises(WorkerStartError) as caught:
                make()
        with make() as worker, client(worker) as one:
            assert one.get("/").status_code == 200
    assert str(caught.value) == text


def test_no_second_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread is to be had for one more channel, who wants one waits for those that there are."""
    with nothing_leaks(), IpcThread(app, app_kind="wsgi") as worker, client(worker) as one:
        assert one.get("/").status_code == 200
        RELEASE.clear()
        with ThreadPoolExecutor() as executor:
            first = executor.submit(one.get, "/hang", timeout=None)
            try:
                while not worker._pool._busy:
                    pass
                with monkeypatch.context() as patch:
                    refuse_threads(patch)
                    with pytest.raises(httpx.PoolTimeout):
                        one.get("/", timeout=0.01)
            finally:
                RELEASE.set()
            assert first.result(LIMIT).status_code == 200


@pytest.mark.parametrize("spare", range(6))
def test_no_descriptors_for_threads(spare: int) -> None:
    """Where too few descriptors are to be had, a worker on threads does not start, and nothing is left."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with nothing_leaks(), ExitStack() as held:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, open_fds())) + 20, limits[1]))
        held.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limits)
        last = -1
        with suppress(OSError):  # there are no more
            while True:
                last = os.open(os.devnull, os.O_RDONLY)
                held.callback(os.close, last)
        resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1 + spare, limits[1]))
        with pytest.raises(
            WorkerStartError, match=r"^the worker's thread could not be started: .* Too many open files$"
        ):
            IpcThread(app)


@pytest.mark.parametrize("start_method", ["spawn", "fork"])
def test_waitid_refused(start_method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox that refuses `waitid()` costs nothing: a worker ends with its host's `close()`, or is restarted."""

    def refuse(*args: object) -> None:
        raise PermissionError

    monkeypatch.setattr(genuine.os, "waitid", refuse)
    with nothing_leaks(), IpcProcess("apps.limits_app:app", start_method=start_method) as worker, client(worker) as one:
        worker._proc.kill()
        assert worker._proc.wait(LIMIT) == -9
        assert one.get("/").status_code == 200


def test_no_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no shell for its guard, a worker starts, works and ends as ever."""
    monkeypatch.setattr("socketless._host.guard.SHELL", "/nowhere/sh")
    with nothing_leaks(), IpcProcess("apps.limits_app:app") as worker, client(worker) as one:
        assert one.get("/").status_code == 200


EXHAUSTED = """
import os, resource, socket, sys
from socketless import IpcThread
from socketless.unix_server import UnixServer

resource.setrlimit(resource.RLIMIT_NOFILE, (1200, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
held = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
path = sys.argv[1]
read_fd, write_fd = os.pipe()
with UnixServer(IpcThread("wsgiref.simple_server:demo_app"), path, lambda error: os.write(write_fd, b"e")) as server:
    with socket.socket(socket.AF_UNIX) as one:
        try:
            while True:
                held.append(os.open(os.devnull, os.O_RDONLY))
        except OSError:
            pass
        one.connect(path)
        assert os.read(read_fd, 1) == b"e"
        for fd in held:
            os.close(fd)
        one.sendall(b"GET / HTTP/1.0\\r\\n\\r\\n")
        print(one.recv(12), flush=True)
os._exit(0)
"""


@pytest.mark.skipif(
    unix_sockets_are_refused(), reason="a UNIX socket is what this serves on, and they are refused here"
)
def test_descriptors_above_1023(tmp_path: Path) -> None:
    """A server whose descriptors `select()` cannot take waits for others to be given back, and goes on."""
    done = subprocess.run(
        [sys.executable, "-c", EXHAUSTED, str(tmp_path / "s")], capture_output=True, text=True, timeout=LIMIT
    )
    assert done.stdout == "b'HTTP/1.1 200'\n", done.stderr


@pytest.mark.parametrize("start_method", ["spawn", "fork"])
def test_environment(start_method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`env` adds, replaces and, by None, takes away variables of the worker; this process keeps its own."""
    for name in ("KEPT", "GONE", "OTHER"):
        monkeypatch.setenv(name, "ours")
    env = {"OTHER": Path("a/path"), "NEW": b"bytes", "GONE": None, "NEVER_THERE": None}
    with (
        IpcProcess("apps.limits_app:environ_app", start_method=start_method, env=env) as worker,  # type: ignore[arg-type]
        client(worker) as one,
    ):
        assert one.get("/").text == repr(["ours", None, "a/path", "bytes"])
    assert os.environ["GONE"] == "ours"
