"""`socketless.testclient.TestClient` beside Starlette's own, on the same apps.

A test that takes `client`, `make`, `own` or `inside` is run with Starlette's class and with ours, and asserts the same
of all. Where ours is different on purpose, a test of its own says so.
"""

from __future__ import annotations

import ast
import asyncio
import gc
import inspect
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import fastapi
import httpx2
import pytest
import starlette.testclient
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from apps import testclient_app
from apps.testclient_app import Broken, caller
from socketless import IpcProcess
from socketless.testclient import TestClient
from support import LIMIT, nothing_leaks

APP = "apps.testclient_app"
# The last Starlette for Python 3.10 has a client that knows no streams and no trailers.
REFERENCE = ["starlette"] if sys.version_info >= (3, 11) else []
BACKENDS = ["asyncio", "trio"]


class Clients:
    """Makes clients by kind, and closes them.

    "starlette" is the reference; "thread" is ours with an app object, "process" ours with an import string, and
    "worker" ours with a worker process that others share.
    """

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._entered: dict[str, Any] = {}
        self._worker: IpcProcess | None = None

    def make(self, kind: str, app: Any, /, **options: Any) -> Any:
        """Return a client for an app object of these tests, or for an attribute of the sample apps."""
        in_process = getattr(testclient_app, app) if isinstance(app, str) else app
        if kind == "starlette":
            client: Any = starlette.testclient.TestClient(in_process, **options)
        elif kind == "thread":
            client = TestClient(in_process, **options)
        elif kind == "process":
            client = TestClient(f"{APP}:{app}", **options)
        else:
            assert app == "app"
            client = TestClient(self.worker, **options)
        self._stack.callback(client.close)
        return client

    @property
    def worker(self) -> IpcProcess:
        if self._worker is None:
            self._worker = self._stack.enter_context(IpcProcess(f"{APP}:app"))
        return self._worker

    def entered(self, kind: str) -> Any:
        """Return a client for the sample app that all tests share, within its `with`."""
        if kind not in self._entered:
            self._entered[kind] = self._stack.enter_context(self.make(kind, "app"))
        return self._entered[kind]


@pytest.fixture(scope="module")
def shared() -> Iterator[Clients]:
    with ExitStack() as stack:
        yield Clients(stack)


@pytest.fixture
def clients(shared: Clients) -> Iterator[Clients]:
    with ExitStack() as stack:
        clients = Clients(stack)
        clients._worker = shared._worker
        yield clients


@pytest.fixture(params=[*REFERENCE, "thread", "process"])
def client(request: pytest.FixtureRequest, shared: Clients) -> Iterator[Any]:
    """A client within its `with`, for the sample app."""
    client = shared.entered(request.param)
    yield client
    client.cookies.clear()


@pytest.fixture(params=[*REFERENCE, "thread", "worker"])
def make(request: pytest.FixtureRequest, shared: Clients, clients: Clients) -> Callable[..., Any]:
    """Makes clients for the sample app, with options."""
    clients._worker = shared.worker
    return lambda **options: clients.make(request.param, "app", **options)


@pytest.fixture(params=[*REFERENCE, "thread", "process"])
def own(request: pytest.FixtureRequest, clients: Clients) -> Callable[..., Any]:
    """Makes clients for an app by its name, each with a worker of its own."""
    return lambda app, **options: clients.make(request.param, app, **options)


@pytest.fixture(params=[*REFERENCE, "thread"])
def inside(request: pytest.FixtureRequest, clients: Clients) -> Callable[..., Any]:
    """Makes clients for an app in this process."""
    return lambda app="app", **options: clients.make(request.param, app, **options)


@pytest.fixture(params=["thread", "process"])
def ours(request: pytest.FixtureRequest, clients: Clients) -> Callable[..., Any]:
    """Makes clients of ours, each with a worker of its own."""
    return lambda app, **options: clients.make(request.param, app, **options)


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Returns what apps have noted so far, in workers that are started from now on, too."""
    path = tmp_path / "notes"
    path.touch()
    monkeypatch.setenv("TESTCLIENT_NOTES", str(path))
    return lambda: path.read_text().splitlines()


@pytest.fixture
def name() -> str:
    """A name that no other test tells."""
    return uuid.uuid4().hex


# The class


@pytest.mark.parametrize("method", ["__init__", "request", "websocket_connect"])
def test_signatures(method: str) -> None:
    """Ours takes the arguments of Starlette's, by the same names, in the same order and with the same defaults.

    It may take more, which are given by name.
    """
    starlettes, ours = (
        [each for each in inspect.signature(getattr(cls, method)).parameters.values() if each.kind != each.VAR_KEYWORD]
        for cls in (starlette.testclient.TestClient, TestClient)
    )
    common, more = ours[: len(starlettes)], ours[len(starlettes) :]
    assert [(each.name, each.kind, each.default) for each in common] == [
        (each.name, each.kind, each.default) for each in starlettes
    ]
    assert {each.kind for each in more} <= {inspect.Parameter.KEYWORD_ONLY}


def test_is_a_client_of_httpx2(client: Any) -> None:
    """The client is an `httpx2.Client`, and its responses are `httpx2.Response`s."""
    assert isinstance(client, httpx2.Client)
    assert type(client.get("/echo")) is httpx2.Response


def test_is_not_collected(client: Any) -> None:
    """pytest does not take the class for tests."""
    assert type(client).__test__ is False


def test_app(inside: Any) -> None:
    """The client has the app that it was given."""
    assert inside().app is testclient_app.app


@pytest.mark.parametrize("app", ["callable3", "Awaitable3", "asgi2", "Asgi2"])
def test_styles_of_apps(inside: Any, app: str) -> None:
    """Functions, objects and classes are apps, by ASGI 3 and by ASGI 2."""
    assert inside(app).get("/path").text == ("ASGI 2 /path" if app.lower() == "asgi2" else "http only")


@pytest.mark.parametrize("app", ["callable3", "Awaitable3"])
def test_styles_of_apps_in_a_worker_process(own: Any, app: str) -> None:
    """Objects and classes are apps, by ASGI 3, in a worker process as well."""
    assert own(app).get("/path").text == "http only"


# Requests


def echoed(client: Any, *arguments: Any, **options: Any) -> Any:
    """Return what the app has seen of a request."""
    response = client.request(*arguments, **options)
    assert response.status_code == 200
    return response.json()


def test_simple_request(client: Any) -> None:
    """What is not said has the values of Starlette's."""
    assert client.get("/echo").json() == {
        "method": "GET",
        "url": "http://testserver/echo",
        "path": "/echo",
        "query": [],
        "body": "",
        "type": None,
        "cookies": {},
        "agent": "testclient",
        "client": ["testclient", 50000],
    }


def test_response(client: Any) -> None:
    """A response is complete when it is there."""
    response = client.get("/status/404")
    assert (response.status_code, response.reason_phrase, response.http_version) == (404, "Not Found", "HTTP/1.1")
    assert (response.content, response.is_closed, response.is_stream_consumed) == (b"", True, True)
    assert (str(response.url), response.request.method, response.history) == ("http://testserver/status/404", "GET", [])
    assert response.elapsed.total_seconds() >= 0
    with pytest.raises(httpx2.HTTPStatusError, match="404 Not Found"):
        response.raise_for_status()


@pytest.mark.parametrize("method", ["get", "options", "head", "delete", "post", "put", "patch", "query"])
def test_methods(client: Any, method: str) -> None:
    """Each method of HTTP is a method of the client."""
    response = getattr(client, method)("/echo")
    assert response.request.method == method.upper()
    if method == "head":
        assert (response.status_code, response.content) == (200, b"")
        assert int(response.headers["content-length"]) > 100
    else:
        assert response.json()["method"] == method.upper()


def test_other_methods(client: Any) -> None:
    """`request()` takes any method."""
    assert [echoed(client, method, "/echo")["method"] for method in ("TRACE", "PURGE")] == ["TRACE", "PURGE"]


def test_methods_of_an_endpoint(client: Any) -> None:
    """A path and a method that the app does not know are 404 and 405."""
    answers = [client.get("/endpoint"), client.post("/endpoint"), client.put("/endpoint"), client.get("/nowhere")]
    assert [(each.status_code, each.text) for each in answers] == [
        (200, "got"), (201, "posted"), (405, "Method Not Allowed"), (404, "Not Found"),
    ]  # fmt: skip


