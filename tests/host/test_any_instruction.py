"""Exceptions out of a signal's handler, at each instruction after which Python runs one.

Ctrl-C and pytest-timeout raise wherever the main thread is. Here, the same exception comes at the first place, at the
second, and so on, until an exchange has come to its end without one.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import sys
import threading
import time
from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest

import socketless
from apps.interrupted_app import asgi
from socketless import IpcProcess, IpcThread, IpcTransport
from socketless._host import directions
from socketless._host.worker import Worker
from socketless._wire.drivers import run_async, run_blocking
from socketless._wire.pipes import make_pipe
from socketless._wire.steps import Steps, Wait
from socketless._worker import asgi_websocket
from support import LIMIT, nothing_leaks

PACKAGE = str(Path(socketless.__file__).parent)
CHANNELS = 2


class Interrupt(BaseException):
    """What the handler of a signal raises."""


class Interrupter:
    """Raises at the `number`th place of this thread where the handler of a signal could run, in the package's code.

    Those are the beginnings of functions, and the ends of calls of C: there Python looks for signals, and what C has
    done is done, though nobody gets to know what it has returned.
    """

    def __init__(self, number: int) -> None:
        self._left = number
        self.has_raised = False

    def __enter__(self) -> None:
        sys.setprofile(self._look)

    def __exit__(self, *args: object) -> None:
        sys.setprofile(None)

    def _look(self, frame: FrameType, event: str, arg: Any) -> None:
        if event not in ("call", "c_return") or not frame.f_code.co_filename.startswith(PACKAGE):
            return
        if event == "c_return" and arg.__name__ == "__enter__":  # of a lock, by `with`: see socketless._locks
            return
        if event == "call" and sys.version_info < (3, 11) and frame.f_lasti >= 0:  # a generator that goes on
            return
        if not is_finalizing(frame):
            self._left -= 1
            if self._left == 0:
                self.has_raised = True
                raise Interrupt(f"{frame.f_code.co_filename}:{frame.f_lineno}, {event}")


def is_finalizing(frame: FrameType | None) -> bool:
    """Whether a frame is called by a `__del__`, out of which Python lets no exception."""
    while frame is not None and frame.f_code.co_name != "__del__":
        frame = frame.f_back
    return frame is not None


def get(client: httpx.Client) -> None:
    assert client.get("/").text == "hello"


def stream(client: httpx.Client) -> None:
    with client.stream("GET", "/stream") as response:
        pieces = response.iter_raw()
        assert next(pieces)
        assert next(pieces)


def upload(client: httpx.Client) -> None:
    assert client.post("/", content=iter([b"one", b"two"])).text == "onetwohello"


def large(client: httpx.Client) -> None:
    assert len(client.post("/", content=bytes(300_000)).content) == 300_005


ACTIONS = [get, stream, upload, large]


def settled(worker: Worker) -> None:
    """Wait until the worker has let go of all that was given up."""
    deadline = time.monotonic() + LIMIT
    for thread in threading.enumerate():
        if thread.name.startswith(("socketless-parked-", "socketless-sending-")):
            thread.join(LIMIT)
    assert time.monotonic() < deadline, "a channel is not let go of"
    assert worker._pool._parked == {}


def interrupted(number: int, action: Callable[[httpx.Client], None], client: httpx.Client) -> str:
    """Do something that is interrupted in the `number`th place; return where that was, or nothing."""
    interrupter = Interrupter(number)
    try:
        with interrupter:
            action(client)
    except Interrupt as error:
        return str(error)
    except httpx.HTTPError:  # what has become of it in the client library
        pass
    return "swallowed" if interrupter.has_raised else ""


def all_channels_work(client: httpx.Client, worker: Worker) -> None:
    """Assert that nothing is busy, and that as many streams as there are channels can be open at once."""
    settled(worker)
    worker._pool._cancel_abandoned()
    settled(worker)
    assert worker._pool._busy == {}
    with ThreadPoolExecutor(CHANNELS) as threads:
        barrier = threading.Barrier(CHANNELS)

        def hold(_: int) -> None:
            with client.stream("GET", "/stream") as response:
                next(response.iter_raw())
                barrier.wait(LIMIT)

        list(threads.map(hold, range(CHANNELS)))
    settled(worker)


def interrupt_everywhere(
    action: Callable[[httpx.Client], None], client: httpx.Client, worker: Worker, stride: int
) -> None:
    """Do it once; then again and again, interrupted `stride` places later each time, until it comes to its end."""
    action(client)
    number = 1
    while where := interrupted(number, action, client):
        gc.collect()
        try:
            all_channels_work(client, worker)
        except BaseException as error:
            raise AssertionError(f"interrupted in place {number}, {where}") from error
        number += stride
    assert number > stride


@pytest.mark.filterwarnings("ignore:unclosed response")  # interrupted on its way to who would have closed it
@pytest.mark.filterwarnings("ignore:Exception ignored in. <generator object chunks_of")  # while it is collected
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("app", ["wsgi", "asgi"])
@pytest.mark.parametrize("kind", [IpcProcess, IpcThread])
@pytest.mark.parametrize("stride", [97, pytest.param(1, marks=pytest.mark.slow)])
def test_interrupted(kind: type[IpcProcess], app: str, action: Callable[[httpx.Client], None], stride: int) -> None:
    """Wherever an exception comes from a signal's handler, no channel is lost, and none stays busy."""
    with nothing_leaks(), kind(f"apps.interrupted_app:{app}", max_connections=CHANNELS, lifespan=False) as worker:
        timeout = httpx.Timeout(LIMIT, pool=5)
        client = httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=timeout)
        interrupt_everywhere(action, client, worker, stride)


