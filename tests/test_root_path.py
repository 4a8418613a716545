"""Apps that are mounted at a path: the URLs that they make lead to them, and the root path may be left out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flask
import httpx
import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse
from starlette.routing import Mount, Route

from socketless import IpcThread, IpcTransport, switch_to_ipc_connection
from socketless._host.worker import Worker
from socketless.testclient import TestClient

wsgi = flask.Flask(__name__)


@wsgi.get("/shop/old")
def wsgi_old() -> Any:
    return flask.redirect(flask.url_for("wsgi_new"))


@wsgi.get("/shop/new")
def wsgi_new() -> str:
    return flask.request.script_root + flask.request.path


async def old(request: Request) -> RedirectResponse:
    return RedirectResponse(request.url_for("new"))


async def new(request: Request) -> PlainTextResponse:
    return PlainTextResponse(request.url.path)


asgi = Starlette(routes=[Mount("/shop", routes=[Route("/old", old), Route("/new", new, name="new")])])
asgi_within = Starlette(routes=[Mount("/shop", Starlette(routes=[Route("/old", old), Route("/new", new, name="new")]))])


def by_transport(worker: Worker, path: str, root_path: str) -> str:
    transport = IpcTransport(worker, root_path=root_path)
    with httpx.Client(transport=transport, base_url="http://testserver", follow_redirects=True) as client:
        return client.get(path).text


def by_switch(worker: Worker, path: str, root_path: str) -> str:
    with switch_to_ipc_connection(worker, root_path=root_path):
        return requests.get("http://testserver" + path, timeout=30).text


def by_urllib3(worker: Worker, path: str, root_path: str) -> str:
    urllib3 = pytest.importorskip("urllib3")
    with switch_to_ipc_connection(worker, root_path=root_path), urllib3.PoolManager() as pool:
        return str(pool.request("GET", "http://testserver" + path).data.decode())


@pytest.mark.parametrize("app", [wsgi, asgi, asgi_within])
@pytest.mark.parametrize("ask", [by_transport, by_switch, by_urllib3])
@pytest.mark.parametrize("root_path", ["/api", "/api/", "/a/b", "/caf\xe9"])
def test_redirect(app: Any, ask: Callable[[Worker, str, str], str], root_path: str) -> None:
    """A redirect within an app leads to it, whether the first URL has the root path or not, or another like it."""
    root = root_path.rstrip("/")
    with IpcThread(app, lifespan=False) as worker:
        for path in ("/shop/old", f"{root}/shop/old", f"{root}/shop/new"):
            assert ask(worker, path, root_path) == f"{root}/shop/new"
        assert "Not Found" in ask(worker, f"{root}x/shop/new", root_path)


def test_client_of_starlette() -> None:
    """TestClient gives a WSGI app the same, and an ASGI app the path that was asked for, as Starlette's does."""
    with TestClient(wsgi, root_path="/api") as client:
        assert client.get("/shop/old").text == client.get("/api/shop/new").text == "/api/shop/new"
    with TestClient(asgi, root_path="/api") as client:
        assert client.get("/api/shop/old").text == "/api/shop/new"
        assert client.get("/shop/new").status_code == 404
