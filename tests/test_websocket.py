"""`IpcProcess.websocket_connect()` beside Starlette's own `TestClient.websocket_connect()`, on the same apps."""

from __future__ import annotations

import gc
import gzip
import logging
import os
import pickle
import random
import re
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx
import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse as StarlettesDenial
from starlette.websockets import WebSocketDisconnect as StarlettesDisconnect

from apps import websocket_app, websocket_fastapi  # noqa: F401  # so that a forked worker has FastAPI at once
from socketless import IpcProcess, IpcThread, IpcTransport, errors
from socketless._host.exchange_states import Sending
from socketless._host.worker import Worker
from socketless.errors import WebSocketDisconnect
from socketless.websocket import WebSocketDenialResponse, WebSocketSession
from support import LIMIT, nothing_leaks, stopped, traceback_of

APP = "apps.websocket_app:app"
WORKERS: dict[str, Callable[..., Worker]] = {
    "spawn": IpcProcess,
    "fork": partial(IpcProcess, start_method="fork"),
    "thread": IpcThread,
}
ECHOES = ["/raw/echo", "/starlette/echo", "/fastapi/echo"]


class Way(NamedTuple):
    """How to connect, and what is raised then."""

    connect: Callable[..., Any]
    disconnect: type[Exception]
    denial: type[Exception]
    httpx: Any  # what a denial is a response of


@pytest.fixture(scope="module")
def ways() -> Iterator[Callable[[str], Way]]:
    with ExitStack() as stack:
        made: dict[str, Way] = {}

        def make(name: str) -> Way:
            if name == "testclient":
                client = stack.enter_context(TestClient(websocket_app.app))
                return Way(client.websocket_connect, StarlettesDisconnect, StarlettesDenial, httpx2)
            worker = stack.enter_context(WORKERS[name](APP))
            return Way(limited(worker), WebSocketDisconnect, WebSocketDenialResponse, httpx)

        yield lambda name: made.get(name) or made.setdefault(name, make(name))


@pytest.fixture(params=["testclient", *WORKERS])
def way(request: pytest.FixtureRequest, ways: Callable[[str], Way]) -> Way:
    """Starlette's, and ours with each kind of worker: every test that takes it asserts the same of all."""
    return ways(request.param)


@pytest.fixture(params=WORKERS)
def start(request: pytest.FixtureRequest) -> Iterator[Callable[..., Worker]]:
    """Starts workers of ours. Nothing may be left when they are closed."""
    with starting(WORKERS[request.param]) as start:
        yield start


@pytest.fixture(params=["spawn", "fork"])
def start_process(request: pytest.FixtureRequest) -> Iterator[Callable[..., IpcProcess]]:
    """Starts worker processes, which can be killed, and need a copy of what they get."""
    with starting(WORKERS[request.param]) as start:
        yield start


