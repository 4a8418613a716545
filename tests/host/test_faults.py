"""What can go wrong while a worker serves, and is not in the table of `tests/cells`."""

from __future__ import annotations

import copy
import os
import pickle
import signal
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest

import aiohttp_client
from clients import CLIENTS, Client, in_pairs
from socketless import IpcProcess, IpcTransport, errors
from socketless._forking import fork
from socketless._wire.drivers import run_blocking
from socketless._wire.messages import Response
from support import LIMIT, nothing_leaks, stopped

# Each client, each app and each start method meets some of the others.
pytestmark = pytest.mark.one_in(2, "start", "start_method", "name")

APPS = ["wsgi", "asgi"]
START_METHODS = ["spawn", "fork"]


@pytest.fixture(params=START_METHODS)
def start_method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=APPS)
def start(request: pytest.FixtureRequest, start_method: str) -> Iterator[Callable[..., IpcProcess]]:
    workers = []

    def start(module: str = "apps.conformance_app", **options: Any) -> IpcProcess:
        path = f"{module}:{request.param}"
        # An app that hangs in a thread of its own is not worth waiting for at the end of a test.
        workers.append(IpcProcess(path, start_method=start_method, **{"shutdown_timeout": 0.2, **options}))
        return workers[-1]

    aiohttp_client.loop()  # its thread stays
    with nothing_leaks():
        yield start
        for worker in workers:
            worker.close()


def client_of(worker: IpcProcess, **options: Any) -> httpx.Client:
    return httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=None, **options)


each_client = pytest.mark.parametrize(
    ("start", "start_method", "name"),
    [pytest.param(*values, marks=marks) for *values, marks in in_pairs(APPS, START_METHODS)],
    indirect=["start", "start_method"],
)


def test_worker_dies_too_often(start: Callable[..., IpcProcess]) -> None:
    """After max_restarts, requests fail at once, until start() is called."""
    worker = start(max_restarts=1)
    client = client_of(worker)
    for _ in range(2):
        with pytest.raises(errors.WorkerDied):
            client.get("/kill")
    pid = worker.pid
    with pytest.raises(errors.WorkerDied) as caught:
        client.get("/count")
    assert str(caught.value) == (
        f"GET /count: not started again, after 1 of max_restarts=1: the worker (pid {pid}) was killed by SIGKILL"
    )
    worker.start()
    assert client.get("/count").text == "1"


def hang(threads: ThreadPoolExecutor, client: httpx.Client, fifo: Path, stack: ExitStack) -> Future[httpx.Response]:
    """Let a request hang, and return when it is in the app."""
    os.mkfifo(fifo)
    future = threads.submit(client.get, f"/fifo?{fifo}")
    stack.enter_context(open(fifo, "w"))  # blocks until the app opens it, too
    return future


def test_worker_dies_with_many_in_flight(start: Callable[..., IpcProcess], tmp_path: Path) -> None:
    """Every request in flight gets WorkerDied, and one restart serves all that come after."""
    worker = start()
    client = client_of(worker)
    with ExitStack() as stack, ThreadPoolExecutor(8) as threads:
        hanging = [hang(threads, client, tmp_path / f"fifo{number}", stack) for number in range(3)]
        with pytest.raises(errors.WorkerDied):
            client.get("/kill")
        for future in hanging:
            with pytest.raises(errors.WorkerDied, match="was killed by SIGKILL"):
                future.result(LIMIT)
        served = list(threads.map(lambda _: client.get("/seen").status_code, range(20), timeout=LIMIT))
    assert served == [200] * 20


@each_client
def test_pool_timeout(start: Callable[..., IpcProcess], name: str) -> None:
    """When every channel is busy, the library's pool timeout says with what, and nothing of the others' queries."""
    worker = start("apps.faults_app", max_connections=2)
    client: Client = CLIENTS[name](worker)
    for _ in range(2):
        with pytest.raises(errors.ReadTimeout):
            client.request("GET", "/hang?token=secret", timeout=client.library.Timeout(LIMIT, read=0.01))
    with pytest.raises(client.library.PoolTimeout) as caught:
        client.request("GET", "/status/200?mine", timeout=client.library.Timeout(LIMIT, pool=0.01))
    assert isinstance(caught.value, errors.PoolTimeout)
    lines = str(caught.value).splitlines()
    assert lines[0] == "GET /status/200?mine: all 2 channels of the worker stayed busy (max_connections):"
    assert [line.partition(", for ")[0] for line in lines[1:]] == ["  GET /hang (given up, but the app still runs)"] * 2


