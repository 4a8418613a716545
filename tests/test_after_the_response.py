"""What an app does after its response: no time limit counts it, and a served client does not wait for it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import flask
import httpx
import pytest
from werkzeug.wsgi import ClosingIterator

import socketless.requests
from socketless import IpcThread, IpcTransport
from socketless._clients.response import Body
from socketless._host.limits import Timeouts
from socketless._wire.drivers import poll, run_blocking
from socketless._wire.messages import Request
from socketless._wire.steps import Steps, Wait
from socketless.testclient import TestClient
from support import LIMIT


def resumed(steps: Steps[Any], wait: Wait) -> Steps[Any]:
    """Go on with steps that were left when they waited for `wait`."""
    try:
        while True:
            wait = steps.send((yield wait))
    except StopIteration as stop:
        return stop.value


def test_time_limits() -> None:
    """A read timeout ends with the body: the app may take any time after it, until the response is at its end."""
    may_end = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        import anyio.to_thread

        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"body"})
        assert await anyio.to_thread.run_sync(may_end.wait, LIMIT)

    with IpcThread(app, lifespan=False) as worker:
        request = Request("GET", "http", ("testserver", 80), b"/", [])
        exchange = worker.exchange_blocking(request, Timeouts(read=LIMIT))
        response: Any = exchange.answer
        assert (response.body, response.is_whole) == (b"body", True)
        body = Body(exchange, "GET", response, lambda error: error, raise_app_exceptions=True)
        assert run_blocking(body.next_chunk()) == b"body"
        steps = body.next_chunk()
        wait = next(steps)
        assert isinstance(wait, Wait)
        assert wait.deadline is None
        may_end.set()
        assert run_blocking(resumed(steps, wait)) is None


class Closing:
    """What a WSGI app may return."""

    def __init__(self, chunks: list[bytes], close: Any) -> None:
        self._chunks = chunks
        self.close = close

    def __iter__(self) -> Any:
        return iter(self._chunks)


def flask_app(close: Any) -> Any:
    app = flask.Flask(__name__)

    @app.get("/")
    def index() -> flask.Response:
        response = flask.Response("body")
        response.call_on_close(close)
        return response

    return app


def plain_app(close: Any) -> Any:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Length", "4")])
        return Closing([b"body"], close)

    return app


def chunked_app(close: Any) -> Any:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return Closing([b"bo", b"dy"], close)

    return app


def generator_app(close: Any) -> Any:
    def app(environ: Any, start_response: Any) -> Any:
        def generate() -> Iterator[bytes]:
            yield b"body"

        start_response("200 OK", [])
        return ClosingIterator(generate(), close)

    return app


APPS = [flask_app, plain_app, chunked_app, generator_app]


@pytest.mark.parametrize("make_app", APPS)
def test_wsgi_close(make_app: Callable[[Any], Any]) -> None:
    """What a WSGI app does when its response is closed comes after that, and no time limit counts it."""
    may_end = threading.Event()
    with IpcThread(make_app(lambda: may_end.wait(LIMIT))) as worker:
        request = Request("GET", "http", ("testserver", 80), b"/", [])
        exchange = worker.exchange_blocking(request, Timeouts(read=LIMIT))
        response: Any = exchange.answer
        body = Body(exchange, "GET", response, lambda error: error, raise_app_exceptions=True)
        read = b""
        while len(read) < 4:
            read += run_blocking(body.next_chunk()) or b""
        assert read == b"body"
        steps = body.next_chunk()
        wait: Any = next(steps)
        while wait.deadline is not None:
            wait = steps.send(poll(wait))
        assert body.is_whole
        may_end.set()
        assert run_blocking(resumed(steps, wait)) is None


@pytest.mark.parametrize("make_app", APPS)
@pytest.mark.parametrize("kind", ["client", "requests", "TestClient"])
def test_wsgi_close_has_run(make_app: Callable[[Any], Any], kind: str) -> None:
    """When a response has been read, it has been closed; a streamed response is there before that."""
    may_close = threading.Event()
    closed: list[str] = []

    def close() -> None:
        assert may_close.wait(LIMIT)
        closed.append("closed")

    with IpcThread(make_app(close)) as worker:
        if kind == "requests":
            session = socketless.requests.Session(worker=worker)
            with session.get("http://testserver/", stream=True, timeout=LIMIT) as streamed:
                assert next(streamed.iter_content(4))
                assert closed == []
                may_close.set()
            assert session.get("http://testserver/").text == "body"
        else:
            client = (
                httpx.Client(transport=IpcTransport(worker), timeout=LIMIT) if kind == "client" else TestClient(worker)
            )
            with client, client.stream("GET", "http://testserver/") as response:
                assert response.status_code == 200
                assert closed == []
                may_close.set()
                assert response.read() == b"body"
                assert closed == ["closed"]
        assert closed[-1] == "closed"


def test_served_connections(tmp_path: Any) -> None:
    """`socketless serve` ends a response when it is complete, and answers the next request while the app goes on.

    It stops once the app has finished what it does then.
    """
    fifos = [tmp_path / "length", tmp_path / "chunked"]
    for fifo in fifos:
        os.mkfifo(fifo)
    (tmp_path / "served.py").write_text(
        "import asyncio\n"
        "async def app(scope, receive, send):\n"
        "    headers = [(b'content-length', b'4')] if scope['path'] == '/length' else []\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': headers})\n"
        "    await send({'type': 'http.response.body', 'body': b'body'})\n"
        "    if scope['path'] != '/end':\n"
        f"        await asyncio.to_thread(lambda: open({str(tmp_path)!r} + scope['path']).read())\n"
        "        print('the task of', scope['path'], 'has run', flush=True)\n"
    )
    command = [sys.executable, "-m", "socketless", "serve", "served:app", "--stdio", "--no-lifespan"]
    served = subprocess.Popen(
        command, cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with served:
        assert served.stdin is not None
        assert served.stdout is not None
        assert served.stderr is not None
        for path, end in (("/length", "content-length: 4\n\nbody"), ("/chunked", "4\nbody\n0\n\n"), ("/end", "0\n\n")):
            served.stdin.write(f"GET {path} HTTP/1.1\r\nHost: testserver\r\n\r\n")
            served.stdin.flush()
            read = ""
            while not read.endswith(end):
                read += served.stdout.read(1)
        served.stdin.close()
        for fifo in fifos:
            fifo.write_text("go on")
        printed = served.stderr.read()
        assert "the task of /length has run" in printed
        assert "the task of /chunked has run" in printed
