"""Servers on 127.0.0.1 and their clients, on real sockets or on virtual ones: one program for each.

`python sockets.py real|virtual REQUESTS` prints the seconds of each line as JSON, once for each line of its input.
Whether sockets are virtual is a matter of the whole process, so each kind has one of its own; `measure` lets both take
turns.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MIB = 1 << 20
LARGE = bytes(16 * MIB)
KINDS = ("real", "virtual")
HERE = str(Path(__file__).resolve().parent)

Get = Callable[[str], object]


def measure(rounds: int, requests: int) -> dict[str, list[float]]:
    """Return the seconds that each line takes in each round, by both kinds of sockets."""
    with ExitStack() as stack:
        children = {kind: stack.enter_context(_program(kind, requests)) for kind in KINDS}
        samples: dict[str, list[float]] = {}
        for _ in range(rounds):
            for kind, child in children.items():
                for line, seconds in _turn(child).items():
                    samples.setdefault(f"{line}, {kind}", []).append(seconds)
        return samples


@contextmanager
def _program(kind: str, requests: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, __file__, kind, str(requests)]
    # glibc's malloc may give 16 MiB back to the kernel each time, which doubles the time of such a body, or may not.
    env = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(4 * len(LARGE)), "MALLOC_TRIM_THRESHOLD_": str(16 * len(LARGE))}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE, env=env
    ) as child:
        yield child
        assert child.stdin is not None
        child.stdin.close()


def _turn(child: subprocess.Popen[str]) -> dict[str, float]:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("\n")
    child.stdin.flush()
    answer: dict[str, float] = json.loads(child.stdout.readline())
    return answer


# In the program


class Hello(BaseHTTPRequestHandler):
    """Answers at once, and keeps the connection."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self) -> None:
        body = LARGE if self.path == "/large" else b"hello"
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@contextmanager
def http_server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Hello) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@contextmanager
def uvicorn_on_a_thread() -> Iterator[str]:
    import uvicorn

    # As uvicorn makes its own: asyncio sets TCP_NODELAY for a socket that says it is TCP.
    listener = socket.socket(proto=socket.IPPROTO_TCP)
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    server = uvicorn.Server(uvicorn.Config("app_fastapi:app", log_level="warning", loop="asyncio", http="h11"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    yield _once_it_listens(listener.getsockname()[1])
    server.should_exit = True
    thread.join()
    listener.close()


@contextmanager
def uvicorn_in_a_child() -> Iterator[str]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--port", str(port), "--log-level", "warning", "--loop", "asyncio", "--http", "h11"]
    child = subprocess.Popen([sys.executable, "-m", "uvicorn", "app_fastapi:app", *options], cwd=HERE)
    try:
        yield _once_it_listens(port)
    finally:
        child.terminate()
        child.wait()


def _once_it_listens(port: int) -> str:
    for _ in range(3000):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return f"http://127.0.0.1:{port}"
        except ConnectionRefusedError:
            time.sleep(0.01)
    raise TimeoutError("the server does not start")


def _lines(stack: ExitStack) -> dict[str, tuple[Get, str, bool]]:
    """Return how each line asks, whom, and whether once is enough, after it has made sure that they answer."""
    import httpx
    import requests

    get_requests = stack.enter_context(requests.Session()).get
    get_httpx = stack.enter_context(httpx.Client()).get
    urls = {
        "http.server": stack.enter_context(http_server()),
        "uvicorn, thread": stack.enter_context(uvicorn_on_a_thread()),
        "uvicorn, child": stack.enter_context(uvicorn_in_a_child()),
    }
    lines: dict[str, tuple[Get, str, bool]] = {}
    for server, url in urls.items():
        lines[f"requests, {server}"] = get_requests, url + "/", False
        lines[f"httpx, {server}"] = get_httpx, url + "/", False
    lines["requests, http.server, a new connection each"] = requests.get, urls["http.server"] + "/", False
    lines["16 MiB, requests, http.server"] = get_requests, urls["http.server"] + "/large", True
    for get, url, _ in lines.values():
        get(url).raise_for_status()  # type: ignore[attr-defined]
    return lines


def _seconds(run: Callable[[], object], times: int) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def main(kind: str, requests: int) -> None:
    if kind == "virtual":
        from socketless import loopback

        loopback.install()
    with ExitStack() as stack:
        lines = _lines(stack)
        for _ in sys.stdin:
            seconds = {
                name: _seconds(partial(get, url), 1 if once else requests) for name, (get, url, once) in lines.items()
            }
            print(json.dumps(seconds), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
