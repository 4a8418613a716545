"""A worker beside a model of it: whatever is done in whichever order, the answers and errors are those of the model."""

from __future__ import annotations

import itertools
import json
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from apps import model_app
from cells.running import deadline, settle, wait_until_ended
from socketless import IpcProcess, IpcThread, IpcTransport, errors
from socketless._host.worker import Worker
from support import LIMIT, nothing_leaks

APP = "apps.model_app"
CHANNELS = 3
MAX_RESTARTS = 2
IMPATIENT = httpx.Timeout(LIMIT, pool=0.01)

seen: Counter[str] = Counter()  # examples and steps of hypothesis
_nonces = map(str, itertools.count())


def start(kind: str, app: str) -> Worker:
    model_app.reset()
    options: dict[str, Any] = {
        "max_connections": CHANNELS,
        "max_restarts": MAX_RESTARTS,
        "lifespan": False,
        "shutdown_timeout": 0.2,
        "reset_hook": f"{APP}:reset",
    }
    if kind == "thread":
        return IpcThread(f"{APP}:{app}", **options)
    return IpcProcess(f"{APP}:{app}", start_method=kind, **options)


class Stream:
    """A response that is being read."""

    def __init__(self, client: httpx.Client) -> None:
        self.nonce = next(_nonces)
        self.response = client.send(client.build_request("GET", f"/stream?{self.nonce}"), stream=True)
        self._pieces = self.response.iter_raw()
        self._number = 0
        self.is_lost = False  # its worker has ended; what that had written can still be read

    def read(self) -> bool:
        """Read a piece, and return whether there was one."""
        got = next(self._pieces, None)
        if got is not None:
            assert got == model_app.piece(self.nonce, self._number)
            self._number += 1
        return got is not None

    def read_rest(self) -> None:
        while self.read():
            pass
        assert self._number == model_app.PIECES


