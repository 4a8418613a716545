"""What Flask, Django, Starlette and FastAPI do with bodies that are streamed: uploads, files, templates, clean-up."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import json
import logging
import re
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from apps.streaming.board import ODD_PIECES, ODD_TEXT
from apps.streaming.testing import Workers, nothing_left
from socketless import IpcAsyncTransport, IpcProcess, IpcTransport, switch_to_ipc_connection
from socketless._clients import response as responses
from socketless._host.limits import Timeouts
from support import LIMIT

OPTIONS: dict[str, Any] = {"base_url": "http://testserver", "timeout": LIMIT}


class Client(httpx.Client):
    """A client that knows the board (`apps.streaming.board`)."""

    def __init__(self, worker: IpcProcess, **options: Any) -> None:
        super().__init__(transport=IpcTransport(worker, **options), **OPTIONS)

    def publish(self, topic: str, data: str) -> None:
        self.post(f"/publish/{topic}", content=data.encode()).raise_for_status()

    def wait_for(self, topic: str, note: str) -> None:
        self.get(f"/wait/{topic}/{note}/1").raise_for_status()

    def notes(self, topic: str) -> Any:
        return self.get(f"/notes/{topic}").json()


@contextmanager
def client_of(worker: IpcProcess, **options: Any) -> Iterator[Client]:
    """Give a client, and assert that nothing is left behind."""
    with nothing_left(), Client(worker, **options) as client:
        yield client


class Left(Exception):
    """What a test raises in the block of a stream, or in the body of a request."""


FLASK, WSGI, ASGI = "flask_app:app", "django_app:wsgi", "django_app:asgi"
STARLETTE, MIDDLEWARE, GZIP, FASTAPI = (
    "starlette_app:app",
    "starlette_app:app_with_middleware",
    "starlette_app:app_with_gzip",
    "fastapi_app:app",
)
UPLOADS = [FLASK, WSGI, STARLETTE, MIDDLEWARE, FASTAPI]  # Django reads all of a request before it calls an ASGI view


# Uploads


def length_of(app: str, size: int) -> dict[str, str]:
    # Django reads no body that has no length.
    return {"content-length": str(size)} if app.startswith("django") else {}


@pytest.mark.parametrize("app", UPLOADS)
def test_upload_is_pulled(app: str, workers: Workers, topic: str) -> None:
    """The app has a piece of the request before the client makes the next."""
    with client_of(workers(app)) as client:

        def pieces() -> Iterator[bytes]:
            for word in (b"first", b"other", b"third"):
                yield word
                client.wait_for(topic, word.decode())

        response = client.post(f"/upload/{topic}", content=pieces(), headers=length_of(app, 15))
        assert (response.status_code, response.text.strip('"')) == (200, "read")
        assert client.notes(topic) == ["begun", "first", "other", "third", "ended"]


@pytest.mark.parametrize("app", UPLOADS)
def test_upload_is_pulled_from_an_async_client(app: str, workers: Workers, topic: str) -> None:
    """The same for an async generator: the loop of the client goes on meanwhile."""
    worker = workers(app)

    async def main() -> list[str]:
        async with httpx.AsyncClient(transport=IpcAsyncTransport(worker), **OPTIONS) as client:

            async def pieces() -> AsyncIterator[bytes]:
                for word in (b"first", b"other", b"third"):
                    yield word
                    await client.get(f"/wait/{topic}/{word.decode()}/1")

            await client.post(f"/upload/{topic}", content=pieces(), headers=length_of(app, 15))
            notes: list[str] = (await client.get(f"/notes/{topic}")).json()
            return notes

    with nothing_left():
        assert asyncio.run(main()) == ["begun", "first", "other", "third", "ended"]


def test_upload_is_pulled_line_by_line(workers: Workers, topic: str) -> None:
    """Iterating over Flask's request.stream gives each line when it is there."""
    with client_of(workers(FLASK)) as client:

        def pieces() -> Iterator[bytes]:
            yield b"one\ntw"
            client.wait_for(topic, "one")
            yield b"o\nthree"
            client.wait_for(topic, "two")

        client.post(f"/upload-lines/{topic}", content=pieces())
        assert client.notes(topic) == ["begun", "one", "two", "three", "ended"]


