"""`socketless.playwright` as far as it needs no browser: those tests are in `tests/browsers`."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from base64 import b64decode, b64encode
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pytest

from socketless import IpcThread
from socketless._playwright.fetching import Broken, fetch, request_of
from socketless._playwright.uploads import Uploads
from socketless._playwright.websockets import Connection, handshake_of, origin_of
from socketless.errors import TransferError, WorkerDied
from socketless.playwright import Serving, serve
from support import nothing_leaks

SHOWN = {"method": "GET", "url": "http://api.test/a%20b?x=1", "headers": {"Accept": "*/*", "X-Own": "caf\xe9"}}


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["path"] == "/raises":
        raise LookupError("no such tea")
    headers = [(b"set-cookie", b"a=1"), (b"set-cookie", b"b=\xe9")]
    if scope["path"] == "/unpacked":
        headers.append((b"content-encoding", b"gzip"))
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    for line in (b"one ", b"two "):
        await send({"type": "http.response.body", "body": line, "more_body": True})
    if scope["path"] == "/breaks":
        raise LookupError("in the middle")
    await send({"type": "http.response.body", "body": repr(scope["headers"]).encode()})


def fetched(path: str, *, raises: bool = True) -> tuple[dict[str, Any] | None, list[BaseException]]:
    """Return what Chromium is told, `None` if nothing, and what is to be raised."""
    message = request_of({**SHOWN, "url": f"http://api.test{path}"}, b"", "", ("127.0.0.1", 123))
    noted: list[BaseException] = []
    with nothing_leaks(), IpcThread(app) as worker:
        try:
            told = asyncio.run(fetch(worker, message, noted.append, raise_app_exceptions=raises))
        except Broken:
            told = None
    return told, noted


def test_response() -> None:
    """Status, each header, byte for byte, and the whole body are what Chromium is told."""
    told, noted = fetched("/")
    assert told is not None
    assert noted == []
    assert (told["responseCode"], told["responsePhrase"]) == (201, "Created")
    assert b64decode(told["binaryResponseHeaders"]) == b"set-cookie: a=1\0set-cookie: b=\xe9"
    assert b64decode(told["body"]).startswith(b"one two [(b'host', b'api.test'), ")


@pytest.mark.parametrize("raises", [True, False])
def test_exception(raises: bool) -> None:
    """What an app raises is noted if it is to be; the page gets a 500, or a response that breaks off."""
    told, noted = fetched("/raises", raises=raises)
    assert told is not None
    assert told["responseCode"] == 500
    assert [str(error) for error in noted] == ["no such tea"] * raises
    told, noted = fetched("/breaks", raises=raises)
    assert told is None
    assert [str(error) for error in noted] == ["in the middle"] * raises


@pytest.mark.parametrize("raises", [True, False])
def test_wrong_encoding(raises: bool) -> None:
    """A body that is not what its Content-Encoding says is noted like what an app raises; the page gets an error."""
    told, noted = fetched("/unpacked", raises=raises)
    assert told is None
    assert [str(error).rpartition(": Error")[0] for error in noted] == [
        "GET /unpacked: the body is not what its Content-Encoding says"
    ] * raises


def test_request() -> None:
    """A request is what Chromium shows, and the headers that it adds later."""
    message = request_of({**SHOWN, "method": "POST"}, b"body", "/root", ("127.0.0.1", 123))
    assert (message.method, message.scheme, message.server) == ("POST", "http", ("api.test", 80))
    assert (message.raw_target, message.body, message.root_path) == (b"/a%20b?x=1", b"body", "/root")
    assert message.headers == [
        (b"host", b"api.test"),
        (b"Accept", b"*/*"),
        (b"X-Own", b"caf\xe9"),
        (b"connection", b"keep-alive"),
        (b"accept-encoding", b"gzip, deflate"),
        (b"accept-language", b"en-US,en;q=0.9"),
        (b"content-length", b"4"),
    ]


def test_user_in_a_url() -> None:
    """A user and a password in a URL are in no Host and no Origin."""
    url = "ws://user:pw@api.test:81/chat?"
    request = request_of({**SHOWN, "url": url.replace("ws", "http")}, b"", "", ("127.0.0.1", 123))
    handshake = handshake_of(SimpleNamespace(url=url), None, [], "", ("127.0.0.1", 123))
    for message in (request, handshake):
        assert message.headers[0] == (b"host", b"api.test:81")
        assert (message.server, message.raw_target) == (("api.test", 81), b"/chat?")
    assert origin_of(url, ["http://one.test/", "http://other@api.test:81/"]) == "http://api.test:81"


def test_sending_to_a_dead_worker() -> None:
    """What sends ends in silence where the worker has died: who receives tells that."""

    async def main() -> None:
        connection = Connection(None, None, None, print, raise_app_exceptions=True)  # type: ignore[arg-type]
        connection._on_message("hello")
        await connection._send_all(Mock(send=Mock(side_effect=WorkerDied("it has", 1, 0))))

    asyncio.run(main())


def encoded(data: bytes) -> dict[str, str]:
    return {"bytes": b64encode(data).decode()}


def test_upload() -> None:
    """Files that Chromium does not show come from what the page has told of them, in their order."""
    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
    entries = [encoded(head), {}, encoded(b"\r\n" + head), {}, encoded(b"\r\n--x--\r\n")]
    request = {"method": "POST", "url": "http://api.test/", "hasPostData": True, "postDataEntries": entries}

    async def main() -> bytes:
        uploads = Uploads()
        for index in range(3):
            uploads._on_file(None, "f", "a.txt", index, None)
        uploads._on_file(None, "f", "a.txt", 0, None)  # selected anew, two of them
        uploads._on_file(None, "f", "a.txt", 1, None)
        body = asyncio.ensure_future(uploads.body_of(request))
        await asyncio.sleep(0)
        for index, content in enumerate((b"first", b"second")):
            uploads._on_file(None, "f", "a.txt", index, f"data:text/plain;base64,{b64encode(content).decode()}")
        with pytest.raises(TransferError, match="^POST http://api.test/: Chromium does not show the whole body"):
            await uploads.body_of({**request, "postDataEntries": [{}]})
        return await body

    assert asyncio.run(main()) == head + b"first\r\n" + head + b"second\r\n--x--\r\n"


def test_upload_of_a_file_that_cannot_be_read() -> None:
    """A file that the page cannot read is an error, not an empty file; one that is empty is."""
    head = b'--x\r\nContent-Disposition: form-data; name="f"; filename="a.txt"\r\nContent-Type: text/plain\r\n\r\n'
    request = {"method": "POST", "url": "http://api.test/", "postDataEntries": [encoded(head), {}]}

    async def body(url: str) -> bytes:
        uploads = Uploads()
        uploads._on_file(None, "f", "a.txt", 0, None)
        uploads._on_file(None, "f", "a.txt", 0, url)
        return await uploads.body_of(request)

    assert asyncio.run(body("data:")) == head
    with pytest.raises(TransferError, match="^POST http://api.test/: Chromium does not show the whole body"):
        asyncio.run(body(""))


def test_origin() -> None:
    """The origin of a WebSocket is that of the page of the same host, else of the first page."""
    pages = ["about:blank", "https://one.test/a", "http://two.test:81/b"]
    assert origin_of("ws://two.test:81/chat", pages) == "http://two.test:81"
    assert origin_of("ws://three.test/", pages) == "https://one.test"
    assert origin_of("ws://three.test/", ["about:blank"]) is None


def test_exceptions(caplog: pytest.LogCaptureFixture) -> None:
    """The first exception is raised in the place of the test's own, but not of Ctrl-C; the others are logged."""
    serving = object.__new__(Serving)
    serving.exceptions = []
    serving.raise_exceptions()
    serving.exceptions = [KeyError(1), KeyError(2)]
    with pytest.raises(KeyError, match="1") as raised:
        serving.raise_exceptions(AssertionError())
    assert isinstance(raised.value.__context__, AssertionError)
    assert serving.exceptions == []
    serving.exceptions = [KeyError(3)]
    serving.raise_exceptions(KeyboardInterrupt())
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["2", "3"]  # type: ignore[misc]
    assert {record.levelno for record in caplog.records} == {logging.ERROR}


@pytest.mark.skipif(importlib.util.find_spec("playwright") is not None, reason="Playwright is installed")
def test_without_playwright() -> None:
    """Without Playwright, the error says what to install."""
    with pytest.raises(ModuleNotFoundError) as raised:
        serve(object(), app)  # type: ignore[arg-type]
    assert str(raised.value) == ("socketless.playwright needs playwright: pip install 'socketless-testing[playwright]'")