@contextmanager
def starting(kind: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    workers: list[Worker] = []

    def start(app: Any = APP, **options: Any) -> Worker:
        workers.append(kind(app, **{"shutdown_timeout": LIMIT, **options}))
        return workers[-1]

    with nothing_leaks():
        yield start
        for worker in workers:
            worker.close()


def limited(worker: Worker) -> Callable[..., WebSocketSession]:
    """Return what connects with a time limit, so that a defect does not hang."""
    return partial(worker.websocket_connect, timeout=LIMIT)


def new_name() -> str:
    """Return a name that no other test notes something down by."""
    return uuid.uuid4().hex


def noted(connect: Callable[..., Any], name: str) -> str:
    """Wait for what the app notes down by a name."""
    with connect(f"/raw/noted/{name}") as session:
        return str(session.receive_text())


def tell(connect: Callable[..., Any], name: str) -> None:
    """Note down something for an app that waits for it."""
    with connect(f"/raw/tell/{name}"):
        pass


def script(*steps: Any) -> str:
    """Return the path of an app that does what is listed: sends an event, or calls receive()."""
    return f"/raw/script?{quote(repr(list(steps)))}"


ACCEPT: dict[str, Any] = {"type": "websocket.accept"}
CLOSE: dict[str, Any] = {"type": "websocket.close"}


# Messages


@pytest.mark.parametrize("path", ECHOES)
def test_text_and_bytes(way: Way, path: str) -> None:
    """Texts and bytes go both ways, in order."""
    with way.connect(path) as session:
        assert session.accepted_subprotocol is None
        session.send_text("one")
        assert session.receive_text() == "one"
        session.send_bytes(b"\x00\xff")
        assert session.receive_bytes() == b"\x00\xff"
        for text in ("a", "", "\N{PILE OF POO}\0\r\n"):
            session.send_text(text)
        assert [session.receive_text() for _ in range(3)] == ["a", "", "\N{PILE OF POO}\0\r\n"]
        session.send_bytes(b"")
        assert session.receive_bytes() == b""


def test_lone_surrogates(way: Way) -> None:
    """A text that UTF-8 does not know crosses all the same."""
    with way.connect("/raw/echo") as session:
        session.send_text("\ud800 \udfff")
        assert session.receive_text() == "\ud800 \udfff"


@pytest.mark.parametrize("mode", ["text", "binary"])
def test_json(way: Way, mode: Any) -> None:
    """JSON goes both ways, in text messages and in binary ones."""
    data = {"name": "caf\xe9 \N{PILE OF POO}", "list": [1, 2.5, None, True], "nested": {"a": {}}}
    with way.connect(f"/starlette/json/{mode}") as session:
        session.send_json(data, mode)
        assert session.receive_json(mode) == data
    with way.connect("/raw/echo") as session:
        session.send_json(data, mode=mode)
        wire = '{"name":"caf\xe9 \N{PILE OF POO}","list":[1,2.5,null,true],"nested":{"a":{}}}'
        assert (session.receive_text() if mode == "text" else session.receive_bytes().decode()) == wire
        session.send_json("text is what it is without a mode")
        assert session.receive_json() == "text is what it is without a mode"


def test_wrong_kind_of_message(way: Way) -> None:
    """A message of the other kind is a KeyError, and is gone then."""
    with way.connect("/raw/echo") as session:
        session.send_text("text")
        with pytest.raises(KeyError, match="bytes"):
            session.receive_bytes()
        session.send_bytes(b"bytes")
        with pytest.raises(KeyError, match="text"):
            session.receive_text()
        session.send_bytes(b"{}")
        with pytest.raises(KeyError, match="text"):
            session.receive_json()


@pytest.mark.parametrize("path", ECHOES)
def test_events(way: Way, path: str) -> None:
    """`send()` and `receive()` carry the events of the ASGI specification."""
    with way.connect(path) as session:
        session.send({"type": "websocket.receive", "text": "a"})
        assert session.receive() == {"type": "websocket.send", "text": "a"}
        session.send({"type": "websocket.receive", "bytes": b"b"})
        assert session.receive() == {"type": "websocket.send", "bytes": b"b"}


def test_events_reach_the_app_as_they_are(way: Way) -> None:
    """What `send()` is given reaches the app."""
    name = new_name()
    with way.connect(f"/raw/listen/{name}") as session:
        session.send({"type": "websocket.receive", "text": "a", "bytes": None})
        session.send({"type": "websocket.receive", "bytes": b"b"})
        session.send({"type": "websocket.disconnect", "code": 4321, "reason": "why"})
        if way.disconnect is WebSocketDisconnect:  # Starlette's hangs when it is asked again: see below
            end = {"type": "websocket.disconnect", "code": 4321, "reason": "why"}
            first = {"type": "websocket.receive", "text": "a", "bytes": None}
            assert noted(way.connect, name) == repr([first, {"type": "websocket.receive", "bytes": b"b"}, end, end])


# The handshake


def test_subprotocols(way: Way) -> None:
    """The app sees what the client offers, and the client sees what the app has chosen."""
    with way.connect("/starlette/echo", subprotocols=["one", "two.v2"]) as session:
        assert session.accepted_subprotocol == "two.v2"
    with way.connect("/raw/offer/soap", ["soap", "wamp"]) as session:
        assert session.accepted_subprotocol == "soap"
        assert session.receive_text() == "['soap', 'wamp']"
    with way.connect("/raw/offer/", ["soap"]) as session:
        assert session.accepted_subprotocol is None
    with way.connect("/raw/offer/") as session:
        assert session.receive_text() == "[]"
    with way.connect("/raw/offer/", headers={"sec-websocket-protocol": "a,b , c"}) as session:
        assert session.receive_text() == "['a', 'b', 'c']"


def test_headers_of_the_app(way: Way) -> None:
    """The client sees the headers of the accept."""
    with way.connect("/starlette/seen/x/1") as session:
        assert session.extra_headers == [(b"x-one", b"a"), (b"x-one", b"b"), (b"set-cookie", b"c=1")]
    with way.connect("/raw/offer/") as session:
        assert session.extra_headers == [(b"X-Raw", b"1")]


def test_no_headers_of_the_app(start: Callable[..., Worker]) -> None:
    """Where the accept has no headers, the session has none; Starlette's has `None`, which is no list."""
    with start().websocket_connect("/raw/echo") as session:
        assert session.extra_headers == []


SEEN = {
    "url": "ws://testserver/starlette/seen/a b/7?q=1&q=%C3%A9&r=",
    "headers": [
        ["host", "testserver"],
        ["x-token", "secret"],
        ["connection", "upgrade"],
        ["sec-websocket-version", "13"],
    ],
    "query": [["q", "1"], ["q", "\xe9"], ["r", ""]],
    "raw_path": "/starlette/seen/a%20b/7",
    "cookies": {"session": "abc", "b": "2"},
    "path_params": {"name": "a b", "number": 7},
    "root_path": "",
    "server": ["testserver", 80],
    "state": "hello",
}


@pytest.mark.filterwarnings("ignore:Setting per-request cookies:DeprecationWarning")  # by the TestClient
def test_handshake(way: Way) -> None:
    """The app sees URL, headers, query, cookies, path parameters and the lifespan's state."""
    options: dict[str, Any] = {"headers": {"X-Token": "secret"}, "cookies": {"session": "abc", "b": "2"}}
    with way.connect("/starlette/seen/a%20b/7?q=1&q=\xe9&r=", **options) as session:
        seen = session.receive_json()
    del seen["client"]
    if way.disconnect is WebSocketDisconnect:  # RFC 6455 asks for this header, and Starlette's does not send it
        seen["headers"].remove(["upgrade", "websocket"])
    assert seen == SEEN


def test_defaults_of_the_handshake(start: Callable[..., Worker]) -> None:
    """Headers of the handshake may be replaced, and the caller's own dictionary stays as it is."""
    worker, headers = start(), {"sec-websocket-version": "8", "host": "elsewhere"}
    with worker.websocket_connect("/starlette/seen/x/1", headers=headers, client=("10.0.0.1", 99)) as session:
        seen = session.receive_json()
    assert seen["client"] == ["10.0.0.1", 99]
    assert ["sec-websocket-version", "8"] in seen["headers"]
    assert ["host", "elsewhere"] in seen["headers"]
    assert headers == {"sec-websocket-version": "8", "host": "elsewhere"}


def test_params(way: Way) -> None:
    """A query can be given as a dictionary."""
    with way.connect("/starlette/seen/x/1", params={"q": "a b", "n": "2"}) as session:
        assert session.receive_json()["query"] == [["q", "a b"], ["n", "2"]]


@pytest.mark.parametrize(
    ("url", "seen_url", "server", "host"),
    [
        ("ws://example.org/starlette/seen/x/1", None, ["example.org", 80], "example.org"),
        ("ws://example.org:8000/starlette/seen/x/1?a=b", None, ["example.org", 8000], "example.org:8000"),
        ("wss://example.org/starlette/seen/x/1", None, ["example.org", 443], "example.org"),
        ("wss://example.org:444/starlette/seen/x/1", None, ["example.org", 444], "example.org:444"),
        ("starlette/seen/x/1", "ws://testserver/starlette/seen/x/1", ["testserver", 80], "testserver"),
        ("/starlette/seen/x/1#part", "ws://testserver/starlette/seen/x/1", ["testserver", 80], "testserver"),
    ],
)
def test_url(way: Way, url: str, seen_url: str | None, server: list[Any], host: str) -> None:
    """The URL may be a whole one, and the app sees its scheme, host and port."""
    with way.connect(url) as session:
        seen = session.receive_json()
    assert seen["url"] == (seen_url or url)
    assert seen["server"] == server
    assert ["host", host] in seen["headers"]


@pytest.mark.parametrize("name", ["testclient", "spawn", "fork"])
def test_root_path_and_client(ways: Callable[[str], Way], name: str) -> None:
    """The app can be mounted at a path, and the client's address can be chosen."""
    options: dict[str, Any] = {"root_path": "/v1", "client": ("10.0.0.1", 99)}
    if name == "testclient":  # it takes them for all of its requests
        session = TestClient(websocket_app.app, **options).websocket_connect("/starlette/seen/x/1")
    else:
        session = ways(name).connect("/starlette/seen/x/1", **options)
    with session:
        seen = session.receive_json()
    assert seen["root_path"] == "/v1"
    assert seen["client"] == ["10.0.0.1", 99]


def test_fastapi_parameters(way: Way) -> None:
    """FastAPI's path, query, header and cookie parameters and its dependencies work."""
    name = new_name()
    headers = {"x-token": "secret", "cookie": "session=abc"}
    with way.connect(f"/fastapi/items/7?q=1&name={name}", headers=headers) as session:
        assert session.receive_json() == [7, "a resource", "1", "secret", "abc"]
    assert noted(way.connect, name) == "cleaned up"
    with way.connect("/fastapi/items/7") as session:
        assert session.receive_json() == [7, "a resource", None, None, None]


# The end: by the app


@pytest.mark.parametrize(("query", "code", "reason"), [
    ("code=1000", 1000, ""),
    ("code=4001&reason=it%20is%20late", 4001, "it is late"),
    ("code=1011&reason=caf%C3%A9", 1011, "caf\xe9"),
])  # fmt: skip
def test_closed_by_the_app(way: Way, query: str, code: int, reason: str) -> None:
    """The app's code and reason are raised, after what it had sent before. The app may go on after that."""
    name = new_name()
    with way.connect(f"/starlette/close?name={name}&{query}") as session:
        assert session.receive_text() == "one"
        with pytest.raises(way.disconnect) as caught:
            session.receive_text()
        assert (caught.value.code, caught.value.reason) == (code, reason)  # type: ignore[attr-defined]
        assert noted(way.connect, name) == "went on"
    with way.connect(f"/starlette/close?name={new_name()}&{query}") as session:
        session.receive()
        assert session.receive() == {"type": "websocket.close", "code": code, "reason": reason}
    for receive in ("receive_bytes", "receive_json"):
        with way.connect(f"/starlette/close?name={new_name()}&{query}") as session:
            session.receive()
            with pytest.raises(way.disconnect):
                getattr(session, receive)()


@pytest.mark.parametrize(
    ("path", "code", "reason"),
    [
        ("/starlette/refuse?code=1000", 1000, ""),
        ("/starlette/refuse?code=4003&reason=not+you", 4003, "not you"),
        ("/starlette/nowhere", 1000, ""),  # Starlette's answer to what it does not know
        ("/fastapi/policy", 1008, "no token"),
        (script("receive", CLOSE), 1000, ""),
        (script(CLOSE), 1000, ""),
    ],
)
def test_closed_before_accept(way: Way, path: str, code: int, reason: str) -> None:
    """An app that closes instead of accepting raises its code and reason on entering."""
    with pytest.raises(way.disconnect) as caught, way.connect(path):
        raise AssertionError("not reached")
    assert not isinstance(caught.value, way.denial)
    assert (caught.value.code, caught.value.reason) == (code, reason)  # type: ignore[attr-defined]


def test_fastapi_validation(way: Way) -> None:
    """A path parameter that FastAPI does not accept closes the WebSocket with code 1008."""
    with pytest.raises(way.disconnect) as caught, way.connect("/fastapi/items/seven"):
        raise AssertionError("not reached")
    assert caught.value.code == 1008  # type: ignore[attr-defined]
    assert "valid integer" in str(caught.value.reason)  # type: ignore[attr-defined]


def test_text_of_disconnect() -> None:
    """The error says code and reason."""
    assert str(WebSocketDisconnect()) == "the app closed the WebSocket with code 1000"
    assert str(WebSocketDisconnect(4001, "bye")) == "the app closed the WebSocket with code 4001: bye"


# The end: a denial


def denied(way: Way, path: str) -> Any:
    """Return the response that the app denies a WebSocket with."""
    with pytest.raises(way.denial) as caught, way.connect(path):
        raise AssertionError("not reached")
    assert isinstance(caught.value, way.disconnect)
    assert isinstance(caught.value, way.httpx.Response)
    return caught.value


def test_denial(way: Way) -> None:
    """A denial is raised as a response with status, headers, cookies and content."""
    response = denied(way, "/starlette/deny/json")
    assert response.status_code == 402
    assert response.json() == {"why": "unpaid"}
    assert response.headers["x-why"] == "unpaid"
    assert response.headers["content-type"] == "application/json"
    assert response.headers.get_list("set-cookie") == [f"{name}; Path=/; SameSite=lax" for name in ("a=1", "b=2")]
    assert response.is_client_error


@pytest.mark.parametrize(
    ("path", "status", "content"),
    [
        ("/starlette/deny/text", 404, "caf\xe9".encode()),
        ("/starlette/deny/empty", 401, b""),
        ("/starlette/deny/stream", 418, b"".join(b"%d," % index for index in range(100))),
        ("/starlette/deny/large", 503, bytes(3 << 20)),
        ("/fastapi/policy?token=x", 401, b'{"detail":"a bad token"}'),
    ],
)
def test_content_of_denial(way: Way, path: str, status: int, content: bytes) -> None:
    """A denial may be empty, large, or streamed."""
    response = denied(way, path)
    assert response.status_code == status
    assert response.content == content
    assert response.is_closed


def test_denial_of_lingering_app(way: Way) -> None:
    """A denial is raised when it is complete; the app is told that its client has gone, and may take its time."""
    name = new_name()
    response = denied(way, f"/raw/linger/{name}")
    assert (response.status_code, response.text, response.headers["x-why"]) == (402, "pay first", "unpaid")
    if way.disconnect is WebSocketDisconnect:  # Starlette's cancels it
        assert noted(way.connect, name) == "websocket.disconnect"


def test_request_of_denial(start: Callable[..., Worker]) -> None:
    """A denial knows its request, so that raise_for_status() works; Starlette's has none."""
    with pytest.raises(WebSocketDenialResponse) as caught, start().websocket_connect("/starlette/deny/json?a=b"):
        raise AssertionError("not reached")
    assert str(caught.value) == "the app has denied the WebSocket with status 402"
    assert str(caught.value.request.url) == "ws://testserver/starlette/deny/json?a=b"
    with pytest.raises(httpx.HTTPStatusError, match="402 Payment Required"):
        caught.value.raise_for_status()


# The end: by the client


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        ((), 1000, ""),
        ((4002,), 4002, ""),
        ((1001, "going away"), 1001, "going away"),
        ((3000, "caf\xe9"), 3000, "caf\xe9"),
    ],
)
def test_closed_by_the_client(way: Way, arguments: tuple[Any, ...], code: int, reason: str) -> None:
    """The app sees the client's code and reason."""
    name = new_name()
    with way.connect(f"/starlette/watch/{name}") as session:
        session.send_text("one")
        session.close(*arguments)
        assert noted(way.connect, name) == repr((code, reason))


