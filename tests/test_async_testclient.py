"""`socketless.testclient.AsyncTestClient`: the app on the loop of the test, under asyncio and trio.

What it has in common with `TestClient` is tested there; this is about the loop.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from functools import partial
from itertools import count
from typing import Any

import anyio
import anyio.lowlevel
import flask
import pytest
import sniffio
import trio
import trio.testing
from httpx_ws import aconnect_ws
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from socketless import IpcProcess
from socketless._wire.messages import MOST_AHEAD
from socketless.errors import ReadTimeout, StateError, WriteTimeout
from socketless.testclient import AsyncTestClient, WebSocketDenialResponse
from support import LIMIT, nothing_leaks

pytestmark = pytest.mark.anyio

caller: ContextVar[str] = ContextVar("caller", default="nobody")


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """anyio's plugin runs each test under both."""
    return str(request.param)


class Shop:
    """An app, and what a test shares with it."""

    def __init__(self) -> None:
        self.notes: list[Any] = []
        self.opened = anyio.Event()  # bound to the loop of the test
        self.waiting = anyio.Event()
        self.app = Starlette(
            routes=[
                *(Route(f"/{name}", getattr(self, name), methods=["GET", "POST"]) for name in HTTP),
                Mount("/events", self.events),
                *(WebSocketRoute(f"/{name}", getattr(self, name)) for name in WEBSOCKETS),
            ],
            lifespan=self.lifespan,
        )

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[dict[str, Any]]:
        self.notes.append("up")
        yield {"pool": "pool"}
        await anyio.lowlevel.checkpoint()
        self.notes.append("down")

    async def where(self, request: Request) -> Response:
        who = caller.get()
        caller.set("the app")
        return JSONResponse([who, sniffio.current_async_library(), getattr(request.state, "pool", None)])

    def thread(self, request: Request) -> Response:
        return PlainTextResponse(caller.get())

    async def wait(self, request: Request) -> Response:
        self.waiting.set()
        try:
            await self.opened.wait()
        finally:
            self.notes.append("waited")
        return PlainTextResponse("open")

    async def open(self, request: Request) -> Response:
        self.opened.set()
        return PlainTextResponse("opened", background=BackgroundTask(self.later))

    async def later(self) -> None:
        await anyio.lowlevel.checkpoint()
        self.notes.append("later")

    async def broken(self, request: Request) -> Response:
        raise LookupError("broken")

    async def events(self, scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            for number in count():
                await send({"type": "http.response.body", "body": b"data: %d\n\n" % number, "more_body": True})
        finally:
            self.notes.append("events left")

    async def halfway(self, request: Request) -> Response:
        async def pieces() -> AsyncIterator[str]:
            yield "half"
            raise LookupError("halfway")

        return StreamingResponse(pieces())

    async def echo(self, request: Request) -> Response:
        return Response(await request.body(), headers={"x-path": request.scope["root_path"]})

    async def away(self, request: Request) -> Response:
        response = RedirectResponse("where")
        response.set_cookie("been", "away")
        return response

    async def hour(self, request: Request) -> Response:
        await anyio.sleep(3600)
        return PlainTextResponse("an hour later")

    async def upper(self, socket: WebSocket) -> None:
        await socket.accept(subprotocol=next(iter(socket.scope["subprotocols"]), None))
        try:
            while (text := await socket.receive_text()) != "bye":
                await socket.send_json({"text": text.upper()})
            await socket.close(4001, "bye")
        except WebSocketDisconnect as end:
            self.notes.append(end.code)

    async def slow(self, socket: WebSocket) -> None:
        await socket.accept()
        await self.opened.wait()
        async for data in socket.iter_bytes():
            await socket.send_json(len(data))

    async def denied(self, socket: WebSocket) -> None:
        await socket.send_denial_response(JSONResponse({"who": "you"}, 401))

    async def crash(self, socket: WebSocket) -> None:
        await socket.accept()
        raise LookupError("crash")


HTTP = ("where", "thread", "wait", "open", "broken", "halfway", "echo", "away", "hour")
WEBSOCKETS = ("upper", "slow", "denied", "crash")


@pytest.fixture
def shop() -> Shop:
    return Shop()


def tasks() -> list[Any]:
    """Return what runs of this package on this loop."""
    if sniffio.current_async_library() == "asyncio":
        coroutines = [task.get_coro() for task in asyncio.all_tasks()]
    else:
        coroutines = [task.coro for task in descendants(trio.lowlevel.current_root_task())]
    return [each for each in coroutines if f"{os.sep}socketless{os.sep}" in each.cr_code.co_filename]


def descendants(task: Any) -> Iterator[Any]:
    yield task
    for nursery in task.child_nurseries:
        for child in nursery.child_tasks:
            yield from descendants(child)


@pytest.fixture
async def client(shop: Shop) -> AsyncIterator[AsyncTestClient]:
    """A client in a fixture, which leaves no task, thread or descriptor behind."""
    async with AsyncTestClient(shop.app) as client:
        yield client
    assert shop.notes[-1] == "down"
    assert tasks() == []


async def test_loop_and_context(client: AsyncTestClient, anyio_backend: str) -> None:
    """The app runs on this loop, in a copy of this context; sync code of it on a thread, in another copy."""
    caller.set("the test")
    assert (await client.get("/where")).json() == ["the test", anyio_backend, "pool"]
    assert (await client.get("/thread")).text == "the test"
    assert caller.get() == "the test"


async def test_two_at_once(client: AsyncTestClient, shop: Shop) -> None:
    """Requests run side by side, and the test shares with them what is bound to the loop."""
    answers = []

    async def ask(path: str) -> None:
        answers.append((await client.get(path)).text)

    async with anyio.create_task_group() as group:
        group.start_soon(ask, "/wait")
        await shop.waiting.wait()
        group.start_soon(ask, "/open")
        await shop.opened.wait()
    assert sorted(answers) == ["open", "opened"]


async def test_background_task(client: AsyncTestClient, shop: Shop) -> None:
    """Background tasks have run when the response is there."""
    await client.get("/open")
    assert shop.notes == ["up", "later"]


async def test_httpx(client: AsyncTestClient) -> None:
    """Redirects are followed, cookies kept, and bodies streamed, as httpx does it."""

    async def body() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    response = await client.get("/away")
    assert ([each.status_code for each in response.history], response.url.path) == ([307], "/where")
    assert dict(client.cookies) == {"been": "away"}
    assert (await client.post("/echo", content=body())).content == b"one two"
    assert (await client.get("/nowhere")).status_code == 404


async def test_exceptions(client: AsyncTestClient, shop: Shop) -> None:
    """What the app raises is raised in the test, or answered; from the middle of a body, where that is read."""
    with pytest.raises(LookupError, match="broken"):
        await client.get("/broken")
    quiet = AsyncTestClient(shop.app, raise_server_exceptions=False, root_path="/shop")
    assert (await quiet.get("/broken")).status_code == 500
    assert (await quiet.get("/echo")).headers["x-path"] == "/shop"
    async with client.stream("GET", "/halfway") as response:
        pieces = response.aiter_text()
        assert await anext(pieces) == "half"
        with pytest.raises(LookupError, match="halfway"):
            await anext(pieces)


async def test_endless_stream(client: AsyncTestClient, shop: Shop) -> None:
    """A stream without an end is read as far as one likes; when its block is left, the app has ended."""
    async with client.stream("GET", "/events/") as response:
        pieces = aiter(response.stream)
        assert [await anext(pieces) for _ in range(3)] == [f"data: {number}\n\n".encode() for number in range(3)]
        await pieces.aclose()
    assert shop.notes == ["up", "events left"]


async def test_cancelled_request(shop: Shop) -> None:
    """A request that is cancelled cancels the app; when the client is left, it has ended, and its lifespan as well."""
    async with AsyncTestClient(shop.app) as client, anyio.create_task_group() as group:
        group.start_soon(client.get, "/wait")
        await shop.waiting.wait()
        group.cancel_scope.cancel()
    assert shop.notes == ["up", "waited", "down"]
    assert tasks() == []


async def leaves_slowly(scope: Any, receive: Any, send: Any) -> None:
    """Begin a response, and return some time after the client has gone."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while (await receive())["type"] == "http.request":
            pass
        for _ in range(20):
            await anyio.lowlevel.checkpoint()


async def test_cancelled_at_any_turn() -> None:
    """Whenever the client goes, the head that waited for a body leaves no task that waits for ever."""
    for turns in range(40):
        async with AsyncTestClient(leaves_slowly) as client, anyio.create_task_group() as group:
            group.start_soon(client.get, "/")
            for _ in range(turns):
                await anyio.lowlevel.checkpoint()
            group.cancel_scope.cancel()
        assert tasks() == [], turns


async def test_cancelled_test(shop: Shop) -> None:
    """So it is when the block of the client is cancelled."""
    with anyio.CancelScope() as scope:
        async with AsyncTestClient(shop.app) as client, client.stream("GET", "/events/"):
            scope.cancel()
            await anyio.sleep_forever()
    assert shop.notes == ["up", "events left", "down"]
    assert tasks() == []


async def test_timeout(client: AsyncTestClient) -> None:
    """A timeout says where the app is."""
    with pytest.raises(ReadTimeout, match=r"GET /wait.*(?s:.*)await self\.opened\.wait\(\)"):
        await client.get("/wait", timeout=0.01)


async def test_websocket(client: AsyncTestClient, shop: Shop) -> None:
    """A session has the methods of a `TestClient`'s, as coroutines; `receive()` that is cancelled loses nothing."""
    async with client.websocket_connect("/upper", ["v1"]) as session:
        assert session.accepted_subprotocol == "v1"
        with anyio.CancelScope() as scope:
            scope.cancel()
            await session.receive()
        await session.send_text("one")
        assert await session.receive_json() == {"text": "ONE"}
        await session.send_text("bye")
        with pytest.raises(WebSocketDisconnect) as caught:
            await session.receive_text()
        assert (caught.value.code, caught.value.reason) == (4001, "bye")
    async with client.websocket_connect("/upper") as session:
        await session.close(4002)
    assert shop.notes == ["up", 4002]


async def test_time_limit_of_receive(client: AsyncTestClient) -> None:
    """A `receive()` that was too late can be tried again."""
    async with client.websocket_connect("/upper", timeout=LIMIT) as session:
        exchange: Any = session._exchange
        exchange._timeouts.read = 0.01
        with pytest.raises(ReadTimeout, match="did not go on with its answer within 0.01 s"):
            await session.receive()
        exchange._timeouts.read = LIMIT
        await session.send_text("one")
        assert await session.receive_json() == {"text": "ONE"}


async def test_time_limit_of_send(client: AsyncTestClient, shop: Shop) -> None:
    """A `send()` for which the app has no room in time says so, and can be tried again."""
    async with client.websocket_connect("/slow", timeout=LIMIT) as session:
        exchange: Any = session._exchange
        await session.send_bytes(bytes(MOST_AHEAD))
        exchange._timeouts.write = 0.01
        with pytest.raises(WriteTimeout) as caught, anyio.fail_after(LIMIT):
            await session.send_bytes(b"more")
        assert str(caught.value) == "WebSocket /slow: the app did not receive what was sent to it within 0.01 s"
        exchange._timeouts.write = LIMIT
        shop.opened.set()
        await session.send_bytes(b"more")
        assert [await session.receive_json() for _ in range(2)] == [MOST_AHEAD, len(b"more")]


async def test_senders_wait_in_turn(client: AsyncTestClient, shop: Shop) -> None:
    """Several tasks that wait for room do not take up the same."""
    sent = []

    async def send() -> None:
        await session.send_bytes(bytes(MOST_AHEAD))
        sent.append(exchange._call._ahead)

    async with client.websocket_connect("/slow") as session:
        exchange: Any = session._exchange
        with anyio.fail_after(LIMIT):
            async with anyio.create_task_group() as group:
                for _ in range(3):
                    group.start_soon(send)
                await anyio.wait_all_tasks_blocked()
                shop.opened.set()
                assert [await session.receive_json() for _ in range(3)] == [MOST_AHEAD] * 3
    assert len(sent) == 3
    assert max(sent) < 2 * MOST_AHEAD


async def test_leaving_while_another_receives(client: AsyncTestClient) -> None:
    """A session can be left while tasks wait in `receive()`: one has the app's end, and all hear of it."""
    ends = []

    async def receive() -> None:
        ends.append(await session.receive())

    with anyio.fail_after(LIMIT):
        async with anyio.create_task_group() as group, client.websocket_connect("/upper") as session:
            group.start_soon(receive)
            group.start_soon(receive)
            await anyio.wait_all_tasks_blocked()
    assert ends == [{"type": "websocket.close", "code": 1000, "reason": ""}] * 2


async def test_websocket_that_fails(client: AsyncTestClient) -> None:
    """A denial is the response that it is, and what the app raises is raised."""
    with pytest.raises(WebSocketDenialResponse) as denial:
        async with client.websocket_connect("/denied"):
            pass
    assert (denial.value.status_code, denial.value.json()) == (401, {"who": "you"})
    with pytest.raises(LookupError, match="crash"):
        async with client.websocket_connect("/crash") as session:
            await session.receive()
    with pytest.raises(RuntimeError, match="Expected WebSocket upgrade"):
        async with client.websocket_connect("http://testserver/where"):
            pass


async def test_httpx_ws(client: AsyncTestClient) -> None:
    """httpx-ws connects over it, too."""
    async with aconnect_ws("ws://testserver/upper", client) as socket:
        await socket.send_text("one")
        assert await socket.receive_json() == {"text": "ONE"}


async def test_without_a_block(shop: Shop) -> None:
    """A client that is not entered runs no lifespan. It may be used on one loop after the other."""
    assert (await AsyncTestClient(shop.app).get("/where")).json()[2] is None
    assert shop.notes == []


def test_other_loop(shop: Shop, anyio_backend: str) -> None:
    """A client that was entered on another loop says so."""
    client = AsyncTestClient(shop.app)
    run = partial(anyio.run, backend=anyio_backend)
    run(client.get, "/where")
    run(client.__aenter__)
    with pytest.raises(StateError, match="another event loop than this request"):
        run(client.get, "/where")


async def test_failing_start(anyio_backend: str) -> None:
    """What the app raises at its start is raised by the block; and what it says without raising."""

    @asynccontextmanager
    async def broken(app: Any) -> AsyncIterator[None]:
        raise LookupError("no pool")
        yield

    async def refusing(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "not today"})

    for app, expected in (Starlette(lifespan=broken), "no pool"), (refusing, "not today"):
        with pytest.raises((LookupError, RuntimeError), match=expected):
            async with AsyncTestClient(app):
                raise AssertionError("entered")
    assert tasks() == []


