"""Servers and clients of other people that meet on loopback within one process; a program, run by test_pairs.py.

It prints a line of JSON for each pair: its name, and the traceback of what went wrong, or nothing. The code of the
pairs is what a person would write: it knows nothing of socketless.
"""

from __future__ import annotations

import asyncio
import http.server
import json
import os
import socket
import socketserver
import ssl
import sys
import tempfile
import threading
import traceback
import types
import unittest
import urllib.request
import xmlrpc.client
import xmlrpc.server
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

Check = Callable[[], None]

CHECKS: dict[str, Check] = {}


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class Hello(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(b"hello")

    def do_POST(self) -> None:
        self.answer(self.rfile.read(int(self.headers["Content-Length"])))

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        pass


@contextmanager
def hello() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    server.daemon_threads = True
    with running(server):
        yield f"http://127.0.0.1:{server.server_port}/"


def read(url: str) -> bytes:
    with urllib.request.urlopen(url) as response:
        return bytes(response.read())


@check
def http_server_and_urllib() -> None:
    with hello() as url:
        assert read(url) == read(url.replace("127.0.0.1", "localhost")) == b"hello"


@check
def http_server_and_requests() -> None:
    import requests

    body = os.urandom(1 << 20) * 16
    with hello() as url, requests.Session() as session:
        assert [session.get(url).text for _ in range(5)] == ["hello"] * 5
        assert session.post(url, data=body).content == body
    with pytest.raises(requests.ConnectionError, match="refused"):
        requests.get(url)


@check
def http_server_and_httpx() -> None:
    import httpx

    body = os.urandom(1 << 20) * 16
    with hello() as url:
        assert httpx.get(url).text == "hello"
        assert httpx.post(url, content=body).content == body
    with pytest.raises(httpx.ConnectError, match="refused"):
        httpx.get(url)


@check
def time_limit_of_requests() -> None:
    import requests

    with socket.create_server(("127.0.0.1", 0)) as server:
        with pytest.raises(requests.ReadTimeout):
            requests.get(f"http://127.0.0.1:{server.getsockname()[1]}/", timeout=0.01)


@check
def xmlrpc_of_the_standard_library() -> None:
    server = xmlrpc.server.SimpleXMLRPCServer(("localhost", 0), logRequests=False)
    server.register_function(pow)
    with running(server), xmlrpc.client.ServerProxy(f"http://localhost:{server.server_address[1]}") as proxy:
        assert proxy.pow(2, 5) == 32


@check
def udp_server_of_socketserver() -> None:
    class Echo(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            data, sock = self.request
            sock.sendto(data.upper(), self.client_address)

    server = socketserver.ThreadingUDPServer(("127.0.0.1", 0), Echo)
    with running(server), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(30)
        client.sendto(b"tea", server.server_address)
        assert client.recv(10) == b"TEA"


@check
def forking_unix_server_of_socketserver() -> None:
    class Echo(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            self.wfile.write(self.rfile.readline().upper())

    with tempfile.TemporaryDirectory() as folder:
        server = socketserver.ForkingUnixStreamServer(folder + "/s", Echo) if sys.version_info >= (3, 12) else None
        if server is None:
            Forking = types.new_class("Forking", (socketserver.ForkingMixIn, socketserver.UnixStreamServer))
            server = Forking(folder + "/s", Echo)
        with running(server), socket.socket(socket.AF_UNIX) as client:
            client.connect(folder + "/s")
            client.sendall(b"tea\n")
            assert client.makefile("rb").read() == b"TEA\n"


def start_uvicorn(app: Any, **options: Any) -> tuple[Any, threading.Thread]:
    import uvicorn

    started = threading.Event()

    class Server(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            started.set()

    server = Server(uvicorn.Config(app, port=0, log_level="warning", **options))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    assert started.wait(30)
    return server, thread


def fastapi_app() -> Any:
    from fastapi import FastAPI, WebSocket

    app = FastAPI()

    @app.get("/")
    def hello() -> str:
        return "hello"

    async def echo(socket: Any) -> None:
        await socket.accept()
        await socket.send_text(await socket.receive_text())
        await socket.close()

    echo.__annotations__["socket"] = WebSocket
    app.websocket("/echo")(echo)
    return app


@check
def uvicorn_in_a_thread() -> None:
    import aiohttp
    import httpx
    import requests
    from websockets.asyncio.client import connect
    from websockets.sync.client import connect as connect_blocking

    server, thread = start_uvicorn(fastapi_app())
    host = f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    assert requests.get(f"http://{host}/").json() == httpx.get(f"http://{host}/").json() == "hello"

    async def ask() -> None:
        async with httpx.AsyncClient() as client:
            assert (await client.get(f"http://{host}/")).json() == "hello"
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}/") as response:
            assert await response.json() == "hello"
        async with connect(f"ws://{host}/echo") as websocket:
            await websocket.send("x")
            assert await websocket.recv() == "x"

    asyncio.run(ask())
    with connect_blocking(f"ws://{host}/echo") as client:
        client.send("y")
        assert client.recv() == "y"
    server.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


@check
def aiohttp_test_client() -> None:
    from aiohttp import web
    from aiohttp.test_utils import TestClient, TestServer

    async def answer(request: Any) -> Any:
        return web.Response(text="hello")

    async def main() -> None:
        app = web.Application()
        app.router.add_get("/", answer)
        async with TestClient(TestServer(app)) as client:
            assert await (await client.get("/")).text() == "hello"

    asyncio.run(main())


@check
def asyncio_streams() -> None:
    async def answer(reader: Any, writer: Any) -> None:
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()

    async def main() -> None:
        async with await asyncio.start_server(answer, "localhost", 0) as server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
            writer.write(b"tea\n")
            assert await reader.read() == b"TEA\n"
            writer.close()
            await writer.wait_closed()

    asyncio.run(main())


@check
def trio_streams() -> None:
    import trio
    import trio.testing

    async def answer(stream: Any) -> None:
        await stream.send_all((await stream.receive_some()).upper())
        await stream.aclose()

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, answer, 0)
            stream = await trio.testing.open_stream_to_socket_listener(listeners[0])
            await stream.send_all(b"tea")
            assert await stream.receive_some() == b"TEA"
            await stream.aclose()
            nursery.cancel_scope.cancel()

    trio.run(main)


@check
def anyio_streams() -> None:
    import anyio
    import anyio.abc

    async def answer(stream: Any) -> None:
        async with stream:
            await stream.send((await stream.receive()).upper())

    async def main() -> None:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as group:
            group.start_soon(listener.serve, answer)
            port = listener.extra(anyio.abc.SocketAttribute.local_port)
            async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                await stream.send(b"tea")
                assert await stream.receive() == b"TEA"
            group.cancel_scope.cancel()

    anyio.run(main)


@check
def tornado_test_case() -> None:
    import tornado.testing
    import tornado.web

    class Handler(tornado.web.RequestHandler):
        def get(self) -> None:
            self.write("hello")

    class Case(tornado.testing.AsyncHTTPTestCase):
        def get_app(self) -> Any:
            return tornado.web.Application([("/", Handler)])

        def test(self) -> None:
            assert self.fetch("/").body == b"hello"

    passes(Case)


def passes(case: Any) -> None:
    result = unittest.TestResult()
    unittest.TestLoader().loadTestsFromTestCase(case).run(result)
    assert result.testsRun == 1
    assert result.wasSuccessful(), result.errors + result.failures


@check
def waitress_and_urllib() -> None:
    import waitress

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b"hello"]

    server = waitress.create_server(app, host="127.0.0.1", port=0)
    threading.Thread(target=server.run, daemon=True).start()
    assert read(f"http://127.0.0.1:{server.effective_port}/") == b"hello"


@check
def werkzeug_and_urllib() -> None:
    from werkzeug.serving import make_server
    from werkzeug.wrappers import Response

    server = make_server("127.0.0.1", 0, Response("hello"), threaded=True)
    with running(server):
        assert read(f"http://127.0.0.1:{server.port}/") == b"hello"


@check
def live_server_of_django() -> None:
    import django
    from django.conf import settings

    urls: Any = types.ModuleType("loopback_urls")
    from django.http import HttpResponse
    from django.urls import path

    urls.urlpatterns = [path("", lambda request: HttpResponse("hello"))]
    sys.modules["loopback_urls"] = urls
    settings.configure(
        SECRET_KEY="x",
        ROOT_URLCONF="loopback_urls",
        ALLOWED_HOSTS=["*"],
        STATIC_URL="static/",
        INSTALLED_APPS=["django.contrib.staticfiles"],
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    )
    django.setup()
    from django.test import LiveServerTestCase
    from django.test.runner import DiscoverRunner

    class Case(LiveServerTestCase):
        def test(self) -> None:
            assert read(self.live_server_url + "/") == b"hello"

    runner = DiscoverRunner(verbosity=0, interactive=False)
    old = runner.setup_databases()
    passes(Case)
    runner.teardown_databases(old)


@check
def pytest_httpserver_and_urllib() -> None:
    from pytest_httpserver import HTTPServer

    with HTTPServer() as server:
        server.expect_request("/a").respond_with_json({"hello": 1})
        assert json.loads(read(server.url_for("/a"))) == {"hello": 1}


@check
def https() -> None:
    import httpx
    import requests
    import trustme

    authority = trustme.CA()
    of_server, of_client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(of_server)
    authority.configure_trust(of_client)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hello)
    server.daemon_threads = True
    server.socket = of_server.wrap_socket(server.socket, server_side=True)
    url = f"https://localhost:{server.server_port}/"

    async def ask() -> None:
        async with httpx.AsyncClient(verify=of_client) as client:
            assert (await client.get(url)).text == "hello"

    with running(server):
        with urllib.request.urlopen(url, context=of_client) as response:
            assert response.read() == b"hello"
        assert httpx.get(url, verify=of_client).text == "hello"
        with authority.cert_pem.tempfile() as pem:
            assert requests.get(url, verify=pem).text == "hello"
        asyncio.run(ask())


def run(checks: dict[str, Check]) -> None:
    """Say what comes of each."""
    for name, function in checks.items():
        problem = ""
        try:
            function()
        except BaseException:
            problem = traceback.format_exc()
        print(json.dumps([name, problem]), flush=True)
    sys.stdout.flush()
    os._exit(0)  # some of the servers go on


if __name__ == "__main__":
    run(CHECKS)
