"""Apps on an event loop whose tasks begin at once: `asyncio.eager_task_factory`, or a stand-in before Python 3.12."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from typing import Any

import aiohttp

from socketless import IpcThread
from socketless._wire.messages import Done, Message
from socketless._wire.steps import Steps, Wait
from socketless._worker.asgi_call import Writer
from socketless.aiohttp import ASGIApplicationConnector
from socketless.testclient import AsyncTestClient, TestClient
from support import LIMIT, nothing_leaks


def begun(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    """Make a task of a coroutine that has been run until it waits for something."""
    if not loop.is_running():
        return asyncio.Task(coroutine, loop=loop, **options)
    try:
        waits_for = coroutine.send(None)
    except StopIteration as end:
        coroutine = result(end.value)
    else:
        coroutine = rest_of(coroutine, waits_for)
    return asyncio.Task(coroutine, loop=loop, **options)


async def result(value: Any) -> Any:
    return value


@types.coroutine
def rest_of(coroutine: Coroutine[Any, Any, Any], waits_for: Any) -> Generator[Any, Any, Any]:
    try:
        while True:
            try:
                sent = yield waits_for
            except BaseException as error:
                waits_for = coroutine.throw(error)
            else:
                waits_for = coroutine.send(sent)
    except StopIteration as end:
        return end.value


EAGER: Any = getattr(asyncio, "eager_task_factory", begun)  # from Python 3.12 on


def set_eager() -> None:
    asyncio.get_running_loop().set_task_factory(EAGER)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        set_eager()
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"hi"})
    else:
        await receive()
        await send({"type": "websocket.accept"})
        while (event := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": event["text"]})


def test_app_in_the_loop() -> None:
    """An app that answers as soon as its task is made has answered, and has let go."""

    async def main() -> None:
        set_eager()
        async with AsyncTestClient(app) as client:
            assert (await client.get("/")).text == "hi"
            async with client.websocket_connect("/") as session:
                await session.send_text("one")
                assert await session.receive_text() == "one"
            source: Any = client._source
            assert not source._in_loop._exchanges

    with nothing_leaks():
        asyncio.run(asyncio.wait_for(main(), LIMIT))


def test_aiohttp() -> None:
    """A connection of aiohttp's, which writes to a transport, can be used again."""

    async def main() -> None:
        set_eager()
        async with aiohttp.ClientSession(connector=ASGIApplicationConnector(app)) as session:
            for _ in range(3):
                async with session.get("http://testserver/") as response:
                    assert await response.text() == "hi"
            async with session.ws_connect("http://testserver/") as socket:
                await socket.send_str("one")
                assert await socket.receive_str() == "one"

    asyncio.run(asyncio.wait_for(main(), LIMIT))


def test_worker() -> None:
    """An app may choose the factory for the loop of its worker."""
    with IpcThread(app) as worker:
        with TestClient(worker, timeout=LIMIT) as client:
            assert [client.get("/").text for _ in range(3)] == ["hi"] * 3
        with worker.websocket_connect("/", timeout=LIMIT) as session:
            session.send_text("one")
            assert session.receive_text() == "one"


class PipeThatWasFull:
    """A channel to a host that reads as soon as it has been found to be full, once."""

    def __init__(self) -> None:
        self.outbox: list[Any] = []
        self.written: list[Any] = []
        self._is_full = True

    def frame_of(self, message: Message) -> Any:
        return message

    def put(self, frame: Any) -> None:
        self.outbox.append(frame)

    def write(self) -> Wait | None:
        if self._is_full:
            self._is_full = False
            return Wait(-1)
        self.written += self.outbox
        self.outbox.clear()
        return None

    def flush(self) -> Steps[None]:
        while (wait := self.write()) is not None:
            yield wait


def test_writer() -> None:
    """What is written after a task that was done at once is written, too."""

    async def main() -> None:
        set_eager()
        pipe = PipeThatWasFull()
        writer = Writer(pipe, lambda: None)  # type: ignore[arg-type]
        messages = [Done(), Done(), Done()]
        for message in messages:
            await writer.write(message)
        assert pipe.written == messages

    asyncio.run(asyncio.wait_for(main(), LIMIT))
