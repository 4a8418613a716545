"""A server in one Python process, its client in another, on loopback; a program as `pairs.py` is."""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from pairs import Check, run

CHECKS: dict[str, Check] = {}
LIMIT = 30.0  # seconds


def check(function: Check) -> Check:
    CHECKS[function.__name__] = function
    return function


APP = """
    import os, socket, sys
    import uvicorn
    from fastapi import FastAPI, WebSocket
    from fastapi.responses import StreamingResponse

    app = FastAPI()


    @app.get("/")
    def hello():
        return os.getpid()


    @app.get("/stream")
    def stream():
        return StreamingResponse(b"x" * 65536 for _ in range(160))


    @app.websocket("/echo")
    async def echo(websocket: WebSocket):
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)


    if __name__ == "__main__":
        listener = socket.create_server(("127.0.0.1", 0))
        print(listener.getsockname()[1], flush=True)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run([listener])
"""


@contextmanager
def program(code: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Start a program that says its port in the first line, and kill it afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "program.py")
        path.write_text(textwrap.dedent(code))
        with subprocess.Popen([sys.executable, str(path)], stdout=subprocess.PIPE, text=True, cwd=folder) as child:
            assert child.stdout is not None
            try:
                yield child, int(child.stdout.readline())
            finally:
                child.kill()


def get(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=LIMIT) as response:
        return str(response.read().decode())


@check
def uvicorn() -> None:
    import httpx
    import requests
    from websockets.sync.client import connect

    with program(APP) as (child, port):
        url = f"http://127.0.0.1:{port}"
        assert requests.get(url).json() == httpx.get(url).json() == child.pid
        assert len(httpx.get(f"{url}/stream").content) == 160 * 65536
        with connect(f"ws://127.0.0.1:{port}/echo") as client:
            for number in range(100):
                client.send(str(number))
                assert client.recv() == str(number)
        child.terminate()
        child.wait(LIMIT)
        with pytest.raises(requests.ConnectionError, match="refused"):
            requests.get(url)


@check
def killed_in_the_middle() -> None:
    code = """
        import socket, threading
        server = socket.create_server(("127.0.0.1", 0))
        print(server.getsockname()[1], flush=True)
        peer, _ = server.accept()
        peer.sendall(b"half")
        threading.Event().wait()
    """
    with program(code) as (child, port), socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as client:
        assert client.recv(4) == b"half"
        child.send_signal(signal.SIGKILL)
        assert client.recv(1) == b""


@check
def interrupted_in_the_middle() -> None:
    code = """
        import signal, socket
        signal.signal(signal.SIGINT, signal.default_int_handler)
        server = socket.create_server(("127.0.0.1", 0))
        print(server.getsockname()[1], flush=True)
        peer, _ = server.accept()
        try:
            peer.sendall(b"ok")
            peer.recv(1)
        except KeyboardInterrupt:
            peer.sendall(b"interrupted")
    """
    with program(code) as (child, port), socket.create_connection(("127.0.0.1", port), timeout=LIMIT) as client:
        assert client.recv(2) == b"ok"
        child.send_signal(signal.SIGINT)
        assert client.makefile("rb").read() == b"interrupted"
        assert child.wait(LIMIT) == 0


def serve(tell: Connection) -> None:
    from werkzeug.serving import make_server
    from werkzeug.wrappers import Response

    server = make_server("127.0.0.1", 0, lambda environ, start: Response(str(os.getpid()))(environ, start))
    tell.send(server.port)
    server.serve_forever()


def serves_by(method: str) -> None:
    context = multiprocessing.get_context(method)
    told, tell = context.Pipe(duplex=False)
    process = context.Process(target=serve, args=(tell,), daemon=True)
    process.start()
    assert told.poll(LIMIT)
    assert get(told.recv()) == str(process.pid)
    process.terminate()
    process.join(LIMIT)
    assert process.exitcode == -signal.SIGTERM


@check
def fork() -> None:
    serves_by("fork")


@check
def spawn() -> None:
    serves_by("spawn")


@check
def forkserver() -> None:
    serves_by("forkserver")


@check
def a_port_twice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        code = f"import socket; socket.create_server(('127.0.0.1', {server.getsockname()[1]}))"
        error = subprocess.run([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True).stderr
        assert "in use" in error, error


if __name__ == "__main__":
    run(CHECKS)