def test_interrupted_between_steps() -> None:
    """Steps that are interrupted where they do not hear of it are not left at work."""
    reader, writer = make_pipe()
    writer.close()  # so that it is readable
    number, has_raised = 1, True
    while has_raised:
        steps = waiting(reader.fileno())
        interrupter = Interrupter(number)
        with suppress(Interrupt), interrupter:
            run_blocking(steps)
        has_raised = interrupter.has_raised
        assert inspect.getgeneratorstate(steps) in (inspect.GEN_CREATED, inspect.GEN_CLOSED), number
        number += 1
    reader.close()
    assert number > 5


def waiting(fd: int) -> Steps[None]:
    yield Wait(fd)
    yield Wait(fd)


class Unreached:
    """Steps that are interrupted each time before they hear that it goes on."""

    def __init__(self, steps: Generator[Any, Any, Any]) -> None:
        self._steps = steps
        self.throw = steps.throw

    @property
    def gi_frame(self) -> Any:
        return self._steps.gi_frame  # type: ignore[attr-defined]

    def __next__(self) -> Any:
        return next(self._steps)

    def send(self, value: object) -> None:
        raise Interrupt


@pytest.mark.parametrize("drive", [run_blocking, lambda steps: asyncio.run(run_async(steps))], ids=["sync", "async"])
def test_steps_hear_of_an_interruption(drive: Callable[[Any], None]) -> None:
    """So both drivers tell them afterwards what has come between."""
    reader, writer = make_pipe()
    writer.close()
    steps = waiting(reader.fileno())
    with pytest.raises(Interrupt):
        drive(Unreached(steps))
    assert inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED
    reader.close()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await asgi(scope, receive, send)
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (event := await receive())["type"] == "websocket.receive":
        await send({**event, "type": "websocket.send"})


@pytest.mark.filterwarnings("ignore:unclosed response")
@pytest.mark.parametrize("stride", [97, pytest.param(1, marks=pytest.mark.slow)])
def test_interrupted_websocket(monkeypatch: pytest.MonkeyPatch, stride: int) -> None:
    """The same of a WebSocket, whose client waits for its app, and reads meanwhile."""
    monkeypatch.setattr(directions, "MOST_AHEAD", 1000)
    monkeypatch.setattr(asgi_websocket, "_MOST_UNSAID", 250)

    def talk(client: httpx.Client) -> None:
        with worker.websocket_connect("/", timeout=LIMIT) as session:
            for number in range(8):
                session.send_text(str(number))
            for number in range(8):
                assert session.receive_text() == str(number)

    with nothing_leaks(), IpcThread(echo, max_connections=CHANNELS, lifespan=False) as worker:
        client = httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=LIMIT)
        interrupt_everywhere(talk, client, worker, stride)
