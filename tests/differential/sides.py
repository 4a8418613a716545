"""Every way to ask an app: over a worker, a server on loopback, and in-process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import httpx2
import starlette.testclient
import uvicorn
import waitress
from differential.stage import Scene, play, seen

from socketless import IpcProcess, IpcThread, IpcTransport
from socketless.testclient import TestClient

BROKEN = "the connection breaks off"
Outcome = dict[str, Any]  # what the app saw, and what the client got

_AUTHORITY = (b"host", b"testserver")


class Side:
    """A client of one app, in one way."""

    def __init__(self, family: Any, send: Callable[[Any], Any], url: str = "http://testserver") -> None:
        self._family = family
        self._send = send
        self._url = url
        self.port = int(url.rpartition(":")[2]) if url.count(":") == 2 else None
        self._play: Callable[[Scene], object] = play
        self._seen: Callable[[], Any] = seen

    def of(self, worker: IpcProcess) -> Side:
        """Let the scenes be played in a worker process."""
        self._play, self._seen = lambda scene: worker.run(play, scene), lambda: worker.run(seen)
        return self

    def ask(self, scene: Scene) -> Outcome:
        """Play a scene, and return what has come of it."""
        self._play(scene)
        content: Any = scene.sent[0] if len(scene.sent) == 1 else iter(scene.sent) if scene.sent else None
        headers = [_AUTHORITY, *scene.sent_headers]
        request = self._family.Request(scene.method, self._url + scene.target, headers=headers, content=content)
        got: Any
        try:
            response = self._send(request)
        except Exception as error:
            if not _breaks_off(error):
                raise
            got = BROKEN
        else:
            got = (response.status_code, tuple(response.headers.raw), response.content)
        return {"seen": self._seen(), "got": got}


def _breaks_off(error: Exception) -> bool:
    return isinstance(error, (httpx.RemoteProtocolError, httpx2.RemoteProtocolError, httpx.ReadError))


@contextmanager
def _sync(transport: Any, url: str = "http://testserver") -> Iterator[Side]:
    with httpx.Client(transport=transport, trust_env=False) as client:
        yield Side(httpx, client.send, url)


def _network() -> httpx.HTTPTransport:
    # A connection for each request: a server may just have ended one that was kept.
    return httpx.HTTPTransport(limits=httpx.Limits(max_keepalive_connections=0))


@contextmanager
def threads(app: Any) -> Iterator[Side]:
    with IpcThread(app) as worker, _sync(IpcTransport(worker, raise_app_exceptions=False)) as side:
        yield side


@contextmanager
def forked(app: Any) -> Iterator[Side]:
    with (
        IpcProcess(app, start_method="fork") as worker,
        _sync(IpcTransport(worker, raise_app_exceptions=False)) as side,
    ):
        yield side.of(worker)


@contextmanager
def starlette_client(app: Any) -> Iterator[Side]:
    client = starlette.testclient.TestClient(app, raise_server_exceptions=False)
    try:
        yield Side(httpx2, client.send)
    finally:
        client.close()


@contextmanager
def our_client(app: Any) -> Iterator[Side]:
    client = TestClient(app, raise_server_exceptions=False)
    try:
        yield Side(httpx2, client.send)
    finally:
        client.close()


@contextmanager
def asgi_transport(app: Any) -> Iterator[Side]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)

    def send(request: httpx.Request) -> Any:
        async def ask() -> Any:
            async with httpx.AsyncClient(transport=transport) as client:
                if not isinstance(request.stream, httpx.ByteStream):
                    request.read()  # its stream is of bytes then, which are for both kinds of client
                return await client.send(request)

        return asyncio.run(ask())

    yield Side(httpx, send)


@contextmanager
def wsgi_transport(app: Any) -> Iterator[Side]:
    with _sync(httpx.WSGITransport(app, raise_app_exceptions=False)) as side:
        yield side


@contextmanager
def uvicorn_server(app: Any) -> Iterator[Side]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off", http="h11", access_log=False))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        try:
            with _sync(_network(), f"http://127.0.0.1:{listening.getsockname()[1]}") as side:
                yield side
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def waitress_server(app: Any) -> Iterator[Side]:
    channels: dict[int, Any] = {}
    server: Any = waitress.create_server(app, host="127.0.0.1", port=0, map=channels, threads=2)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        with _sync(_network(), f"http://127.0.0.1:{server.effective_port}") as side:
            yield side
    finally:
        server.trigger.pull_trigger(lambda: [channel.close() for channel in [*channels.values()]])
        thread.join()
        server.task_dispatcher.shutdown()


ASGI = {
    "threads": threads,
    "forked": forked,
    "our_client": our_client,
    "starlette": starlette_client,
    "asgi_transport": asgi_transport,
    "uvicorn": uvicorn_server,
}
WSGI = {"threads": threads, "forked": forked, "wsgi_transport": wsgi_transport, "waitress": waitress_server}