def test_left(way: Way) -> None:
    """Leaving the session closes it with code 1000."""
    name = new_name()
    with way.connect(f"/starlette/watch/{name}") as session:
        session.send_text("one")
    assert noted(way.connect, name) == "(1000, '')"


def test_left_by_an_exception(way: Way) -> None:
    """An exception of the test leaves the session, which is closed, and comes through."""
    name = new_name()
    error = ZeroDivisionError("the test's own")
    with pytest.raises(ZeroDivisionError) as caught, way.connect(f"/starlette/watch/{name}"):
        raise error
    assert caught.value is error
    assert noted(way.connect, name) == "(1000, '')"


def test_left_by_an_exception_and_the_app_raises(
    start: Callable[..., Worker], caplog: pytest.LogCaptureFixture
) -> None:
    """The test's exception comes through, and the app's is logged; Starlette's raises the app's instead."""
    worker = start()
    with (
        caplog.at_level(logging.ERROR),
        pytest.raises(ZeroDivisionError),
        worker.websocket_connect("/raw/boom/disconnect"),
    ):
        raise ZeroDivisionError
    (record,) = caplog.records
    assert record.getMessage().startswith("WebSocket /raw/boom/disconnect: the app raised as well:\nTraceback (most ")
    assert record.getMessage().endswith("\nLookupError: disconnect")


