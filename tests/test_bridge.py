"""`socketless._http11.bridge` as a client's bytes see it: two pipes, with a `Service` at their other ends.

What is expected of good bytes is what h11 reads as a client of them.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import h11
import pytest
import wsproto
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto import events

from socketless import IpcProcess, IpcThread
from socketless._host.worker import Worker
from socketless._http11.service import Service
from socketless.errors import AppProtocolError, ClientDisconnected, IncompleteResponse
from support import LIMIT, nothing_leaks

KINDS = {
    f"{kind} {worker.__name__}": (worker, f"apps.conformance_app:{kind}")
    for kind in ("wsgi", "asgi")
    for worker in (IpcThread, IpcProcess)
}


@pytest.fixture(scope="module", params=KINDS)
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    make, app = KINDS[request.param]
    with nothing_leaks(), make(app) as worker:
        yield worker


class Line:
    """A client's ends of a connection: what is written is served in a thread."""

    def __init__(self, worker: Worker, **options: Any) -> None:
        requests, self._writer = os.pipe()
        self._reader, responses = os.pipe()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, args=(worker, requests, responses, options))
        self._thread.start()

    def _serve(self, worker: Worker, requests: int, responses: int, options: dict[str, Any]) -> None:
        try:
            Service(worker, requests, responses, **options).run()
        except BaseException as error:
            self.error = error
        finally:
            os.close(requests)
            os.close(responses)

    def write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._writer, view) :]

    def stop_writing(self) -> None:
        os.close(self._writer)

    def read(self) -> bytes:
        """Return what there is, `b""` at the end."""
        return os.read(self._reader, 65536)

    def read_until(self, ending: bytes) -> bytes:
        data = b""
        while not data.endswith(ending):
            data += (piece := self.read())
            assert piece, data
        return data

    def read_all(self) -> bytes:
        data = b""
        while piece := self.read():
            data += piece
        return data

    def hang_up(self) -> None:
        """Read no more, and wait until that is known."""
        os.close(self._reader)
        self.join()

    def join(self) -> None:
        """Wait until it is served no more."""
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()


def talk(worker: Worker, *pieces: bytes, **options: Any) -> bytes:
    """Write pieces, then nothing more, and return all that comes back."""
    line = Line(worker, **options)
    for piece in pieces:
        try:
            line.write(piece)
        except BrokenPipeError:
            break  # it has been refused
    line.stop_writing()
    data = line.read_all()
    line.hang_up()
    if line.error is not None:
        raise line.error
    return data


class WebSocketClient:
    """wsproto's, at the end of a line."""

    def __init__(self, line: Line, path: str) -> None:
        self._line = line
        self._connection = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self.send(events.Request(host="x", target=path))
        assert isinstance(self.next_event(), events.AcceptConnection)

    def send(self, event: Any) -> None:
        self._line.write(self._connection.send(event))

    def leave(self) -> None:
        self._line.hang_up()
        self._line.stop_writing()

    def next_event(self) -> Any:
        while (event := next(self._connection.events(), None)) is None:
            self._connection.receive_data(self._line.read() or None)
        return event


def responses(data: bytes, *methods: str) -> list[tuple[int, bytes]]:
    """Return status and body of each response in the bytes."""
    found = []
    for method in methods:
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(data)
        status, body = 0, b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(b"")
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
        found.append((status, body))
        data, _ = connection.trailing_data
    assert data == b""
    return found


