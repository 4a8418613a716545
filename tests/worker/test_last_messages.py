"""A last message always goes, whatever the app raises, holds or returns: each step of making one is broken here."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from socketless import IpcProcess, IpcThread, IpcTransport, errors
from socketless._host.failures import exception_of
from socketless._host.worker import Worker
from socketless._wire import codec
from socketless._wire.channel import make_channel
from socketless._wire.messages import Done, Failed, Message, Response, Result
from socketless._wire.steps import finish
from socketless._worker.failures import failed, last_frame, last_message
from support import LIMIT, nothing_leaks

ENDS = [asyncio.CancelledError, SystemExit, KeyboardInterrupt, MemoryError, RecursionError, StopIteration, RuntimeError]


def raising(name: str, error: type[BaseException]) -> type[Exception]:
    """Return a class of exceptions of which one attribute cannot be looked at, or one method not be called."""

    def broken(self: Any, *args: Any) -> Any:
        raise error

    is_method = name in ("__str__", "__reduce__", "__reduce_ex__", "__getstate__", "__repr__")
    return type("Broken", (Exception,), {name: broken if is_method else property(broken)})


class NotesOfAnything(Exception):
    __notes__ = (threading.Lock(), "a note")


class MetaOfNothing(type):
    @property
    def __name__(self) -> str:
        raise SystemExit


class ClassWithoutName(Exception, metaclass=MetaOfNothing):
    pass


def from_nowhere() -> Exception:
    """Return an exception whose traceback leads through a module that has a lock for a name."""
    try:
        exec("1 / 0", {"__name__": threading.Lock()})
    except ZeroDivisionError as error:
        return error
    raise AssertionError


ATTRIBUTES = [
    "__notes__",
    "__cause__",
    "__context__",
    "__suppress_context__",
    "__traceback__",
    "__class__",
    "exceptions",
]
METHODS = ["__str__", "__repr__", "__reduce__", "__reduce_ex__"]

BROKEN: dict[str, Callable[[], BaseException]] = {
    **{
        f"{name}-{error.__name__}": lambda name=name, error=error: raising(name, error)()  # type: ignore[misc]
        for name in (*ATTRIBUTES, *METHODS)
        for error in ENDS
    },
    "notes": NotesOfAnything,
    "no-name": ClassWithoutName,
    "from-nowhere": from_nowhere,
    "lock": lambda: ValueError(threading.Lock()),
    "deep": lambda: ValueError(nested(100_000)),
}


def nested(depth: int) -> Any:
    """Return lists in lists."""
    value: Any = []
    for _ in range(depth):
        value = [value]
    return value


class Node:
    """What holds itself, and cannot be asked for its name."""

    @property
    def name(self) -> str:
        raise asyncio.CancelledError


class Unpicklable:
    def __reduce__(self) -> Any:
        raise SystemExit(3)


def holding_itself() -> dict[str, Any]:
    tree: dict[str, Any] = {"node": Node(), "a": 1}
    tree["self"] = [tree]
    return tree


INFOS: dict[str, Callable[[], Any]] = {
    "itself": holding_itself,
    "paths": lambda: {"tree": _paths(30)},
    "deep": lambda: {"list": nested(5000)},
    "unpicklable": lambda: {"one": Unpicklable()},
    "broken": lambda: {"one": raising("name", SystemExit)(), "set": {raising("__reduce__", SystemExit)()}},
    "no-dict": Unpicklable,
}


def _paths(depth: int) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for _ in range(depth):
        tree = {"a": tree, "b": tree}
    return tree


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    if environ["PATH_INFO"] != "/":
        raise BROKEN[environ["QUERY_STRING"]]()
    start_response("200 OK", [])
    return [b"hello"]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    if scope["path"] == "/raise":
        raise BROKEN[scope["query_string"].decode()]()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    if scope["path"] == "/debug":
        await send({"type": "http.response.debug", "info": {"context": INFOS[scope["query_string"].decode()]()}})
    await send({"type": "http.response.body", "body": b"hello"})


def name_of(error: type[BaseException]) -> str:
    """Return the name of a class whose metaclass may not tell it."""
    return type.__dict__["__name__"].__get__(error)  # type: ignore[no-any-return]


def start_process(app: str) -> Worker:
    return IpcProcess(f"{__name__}:{app}", max_connections=1, lifespan=False)


def start_thread(app: str) -> Worker:
    return IpcThread(f"{__name__}:{app}", max_connections=1, lifespan=False)


@pytest.fixture(scope="module", params=["process-wsgi", "process-asgi", "thread-wsgi", "thread-asgi"])
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    kind, app = request.param.split("-")
    with nothing_leaks(), (start_process if kind == "process" else start_thread)(app) as worker:
        yield worker


def client_of(worker: Worker) -> httpx.Client:
    return httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=LIMIT)


@pytest.mark.parametrize("name", BROKEN)
def test_app_that_raises(worker: Worker, name: str) -> None:
    """What an app raises ends its request, however little can be said of it, and the channel serves the next."""
    client = client_of(worker)
    with pytest.raises(BaseException) as caught:
        client.get(f"/raise?{name}")
    allowed = {"AppError", name_of(type(BROKEN[name]()))}
    if isinstance(worker, IpcThread):  # then the object itself is raised, and client libraries look at it, too
        allowed |= {"AttributeError", name.rpartition("-")[2]}
    assert name_of(caught.type) in allowed
    assert client.get("/").text == "hello"


@pytest.mark.parametrize("name", INFOS)
def test_debug_information(worker: Worker, name: str) -> None:
    """What cannot cross of a template's context is left out, and the response is what it was."""
    if worker.app_kind == "asgi":
        assert client_of(worker).get(f"/debug?{name}").text == "hello"