def test_deaf_app(way: Way) -> None:
    """An app that never looks whether its client is there is cancelled when the client leaves."""
    name = new_name()
    with way.connect(f"/raw/deaf/{name}"):
        pass
    assert noted(way.connect, name) == "cancelled"


def test_app_that_returns(way: Way) -> None:
    """An app may return without closing the WebSocket."""
    with way.connect("/starlette/return"):
        pass


# The end: by an exception


def test_app_raises_before_accept(way: Way) -> None:
    """What the app raises before it accepts is raised on entering; also when it has closed or denied before."""
    for moment in ("before", "closed", "denied"):
        with pytest.raises(LookupError, match=f"^{moment}$"), way.connect(f"/raw/boom/{moment}"):
            raise AssertionError("not reached")


@pytest.mark.parametrize("receive", ["receive", "receive_text", "receive_bytes", "receive_json"])
@pytest.mark.parametrize("moment", ["after", "message"])
def test_app_raises_after_accept(way: Way, moment: str, receive: str) -> None:
    """What the app raises after it has accepted comes out of the session where the client receives."""
    with pytest.raises(LookupError, match=f"^{moment}$"), way.connect(f"/raw/boom/{moment}") as session:
        say_go(session, receive)


def say_go(session: Any, receive: str) -> None:
    session.send_text("go")
    getattr(session, receive)()  # Starlette's raises something else here, and on leaving what the app has raised
    raise AssertionError("not reached")


@pytest.mark.parametrize("moment", ["after", "message", "disconnect"])
def test_app_raises_unseen(way: Way, moment: str) -> None:
    """What the app raises is raised on leaving, if nobody has received it."""
    with pytest.raises(LookupError, match=f"^{moment}$"), way.connect(f"/raw/boom/{moment}") as session:
        session.send_text("go")


def test_careless_app(way: Way) -> None:
    """An app that lets Starlette's own exception through when the client closes raises that in the test."""
    with pytest.raises(StarlettesDisconnect) as caught, way.connect("/starlette/careless") as session:
        session.close(4002, "bye")
    assert (caught.value.code, caught.value.reason) == (4002, "bye")


def test_error_of_the_app_is_raised_once(start: Callable[..., Worker]) -> None:
    """An error that was received is not raised again; the session has ended with code 1011. It has its traceback."""
    with start().websocket_connect("/raw/boom/after") as session:
        with pytest.raises(LookupError) as caught:
            session.receive()
        assert "raise LookupError(moment)" in traceback_of(caught.value)
        assert session.receive() == {"type": "websocket.close", "code": 1011, "reason": ""}
        with pytest.raises(WebSocketDisconnect) as closed:
            session.receive_text()
        assert closed.value.code == 1011


# Several at once


def test_two_sessions(way: Way) -> None:
    """Two sessions at once do not get in each other's way."""
    with way.connect("/raw/echo") as one, way.connect("/starlette/echo") as two:
        one.send_text("to one")
        two.send_text("to two")
        assert two.receive_text() == "to two"
        assert one.receive_text() == "to one"
        with way.connect("/raw/echo") as three:
            three.send_bytes(b"to three")
            assert three.receive_bytes() == b"to three"
        one.send_text("again")
        assert one.receive_text() == "again"


def test_broadcast(way: Way) -> None:
    """An app can send to all of its WebSockets what comes from one."""
    with way.connect("/fastapi/room/Ada") as ada:
        assert ada.receive_text() == "Ada comes"
        with way.connect("/fastapi/room/Bob") as bob:
            assert [each.receive_text() for each in (ada, bob)] == ["Bob comes"] * 2
            bob.send_text("hello")
            ada.send_text("hi")
            assert sorted(ada.receive_text() for _ in range(2)) == ["Ada: hi", "Bob: hello"]
            assert sorted(bob.receive_text() for _ in range(2)) == ["Ada: hi", "Bob: hello"]
        assert ada.receive_text() == "Bob goes"


# What only ours can do: where Starlette's hangs, or knows no limit


def test_receive_after_the_end(start: Callable[..., Worker]) -> None:
    """After the end, `receive()` returns the end again, and the others raise it; when the session was left, too."""
    worker = start()
    with worker.websocket_connect(f"/starlette/close?code=4001&reason=bye&name={new_name()}") as session:
        assert session.receive_text() == "one"
        for _ in range(2):
            assert session.receive() == {"type": "websocket.close", "code": 4001, "reason": "bye"}
            with pytest.raises(WebSocketDisconnect, match="code 4001: bye"):
                session.receive_text()
    assert session.receive() == {"type": "websocket.close", "code": 4001, "reason": "bye"}
    with worker.websocket_connect("/starlette/return") as session:
        for _ in range(2):  # no server calls that a normal closure
            assert session.receive() == {"type": "websocket.close", "code": 1006, "reason": ""}
    with worker.websocket_connect("/raw/echo") as session:
        session.send_text("never received")
    assert session.receive() == {"type": "websocket.close", "code": 1000, "reason": ""}


def test_receive_after_close(start: Callable[..., Worker]) -> None:
    """After `close()`, what the app had sent before it came can still be received, and then the end, as it was said."""
    with start().websocket_connect("/raw/echo") as session:
        session.send_text("one")
        assert session.receive_text() == "one"
        session.send_text("two")
        session.close(4001, "bye")
        while (event := session.receive()) != {"type": "websocket.close", "code": 4001, "reason": "bye"}:
            assert event == {"type": "websocket.send", "text": "two"}


def test_send_after_the_end(start: Callable[..., Worker]) -> None:
    """To send after the end does nothing, whoever has made the end."""
    worker = start(max_connections=1)
    with worker.websocket_connect("/starlette/return") as session:
        session.receive()
        session.send_text("nobody is there")
        session.close()
    session.send_text("nobody is there")
    session.close()
    with worker.websocket_connect("/raw/echo") as session:
        session.close()
        session.send_text("too late")
        session.close(4001, "and again")
    with worker.websocket_connect("/raw/echo") as session:  # the one channel is as good as new
        session.send_text("next")
        assert session.receive_text() == "next"