class Model(RuleBasedStateMachine):
    """What is known of the worker: the notes of its app, whether it runs, how often it was started again."""

    def __init__(self, kind: str, app: str) -> None:
        super().__init__()
        seen["examples"] += 1
        self._stack = ExitStack()
        self._stack.enter_context(deadline(10 * LIMIT))
        self._stack.enter_context(nothing_leaks())
        self.kind, self.has_websockets = kind, app == "asgi"
        self.worker = start(kind, app)
        self._stack.callback(self.worker.close)
        self.client = httpx.Client(transport=IpcTransport(self.worker), base_url="http://testserver", timeout=IMPATIENT)
        self.notes: list[str] = []
        self.restarts = 0
        self.is_running, self.is_closed = True, False
        self.streams: list[Stream] = []
        self.sockets: list[Any] = []

    def teardown(self) -> None:
        for stream in self.streams:
            stream.response.close()
        for session in self.sockets:
            self._leave(session)
        self._stack.close()

    @invariant()
    def count(self) -> None:
        seen["steps"] += 1

    # What the model says

    @property
    def free(self) -> int:
        """How many channels are free."""
        return CHANNELS - len(self.sockets) - sum(not stream.is_lost for stream in self.streams)

    def _end(self) -> None:
        self.is_running = False
        self.notes = []
        for stream in self.streams:
            stream.is_lost = True

    @contextmanager
    def expected(self) -> Iterator[list[bool]]:
        """Expect what a call of the worker must come to; what is yielded is true if that is no error."""
        error: type[Exception] | None = None
        if self.is_closed:
            error = errors.StateError
        elif not self.is_running and self.restarts == MAX_RESTARTS:
            error = errors.WorkerDied
        elif not self.free:
            error = errors.PoolTimeout
        elif not self.is_running:
            self.is_running = True
            self.restarts += 1
        if error is None:
            yield [True]
        else:
            with pytest.raises(error):
                yield []

    # Requests

    @rule(body=st.text("ab", max_size=3), chunks=st.integers(0, 3))
    def request(self, body: str, chunks: int) -> None:
        content: Any = [body.encode()] * chunks if chunks else body.encode()
        with self.expected() as is_fine:
            got = self.client.post("/", content=content).json()
        if is_fine:
            self.notes.append(body * (chunks or 1))
            assert got == self.notes

    @rule(more=st.integers(1, 4))
    def requests_at_once(self, more: int) -> None:
        if self.is_closed or not self.is_running or not self.free:
            return
        texts = [next(_nonces) for _ in range(self.free + more)]  # some wait for their turn
        patient = partial(self.client.post, "/", timeout=LIMIT)
        with ThreadPoolExecutor(len(texts)) as threads:
            answers = [each.json() for each in threads.map(lambda text: patient(content=text), texts)]
        for text, got in zip(texts, answers, strict=True):
            assert got[: len(self.notes)] == self.notes
            assert got[-1] == text
        assert sorted(map(len, answers)) == [len(self.notes) + 1 + number for number in range(len(texts))]
        self.notes = max(answers, key=len)

    @rule()
    def open_stream(self) -> None:
        with self.expected():
            self.streams.append(Stream(self.client))

    @precondition(lambda self: self.streams)
    @rule(data=st.data(), turns=st.integers(1, 5))
    def read_some(self, data: st.DataObject, turns: int) -> None:
        stream = data.draw(st.sampled_from(self.streams))
        for _ in range(turns):
            self._try(stream, stream.read)

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def read_rest(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(self.streams))
        self._try(stream, stream.read_rest)
        self.streams.remove(stream)

    def _try(self, stream: Stream, read: Callable[[], Any]) -> None:
        # How much a worker had written when it was killed, nobody knows. What is done next must not depend on it.
        if not stream.is_lost:
            read()
        elif not stream.response.is_closed:
            try:
                read()
            except errors.WorkerDied:
                stream.response.close()

    @precondition(lambda self: self.streams)
    @rule(data=st.data())
    def leave_stream(self, data: st.DataObject) -> None:
        stream = data.draw(st.sampled_from(self.streams))
        stream.response.close()
        self.streams.remove(stream)
        settle(self.worker, but=CHANNELS - self.free)

    # WebSockets

    @precondition(lambda self: self.has_websockets)
    @rule()
    def open_websocket(self) -> None:
        if not self.free and self.is_running and not self.is_closed:
            return  # it has no pool timeout
        with self.expected():
            session = self.worker.websocket_connect("/", timeout=LIMIT)
            session.__enter__()
            self.sockets.append(session)

    @precondition(lambda self: self.sockets)
    @rule(data=st.data(), text=st.text("ab", max_size=3))
    def send_message(self, data: st.DataObject, text: str) -> None:
        session = data.draw(st.sampled_from(self.sockets))
        session.send_text(text)
        self.notes.append(text)
        assert json.loads(session.receive_text()) == self.notes

    @precondition(lambda self: self.sockets)
    @rule(data=st.data())
    def close_websocket(self, data: st.DataObject) -> None:
        session = data.draw(st.sampled_from(self.sockets))
        self.sockets.remove(session)
        session.__exit__(None, None, None)
        self.notes.append("left")

    def _lose_websockets(self) -> None:
        for session in self.sockets:
            with pytest.raises(errors.WorkerDied):
                session.receive_text()
            self._leave(session)
        self.sockets = []

    def _leave(self, session: Any) -> None:
        try:
            session.__exit__(None, None, None)
        except errors.SocketlessError:
            assert not self.is_running

    # The worker

    @precondition(lambda self: self.free or self.is_closed)  # they have no pool timeout
    @rule(text=st.text("ab", max_size=3))
    def run_function(self, text: str) -> None:
        with self.expected() as is_fine:
            got = self.worker.run(model_app.note, text)
        if is_fine:
            self.notes.append(text)
            assert got == self.notes

    @precondition(lambda self: self.free or self.is_closed)
    @rule()
    def reset(self) -> None:
        with self.expected() as is_fine:
            self.worker.reset()
        if is_fine:
            self.notes = []

    @precondition(lambda self: self.free and not self.is_closed)
    @rule()
    def renew(self) -> None:
        self.worker.renew()
        self.is_running, self.restarts, self.notes = True, 0, []

    @rule()
    def start_again(self) -> None:
        if self.is_closed:
            with pytest.raises(errors.StateError):
                self.worker.start()
        else:
            self.worker.start()
            self.is_running = True

    @precondition(lambda self: self.kind != "thread" and self.is_running and not self.is_closed)
    @rule()
    def kill(self) -> None:
        pid = self.worker.pid  # type: ignore[attr-defined]
        os.kill(pid, signal.SIGKILL)
        wait_until_ended(pid)
        self._end()
        self._lose_websockets()

    @precondition(lambda self: not self.is_closed)
    @rule(is_meant=st.integers(0, 9))
    def stop(self, is_meant: int) -> None:
        if is_meant:  # or most of what there is would come after it
            return
        self.worker.close()
        self.is_closed = True
        self._end()
        self._lose_websockets()


@pytest.mark.parametrize("app", ["wsgi", "asgi"])
@pytest.mark.parametrize("kind", ["thread", "fork"])
def test_worker_does_as_its_model(kind: str, app: str) -> None:
    """Requests, streams, WebSockets, functions, resets, kills, starts and stops: each answer is the model's."""
    few = settings(max_examples=10, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck))
    run_state_machine_as_test(partial(Model, kind, app), settings=few)


@pytest.mark.slow
@pytest.mark.parametrize("app", ["wsgi", "asgi"])
@pytest.mark.parametrize(("kind", "count"), [("thread", 100), ("fork", 100), ("spawn", 20)])
def test_worker_does_as_its_model_for_long(kind: str, app: str, count: int) -> None:
    """The same, with more and longer examples, and workers that are started by spawn."""
    many = settings(max_examples=count, stateful_step_count=50, deadline=None, suppress_health_check=list(HealthCheck))
    seen.clear()
    run_state_machine_as_test(partial(Model, kind, app), settings=many)
    print(f"{kind} {app}:", dict(seen))