@pytest.mark.parametrize("app", [ASGI, WSGI])
def test_django_upload_of_any_length(app: str, workers: Workers, topic: str) -> None:
    """Django reads a streamed body whose length is announced to its end, under WSGI and ASGI."""
    with client_of(workers(app, max_connections=1)) as client:
        for size in (0, 1, 4096, 1_000_000):
            pieces = (bytes([65 + n % 26]) * 1000 for n in range(size // 1000))
            content = b"x" * (size % 1000) + b"".join(pieces)
            response = client.post(f"/upload/{topic}-{size}", content=iter([content]), headers=length_of(app, size))
            assert response.text == "read"
            assert "".join(client.notes(f"{topic}-{size}")[1:-1]) == content.decode()


@pytest.mark.parametrize("app", [FLASK, STARLETTE])
def test_answer_while_the_request_is_read(app: str, workers: Workers) -> None:
    """An app answers each piece of the request at once: the client has the answer when it is asked for the next."""
    words, seen = [b"first", b"other", b"third"], []

    def pieces() -> Iterator[bytes]:
        for number, word in enumerate(words):
            assert seen == words[:number]
            yield word

    with client_of(workers(app, max_connections=1)) as client:
        with client.stream("POST", "/relay", content=pieces()) as response:
            for piece in response.iter_raw():
                seen.append(piece)
        assert seen == words


@pytest.mark.parametrize("app", [FLASK, STARLETTE, MIDDLEWARE])
def test_body_as_large_as_its_answer(app: str, workers: Workers) -> None:
    """A body that is answered while it is read comes back whole."""
    content = [bytes([n]) * 99_999 for n in range(100)]
    with client_of(workers(app, max_connections=1)) as client:
        assert client.post("/relay?size=50000", content=iter(content)).content == b"".join(content)


@pytest.mark.parametrize("app", [FLASK, STARLETTE, MIDDLEWARE])
def test_answer_without_reading(app: str, workers: Workers) -> None:
    """An app that does not read its request answers, and the client's generator is never asked."""

    def pieces() -> Iterator[bytes]:
        yield pytest.fail("nobody wants it")

    with client_of(workers(app, max_connections=1)) as client:
        for _ in range(3):
            assert client.post("/unread", content=pieces()).text == "not read"


class Made:
    """A file that is made while it is read: it has no size and cannot be sought in."""

    def __init__(self, size: int) -> None:
        self.digest = hashlib.sha256()
        self.largest = 0
        self._left = size
        self._number = 0

    def read(self, size: int = -1) -> bytes:
        size = self._left if size < 0 else min(size, self._left)
        self._left -= size
        self._number += 1
        piece = (str(self._number).encode() * (size + 1))[:size]
        self.digest.update(piece)
        self.largest = max(self.largest, size)
        return piece

    def __iter__(self) -> Iterator[bytes]:
        return iter(lambda: self.read(64 * 1024), b"")


SIZE = 5_000_000


@pytest.mark.parametrize("app", [FLASK, STARLETTE, MIDDLEWARE, FASTAPI])
def test_multipart_of_unknown_length(app: str, workers: Workers) -> None:
    """A form with a large file that is made as it is sent, chunked, arrives; the app puts it on its disk."""
    file = Made(SIZE)
    with client_of(workers(app, max_connections=1)) as client:
        answer = client.post("/files", data={"comment": "grün"}, files={"file": ("ü.bin", file)}).json()  # type: ignore[dict-item]
    assert answer == {
        "form": {"comment": "grün"},
        "files": {"file": {"size": SIZE, "digest": file.digest.hexdigest(), "on_disk": True}},
        "length": None,
    }
    assert file.largest < SIZE


@pytest.mark.parametrize("app", [FLASK, WSGI, ASGI, STARLETTE, MIDDLEWARE, FASTAPI])
def test_multipart_of_known_length(app: str, workers: Workers, tmp_path: Path) -> None:
    """A form with a file of the disk arrives with its length; Django's TemporaryFileUploadHandler takes it."""
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * (SIZE // 10))
    with client_of(workers(app, max_connections=1)) as client, path.open("rb") as file:
        request = client.build_request("POST", "/files", data={"comment": "grün"}, files={"file": file})
        answer = client.send(request).json()
    assert answer == {
        "form": {"comment": "grün"},
        "files": {"file": {"size": SIZE, "digest": hashlib.sha256(path.read_bytes()).hexdigest(), "on_disk": True}},
        "length": int(request.headers["content-length"]),
    }


# Uploads that break off


def break_off(client: Client, url: str, headers: dict[str, str]) -> None:
    """Send a piece, and raise when the app asks for the next."""

    def pieces() -> Iterator[bytes]:
        yield b"first"
        raise Left

    with pytest.raises(Left):
        client.post(url, content=pieces(), headers=headers)


ENDS_OF_UPLOADS = [
    pytest.param(FLASK, "/upload", "ClientDisconnected", id="flask"),
    pytest.param(WSGI, "/upload-and-catch", "UnreadablePostError", id="django"),
    pytest.param(STARLETTE, "/upload", "ClientDisconnect", id="starlette"),
    pytest.param(MIDDLEWARE, "/upload", "ClientDisconnect", id="middleware"),
    pytest.param(FASTAPI, "/upload", "ClientDisconnect", id="fastapi"),
]


@pytest.mark.parametrize(("app", "path", "error"), ENDS_OF_UPLOADS)
def test_upload_that_breaks_off(app: str, path: str, error: str, workers: Workers, topic: str) -> None:
    """An app whose upload breaks off is told so in its framework's way; the only channel serves the next request."""
    with client_of(workers(app, max_connections=1)) as client:
        break_off(client, f"{path}/{topic}", length_of(app, 10))
        assert client.notes(topic) == ["begun", "first", error]


@pytest.mark.parametrize(("app", "path", "error"), ENDS_OF_UPLOADS)
def test_upload_that_is_cancelled(app: str, path: str, error: str, workers: Workers, topic: str) -> None:
    """The same when the client's task is cancelled while its generator makes the next piece."""

    worker = workers(app, max_connections=1)

    async def main() -> Any:
        async with httpx.AsyncClient(transport=IpcAsyncTransport(worker), **OPTIONS) as client:
            is_asked = asyncio.Event()

            async def pieces() -> AsyncIterator[bytes]:
                yield b"first"
                is_asked.set()
                await asyncio.Event().wait()

            headers = length_of(app, 10)
            upload = asyncio.create_task(client.post(f"{path}/{topic}", content=pieces(), headers=headers))
            await is_asked.wait()
            upload.cancel()
            assert isinstance((await asyncio.gather(upload, return_exceptions=True))[0], asyncio.CancelledError)
            return (await client.get(f"/notes/{topic}")).json()

    with nothing_left():
        assert asyncio.run(main()) == ["begun", "first", error]


def test_upload_that_breaks_off_before_the_view(workers: Workers, topic: str) -> None:
    """Django calls no ASGI view for a request that breaks off."""
    with client_of(workers(ASGI, max_connections=1)) as client:
        break_off(client, f"/upload/{topic}", {})
        assert client.notes(topic) == []


# Files


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("files") / "file.bin"
    path.write_bytes(b"".join(b"%07d\n" % number for number in range(SIZE // 8)))
    return path


FILES = [FLASK, STARLETTE, MIDDLEWARE, GZIP]


@pytest.mark.parametrize("app", FILES)
def test_file(app: str, workers: Workers, path: Path, topic: str) -> None:
    """A file arrives in pieces, with its length: from Starlette by http.response.pathsend."""
    with client_of(workers(app, max_connections=1)) as client:
        with client.stream("GET", f"/file/{topic}", params={"path": str(path)}) as response:
            assert response.headers["content-length"] == str(path.stat().st_size)
            assert "content-encoding" not in response.headers
            pieces = list(response.iter_raw())
        assert b"".join(pieces) == path.read_bytes()
        assert len(pieces) > 1
        if app != FLASK:
            assert client.notes(topic) == ["task"]


@pytest.mark.parametrize("app", FILES)
def test_parts_of_a_file(app: str, workers: Workers, path: Path, topic: str) -> None:
    """Ranges, HEAD and conditions give what they give over TCP."""
    content = path.read_bytes()
    with client_of(workers(app, max_connections=1)) as client:

        def get(method: str = "GET", **headers: str) -> httpx.Response:
            names = {name.replace("_", "-"): value for name, value in headers.items()}
            return client.request(method, f"/file/{topic}", params={"path": str(path)}, headers=names)

        part = get(range="bytes=8-15")
        assert (part.status_code, part.content) == (206, b"0000001\n")
        assert part.headers["content-range"] == f"bytes 8-15/{len(content)}"
        assert get(range="bytes=4000000-").content == content[4_000_000:]
        assert get(range="bytes=-8").content == content[-8:]
        assert get(range="bytes=90000000-").status_code == 416
        head = get("HEAD")
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", str(len(content)))
        same, other = head.headers["etag"], '"other"'
        assert get(range="bytes=8-15", if_range=same).content == b"0000001\n"
        assert get(range="bytes=8-15", if_range=other).content == content
        if app == FLASK:
            assert (get(if_none_match=same).status_code, get(if_none_match=same).content) == (304, b"")
        else:
            parts = get(range="bytes=0-7,80-87")
            assert parts.headers["content-type"].startswith("multipart/byteranges; boundary=")
            assert (parts.content.count(b"0000000\n"), parts.content.count(b"0000010\n")) == (1, 1)


OPEN_FILES = [
    pytest.param(FLASK, "/open-file", id="flask"),
    pytest.param(FLASK, "/wrapped-file", id="werkzeug"),
    pytest.param(WSGI, "/file", id="django"),
]


@pytest.mark.parametrize(("app", "url"), OPEN_FILES)
def test_open_file(app: str, url: str, workers: Workers, path: Path, topic: str) -> None:
    """An open file that a view answers with arrives in pieces, and is closed after that."""
    with client_of(workers(app, max_connections=1)) as client:
        with client.stream("GET", f"{url}/{topic}", params={"path": str(path)}) as response:
            pieces = list(response.iter_raw())
        assert b"".join(pieces) == path.read_bytes()
        assert len(pieces) > 1
        assert client.notes(topic) == ["closed"]


@pytest.mark.parametrize(("app", "url"), OPEN_FILES)
def test_leaving_an_open_file(app: str, url: str, workers: Workers, path: Path, topic: str) -> None:
    """An open file is closed when its response is left."""
    with client_of(workers(app, max_connections=1)) as client:
        with client.stream("GET", f"{url}/{topic}", params={"path": str(path)}) as response:
            assert next(response.iter_raw()).startswith(b"0000000\n")
        assert client.notes(topic) == ["closed"]


@pytest.mark.parametrize("app", [STARLETTE, MIDDLEWARE, GZIP])
def test_leaving_a_file(app: str, workers: Workers, path: Path, topic: str) -> None:
    """A file that is sent by its path is closed when its response is left."""
    worker = workers(app, max_connections=1)
    with client_of(worker) as client:
        with client.stream("GET", f"/file/{topic}", params={"path": str(path)}) as response:
            assert next(response.iter_raw()).startswith(b"0000000\n")
        assert str(path) not in client.get("/open-files").json()


# Templates


@pytest.mark.parametrize("app", [STARLETTE, MIDDLEWARE])
def test_debug_extension(app: str, workers: Workers) -> None:
    """The template's name and what of its context can cross are in the response's extensions, as with TestClient."""
    with client_of(workers(app, max_connections=1)) as client:
        response = client.get("/page")
    assert response.text == "<p>Ada, 3</p>"
    debug = response.extensions["http.response.debug"]
    assert debug["template"].name == "page.html"
    assert (debug["context"]["name"], debug["context"]["n"]) == ("Ada", 3)


def test_template_that_is_streamed(workers: Workers, topic: str) -> None:
    """A Jinja template over an endless generator is read as far as one likes."""
    with client_of(workers(FLASK, max_connections=1)) as client:
        with client.stream("GET", f"/template/{topic}") as response:
            lines = response.iter_lines()
            assert [next(lines) for _ in range(3)] == ["<li>1</li>", "<li>2</li>", "<li>3</li>"]
        assert client.notes(topic) == ["begun", "left"]


# Pieces


@pytest.mark.parametrize(
    ("app", "url"),
    [
        pytest.param(FLASK, "/odd", id="flask"),
        pytest.param(WSGI, "/odd", id="django-wsgi"),
        pytest.param(ASGI, "/async/odd", id="django-asgi"),
        pytest.param(STARLETTE, "/odd", id="starlette"),
        pytest.param(MIDDLEWARE, "/odd", id="middleware"),
    ],
)
def test_odd_pieces(app: str, url: str, workers: Workers) -> None:
    """Lines and characters that pieces split are put together; raw, the pieces are as the app has made them."""
    reads: dict[str, Any] = {
        "iter_raw": ODD_PIECES,
        "iter_bytes": ODD_PIECES,
        "iter_lines": ["one", "two", "three \N{SNAKE}", "", "five", "six"],
    }
    with client_of(workers(app, max_connections=1)) as client:
        for name, expected in reads.items():
            with client.stream("GET", url) as response:
                assert list(getattr(response, name)()) == expected
        with client.stream("GET", url) as response:
            assert "".join(response.iter_text()) == ODD_TEXT
        with client.stream("GET", url) as response:
            pieces = [piece.decode("latin-1") for piece in response.iter_raw(chunk_size=7)]
            assert pieces == re.findall("(?s).{1,7}", ODD_TEXT.encode().decode("latin-1"))

        async def read() -> list[str]:
            transport = IpcAsyncTransport(workers(app, max_connections=1))
            async with httpx.AsyncClient(transport=transport, **OPTIONS) as client:
                async with client.stream("GET", url) as response:
                    return [line async for line in response.aiter_lines()]

        assert asyncio.run(read()) == reads["iter_lines"]


def test_compressed_lines_come_when_they_are_sent(workers: Workers, topic: str) -> None:
    """A line that Starlette's GZipMiddleware compresses is decoded here before the next is sent."""
    with client_of(workers(GZIP)) as client:
        client.publish(topic, "one")
        with client.stream("GET", f"/lines/{topic}") as response:
            assert response.headers["content-encoding"] == "gzip"
            lines = response.iter_lines()
            assert next(lines) == "1 one"
            client.publish(topic, "two")
            assert next(lines) == "2 two"
            client.publish(topic, "end")
            assert list(lines) == []


@pytest.mark.parametrize(
    ("app", "url"),
    [
        pytest.param(GZIP, "/lines", id="starlette"),
        pytest.param(WSGI, "/zipped-lines", id="django-wsgi"),
        pytest.param(ASGI, "/async/zipped", id="django-asgi"),
    ],
)
def test_compressed_lines_raw(app: str, url: str, workers: Workers, topic: str) -> None:
    """Raw, compressed lines are as the middleware has made them, one by one: they are gzip."""
    with client_of(workers(app)) as client:
        client.publish(topic, "one")
        with client.stream("GET", f"{url}/{topic}") as response:
            pieces = response.iter_raw()
            first = next(pieces)
            for word in ("two", "end"):
                client.publish(topic, word)
            assert gzip.decompress(first + b"".join(pieces)) == b"1 one\n2 two\n"


# Leaving


@pytest.mark.parametrize(
    ("app", "url", "notes"),
    [
        pytest.param(FLASK, "/closing", ["left", "request torn down", "response closed"], id="flask"),
        pytest.param(FLASK, "/async", ["begun", "left"], id="flask-async"),
        pytest.param(WSGI, "/zipped", ["begun", "left"], id="django-gzip"),
        pytest.param(WSGI, "/closing", ["left", "response closed"], id="django"),
        pytest.param(MIDDLEWARE, "/endless", ["begun", "left"], id="middleware"),
        pytest.param(MIDDLEWARE, "/sync/endless", ["begun", "left"], id="middleware-sync"),
        pytest.param(MIDDLEWARE, "/sse/endless", ["begun", "left"], id="middleware-sse"),
        pytest.param(GZIP, "/endless", ["begun", "left"], id="gzip"),
    ],
)
def test_leaving_an_endless_stream(app: str, url: str, notes: list[str], workers: Workers, topic: str) -> None:
    """An endless stream is stopped when it is left, and all that the framework does after a stream is done."""
    with client_of(workers(app, max_connections=1)) as client:
        with client.stream("GET", f"{url}/{topic}") as response:
            pieces = response.iter_bytes()
            for _ in range(10):
                assert next(pieces)
        client.wait_for(topic, "left")
        assert client.notes(topic)[-len(notes) :] == notes


@pytest.mark.parametrize(
    ("app", "url", "notes"),
    [
        pytest.param(STARLETTE, "/lines", ["begun", "left"], id="starlette"),
        pytest.param(STARLETTE, "/task", ["begun", "left"], id="background-task"),
        pytest.param(STARLETTE, "/cancelling-twice", ["begun", "left"], id="cancelling-twice"),
        pytest.param(MIDDLEWARE, "/lines", ["begun", "left"], id="middleware"),
        pytest.param(GZIP, "/lines", ["begun", "left"], id="gzip"),
        pytest.param(ASGI, "/async/zipped", ["begun", "left"], id="django-gzip"),
        pytest.param(ASGI, "/async/closing", ["begun", "left", "response closed"], id="django"),
        pytest.param(FASTAPI, "/items", ["opened", "begun", "left", "closed"], id="json-lines"),
        pytest.param(
            FASTAPI,
            "/session",
            ["opened", "opened in a thread", "begun", "left", "closed in a thread", "closed"],
            id="dependencies",
        ),
    ],
)
def test_leaving_a_stream_that_waits(app: str, url: str, notes: list[str], workers: Workers, topic: str) -> None:
    """A stream that waits is stopped when it is left, and dependencies are torn down before the channel serves on."""
    with client_of(workers(app, max_connections=1)) as client:
        client.publish(topic, "one")
        with client.stream("GET", f"{url}/{topic}") as response:
            assert "one" in next(response.iter_lines())
        assert client.notes(topic) == notes


def test_leaving_a_stream_that_waits_in_its_thread(workers: Workers, topic: str) -> None:
    """A stream whose sync code waits when it is left keeps its channel until that code lets go, and no longer."""
    with client_of(workers(ASGI, max_connections=2)) as client:
        client.publish(topic, "one")
        with client.stream("GET", f"/async/threaded/{topic}") as response:
            assert next(response.iter_lines()) == "1 one"
        client.publish(topic, "two")
        client.wait_for(topic, "left")
        with client.stream("GET", f"/async/endless/{topic}") as response:
            assert next(response.iter_lines()) == "id: 1"
            assert client.notes(topic) == ["begun", "left", "begun"]  # both channels serve


@pytest.mark.parametrize(
    ("app", "url"),
    [
        pytest.param(WSGI, "/endless", id="django-wsgi"),
        pytest.param(ASGI, "/async/endless", id="django-asgi"),
        pytest.param(STARLETTE, "/endless", id="starlette"),
        pytest.param(MIDDLEWARE, "/sync/endless", id="middleware"),
    ],
)
def test_head_of_an_endless_stream(
    app: str, url: str, workers: Workers, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HEAD of a stream that does not look at the method is answered, though the stream has no end, and then left."""
    monkeypatch.setattr(responses, "_PATIENCE", Timeouts(read=0.05))
    with client_of(workers(app, max_connections=1)) as client:
        response = client.head(f"{url}/{topic}")
        assert (response.status_code, response.content) == (200, b"")
        client.wait_for(topic, "left")


# Not below BaseHTTPMiddleware, where Starlette's is_disconnected() is never true.
@pytest.mark.parametrize("app", [STARLETTE, GZIP])
def test_polling_whether_the_client_is_there(app: str, workers: Workers, topic: str) -> None:
    """`request.is_disconnected()` is false while the client reads, and true when it has left."""
    with client_of(workers(app, max_connections=1)) as client:
        with client.stream("GET", f"/polling/{topic}") as response:
            assert next(response.iter_lines()) == "there"
        assert client.notes(topic) == ["begun", "not there"]


@pytest.mark.parametrize("app", [STARLETTE, MIDDLEWARE])
def test_background_task_after_a_stream(app: str, workers: Workers, topic: str) -> None:
    """The background task of a stream has run when its last line is read."""
    with client_of(workers(app, max_connections=1)) as client:
        for word in ("one", "two", "end"):
            client.publish(topic, word)
        with client.stream("GET", f"/task/{topic}") as response:
            assert list(response.iter_lines()) == ["1 one", "2 two"]
        assert client.notes(topic) == ["begun", "ended", "task begun", "task ended"]


def test_dependencies_after_a_stream(workers: Workers, topic: str) -> None:
    """FastAPI's dependencies are torn down after the stream, and its background tasks have run."""
    with client_of(workers(FASTAPI, max_connections=1)) as client:
        for word in ("one", "end"):
            client.publish(topic, word)
        assert client.get(f"/session/{topic}").text == "1 one\n"
        notes = client.notes(topic)
        assert notes[:4] == ["opened", "opened in a thread", "begun", "ended"]
        assert sorted(notes[4:]) == ["closed", "closed in a thread", "task"]


def test_json_lines(workers: Workers, topic: str) -> None:
    """FastAPI's JSON lines come as they are yielded."""
    with client_of(workers(FASTAPI)) as client:
        client.publish(topic, "one")
        with client.stream("GET", f"/items/{topic}") as response:
            lines = response.iter_lines()
            assert json.loads(next(lines)) == {"number": 1, "data": "one"}
            client.publish(topic, "two")
            assert json.loads(next(lines)) == {"number": 2, "data": "two"}
            client.publish(topic, "end")
            assert list(lines) == []
        assert client.notes(topic) == ["opened", "begun", "ended", "closed"]


def test_context_variables_of_a_wsgi_stream(workers: Workers, topic: str) -> None:
    """A generator of a WSGI app is iterated and closed in the context that its view was called in."""
    with client_of(workers(FLASK, max_connections=1)) as client:
        for _ in range(2):
            with client.stream("GET", f"/visitor/{topic}") as response:
                lines = response.iter_lines()
                assert [next(lines) for _ in range(3)] == [f"nobody, then {topic} in its stream"] * 3
        assert client.notes(topic) == ["begun", "left", topic, "begun", "left", topic]


def test_context_variables_of_an_asgi_stream(workers: Workers, topic: str) -> None:
    """The same for an async generator; and a sync one sees the context of its route in each thread."""
    with client_of(workers(STARLETTE, max_connections=1)) as client:
        client.publish(topic, "one")
        for _ in range(2):
            with client.stream("GET", f"/visitor/{topic}") as response:
                assert next(response.iter_lines()) == f"nobody, then {topic} in its stream"
        assert client.notes(topic) == ["begun", "left", topic, "begun", "left", topic]
        assert client.get(f"/sync/visitor/{topic}").text == f"nobody, then {topic}\n" * 3


needs_task_group = pytest.mark.skipif(sys.version_info < (3, 11), reason="asyncio.TaskGroup came with Python 3.11")


# Not below BaseHTTPMiddleware, which drops what is raised when it is cancelled.
@pytest.mark.parametrize(
    ("app", "url"),
    [
        pytest.param(FLASK, "/littering", id="flask"),
        pytest.param(ASGI, "/async/littering", id="django"),
        pytest.param(STARLETTE, "/littering", id="starlette"),
        pytest.param(STARLETTE, "/group", id="group", marks=needs_task_group),
        pytest.param(FASTAPI, "/littering", id="fastapi"),
    ],
)
@pytest.mark.filterwarnings("ignore:Unclosed file <tempfile:ResourceWarning")  # Django's, of a request that fails
def test_clean_up_that_fails(
    app: str, url: str, workers: Workers, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    """What the app raises of its own when its client has left is logged with its traceback; the channel serves on."""
    with client_of(workers(app, max_connections=1)) as client:
        client.publish(topic, "one")
        with client.stream("GET", f"{url}/{topic}") as response:
            assert next(response.iter_lines()).startswith("1")
        assert client.notes(topic) == ["begun", "left"]
    (record,) = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert (record.name, record.levelname) == ("socketless", "ERROR")
    text = record.getMessage()
    assert text.startswith(f"GET {url}/{topic}: the app raised after its client had gone:\n")
    assert 'raise ValueError("the clean-up fails")' in text
    assert "ValueError: the clean-up fails" in text
    caplog.clear()


# The switch


@pytest.mark.parametrize("app", [FLASK, STARLETTE])
def test_under_the_switch(app: str, topic: str) -> None:
    """Plain `httpx.stream()` and `httpx.post()` stream both ways under the switch."""
    with nothing_left(), switch_to_ipc_connection(f"apps.streaming.{app}", max_connections=2):

        def pieces() -> Iterator[bytes]:
            for word in ("first", "other"):
                yield word.encode()
                httpx.get(f"/wait/{topic}/{word}/1", timeout=LIMIT)

        assert httpx.post(f"/upload/{topic}", content=pieces(), timeout=LIMIT).text == "read"
        with httpx.stream("GET", "/odd", timeout=LIMIT) as response:
            assert list(response.iter_lines()) == ["one", "two", "three \N{SNAKE}", "", "five", "six"]
        for number in range(4):
            with httpx.stream("GET", f"/endless/{topic}-{number}", timeout=LIMIT) as response:
                assert next(response.iter_lines()) == "id: 1"
            httpx.get(f"/wait/{topic}-{number}/left/1", timeout=LIMIT).raise_for_status()


@pytest.mark.parametrize("app", [FLASK, STARLETTE])
def test_closing_a_response(app: str, workers: Workers, topic: str) -> None:
    """A response that was asked for with stream=True is left by closing it."""
    with client_of(workers(app, max_connections=1)) as client:
        response = client.send(client.build_request("GET", f"/endless/{topic}"), stream=True)
        assert next(response.iter_lines()) == "id: 1"
        response.close()
        client.wait_for(topic, "left")
        with pytest.raises(httpx.StreamError), suppress(StopIteration):
            next(response.iter_raw())