def test_query(client: Any) -> None:
    """`params` are encoded, and take the place of a query in the URL."""
    assert echoed(client, "GET", "/echo?a=1&a=2&b=")["query"] == [["a", "1"], ["a", "2"], ["b", ""]]
    params = {"a": ["1", "2"], "\xfc": "\N{PILE OF POO} &=", "none": None, "yes": True}
    assert echoed(client, "GET", "/echo?old=1", params=params)["query"] == [
        ["a", "1"], ["a", "2"], ["\xfc", "\N{PILE OF POO} &="], ["none", ""], ["yes", "true"],
    ]  # fmt: skip
    assert echoed(client, "GET", "/echo", params=[("b", 1), ("a", 2)])["query"] == [["b", "1"], ["a", "2"]]


@pytest.mark.parametrize(
    ("options", "body", "kind"),
    [
        ({"json": {"a": [1, None, "\xe9"]}}, b'{"a":[1,null,"\xc3\xa9"]}', "application/json"),
        ({"data": {"a": ["1", "2"], "b": "\xe9 &"}}, b"a=1&a=2&b=%C3%A9+%26", "application/x-www-form-urlencoded"),
        ({"content": b"\x00\xff"}, b"\x00\xff", None),
        ({"content": "text \xe9", "headers": {"content-type": "text/plain"}}, b"text \xc3\xa9", "text/plain"),
        ({"content": b""}, b"", None),
        ({}, b"", None),
    ],
    ids=["json", "data", "bytes", "text", "empty", "nothing"],
)
def test_bodies(client: Any, options: Any, body: bytes, kind: str | None) -> None:
    """A body reaches the app with the type that httpx gives it."""
    seen = echoed(client, "POST", "/echo", **options)
    assert (seen["body"].encode("latin-1"), seen["type"]) == (body, kind)


def test_files(client: Any, tmp_path: Path) -> None:
    """Files are uploaded as in Starlette's documentation: one, or several with names and types, with fields."""
    (tmp_path / "example.txt").write_bytes(b"text")
    (tmp_path / "example.png").write_bytes(b"\x89PNG\x00\xff")
    with (tmp_path / "example.txt").open("rb") as text, (tmp_path / "example.png").open("rb") as image:
        assert client.post("/form", files={"file": text}).json() == [["file", "example.txt", "text/plain", "text"]]
        text.seek(0)
        files = {"file1": text, "file2": ("filename", image, "image/png")}
        assert client.post("/form", data={"a": "1"}, files=files).json() == [
            ["a", "1"],
            ["file1", "example.txt", "text/plain", "text"],
            ["file2", "filename", "image/png", "\x89PNG\x00\xff"],
        ]


def test_form(client: Any) -> None:
    """A form's fields are read in order."""
    assert client.post("/form", data={"b": "1", "a": ["2", "3"]}).json() == [["b", "1"], ["a", "2"], ["a", "3"]]


def test_headers_of_the_client(make: Any) -> None:
    """Headers of the client are sent with each request, and those of a request take their place."""
    client = make(headers={"x-test": "client", "x-other": "other"})
    assert client.get("/header/x-test").json() == ["client"]
    assert client.get("/header/x-test", headers={"X-Test": "request"}).json() == ["request"]
    assert client.get("/header/x-other", headers={"X-Test": "request"}).json() == ["other"]
    assert client.get("/header/user-agent").json() == ["testclient"]
    client.headers["x-test"] = "later"
    assert client.get("/header/x-test").json() == ["later"]
    client.headers = {"Authorization": "..."}
    assert client.get("/header/authorization").json() == ["..."]
    assert client.get("/header/x-test").json() == []


def test_user_agent(make: Any) -> None:
    """A user agent can be given."""
    assert make(headers={"user-agent": "mine"}).get("/header/user-agent").json() == ["mine"]


def test_repeated_request_headers(client: Any) -> None:
    """A header can be sent several times, and empty."""
    headers = [("x-test", "1"), ("X-Test", "2"), ("x-test", "")]
    assert client.get("/header/x-test", headers=headers).json() == ["1", "2", ""]


def test_repeated_response_headers(client: Any) -> None:
    """A header can be answered several times, and empty."""
    response = client.get("/raw/headers")
    assert response.headers.get_list("x-many") == ["1", "2"]
    assert response.headers["x-many"] == "1, 2"
    assert response.headers["x-empty"] == ""
    assert [name.lower() for name, _ in response.headers.raw] == [
        b"x-many", b"x-many", b"set-cookie", b"set-cookie", b"x-empty",
    ]  # fmt: skip
    assert dict(response.cookies) == {"a": "1", "b": "2"}


def test_cookies(client: Any) -> None:
    """Cookies that the app sets are kept by the client, and sent with the next requests."""
    response = client.get("/cookies", params={"a": "1", "b": "2"})
    assert dict(response.cookies) == dict(client.cookies) == {"a": "1", "b": "2"}
    assert client.get("/echo").json()["cookies"] == {"a": "1", "b": "2"}
    client.get("/cookies/delete/a")
    assert client.get("/echo").json()["cookies"] == {"b": "2"}
    client.cookies.set("c", "3")
    assert client.get("/echo").json()["cookies"] == {"b": "2", "c": "3"}


def test_cookies_of_the_client(make: Any) -> None:
    """Cookies can be given to the client."""
    client = make(cookies={"a": "1"})
    assert client.get("/echo").json()["cookies"] == {"a": "1"}
    assert dict(client.cookies) == {"a": "1"}


def test_cookies_of_a_request(client: Any) -> None:
    """Cookies of one request are not kept; httpx says that they are deprecated."""
    with pytest.warns(DeprecationWarning, match="per-request cookies"):
        assert client.get("/echo", cookies={"a": "1"}).json()["cookies"] == {"a": "1"}
    assert client.get("/echo").json()["cookies"] == {}


def test_cookies_are_for_their_path(client: Any) -> None:
    """A cookie is sent where its path says."""
    client.get("/cookies/narrow")
    assert client.get("/echo").json()["cookies"] == {}
    assert client.get("/narrow").json()["cookies"] == {"narrow": "1"}


def test_cookies_over_a_redirect(client: Any) -> None:
    """Cookies of a redirect are sent with the request that follows it."""
    assert client.get("/cookies?a=1&to=/echo").json()["cookies"] == {"a": "1"}


@pytest.mark.parametrize(
    "auth",
    [
        ("Aladdin", "open sesame"),
        httpx2.BasicAuth("Aladdin", "open sesame"),
        lambda request: (request.headers.update({"authorization": "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="}), request)[1],
    ],
    ids=["pair", "basic", "function"],
)
def test_auth(client: Any, auth: Any) -> None:
    """`auth` is httpx's, in all its forms."""
    assert client.get("/basic").status_code == 401
    assert client.get("/basic", auth=auth).text == "come in"


def test_auth_in_two_steps(client: Any) -> None:
    """`httpx2.DigestAuth` asks twice."""
    response = client.get("/digest", auth=httpx2.DigestAuth("me", "secret"))
    assert (response.text, [each.status_code for each in response.history]) == ("come in", [401])


def test_auth_in_the_url(client: Any) -> None:
    """A name and a password in the URL are sent."""
    assert client.get("http://Aladdin:open%20sesame@testserver/basic").text == "come in"


@pytest.mark.parametrize(
    ("status", "method", "body"),
    [(301, "GET", ""), (302, "GET", ""), (303, "GET", ""), (307, "POST", "body"), (308, "POST", "body")],
)
def test_redirects(client: Any, status: int, method: str, body: str) -> None:
    """Redirects are followed, with the method and the body that the status says."""
    response = client.post(f"/redirect/{status}", params={"to": "/echo?a=1"}, content=b"body")
    seen = response.json()
    assert (seen["method"], seen["body"], seen["query"]) == (method, body, [["a", "1"]])
    assert [each.status_code for each in response.history] == [status]
    assert str(response.url) == "http://testserver/echo?a=1"


def test_redirect_not_followed(client: Any, make: Any) -> None:
    """`follow_redirects` can be refused for a request, and for the client; a request may overrule the client."""
    response = client.get("/redirect/302?to=/echo", follow_redirects=False)
    assert (response.status_code, response.headers["location"], response.is_redirect) == (302, "/echo", True)
    assert str(response.next_request.url) == "http://testserver/echo"
    client = make(follow_redirects=False)
    assert client.get("/redirect/302?to=/echo").status_code == 302
    assert client.get("/redirect/302?to=/echo", follow_redirects=True).status_code == 200


