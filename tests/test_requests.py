"""`socketless.requests` over a worker, where `tests/conformance.py` does not look: what is requests' own."""

from __future__ import annotations

import gc
import gzip
import io
import pickle
import subprocess
import sys
import threading
import time
import zlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import urllib3.util

from socketless import IpcProcess, IpcThread, errors
from socketless._host.worker import Worker
from socketless._requests.errors import NAMES, body_error, head_error
from socketless.requests import IpcAdapter, Session
from support import LIMIT, nothing_leaks

APP = "apps.conformance_app:wsgi"
CONTENT = bytes(range(256)) * 1000


def compressed(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    """Answer in the encoding that the path names, in pieces."""
    name = environ["PATH_INFO"][1:]
    body = {"gzip": gzip.compress, "deflate": zlib.compress}[name](CONTENT)
    start_response("200 OK", [("Content-Encoding", name), ("X-Size", str(len(body)))])
    for start in range(0, len(body), 100):
        yield body[start : start + 100]


def os_error(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterator[bytes]:
    """Raise what urllib3 takes for the end of a connection."""
    start_response("200 OK", [])
    yield b"first"
    raise {"/os": OSError, "/time": TimeoutError}[environ["PATH_INFO"]]("the app's own")


@pytest.fixture(scope="module", params=[IpcProcess, IpcThread])
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with request.param(APP, max_connections=2) as worker:
        yield worker


@pytest.fixture
def session(worker: Worker) -> Iterator[Session]:
    with Session(worker=worker) as session:
        yield session


def test_mounted_adapter(worker: Worker) -> None:
    """An adapter answers for what it is mounted on, and any session of requests takes it."""
    with requests.Session() as session:
        session.mount("http://app.test/", IpcAdapter(worker))
        response = session.get("http://app.test/seen", timeout=LIMIT)
        assert response.json()["server"] == ["app.test", 80]
        assert repr(response.connection) == f"<IpcAdapter {worker!r}>"
        session.mount("app://", IpcAdapter(worker))
        with pytest.raises(requests.exceptions.InvalidSchema) as caught:
            session.get("app://seen", timeout=LIMIT)
        assert str(caught.value) == "a worker answers http:// and https://, not 'app://seen'"


def test_arguments(worker: Worker) -> None:
    """What is no worker is refused, and so are options of one that is not there."""
    with pytest.raises(
        TypeError, match="^IpcAdapter takes a worker, IpcAdapter\\(IpcProcess\\('app:app'\\)\\), not 'app"
    ):
        IpcAdapter("app:app")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^write Session\(worker=...\) for a worker; url_scheme must be a"):
        Session(worker)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="^without a worker, Session takes no root_path$"):
        Session(root_path="/api")
    with Session(worker=worker, root_path="/api") as session:
        assert session.get("/seen", timeout=LIMIT).json()["root_path"] == "/api"


def test_raw_headers(session: Session) -> None:
    """The values of a header that is repeated are all there."""
    response = session.get("/headers", timeout=LIMIT)
    assert response.raw.headers.getlist("x-one") == ["a", "c"]
    assert response.headers == {"x-one": "a, c", "x-two": "b", "content-length": "2"}
    assert (response.reason, response.raw.version, response.raw.status) == ("Whatever", 11, 200)


def test_cookies(session: Session) -> None:
    """Cookies of a response go with the next request of the session."""
    session.get("/set-cookies", timeout=LIMIT)
    assert dict(session.get("/seen", timeout=LIMIT).json()["headers"])["cookie"] == "a=1; b=2"


def test_hooks_and_redirects(session: Session) -> None:
    """Hooks see each response; a redirect is followed with the session's own rules."""
    seen: list[int] = []
    session.hooks["response"].append(lambda response, **options: seen.append(response.status_code))
    response = session.get("/redirect", timeout=LIMIT)
    assert (response.json()["path"], seen) == ("/echo-redirected", [302, 200])
    assert session.head("/redirect", timeout=LIMIT).next is not None
    file = io.BytesIO(b"body")
    assert session.post("/redirect", data=file, timeout=LIMIT).json()["method"] == "GET"


def test_proxies_do_not_matter(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker is reached without a proxy and a certificate, whatever the environment or the caller says."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/no/such/file")
    for url in ("/seen", "https://example.org/seen"):
        for options in ({}, {"verify": "/no/such/file", "cert": "/no/such/file", "proxies": {"http": "http://x:1"}}):
            assert session.get(url, timeout=LIMIT, **options).json()["path"] == "/seen"  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [io.BytesIO, io.StringIO])