def test_not_connected(start: Callable[..., Worker]) -> None:
    """A session that has not been entered says so."""
    session = start().websocket_connect("/raw/echo?a=b")
    assert re.match(r"<WebSocketSession /raw/echo\?a=b of <Ipc\w+ 'apps.websocket_app:app', ", repr(session))
    for call in (session.receive, session.receive_text, session.close, lambda: session.send_text("x")):
        with pytest.raises(RuntimeError) as caught:
            call()
        assert str(caught.value) == (
            "the WebSocket is not connected: use `with worker.websocket_connect(...) as session:`"
        )


def test_wsgi(start: Callable[..., Worker]) -> None:
    """A WSGI app has no WebSockets, and the error says so."""
    worker = start("wsgiref.simple_server:demo_app")
    with pytest.raises(ValueError) as caught:
        worker.websocket_connect("/")
    assert str(caught.value) == ("'wsgiref.simple_server:demo_app' is a WSGI app; only an ASGI app has WebSockets")


@pytest.mark.parametrize("url", ["http://testserver/raw/echo", "https://testserver/", "ftp://testserver/"])
def test_wrong_scheme(start: Callable[..., Worker], url: str) -> None:
    """A URL of another kind is refused."""
    with pytest.raises(ValueError) as caught:
        start().websocket_connect(url)
    assert str(caught.value) == f"a WebSocket's URL begins with ws://, wss:// or /, not {url!r}"


def test_closed_worker(start: Callable[..., Worker]) -> None:
    """A closed worker connects nothing."""
    worker = start()
    worker.close()
    with pytest.raises(errors.StateError, match="^the worker has been closed$"), worker.websocket_connect("/raw/echo"):
        raise AssertionError("not reached")


def test_worker_closed_meanwhile(start: Callable[..., Worker]) -> None:
    """Closing the worker ends the sessions that are open."""
    worker = start()
    with worker.websocket_connect("/raw/echo") as session:
        worker.close()
        with pytest.raises(errors.WorkerDied, match="^WebSocket /raw/echo: the worker "):
            session.receive()


# The app breaks the rules

SEND: dict[str, Any] = {"type": "websocket.send", "text": "x"}
START: dict[str, Any] = {"type": "websocket.http.response.start", "status": 403, "headers": []}
BODY: dict[str, Any] = {"type": "websocket.http.response.body", "body": b"no"}
MORE: dict[str, Any] = {**BODY, "more_body": True}

WRONG_DATA = "the ASGI app's text is {} and its bytes are {}; websocket.send wants one of them, as str or as bytes"
WRONG_HEADER = (
    "the ASGI app's header {!r} is bad; {} wants (name, value), two byte strings: a token, and a value without control "
    "characters (RFC 9110, section 5)"
)
WRONG_CODE = (
    "the ASGI app's code is {}, which no close frame may carry (RFC 6455, section 7.4); an app's own codes are 3000 to "
    "4999"
)
RESERVED_CODES = (1004, 1005, 1006, 1015, 1016, 2999)

BREACHES = {
    "send before accept": ([SEND], "the ASGI app sent 'websocket.send' to a WebSocket that is connecting"),
    "accept twice": ([ACCEPT, ACCEPT], "the ASGI app sent 'websocket.accept' to a WebSocket that is open"),
    "close twice": ([ACCEPT, CLOSE, CLOSE], "the ASGI app sent 'websocket.close' to a WebSocket that is closed"),
    "close twice before accept": ([CLOSE, CLOSE], "the ASGI app sent 'websocket.close' to a WebSocket that is closed"),
    "send after close": ([ACCEPT, CLOSE, SEND], "the ASGI app sent 'websocket.send' to a WebSocket that is closed"),
    "accept after close": ([CLOSE, ACCEPT], "the ASGI app sent 'websocket.accept' to a WebSocket that is closed"),
    "deny after accept": (
        [ACCEPT, START],
        "the ASGI app sent 'websocket.http.response.start' to a WebSocket that is open",
    ),
    "body first": ([BODY], "the ASGI app sent 'websocket.http.response.body' to a WebSocket that is connecting"),
    "deny twice": ([START, START], "the ASGI app sent 'websocket.http.response.start' to a WebSocket that is denying"),
    "accept when denying": ([START, ACCEPT], "the ASGI app sent 'websocket.accept' to a WebSocket that is denying"),
    "body after the last": (
        [START, BODY, BODY],
        "the ASGI app sent 'websocket.http.response.body' to a WebSocket that is closed",
    ),
    "http": (
        [{"type": "http.response.start", "status": 200}],
        "the ASGI app sent 'http.response.start' to a WebSocket that is connecting",
    ),
    "unknown": ([{"type": "websocket.wave"}], "the ASGI app sent 'websocket.wave' to a WebSocket that is connecting"),
    "nothing": ([], "the ASGI app returned before it had accepted or closed the WebSocket"),
    "no body": (
        [START],
        "the ASGI app returned before its denial of the WebSocket was complete (more_body was still true)",
    ),
    "half a body": (
        [START, MORE],
        "the ASGI app returned before its denial of the WebSocket was complete (more_body was still true)",
    ),
    "no data": ([ACCEPT, {"type": "websocket.send"}], WRONG_DATA.format("NoneType", "NoneType")),
    "both data": ([ACCEPT, {**SEND, "bytes": b"x"}], WRONG_DATA.format("str", "bytes")),
    "bytes as text": ([ACCEPT, {**SEND, "text": b"x"}], WRONG_DATA.format("bytes", "NoneType")),
    "text as bytes": ([ACCEPT, {"type": "websocket.send", "bytes": "x"}], WRONG_DATA.format("NoneType", "str")),
    "number as text": ([ACCEPT, {**SEND, "text": 7}], WRONG_DATA.format("int", "NoneType")),
    "headers of str": (
        [{**ACCEPT, "headers": [("x-a", "\xe9")]}],
        WRONG_HEADER.format(("x-a", "\xe9"), "websocket.accept"),
    ),
    "header with line end": (
        [{**ACCEPT, "headers": [(b"x-a", b"b\r\nx-c: d")]}],
        WRONG_HEADER.format((b"x-a", b"b\r\nx-c: d"), "websocket.accept"),
    ),
    "header of denial": (
        [{**START, "headers": [(b"x-a",)]}],
        WRONG_HEADER.format((b"x-a",), "websocket.http.response.start"),
    ),
    "name of a header": (
        [{**ACCEPT, "headers": [(b"x a", b"b")]}],
        WRONG_HEADER.format((b"x a", b"b"), "websocket.accept"),
    ),
    "lengths of a denial": (
        [{**START, "headers": [(b"content-length", b"2"), (b"content-length", b"3")]}],
        "the app's response is not HTTP/1.1: conflicting Content-Length headers",
    ),
    "denial of another length": (
        [{**START, "headers": [(b"content-length", b"1")]}, BODY],
        "the app's body is longer than its Content-Length says: 1 bytes",
    ),
    "denial that is not final": (
        [{**START, "status": 103}],
        "the app's status is 103; a response ends with a status from 200 on",
    ),
    **{f"code {code}": ([ACCEPT, {**CLOSE, "code": code}], WRONG_CODE.format(code)) for code in RESERVED_CODES},
    "long reason": (
        [ACCEPT, {**CLOSE, "reason": "\xe9" * 62}],
        "the ASGI app's reason is longer than the 123 bytes that a close frame may carry (RFC 6455, section 5.5)",
    ),
    "bytes as reason": (
        [ACCEPT, {**CLOSE, "reason": b"x"}],
        "the ASGI app's reason is bytes; websocket.close wants a string",
    ),
    "status": (
        [{**START, "status": "403"}],
        "the ASGI app's status is '403'; websocket.http.response.start wants an integer like 200",
    ),
    "no status": (
        [{"type": "websocket.http.response.start"}],
        "the ASGI app's status is None; websocket.http.response.start wants an integer like 200",
    ),
    "body of str": (
        [START, {**BODY, "body": "no"}],
        "the ASGI app's body is str; websocket.http.response.body wants bytes",
    ),
}