def test_redirects_for_ever(client: Any) -> None:
    """A redirect that never ends is given up."""
    with pytest.raises(httpx2.TooManyRedirects):
        client.get("/loop")


def test_redirect_to_another_host(client: Any) -> None:
    """Every host is the app, and a redirect to another one takes no password there."""
    response = client.get("/redirect/302?to=https://example.org:8443/echo", auth=("me", "secret"))
    assert response.json()["url"] == "https://example.org:8443/echo"
    assert "authorization" not in response.request.headers


def test_absolute_urls(client: Any) -> None:
    """An absolute URL says which host the app is."""
    assert echoed(client, "GET", "https://example.org/echo?a=1")["url"] == "https://example.org/echo?a=1"
    assert echoed(client, "GET", httpx2.URL("http://[::1]:8080/echo"))["url"] == "http://[::1]:8080/echo"


@pytest.mark.parametrize(
    ("base_url", "url", "whole"),
    [
        ("http://testserver/echo", "/sub", "http://testserver/echo/sub"),
        ("http://testserver/echo/", "sub?a=1", "http://testserver/echo/sub?a=1"),
        ("https://example.org:8443/echo/a/", "/b", "https://example.org:8443/echo/a/b"),
        ("https://example.org", "/echo", "https://example.org/echo"),
        ("https://example.org", "http://elsewhere/echo", "http://elsewhere/echo"),
        ("http://testserver", "echo", "http://testserver/echo"),
    ],
)
def test_base_url(make: Any, base_url: str, url: str, whole: str) -> None:
    """Relative URLs are joined to the base URL's path, and absolute ones are taken as they are."""
    assert make(base_url=base_url).get(url).json()["url"] == whole


def test_unicode_path(client: Any) -> None:
    """The app sees a path as text, and as it was sent."""
    scope = ast.literal_eval(client.get("/raw/scope/caf\xe9/%E2%82%AC a%2Fb").text)
    assert scope["path"] == "/raw/scope/caf\xe9/\u20ac a/b"
    assert scope["raw_path"] == b"/raw/scope/caf%C3%A9/%E2%82%AC%20a%2Fb"


def test_head(client: Any) -> None:
    """The answer to HEAD has the headers of the answer to GET, and no body."""
    get, head = client.get("/raw/body"), client.head("/raw/pieces")
    assert (get.content, head.content) == (b"", b"")
    assert client.head("/file").headers == client.get("/file").headers


@pytest.mark.parametrize("status", [200, 204, 304, 500])
def test_empty_responses(client: Any, status: int) -> None:
    """A response may be empty."""
    response = client.get(f"/status/{status}")
    assert (response.status_code, response.content) == (status, b"")


def test_large_bodies(client: Any) -> None:
    """Bodies of five million bytes go both ways."""
    body = bytes(range(250)) * 20_000
    assert client.post("/raw/body", content=body).content == body
    assert client.get(f"/large/{5_000_000}").text == "x" * 5_000_000
    assert client.post("/raw/unread", content=body).text == "unread"
    assert client.post("/stream-body", content=body).json() == 5_000_000


def test_files_of_the_app(client: Any) -> None:
    """A file that the app sends arrives whole, and in part."""
    content = Path(testclient_app.__file__).read_bytes()
    assert client.get("/file").content == content
    response = client.get("/file", headers={"range": "bytes=3-9"})
    assert (response.status_code, response.content) == (206, content[3:10])


def test_built_requests(client: Any) -> None:
    """A request can be built first, and sent then."""
    request = client.build_request("POST", "/echo", json=[1])
    response = client.send(request)
    assert (response.json()["body"], response.request) == ("[1]", request)


def test_event_hooks(make: Any) -> None:
    """httpx's event hooks are called."""
    client, events = make(), []
    client.event_hooks = {
        "request": [lambda request: events.append(request.method)],
        "response": [lambda response: events.append(response.status_code)],
    }
    client.get("/redirect/302?to=/echo")
    assert events == ["GET", 302, "GET", 200]


def test_after_close(make: Any) -> None:
    """A closed client refuses requests."""
    client = make()
    client.get("/echo")
    client.close()
    assert client.is_closed
    with pytest.raises(RuntimeError, match="the client has been closed"):
        client.get("/echo")
    client.close()


def test_after_the_response(client: Any, name: str) -> None:
    """An app that goes on to receive is told, every time, that the client has gone."""
    assert client.post(f"/raw/after/{name}", content=b"all of it").text == "complete"
    assert client.get(f"/told/{name}").json() is True


# Scopes

# In what the two differ: the specification demands "asgi" and "http_version".
EXTENSIONS = {"http.response.debug": {}, "http.response.trailers": {}}
WORKERS_HAVE = {
    "http": {
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "extensions": EXTENSIONS,
    },
    "websocket": {
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "extensions": {"websocket.http.response": {}},
    },
}
STARLETTE_HAS = {
    "http": {"http_version": "1.1", "extensions": EXTENSIONS},
    "websocket": {"extensions": {"websocket.http.response": {}}},
}
ENCODINGS = {"accept-encoding": "gzip"}  # else it depends on what is installed


def common_part(client: Any, text: str) -> dict[str, Any]:
    """Return a scope without that in which the two differ, which is what is said above."""
    scope = ast.literal_eval(text)
    has = WORKERS_HAVE if isinstance(client, TestClient) else STARLETTE_HAS
    differences = {key: scope.pop(key) for key in ("asgi", "http_version", "extensions") if key in scope}
    assert differences == has[scope["type"]]
    scope["server"] = tuple(scope["server"])  # Starlette's is a list
    return scope


def test_http_scope(client: Any) -> None:
    """The scope of a request is that of Starlette's, and has more."""
    text = client.get("/raw/scope/%C3%A9?a=1&b=%20", headers=[*ENCODINGS.items(), ("X-Test", "1")]).text
    assert common_part(client, text) == {
        "type": "http",
        "method": "GET",
        "path": "/raw/scope/\xe9",
        "raw_path": b"/raw/scope/%C3%A9",
        "query_string": b"a=1&b=%20",
        "root_path": "",
        "scheme": "http",
        "headers": [
            (b"host", b"testserver"),
            (b"accept", b"*/*"),
            (b"connection", b"keep-alive"),
            (b"user-agent", b"testclient"),
            (b"accept-encoding", b"gzip"),
            (b"x-test", b"1"),
        ],
        "client": ("testclient", 50000),
        "server": ("testserver", 80),
        "state": {"greeting": "hello"},
    }


def test_http_scope_with_options(make: Any) -> None:
    """The scope of a request says what the client was given: address, base URL and root path."""
    client = make(base_url="https://example.org:8443/raw", root_path="/root", client=("192.0.2.1", 1234))
    scope = common_part(client, client.post("/scope", headers=ENCODINGS, content=b"body").text)
    del scope["state"]
    assert scope == {
        "type": "http",
        "method": "POST",
        "path": "/raw/scope",
        "raw_path": b"/raw/scope",
        "query_string": b"",
        "root_path": "/root",
        "scheme": "https",
        "headers": [
            (b"host", b"example.org:8443"),
            (b"accept", b"*/*"),
            (b"connection", b"keep-alive"),
            (b"user-agent", b"testclient"),
            (b"accept-encoding", b"gzip"),
            (b"content-length", b"4"),
        ],
        "client": ("192.0.2.1", 1234),
        "server": ("example.org", 8443),
    }


@pytest.mark.parametrize(
    ("url", "server"), [("http://a/", ("a", 80)), ("https://b/", ("b", 443)), ("http://c:0/", ("c", 0))]
)
def test_default_ports(client: Any, url: str, server: tuple[str, int]) -> None:
    """The scope's server has the port that its scheme means, or that of the URL, which may be 0."""
    scope = common_part(client, client.get(f"{url}raw/scope").text)
    assert (scope["server"], scope["scheme"]) == (server, url.partition(":")[0])


