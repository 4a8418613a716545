"""`socketless.requests` over real UNIX sockets, with waitress and our own server as peers."""

from __future__ import annotations

import gc
import os
import pickle
import socket
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
import requests
import waitress

import socketless.requests as package
from socketless import IpcProcess, IpcThread, switch_to_ipc_connection
from socketless.requests import DEFAULT_SCHEME, Session, UnixAdapter, monkeypatch
from socketless.requests.testutils import UnixSocketServerThread
from support import LIMIT, nothing_leaks, unix_sockets_are_refused

pytestmark = pytest.mark.skipif(
    unix_sockets_are_refused(), reason="UNIX sockets are sockets, and this sandbox refuses them"
)

METHODS = ("get", "post", "head", "patch", "put", "delete", "options")
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="abstract sockets are Linux's own")


def url_of(path: str | bytes, target: str = "/", scheme: str = DEFAULT_SCHEME) -> str:
    return f"{scheme}{quote(path, safe='')}{target}"


def pools_of(session: requests.Session) -> list[Any]:
    pools: Any = session.get_adapter(DEFAULT_SCHEME).pools  # type: ignore[attr-defined]
    return [pools[key] for key in pools.keys()]


@pytest.fixture
def thread() -> Iterator[UnixSocketServerThread]:
    with nothing_leaks(), UnixSocketServerThread() as thread:
        yield thread


@pytest.fixture
def session() -> Iterator[Session]:
    with Session() as session:
        yield session


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """Answer with what was sent."""
    body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response(
        "200 OK", [("Set-Cookie", "a=1"), ("X-Path", environ["PATH_INFO"]), ("Content-Length", str(len(body)))]
    )
    return [body]


@contextmanager
def waitress_on(path: str) -> Iterator[None]:
    # waitress runs until its map of sockets is empty, which is seen by who wakes it.
    channels: dict[int, Any] = {}
    server: Any = waitress.create_server(app, unix_socket=path, map=channels, threads=2)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield
    finally:
        with server.trigger.lock:  # or a pull before this one may close the trigger before it is pulled
            server.trigger.thunks.append(lambda: [channel.close() for channel in [*channels.values()]])
            server.trigger._physical_pull()
        thread.join(LIMIT)
        server.task_dispatcher.shutdown()
        os.unlink(path)


@pytest.mark.parametrize("method", METHODS)
def test_what_the_thread_answers(thread: UnixSocketServerThread, session: Session, method: str) -> None:
    """Every method is answered with `Hello world!`, and with what was asked for."""
    url = url_of(thread.usock, "/path/to%20it?timestamp=true&x=%2F")
    response = getattr(session, method)(url)
    assert (response.status_code, response.text) == (200, "" if method == "head" else "Hello world!")
    assert response.headers["X-Transport"] == "unix domain socket"
    assert response.headers["X-Socket-Path"] == thread.usock
    assert response.headers["X-Requested-Path"] == "/path/to it"
    assert response.headers["X-Requested-Query-String"] == "timestamp=true&x=%2F"
    assert isinstance(response.connection, UnixAdapter)
    assert response.url == url
    assert getattr(package, method)(url).status_code == 200
    assert package.request(method, url).headers["X-Socket-Path"] == thread.usock


def test_waitress(tmp_path: Path, session: Session) -> None:
    """Another server's answers arrive, with bodies, cookies and streams; one connection carries all of them."""
    path = str(tmp_path / "a b+c%.sock")
    with waitress_on(path):
        for number in range(5):
            response = session.post(url_of(path, f"/{number}"), data=b"x" * 100_000)
            assert (len(response.content), response.headers["X-Path"]) == (100_000, f"/{number}")
        assert session.cookies.get_dict() == {"a": "1"}
        with session.post(url_of(path, "/streamed"), data=b"one\ntwo", stream=True) as response:
            assert list(response.iter_lines()) == [b"one", b"two"]
        (pool,) = pools_of(session)
        assert (pool.num_connections, pool.num_requests) == (1, 6)