@pytest.fixture(scope="module")
def worker() -> Iterator[IpcProcess]:
    """A worker for what is the same with every start method."""
    with IpcProcess(APP) as worker:
        yield worker


def complaint(worker: IpcProcess, steps: list[Any]) -> str:
    """Return what an app that does these steps is told."""
    with (
        pytest.raises(errors.AppProtocolError) as caught,
        worker.websocket_connect(script("receive", *steps), timeout=LIMIT) as session,
    ):
        all(event["type"] != "websocket.close" for event in iter(session.receive, None))
    assert "await send(step)" in traceback_of(caught.value) or "returned before" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("breach", BREACHES)
def test_breaches(worker: IpcProcess, breach: str) -> None:
    """An app that breaks the ASGI specification is told which rule, and so is the test."""
    steps, text = BREACHES[breach]
    assert complaint(worker, steps) == text
    with worker.websocket_connect("/raw/echo") as session:
        session.send_text("still there")
        assert session.receive_text() == "still there"


@pytest.mark.parametrize(
    "step",
    [
        {**ACCEPT, "subprotocol": b"soap"},
        {**ACCEPT, "subprotocol": 7},
        {**ACCEPT, "headers": None},
        {**ACCEPT, "headers": 7},
        {**CLOSE, "code": "normal"},
        {**CLOSE, "code": 99999},
        {**CLOSE, "code": -1},
    ],
)
def test_bad_types(worker: IpcProcess, step: dict[str, Any]) -> None:
    """A value of the wrong type is a breach, too, and the text names the event."""
    assert step["type"] in complaint(worker, [ACCEPT, step] if step["type"] == "websocket.close" else [step])


@pytest.mark.parametrize("data", [bytearray(b"x"), memoryview(b"x")])
def test_bytes_like_data(data: Any) -> None:
    """An app may send what is like bytes."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        await receive()
        await send(ACCEPT)
        await send({"type": "websocket.send", "bytes": bytearray(b"x"), "text": None})
        await send({"type": "websocket.send", "bytes": memoryview(b"y")})

    with IpcProcess(app, start_method="fork") as worker, worker.websocket_connect("/") as session:
        assert [session.receive_bytes() for _ in range(2)] == [b"x", b"y"]


# The client has gone, or does not come


def test_send_to_a_client_that_has_gone(start: Callable[..., Worker]) -> None:
    """An app that sends to a client that has gone gets the OSError of the ASGI specification, and is not blamed."""
    worker, name = start(max_connections=1), new_name()
    with worker.websocket_connect(f"/raw/flood/{name}") as session:
        assert session.receive_bytes() == bytes(1000)
    assert noted(limited(worker), name) == "ClientDisconnected: the client has closed the WebSocket"
    name = new_name()
    with worker.websocket_connect(f"/raw/flood/{name}") as session:
        session.close(4001)
        assert any(session.receive()["type"] == "websocket.close" for _ in range(100_000))
    assert noted(limited(worker), name) == "ClientDisconnected: the client has closed the WebSocket"


def test_what_comes_after_the_app_has_closed(start: Callable[..., Worker]) -> None:
    """After the app has closed the WebSocket, `receive()` knows of nothing but the end."""
    worker, name = start(), new_name()
    with worker.websocket_connect(f"/raw/late/{name}") as session:
        session.receive()
        # The worker has read the first of them when the pipe has taken the second.
        for _ in range(2):
            session.send_bytes(bytes(1 << 20))
        tell(limited(worker), f"{name}-told")
        assert noted(limited(worker), name) == repr(
            [{"type": "websocket.disconnect", "code": 4001, "reason": "enough"}] * 3
        )


def test_pool_timeout(start: Callable[..., Worker]) -> None:
    """When sessions hold all channels, the next one's pool timeout says which, without their queries."""
    worker = start(max_connections=2)
    with worker.websocket_connect("/raw/echo"), worker.websocket_connect("/starlette/echo?a=b"):
        with (
            pytest.raises(errors.PoolTimeout) as caught,
            worker.websocket_connect("/fastapi/echo", timeout=0.05),
        ):
            raise AssertionError("not reached")
        lines = str(caught.value).splitlines()
        assert lines[0] == "WebSocket /fastapi/echo: all 2 channels of the worker stayed busy (max_connections):"
        assert [line.partition(", for ")[0] for line in lines[1:]] == [
            "  WebSocket /raw/echo",
            "  WebSocket /starlette/echo",
        ]
    with worker.websocket_connect("/fastapi/echo", timeout=LIMIT) as session:
        session.send_text("now")
        assert session.receive_text() == "now"


def test_read_timeout_of_the_handshake(start: Callable[..., Worker]) -> None:
    """An app that does not accept in time is a read timeout, which says where the app is; then it is cancelled."""
    worker, line = start(max_connections=1), '    await noted(f"{name}-accept")\n'
    path = f"/raw/slow/{new_name()}"
    for seconds in (0.05, 0.5, 5.0):  # more of them, where the app has not even begun by then
        with pytest.raises(errors.ReadTimeout) as caught, worker.websocket_connect(path, timeout=seconds):
            raise AssertionError("not reached")
        assert caught.value.args[0] == f"WebSocket {path}: the app did not answer within {seconds:g} s"
        if line in caught.value.stack:
            break
    assert line in caught.value.stack
    with worker.websocket_connect("/raw/echo") as session:
        session.send_text("next")
        assert session.receive_text() == "next"