def test_websocket_scope(client: Any) -> None:
    """The scope of a WebSocket is that of Starlette's, and has more."""
    url = "/raw/scope/%C3%A9?a=1&b=%20"
    with client.websocket_connect(url, ["one", "two"], headers={**ENCODINGS, "x-test": "1"}) as session:
        scope = common_part(client, session.receive_text())
    headers = scope.pop("headers")
    assert scope == {
        "type": "websocket",
        "path": "/raw/scope/\xe9",
        "raw_path": b"/raw/scope/%C3%A9",
        "query_string": b"a=1&b=%20",
        "root_path": "",
        "scheme": "ws",
        "client": ("testclient", 50000),
        "server": ("testserver", 80),
        "subprotocols": ["one", "two"],
        "state": {"greeting": "hello"},
    }
    assert headers == [
        (b"host", b"testserver"),
        (b"accept", b"*/*"),
        (b"user-agent", b"testclient"),
        (b"accept-encoding", b"gzip"),
        (b"x-test", b"1"),
        (b"connection", b"upgrade"),
        (b"sec-websocket-key", b"testserver=="),
        (b"sec-websocket-version", b"13"),
        (b"sec-websocket-protocol", b"one, two"),
    ]


def test_websocket_scope_with_options(make: Any) -> None:
    """The scope of a WebSocket says what the client was given, but for the base URL: its host is "testserver"."""
    client = make(base_url="https://example.org:8443/raw", root_path="/root", client=("192.0.2.1", 1234))
    with client.websocket_connect("/raw/scope") as session:
        scope = common_part(client, session.receive_text())
    del scope["headers"], scope["state"]
    assert scope == {
        "type": "websocket",
        "path": "/raw/scope",
        "raw_path": b"/raw/scope",
        "query_string": b"",
        "root_path": "/root",
        "scheme": "ws",
        "client": ("192.0.2.1", 1234),
        "server": ("testserver", 80),
        "subprotocols": [],
    }


@pytest.mark.parametrize("url", ["ws://example.org:8080", "wss://example.org"])
def test_absolute_websocket_urls(client: Any, url: str) -> None:
    """An absolute URL says which host a WebSocket is to."""
    with client.websocket_connect(f"{url}/raw/scope") as session:
        scope = common_part(client, session.receive_text())
    port = 8080 if url.startswith("ws:") else 443
    assert (scope["scheme"], scope["server"]) == (url.partition(":")[0], ("example.org", port))


def test_scope_without_with(inside: Any) -> None:
    """Without `with` there is a state, too, and it is empty."""
    client = inside()
    assert common_part(client, client.get("/raw/scope").text)["state"] == {}
    with client.websocket_connect("/raw/scope") as session:
        assert common_part(client, session.receive_text())["state"] == {}


def test_root_path(make: Any) -> None:
    """A mounted app finds its own URLs under the root path."""
    client = make(root_path="/root")
    assert client.get("/inside").json() == ["/root", "http://testserver/root/inside", "http://testserver/root/"]
    assert client.get("/root/mounted/inside").json()[0] == "/root/mounted"
    with client.websocket_connect("/ws/info") as session:
        assert session.receive_json()["root_path"] == "/root"


# WebSockets


def test_websocket_messages(client: Any) -> None:
    """Texts and bytes go both ways, in order."""
    with client.websocket_connect("/raw/ws_echo") as session:
        assert session.accepted_subprotocol is None
        for text in ("one", "", "\N{PILE OF POO}\0\r\n"):
            session.send_text(text)
        assert [session.receive_text() for _ in range(3)] == ["one", "", "\N{PILE OF POO}\0\r\n"]
        session.send_bytes(b"\x00\xff")
        assert session.receive_bytes() == b"\x00\xff"
        session.send({"type": "websocket.receive", "text": "raw"})
        assert session.receive() == {"type": "websocket.send", "text": "raw"}
        session.send_bytes(bytes(1_000_000))
        assert session.receive_bytes() == bytes(1_000_000)


@pytest.mark.parametrize("mode", ["text", "binary"])
def test_websocket_json(client: Any, mode: Any) -> None:
    """JSON goes both ways, in text messages and in binary ones."""
    data = {"name": "caf\xe9", "list": [1, 2.5, None, True]}
    with client.websocket_connect(f"/ws/json/{mode}") as session:
        session.send_json(data, mode=mode)
        assert session.receive_json(mode=mode) == data


def test_websocket_handshake(client: Any) -> None:
    """The app sees the query, the headers and the client's cookies."""
    client.cookies.set("a", "1")
    with client.websocket_connect("/ws/info?a=1", headers={"x-test": "1"}) as session:
        assert session.receive_json() == {
            "url": "ws://testserver/ws/info?a=1",
            "query": [["a", "1"]],
            "cookies": {"a": "1"},
            "agent": "testclient",
            "x-test": ["1"],
            "authorization": None,
            "state": {"greeting": "hello"},
            "caller": "nobody",
            "root_path": "",
        }
    with client.websocket_connect("/ws/info", params={"b": "\xe9"}, auth=("me", "secret")) as session:
        info = session.receive_json()
    assert (info["query"], info["authorization"]) == ([["b", "\xe9"]], "Basic bWU6c2VjcmV0")


def test_websocket_headers_of_the_client(make: Any) -> None:
    """The client's headers and cookies are sent with the handshake."""
    client = make(headers={"x-test": "client"}, cookies={"a": "1"})
    with client.websocket_connect("/ws/info") as session:
        info = session.receive_json()
    assert (info["x-test"], info["cookies"], info["agent"]) == (["client"], {"a": "1"}, "testclient")


def test_websocket_subprotocols(client: Any) -> None:
    """The client sees which of its subprotocols the app has chosen, and the headers of its answer."""
    with client.websocket_connect("/raw/ws_accept", subprotocols=["one", "two"]) as session:
        assert session.accepted_subprotocol == "two"
        assert session.extra_headers == [(b"x-one", b"1"), (b"set-cookie", b"a=1")]
    with client.websocket_connect("/raw/ws_accept") as session:
        assert session.accepted_subprotocol is None


@pytest.mark.parametrize(("code", "reason"), [(1000, ""), (1001, "going away"), (4999, "\xe9")])
def test_websocket_closed_by_the_app(client: Any, code: int, reason: str) -> None:
    """The code and the reason of the app's are raised when the messages have been read."""
    with client.websocket_connect(f"/raw/ws_close/{code}-{reason}") as session:
        assert session.receive_text() == "last"
        with pytest.raises(WebSocketDisconnect) as caught:
            session.receive_text()
    assert (caught.value.code, caught.value.reason) == (code, reason)


def test_websocket_event_of_the_close(client: Any) -> None:
    """`receive()` returns the app's close as an event."""
    with client.websocket_connect("/raw/ws_close/4000-why") as session:
        assert session.receive()["type"] == "websocket.send"
        assert session.receive() == {"type": "websocket.close", "code": 4000, "reason": "why"}


@pytest.mark.parametrize("receive", ["receive_text", "receive_bytes", "receive_json"])
def test_websocket_ways_to_see_the_close(client: Any, receive: str) -> None:
    """Every way to receive a message raises the close."""
    with client.websocket_connect("/raw/ws_close/4000-why") as session:
        session.receive_text()
        with pytest.raises(WebSocketDisconnect):
            getattr(session, receive)()


def test_websocket_iterated(client: Any) -> None:
    """A WebSocket of Starlette's sends what it has, and closes with a reason."""
    with client.websocket_connect("/ws/iterate?subprotocol=x", subprotocols=["x"]) as session:
        assert session.accepted_subprotocol == "x"
        assert [session.receive_text() for _ in range(3)] == ["0", "1", "2"]
        with pytest.raises(WebSocketDisconnect) as caught:
            session.receive_text()
    assert (caught.value.code, caught.value.reason) == (1001, "no more")


def test_websocket_closed_by_the_client(inside: Any, notes: Any) -> None:
    """The app sees the client's code and reason; leaving the block is code 1000."""
    client = inside()
    with client.websocket_connect("/raw/ws_echo"):
        pass
    with client.websocket_connect("/raw/ws_echo") as session:
        session.close(4321, "why")
    assert notes() == ["1000 None", "4321 why"]


def test_websocket_of_a_deaf_app(client: Any, name: str) -> None:
    """An app that never listens is cancelled when the client leaves."""
    with client.websocket_connect(f"/raw/ws_deaf/{name}"):
        pass
    assert client.get(f"/told/{name}").json() is True


@pytest.mark.parametrize(("how", "code", "reason"), [("silently", 1000, ""), ("with-reason", 4003, "not you")])
def test_websocket_refused(client: Any, how: str, code: int, reason: str) -> None:
    """A close before the accept is raised with its code and reason."""
    with pytest.raises(WebSocketDisconnect) as caught:
        with client.websocket_connect(f"/raw/ws_deny/{how}"):
            raise AssertionError("not refused")
    assert (caught.value.code, caught.value.reason) == (code, reason)


