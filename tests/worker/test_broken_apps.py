"""Apps that break PEP 3333 or the ASGI specification: an error that names the rule, and a worker that serves on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any

import httpx
import pytest

from socketless import IpcProcess, IpcThread, IpcTransport
from socketless.errors import AppProtocolError, IncompleteResponse

BAD_HEADER = (
    "is bad; PEP 3333 wants (name, value), two latin-1 strings: a token, and a value without control characters "
    "(RFC 9110, section 5)"
)
WSGI = {
    "/nothing": "the WSGI app returned without calling start_response() (PEP 3333)",
    "/twice": "the WSGI app called start_response() twice without exc_info (PEP 3333)",
    "/body-first": "the WSGI app wrote its body before it called start_response() (PEP 3333)",
    "/str": "the WSGI app returned str; PEP 3333 wants an iterable of bytes: return [body]",
    "/bytes": "the WSGI app returned bytes; PEP 3333 wants an iterable of bytes: return [body]",
    "/none": "the WSGI app returned NoneType; PEP 3333 wants an iterable of bytes",
    "/str-chunk": "the WSGI app's body holds str; PEP 3333 wants bytes",
    "/status-int": "the WSGI app's status is 200; PEP 3333 wants a string like '200 OK'",
    "/status-short": "the WSGI app's status is 'OK'; PEP 3333 wants a string like '200 OK'",
    "/headers-dict": "the WSGI app's headers are dict; PEP 3333 wants a list of tuples",
    "/status-snake": "the WSGI app's status is '200 \U0001f40d'; PEP 3333 wants a string like '200 OK'",
    "/header-int": f"the WSGI app's header ('X-Number', 1) {BAD_HEADER}",
    "/header-newline": f"the WSGI app's header ('X-Bad', 'a\\r\\nb: c') {BAD_HEADER}",
    "/header-unicode": f"the WSGI app's header ('X-Snake', '\U0001f40d') {BAD_HEADER}",
    "/short": "the app's body is shorter than its Content-Length says: 4 of 5 bytes",
}


def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    path = environ["PATH_INFO"]
    status: Any = {"/status-int": 200, "/status-short": "OK", "/status-snake": "200 \U0001f40d"}.get(path, "200 OK")
    headers: Any = {
        "/headers-dict": {"a": "b"},
        "/header-int": [("X-Number", 1)],
        "/header-newline": [("X-Bad", "a\r\nb: c")],
        "/short": [("Content-Length", "5")],
        "/header-unicode": [("X-Snake", "\U0001f40d")],
    }.get(path, [])
    if path not in ("/nothing", "/body-first"):
        start_response(status, headers)
    if path == "/twice":
        start_response(status, headers)
    bodies = {"/str": "text", "/bytes": b"text", "/none": None, "/str-chunk": ["text"], "/nothing": []}
    return bodies.get(path, [b"fine"])


ASGI = {
    "/nothing": "the ASGI app returned without sending http.response.start",
    "/twice": "the ASGI app sent http.response.start twice",
    "/body-first": "the ASGI app sent http.response.body before http.response.start",
    "/no-end": "the ASGI app returned before its body was complete (more_body was still true)",
    "/after-end": "the ASGI app sent http.response.body after the body was complete",
    "/str": "the ASGI app's body is str; http.response.body wants bytes",
    "/status": "the ASGI app's status is '200'; http.response.start wants an integer like 200",
    "/header-str": "the ASGI app's header ('X-Text', '\xe9') is bad; http.response.start wants (name, value), two byte "
    "strings: a token, and a value without control characters (RFC 9110, section 5)",
    "/header-int": "the ASGI app's header (b'X-Number', 1) is bad; http.response.start wants (name, value), two byte "
    "strings: a token, and a value without control characters (RFC 9110, section 5)",
    "/header-newline": "the ASGI app's header (b'X-Bad', b'a\\nb') is bad; http.response.start wants (name, value), "
    "two byte strings: a token, and a value without control characters (RFC 9110, section 5)",
    "/short": "the app's body is shorter than its Content-Length says: 4 of 5 bytes",
    "/unknown": "the ASGI app sent 'websocket.send' in answer to an HTTP request",
}


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    path = scope["path"]
    headers: Any = {
        "/header-str": [("X-Text", "\xe9")],
        "/header-int": [(b"X-Number", 1)],
        "/header-newline": [(b"X-Bad", b"a\nb")],
        "/short": [(b"content-length", b"5")],
    }.get(path, [])
    start = {"type": "http.response.start", "status": "200" if path == "/status" else 200, "headers": headers}
    body = {"type": "http.response.body", "body": "text" if path == "/str" else b"fine"}
    events: dict[str, list[Any]] = {
        "/nothing": [],
        "/twice": [start, start],
        "/body-first": [body],
        "/no-end": [start, {**body, "more_body": True}],
        "/after-end": [start, body, body],
        "/unknown": [{"type": "websocket.send"}],
    }
    for event in events.get(path, [start, body]):
        await send(event)


@pytest.fixture(scope="module", params=["wsgi", "asgi"])
def worker(request: pytest.FixtureRequest) -> Iterator[IpcProcess]:
    with IpcProcess(f"{__name__}:{request.param}") as process:
        yield process


def test_broken_apps(worker: IpcProcess) -> None:
    """Each breach of the protocol is an error that names the rule, and of httpx's too; the worker serves on."""
    client = httpx.Client(transport=IpcTransport(worker), base_url="http://testserver")
    for path, text in {"wsgi": WSGI, "asgi": ASGI}[worker.app_kind].items():
        with pytest.raises(AppProtocolError) as caught:
            client.get(path)
        assert str(caught.value) == text
        assert isinstance(caught.value, httpx.RemoteProtocolError)
        assert isinstance(caught.value, AssertionError)  # as of in-process clients
        assert client.get("/fine").text == "fine"