def test_mock_clock(shop: Shop) -> None:
    """trio's clock of tests holds for the app: nothing waits for a thread or a pipe meanwhile."""

    async def main() -> None:
        async with AsyncTestClient(shop.app) as client:
            with trio.fail_after(3601):
                assert (await client.get("/hour")).text == "an hour later"

    trio.run(main, clock=trio.testing.MockClock(autojump_threshold=0))


async def test_wsgi() -> None:
    """A WSGI app runs on threads, in a copy of the context, and they end with the block."""
    app = flask.Flask("shop")
    app.add_url_rule("/", "who", lambda: caller.get())
    app.add_url_rule("/broken", "broken", lambda: {}["broken"])
    app.testing = True
    caller.set("the test")
    await anyio.to_thread.run_sync(int)  # so that the thread of anyio's is there before
    async with AsyncTestClient(app) as client:
        assert (await client.get("/")).text == "the test"
        with pytest.raises(KeyError, match="broken"):
            await client.get("/broken")


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_process() -> None:
    """An import string is an app in a process, and a worker that is given goes on."""
    with IpcProcess("apps.holding_app:app") as worker:
        for app in ("apps.holding_app:app", worker):
            async with AsyncTestClient(app) as client, client.websocket_connect("/echo") as session:
                await session.send_bytes(b"one")
                assert await session.receive_bytes() == b"one"
                assert client.worker.run(int) == 0
        assert worker.run(int) == 0


def test_refused(shop: Shop) -> None:
    """Options for another loop are refused, as is what is no app; the app on this loop has no worker."""
    with pytest.raises(TypeError, match="runs on the event loop of the test"):
        AsyncTestClient(shop.app, backend="trio")
    with pytest.raises(TypeError, match="takes a WSGI or ASGI app"):
        AsyncTestClient(1)  # type: ignore[arg-type]
    client = AsyncTestClient(shop.app)
    assert client.app is shop.app
    with pytest.raises(StateError, match="^there is no worker, as the app runs on the event loop of the test: "):
        _ = client.worker


def test_leaves_nothing(shop: Shop, anyio_backend: str) -> None:
    """Nothing is left of a run that was given up in the middle: no descriptor, thread or process."""

    async def main() -> None:
        client = AsyncTestClient(shop.app)
        async with anyio.create_task_group() as group:
            group.start_soon(client.get, "/wait")
            await shop.waiting.wait()
            group.cancel_scope.cancel()

    with nothing_leaks():
        anyio.run(main, backend=anyio_backend)
    assert shop.notes == ["waited"]
