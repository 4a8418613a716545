"""Thread workers: what they share, how they end, and what is left when nobody ends them."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import httpx
import pytest

from socketless import IpcAsyncTransport, IpcProcess, IpcThread, IpcTransport, errors
from socketless._forking import fork
from support import LIMIT, held_elsewhere, nothing_leaks, traceback_of

variable = contextvars.ContextVar("variable", default="not set")


class Hall:
    """Where an app and its test meet."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.is_here = threading.Event()
        self.may_go = threading.Event()

    def wait(self) -> None:
        self.is_here.set()
        assert self.may_go.wait(LIMIT)


def asgi_app(hall: Hall) -> Any:
    """Return an app that does what its path says."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for phase in ("startup", "shutdown"):
                await receive()
                hall.heard.append(phase)
                scope["state"][phase] = True
                await send({"type": f"lifespan.{phase}.complete"})
            return
        path = scope["path"]
        if path == "/hang":
            hall.wait()
        elif path == "/task-that-exits":
            asyncio.get_running_loop().create_task(leave())
            await asyncio.Event().wait()
        elif path == "/boom":
            raise LookupError("boom")
        hall.heard.append((path, variable.get(), scope.get("state")))
        variable.set("of the app")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one", "more_body": path == "/stream"})
        if path == "/stream":
            await receive()
            await receive()

    return app


async def leave() -> None:
    raise SystemExit(3)


def wsgi_app(hall: Hall) -> Any:
    """Return the same, as far as WSGI goes."""

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        path = environ["PATH_INFO"]
        if path == "/hang":
            hall.wait()
        elif path == "/boom":
            raise LookupError("boom")
        hall.heard.append((path, variable.get(), None))
        variable.set("of the app")
        start_response("200 OK", [])
        return [b"one"]

    return app


APPS: dict[str, Callable[[Hall], Any]] = {"asgi": asgi_app, "wsgi": wsgi_app}


@pytest.fixture
def hall() -> Hall:
    return Hall()


@pytest.fixture(params=APPS)
def app(request: pytest.FixtureRequest, hall: Hall) -> Any:
    return APPS[request.param](hall)


def client_of(worker: IpcThread) -> httpx.Client:
    return httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=LIMIT)


@contextmanager
def hanging(worker: IpcThread, hall: Hall) -> Iterator[list[BaseException]]:
    """Have a request hang in a thread; what it raised is in the list after the block."""
    raised: list[BaseException] = []

    def request() -> None:
        try:
            client_of(worker).get("/hang")
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=request)
    thread.start()
    assert hall.is_here.wait(LIMIT)
    yield raised
    thread.join(LIMIT)
    assert not thread.is_alive()


def wait_for_threads(names: str) -> None:
    """Wait until the threads of workers have ended."""
    for thread in threading.enumerate():
        if thread.name.startswith(names):
            thread.join(LIMIT)


def test_close_leaves_nothing(app: Any) -> None:
    """A worker that is closed leaves no thread and no descriptor, and is closed then."""
    with nothing_leaks():
        with IpcThread(app) as worker, client_of(worker) as client:
            assert client.get("/").content == b"one"
        assert repr(worker) == "<IpcThread the app object, threads, closed>"
        with pytest.raises(errors.StateError, match="^the worker has been closed$"):
            client_of(worker).get("/")
        worker.close()


def test_lifespan_and_state(hall: Hall) -> None:
    """The lifespan runs from the start to close(); its state is the dictionary that was given, copied for a request."""
    state: dict[str, Any] = {"before": 1}
    with IpcThread(asgi_app(hall), state=state) as worker:
        client_of(worker).get("/")
    assert hall.heard == ["startup", ("/", "not set", {"before": 1, "startup": True}), "shutdown"]
    assert state == {"before": 1, "startup": True, "shutdown": True}


def test_no_lifespan(hall: Hall) -> None:
    """Without the lifespan, an app that has one serves all the same."""
    with IpcThread(asgi_app(hall), lifespan=False) as worker:
        client_of(worker).get("/")
    assert hall.heard == [("/", "not set", None)]


def test_context(app: Any, hall: Hall) -> None:
    """A request runs in the context of who sends it, and what the app sets in it stays there."""

    def send(value: str) -> None:
        variable.set(value)
        client.get("/")

    with IpcThread(app) as worker, client_of(worker) as client:
        contextvars.copy_context().run(send, "one")
        client.get("/")
        contextvars.copy_context().run(send, "two")
        assert worker.run(variable.get) == "not set"
    assert [each[1] for each in hall.heard if isinstance(each, tuple)] == ["one", "not set", "two"]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("caller", ["asyncio", "trio"])
def test_backends(backend: str, caller: str) -> None:
    """An app runs on its own kind of loop, whichever the test runs on, and threads of it come back to that."""
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await anyio.sleep(0)
        seen.append(await anyio.to_thread.run_sync(anyio.from_thread.run, anyio.to_thread.run_sync, str, 1))
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": (await receive())["body"]})

    async def main() -> None:
        with IpcThread(app, lifespan=False, backend=backend) as worker:
            async with httpx.AsyncClient(transport=IpcAsyncTransport(worker), base_url="http://testserver") as client:
                assert (await client.post("/", content=b"body")).content == b"body"
            assert client_of(worker).post("/", content=b"body").content == b"body"

    anyio.run(main, backend=caller)
    assert seen == ["1", "1"]


def test_exceptions_are_the_same(app: Any) -> None:
    """What the app raises is raised here, the object itself; its traceback leads from the test to the app."""
    error = LookupError("boom")
    with IpcThread(app) as worker:
        with pytest.raises(LookupError) as caught:
            client_of(worker).get("/boom")
        assert [entry.name for entry in caught.traceback][-1] == "app"

        def fail() -> None:
            raise error

        with pytest.raises(LookupError) as caught:
            worker.run(fail)
        assert caught.value is error


def test_close_while_the_app_hangs(app: Any, hall: Hall) -> None:
    """close() waits for an app that hangs as long as it may; its request gets WorkerDied, its thread ends with it."""
    worker = IpcThread(app, shutdown_timeout=0)
    with hanging(worker, hall) as raised:
        worker.close()
    assert [type(error).__name__ for error in raised] == ["WorkerDied"]
    assert str(raised[0]) == "GET /hang: the worker has ended"
    hall.may_go.set()
    wait_for_threads("socketless-")


def test_read_timeout(app: Any, hall: Hall) -> None:
    """A read timeout says where the app is; the worker serves on, and the channel comes back."""
    with IpcThread(app, max_connections=1) as worker, client_of(worker) as client:
        with pytest.raises(httpx.ReadTimeout) as caught:
            client.get("/hang", timeout=0.05)
        assert "hall.wait()" in caught.value.stack  # type: ignore[attr-defined]
        hall.may_go.set()
        assert client.get("/").content == b"one"


def test_task_that_exits(hall: Hall) -> None:
    """A task of the app that raises SystemExit ends the worker; the error shows it, the next request has another."""
    with nothing_leaks(), IpcThread(asgi_app(hall)) as worker, client_of(worker) as client:
        with pytest.raises(errors.WorkerDied) as caught:
            client.get("/task-that-exits")
        assert caught.value.stderr.endswith("SystemExit: 3\n")
        assert "raise SystemExit(3)" in str(caught.value)
        assert client.get("/").content == b"one"


@pytest.mark.parametrize("what", ["idle", "used", "streaming"])
def test_dropped(app: Any, hall: Hall, what: str) -> None:
    """A worker that is dropped open ends by itself, and says that it was not closed."""
    with nothing_leaks():
        worker = IpcThread(app)
        if what != "idle":
            client_of(worker).get("/")
        if what == "streaming":
            client = client_of(worker)
            response = client.send(client.build_request("GET", "/stream"), stream=True)
            assert next(response.iter_raw()) == b"one"
            response.close()
            del client, response
            wait_for_threads("socketless-parked")  # which has the exchange, and so the worker
        with pytest.warns(ResourceWarning, match="^unclosed <IpcThread the app object, threads>$"):
            del worker
            gc.collect()
        wait_for_threads("socketless-")


def test_stream_outlives_who_has_sent_it(hall: Hall) -> None:
    """A response that is still open keeps its worker, which nobody else has any more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        client = client_of(IpcThread(asgi_app(hall)))
        with client.stream("GET", "/stream") as response:
            chunks = response.iter_raw()
            assert next(chunks) == b"one"
            del client
            gc.collect()
            assert hall.heard[-1][0] == "/stream"
        del response, chunks
        gc.collect()
        wait_for_threads("socketless-")