def test_broken_apps_as_responses(worker: IpcProcess) -> None:
    """With raise_app_exceptions=False a breach is a 500, as with a server, or breaks off what has begun."""
    transport = IpcTransport(worker, raise_app_exceptions=False)
    with httpx.Client(transport=transport, base_url="http://testserver") as client:
        assert client.get("/nothing").status_code == 500
        for path in ("/twice", "/short"):
            if worker.app_kind == "wsgi":  # whose response begins with its body (PEP 3333)
                assert client.get(path).status_code == 500
            else:
                with pytest.raises(IncompleteResponse):
                    client.get(path)


async def lenient(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.push", "path": "/style.css", "headers": []})
    await send({"type": "http.response.start", "status": 200, "headers": [("X-Text", "a"), (b"X-Bytes", b"b")]})
    await send({"type": "http.response.body", "body": b"fine"})


def test_what_others_let_pass() -> None:
    """Headers of text, and events of extensions that are not offered, are no errors, as for httpx's own transport."""

    async def in_process() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(lenient), base_url="http://testserver") as client:  # type: ignore[arg-type]
            return await client.get("/")

    with IpcThread(lenient) as worker, httpx.Client(transport=IpcTransport(worker)) as client:
        ours, theirs = client.get("http://testserver/"), asyncio.run(in_process())
    assert (ours.text, ours.headers["x-text"], ours.headers["x-bytes"]) == ("fine", "a", "b")
    assert (ours.text, ours.headers.raw) == (theirs.text, theirs.headers.raw)


class Broken(Exception):
    pass


def with_error_page(environ: Any, start_response: Any) -> Any:
    try:
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/late":
            return late(start_response)
        raise Broken("as asked for")
    except Broken:
        start_response("503 Sorry", [("X-Page", "error")], sys.exc_info())
        return iter([b"so", b"rry"])


def late(start_response: Any) -> Iterator[bytes]:
    try:
        raise Broken("late")
    except Broken:
        start_response("503 Sorry", [], sys.exc_info())
    yield b"sorry"


@pytest.mark.parametrize("way", ["thread", "fork", "httpx"])
def test_error_page_of_wsgi(way: str) -> None:
    """What an app gives to start_response() as exc_info is raised, as by WSGITransport, or its page is the response."""
    with ExitStack() as stack:
        transports: list[Any] = []
        for raising in (True, False):
            if way == "httpx":
                transports.append(httpx.WSGITransport(with_error_page, raise_app_exceptions=raising))
            else:
                make = partial(IpcProcess, start_method="fork") if way == "fork" else IpcThread
                worker = stack.enter_context(make(with_error_page))
                transports.append(IpcTransport(worker, raise_app_exceptions=raising))
        loud, quiet = (
            stack.enter_context(httpx.Client(transport=each, base_url="http://testserver")) for each in transports
        )
        for path, text in (("/", "as asked for"), ("/late", "late")):
            with pytest.raises(Broken, match=text):
                loud.get(path)
        response = quiet.get("/")
        assert (response.status_code, response.text, response.headers["x-page"]) == (503, "sorry", "error")
        assert (quiet.get("/late").status_code, quiet.get("/late").text) == (503, "sorry")