def test_waiting_for_a_channel(start: Callable[..., IpcProcess]) -> None:
    """More requests than channels wait for their turn, and all are answered."""
    worker = start(max_connections=2)
    client = client_of(worker)
    with ThreadPoolExecutor(16) as threads:
        counts = list(threads.map(lambda _: int(client.get("/count").text), range(200), timeout=LIMIT))
    assert len(counts) == 200


def test_write_timeout(start: Callable[..., IpcProcess]) -> None:
    """A worker that is stopped and does not take a large body gives the write timeout; continued, it serves."""
    worker = start(max_connections=1)
    client = client_of(worker)
    client.get("/count")
    with stopped(worker.pid), pytest.raises(httpx.WriteTimeout) as caught:
        client.post("/echo", content=bytes(8 << 20), timeout=httpx.Timeout(LIMIT, write=0.05))
    assert str(caught.value) == "POST /echo: the worker did not take the request within 0.05 s"
    assert client.get("/count").text == "2"


def test_closed_worker(start: Callable[..., IpcProcess]) -> None:
    """A closed worker refuses requests, resets and starts; closing twice is nothing."""
    worker = start()
    client = client_of(worker)
    worker.close()
    worker.close()
    for call in (lambda: client.get("/count"), worker.start):
        with pytest.raises(errors.StateError) as caught:
            call()
        assert str(caught.value) == "the worker has been closed"
    assert worker.pid is None


def test_app_closes_its_standard_streams(start: Callable[..., IpcProcess]) -> None:
    """An app that closes descriptors 0 to 2 is served on."""
    client = client_of(start())
    assert client.get("/close-0-to-2").status_code == 200
    assert client.get("/count").text == "1"


def test_fork_of_the_host(start: Callable[..., IpcProcess]) -> None:
    """A forked child of the host cannot use the worker, and the host still can."""
    worker = start()
    client = client_of(worker)
    client.get("/count")
    read_fd, write_fd = os.pipe()
    pid = fork()
    if pid == 0:
        try:
            client.get("/count")
        except BaseException as error:
            os.write(write_fd, f"{type(error).__name__}: {error}".encode())
            worker.close()
        finally:
            os._exit(0)
    os.close(write_fd)
    with open(read_fd) as said:
        text = said.read()
    os.waitpid(pid, 0)
    assert text == (
        f"StateError: this worker belongs to process {os.getpid()}, and this is a fork of it ({pid}); "
        "start another worker here"
    )
    assert client.get("/count").text == "2"


def test_message_that_cannot_cross(start: Callable[..., IpcProcess]) -> None:
    """What cannot be pickled is refused before anything is sent, and the channel stays usable."""
    worker = start(max_connections=1)
    bad: Any = Response(200, "", [], extensions={"lock": threading.Lock()})
    with pytest.raises(errors.TransferError, match="cannot pickle"):
        run_blocking(worker.exchange(bad))
    assert client_of(worker).get("/count").text == "1"


def test_worker_that_somebody_else_reaps(start: Callable[..., IpcProcess]) -> None:
    """Where the host ignores SIGCHLD, a worker's end is noticed, and nobody claims to know how it ended."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        worker = start()
        with pytest.raises(errors.WorkerDied) as caught:
            client_of(worker).get("/kill")
        assert caught.value.exitcode is None
        worker.close()
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_reset(start: Callable[..., IpcProcess]) -> None:
    """reset() calls the hook in the worker."""
    worker = start(reset_hook_path="apps.conformance_app:reset")
    client = client_of(worker)
    assert [client.get("/count").text for _ in range(2)] == ["1", "2"]
    worker.reset()
    assert client.get("/count").text == "1"


def test_failing_reset(start: Callable[..., IpcProcess]) -> None:
    """What the hook raises is raised by reset(), and the worker stays usable."""
    worker = start(reset_hook_path="apps.conformance_app:failing_reset")
    with pytest.raises(ValueError, match="^the hook failed$"):
        worker.reset()
    assert client_of(worker).get("/count").text == "1"


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_errors_survive_pickling(library: Any) -> None:
    """An error of ours that is also the library's can be pickled, as pytest-xdist does."""
    with IpcProcess("apps.conformance_app:wsgi") as worker:
        client = library.Client(transport=IpcTransport(worker), base_url="http://testserver")
        with pytest.raises(errors.WorkerDied) as caught:
            client.get("/exit")
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is type(caught.value)
    assert (str(again), again.exitcode) == (str(caught.value), 7)