def test_file_as_body(session: Session, make: Any) -> None:
    """A file is streamed with its length, text as UTF-8; it stays open."""
    content = "abc" * 50_000
    file = make(content if make is io.StringIO else content.encode())
    response = session.post("/stream/echo?size=65536", data=file, timeout=LIMIT)
    assert (response.text, response.headers["x-length"]) == (content, "150000")
    assert not file.closed


def test_text_in_a_body(session: Session) -> None:
    """A body's pieces may be text, as over a connection; what is neither bytes nor text is refused."""
    chunks: Any = iter(["caf\xe9 ", b"noir"])
    assert session.post("/echo", data=chunks, timeout=LIMIT).content == "caf\xe9 noir".encode()
    wrong: Any = iter([["text"]])
    with pytest.raises(errors.TransferError, match="the request's body holds list, which is not bytes$"):
        session.post("/echo", data=wrong, timeout=LIMIT)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda body: array("B", body), bytes.decode])
def test_whole_body(session: Session, make: Any) -> None:
    """A body is whatever has bytes, or text."""
    assert session.post("/echo", data=make(b"abc" * 1000), timeout=LIMIT).content == b"abc" * 1000


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("http://app.test:80/seen", "app.test"),
        ("http://me:pass@app.test:81/seen", "app.test:81"),
        ("https://[::1]:443/seen", "[::1]"),
    ],
)
def test_host(session: Session, url: str, host: str) -> None:
    """The Host header is what a connection would have; one that is given stays."""
    assert dict(session.get(url, timeout=LIMIT).json()["headers"])["host"] == host
    headers = {"Host": "other", "Accept-Encoding": urllib3.util.SKIP_HEADER}
    seen = dict(session.get(url, headers=headers, timeout=LIMIT).json()["headers"])
    assert (seen["host"], seen.get("accept-encoding")) == ("other", None)


def test_pieces(session: Session) -> None:
    """Pieces are of the size that is asked for, where there is a Content-Length; else no larger, and as they come."""
    url = "/stream/chunks?chunks=abcdef,gh,ijk"
    for more, expected in (("", [b"abcd", b"ef", b"gh", b"ijk"]), ("&length_is=11", [b"abcd", b"efgh", b"ijk"])):
        with session.get(url + more, stream=True, timeout=LIMIT) as response:
            assert list(response.iter_content(4)) == expected
        with session.get(url + more, stream=True, timeout=LIMIT) as response:
            assert list(response.iter_content(None)) == [b"abcdef", b"gh", b"ijk"]
        with session.get(url + more, stream=True, timeout=LIMIT) as response:
            assert [response.raw.read(7), response.raw.read(), response.raw.read(5)] == [b"abcdefg", b"hijk", b""]
        with session.get(url + more, stream=True, timeout=LIMIT) as response:
            assert next(response.iter_content(2)) == b"ab"
        if hasattr(urllib3.HTTPResponse, "read1"):  # an older urllib3 has none
            with session.get(url + more, stream=True, timeout=LIMIT) as response:
                assert [response.raw.read1(4), response.raw.read1(), response.raw.read1()] == [b"abcd", b"ef", b"gh"]
    url = "/stream/chunks?chunks=one%0Atw,o%0Athree"
    with session.get(url, stream=True, timeout=LIMIT) as response:
        assert list(response.iter_lines(decode_unicode=True)) == [b"one", b"two", b"three"]
    response = session.get("/stream/chunks?chunks=a,b", timeout=LIMIT)
    assert list(response.iter_content(1)) == [b"a", b"b"]
    assert response.raw.closed


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_decoding(name: str) -> None:
    """A body that is compressed is decoded, streamed or not; `raw` has it as it came, or decoded."""
    with IpcThread(compressed) as worker, Session(worker=worker) as session:
        response = session.get(f"/{name}", timeout=LIMIT)
        assert response.content == CONTENT
        size = int(response.headers["X-Size"])
        with session.get(f"/{name}", stream=True, timeout=LIMIT) as response:
            assert b"".join(response.iter_content(1000)) == CONTENT
        with session.get(f"/{name}", stream=True, timeout=LIMIT) as response:
            assert len(response.raw.read()) == size
        with session.get(f"/{name}", stream=True, timeout=LIMIT) as response:
            assert response.raw.read(decode_content=True) == CONTENT


@pytest.mark.parametrize(("path", "kind"), [("/os", OSError), ("/time", TimeoutError)])
def test_os_error_of_the_app(path: str, kind: type[Exception]) -> None:
    """An OSError of the app is raised as it is: it is none of the connection."""
    with IpcThread(os_error) as worker, Session(worker=worker) as session:
        with pytest.raises(kind, match="^the app's own$") as caught:
            session.get(path, timeout=LIMIT)
        assert type(caught.value) is kind


