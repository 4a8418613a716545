"""What every client must see of every kind of worker: a list of checks.

Each check gets a client of `tests/clients.py` for a worker that serves `apps.conformance_app`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from clients import Client
from socketless import errors

CHECKS: list[Callable[[Client], None]] = []


def check(function: Callable[[Client], None]) -> Callable[[Client], None]:
    CHECKS.append(function)
    return function


@check
def methods(client: Client) -> None:
    """Every method arrives, one that nobody has heard of included."""
    for method in ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND", "QUERY"):
        assert client.request(method, "/seen").json()["method"] == method


@check
def raw_target(client: Client) -> None:
    """Path and query arrive as they were written, and the path also decoded."""
    seen = client.request("GET", "/a%2Fb/caf%C3%A9%20c?x=%26&y=1+2&x=%F0%9F%90%8D").json()
    assert seen["target"] == "/a%2Fb/caf%C3%A9%20c?x=%26&y=1+2&x=%F0%9F%90%8D"
    assert seen["query"] == "x=%26&y=1+2&x=%F0%9F%90%8D"
    assert seen["path"].encode("latin-1").decode() == "/a/b/caf\xe9 c"


@check
def request_headers(client: Client) -> None:
    """Repeated headers, latin-1 values and the Host header arrive."""
    headers = [("X-One", "a"), ("X-One", "b"), ("X-Name", "caf\xe9".encode("latin-1"))]
    seen = dict(client.request("GET", "/seen", headers=headers).json()["headers"])
    assert seen["x-one"].replace(" ", "") == "a,b"
    assert seen["x-name"] == "caf\xe9"
    assert seen["host"] == "testserver"


@check
def response_headers(client: Client) -> None:
    """Repeated headers come back in order, and nothing is added."""
    response = client.request("GET", "/headers")
    names = [(name.lower(), value) for name, value in response.headers.multi_items()]
    assert names == [("x-one", "a"), ("x-two", "b"), ("x-one", "c"), ("content-length", "2")]
    assert client.request("GET", "/latin-1").headers["x-name"] == "caf\xe9"


@check
def status_and_reason(client: Client) -> None:
    """Any status comes back, with a reason phrase."""
    for status in (200, 201, 404, 418, 500, 599):
        response = client.request("GET", f"/status/{status}")
        assert (response.status_code, response.text) == (status, "hello")
        assert response.http_version == "HTTP/1.1"


@check
def no_body(client: Client) -> None:
    """HEAD, 204 and 304 have no body, whatever the app says; the Content-Length of a HEAD stays."""
    head = client.request("HEAD", "/status/200")
    assert (head.content, head.headers["content-length"]) == (b"", "5")
    assert client.request("GET", "/status/204").content == b""
    assert client.request("GET", "/status/304").content == b""


@check
def bodies(client: Client) -> None:
    """A body of any size and any bytes crosses both ways."""
    for body in (b"", b"x", bytes(range(256)), b"a" * 65_535, b"b" * 65_536, b"c" * 65_537, b"d" * (8 << 20)):
        assert client.request("POST", "/echo", content=body).content == body
    assert len(client.request("GET", f"/large?{20 << 20}").content) == 20 << 20


@check
def length_of_a_body(client: Client) -> None:
    """The app is told the length of a body, and of none."""
    assert dict(client.request("POST", "/seen", content=b"12345").json()["headers"])["content-length"] == "5"
    assert "content-length" not in dict(client.request("GET", "/seen").json()["headers"])


@check
def forms_and_files(client: Client) -> None:
    """JSON, forms and multipart uploads arrive as the library encodes them."""
    assert client.request("POST", "/echo", json={"a": [1]}).json() == {"a": [1]}
    assert client.request("POST", "/echo", data={"a": "1", "b": "x y"}).text == "a=1&b=x+y"
    assert b'filename="n.txt"' in client.request("POST", "/echo", files={"f": ("n.txt", b"text")}).content


@check
def redirects(client: Client) -> None:
    """The library follows redirects if it is told to."""
    assert client.request("GET", "/redirect").headers["location"] == "/echo-redirected"
    followed = client.request("GET", "/redirect", follow_redirects=True)
    assert (followed.json()["path"], len(followed.history)) == ("/echo-redirected", 1)


@check
def cookies(client: Client) -> None:
    """Two Set-Cookie headers are two cookies."""
    response = client.request("GET", "/set-cookies")
    assert dict(response.cookies) == {"a": "1", "b": "2"}


@check
def basic_auth(client: Client) -> None:
    """The library's authentication arrives."""
    seen = dict(client.request("GET", "/seen", auth=("me", "secret")).json()["headers"])
    assert seen["authorization"] == "Basic bWU6c2VjcmV0"


@check
def addresses(client: Client) -> None:
    """The app sees scheme, host and port of the URL, and a client address."""
    seen = client.request("GET", "/seen").json()
    assert (seen["scheme"], seen["server"], seen["client"]) == ("http", ["testserver", 80], ["127.0.0.1", 123])
    secure = client.request("GET", "/seen", base_url="https://example.org").json()
    assert (secure["scheme"], secure["server"]) == ("https", ["example.org", 443])
    other = client.request("GET", "http://[::1]:8000/seen").json()
    assert other["server"] == ["::1", 8000]


@check
def mounted(client: Client) -> None:
    """The app can be mounted below a path, and see another client address."""
    seen = client.configure(root_path="/api", client=("10.0.0.1", 5)).request("GET", "/seen").json()
    assert (seen["root_path"], seen["path"], seen["client"]) == ("/api", "/seen", ["10.0.0.1", 5])


@check
def app_error(client: Client) -> None:
    """What the app raises is raised here as its own type, with the worker's traceback; the next request is served."""
    with pytest.raises(LookupError) as caught:
        client.request("GET", "/boom")
    assert caught.value.args == ("boom", 42)
    assert 'raise LookupError("boom", 42)' in str(caught.value.__cause__)
    assert client.request("GET", "/status/200").status_code == 200


@check
def app_error_as_response(client: Client) -> None:
    """With raise_app_exceptions=False it is a 500."""
    response = client.configure(raise_app_exceptions=False).request("GET", "/boom")
    assert (response.status_code, response.reason_phrase, response.text) == (
        500,
        "Internal Server Error",
        "Internal Server Error",
    )


@check
def app_error_that_cannot_cross(client: Client) -> None:
    """An exception that cannot be rebuilt arrives as AppError with the traceback's text."""
    with pytest.raises(errors.AppError) as caught:
        client.request("GET", "/boom-odd")
    assert caught.value.summary == "apps.conformance_app.Odd: here and there"
    assert 'raise Odd("here", "there")' in str(caught.value)


@check
def unsupported_scheme(client: Client) -> None:
    """A URL without http:// is refused as the library refuses it."""
    with pytest.raises(client.library.UnsupportedProtocol, match="give the client a base_url"):
        client.request("GET", "/seen", base_url="")


@check
def prints(client: Client) -> None:
    """The app may print and read its standard input."""
    assert client.request("GET", "/print").status_code == 200
    assert client.request("GET", "/stdin").text == "''"


def names() -> list[Any]:
    return [pytest.param(function, id=function.__name__) for function in CHECKS]