def test_read_timeout_of_a_session(start: Callable[..., Worker]) -> None:
    """A session's read timeout says where the app is, and the session can be asked again."""
    worker, name = start(), new_name()
    path = f"/raw/slow/{name}"
    tell(limited(worker), f"{name}-accept")
    with ExitStack() as stack:
        session = until_in_time(lambda: worker.websocket_connect(path, timeout=0.05).__enter__())
        stack.push(session)
        for _ in range(2):
            with pytest.raises(errors.ReadTimeout) as caught:
                session.receive_text()
            assert caught.value.args[0] == f"WebSocket {path}: the app did not go on with its answer within 0.05 s"
        assert '    await noted(f"{name}-text")\n' in caught.value.stack
        session.send_text("nobody reads this")
        tell(limited(worker), f"{name}-text")
        assert until_in_time(session.receive_text) == "at last"
        assert until_in_time(session.receive) == {"type": "websocket.close", "code": 1006, "reason": ""}


def until_in_time(call: Callable[[], Any]) -> Any:
    """Call what has so small a time limit that a busy machine may need several tries."""
    while True:
        try:
            return call()
        except errors.ReadTimeout:
            pass


def test_worker_killed_meanwhile(start_process: Callable[..., IpcProcess]) -> None:
    """A worker that is killed while a session waits for it raises WorkerDied; the next session has a new one."""
    worker = start_process()
    with worker.websocket_connect("/raw/kill") as session:
        pid = worker.pid
        session.send_text("die")
        with pytest.raises(errors.WorkerDied) as caught:
            session.receive_text()
        assert str(caught.value) == f"WebSocket /raw/kill: the worker (pid {pid}) was killed by SIGKILL"
        session.send_text("nobody is there")
    with worker.websocket_connect("/raw/echo") as session:
        session.send_text("next")
        assert session.receive_text() == "next"
    assert worker.pid != pid


def test_worker_killed_unseen(start_process: Callable[..., IpcProcess]) -> None:
    """Who waits for nothing when the worker is killed is told when it leaves."""
    worker = start_process()
    assert worker.pid is not None
    with pytest.raises(errors.WorkerDied, match="was killed by SIGKILL$"), worker.websocket_connect("/raw/deaf/x"):
        os.kill(worker.pid, signal.SIGKILL)


def test_unpicklable_event(start_process: Callable[..., IpcProcess]) -> None:
    """What cannot cross is not sent, and the session goes on."""
    with start_process().websocket_connect("/raw/echo") as session:
        with pytest.raises(errors.TransferError, match="cannot pickle"):
            session.send({"type": "websocket.receive", "text": threading.Lock()})
        session.send_text("next")
        assert session.receive_text() == "next"


def test_what_the_app_prints(worker: IpcProcess, capsys: pytest.CaptureFixture[str]) -> None:
    """What the app prints is here before its answer is."""
    with worker.websocket_connect("/raw/show") as session:
        for text in ("one", "two"):
            session.send_text(text)
            assert session.receive_text() == "printed"
            assert capsys.readouterr().out == f"{text}\n"


# Errors cross processes


def test_pickled_disconnect() -> None:
    """A WebSocketDisconnect is the same after pickling."""
    error = pickle.loads(pickle.dumps(WebSocketDisconnect(4001, "bye")))
    assert type(error) is WebSocketDisconnect
    assert (error.code, error.reason, str(error)) == (
        4001,
        "bye",
        "the app closed the WebSocket with code 4001: bye",
    )


