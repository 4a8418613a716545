"""An app that plays the scene of a WebSocket, and every way to talk with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import starlette.testclient
from differential.sides import uvicorn_server
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from socketless import IpcProcess, IpcThread
from support import LIMIT

Data = str | bytes


@dataclass(frozen=True)
class Talk:
    """What the client says, what the app answers, and who closes the WebSocket, with which code and reason."""

    said: tuple[Data, ...] = ()
    answers: tuple[Data, ...] = ()
    subprotocol: str | None = None
    app_closes: bool = True
    code: int = 1000
    reason: str = ""


@dataclass
class Stage:
    """What is being played in this process."""

    talk: Talk = field(default_factory=Talk)
    heard: list[Any] = field(default_factory=list)  # by the app
    is_over: threading.Event = field(default_factory=threading.Event)


STAGE = Stage()


def play(talk: Talk) -> None:
    """Have the app of this process play a scene."""
    STAGE.talk, STAGE.heard, STAGE.is_over = talk, [], threading.Event()


def heard() -> Any:
    """Wait for the end of the app, and return what it has heard."""
    assert STAGE.is_over.wait(LIMIT)
    return STAGE.heard


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Play the scene."""
    assert scope["type"] == "websocket"
    talk, stage = STAGE.talk, STAGE.heard
    try:
        stage.append((scope["path"], scope["subprotocols"], (await receive())["type"]))
        await send({"type": "websocket.accept", "subprotocol": talk.subprotocol})
        for _ in talk.said:
            event = await receive()
            stage.append(event["bytes"] if event.get("text") is None else event["text"])
        for answer in talk.answers:
            await send({"type": "websocket.send", "text" if isinstance(answer, str) else "bytes": answer})
        if talk.app_closes:
            await send({"type": "websocket.close", "code": talk.code, "reason": talk.reason})
        else:
            event = await receive()
            stage.append((event["type"], event["code"], event.get("reason")))
    finally:
        STAGE.is_over.set()


class Side:
    """A client of the app, in one way."""

    def __init__(self, converse: Callable[[Talk], Any], worker: IpcProcess | None = None) -> None:
        self._converse = converse
        self._worker = worker

    def talk(self, talk: Talk) -> dict[str, Any]:
        """Play a scene, and return what both have heard."""
        if self._worker is None:
            play(talk)
            return {"client": self._converse(talk), "app": heard()}
        self._worker.run(play, talk)
        return {"client": self._converse(talk), "app": self._worker.run(heard)}


def _offered(talk: Talk) -> list[str] | None:
    return None if talk.subprotocol is None else ["other", talk.subprotocol]


def _by_session(open_session: Callable[..., Any], talk: Talk) -> list[Any]:
    got: list[Any] = []
    with open_session("/ws", subprotocols=_offered(talk)) as session:
        got.append(session.accepted_subprotocol)
        for said in talk.said:
            session.send_text(said) if isinstance(said, str) else session.send_bytes(said)
        for _ in talk.answers:
            message = session.receive()
            got.append(message["bytes"] if message.get("text") is None else message["text"])
        if talk.app_closes:
            message = session.receive()
            got.append((message["code"], message.get("reason") or ""))
        else:
            session.close(talk.code, talk.reason)
    return got


def _over_network(port: int, talk: Talk) -> list[Any]:
    with connect(f"ws://127.0.0.1:{port}/ws", subprotocols=_offered(talk), proxy=None) as connection:  # type: ignore[arg-type]
        got: list[Any] = [connection.subprotocol]
        for said in talk.said:
            connection.send(said)
        got.extend(connection.recv() for _ in talk.answers)
        if talk.app_closes:
            with suppress(ConnectionClosed):
                got.append(connection.recv())
            got.append((connection.close_code, connection.close_reason))
        else:
            connection.close(talk.code, talk.reason)
    return got


@contextmanager
def threads() -> Iterator[Side]:
    with IpcThread(app) as worker:
        yield Side(lambda talk: _by_session(worker.websocket_connect, talk))


@contextmanager
def forked() -> Iterator[Side]:
    with IpcProcess(app, start_method="fork") as worker:
        yield Side(lambda talk: _by_session(worker.websocket_connect, talk), worker)


@contextmanager
def starlette_client() -> Iterator[Side]:
    client = starlette.testclient.TestClient(app)
    try:
        yield Side(lambda talk: _by_session(client.websocket_connect, talk))
    finally:
        client.close()


@contextmanager
def uvicorn_on_loopback() -> Iterator[Side]:
    with uvicorn_server(app) as side:
        yield Side(lambda talk: _over_network(side.port, talk))


SIDES = {"threads": threads, "forked": forked, "starlette": starlette_client, "uvicorn": uvicorn_on_loopback}