def test_one_pool_for_each_socket(thread: UnixSocketServerThread, session: Session) -> None:
    """Whatever the URL, one socket has one pool, which uses its connection again."""
    for target in ("/", "/a", "/b?c=d", "/e#f"):
        session.get(url_of(thread.usock, target))
    session.get(f"{DEFAULT_SCHEME}{thread.usock.replace('/', '%2f')}/again")
    (pool,) = pools_of(session)
    assert (pool.num_connections, pool.num_requests) == (1, 5)
    with UnixSocketServerThread() as other:
        session.get(url_of(other.usock))
        assert len(pools_of(session)) == 2


def test_as_many_pools_as_there_may_be(thread: UnixSocketServerThread) -> None:
    """The pool that was not used for the longest time makes room for another, and its connections are closed."""
    with Session() as session, UnixSocketServerThread() as other:
        session.mount(DEFAULT_SCHEME, UnixAdapter(pool_connections=1))
        session.get(url_of(thread.usock))
        (first,) = pools_of(session)
        session.get(url_of(other.usock))
        (second,) = pools_of(session)
        assert (first.pool, second is first) == (None, False)


def test_adapter() -> None:
    """An adapter can be used by itself, mounted on any prefix, and pickled."""
    adapter = UnixAdapter(1.5, 3, max_retries=2)
    prepared = requests.Request("GET", "http+unix://%2Fvar%2Frun%2Fdocker.sock/info?a=b").prepare()
    assert adapter.request_url(prepared, None) == "/info?a=b"
    copy = pickle.loads(pickle.dumps(adapter))
    assert (copy.timeout, copy.max_retries.total) == (1.5, 2)
    first = adapter.get_connection("http+unix://%2Fvar%2Frun%2Fdocker.sock/info")
    assert adapter.get_connection_with_tls_context(prepared, True) is first
    adapter.close()
    assert first.pool is None


def test_scheme(thread: UnixSocketServerThread) -> None:
    """Another scheme does not have the usual one; a scheme that nobody knows is InvalidSchema."""
    with Session("http+docker://") as session:
        assert session.get(url_of(thread.usock, "/a", "http+docker://")).headers["X-Requested-Path"] == "/a"
        with pytest.raises(requests.exceptions.InvalidSchema):
            session.get(url_of(thread.usock))
    with Session(url_scheme="http+unix://") as session:
        assert session.get(url_of(thread.usock)).status_code == 200
    with Session(base_url=url_of(thread.usock, "/api/")) as session:
        assert session.get("a").headers["X-Requested-Path"] == "/api/a"


@linux_only
@pytest.mark.parametrize("raw_name", [b"\0socketless-%d", b"\0caf\xc3\xa9-%d", b"\0\xff-%d"])
def test_abstract_socket(session: Session, raw_name: bytes) -> None:
    """The name of an abstract socket begins with a NUL byte, and may hold any other."""
    raw_name %= os.getpid()
    answer_abstract(session, raw_name, url_of(raw_name, "/abstract"))


@linux_only
def test_abstract_socket_by_its_character(session: Session) -> None:
    """A URL may have the null character as it is, as in the document of requests-unixsocket."""
    name = f"\0socketless-null-{os.getpid()}"
    answer_abstract(session, name.encode(), f"http+unix://{name}/abstract")


def answer_abstract(session: Session, raw_name: bytes, url: str) -> None:
    """Answer a request at an abstract socket."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.settimeout(LIMIT)
        listener.bind(raw_name)
        listener.listen()
        with ThreadPoolExecutor(1) as executor:
            answer = executor.submit(session.get, url, timeout=LIMIT)
            connection, _ = listener.accept()
            with connection:
                assert connection.recv(1000).startswith(b"GET /abstract HTTP/1.1\r\nHost: localhost\r\n")
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                assert answer.result(LIMIT).status_code == 204


@pytest.mark.parametrize("key", ["http+unix", "http+unix://no-such-socket"])
def test_proxies_are_refused(session: Session, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy for UNIX sockets is a ValueError; one for everything else, of the environment, does not matter."""
    with pytest.raises(ValueError) as caught:
        session.get("http+unix://no-such-socket/path", proxies={key: "http://10.10.1.10:1080"})
    assert str(caught.value) == "UnixAdapter does not support specifying proxies: a UNIX socket is on this host"
    monkeypatch.setenv("ALL_PROXY", "http://10.10.1.10:1080")
    with pytest.raises(requests.ConnectionError):
        session.get("http+unix://no-such-socket/path")