def get(path: str, *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: testserver", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def test_request_and_response(worker: Worker) -> None:
    """A request arrives as it was written, and its response leaves as the app gave it."""
    data = talk(worker, get("/a%2Fb?x=1", "X-One: a", "X-One: b", method="POST", body=b"hello"), server=("other", 81))
    [(status, body)] = responses(data, "POST")
    seen = json.loads(body)
    assert (status, seen["method"], seen["target"], seen["body"]) == (200, "POST", "/a%2Fb?x=1", "hello")
    assert seen["server"] == ["testserver", 80]
    assert dict(seen["headers"])["x-one"].replace(" ", "") == "a,b"

    head = talk(worker, get("/headers")).partition(b"\r\n\r\n")[0]
    assert head.lower().split(b"\r\n")[1:] == [b"x-one: a", b"x-two: b", b"x-one: c", b"content-length: 2"]


@pytest.mark.parametrize(
    ("url", "target", "host", "server"),
    [
        ("http://one:81/a?x=1", "/a?x=1", "one:81", ["one", 81]),
        ("HTTP://one", "/", "one", ["one", 80]),
        ("http://one?next=/a", "/?next=/a", "one", ["one", 80]),
        ("http://one?next=http://two/", "/?next=http://two/", "one", ["one", 80]),
        ("http://me:secret@[::1]:8000/", "/", "[::1]:8000", ["::1", 8000]),
        ("http:///a", "/a", "testserver", ["testserver", 80]),
        ("/a?next=http://one/", "/a?next=http://one/", "testserver", ["testserver", 80]),
        ("//one/a", "//one/a", "testserver", ["testserver", 80]),
        ("http://one:/a", "/a", "one:", ["one", 80]),
        ("http://[::1]:/a", "/a", "[::1]:", ["::1", 80]),
    ],
)
def test_whole_url_as_target(worker: Worker, url: str, target: str, host: str, server: list[object]) -> None:
    """A request target may be a URL; its host goes before the `Host` header."""
    [(status, body)] = responses(talk(worker, get(url)), "GET")
    seen = json.loads(body)
    assert (status, seen["target"], seen["server"]) == (200, target, server)
    assert dict(seen["headers"])["host"] == host


@pytest.mark.parametrize("host", ["x..y", ".", "a_b", "x" * 64 + ".example", "xn--a", "%2Fx", "127.0.0.1:", "a,b"])
def test_odd_hosts(worker: Worker, host: str) -> None:
    """Whatever the grammar takes for a host reaches the app, which may refuse it."""
    [(status, body)] = responses(talk(worker, get("/seen").replace(b"testserver", host.encode())), "GET")
    seen = json.loads(body)
    assert (status, seen["server"]) == (200, [host.rstrip(":"), 80])
    assert dict(seen["headers"])["host"] == host


def test_reason_phrase() -> None:
    """That of a WSGI app may have any character of latin-1 (PEP 3333)."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 Tr\xe8s bien", [("Content-Length", "0")])
        return []

    with IpcThread(app) as worker:
        assert talk(worker, get("/")).startswith(b"HTTP/1.1 200 Tr\xe8s bien\r\n")


def test_websocket_whose_app_raises() -> None:
    """What it raises is told, where it is not raised."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            raise LookupError("in a WebSocket")

    told: list[str] = []
    with IpcThread(app) as worker:
        request = "\r\n".join(["GET / HTTP/1.1", "Host: x", *HANDSHAKE, "", ""]).encode()
        talk(worker, request, raise_app_exceptions=False, on_failure=told.append)
    assert [text.splitlines()[-1] for text in told] == ["LookupError: in a WebSocket"]


def test_one_after_the_other(worker: Worker) -> None:
    """A connection is kept, and requests that come at once are answered in their order, those with bodies as well."""
    requests = get("/echo", method="POST", body=b"one") + get("/status/404") + get("/echo", method="POST", body=b"two")
    assert responses(talk(worker, requests), "POST", "GET", "POST") == [(200, b"one"), (404, b"hello"), (200, b"two")]
    line = Line(worker)
    for _ in range(3):
        line.write(get("/status/200"))
        assert line.read_until(b"hello").startswith(b"HTTP/1.1 200 ")
    line.stop_writing()
    assert line.read_all() == b""
    line.hang_up()


@pytest.mark.parametrize("ending", [("HTTP/1.1", "Connection: close"), ("HTTP/1.0", "X: y")])
def test_last_request(worker: Worker, ending: tuple[str, str]) -> None:
    """After `Connection: close`, and with HTTP/1.0, the connection ends with the response."""
    version, header = ending
    line = Line(worker)
    line.write(f"GET /status/200 {version}\r\nHost: x\r\n{header}\r\n\r\n".encode())
    assert responses(line.read_all(), "GET") == [(200, b"hello")]
    line.stop_writing()
    line.hang_up()


def test_no_body(worker: Worker) -> None:
    """HEAD, 204 and 304 have no body, and the connection goes on."""
    requests = get("/status/200", method="HEAD") + get("/status/204") + get("/status/304") + get("/status/200")
    assert responses(talk(worker, requests), "HEAD", "GET", "GET", "GET") == [
        (200, b""),
        (204, b""),
        (304, b""),
        (200, b"hello"),
    ]


def test_streams(worker: Worker) -> None:
    """A body of unknown length comes in chunks while the app yields it, and is read while the client writes it."""
    data = talk(worker, get("/stream/chunks?chunks=one,two"))
    assert data.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
    line = Line(worker)
    line.write(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    line.write(b"4\r\ndefg\r\n0\r\n\r\n")
    line.stop_writing()
    assert responses(line.read_all(), "POST") == [(200, b"abcdefg")]
    line.hang_up()


def test_expect_continue(worker: Worker) -> None:
    """A client that expects it is told to go on when the app reads, and not at all when the app does not."""
    head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n"
    line = Line(worker)
    line.write(head % b"/echo")
    assert line.read_until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    line.write(b"abc" + get("/status/200"))
    line.stop_writing()
    assert responses(line.read_all(), "POST", "GET") == [(200, b"abc"), (200, b"hello")]
    line.hang_up()

    line = Line(worker)
    line.write(head % b"/stream/chunks?chunks=one")
    data = line.read_all()  # it ends, since what is written next may be the body or a request
    assert b"\r\nconnection: close\r\n" in data.lower()
    assert responses(data, "POST") == [(200, b"one")]
    line.stop_writing()
    line.hang_up()


@pytest.mark.parametrize("sent", [b"close", b"X-Hop, Close"])
def test_expect_continue_of_an_app_that_closes(sent: bytes) -> None:
    """Where the app says by itself that the connection ends, that is not said twice."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await send({"type": "http.response.start", "status": 417, "headers": [(b"connection", sent)]})
        await send({"type": "http.response.body", "body": b"no"})

    with IpcThread(app) as worker:
        data = talk(worker, get("/", "Expect: 100-continue", "Content-Length: 3", method="POST"), get("/status/200"))
    assert responses(data, "POST") == [(417, b"no")]
    assert data.lower().count(b"close") == 1


def test_large_bodies(worker: Worker) -> None:
    """Bodies of megabytes go through, both ways."""
    body = bytes(range(256)) * (16 << 10)
    line = Line(worker)
    sender = threading.Thread(target=line.write, args=(get("/echo", "Connection: close", method="POST", body=body),))
    sender.start()
    assert responses(line.read_all(), "POST") == [(200, body)]
    sender.join()
    line.stop_writing()
    line.hang_up()


def test_app_that_raises(worker: Worker) -> None:
    """What the app raises is raised at the host, or is a 500 with its traceback told; then the connection goes on."""
    with pytest.raises(LookupError, match="boom"):
        talk(worker, get("/boom"))
    told: list[str] = []
    data = talk(worker, get("/boom") + get("/status/200"), raise_app_exceptions=False, on_failure=told.append)
    assert responses(data, "GET", "GET") == [(500, b"Internal Server Error"), (200, b"hello")]
    assert [text.splitlines()[-1] for text in told] == ["LookupError: ('boom', 42)"]


@pytest.fixture(scope="module", params=KINDS)
def narrow(request: pytest.FixtureRequest) -> Iterator[Worker]:
    """A worker with one channel: who does not give it back is followed by nobody."""
    make, app = KINDS[request.param]
    with nothing_leaks(), make(app, max_connections=1) as worker:
        yield worker


tokens = map("bridge-{}".format, count())


def notes_on(worker: Worker, token: str) -> list[str]:
    """Return what has become of a script of the app's, once it is over."""
    [(status, body)] = responses(talk(worker, get(f"/stream/noted?of={token}&word={token}/over")), "GET")
    assert status == 200
    notes: list[str] = json.loads(body)
    return notes


def test_client_that_leaves(narrow: Worker) -> None:
    """A client that reads no more is gone for the app, and its channel serves the next one."""
    token = next(tokens)
    line = Line(narrow)
    line.write(get(f"/stream/endless?size=1000&token={token}"))
    line.read_until(b"\r\n")
    line.hang_up()
    assert line.error is None
    line.stop_writing()
    [note] = notes_on(narrow, token)
    assert note in ({"closed"} if narrow.app_kind == "wsgi" else {"CancelledError", "ClientDisconnected"})


def test_client_that_leaves_a_quiet_app(narrow: Worker) -> None:
    """It is gone for an app that sends nothing, as well."""
    token = next(tokens)
    line = Line(narrow)
    line.write(get(f"/stream/quiet?token={token}"))
    line.read_until(b"quiet\r\n")
    line.hang_up()
    assert line.error is None
    line.stop_writing()
    assert notes_on(narrow, token) == ["closed" if narrow.app_kind == "wsgi" else "disconnected"]


def test_client_that_leaves_in_its_request(narrow: Worker) -> None:
    """A client that leaves in the middle of its request gets no answer, and is gone for the app."""
    for data in (b"GET / HT", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabc"):
        assert talk(narrow, data) == b""
    token = next(tokens)
    data = talk(narrow, get(f"/stream/echo?size=9&token={token}", "Content-Length: 5", method="POST") + b"abc")
    if narrow.app_kind == "wsgi":  # its read() waits for 9 bytes, or for the end
        assert data == b""
        assert notes_on(narrow, token) == ["disconnected", "closed"]
    else:
        assert not data.endswith(b"0\r\n\r\n")
        assert notes_on(narrow, token) == ["disconnected"]


HEAD = b"POST /echo HTTP/1.1\r\nHost: x\r\n"
BAD_HOSTS = [b"x:65536", b"x:" + b"1" * 5000, b"a:b", b"::1", b"[::1", b"[", b"a b", b"a/b", b"a@b", b"\xe9"]


@pytest.mark.parametrize(
    ("data", "status", "reason"),
    [
        (b"rubbish\r\n\r\n", 400, "illegal request line"),
        (b"GET / HTTP/1.1\r\n\r\n", 400, "Missing mandatory Host: header"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nbad header: y\r\n\r\n", 400, "illegal header line"),
        *[
            (b"GET / HTTP/1.1\r\nHost: %s\r\n\r\n" % host, 400, f"no host and port: {host.decode('latin-1')[:100]}")
            for host in BAD_HOSTS
        ],
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 501, "this is not a proxy: there is no CONNECT"),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 200_000, 431, "Receive buffer too long"),
        (HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, "conflicting Content-Length headers"),
        (HEAD + b"Content-Length: x\r\n\r\n", 400, "bad Content-Length"),
        (
            HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            400,
            "Content-Length and Transfer-Encoding in one request",
        ),
        (HEAD + b"Transfer-Encoding: gzip\r\n\r\n", 501, "Only Transfer-Encoding: chunked is supported"),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n", 400, "illegal chunk header"),
    ],
)
def test_bad_bytes(worker: Worker, data: bytes, status: int, reason: str) -> None:
    """Bytes that are no HTTP, and attempts at smuggling, are refused with the reason, and the connection ends."""
    refusal = talk(worker, data, get("/status/200"))
    [(got, body)] = responses(refusal, "POST")
    assert got == status
    assert body.decode().startswith(reason)
    assert b"connection: close" in refusal.lower()
    assert responses(talk(worker, get("/status/200")), "GET") == [(200, b"hello")]


KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
HANDSHAKE = ("Upgrade: websocket", "Connection: keep-alive, Upgrade", "Sec-WebSocket-Version: 13", KEY)


@pytest.mark.parametrize(
    ("method", "version", "headers", "status"),
    [
        ("POST", "1.1", HANDSHAKE, 200),
        ("GET", "1.0", HANDSHAKE, 200),
        ("GET", "1.1", [HANDSHAKE[0], *HANDSHAKE[2:]], 200),
        ("GET", "1.1", [*HANDSHAKE[:2], "Sec-WebSocket-Version: 8", KEY], 426),
        ("GET", "1.1", [*HANDSHAKE[:2], KEY], 426),
        ("GET", "1.1", [*HANDSHAKE[:3], "Sec-WebSocket-Key:"], 400),
        ("GET", "1.1", [*HANDSHAKE[:3], "Sec-WebSocket-Key: no"], 400),
        ("GET", "1.1", HANDSHAKE, 101),
    ],
)
def test_handshake(websockets: Worker, method: str, version: str, headers: Sequence[str], status: int) -> None:
    """What RFC 6455 wants of a WebSocket's handshake is there, or it is an ordinary request, or refused."""
    request = "\r\n".join([f"{method} /raw/listen/x HTTP/{version}", "Host: x", *headers, "", ""])
    head = talk(websockets, request.encode()).partition(b"\r\n\r\n")[0]
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert (b"sec-websocket-version: 13" in head.lower()) == (status == 426)


@pytest.mark.parametrize("error", [h11.RemoteProtocolError("of a peer's"), ClientDisconnected("of its own")])
def test_app_that_raises_what_we_catch(error: Exception) -> None:
    """An error that would be the client's is the app's when the app raises it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        if scope["path"] == "/middle":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"abc", "more_body": True})
        raise error

    with IpcThread(app) as worker:
        for path in ("/", "/middle"):
            with pytest.raises(type(error), match=str(error)):
                talk(worker, get(path))
        data = talk(worker, get("/") * 2, raise_app_exceptions=False)
    assert responses(data, "GET", "GET") == [(500, b"Internal Server Error")] * 2


def test_app_that_raises_in_the_middle(worker: Worker) -> None:
    """What the app raises after a part of its response is told as well, and ends the connection."""
    told: list[str] = []
    with pytest.raises(IncompleteResponse):
        talk(worker, get("/stream/boom?at=middle"), raise_app_exceptions=False, on_failure=told.append)
    assert [text.splitlines()[-1] for text in told] == ["LookupError: ('boom', 42)"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_app_that_raises_of_a_head(worker: Worker, method: str) -> None:
    """The 500 for a HEAD has no body, either."""
    data = talk(worker, get("/boom", method=method) + get("/status/200"), raise_app_exceptions=False)
    body = b"" if method == "HEAD" else b"Internal Server Error"
    assert responses(data, method, "GET") == [(500, body), (200, b"hello")]


@pytest.mark.parametrize("header", [(b"x y", b"z"), (b"content-length", b"-3"), (b"transfer-encoding", b"gzip")])
@pytest.mark.parametrize("more_body", [False, True])
def test_head_that_is_no_http(header: tuple[bytes, bytes], more_body: bool) -> None:
    """A head that HTTP/1.1 cannot carry is an error of the app's, or a 500, since nothing was sent yet."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await send({"type": "http.response.start", "status": 200, "headers": [header]})
        await send({"type": "http.response.body", "body": b"abc", "more_body": more_body})
        if more_body:
            await receive()
            await receive()

    told: list[str] = []
    with IpcThread(app) as worker:
        with pytest.raises(AppProtocolError):
            talk(worker, get("/"))
        data = talk(worker, get("/") * 2, raise_app_exceptions=False, on_failure=told.append)
    assert responses(data, "GET", "GET") == [(500, b"Internal Server Error")] * 2
    assert len(told) == 2


@pytest.fixture(scope="module", params=[IpcThread, IpcProcess])
def websockets(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with nothing_leaks(), request.param("apps.websocket_app:raw") as worker:
        yield worker


def no_pump_is_left() -> bool:
    return "socketless-pump" not in {thread.name for thread in threading.enumerate()}


def test_websocket(websockets: Worker) -> None:
    """A WebSocket's messages go both ways, and its end is the connection's."""
    line = Line(websockets)
    client = WebSocketClient(line, "/raw/echo")
    for text in ("one", "two"):
        client.send(events.TextMessage(text))
        assert client.next_event().data == text
    client.send(events.CloseConnection(1000))
    assert client.next_event().code == 1000
    assert line.read_all() == b""
    line.join()
    assert no_pump_is_left()
    line.stop_writing()
    line.hang_up()


CLOSING = '/raw/script?["receive",{"type":"websocket.accept"},{"type":"websocket.close","code":4001}]'


def test_client_that_does_not_answer_a_close(websockets: Worker) -> None:
    """When a WebSocket's connection is over, nobody reads what its client may write yet."""
    line = Line(websockets)
    client = WebSocketClient(line, CLOSING)
    assert client.next_event().code == 4001
    assert line.read_all() == b""
    line.join()
    assert no_pump_is_left()
    line.stop_writing()
    line.hang_up()


def test_client_that_leaves_a_websocket(websockets: Worker) -> None:
    """A client that reads no more is gone for the app, and nobody reads what it may write yet."""
    line = Line(websockets)
    WebSocketClient(line, "/raw/listen/left")
    line.hang_up()
    assert no_pump_is_left()
    line.stop_writing()
    noted = WebSocketClient(Line(websockets), "/raw/noted/left")
    assert "websocket.disconnect" in noted.next_event().data
    noted.leave()


@pytest.mark.parametrize(
    ("body", "text"), [(b"abcde", "longer: 3 bytes"), (b"a", "shorter: 1 of 3 bytes"), (b"", "shorter: 0 of 3 bytes")]
)
def test_response_of_another_length(body: bytes, text: str) -> None:
    """A response that is not as long as it says is an error of the app's, or breaks off; that of a HEAD is whole."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"3")]})
        await send({"type": "http.response.body", "body": body})

    told: list[str] = []
    with IpcThread(app) as worker:
        with pytest.raises(AppProtocolError) as caught:
            talk(worker, get("/"))
        data = talk(worker, get("/", method="HEAD"), raise_app_exceptions=False, on_failure=told.append)
        with pytest.raises(IncompleteResponse):
            talk(worker, get("/"), raise_app_exceptions=False, on_failure=told.append)
    assert str(caught.value).replace(" than its Content-Length says", "") == f"the app's body is {text}"
    assert responses(data, "HEAD") == [(200, b"")]
    (traceback,) = told
    assert str(caught.value) in traceback


@pytest.fixture(scope="module", params=[IpcThread, IpcProcess])
def echo(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with request.param("apps.conformance_app:wsgi") as worker:
        yield worker


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_pieces(echo: Worker, data: st.DataObject) -> None:
    """However a request is cut into pieces, its answer is the same."""
    body = data.draw(st.binary(max_size=200))
    sizes = data.draw(st.lists(st.integers(1, 60), max_size=20))
    if data.draw(st.booleans()):
        chunks = b"".join(b"%x\r\n%b\r\n" % (len(body[i : i + 7]), body[i : i + 7]) for i in range(0, len(body), 7))
        request = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    else:
        request = get("/echo", method="POST", body=body)
    pieces = []
    for size in sizes:
        pieces.append(request[:size])
        request = request[size:]
    assert responses(talk(echo, *filter(None, [*pieces, request])), "POST") == [(200, body)]


REFUSALS = {400, 431, 501}


def whole_responses(data: bytes) -> list[tuple[int, bytes]]:
    """Return status and body of responses that are complete and fill the bytes; only the last may be a refusal."""
    found = []
    while data:
        connection = h11.Connection(h11.CLIENT)
        connection.send(h11.Request(method="GET", target="/", headers=[("host", "x")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(data)
        connection.receive_data(b"")
        status, body = 0, b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
        found.append((status, body))
        data, _ = connection.trailing_data
    assert not {status for status, _ in found[:-1]} & REFUSALS
    return found


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300), cut=st.integers(0, 120))
def test_any_bytes(echo: Worker, data: bytes, cut: int) -> None:
    """Whatever is written, what comes back is HTTP and ends, and the worker serves the next one."""
    request = get("/echo", method="POST", body=b"some body")
    found = whole_responses(talk(echo, request[:cut] + data))
    assert {status for status, _ in found} <= {200, *REFUSALS}
    if cut >= len(request):
        assert found[0] == (200, b"some body")
    assert responses(talk(echo, get("/status/200")), "GET") == [(200, b"hello")]


HIDDEN = b"GET /status/418 HTTP/1.1\r\nHost: x\r\n\r\n"  # a body, for who takes it for one

# The first of each is as it should be.
LENGTHS = [
    *(b"%d", b"%d ", b"+%d", b"-%d", b"0%d", b"0x%d", b"%d.0", b"%d,%d", b"%d, 1", b"1, %d", b"1%d", b"%d;x", b"%d\0"),
    *(b"\x0b%d", b"\xb2%d", b"\r%d", b"%d\r\nContent-Length: %d", b"%d\r\nContent-Length: 7", b"%d\r\n 1", b""),
    *(b"7\nContent-Length: %d", b"%d\r\nTransfer-Encoding: chunked", b"%d\r\nTransfer-Encoding: identity"),
]
ENCODINGS = [
    *(b"chunked", b"Chunked", b"xchunked", b"chunked, chunked", b"gzip, chunked", b"chunked, gzip", b"identity"),
    *(b"chunked;q=1", b"\x0bchunked", b"chunked\0", b"\tchunked", b'"chunked"', b"chunk\xe9d", b",chunked", b""),
    *(b"chunked\r\nTransfer-Encoding: chunked", b"chunked\r\nTransfer-Encoding: identity", b"\r\n chunked"),
    *(b"chunked\r\nContent-Length: 7", b"identity\r\nContent-Length: %d"),
]
CHUNK_SIZES = [
    *(b"%x", b"0%x", b"%x ", b" %x", b"+%x", b"-%x", b"0x%x", b"%x;a=b", b"%x;\n", b"%x\n", b"%x\r", b"f%x", b"\xb2%x"),
    *(b"%x_0", b"%xg", b"fffffffffffffffff%x", b"5", b"", b"\n%x"),
]
HOSTS = [b"Host: x", b"Host: x:", b"Host:", b"Host: x:y", b"Host: [x", b"Host: \xff", b"Host: x\r\nHost: y", b"X: x"]
SEPARATORS = [b": ", b":", b" : ", b"\t:", b":\n ", b"\0: "]
ENDINGS = [b"\r\n", b"\n", b"\r", b"\r\r\n"]


def filled(template: bytes, number: int) -> bytes:
    return template.replace(b"%d", b"%d" % number).replace(b"%x", b"%x" % number)


@st.composite
def damaged_requests(draw: st.DrawFn) -> bytes:
    """Requests that nobody should have written, the body of each of which would be a request by itself."""
    damaged = draw(
        st.sets(st.sampled_from(["value", "separator", "head", "size", "body", "host"]), min_size=1, max_size=2)
    )

    def choose(what: str, choices: list[bytes]) -> bytes:
        return filled(draw(st.sampled_from(choices)) if what in damaged else choices[0], len(HIDDEN))

    is_chunked = draw(st.booleans())
    name, values = (b"Transfer-Encoding", ENCODINGS) if is_chunked else (b"Content-Length", LENGTHS)
    framing = name + choose("separator", SEPARATORS) + choose("value", values)
    lines = [b"POST /echo HTTP/1." + draw(st.sampled_from([b"1", b"0"])), *draw(st.permutations([b"Host: x", framing]))]
    body = [HIDDEN]
    if is_chunked:
        body = [choose("size", CHUNK_SIZES), HIDDEN, b"0", b""]
    lines = [choose("host", HOSTS) if line == b"Host: x" else line for line in lines]
    head = b"".join(line + choose("head", ENDINGS) for line in [*lines, b""])
    return head + (b"".join(line + choose("body", ENDINGS) for line in body) if is_chunked else HIDDEN)


@settings(max_examples=300, deadline=None)
@given(request=damaged_requests(), cut=st.integers(0, 400))
def test_damaged_requests(echo: Worker, request: bytes, cut: int) -> None:
    """However a request's length is said wrongly, its body is never taken for the next request."""
    found = whole_responses(talk(echo, *filter(None, [request[:cut], request[cut:]]), get("/status/404")))
    assert {status for status, _ in found} <= {200, 404, *REFUSALS}
    assert [status for status, _ in found].count(200) <= 1
    assert responses(talk(echo, get("/status/200")), "GET") == [(200, b"hello")]