@pytest.mark.parametrize("packed", [False, True])
def test_pickled_denial(packed: bool) -> None:
    """A denial is the same after pickling, also one whose content was compressed."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "websocket"
        headers = [(b"x-a", b"1"), (b"x-a", b"2"), *([(b"content-encoding", b"gzip")] if packed else [])]
        body = gzip.compress(b"unpaid") if packed else b"unpaid"
        await send({"type": "websocket.http.response.start", "status": 402, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})

    with (
        IpcProcess(app, start_method="fork") as worker,
        pytest.raises(WebSocketDenialResponse) as caught,
        worker.websocket_connect("/"),
    ):
        raise AssertionError("not reached")
    for denial in (caught.value, pickle.loads(pickle.dumps(caught.value))):
        assert isinstance(denial, WebSocketDenialResponse)
        assert denial.content == b"unpaid"
        assert denial.status_code == 402
        assert denial.headers.get_list("x-a") == ["1", "2"]
        assert str(denial) == "the app has denied the WebSocket with status 402"
        assert (denial.code, denial.reason) == (1000, "")


# Many, and large


def test_many_sessions(start: Callable[..., Worker]) -> None:
    """One channel serves 200 sessions, one after the other, however they end."""
    worker = start(max_connections=1)
    for index in range(200):
        how = index % 8
        if how == 0:
            with pytest.raises(WebSocketDisconnect), worker.websocket_connect(script(CLOSE), timeout=LIMIT):
                raise AssertionError("not reached")
        elif how == 1:
            with pytest.raises(LookupError), worker.websocket_connect("/raw/boom/disconnect", timeout=LIMIT):
                pass
        elif how == 2:
            with worker.websocket_connect("/raw/echo", timeout=LIMIT) as session:
                session.send_bytes(bytes(300_000))  # and leave it there
        elif how == 3:
            with worker.websocket_connect("/starlette/return", timeout=LIMIT) as session:
                session.send_text("too late, or not")
        else:
            with worker.websocket_connect("/raw/echo", timeout=LIMIT) as session:
                session.send_text(str(index))
                assert session.receive_text() == str(index)


def test_sessions_in_threads(start: Callable[..., Worker]) -> None:
    """Threads share a worker, with more sessions than channels."""
    worker = start(max_connections=4)

    def talk(number: int) -> list[str]:
        with worker.websocket_connect("/starlette/echo", timeout=LIMIT) as session:
            for index in range(20):
                session.send_text(f"{number}.{index}")
            return [session.receive_text() for _ in range(20)]

    with ThreadPoolExecutor(12) as threads:
        heard = list(threads.map(talk, range(40), timeout=LIMIT))
    assert heard == [[f"{number}.{index}" for index in range(20)] for number in range(40)]


@pytest.mark.parametrize("size", [1, 4095, 65_536, 65_537, 1 << 20, 5 << 20])
def test_large_messages(way: Way, size: int) -> None:
    """Messages of any size cross, texts and bytes."""
    raw = random.Random(size).randbytes(size)
    text = "\N{PILE OF POO}" + raw[: size // 2].decode("latin-1")
    with way.connect("/raw/echo") as session:
        session.send_bytes(raw)
        session.send_text(text)
        assert session.receive_bytes() == raw
        assert session.receive_text() == text


@settings(deadline=None, max_examples=200)
@given(messages=st.lists(st.text() | st.binary(), max_size=20), large=st.integers(0, 200_000))
def test_any_messages(worker: IpcProcess, messages: list[str | bytes], large: int) -> None:
    """Any messages come back as they were, in order."""
    with worker.websocket_connect("/raw/echo", timeout=LIMIT) as session:
        for message in [*messages, bytes(large)]:
            session.send_text(message) if isinstance(message, str) else session.send_bytes(message)
        events = [session.receive() for _ in range(len(messages) + 1)]
    heard = [event["text"] if "text" in event else event["bytes"] for event in events]
    assert heard == [*messages, bytes(large)]


each_count = pytest.mark.parametrize("count", [6000, pytest.param(20_000, marks=pytest.mark.slow)])  # of messages


@each_count
def test_send_all_first(start: Callable[..., Worker], count: int) -> None:
    """An app that answers while nobody receives is not lost for it: all messages come, in order."""
    with start(max_connections=1).websocket_connect("/raw/echo", timeout=LIMIT) as session:
        for index in range(count):
            session.send_text(str(index))
        assert [session.receive_text() for _ in range(count)] == [str(index) for index in range(count)]


@each_count
def test_send_and_receive_in_two_threads(start: Callable[..., Worker], count: int) -> None:
    """One thread may send while another receives: nothing is lost, nothing is reordered."""
    with (
        start(max_connections=1).websocket_connect("/raw/echo", timeout=LIMIT) as session,
        ThreadPoolExecutor(1) as threads,
    ):
        sending = threads.submit(lambda: [session.send_text(str(index)) for index in range(count)])
        assert [session.receive_text() for _ in range(count)] == [str(index) for index in range(count)]
        sending.result(LIMIT)


def test_large_messages_in_two_threads(start: Callable[..., Worker]) -> None:
    """Large messages cross in both directions at once, while small ones of a third thread go between them."""
    large = [random.Random(index).randbytes(1 << 20) for index in range(20)]
    with (
        start(max_connections=1).websocket_connect("/raw/echo", timeout=LIMIT) as session,
        ThreadPoolExecutor(2) as threads,
    ):
        sending = [
            threads.submit(lambda: [session.send_bytes(each) for each in large]),
            threads.submit(lambda: [session.send_text(str(index)) for index in range(1000)]),
        ]
        events = [session.receive() for _ in range(1020)]
        for each in sending:
            each.result(LIMIT)
    assert [event["bytes"] for event in events if "bytes" in event] == large
    assert [event["text"] for event in events if "text" in event] == [str(index) for index in range(1000)]


def test_two_threads_receive(start: Callable[..., Worker]) -> None:
    """Of several threads that receive, each message comes to one; all of them hear of the end."""
    received: list[str] = []

    def receive(session: WebSocketSession) -> None:
        while (event := session.receive())["type"] == "websocket.send":
            received.append(event["text"])

    with (
        start(max_connections=1).websocket_connect("/raw/echo", timeout=LIMIT) as session,
        ThreadPoolExecutor(3) as threads,
    ):
        receiving = [threads.submit(receive, session) for _ in range(3)]
        for index in range(1000):
            session.send_text(str(index))
        while len(received) < 1000:
            pass
        session.close()
        for each in receiving:
            each.result(LIMIT)
    assert sorted(received, key=int) == [str(index) for index in range(1000)]


def test_unpicklable_event_while_another_thread_sends(start_process: Callable[..., IpcProcess]) -> None:
    """What cannot cross is raised in the thread that sends it, and not in the one that is just sending."""
    worker = start_process()
    with worker.websocket_connect("/raw/echo", timeout=LIMIT) as session, ThreadPoolExecutor(1) as threads:
        with stopped(worker.pid):
            sending = threads.submit(session.send_bytes, bytes(5 << 20))
            while session._exchange is None or session._exchange._directions.sending is not Sending.WRITING:
                pass
            with pytest.raises(errors.TransferError, match="cannot pickle"):
                session.send({"type": "websocket.receive", "text": threading.Lock()})
        sending.result(LIMIT)
        assert session.receive_bytes() == bytes(5 << 20)


@pytest.mark.parametrize("times", [200, pytest.param(600, marks=pytest.mark.slow)])
def test_app_ends_while_another_thread_sends(worker: IpcProcess, times: int) -> None:
    """A thread that sends does not mind that the app returns meanwhile and another thread receives the end."""
    path = script("receive", ACCEPT, *["receive"] * 5)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # the moment is short: so the threads come to it once in a hundred sessions
    try:
        with ThreadPoolExecutor(1) as threads:
            for _ in range(times):
                with worker.websocket_connect(path, timeout=LIMIT) as session:
                    ended = threading.Event()
                    sending = threads.submit(send_until, ended, session)
                    assert session.receive()["type"] == "websocket.close"
                    ended.set()
                    sending.result(LIMIT)
    finally:
        sys.setswitchinterval(interval)


def send_until(event: threading.Event, session: WebSocketSession) -> None:
    while not event.is_set():
        session.send_text("x")


def test_nothing_leaks_while_the_worker_lives(start: Callable[..., Worker]) -> None:
    """No session leaves a descriptor, a thread or a busy channel behind, however it has ended."""
    worker = start(max_connections=1)
    with worker.websocket_connect("/raw/echo", timeout=LIMIT):
        pass
    with nothing_leaks():
        for path, error in {
            "/raw/echo": None,
            "/starlette/deny/json": WebSocketDenialResponse,
            script("receive", CLOSE): WebSocketDisconnect,
            "/raw/boom/before": LookupError,
            "/raw/boom/after": LookupError,
            "/raw/boom/disconnect": LookupError,
            "/starlette/return": None,
        }.items():
            if error is None:
                with worker.websocket_connect(path, timeout=LIMIT):
                    pass
            else:
                with pytest.raises(error), worker.websocket_connect(path, timeout=LIMIT):
                    pass


def test_dropped_session(start: Callable[..., Worker]) -> None:
    """A session that is dropped open is a ResourceWarning; its app is told, and its channel comes back."""
    worker, name = start(max_connections=1), new_name()
    session: WebSocketSession | None = worker.websocket_connect(f"/starlette/watch/{name}", timeout=LIMIT)
    session.__enter__()  # type: ignore[union-attr]
    with pytest.warns(ResourceWarning) as warned:
        session = None
        gc.collect()
    assert [str(each.message) for each in warned] == [f"unclosed response of WebSocket /starlette/watch/{name}"]
    assert noted(limited(worker), name) == "(1006, '')"


def test_http_beside(start: Callable[..., Worker]) -> None:
    """The same app serves HTTP beside a session that is open."""
    worker = start()
    with (
        httpx.Client(transport=IpcTransport(worker), base_url="http://testserver") as client,
        worker.websocket_connect("/raw/echo", timeout=LIMIT) as session,
    ):
        assert client.get("/raw").text == "this is HTTP"
        session.send_text("x")
        assert session.receive_text() == "x"