def test_websocket_denied(client: Any) -> None:
    """A response in the place of the accept is raised, as a response and as a disconnect."""
    with pytest.raises(WebSocketDenialResponse) as caught:
        with client.websocket_connect("/raw/ws_deny/by-response"):
            raise AssertionError("not denied")
    response = caught.value
    assert isinstance(response, WebSocketDisconnect)
    assert isinstance(response, httpx2.Response)
    assert (response.status_code, response.content, response.text) == (401, b"who are you?", "who are you?")
    assert response.headers["www-authenticate"] == "Basic"


def test_websocket_denied_by_starlette(client: Any) -> None:
    """Starlette's denial response reaches the client whole."""
    with pytest.raises(WebSocketDisconnect) as caught:
        with client.websocket_connect("/ws/denial"):
            raise AssertionError("not denied")
    response: Any = caught.value
    assert (response.status_code, response.json(), response.headers["x-why"]) == (403, {"detail": "no"}, "because")


def test_websocket_without_a_route(client: Any) -> None:
    """Starlette refuses a WebSocket that it has no route for."""
    with pytest.raises(WebSocketDisconnect) as caught:
        with client.websocket_connect("/nowhere"):
            raise AssertionError("not refused")
    assert (caught.value.code, caught.value.reason) == (1000, "")


def test_websocket_exception_before_the_accept(client: Any) -> None:
    """What the app raises before the accept is raised on entering."""
    with pytest.raises(Broken) as caught:
        with client.websocket_connect("/raw/ws_broken/before"):
            raise AssertionError("entered")
    assert caught.value.what == "before"


def test_websocket_exception_after_the_accept(client: Any) -> None:
    """What the app raises later is raised on leaving, at the latest."""
    with pytest.raises(Broken) as caught, client.websocket_connect("/raw/ws_broken/after") as session:
        session.receive_text()
    assert caught.value.what == "after"


def test_websocket_exception_after_messages(client: Any) -> None:
    """What the app raises in answer to a message is raised, too."""
    received = []

    def talk() -> None:
        with client.websocket_connect("/raw/ws_broken/message") as session:
            received.append(session.receive_text())
            session.send_text("one")
            received.append(session.receive_text())

    with pytest.raises(Broken) as caught:
        talk()
    assert (caught.value.what, received) == ("message", ["one"])


def test_websocket_exception_at_the_end(client: Any) -> None:
    """What the app raises when the client has gone is raised on leaving."""
    with pytest.raises(Broken) as caught, client.websocket_connect("/raw/ws_broken/end"):
        pass
    assert caught.value.what == "end"


def test_websocket_exception_in_the_block(client: Any, name: str) -> None:
    """What the test raises in the block is raised, and the app's end is waited for."""
    with pytest.raises(ZeroDivisionError), client.websocket_connect(f"/raw/ws_deaf/{name}"):
        raise ZeroDivisionError
    assert client.get(f"/told/{name}").json() is True


def test_websockets_side_by_side(client: Any) -> None:
    """Several WebSockets can be open, with requests between them."""
    with client.websocket_connect("/raw/ws_echo") as one, client.websocket_connect("/raw/ws_echo") as two:
        one.send_text("1")
        two.send_text("2")
        assert client.get("/echo").status_code == 200
        assert (two.receive_text(), one.receive_text()) == ("2", "1")


def test_websocket_url_of_http(client: Any) -> None:
    """A WebSocket cannot be connected by an HTTP URL."""
    with pytest.raises(RuntimeError, match="Expected WebSocket upgrade"):
        client.websocket_connect("http://testserver/echo")


# The lifespan


def test_lifespan(own: Any, notes: Any) -> None:
    """The lifespan starts with the block and ends with it, and requests and WebSockets are in between."""
    client = own("noting")
    with client as entered:
        assert entered is client
        assert notes() == ["start"]
        client.get("/")
        with client.websocket_connect("/ws"):
            pass
        assert notes() == ["start", "request /", "background", "websocket"]
    assert notes() == ["start", "request /", "background", "websocket", "end"]


def test_no_lifespan_without_with(inside: Any, notes: Any) -> None:
    """Without `with`, the lifespan is not run."""
    client = inside("noting")
    client.get("/")
    client.close()
    assert notes() == ["request /", "background"]


def test_lifespan_without_with_in_a_worker_process(clients: Clients, notes: Any) -> None:
    """A worker process runs the lifespan from the first request to the end, `with` or not."""
    client = clients.make("process", "noting")
    client.get("/")
    assert notes() == ["start", "request /", "background"]
    client.close()
    assert notes() == ["start", "request /", "background", "end"]


def test_several_blocks(own: Any, notes: Any) -> None:
    """A client can be entered again; each block has a lifespan."""
    client = own("noting")
    for _ in range(2):
        with client:
            client.get("/")
    assert notes() == ["start", "request /", "background", "end"] * 2


def test_after_the_block(inside: Any, notes: Any) -> None:
    """After the block a client can be used as one that was never entered."""
    client = inside("noting")
    with client:
        pass
    assert client.get("/").text == "noted"
    assert not client.is_closed
    assert notes() == ["start", "end", "request /", "background"]


def test_after_the_block_in_a_worker_process(clients: Clients, notes: Any) -> None:
    """After the block another worker process is started when it is needed."""
    client = clients.make("process", "noting")
    with client:
        pass
    assert client.get("/").text == "noted"
    assert not client.is_closed
    client.close()
    assert notes() == ["start", "end", "start", "request /", "background", "end"]


def test_before_the_block(inside: Any, notes: Any) -> None:
    """A client can be used before it is entered."""
    client = inside("noting")
    client.get("/")
    with client:
        client.get("/")
    assert notes() == ["request /", "background", "start", "request /", "background", "end"]


def test_exception_in_the_block(own: Any, notes: Any) -> None:
    """The lifespan ends when the block raises, too."""
    with pytest.raises(ZeroDivisionError), own("noting"):
        raise ZeroDivisionError
    assert notes() == ["start", "end"]


def test_failing_start(own: Any, notes: Any) -> None:
    """What the lifespan raises at its start is raised by `with`, each time."""
    client = own("failing_start")
    for _ in range(2):
        with pytest.raises(Broken) as caught, client:
            raise AssertionError("entered")
        assert (caught.value.what, caught.value.code) == ("at the start", 7)
    assert notes() == ["start", "start"]


def test_failing_end(own: Any, notes: Any) -> None:
    """What the lifespan raises at its end is raised on leaving."""
    client = own("failing_end")
    with pytest.raises(Broken) as caught, client:
        assert client.get("/").text == "noted"
    assert (caught.value.what, caught.value.code) == ("at the end", 8)
    assert notes() == ["start", "request /", "background", "end"]


def test_state(client: Any) -> None:
    """Requests see the lifespan's state, each in a copy."""
    for _ in range(2):
        assert client.get("/state").json() == {"greeting": "hello"}


def test_app_state(inside: Any) -> None:
    """`app_state` is the lifespan's state, and what a test adds is seen by the requests."""
    client = inside()
    assert client.app_state == {}
    with client:
        assert client.app_state == {"greeting": "hello"}
        client.app_state["added"] = 1
        assert client.get("/state").json() == {"greeting": "hello", "added": 1}


def test_app_without_a_lifespan_of_its_own(own: Any) -> None:
    """A Starlette app without a lifespan can be entered; its requests have an empty state."""
    with own("without_lifespan") as client:
        assert client.get("/state").json() == {}


def test_lifespan_in_the_loop_of_the_requests(own: Any, notes: Any) -> None:
    """Tasks of the lifespan work for the requests, in the same event loop."""
    with own("with_task") as client:
        assert client.get("/loop").json() is True
        assert [client.get(f"/square/{number}").json() for number in (2, 3)] == [4, 9]
    assert notes() == ["the task ends", "end"] or notes() == ["end", "the task ends"]


def test_lifespan_scope(own: Any, notes: Any) -> None:
    """The lifespan has a scope with a state, and gets the two events of the specification."""
    with own("lifespan_scope") as client:
        scope, event = ast.literal_eval(client.get("/").text)
    assert (scope["type"], scope["state"], event) == ("lifespan", {}, {"type": "lifespan.startup"})
    assert set(scope) - {"asgi"} == {"type", "state"}
    assert notes() == ["{'type': 'lifespan.shutdown'}"]