def test_copies() -> None:
    """A worker cannot be copied or pickled, and says so."""
    with IpcProcess("apps.conformance_app:wsgi") as worker:
        for make_copy in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="^an IpcProcess cannot be copied or pickled"):
                make_copy(worker)


def test_unclosed_worker() -> None:
    """A worker that is dropped open is a ResourceWarning, and is closed."""
    with nothing_leaks(), pytest.warns(ResourceWarning, match="unclosed <IpcProcess 'apps.conformance_app:wsgi'"):
        worker = IpcProcess("apps.conformance_app:wsgi")
        del worker


@pytest.mark.parametrize(
    ("start_method", "count"), [("spawn", 10), pytest.param("spawn", 50, marks=pytest.mark.slow), ("fork", 50)]
)
def test_many_workers(start_method: str, count: int) -> None:
    """Starting, using and closing many workers leaves no descriptor, thread or process."""
    with nothing_leaks():
        for _ in range(count):
            with IpcProcess("apps.conformance_app:wsgi", start_method=start_method) as worker:
                assert client_of(worker).get("/count").text == "1"


def test_leftovers_end(start_method: str) -> None:
    """What goes on of requests that were given up ends with the worker, which starts again; else it stays as it is."""
    with (
        nothing_leaks(),
        IpcProcess(
            "apps.faults_app:leaving", start_method=start_method, shutdown_timeout=0.1, app_kind="wsgi", max_restarts=0
        ) as worker,
    ):
        client, pid = client_of(worker), worker.pid
        assert client.get("/").text == "hello"
        assert not worker.end_leftovers()
        with pytest.raises(errors.ReadTimeout):
            client.get("/hang", timeout=httpx.Timeout(LIMIT, read=0.01))
        assert worker.pid == pid
        assert worker.end_leftovers()
        assert worker.pid != pid
        assert client.get("/").text == "hello"


@pytest.fixture
def spoilt(start_method: str) -> Iterator[Callable[[int], IpcProcess]]:
    """Start a worker whose app writes rubbish."""
    with nothing_leaks(), ExitStack() as stack:
        yield lambda channels: stack.enter_context(
            IpcProcess("apps.faults_app:rubbish", start_method=start_method, max_connections=channels, app_kind="wsgi")
        )


def test_channels_are_replaced(spoilt: Callable[[int], IpcProcess]) -> None:
    """A worker whose channels end one by one, a thousand times, gets others: all of them can be in use at once."""
    worker = spoilt(3)
    client, pid = client_of(worker), worker.pid
    for _ in range(1000):
        with pytest.raises(errors.ChannelClosed):
            client.get("/now")
    with ExitStack() as stack:
        responses = [stack.enter_context(client.stream("GET", "/")) for _ in range(3)]
        assert [response.read() for response in responses] == [b"onetwo"] * 3
    assert worker.pid == pid


def test_last_channel_is_replaced_for_who_waits(spoilt: Callable[[int], IpcProcess]) -> None:
    """Who waits for the only channel gets another one when that has ended."""
    worker = spoilt(1)
    client, pid = client_of(worker), worker.pid
    with ThreadPoolExecutor(1) as threads, client.stream("GET", "/later") as response:
        waiting = threads.submit(client.get, "/")
        while not worker._pool._waiters:
            pass
        with pytest.raises(errors.ChannelClosed):
            response.read()
        assert waiting.result(LIMIT).text == "onetwo"
    assert worker.pid == pid


def test_channel_cannot_be_replaced(
    spoilt: Callable[[int], IpcProcess],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Where no FIFOs can be made, as the log says, the other channels serve; without any, another worker is started."""
    worker = spoilt(2)
    client, pid = client_of(worker), worker.pid
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with client.stream("GET", "/later") as response:
        with pytest.raises(errors.ChannelClosed):
            client.get("/now")
        with pytest.raises(errors.PoolTimeout):
            client.get("/", timeout=httpx.Timeout(None, pool=0))
        with pytest.raises(errors.ChannelClosed):
            response.read()
    assert worker.pid == pid
    assert client.get("/").text == "onetwo"
    assert worker.pid != pid
    said = (
        f"worker {pid}: a channel has ended that cannot be replaced: [Errno 2] No such file or directory: '{tmp_path}"
    )
    assert [message.startswith(said) for message in caplog.messages] == [True, True]
