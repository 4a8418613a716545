"""Exchanges that two threads use, or that nobody ends."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import httpx
import pytest

from socketless import IpcProcess, IpcTransport, errors
from socketless._forking import fork
from socketless._host.exchange import Exchange
from socketless._host.limits import NO_LIMITS, Timeouts
from socketless._wire.drivers import poll, run_blocking
from socketless._wire.messages import Event, Failed, Reset
from socketless._wire.steps import Wait, Woken
from support import LIMIT, nothing_leaks, stopped


@pytest.fixture
def worker() -> Iterator[IpcProcess]:
    with nothing_leaks(), IpcProcess("apps.exchanges_app:app", max_connections=1) as process:
        yield process


@pytest.fixture
def client(worker: IpcProcess) -> Iterator[httpx.Client]:
    with httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=LIMIT) as client:
        yield client


def in_a_fork(call: Callable[[], object]) -> str:
    """Return what `call` raises in a forked child."""
    read_fd, write_fd = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            call()
        except BaseException as error:
            os.write(write_fd, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write_fd)
    with open(read_fd) as said:
        text = said.read()
    os.waitpid(pid, 0)
    return text.replace(str(pid), "PID")


def test_fork_in_the_middle_of_a_stream(client: httpx.Client) -> None:
    """A forked child can neither read its parent's response nor end it."""
    with client.stream("GET", "/for-ever") as response:
        pieces = response.iter_raw()
        next(pieces)
        assert in_a_fork(lambda: next(pieces)) == (
            f"StateError: GET /for-ever: this response belongs to process {os.getpid()}, and this is a fork of it (PID)"
        )
        assert in_a_fork(response.close) == ""
        assert next(pieces) == b"again\n"


def test_closed_by_another_thread(client: httpx.Client) -> None:
    """A response that another thread closes while it is read is an error, and not a short body."""
    with ThreadPoolExecutor(1) as threads:
        response = client.send(client.build_request("GET", "/for-ever"), stream=True)
        reading = threading.Event()

        def read() -> None:
            for _ in response.iter_raw():
                reading.set()

        result = threads.submit(read)
        assert reading.wait(LIMIT)
        response.close()
        with pytest.raises((errors.StateError, httpx.StreamError)):
            result.result(LIMIT)
    assert client.get("/").text == "hello"


def test_receiving_when_sending_finds_the_worker_ended() -> None:
    """Who sends closes nothing under who receives, who is told the same."""
    with nothing_leaks(), IpcProcess("apps.exchanges_app:chat", start_method="fork", lifespan=False) as worker:
        session = worker.websocket_connect("/", timeout=LIMIT).__enter__()
        exchange = session._exchange
        assert exchange is not None
        receiving = exchange.receive()
        wait = next(receiving)
        assert isinstance(wait, Wait)
        session.send_text("exit")
        for thread in threading.enumerate():
            if thread.name == f"socketless-watch-{worker.pid}":
                thread.join(LIMIT)
        with pytest.raises(errors.WorkerDied):
            session.send_text("anything")
        os.fstat(wait.fd)
        with pytest.raises(errors.WorkerDied):
            receiving.send(Woken.READY)
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(wait.fd)


def test_receiving_the_last_message_while_sending() -> None:
    """When the one that sends has come to its end, too, the channel is free."""
    with (
        nothing_leaks(),
        IpcProcess("apps.exchanges_app:chat", start_method="fork", lifespan=False, max_connections=1) as worker,
    ):
        exchange = worker.websocket_connect("/", timeout=LIMIT).__enter__()._exchange
        assert exchange is not None
        run_blocking(exchange.send(Event({"type": "websocket.receive", "text": "raise"})))
        receiving = exchange.receive()
        assert poll(next(receiving)) is Woken.READY  # type: ignore[arg-type]
        with stopped(worker.pid):  # so that it reads nothing of what comes now
            sending = exchange.send(Event({"type": "websocket.receive", "bytes": bytes(2_000_000)}))
            wait = next(sending)
            with pytest.raises(StopIteration) as caught:
                receiving.send(Woken.READY)
            assert isinstance(caught.value.value, Failed)
        with suppress(StopIteration):  # it has been written
            while True:
                wait = sending.send(poll(wait))  # type: ignore[arg-type]
        assert run_blocking(worker.exchange(Reset(), Timeouts(pool=0))).is_over


@pytest.mark.parametrize("turns", [1, 50])
def test_dropped_response(client: httpx.Client, turns: int) -> None:
    """A response that is dropped open is a ResourceWarning, and its channel is found again."""
    for _ in range(turns):
        with pytest.warns(ResourceWarning, match="^unclosed response of GET /for-ever$"):
            response = client.send(client.build_request("GET", "/for-ever"), stream=True)
            next(response.iter_raw())
            del response
            gc.collect()
        assert client.get("/").text == "hello"


def test_who_waits_for_the_channel_of_a_dropped_response(worker: IpcProcess, client: httpx.Client) -> None:
    """It is found by a request that was waiting already, too."""
    with ThreadPoolExecutor(1) as threads, pytest.warns(ResourceWarning, match="unclosed response"):
        response = client.send(client.build_request("GET", "/for-ever"), stream=True)
        waiting = threads.submit(client.get, "/")
        while not worker._pool._waiters:
            pass
        del response
        gc.collect()
        assert waiting.result(LIMIT).text == "hello"


def test_cancelled_before_anything_was_sent(worker: IpcProcess, client: httpx.Client) -> None:
    """An exchange that was interrupted before its first message gives its channel back."""
    exchange = Exchange(worker._pool, "GET /", NO_LIMITS)
    run_blocking(worker._check_out(exchange.lease, None))
    exchange.cancel()
    assert client.get("/").text == "hello"


def test_app_that_reads_in_a_thread(client: httpx.Client) -> None:
    """An app may read its request in another thread than it answers in."""
    for size in (1, 1000):
        assert client.post("/in-a-thread", content=(b"x" for _ in range(size))).text == str(size)


def test_worker_closed_with_open_streams() -> None:
    """Who reads a response of a worker that was closed hears of it."""
    with nothing_leaks(), IpcProcess("apps.exchanges_app:app") as worker:
        client = httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=LIMIT)
        response = client.send(client.build_request("GET", "/for-ever"), stream=True)
        pieces = response.iter_raw()
        next(pieces)
        worker.close()
        with pytest.raises(httpx.ReadError) as caught:
            for _ in pieces:
                pass
        assert isinstance(caught.value, errors.WorkerDied)
        response.close()