def test_app_that_refuses_the_lifespan(own: Any) -> None:
    """What an app, or a middleware, raises for the lifespan is raised by `with`; without that, it is served."""
    client = own("http_only")
    with pytest.raises(AssertionError, match="^HTTP only$"), client:
        raise RuntimeError("entered")
    assert client.get("/").status_code == 200


def test_app_that_refuses_the_lifespan_by_name(ours: Any) -> None:
    """An app that says that it knows no lifespan has none, as with every server. Starlette's block raises that."""
    with ours("without") as client:
        assert client.get("/").text == "without"
    with pytest.raises(ValueError, match="^the lifespan fails$"), ours("late"):
        raise RuntimeError("entered")


def test_app_that_ignores_the_lifespan(ours: Any) -> None:
    """An app that returns at once when it is called for the lifespan has none. Starlette's fails then."""
    with ours("ignorant") as client:
        assert client.get("/").status_code == 200


# Exceptions


@pytest.mark.parametrize("url", ["/fail/broken", "/raw/broken/before"])
def test_exceptions(client: Any, url: str) -> None:
    """What the app raises is raised, with its type, arguments and attributes; the next request is served."""
    with pytest.raises(Broken) as caught:
        client.get(url)
    expected = ("as asked for", 42) if url == "/fail/broken" else ("before", 1)
    assert caught.value.args == (caught.value.what, caught.value.code) == expected
    assert client.get("/echo").status_code == 200


def test_builtin_exceptions(client: Any) -> None:
    """Python's own exceptions are raised as they are."""
    with pytest.raises(ValueError) as caught:
        client.get("/fail/value")
    assert caught.value.args == ("not a value", 1)
    with pytest.raises(FileNotFoundError) as caught_os:
        client.get("/fail/os")
    assert (caught_os.value.errno, caught_os.value.filename) == (2, "/nowhere")


def test_exceptions_of_this_process(inside: Any) -> None:
    """In this process it is the same object, with its cause and its traceback."""
    error = Broken("this one")

    async def fail(request: Request) -> None:
        raise error from KeyError("cause")

    with pytest.raises(Broken) as caught:
        inside(Starlette(routes=[Route("/", fail)])).get("/")
    assert caught.value is error
    assert repr(caught.value.__cause__) == "KeyError('cause')"
    assert "fail" in [entry.name for entry in caught.traceback]


def test_handled_exceptions(client: Any) -> None:
    """What the app has a handler for is not raised."""
    response = client.get("/fail/refused")
    assert (response.status_code, response.text) == (418, "refused: handled")
    response = client.get("/fail/http")
    assert (response.status_code, response.text, response.headers["x-why"]) == (409, "in conflict", "conflict")


def test_exceptions_not_raised(make: Any) -> None:
    """Without `raise_server_exceptions` they are a response with status 500, the app's if it has one."""
    client = make(raise_server_exceptions=False)
    response = client.get("/fail/broken")
    assert (response.status_code, response.text) == (500, "Internal Server Error")
    assert client.get("/raw/broken/before").status_code == 500


@pytest.mark.parametrize("when", ["within", "after"])
def test_exceptions_after_the_start(client: Any, when: str) -> None:
    """What the app raises in the middle of its response or after it is raised, too."""
    with pytest.raises(Broken) as caught:
        client.get(f"/raw/broken/{when}")
    assert caught.value.args == (when, 2)


def test_exceptions_after_the_response_not_raised(make: Any) -> None:
    """Without `raise_server_exceptions`, a response that was complete before the app raised is as it is."""
    for when in ("after", "after-late"):
        response = make(raise_server_exceptions=False).get(f"/raw/broken/{when}")
        assert (response.status_code, response.content) == (200, b"piece")


@pytest.mark.parametrize(
    ("when", "answer"),
    [("before", (500, "")), ("start", (200, "")), ("start-late", (200, "")), ("within", (200, "piece"))],
)
def test_exceptions_as_responses(make: Any, when: str, answer: tuple[int, str]) -> None:
    """Without `raise_server_exceptions`, what the app has sent before it raised is the response; nothing is a 500."""
    client = make(raise_server_exceptions=False)
    response = client.get(f"/raw/broken/{when}")
    assert (response.status_code, response.text) == answer
    with client.stream("GET", f"/raw/broken/{when}") as response:
        assert (response.status_code, response.read().decode()) == answer


def test_exceptions_in_a_stream(client: Any) -> None:
    """The pieces until then are read first."""
    with client.stream("GET", "/raw/broken/within") as response:
        pieces = response.iter_bytes()
        assert (response.status_code, next(pieces)) == (200, b"piece")
        with pytest.raises(Broken):
            next(pieces)


def test_exceptions_after_a_stream(client: Any) -> None:
    """What the app raises after its response is raised by the end of it, at the latest."""
    with pytest.raises(Broken), client.stream("GET", "/raw/broken/after") as response:
        response.read()


def test_no_answer(make: Any) -> None:
    """An app that returns without an answer is an error, or status 500."""
    with pytest.raises(Exception) as caught:
        make().get("/raw/silent")
    assert not isinstance(caught.value, httpx2.TimeoutException)
    assert make(raise_server_exceptions=False).get("/raw/silent").status_code == 500


# Background tasks


def test_background_tasks(client: Any) -> None:
    """Background tasks are done when the response is there."""
    assert client.get("/background/work").text == "soon"
    assert client.get("/done").json() == ["work", "and more"]


def test_background_tasks_of_a_stream(client: Any) -> None:
    """Background tasks of a stream are done when it is at its end."""
    with client.stream("GET", "/stream-background/work") as response:
        assert "".join(response.iter_text()) == "ab"
        assert client.get("/done").json() == ["work"]


def test_background_tasks_that_fail(client: Any, make: Any) -> None:
    """What a background task raises is raised, and does not change the response if it is not to be raised."""
    with pytest.raises(Broken) as caught:
        client.get("/broken-background")
    assert caught.value.args == ("in the background", 3)
    response = make(raise_server_exceptions=False).get("/broken-background")
    assert (response.status_code, response.text) == (200, "fine")


# Streams


def test_stream(client: Any) -> None:
    """A piece can be read before the next one is sent, and other requests be made in between."""
    name = uuid.uuid4().hex
    with client.stream("GET", f"/raw/two/{name}") as response:
        assert response.status_code == 200
        pieces = response.iter_raw()
        assert next(pieces) == b"one"
        client.get(f"/tell/{name}")
        assert list(pieces) == [b"two"]
    assert response.is_closed


def test_stream_without_with(inside: Any, name: str) -> None:
    """Streams need no `with` around the client."""
    client = inside()
    with client.stream("GET", f"/raw/two/{name}") as response:
        pieces = response.iter_raw()
        assert next(pieces) == b"one"
        testclient_app.tell(name)
        assert list(pieces) == [b"two"]


def test_pieces(client: Any) -> None:
    """The pieces of a stream are one body; empty ones do not end it."""
    assert client.get("/raw/pieces").content == b"a" + b"b" * 100_000
    with client.stream("GET", "/raw/pieces") as response:
        assert response.read() == b"a" + b"b" * 100_000
    with client.stream("GET", "/raw/pieces") as response:
        sizes = [len(piece) for piece in response.iter_bytes(chunk_size=50_000)]
        assert (sizes, response.num_bytes_downloaded) == ([50_000, 50_000, 1], 100_001)


def test_one_piece_at_a_time(own: Any, notes: Any) -> None:
    """The app goes on when a piece of a stream has been taken, and not before; an empty one is a piece, too."""
    with own("app") as client, client.stream("GET", "/raw/stepwise") as response:
        pieces = response.iter_raw()
        for piece, taken in ((None, []), (b"one", ["0", "1"]), (b"two", ["0", "1", "2", "3"])):
            if piece is not None:
                assert next(pieces) == piece
            client.get("/echo")  # the app would have gone on meanwhile
            assert notes() == ["start", *taken]
        assert list(pieces) == []
        assert notes() == ["start", "0", "1", "2", "3", "complete"]


