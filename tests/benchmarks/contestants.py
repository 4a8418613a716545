"""Who is measured: ways to send a request to an app, each a context manager that yields a `Send`."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import app_fastapi
import app_flask
import httpx

import socketless.requests
from socketless import IpcAsyncTransport, IpcProcess, IpcThread, IpcTransport
from socketless.testclient import TestClient

BASE_URL = "http://testserver"
FLASK, FASTAPI, DJANGO = "app_flask:app", "app_fastapi:app", "app_django:app"


class Action(NamedTuple):
    """A request; one with content is answered with it."""

    method: str
    path: str
    content: bytes | None = None


_UVICORN = ["uvicorn", "--port={port}", "--log-level=error"]

Send = Callable[[Action, int], None]  # sends a request so many times, one after the other
Contestant = Callable[[], AbstractContextManager[Send]]

OURS, BASELINE = "socketless", "socketless-http"
WSGI_TRANSPORT, UVICORN = "httpx.WSGITransport", "uvicorn, TCP"
OUR_TEST_CLIENT, STARLETTES = f"{OURS} TestClient", "starlette TestClient"


def of_flask() -> dict[str, Contestant]:
    """Return those that can send to `app_flask.app`, by name."""
    found: dict[str, Contestant] = {
        OURS: partial(_worker, lambda: IpcProcess(FLASK)),
        f"{OURS}, threads": partial(_worker, lambda: IpcThread(app_flask.app)),
        f"{OURS}, async": partial(_async_worker, FLASK),
        WSGI_TRANSPORT: partial(_sync, lambda: httpx.WSGITransport(app_flask.app)),
    }
    if baseline_works():
        found[BASELINE] = partial(_baseline, FLASK, "wsgi")
    if sockets_allowed() and find_spec("waitress"):
        found["waitress, TCP"] = partial(_tcp, ["waitress", "--listen=127.0.0.1:{port}", "--threads=8", FLASK])
    return found


def of_fastapi() -> dict[str, Contestant]:
    """Return those that can send to `app_fastapi.app`, by name."""
    found: dict[str, Contestant] = {
        OURS: partial(_worker, lambda: IpcProcess(FASTAPI)),
        f"{OURS}, threads": partial(_worker, lambda: IpcThread(app_fastapi.app)),
        f"{OURS}, async": partial(_async_worker, FASTAPI),
        "httpx.ASGITransport": partial(_async, lambda: httpx.ASGITransport(app_fastapi.app)),
        OUR_TEST_CLIENT: lambda: client_of(TestClient(app_fastapi.app)),
        STARLETTES: _test_client,
    }
    if baseline_works():
        found[BASELINE] = partial(_baseline, FASTAPI, "asgi")
    if sockets_allowed() and find_spec("uvicorn"):
        found[UVICORN] = partial(_tcp, [*_UVICORN, FASTAPI])
    return found


def of_large_bodies() -> dict[str, Contestant]:
    """Return those that can send a large body to `app_flask.app`, by name."""
    found: dict[str, Contestant] = {OURS: partial(_worker, lambda: IpcProcess(FLASK))}
    if sockets_allowed() and find_spec("uvicorn"):
        found[UVICORN] = partial(_tcp, [*_UVICORN, "--interface=wsgi", FLASK])
    return found


def of_django() -> dict[str, Contestant]:
    """Return those that can send to `app_django.app`, by name."""
    found: dict[str, Contestant] = {OURS: partial(_worker, lambda: IpcProcess(DJANGO))}
    if sockets_allowed() and find_spec("uvicorn"):
        found[UVICORN] = partial(_tcp, [*_UVICORN, DJANGO])
    return found


def of_requests() -> dict[str, Contestant]:
    """Return those that send by a session of requests to `app_flask.app`, by name."""
    return {OURS: _session}


def sockets_allowed() -> bool:
    """Whether servers can listen on the loopback interface here."""
    try:
        with socket.create_server(("127.0.0.1", 0)):
            return True
    except OSError:
        return False


def baseline_works() -> bool:
    """Whether `socketless-http` is here and can start; the event loop of its worker needs a socketpair."""
    return find_spec("socketless_http") is not None and sockets_allowed()


@contextmanager
def client_of(client: Any) -> Iterator[Send]:
    def send(action: Action, count: int) -> None:
        for _ in range(count):
            _check(action, client.request(action.method, action.path, content=action.content))

    with client:
        send(Action("GET", "/"), 1)
        yield send


def _check(action: Action, response: Any) -> None:
    if response.status_code != 200 or (action.content is not None and response.content != action.content):
        raise RuntimeError(f"{action.method} {action.path}: {response.status_code} {response.text[:200]}")


def _sync(make_transport: Callable[[], httpx.BaseTransport], base_url: str = BASE_URL) -> AbstractContextManager[Send]:
    return client_of(httpx.Client(transport=make_transport(), base_url=base_url, timeout=60))


@contextmanager
def _worker(start: Callable[[], IpcProcess | IpcThread]) -> Iterator[Send]:
    with start() as worker, _sync(lambda: IpcTransport(worker)) as send:
        yield send


@contextmanager
def _baseline(app: str, kind: str) -> Iterator[Send]:
    socketless_http = import_module("socketless_http")
    worker = socketless_http.IpcProcess(app, app_kind=kind, startup_timeout=30)
    with worker, _sync(lambda: socketless_http.IpcTransport(worker)) as send:
        yield send


@contextmanager
def _session() -> Iterator[Send]:
    with IpcProcess(FLASK) as worker, socketless.requests.Session() as session:
        session.mount(BASE_URL, socketless.requests.IpcAdapter(worker))

        def send(action: Action, count: int) -> None:
            for _ in range(count):
                _check(action, session.request(action.method, BASE_URL + action.path, data=action.content))

        yield send


@contextmanager
def _async_worker(app: str) -> Iterator[Send]:
    with IpcProcess(app) as worker, _async(lambda: IpcAsyncTransport(worker)) as send:
        yield send


@contextmanager
def _async(make_transport: Callable[[], httpx.AsyncBaseTransport]) -> Iterator[Send]:
    async def send_all(client: httpx.AsyncClient, action: Action, count: int) -> None:
        for _ in range(count):
            _check(action, await client.request(action.method, action.path, content=action.content))

    with closing(asyncio.new_event_loop()) as loop:
        client = httpx.AsyncClient(transport=make_transport(), base_url=BASE_URL, timeout=60)
        try:
            yield lambda action, count: loop.run_until_complete(send_all(client, action, count))
        finally:
            loop.run_until_complete(client.aclose())


def _test_client() -> AbstractContextManager[Send]:
    from starlette.testclient import TestClient

    return client_of(TestClient(app_fastapi.app))


@contextmanager
def _tcp(command: list[str]) -> Iterator[Send]:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    args = [sys.executable, "-m", *(arg.format(port=port) for arg in command)]
    with subprocess.Popen(args, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            _wait_until_it_listens(port, server)
            with _sync(httpx.HTTPTransport, f"http://127.0.0.1:{port}") as send:
                yield send
        finally:
            server.terminate()


def _wait_until_it_listens(port: int, server: subprocess.Popen[bytes]) -> None:
    while server.poll() is None:
        try:
            return socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.02)
    raise RuntimeError(f"{server.args!r} ended with {server.returncode} before it listened")
