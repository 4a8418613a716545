"""What is given for an app, a worker or a transport and is none: each error says what to write."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import flask
import httpx
import pytest
import requests

from socketless import IpcAsyncTransport, IpcProcess, IpcThread, IpcTransport, switch_to_ipc_connection
from socketless.errors import WorkerStartError
from socketless.requests import IpcAdapter, Session
from socketless.testcase import SocketlessTestCase
from socketless.testclient import TestClient
from socketless.unix_server import UnixServer

APP = "wsgiref.simple_server:demo_app"


@pytest.fixture(scope="module")
def worker() -> Iterator[IpcThread]:
    with IpcThread(APP) as worker:
        yield worker


def raised(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """Return the text of the error that a function raises."""
    with pytest.raises(Exception) as caught:
        function(*args, **kwargs)
    return str(caught.value)


TAKES_APPS = (IpcProcess, IpcThread, TestClient, switch_to_ipc_connection)


@pytest.mark.parametrize("takes_apps", TAKES_APPS)
def test_no_app(takes_apps: Callable[..., Any]) -> None:
    """What is no app is refused at once, with what to write for it."""

    async def create_app() -> None: ...

    coroutine = create_app()
    assert raised(takes_apps, math).endswith("; name an attribute of it: 'math:...'")
    assert raised(takes_apps, Path("good.py")).endswith("PosixPath('good.py'); write 'package.module:attribute'")
    assert raised(takes_apps, coroutine).endswith("; call an async function by asyncio.run(create_app())")
    assert raised(takes_apps, None).endswith(", not None")
    assert raised(takes_apps, "good.py:app") == (
        "the app is not usable: 'good.py:app' is not an import string; write 'good:app'"
    )
    assert raised(takes_apps, APP, app_kind="flask") == "app_kind must be one of 'auto', 'wsgi', 'asgi', not 'flask'"
    coroutine.close()


@pytest.mark.parametrize("kind", [IpcProcess, IpcThread])
def test_worker_for_an_app(worker: IpcThread, kind: Callable[..., Any]) -> None:
    """A worker is no app for another worker."""
    assert raised(kind, worker) == (
        "the app must be an import string or a callable, not <IpcThread 'wsgiref.simple_server:demo_app', threads>; "
        "that is a worker already; use it as it is"
    )


@pytest.mark.parametrize("kind", [IpcProcess, IpcThread])
def test_wrong_kind_of_app(kind: Callable[..., Any]) -> None:
    """An app that is of another kind than was said does not start, nor does the class of an app."""
    assert raised(kind, APP, app_kind="asgi") == (
        "the worker could not start: 'wsgiref.simple_server:demo_app' cannot be run as ASGI: it takes (environ, "
        "start_response), not (scope, receive, send); leave out app_kind='asgi'"
    )
    assert raised(kind, flask.Flask).endswith(
        "is a class; perhaps its objects are apps: give Flask(...)",
    )


@pytest.mark.parametrize("kind", [IpcProcess, IpcThread])
def test_reset_hook(kind: Callable[..., Any]) -> None:
    """A reset hook that there is not lets the worker not start."""
    with pytest.raises(WorkerStartError, match="^the reset hook is not usable: 'shop.reset' is not an import "):
        kind(APP, reset_hook="shop.reset")
    with pytest.raises(WorkerStartError, match="start: the reset hook is not usable: cannot import 'math:sinn': modu"):
        kind(APP, reset_hook="math:sinn")


def test_env() -> None:
    """Environment variables are strings."""
    assert (
        raised(IpcProcess, APP, env={"PORT": 8000}) == "env must be a dict of strings: write 'PORT': '8000', not 8000"
    )
    assert raised(IpcProcess, APP, env={None: "8000"}).startswith("env must be a dict of strings: write 'None': '8000'")
    assert raised(IpcProcess, APP, env="PORT=8000") == "env must be a dict of strings, not 'PORT=8000'"


@pytest.mark.parametrize(
    ("form", "takes_worker"),
    [
        ("IpcTransport({})", IpcTransport),
        ("IpcAsyncTransport({})", IpcAsyncTransport),
        ("IpcAdapter({})", IpcAdapter),
        ("Session(worker={})", lambda value: Session(worker=value)),
        ("UnixServer({}, ...)", lambda value: UnixServer(value, "path")),
    ],
)
def test_no_worker(form: str, takes_worker: Callable[[Any], Any]) -> None:
    """Where a worker is wanted, an app, an import string, or the class of a worker is refused."""
    name = form.partition("(")[0]

    def app(environ: Any, start_response: Any) -> Any: ...

    for value, instead in [
        ("shop:app", "IpcProcess('shop:app')"),
        (app, "IpcThread(app)"),
        (IpcProcess, "IpcProcess('package.module:app')"),
        (3, "IpcProcess('package.module:app')"),
    ]:
        assert raised(takes_worker, value) == f"{name} takes a worker, {form.format(instead)}, not {value!r}"


async def enter(transport: Any) -> None:
    async with httpx.AsyncClient(transport=transport):
        pass


def test_transport_for_the_other_client(worker: IpcThread) -> None:
    """A transport in a client of the other sort says which one that takes, at the entry or with the first request."""

    async def ask(**where: Any) -> None:
        await httpx.AsyncClient(**where).get("http://testserver/")

    hint = ": httpx.AsyncClient takes IpcAsyncTransport(worker)"
    for coroutine in (
        enter(IpcTransport(worker)),
        ask(transport=IpcTransport(worker)),
        ask(mounts={"all://": IpcTransport(worker)}),
    ):
        assert raised(asyncio.run, coroutine).endswith(hint)
    with pytest.raises(AttributeError, match="'__enter__': httpx.Client takes IpcTransport"):
        httpx.Client(transport=IpcAsyncTransport(worker)).__enter__()  # type: ignore[arg-type]
    with pytest.raises(AttributeError, match="'handle_request': httpx.Client takes IpcTransport"):
        httpx.Client(transport=IpcAsyncTransport(worker)).get("http://testserver/")  # type: ignore[arg-type]


def test_worker_for_a_client(worker: IpcThread) -> None:
    """A worker where a client wants a transport, or that is asked itself, says what goes around it."""
    anything: Any = worker
    assert raised(httpx.Client(transport=anything).get, "http://x/").endswith(
        "httpx.Client takes a transport, IpcTransport(worker)"
    )
    for coroutine in (httpx.AsyncClient(transport=anything).get("http://x/"), enter(anything)):
        assert raised(asyncio.run, coroutine).endswith("AsyncClient takes a transport, IpcAsyncTransport(worker)")

    async def connect() -> None:
        aiohttp.ClientSession(connector=anything)

    assert raised(asyncio.run, connect()).endswith("connector, socketless.aiohttp.ASGIApplicationConnector(worker)")
    session = requests.Session()
    session.mount("http://", anything)
    assert raised(session.get, "http://x/").endswith("takes an adapter, socketless.requests.IpcAdapter(worker)")
    assert raised(lambda: anything.get("/")) == (
        "'IpcThread' object has no attribute 'get': a worker has clients, socketless.testclient.TestClient(worker)"
        ".get(...)"
    )
    assert raised(lambda: anything.nothing) == "'IpcThread' object has no attribute 'nothing'"


@pytest.mark.parametrize("worker_class", ["thread", 3, IpcTransport])
def test_no_class_of_workers(worker_class: Any) -> None:
    """What a test case names as its worker's class, and is none, is refused."""
    case = type("Case", (SocketlessTestCase,), {"app": APP, "worker_class": worker_class})
    assert raised(case.setUpClass) == (
        f"worker_class must be IpcProcess or IpcThread, the class itself, not {worker_class!r}"
    )
