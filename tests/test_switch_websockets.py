"""The switch and clients that open sockets themselves: httplib2, websockets, websocket-client, python-socketio."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httplib2
import pytest
import socketio
import websocket
import websockets
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from websockets.asyncio.client import connect
from websockets.sync.client import connect as connect_blocking

from socketless import IpcProcess, IpcThread, switch_to_ipc_connection
from socketless._forking import fork
from socketless._switch.active import active_switch
from support import LIMIT, nothing_leaks

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of websockets, of its older clients


async def echo(session: WebSocket) -> None:
    """Say what comes, and by which scheme."""
    await session.accept(subprotocol=next(iter(session.scope["subprotocols"]), None))
    while True:
        text = await session.receive_text()
        if text == "boom":
            raise LookupError("boom")
        if text == "close":
            await session.close(4001, "enough")
            return
        await session.send_text(f"{session.scope['scheme']} {text}")


async def failing(session: WebSocket) -> None:
    """Raise before the WebSocket is accepted."""
    raise LookupError("before")


async def seen(request: Any) -> PlainTextResponse:
    """Say what was asked for."""
    return PlainTextResponse(str(request.url))


app = Starlette(
    routes=[
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/failing", failing),
        Route("/seen", seen),
    ]
)


@pytest.fixture(params=["process", "threads"])
def switched(request: Any) -> Iterator[Any]:
    kind = IpcThread(app) if request.param == "threads" else IpcProcess(app, start_method="fork")
    with nothing_leaks():
        before = {*threading.enumerate()}
        with kind as worker, switch_to_ipc_connection(worker) as switch:
            yield switch
        for thread in {*threading.enumerate()} - before:
            thread.join(LIMIT)  # the clients' own close their sockets when they have come to their end


# Each way opens a WebSocket, sends texts, and returns what has come for each, and its end: the code, or the status.

Talk = Callable[[str, list[str]], Any]


def of_websockets(url: str, texts: list[str]) -> Any:
    try:
        with connect_blocking(url) as session:
            answers = []
            for text in texts:
                session.send(text)
                answers.append(session.recv(LIMIT))
            return answers
    except websockets.exceptions.InvalidStatus as error:
        return error.response.status_code
    except websockets.exceptions.ConnectionClosed as error:
        return error.rcvd and error.rcvd.code


def of_websockets_asyncio(url: str, texts: list[str]) -> Any:
    async def main() -> Any:
        async with connect(url) as session:
            answers = []
            for text in texts:
                await session.send(text)
                answers.append(await asyncio.wait_for(session.recv(), LIMIT))
            return answers

    try:
        return asyncio.run(main())
    except websockets.exceptions.InvalidStatus as error:
        return error.response.status_code
    except websockets.exceptions.ConnectionClosed as error:
        return error.rcvd and error.rcvd.code


def of_websocket_client(url: str, texts: list[str]) -> Any:
    try:
        session = websocket.create_connection(url, timeout=LIMIT)
    except websocket.WebSocketBadStatusException as error:
        return error.status_code
    try:
        answers = []
        for text in texts:
            session.send(text)
            opcode, data = session.recv_data()
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                return int.from_bytes(data[:2], "big")
            answers.append(data.decode())
        return answers
    finally:
        session.close()
        session.shutdown()  # which it leaves out where the app has closed first


WAYS: dict[str, Talk] = {
    "websockets": of_websockets,
    "websockets, asyncio": of_websockets_asyncio,
    "websocket-client": of_websocket_client,
}

every_way = pytest.mark.parametrize("way", WAYS)


@every_way
def test_messages(way: str, switched: Any) -> None:
    """Messages go both ways, large ones too; the app sees by which scheme it was asked."""
    for scheme in ("ws", "wss"):
        assert WAYS[way](f"{scheme}://chat.example/echo", ["one", "two"]) == [f"{scheme} one", f"{scheme} two"]
    large = "x" * 500_000
    assert WAYS[way]("ws://chat.example/echo", [large]) == [f"ws {large}"]


@every_way
def test_close(way: str, switched: Any) -> None:
    """The client gets the code with which the app closes, and the status of a handshake that it refuses."""
    assert WAYS[way]("ws://chat.example/echo", ["close"]) == 4001
    assert WAYS[way]("ws://chat.example/nowhere", []) == 403


@every_way
def test_app_that_raises(way: str, switched: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What the app raises is 1011 or 500, as before a server, and is logged; to leave a WebSocket is no error."""
    WAYS[way]("ws://chat.example/echo", ["one"])
    assert WAYS[way]("ws://chat.example/echo", ["boom"]) == 1011
    assert WAYS[way]("ws://chat.example/failing", []) == 500
    logged = [each.message for each in caplog.records if each.levelno == logging.ERROR and each.name == "socketless"]
    assert [text.rpartition("\n")[2] for text in logged] == ["LookupError: boom", "LookupError: before"]