@pytest.mark.parametrize(
    "timeout",
    [0.01, (LIMIT, 0.01), (None, 0.01), urllib3.Timeout(connect=LIMIT, read=0.01), urllib3.Timeout(total=0.01)],
)
def test_read_timeout(timeout: Any) -> None:
    """An app that does not answer is requests' ReadTimeout, with the request."""
    go_on = threading.Event()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        go_on.wait()
        start_response("200 OK", [])
        return [b"late"]

    with IpcThread(app) as worker, Session(worker=worker) as session:
        with pytest.raises(requests.ReadTimeout) as caught:
            session.get("/hang", timeout=timeout)
        assert isinstance(caught.value, errors.ReadTimeout)
        assert caught.value.request is not None
        assert caught.value.request.url == "http://testserver/hang"
        go_on.set()
        assert session.get("/", timeout=None).text == "late"


def test_errors_that_are_taken_apart() -> None:
    """An error of requests has the one of urllib3 as its argument, with the host and the path that were asked for."""
    request = requests.Request("GET", "https://shop.example:8443/a?b").prepare()
    timeout: Any = head_error(errors.ReadTimeout("late", "its stack"), request)
    assert isinstance(timeout.args[0], urllib3.exceptions.ReadTimeoutError)
    pool: Any = timeout.args[0].pool
    assert (pool.host, pool.port, pool.scheme, timeout.args[0].url) == ("shop.example", 8443, "https", "/a?b")
    assert (str(timeout).splitlines()[0], timeout.stack) == ("late", "its stack")
    reasons = {
        errors.PoolTimeout: urllib3.exceptions.ConnectTimeoutError,
        errors.WorkerStartError: urllib3.exceptions.NewConnectionError,
    }
    for cls, reason in reasons.items():
        error: Any = head_error(cls("why"), request)
        assert isinstance(error.args[0], urllib3.exceptions.MaxRetryError)
        assert isinstance(error.args[0].reason, reason)
        assert error.args[0].url == "/a?b"
    dead: Any = head_error(errors.WorkerDied("GET /", 5, -9), request)
    assert isinstance(dead.args[0], urllib3.exceptions.ProtocolError)
    assert isinstance(dead.args[0].args[1], ConnectionResetError)


def test_default_headers(session: Session) -> None:
    """What requests is told not to say, urllib3 says, unless it is told as well."""
    nothing: dict[str, Any] = {"User-Agent": None, "Accept-Encoding": None}
    seen = dict(session.get("/seen", headers=nothing, timeout=LIMIT).json()["headers"])
    assert (seen["user-agent"], seen["accept-encoding"]) == (f"python-urllib3/{urllib3.__version__}", "identity")
    skipped = dict.fromkeys(nothing, urllib3.util.SKIP_HEADER)
    seen = dict(session.get("/seen", headers=skipped, timeout=LIMIT).json()["headers"])
    assert seen.keys().isdisjoint({"user-agent", "accept-encoding"})


def test_subclass_that_makes_responses(worker: Worker) -> None:
    """A subclass may make more of a response, and of what comes from elsewhere, as of an HTTPAdapter."""

    class Marking(IpcAdapter):
        def build_response(self, req: Any, resp: Any) -> Any:
            response = super().build_response(req, resp)
            response.headers["X-Marked"] = "yes"
            return response

    with requests.Session() as session:
        session.mount("http://", Marking(worker))
        assert session.get("http://testserver/seen", timeout=LIMIT).headers["X-Marked"] == "yes"
        raw = urllib3.HTTPResponse(io.BytesIO(b"body"), status=418, preload_content=False)
        response = Marking(worker).build_response(session.prepare_request(requests.Request("GET", "http://x/")), raw)
        assert (response.status_code, response.text) == (418, "body")


def test_pool_timeout(worker: Worker, session: Session) -> None:
    """Where all channels are busy, it is requests' ConnectTimeout: nothing was sent."""
    options: dict[str, Any] = {"stream": True, "timeout": LIMIT}
    with session.get("/stream/endless?size=5000", **options), session.get("/stream/endless?size=5000", **options):
        with pytest.raises(requests.ConnectTimeout) as caught:
            session.get("/seen", timeout=(0.01, LIMIT))
        assert isinstance(caught.value, errors.PoolTimeout)


@pytest.mark.parametrize("timeout", [(1, 2, 3), (1,)])
def test_bad_timeout(session: Session, timeout: Any) -> None:
    """A timeout of another shape is refused as requests refuses it."""
    with pytest.raises(ValueError) as caught:
        session.get("/seen", timeout=timeout)
    assert str(caught.value) == f"a timeout is seconds, or (connect, read), not {timeout!r}"