@pytest.mark.parametrize("how", ["iterable", "write"])
def test_one_piece_at_a_time_of_wsgi(how: str) -> None:
    """A WSGI app, too, goes on when a piece has been taken."""
    taken: list[str] = []

    def app(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [])
        if environ["PATH_INFO"] == "/":
            return []
        if how == "iterable":
            return pieces()
        for piece, name in PIECES:
            write(piece)
            taken.append(name)
        return []

    def pieces() -> Iterator[bytes]:
        for piece, name in PIECES:
            yield piece
            taken.append(name)

    PIECES = [(b"one", "1"), (b"", "2"), (b"three", "3")]
    with TestClient(app, app_kind="wsgi") as client, client.stream("GET", "/stream") as response:
        client.get("/")
        assert taken == []
        chunks = response.iter_raw()
        assert [next(chunks), next(chunks)] == [b"one", b"three"]
        assert taken[:2] == ["1", "2"]
        assert list(chunks) == []
        assert taken == ["1", "2", "3"]


def test_leaving_what_was_not_taken(own: Any, notes: Any) -> None:
    """An app whose piece nobody takes is ended with the response."""
    with own("app") as client:
        with client.stream("GET", "/raw/stepwise"):
            pass
        client.get("/echo")
    assert notes() == ["start", "end"]


def test_pathsend_is_not_offered(client: Any) -> None:
    """An app is not to send a file by its path, past all middleware."""
    with pytest.raises(AssertionError):
        client.get("/raw/file/etc/hosts")


def test_lines(client: Any) -> None:
    """A stream can be read by lines."""
    with client.stream("GET", "/streamed") as response:
        assert list(response.iter_lines()) == ["0", "1", "2", "3", "4"]


@pytest.mark.parametrize("app", ["endless", "stuck"])
def test_early_close(client: Any, app: str, name: str) -> None:
    """Leaving a stream before its end ends the app."""
    with client.stream("GET", f"/raw/{app}/{name}") as response:
        assert next(response.iter_raw()).startswith(b"piece")
    assert response.is_closed
    assert client.get(f"/told/{name}").json() is True


def test_unread_stream(client: Any, name: str) -> None:
    """A stream of which nothing is read can be left."""
    with client.stream("GET", f"/raw/endless/{name}") as response:
        assert response.headers["x-endless"] == "yes"
    assert client.get(f"/told/{name}").json() is True


def test_streams_end_with_the_client(make: Any, name: str) -> None:
    """Closing the client ends the streams that are open."""
    closing = make()
    response = closing.send(closing.build_request("GET", f"/raw/stuck/{name}"), stream=True)
    assert next(response.iter_raw()) == b"piece"
    closing.close()
    assert make().get(f"/told/{name}").json() is True


def test_streams_end_with_the_block(inside: Any, name: str) -> None:
    """Leaving `with` ends the streams that are open."""
    with inside() as client:
        response = client.send(client.build_request("GET", f"/raw/stuck/{name}"), stream=True)
        assert next(response.iter_raw()) == b"piece"
    assert testclient_app.wait(name)


def test_streamed_upload(client: Any) -> None:
    """A body can be made while it is sent, and be large."""

    def body() -> Iterator[bytes]:
        for _ in range(50):
            yield b"x" * 100_000

    assert client.post("/stream-body", content=body()).json() == 5_000_000
    assert client.post("/raw/body", content=iter([b"a", b"", b"b"])).content == b"ab"
    assert client.post("/raw/unread", content=body()).text == "unread"
    assert client.post("/raw/duplex", content=body()).content == b"x" * 5_000_000


def test_headers_of_a_streamed_upload(client: Any) -> None:
    """A body whose size is not known is said to be in chunks."""
    scope = ast.literal_eval(client.post("/raw/scope", content=iter([b"a"])).text)
    assert (b"transfer-encoding", b"chunked") in scope["headers"]
    assert "content-length" not in dict(scope["headers"])


def test_failing_upload(client: Any) -> None:
    """What the body's generator raises is raised."""

    def body() -> Iterator[bytes]:
        yield b"x"
        raise ZeroDivisionError("in the test")

    with pytest.raises(ZeroDivisionError, match="in the test"):
        client.post("/raw/body", content=body())
    assert client.get("/echo").status_code == 200


# Extensions of ASGI


def test_trailers(client: Any) -> None:
    """Trailers are in the response's extensions when its body has been read."""
    expected = [(b"x-one", b"1"), (b"x-two", b"2"), (b"x-two", b"3")]
    response = client.get("/raw/trailers")
    assert (response.text, response.extensions["http.response.trailers"]) == ("body", expected)
    with client.stream("GET", "/raw/trailers") as response:
        assert response.read() == b"body"
    assert response.extensions["http.response.trailers"] == expected
    assert client.get("/raw/no_trailers").extensions["http.response.trailers"] == []
    assert "http.response.trailers" not in client.get("/echo").extensions


def test_debug(client: Any) -> None:
    """What the app sends for the test to see is in the response."""
    response = client.get("/raw/debug")
    assert response.text == "page"
    assert response.template == "a name"
    assert response.context == {"number": 1, "list": ["a"]}
    assert response.extensions["http.response.debug"] == {
        "template": "a name",
        "context": {"number": 1, "list": ["a"]},
        "more": True,
    }
    other = client.get("/echo")
    assert not hasattr(other, "template")
    assert not hasattr(other, "context")


def test_template(client: Any) -> None:
    """A response of a template has it, and its context."""
    response = client.get("/template")
    assert response.text == "<p>Hello, you!"
    assert response.template.name == "hello.html"
    assert response.context["name"] == "you"
    assert response.context["numbers"] == [1, 2]


def test_template_of_this_process(inside: Any) -> None:
    """In this process, template and context are the app's own objects."""
    response = inside().get("/template")
    assert response.template is testclient_app.templates.get_template("hello.html")
    assert set(response.context) == {"request", "name", "numbers"}
    assert isinstance(response.context["request"], Request)


# Both back ends


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends(own: Any, backend: Any) -> None:
    """Requests, streams, WebSockets and exceptions are the same with each back end."""
    client = own("app", backend=backend)
    name = uuid.uuid4().hex
    with client:
        assert client.get("/backend").json()[0] == backend
        assert client.get("/state").json() == {"greeting": "hello"}
        assert client.post("/raw/body", content=bytes(1_000_000)).content == bytes(1_000_000)
        assert client.get("/background/work").text == "soon"
        assert client.get("/done").json() == ["work", "and more"]
        assert client.get("/caller/sync").text == "nobody"
        with pytest.raises(Broken):
            client.get("/fail/broken")
        with client.stream("GET", f"/raw/endless/{name}") as response:
            assert next(response.iter_raw()).startswith(b"piece")
        assert client.get(f"/told/{name}").json() is True
        with client.websocket_connect("/raw/ws_echo") as session:
            session.send_text("text")
            assert session.receive_text() == "text"
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/raw/ws_deny/silently"):
            raise AssertionError("not refused")


@pytest.mark.parametrize("backend", BACKENDS)
def test_backends_without_with(inside: Any, backend: Any) -> None:
    """Each back end works without `with`."""
    client = inside(backend=backend)
    assert client.get("/backend").json()[0] == backend
    with client.websocket_connect("/ws/info") as session:
        assert session.receive_json()["state"] == {}


@pytest.mark.parametrize("backend", BACKENDS)
def test_lifespan_of_backends(own: Any, backend: Any, notes: Any) -> None:
    """The lifespan is the same with each back end."""
    with own("noting", backend=backend) as client:
        client.get("/")
    assert notes() == ["start", "request /", "background", "end"]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("app", ["failing_start", "failing_end"])
def test_failing_lifespan_of_backends(inside: Any, backend: Any, app: str) -> None:
    """A lifespan that fails raises its own exception with each back end."""
    with pytest.raises(Broken), inside(app, backend=backend):
        pass


def test_backend_options(own: Any) -> None:
    """`backend_options` are those of anyio's back end."""
    assert own("app", backend_options={"debug": True}).get("/backend").json() == ["asyncio", True]
    assert own("app", backend_options={"debug": False}).get("/backend").json() == ["asyncio", False]


# What a test shares with an app in its own process


@pytest.mark.parametrize("entered", [True, False])
def test_context_variables(inside: Any, entered: bool) -> None:
    """The app sees the test's context variables, and cannot change them."""
    client = inside()
    token = caller.set("the test")
    try:
        with ExitStack() as stack:
            if entered:
                stack.enter_context(client)
            caller.set("the test, later")
            assert client.get("/caller/async").text == "the test, later"
            assert client.get("/caller/sync").text == "the test, later"
            with client.websocket_connect("/ws/info") as session:
                assert session.receive_json()["caller"] == "the test, later"
        assert caller.get() == "the test, later"
    finally:
        caller.reset(token)


