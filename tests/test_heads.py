"""The heads of requests: what the client libraries refuse over TCP, they refuse over a worker; nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import h11
import httpx
import httpx2
import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st

from socketless import IpcAsyncTransport, IpcThread, IpcTransport
from socketless._host.worker import Worker
from socketless._wire import heads
from socketless._wire.messages import Request
from socketless.errors import InvalidRequest
from socketless.requests import Session
from socketless.testclient import TestClient

URL = "http://testserver/seen"
BYTES = st.binary(max_size=6) | st.sampled_from([b"x-one", b"content-length", b"Transfer-Encoding", b"5", b"chunked"])


def words_of_h11(method: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> str | None:
    """Return what h11 says of a request's head that it does not write."""
    try:
        h11.Request(method=method, target=target, headers=[("host", "x"), *headers])
    except h11.LocalProtocolError as error:
        return str(error)
    return None


def ours(method: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> str | None:
    request = Request(method, "http", ("x", 80), target, [(b"host", b"x"), *headers], more_body=True)
    try:
        heads.check_request(request)
    except InvalidRequest as error:
        return str(error).removeprefix(f"{request.label}: ")
    return None


@given(
    st.sampled_from(["GET", "GE T", "GE\nT", "", "get", "(", "M-SEARCH", "\x7f"]),
    st.sampled_from([b"/", b"*", b"", b"/a b", b"/caf\xe9", b"/a\0", b"http://x/"]),
    st.lists(st.tuples(BYTES, BYTES), max_size=3),
)
@example("GET", b"/", [(b"x-one", b"a\x01b\x7f")])
@example("GET", b"/", [(b"x-one", b"a b\tc  d\xff")])
@example("GET", b"/", [(b"x-one", b"a ")])
@example("GET", b"/", [(b"x-one", b"\ta")])
@example("GET", b"/", [(b"x-one", b"a\x0cb")])
@example("GET", b"/", [(b"x-one", b"a\n")])
@example("GET", b"/", [(b"x-one\n", b"a")])
@example("GET", b"/", [(b"Host", b"y")])
@example("GET", b"/", [(b"content-length", b"5, 5"), (b"Content-Length", b"5")])
@example("GET", b"/", [(b"content-length", b"5"), (b"Content-Length", b"05")])
@example("GET", b"/", [(b"content-length", b"5" * 21)])
@example("GET", b"/", [(b"transfer-encoding", b"CHUNKED")])
@example("GET", b"/", [(b"transfer-encoding", b"chunked")] * 2)
@example("GET", b"/", [(b"transfer-encoding", b"chunked"), (b"content-length", b"5")])
def test_same_as_h11(method: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    """A request's head is refused if h11, by which httpx writes it, refuses it."""
    theirs = words_of_h11(method, target, headers)
    assert (ours(method, target, headers) is None) == (theirs is None)


@pytest.mark.parametrize(
    ("method", "target", "header"),
    [
        ("GE T", b"/", (b"x-one", b"a")),
        ("GET", b"/a b", (b"x-one", b"a")),
        ("GET", b"/", (b"x one", b"a")),
        ("GET", b"/", (b"x-one", b"a\nb")),
        ("GET", b"/", (b"host", b"y")),
        ("GET", b"/", (b"content-length", b"five")),
        ("GET", b"/", (b"content-length", b"5, 6")),
        ("GET", b"/", (b"transfer-encoding", b"gzip")),
    ],
)
def test_words(method: str, target: bytes, header: tuple[bytes, bytes]) -> None:
    """What is said of it is what h11 says."""
    assert ours(method, target, [header]) == words_of_h11(method, target, [header]) is not None


@pytest.fixture(scope="module", params=["wsgi", "asgi"])
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with IpcThread(f"apps.conformance_app:{request.param}") as thread:
        yield thread


def ask(worker: Worker, library: Any, **options: Any) -> Any:
    with library.Client(transport=IpcTransport(worker)) as client:
        return client.request(**{"method": "POST", "url": URL, **options})


def ask_async(worker: Worker, library: Any, **options: Any) -> Any:
    async def main() -> Any:
        async with library.AsyncClient(transport=IpcAsyncTransport(worker)) as client:
            content = options.pop("content", b"")
            body = content if isinstance(content, bytes) else pieces(content)
            return await client.request(**{"method": "POST", "url": URL, "content": body, **options})

    async def pieces(chunks: list[bytes]) -> Any:
        for chunk in chunks:
            yield chunk

    return asyncio.run(main())


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("ask", [ask, ask_async])
def test_httpx(worker: Worker, ask: Callable[..., Any], library: Any) -> None:
    """It is a LocalProtocolError of the library, and the next request is served."""
    with pytest.raises(library.LocalProtocolError) as caught:
        ask(worker, library, headers={"Authorization": "Bearer s3cret\n"})
    assert str(caught.value) == "POST /seen: Illegal header value b'Bearer s3cret\\n'"
    assert isinstance(caught.value, InvalidRequest)
    assert caught.value.request.url == URL
    assert ask(worker, library).status_code == 200


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.parametrize("ask", [ask, ask_async])
@pytest.mark.parametrize("content", [b"12345", [b"123", b"45"]])
@pytest.mark.parametrize(("length", "words"), [(4, "Too much"), (6, "Too little"), (0, "Too much")])
def test_body_of_another_length(
    worker: Worker, ask: Callable[..., Any], library: Any, content: Any, length: int, words: str
) -> None:
    """So is a body that is longer, or shorter, than its Content-Length says, streamed or not."""
    with pytest.raises(library.LocalProtocolError) as caught:
        ask(worker, library, content=content, headers={"Content-Length": str(length)})
    assert str(caught.value) == f"POST /seen: {words} data for declared Content-Length"
    assert ask(worker, library, content=content, headers={"Content-Length": "5"}).status_code == 200


def test_requests(worker: Worker) -> None:
    """What requests refuses is refused, in a request that was changed after it was prepared, too; so is its method."""
    with Session(worker=worker) as session:
        for name, value in (("X-One", "a\nb"), ("", "a"), ("X:One", "a")):
            request = session.prepare_request(requests.Request("GET", URL))
            request.headers[name] = value
            with pytest.raises(requests.exceptions.InvalidHeader) as caught:
                session.send(request)
            assert isinstance(caught.value, InvalidRequest)
            assert caught.value.request is request
        with pytest.raises(ValueError, match=r"^GE T /seen: Illegal method characters$"):
            session.request("GE T", URL)
        request = session.prepare_request(requests.Request("POST", URL, data=b"12345"))
        request.headers["Content-Length"] = "6"
        with pytest.raises(InvalidRequest, match="Too little data"):
            session.send(request)
        assert session.get(URL).status_code == 200


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (("X-One", "a\0b"), "Illegal header value b'a\\x00b'"),
        (("X One", "a"), "Illegal header name b'X One'"),
        (("Content-Length", "five"), "bad Content-Length"),
        (("Transfer-Encoding", "gzip"), "Only Transfer-Encoding: chunked is supported"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_requests_that_servers_refuse(worker: Worker, method: str, header: tuple[str, str], words: str) -> None:
    """What requests sends as it is, and no server reads, is answered with 400."""
    with Session(worker=worker) as session:
        response = session.request(method, URL, headers=dict([header]))
    assert (response.status_code, response.reason) == (400, "Bad Request")
    assert response.text == ("" if method == "HEAD" else f"GET /seen: {words}\n")


def test_white_space(worker: Worker) -> None:
    """White space around a value is no part of it: requests sends it, and a server strips it."""
    with Session(worker=worker) as session:
        assert ["x-one", "a b"] in session.get(URL, headers={"X-One": "a b \t"}).json()["headers"]


@pytest.mark.parametrize("app_kind", ["wsgi", "asgi"])
def test_lenient_client(app_kind: str) -> None:
    """TestClient takes lengths that are wrong and a final 1xx, as Starlette's does, and no line breaks."""
    with IpcThread(f"apps.conformance_app:{app_kind}") as worker, TestClient(worker) as client:
        for length in ("1", "many"):
            assert client.post("/echo", content=b"123456", headers={"Content-Length": length}).content == b"123456"
        assert client.get("/seen", headers={"X-One": " a "}).status_code == 200
        assert client.get("/head?status=123").status_code == 123
        with pytest.raises(httpx2.LocalProtocolError):
            client.get("/seen", headers={"X-One": "a\nb"})


def test_websocket() -> None:
    """A WebSocket's opening handshake is checked as well."""
    with IpcThread("apps.websocket_app:raw") as worker:
        with pytest.raises(InvalidRequest), worker.websocket_connect("/echo", headers={"X One": "a"}):
            pass