def test_fork(app: Any) -> None:
    """A fork of the test cannot use the worker; a worker that is forked beside it serves, and both end."""
    with nothing_leaks(), IpcThread(app) as worker, client_of(worker) as client:
        assert client.get("/").content == b"one"
        pid = fork()
        if pid == 0:
            try:
                client.get("/")
            except errors.StateError:
                os._exit(7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        with IpcProcess(app, start_method="fork") as process:
            assert httpx.Client(transport=IpcTransport(process)).get("http://testserver/").content == b"one"
        assert client.get("/").content == b"one"


def test_dropped_in_a_fork(app: Any) -> None:
    """A fork that drops its copy of a worker does not wait for a lock that a thread of its parent holds."""
    with nothing_leaks(), IpcThread(app) as worker:
        run: Any = worker._run
        with held_elsewhere(run._thread._lock):
            pid = fork()
            if pid == 0:
                signal.alarm(int(LIMIT))  # which ends a child that waits
                run.__del__()
                os._exit(7)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_start_failures(hall: Hall) -> None:
    """A start that fails says why, and leaves nothing."""

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        raise LookupError("no database")

    async def hanging_start(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await asyncio.to_thread(hall.wait)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        hall.heard.append("shut down")
        await send({"type": "lifespan.shutdown.complete"})

    with nothing_leaks():
        with pytest.raises(errors.WorkerStartError) as caught:
            IpcThread(failing, lifespan="on")
        assert str(caught.value) == "the worker could not start: the app's lifespan raised LookupError('no database')"
        assert isinstance(caught.value.__cause__, LookupError)
        assert 'raise LookupError("no database")' in traceback_of(caught.value)
        with pytest.raises(errors.WorkerStartError, match="there is no module 'no_such_module' on sys.path"):
            IpcThread("no_such_module:app")
        with pytest.raises(TypeError, match="^the app must be an import string or a callable, not 42$"):
            IpcThread(42)  # type: ignore[arg-type]
        with pytest.raises(errors.WorkerStartError) as caught:
            IpcThread(hanging_start, startup_timeout=1, shutdown_timeout=0)
        assert str(caught.value).startswith("the worker was not ready after 1 s; it is at:\n")
        assert "await asyncio.to_thread(hall.wait)" in str(caught.value)
        hall.may_go.set()
        wait_for_threads("socketless-")
        assert hall.heard == ["shut down"]


def test_shutdown_failure() -> None:
    """What the app raises when it is shut down is raised by close(), and nothing is left."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        raise LookupError("at the end")

    with nothing_leaks(), pytest.raises(LookupError, match="^'at the end'$|^at the end$"), IpcThread(app):
        pass


def test_many_at_once(hall: Hall) -> None:
    """Channels are made as they are needed: a hundred requests wait for each other, and all are answered."""
    barrier = threading.Barrier(100)

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        barrier.wait(LIMIT)
        start_response("200 OK", [])
        return [b"one"]

    answers = []
    with nothing_leaks(), IpcThread(app) as worker, client_of(worker) as client:
        threads = [threading.Thread(target=lambda: answers.append(client.get("/").content)) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        assert answers == [b"one"] * 100


def test_own_event_loop() -> None:
    """A coroutine of the app that would wait for its own event loop gets an error; in a thread, it may ask."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = b"inner"
        if scope["path"] == "/loop":
            with pytest.raises(errors.StateError, match="^a coroutine of the app would block its own event loop: "):
                client.get("/inner")
        elif scope["path"] == "/thread":
            body = (await asyncio.to_thread(client.get, "/inner")).content
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    with IpcThread(app, lifespan=False) as worker, client_of(worker) as client:
        assert client.get("/loop").content == b"inner"
        assert client.get("/thread").content == b"inner"


def test_close_in_the_middle_of_requests(app: Any) -> None:
    """Requests that are in flight when the worker is closed get its own errors, and touch no descriptor of others."""
    raised: list[BaseException] = []

    def ask_until_closed(client: httpx.Client, started: threading.Event) -> None:
        try:
            while True:
                client.get("/")
                started.set()
        except BaseException as error:
            raised.append(error)

    with nothing_leaks():
        for _ in range(20):
            with IpcThread(app) as worker:
                client = client_of(worker)
                events = [threading.Event() for _ in range(3)]
                threads = [threading.Thread(target=ask_until_closed, args=(client, event)) for event in events]
                for thread in threads:
                    thread.start()
                assert all(event.wait(LIMIT) for event in events)
            for thread in threads:
                thread.join(LIMIT)
    assert len(raised) == 60
    assert {type(error).__name__ for error in raised} <= {"WorkerDied", "StateError"}


def test_websocket_of_a_client_that_does_not_read() -> None:
    """An app that sends large messages waits for a client that reads none."""
    sent = []
    is_waiting = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.accept"})
        asyncio.get_running_loop().call_later(0.05, is_waiting.set)
        for number in range(1000):
            await send({"type": "websocket.send", "bytes": bytes(100_000)})
            sent.append(number)

    with IpcThread(app, lifespan=False) as worker, worker.websocket_connect("/") as session:
        assert session.receive_bytes() == bytes(100_000)
        assert is_waiting.wait(LIMIT)
        assert len(sent) < 10
        for _ in range(999):
            session.receive_bytes()


def test_trio_that_ends() -> None:
    """Where trio itself ends, the worker does; the error says of what, and the next request has another."""
    import trio

    async def fail() -> None:
        raise LookupError("of trio's")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/fail":
            trio.lowlevel.spawn_system_task(fail)
            await trio.sleep_forever()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"one"})

    with nothing_leaks(), IpcThread(app, lifespan=False, backend="trio") as worker, client_of(worker) as client:
        with pytest.raises(errors.WorkerDied) as caught:
            client.get("/fail")
        assert "LookupError: of trio's" in caught.value.stderr
        assert client.get("/").content == b"one"