def stop() -> None:
    next(iter([]))


async def stop_async() -> None:
    stop()


def unpicklable() -> Any:
    return Unpicklable()


def fail(name: str) -> None:
    raise BROKEN[name]()


@pytest.mark.parametrize("name", BROKEN)
def test_function_that_raises(worker: Worker, name: str) -> None:
    """The same holds for what a function of run() raises."""
    with pytest.raises(BaseException) as caught:
        worker.run(fail, name)
    assert caught.type.__mro__[-2] is BaseException
    assert client_of(worker).get("/").text == "hello"


@pytest.mark.parametrize("function", [stop, stop_async])
def test_stop_iteration(worker: Worker, function: Callable[[], Any]) -> None:
    """A StopIteration of a function is raised by run(); that of a coroutine is what Python makes of it."""
    with pytest.raises(StopIteration if function is stop else RuntimeError):
        worker.run(function)
    assert client_of(worker).get("/").text == "hello"


def test_result_that_cannot_be_sent(worker: Worker) -> None:
    """A result whose pickling raises SystemExit ends its call, and nothing else."""
    if isinstance(worker, IpcProcess):
        with pytest.raises(errors.TransferError) as caught:
            worker.run(unpicklable)
        assert str(caught.value) == "a Result cannot be sent: SystemExit: 3"
    assert client_of(worker).get("/").text == "hello"


@pytest.mark.parametrize("name", BROKEN)
def test_describing_never_raises(name: str) -> None:
    """What describes an exception raises nothing itself, and names its class at least."""
    error = BROKEN[name]()
    said = failed(error)
    assert said.error is error
    assert name_of(type(error)) in said.summary
    assert said.traceback


def arriving(message: Message) -> Message:
    """Send a message as the last one of an exchange, and return what arrives."""
    ends = make_channel(1)
    try:
        ends.worker.put(last_frame(ends.worker, message))
        finish(ends.worker.flush())
        ends.host.set_blocking(True)
        return finish(ends.host.receive())
    finally:
        ends.host.close()
        ends.worker.close()


def test_message_that_cannot_be_packed() -> None:
    """Of a failure that cannot be pickled, the text crosses."""
    response: Any = Response(200, "", [(b"name", Unpicklable())])  # type: ignore[list-item]
    got = arriving(Failed(ValueError("no"), "ValueError: no", "Traceback ...", response))
    assert isinstance(got, Failed)
    assert str(exception_of(got)) == "ValueError: no\n\nThe worker's traceback:\nTraceback ..."


def test_message_of_which_nothing_can_be_packed() -> None:
    """Where not even the text can be pickled, what was made beforehand crosses."""
    got = arriving(Failed(ValueError("no"), Unpicklable(), "", None))  # type: ignore[arg-type]
    assert isinstance(got, Failed)
    assert str(exception_of(got)) == codec.UNSPEAKABLE.summary


def first_line(failed: Failed) -> str:
    """Return an error without its notes; `pickle` adds some, from Python 3.14 on."""
    return failed.summary.splitlines()[0]


def test_response_that_cannot_be_packed() -> None:
    """A response that cannot be pickled is replaced with an error that says so."""
    got = arriving(Response(200, "", [(b"name", Unpicklable())]))  # type: ignore[list-item]
    assert isinstance(got, Failed)
    assert first_line(got).endswith("TransferError: a Response cannot be sent: SystemExit: 3")
    got = arriving(Result(threading.Lock()))
    assert isinstance(got, Failed)
    assert first_line(got).endswith("TransferError: cannot pickle lock object: cannot pickle '_thread.lock' object")