def test_worker_that_dies_in_the_body() -> None:
    """A worker that dies while the body comes breaks it off."""
    with IpcProcess(APP) as worker, Session(worker=worker) as session:
        with session.get("/stream/endless?size=5000", stream=True, timeout=LIMIT) as response:
            chunks = response.iter_content(None)
            next(chunks)
            with pytest.raises(requests.ConnectionError):
                session.get("/exit", timeout=LIMIT)
            with pytest.raises(requests.exceptions.ChunkedEncodingError) as caught:
                list(chunks)
        assert isinstance(caught.value, errors.WorkerDied)


def test_errors() -> None:
    """Each error of an exchange is one of requests, in the head and in the body, and can be pickled."""
    request = requests.Request("GET", "http://testserver/").prepare()
    own = {errors.SocketlessError, errors.ExchangeTimeout, errors.StateError, errors.AppError, errors.TransferError}
    not_of_a_client = {errors.ClientDisconnected, errors.RemoteProtocolError, errors.WebSocketDisconnect}
    assert set(NAMES) == {getattr(errors, name) for name in errors.__all__} - own - not_of_a_client
    for cls in NAMES:
        error = cls(*(("GET /", 5, -9, "end") if cls is errors.WorkerDied else ("text",)))
        for as_theirs in (head_error, body_error):
            both: Any = as_theirs(error, request)
            copy = pickle.loads(pickle.dumps(both))
            assert isinstance(both, requests.RequestException)
            assert isinstance(both, cls)
            assert (both.request, both.response) == (request, None)
            assert (type(copy), str(copy), copy.args) == (type(both), str(error), error.args)
            assert (copy.request, copy.response) == (None, None)
    other = errors.StateError("text")
    assert head_error(other, request) is body_error(other, request) is other


def test_response_that_is_pickled(session: Session) -> None:
    """A response can be pickled, as requests' own."""
    copy = pickle.loads(pickle.dumps(session.get("/status/404", timeout=LIMIT)))
    assert (copy.status_code, copy.text) == (404, "hello")


def test_elapsed_and_history(session: Session) -> None:
    """What requests measures and keeps is there."""
    before = time.monotonic()
    response = session.get("/redirect", timeout=LIMIT)
    assert 0 < response.elapsed.total_seconds() <= time.monotonic() - before
    assert [each.status_code for each in response.history] == [302]


@pytest.mark.parametrize("kind", [IpcProcess, IpcThread])
def test_response_that_is_dropped(kind: Any) -> None:
    """A response that is dropped before its end ends without a warning, and its channel serves the next request."""
    with nothing_leaks(), kind(APP, max_connections=1) as worker, Session(worker=worker) as session:
        for _ in range(3):
            response = session.get("/stream/endless?size=5000", stream=True, timeout=LIMIT)
            assert next(response.iter_content(10)) == b"x" * 10
            del response
            gc.collect()
            assert session.get("/status/200", timeout=LIMIT).text == "hello"
            session.get("/stream/endless?size=5000", stream=True, timeout=LIMIT)  # nobody reads it
            gc.collect()


@pytest.mark.parametrize("kind", [IpcProcess, IpcThread])
def test_nothing_leaks(kind: Any) -> None:
    """A response outlives its session, and ends with its worker, with which all is gone."""
    with nothing_leaks():
        with kind(APP, max_connections=2) as worker:
            with Session(worker=worker) as session:
                response = session.get("/stream/endless?size=5000", stream=True, timeout=LIMIT)
                chunks = response.iter_content(None)
                next(chunks)
            with Session(worker=worker) as session:
                assert session.get("/status/200", timeout=LIMIT).text == "hello"
            assert next(chunks)
        with pytest.raises((requests.RequestException, errors.StateError)):
            list(chunks)


def test_without_requests() -> None:
    """Where requests is missing, the package says what to install, and the switch works."""
    program = """
import sys
sys.modules["requests"] = None
import socketless.requests
try:
    from socketless.requests import Session
except ModuleNotFoundError as error:
    assert error.name == "requests"
    print(error)
from socketless import switch_to_ipc_connection
import httpx
del sys.modules["requests"]
sys.modules["requests.adapters"] = None
with switch_to_ipc_connection("wsgiref.simple_server:demo_app"):
    assert httpx.get("/").status_code == 200
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT)
    assert (done.stdout, done.stderr) == (
        "socketless.requests needs requests: pip install 'socketless-testing[requests]'\n",
        "",
    )


def test_public_names() -> None:
    """Every public name can be imported, and `dir()` shows it; others are none."""
    import socketless.requests as package

    assert all(getattr(package, name) for name in package.__all__)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="^module 'socketless.requests' has no attribute 'Sesion'$"):
        _ = package.Sesion
    assert Path(str(package.__file__)).parent.name == "requests"
