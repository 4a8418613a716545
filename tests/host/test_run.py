"""`run()`: functions in the worker."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import signal
import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from apps import run_app
from socketless import IpcProcess, IpcThread, IpcTransport, errors
from socketless._host.worker import Worker

KINDS: dict[str, Callable[..., Worker]] = {
    "spawn": IpcProcess,
    "fork": functools.partial(IpcProcess, start_method="fork"),
    "thread": IpcThread,
}

seen: list[str] = []  # of this module: a process has a copy for each call


class Local(Exception):
    """An exception of the test."""


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=["wsgi", "asgi"])
def worker(request: pytest.FixtureRequest, kind: str) -> Iterator[Worker]:
    with KINDS[kind](f"apps.run_app:{request.param}") as worker:
        yield worker


def module_function(number: int, *, factor: int = 1) -> int:
    return number * factor


def test_results(worker: Worker, kind: str) -> None:
    """Functions, lambdas, closures, methods, partials and coroutine functions are called, with their arguments."""
    number = 3

    async def coroutine_function(value: int) -> int:
        await asyncio.sleep(0)
        return value + number

    assert worker.run(module_function, 2, factor=4) == 8
    assert worker.run(lambda: number + 1) == 4
    assert worker.run(functools.partial(module_function, 2), factor=5) == 10
    assert worker.run("a b".split) == ["a", "b"]
    assert worker.run(coroutine_function, 1) == 4
    assert (worker.run(os.getpid) == os.getpid()) == (kind == "thread")


def test_garbage_collection(worker: Worker, kind: str) -> None:
    """It is on in a worker; what a fresh interpreter has imported for the worker itself is left out of it."""
    assert worker.run(gc.isenabled)
    if kind == "spawn":
        assert worker.run(gc.get_freeze_count) > 10_000


def test_modules_of_the_app(worker: Worker, kind: str) -> None:
    """What the app's modules hold is the worker's own, wherever it is named; the test's own is a copy in a process."""
    try:
        worker.run(run_app.names.append, "ada")
        worker.run(lambda: run_app.names.append("grace"))
        names = run_app.names
        worker.run(lambda: names.append("mary"))
        assert worker.run(lambda: list(run_app.names)) == ["ada", "grace", "mary"]
        assert (run_app.names == []) == (kind != "thread")
        worker.run(seen.append, "here")
        assert (seen == []) == (kind != "thread")
    finally:
        worker.run(names.clear)
        seen.clear()


def test_app(worker: Worker) -> None:
    """`worker.app` arrives as the app itself."""
    expected = worker.app_kind
    assert worker.run(lambda app: (app is run_app.wsgi, app is run_app.asgi), worker.app) == (
        expected == "wsgi",
        expected == "asgi",
    )


def test_exceptions(worker: Worker) -> None:
    """What the function raises is raised, of the same class, also of one that is defined in the test."""

    class Inner(Exception):
        pass

    def fail(error: Exception) -> None:
        raise error

    for error in (KeyError("key"), Local("text"), Inner("inner")):
        with pytest.raises(type(error)) as caught:
            worker.run(fail, error)
        assert type(caught.value) is type(error)
        assert caught.value.args == error.args
        assert caught.traceback[-1].name == "fail"


def test_threads(worker: Worker) -> None:
    """A coroutine function runs on the loop of an ASGI app, a sync one in the channel's thread."""

    async def name() -> str:
        return threading.current_thread().name

    assert worker.run(lambda: threading.current_thread().name).startswith("socketless-channel-")
    assert worker.run(name).startswith("socketless-channel-") == (worker.app_kind == "wsgi")


def test_what_cannot_cross(worker: Worker, kind: str) -> None:
    """In a process, what cannot be pickled or rebuilt is a TransferError, and the worker serves on."""
    if kind == "thread":
        lock = threading.Lock()
        assert worker.run(lambda: lock) is lock
        return
    lock = threading.Lock()
    with pytest.raises(errors.TransferError, match="cannot pickle"):
        worker.run(lambda: lock)
    with pytest.raises(errors.TransferError, match="cannot pickle"):
        worker.run(threading.Lock)
    with pytest.raises(errors.TransferError, match="^the result cannot be rebuilt here: ValueError: "):
        worker.run(run_app.make_odd)
    assert worker.run(module_function, 1) == 1


def test_worker_that_dies(kind: str) -> None:
    """A function that ends the worker's process is WorkerDied; the next call finds another worker."""
    if kind == "thread":
        return
    with KINDS[kind]("apps.run_app:wsgi") as worker:
        text = r"^run\(raise_signal\): the worker \(pid \d+\) was killed by SIGKILL$"
        with pytest.raises(errors.WorkerDied, match=text):
            worker.run(signal.raise_signal, signal.SIGKILL)
        assert worker.run(module_function, 1) == 1


def test_reset_hook_and_run(kind: str) -> None:
    """What run() has changed, the reset hook finds."""
    with KINDS[kind]("apps.run_app:wsgi", reset_hook_path="apps.run_app:names.clear") as worker:
        worker.run(run_app.names.append, "ada")
        worker.reset()
        assert worker.run(len, run_app.names) == 0


def own_app(environ: dict[str, object], start_response: Callable[..., object]) -> list[bytes]:
    start_response("200 OK", [])
    return [",".join(seen).encode()]


def test_app_in_the_file_of_its_tests() -> None:
    """Where the app is in the tests' own file, what that holds is the worker's own as well."""
    with IpcProcess(f"{__name__}:own_app") as worker:
        worker.run(seen.append, "one")
        worker.run(lambda: seen.append("two"))
        response = httpx.Client(transport=IpcTransport(worker)).get("http://testserver/")
        assert (response.text, seen) == ("one,two", [])