def test_context_variables_in_a_worker_process(shared: Clients) -> None:
    """A worker process has context variables of its own."""
    token = caller.set("the test")
    try:
        assert shared.entered("process").get("/caller/async").text == "nobody"
    finally:
        caller.reset(token)


def test_dependency_overrides(inside: Any) -> None:
    """FastAPI's dependency_overrides count, before and within the block."""
    app = fastapi.FastAPI()

    def user() -> str:
        return "somebody"

    @app.get("/")
    def root(user: str = fastapi.Depends(user)) -> str:
        return user

    client = inside(app)
    assert client.get("/").json() == "somebody"
    with client:
        app.dependency_overrides[user] = lambda: "me"
        assert client.get("/").json() == "me"
        app.dependency_overrides.clear()
        assert client.get("/").json() == "somebody"


def test_validation(inside: Any) -> None:
    """FastAPI's answers to what it does not take arrive."""
    app = fastapi.FastAPI()

    @app.post("/items/{number}")
    async def item(number: int, body: dict[str, int]) -> Any:
        return {"number": number, **body}

    client = inside(app)
    assert client.post("/items/1", json={"a": 2}).json() == {"number": 1, "a": 2}
    response = client.post("/items/x", json={"a": "b"})
    assert response.status_code == 422
    assert [each["loc"] for each in response.json()["detail"]] == [["path", "number"], ["body", "a"]]


def test_app_that_uses_its_client(inside: Any) -> None:
    """An app may use the client that calls it, in a thread."""

    def outer(request: Request) -> PlainTextResponse:
        return PlainTextResponse(client.get("/inner").text)

    async def inner(request: Request) -> PlainTextResponse:
        return PlainTextResponse("from within")

    client = inside(Starlette(routes=[Route("/outer", outer), Route("/inner", inner)]))
    assert client.get("/outer").text == "from within"
    with client:
        assert client.get("/outer").text == "from within"


# A worker that is given


def test_given_worker(shared: Clients) -> None:
    """A worker that was given runs before, between and after the blocks, and several clients can share it."""
    worker = shared.worker
    pid = worker.pid
    one, two = TestClient(worker), TestClient(worker, headers={"x-test": "two"})
    with one, two:
        assert two.get("/header/x-test").json() == ["two"]
        assert one.get("/state").json() == {"greeting": "hello"}
    one.close()
    with two:
        assert two.get("/state").json() == {"greeting": "hello"}
    two.close()
    assert TestClient(worker).get("/echo").status_code == 200
    assert worker.pid == pid


# Threads


def test_threads(client: Any, name: str) -> None:
    """Several threads can use one client at the same time."""
    with ThreadPoolExecutor(8) as pool:
        answers = pool.map(lambda number: client.get(f"/meet/{name}/8?number={number}").json(), range(8))
        assert list(answers) == [str(number) for number in range(8)]


def test_threads_without_with(inside: Any, name: str) -> None:
    """Several threads can use a client that is not entered, each with context variables of its own."""
    client = inside()

    def request(number: int) -> tuple[str, str]:
        caller.set(f"thread {number}")
        return client.get(f"/meet/{name}/8?number={number}").json(), client.get("/caller/async").text

    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(request, number) for number in range(8)]
        assert [future.result() for future in futures] == [(str(number), f"thread {number}") for number in range(8)]


@pytest.mark.parametrize("entered", [True, False])
def test_in_a_coroutine(inside: Any, entered: bool) -> None:
    """The client can be used where an event loop runs, which waits for it."""

    async def use() -> None:
        client = inside()
        with ExitStack() as stack:
            if entered:
                stack.enter_context(client)
            assert client.get("/status/204").status_code == 204
            with client.websocket_connect("/raw/ws_echo") as session:
                session.send_text("text")
                assert session.receive_text() == "text"

    asyncio.run(use())


def test_other_thread(client: Any) -> None:
    """A WebSocket can be used in another thread than the one that has connected it."""
    with client.websocket_connect("/raw/ws_echo") as session, ThreadPoolExecutor(1) as pool:
        received = pool.submit(session.receive_text)
        session.send_text("text")
        assert received.result(LIMIT) == "text"


# Nothing is left


@contextmanager
def nothing_is_left() -> Iterator[None]:
    """Assert that the block leaves no thread, descriptor, process or loop, when its threads have had their time."""
    threads, loops = set(threading.enumerate()), count_loops()
    with nothing_leaks():
        yield
        deadline = time.monotonic() + LIMIT
        while (left := set(threading.enumerate()) - threads) and time.monotonic() < deadline:
            gc.collect()  # again, as a thread that was about to end has held the client
            left.pop().join(0.01)
    assert count_loops() <= loops


def count_loops() -> int:
    """Return how many event loops are open."""
    gc.collect()
    loops = [each for each in gc.get_objects() if issubclass(type(each), asyncio.BaseEventLoop)]
    return sum(not loop.is_closed() for loop in loops)


def test_dropped_clients(inside: Any) -> None:
    """Clients that were used, and dropped without being closed, leave no thread, descriptor or event loop."""
    make = type(inside())
    with nothing_is_left():
        for _ in range(200):
            assert make(testclient_app.app).get("/status/200").status_code == 200


def test_dropped_sessions(inside: Any) -> None:
    """Nor do clients that were dropped after a WebSocket, a stream that was left, and an exception."""
    make = type(inside())
    with nothing_is_left():
        for _ in range(20):
            client = make(testclient_app.app)
            with client.websocket_connect("/raw/ws_echo") as session:
                session.send_text("text")
            with client.stream("GET", "/raw/endless/nobody") as response:
                next(response.iter_raw())
            with pytest.raises(Broken):
                client.get("/fail/broken")
        del client, session, response


def test_dropped_worker_processes(clients: Clients) -> None:
    """A worker process ends with the client that has started it, closed or not."""
    with nothing_leaks():
        for _ in range(2):
            assert TestClient(f"{APP}:callable3").get("/").text == "http only"
        gc.collect()


def test_blocks_leave_nothing(own: Any) -> None:
    """A block leaves no thread, descriptor or process."""
    client = own("noting")
    with nothing_is_left(), client:
        client.get("/")
        with client.websocket_connect("/ws"):
            pass


def test_failing_starts_leave_nothing(own: Any) -> None:
    """A block that was not entered leaves no thread, descriptor or process."""
    client = own("failing_start")
    with nothing_is_left():
        with pytest.raises(Broken), client:
            pass


# Only ours


def test_wsgi(ours: Any) -> None:
    """WSGI apps are served, too."""
    client = ours("wsgi", root_path="/root", headers={"x-test": "1"})
    assert client.post("/path?a=1", content=b"body").text.split("\n") == [
        "POST", "/root", "/path", "a=1", "testserver", "80", "testclient", "testclient", "body",
    ]  # fmt: skip
    with pytest.raises(Broken) as caught:
        client.get("/fail")
    assert caught.value.args == ("in WSGI", 9)
    client.get("/cookies")
    assert client.get("/cookies").text == "a=1; b=2"
    assert str(client.get("/away").url) == "http://testserver/there?a=1"
    with client.stream("GET", "/endless") as response:
        assert next(response.iter_raw()).startswith(b"piece")
    with client:
        assert client.get("/path").status_code == 200
    with pytest.raises(ValueError, match="only an ASGI app has WebSockets"), client.websocket_connect("/"):
        pass


def test_timeouts(ours: Any) -> None:
    """A timeout that is given counts; Starlette's client ignores it, and warns."""
    client = ours("app")
    with pytest.raises(httpx2.ReadTimeout):
        client.get("/raw/never", timeout=0.05)
    assert client.get("/echo", timeout=LIMIT).status_code == 200
    client.timeout = 0.05
    with pytest.raises(httpx2.ReadTimeout):
        client.get("/raw/never")


def test_no_default_timeout(ours: Any) -> None:
    """httpx's default of 5 seconds is not in force."""
    assert ours("app").timeout == httpx2.Timeout(None)


def test_refused_start(ours: Any) -> None:
    """A start that the app says has failed is an error with the app's message; Starlette's enters the block."""
    with pytest.raises(Exception, match="not today"), ours("start_refused"):
        raise AssertionError("entered")
