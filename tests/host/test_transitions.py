"""Real exchanges make every move of the tables, and no other."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType
from typing import Any

import pytest

from socketless import IpcProcess, IpcThread
from socketless._host.exchange_states import RECEIVING, SENDING, Moves, State
from socketless._host.worker import Worker
from socketless._wire.drivers import run_blocking
from socketless._wire.local import LocalChannel
from socketless._wire.messages import Event, Request
from socketless._wire.steps import Pull
from socketless.errors import StateError, WorkerDied
from support import nothing_leaks, stopped

LARGE = 1 << 20  # bytes; no pipe takes as many


class Interrupt(BaseException):
    """What the handler of a signal raises."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer, or stream for ever; in a WebSocket, say nothing."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        while (await receive())["type"] != "websocket.disconnect":
            pass
        return
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while scope["path"] == "/stream":
        await send({"type": "http.response.body", "body": b"again", "more_body": True})
    await send({"type": "http.response.body", "body": b"hello"})


def request(path: bytes = b"/", **fields: Any) -> Request:
    return Request(fields.pop("method", "GET"), fields.pop("scheme", "http"), ("testserver", 80), path, [], **fields)


def kill(worker: Worker) -> None:
    assert isinstance(worker, IpcProcess)
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGKILL)


def succeed(worker: Worker) -> None:
    """Writes and reads one message."""
    assert worker.exchange_blocking(request()).is_over


def upload(worker: Worker) -> None:
    """Writes several messages, and reads several."""
    worker.exchange_blocking(request(method="POST", more_body=True), body=Pull(iter([b"one", b"two"])))


def leave(worker: Worker) -> None:
    """Is told while nobody is at work that the client has gone."""
    exchange = worker.exchange_blocking(request(b"/stream"))
    run_blocking(exchange.receive())
    exchange.cancel()


def be_interrupted(worker: Worker) -> None:
    """Is interrupted before the first byte has gone."""

    def look(frame: FrameType, event: str, arg: Any) -> None:
        if event == "call" and frame.f_code is LocalChannel.write.__code__:
            sys.setprofile(None)
            raise Interrupt

    sys.setprofile(look)
    try:
        with pytest.raises(Interrupt):
            worker.exchange_blocking(request())
    finally:
        sys.setprofile(None)


def leave_in_the_middle(worker: Worker) -> None:
    """Is left in the middle of a message while somebody waits for one, so that a helper sends the rest."""
    exchange = worker.exchange_blocking(request(scheme="ws"))
    receiving = exchange.receive_answer()
    next(receiving)
    with stopped(worker.pid):
        sending = exchange.send(Event({"type": "websocket.receive", "bytes": bytes(LARGE)}))
        assert next(sending).for_writing
        with pytest.raises(Interrupt):
            sending.throw(Interrupt())
    with pytest.raises(StateError, match="closed while it was being received"):
        run_blocking(receiving)


def lose_the_request(worker: Worker) -> None:
    """Loses its worker in the middle of a message to it."""
    with stopped(worker.pid):
        steps = worker.exchange(request(method="POST", body=bytes(LARGE)))
        assert next(steps).for_writing
        kill(worker)
    with pytest.raises(WorkerDied):
        run_blocking(steps)


def lose_the_answer(worker: Worker) -> None:
    """Loses its worker while it waits for a message."""
    exchange = worker.exchange_blocking(request(scheme="ws"))
    kill(worker)
    with pytest.raises(WorkerDied):
        run_blocking(exchange.receive())


def lose_what_nobody_wants(worker: Worker) -> None:
    """Loses its worker when that has been told that the client has gone, and has not answered it."""
    exchange = worker.exchange_blocking(request(scheme="ws"))
    receiving = exchange.receive()
    next(receiving)
    with stopped(worker.pid):
        exchange.cancel()
        kill(worker)
    with pytest.raises(WorkerDied):
        run_blocking(receiving)


def be_closed(worker: Worker) -> None:
    """Loses its worker while nobody is at work."""
    exchange = worker.exchange_blocking(request(scheme="ws"))
    worker.close()
    with pytest.raises(WorkerDied):
        run_blocking(exchange.receive())


EITHER = [succeed, upload, leave]
ON_THREADS = [*EITHER, be_interrupted, be_closed]
ON_PROCESSES = [*EITHER, leave_in_the_middle, lose_the_request, lose_the_answer, lose_what_nobody_wants]


class Recorded(Moves):
    """Moves that are recorded when they are made."""

    def __init__(self, what: str, moves: Moves, made: set[tuple[str, str]]) -> None:
        super().__init__(what, moves)
        self._name = what
        self._made = made

    def __getitem__(self, state: State) -> State:
        after = super().__getitem__(state)
        self._made.add((self._name, state.name))
        return after


TABLES = {"sending": SENDING, "receiving": RECEIVING}


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> set[tuple[str, str]]:
    """The moves that are made from now on: which step of which direction, and the state before it."""
    made: set[tuple[str, str]] = set()
    for direction, table in TABLES.items():
        for step, moves in table.items():
            monkeypatch.setitem(table, step, Recorded(f"{step} while {direction}", moves, made))
    return made


def test_every_move(made: set[tuple[str, str]]) -> None:
    """What an exchange can come to, it comes to: each move of both tables, on real pipes."""
    with nothing_leaks():
        for action in ON_THREADS:
            with IpcThread(app) as thread:
                action(thread)
        for action in ON_PROCESSES:
            with IpcProcess(app, start_method="fork") as process:
                action(process)
    assert made == {
        (f"{step} while {direction}", state.name)
        for direction, table in TABLES.items()
        for step, moves in table.items()
        for state in moves
    }
