"""What no worker can do without: two pipes, two messages, the client library, and the app."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import app_fastapi
import app_flask
import httpx
import requests
from contestants import BASE_URL, Action, Contestant, Send, client_of
from requests.adapters import BaseAdapter
from werkzeug.test import create_environ

from socketless._wire.channel import Channel, make_channel
from socketless._wire.drivers import run_blocking
from socketless._wire.messages import Request, Response
from socketless._wire.pipes import PipeEnd
from socketless._wire.steps import finish

PIPE, MESSAGES, CLIENT, APP = "floor: the pipes", "floor: the messages", "floor: the client", "floor: the app"
BODY = json.dumps({"hello": "world"}).encode()
HEADERS = [(b"content-type", b"application/json"), (b"content-length", str(len(BODY)).encode())]
_FRAME = bytes(300)  # as long as those of a GET are

_REQUEST = Request(
    "GET",
    "http",
    ("testserver", 80),
    b"/",
    [
        (b"Host", b"testserver"),
        (b"Accept", b"*/*"),
        (b"Accept-Encoding", b"gzip, deflate"),
        (b"Connection", b"keep-alive"),
        (b"User-Agent", b"python-httpx/0.28.1"),
    ],
    client=("127.0.0.1", 123),
)
_RESPONSE = Response(200, "OK", HEADERS, BODY)


def of_flask() -> dict[str, Contestant]:
    return {PIPE: lambda: _pipes("pipes"), MESSAGES: lambda: _pipes("messages"), CLIENT: _httpx, APP: _flask}


def of_fastapi() -> dict[str, Contestant]:
    return {CLIENT: _httpx, APP: _fastapi}


def of_requests() -> dict[str, Contestant]:
    return {CLIENT: _requests}


class _Canned(httpx.BaseTransport):
    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, headers=HEADERS, stream=httpx.ByteStream(BODY))


@contextmanager
def _httpx() -> Iterator[Send]:
    with client_of(httpx.Client(transport=_Canned(), base_url=BASE_URL)) as send:
        yield send


class _NoOp(BaseAdapter):
    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        response = requests.Response()
        response.status_code, response.request, response.url = 200, request, str(request.url)
        response._content = BODY
        response.headers.update({"Content-Type": "application/json"})
        return response

    def close(self) -> None:
        """There is nothing to close."""


@contextmanager
def _requests() -> Iterator[Send]:
    with requests.Session() as session:
        session.mount(BASE_URL, _NoOp())

        def send(action: Action, count: int) -> None:
            for _ in range(count):
                session.request(action.method, BASE_URL + action.path, data=action.content)

        yield send


@contextmanager
def _flask() -> Iterator[Send]:
    base = create_environ("/", BASE_URL)

    def send(action: Action, count: int) -> None:
        for _ in range(count):
            body: Any = app_flask.app(base.copy(), lambda *args: None)
            assert b"".join(body)
            body.close()

    yield send


@contextmanager
def _fastapi() -> Iterator[Send]:
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in _REQUEST.headers],
        "http_version": "1.1",
        "scheme": "http",
        "asgi": {"version": "3.0"},
    }

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def drop(event: Any) -> None:
        pass

    async def send_all(path: str, count: int) -> None:
        for _ in range(count):
            await app_fastapi.app(scope | {"path": path}, receive, drop)

    with closing(asyncio.new_event_loop()) as loop:
        yield lambda action, count: loop.run_until_complete(send_all(action.path, count))


# Two processes that do nothing but write and read


@contextmanager
def _pipes(what: str) -> Iterator[Send]:
    ends = make_channel(1)
    child = subprocess.Popen(
        [sys.executable, __file__, what, *map(str, ends.worker.fileno())], pass_fds=ends.worker.fileno()
    )
    ends.worker.close()
    try:
        if what == "pipes":
            ends.host.set_blocking(True)
        yield lambda action, count: (_ask_pipes if what == "pipes" else _ask_messages)(ends.host, count)
    finally:
        ends.host.close()
        child.wait()


def _ask_pipes(channel: Channel, count: int) -> None:
    reader, writer = channel.fileno()
    for _ in range(count):
        os.write(writer, _FRAME)
        assert os.read(reader, 65536)


def _ask_messages(channel: Channel, count: int) -> None:
    for _ in range(count):
        run_blocking(channel.send(_REQUEST))
        run_blocking(channel.receive())


def _answer(what: str, reader: int, writer: int) -> None:
    if what == "pipes":
        while data := os.read(reader, 65536):
            os.write(writer, data)
        return
    channel = Channel(1, PipeEnd(reader, writable=False), PipeEnd(writer, readable=False))
    try:
        while True:
            finish(channel.receive())
            finish(channel.send(_RESPONSE))
    except EOFError:
        pass


if __name__ == "__main__":
    _answer(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