def test_no_memory() -> None:
    """A failure that was made beforehand needs no pickling, and arrives as what it is."""
    assert isinstance(arriving(Done()), Done)
    got = arriving(codec.NO_MEMORY)
    assert isinstance(got, Failed)
    assert type(exception_of(got)) is MemoryError


@pytest.mark.parametrize(("error", "premade"), [(MemoryError(), codec.NO_MEMORY), (OSError(), codec.UNSPEAKABLE)])
def test_last_resort(error: BaseException, premade: Failed) -> None:
    """Whatever goes wrong where a last message is made, there is one."""

    def describe() -> Message:
        raise asyncio.CancelledError

    assert last_message(describe, error) is premade


def refuse(*args: Any, **kwargs: Any) -> None:
    raise RuntimeError("can't start new thread")


def no_threads() -> None:
    """Let this process have no more threads, as a limit of the system does."""
    for name in _REAL:
        setattr(threading, name, refuse)


def threads_again() -> None:
    for name, real in _REAL.items():
        setattr(threading, name, real)


_REAL = {
    name: getattr(threading, name)
    for name in ("_start_new_thread", "_start_joinable_thread")
    if hasattr(threading, name)
}


def wsgi_blocking(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    with open(environ["QUERY_STRING"]) as fifo:
        fifo.read()  # until the test closes it
    threads_again()
    start_response("200 OK", [])
    return [b"hello"]


async def asgi_blocking(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    if scope["query_string"]:
        await asyncio.get_running_loop().run_in_executor(None, lambda: open(scope["query_string"]).close())
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def test_no_thread_for_a_wsgi_channel(tmp_path: Path) -> None:
    """A request for which there is no thread is told so, and the next one on its channel finds one."""
    os.mkfifo(tmp_path / "fifo")
    with nothing_leaks(), IpcProcess(f"{__name__}:wsgi_blocking", max_connections=2, shutdown_timeout=LIMIT) as worker:
        client = client_of(worker)
        worker.run(no_threads)
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(client.get, f"/?{tmp_path}/fifo")
            with open(tmp_path / "fifo", "w"):  # it is in the app, and has the only thread
                with pytest.raises(errors.AppError) as caught:
                    client.get("/?/dev/null")
                assert str(caught.value).startswith("the worker has no thread for this request: can't start new thread")
            assert waiting.result(LIMIT).text == "hello"
        assert client.get("/?/dev/null").text == "hello"


@pytest.mark.parametrize("kind", [IpcProcess, IpcThread])
def test_no_thread_for_an_asgi_channel(kind: type[IpcProcess], monkeypatch: pytest.MonkeyPatch) -> None:
    """An ASGI app needs no thread of its channel, as long as all of its code is async."""
    with nothing_leaks(), kind(f"{__name__}:asgi_blocking", lifespan=False) as worker:
        if kind is IpcProcess:
            worker.run(no_threads)  # which took one
            with ThreadPoolExecutor(4) as threads:
                got = [each.text for each in threads.map(lambda _: client_of(worker).get("/"), range(20))]
            assert got == ["hello"] * 20
        else:
            for name in _REAL:
                monkeypatch.setattr(threading, name, refuse)
            text = client_of(worker).get("/").text
            monkeypatch.undo()
            assert text == "hello"


async def exhausting(scope: Any, receive: Any, send: Any) -> None:
    """An app that takes all the memory there is."""
    if scope["path"] == "/oom":
        size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (size + (64 << 20), resource.RLIM_INFINITY))
        held = []
        for block in (1 << 20, 1 << 14, 1 << 10, 64):
            with suppress(MemoryError):
                while True:
                    held.append(bytearray(block))
        held.append(bytearray(1 << 20))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@pytest.mark.skipif(
    sys.platform != "linux", reason="elsewhere, there is no limit of memory that a process can be given"
)
def test_app_that_takes_all_memory() -> None:
    """An app that dies of a MemoryError, with all memory still in its hands, says so, and serves the next request."""
    with nothing_leaks(), IpcProcess(f"{__name__}:exhausting", max_connections=1, lifespan=False) as worker:
        pid = worker.pid
        with pytest.raises((MemoryError, errors.AppError)):
            client_of(worker).get("/oom")
        assert client_of(worker).get("/").text == "hello"
        assert worker.pid == pid