@every_way
def test_many_at_once(way: str, switched: Any) -> None:
    """Several are open at the same time, and each has its own answers."""
    with ThreadPoolExecutor(8) as threads:
        talks = [
            threads.submit(WAYS[way], f"ws://{n}.example/echo", [f"{n} {each}" for each in range(20)]) for n in range(8)
        ]
        for n, talk in enumerate(talks):
            assert talk.result(LIMIT) == [f"ws {n} {each}" for each in range(20)]


def test_subprotocol_and_time_limit(switched: Any) -> None:
    """A subprotocol is agreed upon; a blocking client that waits for too long may wait again."""
    with connect_blocking("ws://chat.example/echo", subprotocols=["a", "b"]) as session:  # type: ignore[list-item]
        assert session.subprotocol == "a"
        with pytest.raises(TimeoutError):
            session.recv(0.01)
        session.send("late")
        assert session.recv(LIMIT) == "ws late"


def test_websocket_app(switched: Any) -> None:
    """A `WebSocketApp` calls back, and ends."""
    calls: list[Any] = []

    def on_message(session: Any, text: str) -> None:
        calls.append(text)
        session.close()

    session = websocket.WebSocketApp(
        "ws://chat.example/echo",
        on_open=lambda session: session.send("hello"),
        on_message=on_message,
        on_error=lambda session, error: calls.append(error),
        on_close=lambda session, code, reason: calls.append("closed"),
    )
    session.run_forever(ping_interval=LIMIT, ping_timeout=LIMIT / 2)
    assert calls == ["ws hello", "closed"]


def test_end_of_the_switch(switched: Any) -> None:
    """A WebSocket that is open when the switch ends has ended, and its thread with it."""
    session = connect_blocking("ws://chat.example/echo")
    other = websocket.create_connection("ws://chat.example/echo", timeout=LIMIT)
    switched()
    with pytest.raises(websockets.exceptions.ConnectionClosed):
        session.recv(LIMIT)
    session.close()
    with pytest.raises((OSError, websocket.WebSocketException)):
        other.recv()
    other.close()
    other.shutdown()  # which close() leaves out where a goodbye has come, and could not be answered


def test_end_in_a_fork(switched: Any) -> None:
    """A forked child that switches back leaves alone what the parent goes on with."""
    with connect_blocking("ws://chat.example/echo") as session:
        pid = fork()
        if pid == 0:
            signal.alarm(int(LIMIT))
            try:
                switched._end_workers = lambda: os._exit(1)
                switched()
                assert active_switch() is None
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        session.send("on")
        assert session.recv(LIMIT) == "ws on"


def test_httplib2(switched: Any) -> None:
    """httplib2 reaches the app by http and https, more than once over one connection."""
    client = httplib2.Http(timeout=LIMIT)
    for url in ("http://shop.example/seen", "http://shop.example/seen?2", "https://shop.example:8443/seen"):
        response, content = client.request(url)
        assert (response.status, content.decode()) == (200, url)
    client.close()


server = socketio.AsyncServer(async_mode="asgi")


@server.event
async def shout(sid: str, text: str) -> str:
    """Answer, and send an event as well."""
    await server.emit("shouted", text.upper(), to=sid)
    return "done"


@pytest.mark.parametrize("transports", [None, ["websocket"]], ids=["polling first", "websocket"])
def test_socketio(transports: Any) -> None:
    """Clients of python-socketio, blocking and asyncio, call and hear the app."""

    async def main() -> Any:
        async with socketio.AsyncSimpleClient() as client:
            await client.connect("http://chat.example", transports=transports)
            return await client.call("shout", "hello", timeout=LIMIT), await client.receive(timeout=LIMIT)

    with IpcThread(socketio.ASGIApp(server)) as worker, switch_to_ipc_connection(worker):
        with socketio.SimpleClient() as client:
            client.connect("http://chat.example", transports=transports)
            heard = client.call("shout", "hello", timeout=LIMIT), client.receive(timeout=LIMIT)
        assert heard == asyncio.run(main()) == ("done", ["shouted", "HELLO"])