def test_no_such_socket(session: Session, tmp_path: Path) -> None:
    """Where no socket is, or none can be, that is a ConnectionError, which names it."""
    for path, why in (
        (str(tmp_path / "none"), "No such file or directory"),
        ("/" + "x" * 200, "AF_UNIX path too long"),
    ):
        with pytest.raises(requests.ConnectionError) as caught:
            session.get(url_of(path))
        assert f"no connection to the UNIX socket {path!r}: " in str(caught.value)
        assert why in str(caught.value)
    with pytest.raises(requests.exceptions.InvalidURL):
        session.get("http+unix:///path")
    with Session("unix://") as other, pytest.raises(requests.exceptions.InvalidURL) as refused:
        other.get("unix:///path")
    assert str(refused.value) == (
        "'unix:///path' names no UNIX socket; write its path percent-encoded, as in unix://%2Fpath%2Fof%2Fsocket/path"
    )


@pytest.mark.parametrize("options", [{"timeout": 0.01}, {"timeout": (LIMIT, 0.01)}, {}])
def test_read_timeout(tmp_path: Path, options: dict[str, Any]) -> None:
    """Who listens and does not answer is a ReadTimeout, after the request's time, or else after the adapter's."""
    with socket.socket(socket.AF_UNIX) as listener, requests.Session() as session:
        listener.bind(path := str(tmp_path / "sock"))
        listener.listen()
        session.mount(DEFAULT_SCHEME, UnixAdapter(timeout=LIMIT if options else 0.01))
        with pytest.raises(requests.ReadTimeout):
            session.get(url_of(path), **options)


@linux_only
def test_connect_timeout(tmp_path: Path) -> None:
    """A socket whose queue is full is a ConnectTimeout."""
    with socket.socket(socket.AF_UNIX) as listener, Session() as session, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path := str(tmp_path / "sock"))
        listener.listen(0)
        first.connect(path)
        with pytest.raises(requests.ConnectTimeout) as caught:
            session.get(url_of(path), timeout=(0.01, LIMIT))
        assert f"the UNIX socket {path!r} took no connection within 0.01 s" in str(caught.value)


@linux_only
def test_waiting_for_room(tmp_path: Path) -> None:
    """A socket whose queue is full is waited for."""
    with socket.socket(socket.AF_UNIX) as listener, Session() as session, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path := str(tmp_path / "sock"))
        listener.listen(0)
        first.connect(path)
        with ThreadPoolExecutor(1) as executor:
            answer = executor.submit(session.get, url_of(path), timeout=LIMIT)
            listener.accept()[0].close()
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
                assert answer.result(LIMIT).status_code == 204


def functions() -> list[Any]:
    return [getattr(requests, name) for name in (*METHODS, "request")]


def test_monkeypatch(thread: UnixSocketServerThread) -> None:
    """The functions of requests know UNIX sockets within a block, or from a call on; then they are what they were."""
    before, url = functions(), url_of(thread.usock, "/path")
    with monkeypatch():
        for method in METHODS:
            assert getattr(requests, method)(url).headers["X-Requested-Path"] == "/path"
        assert requests.request("GET", url).text == "Hello world!"
        with pytest.raises(requests.exceptions.InvalidSchema):
            requests.get(url_of(thread.usock, scheme="http+other://"))
    assert functions() == before
    with pytest.raises(requests.exceptions.InvalidSchema):
        requests.get(url)
    patched = monkeypatch("http+other://")
    assert requests.get(url_of(thread.usock, scheme="http+other://")).text == "Hello world!"
    patched.undo()
    patched.undo()
    assert functions() == before


def test_monkeypatches_that_overlap(thread: UnixSocketServerThread) -> None:
    """In whichever order they end, the functions are then what they were."""
    before = functions()
    first, second = monkeypatch(), monkeypatch("http+other://")
    first.undo()
    assert requests.get(url_of(thread.usock, scheme="http+other://")).text == "Hello world!"
    second.undo()
    assert functions() == before


def test_redirect_to_a_path() -> None:
    """A redirect that names no host stays on the socket, as Flask's and Django's do."""
    with UnixSocketServerThread(redirecting) as thread, Session() as session:
        response = session.get(url_of(thread.usock, "/a/b?c"))
        assert response.url == url_of(thread.usock, "/there")
        assert [each.url for each in response.history] == [url_of(thread.usock, path) for path in ("/a/b?c", "/a/here")]
        session.mount("http+other://", UnixAdapter())
        assert session.get(url_of(thread.usock, "/a/b", "http+other://")).status_code == 200


def redirecting(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    to = {"/a/b": "here", "/a/here": "/there"}.get(environ["PATH_INFO"])
    start_response("302 Found" if to else "200 OK", [("Location", to), ("Content-Length", "0")] if to else [])
    return []


def test_threads(thread: UnixSocketServerThread, session: Session) -> None:
    """Threads share a session, and its connections."""
    with ThreadPoolExecutor(8) as executor:
        urls = [url_of(thread.usock, f"/{number}") for number in range(100)]
        answers = [response.headers["X-Requested-Path"] for response in executor.map(session.get, urls)]
    assert answers == [f"/{number}" for number in range(100)]
    (pool,) = pools_of(session)
    assert pool.num_connections <= 8


def test_app_behind_the_socket() -> None:
    """The thread serves an app, or a worker, which is left running; what the app raises is a 500."""
    with nothing_leaks():
        with UnixSocketServerThread(app) as thread, Session() as session:
            response = session.post(url_of(thread.usock, "/echo"), data=(piece for piece in [b"a", b"b"]))
            assert (response.status_code, response.headers["X-Path"]) == (200, "/echo")
        with IpcProcess("apps.conformance_app:asgi") as worker:
            with UnixSocketServerThread(worker) as thread, Session() as session:
                assert session.get(url_of(thread.usock, "/seen")).json()["server"] == ["localhost", 80]
                assert session.get(url_of(thread.usock, "/boom")).status_code == 500
                url = url_of(thread.usock, "/stream/chunks?chunks=one,two")
                with session.get(url, stream=True) as response:
                    assert list(response.iter_content(None)) == [b"one", b"two"]
            assert worker.run(int) == 0


def test_clients_that_are_there_at_the_end() -> None:
    """The thread ends though clients are connected; it can be started once, and stopped twice or never started."""
    with nothing_leaks():
        thread = UnixSocketServerThread()
        thread.stop()
        with Session() as session:
            with thread:
                assert os.path.exists(thread.usock)
                session.get(url_of(thread.usock))
                with pytest.raises(RuntimeError, match="^threads can only be started once$"):
                    thread.start()
            thread.stop()
            assert not os.path.exists(thread.usock)
            with pytest.raises(requests.ConnectionError):
                session.get(url_of(thread.usock))


def test_who_may_connect(thread: UnixSocketServerThread) -> None:
    """The socket, and the folder that it has to itself, are this user's only; the folder is removed with it."""
    folder = os.path.dirname(thread.usock)
    assert [stat.filemode(os.stat(path).st_mode) for path in (thread.usock, folder)] == ["srw-------", "drwx------"]
    assert os.listdir(folder) == ["sock"]
    thread.stop()
    assert not os.path.exists(folder)


def test_thread_that_is_dropped() -> None:
    """What is dropped open is a ResourceWarning; it ends, and its folder is removed."""
    with nothing_leaks(), IpcThread(app) as worker:
        thread = UnixSocketServerThread(worker)
        thread.start()
        with pytest.warns(ResourceWarning, match="^unclosed <UnixServer '.*/sock'>$"):
            folder = os.path.dirname(thread.usock)
            del thread
            gc.collect()
        for each in threading.enumerate():
            if each.name == "socketless-unix-server":
                each.join(LIMIT)
        assert not os.path.exists(folder)


def test_under_the_switch(thread: UnixSocketServerThread) -> None:
    """A UNIX socket stays one while all other requests go to a worker."""
    with switch_to_ipc_connection("apps.conformance_app:wsgi"), Session() as session:
        assert session.get(url_of(thread.usock)).text == "Hello world!"
        assert session.get("http://testserver/seen").json()["method"] == "GET"
