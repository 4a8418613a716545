"""`WorkerSocket`: what takes the place of a connected socket."""

from __future__ import annotations

import asyncio
import gc
import select
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import wsproto
from wsproto import events

from socketless import IpcProcess, IpcThread, errors
from socketless._http11.worker_socket import WorkerSocket, end_connections
from support import LIMIT, nothing_leaks

GET = b"GET %s HTTP/1.1\r\nHost: shop.example\r\n\r\n"


@pytest.fixture(params=["wsgi", "asgi"])
def worker(request: pytest.FixtureRequest) -> Iterator[IpcProcess]:
    app = f"apps.conformance_app:{request.param}"
    with nothing_leaks(), IpcProcess(app, start_method="fork", shutdown_timeout=0.2) as worker:  # it is there sooner
        yield worker


@pytest.fixture
def line(worker: IpcProcess) -> Iterator[WorkerSocket]:
    line = WorkerSocket(worker, LIMIT)
    yield line
    line.close()


def response(line: WorkerSocket, count: int = 1) -> bytes:
    """Read a response whose body is `hello`, or several, which may come at once."""
    received = b""
    while received.count(b"hello") < count:
        piece = line.recv(65536)
        assert piece, received
        received += piece
    return received


def test_files(worker: IpcProcess) -> None:
    """It lives as long as one of the files that it has made."""
    line = WorkerSocket(worker, None)
    line.settimeout(LIMIT)
    assert line.gettimeout() == LIMIT
    with line.makefile("rw", encoding="latin-1", newline="") as file:
        line.close()
        file.write("GET /status/200 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        file.flush()
        assert file.read().endswith("hello")
    assert line.fileno() == -1
    line = WorkerSocket(worker, LIMIT)
    with line.makefile("rb") as reader:
        line.sendall(GET % b"/status/200")
        line.close()
        line.close()  # the file still uses it
        assert reader.readline() == b"HTTP/1.1 200 Whatever\r\n" or worker.app_kind == "asgi"
    with WorkerSocket(worker, LIMIT, server=("shop.example", 443)) as line:
        assert line.fileno() > 0
        assert line.getpeername() == ("shop.example", 443)
    assert line.fileno() == -1
    for call in (lambda: line.recv(1), lambda: line.sendall(b"x")):
        with pytest.raises(OSError, match="the connection is closed"):
            call()
    line.close()


def test_requests_one_after_the_other(line: WorkerSocket) -> None:
    """Requests that are written at once are answered in their order."""
    line.sendall(GET % b"/status/200" + GET % b"/status/404")
    received = response(line, 2)
    assert 0 < received.index(b" 200 ") < received.index(b" 404 ")


def test_piece_by_piece(line: WorkerSocket) -> None:
    """What is written and what is read may come in any pieces."""
    for byte in GET % b"/status/200":
        line.sendall(b"")
        assert line.send(bytes([byte])) == 1
    buffer = bytearray(1)
    received = b""
    while not received.endswith(b"hello"):
        assert line.recv_into(buffer) == 1
        received += buffer
    assert received.startswith(b"HTTP/1.1 200 ")


def test_nothing_to_be_read(line: WorkerSocket) -> None:
    """Who reads before anything is written would wait for ever, and is told; who does not wait, as usual."""
    with pytest.raises(TimeoutError, match="^nothing is to be read before more is written$"):
        line.recv(1)
    line.setblocking(False)
    with pytest.raises(BlockingIOError):
        line.recv(1)
    line.sendall(GET % b"/hang")
    with pytest.raises(BlockingIOError):
        line.recv(1)
    line.setblocking(True)
    line.shutdown(socket.SHUT_RD)
    assert line.gettimeout() is None


def test_end(line: WorkerSocket) -> None:
    """Who writes no more gets the rest, and the end."""
    line.sendall(GET % b"/status/200")
    line.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenPipeError):
        line.sendall(b"x")
    assert response(line)
    assert line.recv(1) == b""


def test_app_begins_before_the_client_reads() -> None:
    """A request is with the app as soon as it is written, as over a socket."""
    began = threading.Event()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        began.set()
        start_response("200 OK", [("Content-Length", "5")])
        return [b"hello"]

    with nothing_leaks(), IpcThread(app) as worker:
        line = WorkerSocket(worker, LIMIT)
        line.sendall(GET % b"/")
        assert began.wait(LIMIT)
        assert response(line)
        line.close()


def test_app_that_does_not_read_the_body(worker: IpcProcess) -> None:
    """A client that writes more than the app takes waits for it in vain, and is told where the app is."""
    line = WorkerSocket(worker, LIMIT)
    line.sendall(b"POST /stream/held?token=unread HTTP/1.1\r\nHost: x\r\nContent-Length: 10000000\r\n\r\n")
    assert line.recv(1) == b"H"
    line.settimeout(0.2)
    with pytest.raises(errors.ReadTimeout, match="the app did not go on with its answer within 0.2 s") as caught:
        write(line, bytes(1000), 1000)
    assert "conformance_app.py" in caught.value.stack
    line.close()


def write(line: WorkerSocket, piece: bytes, times: int) -> None:
    for _ in range(times):
        line.sendall(piece)


def test_app_that_answers_while_it_reads(line: WorkerSocket) -> None:
    """Who writes a large body and reads after that gets all that the app has sent meanwhile."""
    size = 1_000_000  # more than all pipes hold
    head = b"POST /stream/echo?size=1000 HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    line.sendall(head % size)
    write(line, b"x" * 1000, size // 1000)
    received = b""
    while piece := line.recv(1 << 20):
        received += piece
    assert received.count(b"x" * 1000) == size // 1000


def test_error_of_the_app(line: WorkerSocket) -> None:
    """It is raised once, where the response is read; then the connection is at its end."""
    line.sendall(GET % b"/boom")
    with pytest.raises(LookupError):
        line.recv(1)
    assert line.recv(1) == b""
    line.sendall(bytes(100_000))  # as into a socket's buffer
    with pytest.raises(BrokenPipeError):
        line.sendall(b"x")


def test_error_of_the_app_while_the_client_writes(worker: IpcProcess) -> None:
    """It waits for who reads the response, unless that one writes on: then it is raised there."""
    head = b"POST /stream/boom?at=start HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n"
    with WorkerSocket(worker, LIMIT) as line:
        line.sendall(head)
        line.sendall(b"x")
        with pytest.raises(LookupError):
            line.recv(1)
    with WorkerSocket(worker, LIMIT) as line:
        line.sendall(head)
        with pytest.raises(LookupError):
            write(line, b"x", 10_000_000)


def test_pool_timeout() -> None:
    """Who gets no channel is told what holds them."""
    with nothing_leaks(), IpcProcess("apps.conformance_app:wsgi", max_connections=1, shutdown_timeout=0.2) as worker:
        first, second = WorkerSocket(worker, LIMIT), WorkerSocket(worker, 0.1)
        first.sendall(GET % b"/hang")
        second.sendall(GET % b"/status/200")
        with pytest.raises(errors.PoolTimeout, match=r"(?s)^GET /status/200: all 1 channels.*GET /hang, for"):
            second.recv(1)
        for line in (first, second):
            line.close()


def test_responses_that_nobody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client without a time limit that holds all channels itself is told so, instead of waiting for ever."""
    monkeypatch.setattr("socketless._http11.worker_socket._POOL_SECONDS", 0.1)
    with nothing_leaks(), IpcProcess("apps.conformance_app:wsgi", max_connections=1) as worker:
        with WorkerSocket(worker, None) as first, WorkerSocket(worker, None) as second:
            first.sendall(GET % b"/stream/endless?size=1000000&token=unread")
            assert first.recv(1)
            second.sendall(GET % b"/status/200")
            with pytest.raises(errors.PoolTimeout, match="GET /stream/endless"):
                second.recv(1)


def test_left_in_the_middle(worker: IpcProcess) -> None:
    """Closing tells the app that its client has gone, wherever the response is."""
    assert worker.max_connections is not None
    for reads in (False, True):
        for _ in range(worker.max_connections + 1):
            line = WorkerSocket(worker, LIMIT)
            line.sendall(GET % b"/stream/endless?size=1000&token=left")
            if reads:
                line.recv(1)
            line.close()


def test_dropped(worker: IpcProcess) -> None:
    """One that is dropped open is a ResourceWarning."""
    line = WorkerSocket(worker, LIMIT)
    line.sendall(GET % b"/status/200")
    response(line)
    with pytest.warns(ResourceWarning, match="unclosed <WorkerSocket to <IpcProcess"):
        del line
        gc.collect()


def test_switched_off(worker: IpcProcess) -> None:
    """A descriptor tells a pool of connections that one has ended."""
    line = WorkerSocket(worker, LIMIT)
    line.sendall(GET % b"/status/200")
    response(line)
    assert not is_readable(line, 0)
    end_connections(worker)
    assert is_readable(line, 0)
    line.close()


def is_readable(line: WorkerSocket, timeout: float) -> bool:
    return bool(select.select([line], [], [], timeout)[0])


def test_select(line: WorkerSocket) -> None:
    """`select` tells when there is something to be read: 100 Continue, for which boto3 waits, a response, the end."""
    assert not is_readable(line, 0)
    line.sendall(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert is_readable(line, LIMIT)
    assert line.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
    line.sendall(b"hello")
    assert is_readable(line, LIMIT)
    received = b""
    while not received.endswith(b"\r\nhello\r\n0\r\n\r\n"):
        received += line.recv(65536)
    line.sendall(GET % b"/hang")
    assert not is_readable(line, 0.01)
    line.shutdown(socket.SHUT_RDWR)
    assert is_readable(line, LIMIT)
    assert line.recv(1) == b""


@pytest.mark.parametrize("how", [socket.SHUT_RD, socket.SHUT_RDWR])
def test_shutdown_by_another_thread(worker: IpcProcess, how: int) -> None:
    """Who waits for a response is woken, and is at the end."""
    for path in (b"/hang", b"/stream/held?token=shutdown"):
        with WorkerSocket(worker, None) as line, ThreadPoolExecutor(1) as threads:
            line.sendall(GET % path)
            if path != b"/hang":
                while not line.recv(65536).endswith(b"held\r\n"):
                    pass
            reading = threads.submit(line.recv, 1)
            line.shutdown(how)
            assert reading.result(LIMIT) == b""


@pytest.mark.parametrize("goodbye", [True, False])
def test_websocket(goodbye: bool) -> None:
    """The connection may become a WebSocket, whose frames may come with its handshake."""
    with nothing_leaks(), IpcProcess("apps.websocket_app:app") as worker:
        line = WorkerSocket(worker, LIMIT)
        client = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        handshake = client.send(events.Request(host="shop.example", target="/raw/echo"))
        line.sendall(handshake)
        received: list[Any] = []

        def receive(kind: Any) -> Any:
            while not any(isinstance(each, kind) for each in received):
                client.receive_data(line.recv(65536) or None)
                received.extend(client.events())
            found = next(each for each in received if isinstance(each, kind))
            received.remove(found)
            return found

        receive(events.AcceptConnection)
        for text in ("one", "two"):
            line.sendall(client.send(events.TextMessage(text)))
            assert receive(events.TextMessage).data == text
        line.settimeout(0.05)
        with pytest.raises(TimeoutError, match="^timed out$"):
            line.recv(1)
        line.settimeout(LIMIT)
        line.sendall(client.send(events.TextMessage("three")))
        assert receive(events.TextMessage).data == "three"
        if goodbye:
            line.sendall(client.send(events.CloseConnection(1000)))
            assert receive(events.CloseConnection).code == 1000
        line.close()


@pytest.mark.parametrize("path", ["/stream/chunks?chunks=ab,cd&status=304", "/stream/chunks?chunks=ab,cd&length_is=4"])
def test_response_that_ends_by_itself(path: str) -> None:
    """A connection whose client has the whole response holds no channel, though it is kept."""
    with nothing_leaks(), IpcThread("apps.conformance_app:asgi", max_connections=1) as worker:
        with WorkerSocket(worker, LIMIT) as first, WorkerSocket(worker, LIMIT) as second:
            for line in (first, second, first):
                line.sendall(GET % path.encode())
                received = b""
                while not received.endswith(b"abcd" if "length" in path else b"\r\n\r\n"):
                    received += line.recv(65536)


def test_error_after_the_last_byte() -> None:
    """What the app raises when its client has the whole response is raised where the end of that is read."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hel", "more_body": True})
        await send({"type": "http.response.body", "body": b"lo", "more_body": True})
        raise LookupError("late")

    with nothing_leaks(), IpcThread(app) as worker, WorkerSocket(worker, LIMIT) as line:
        line.sendall(GET % b"/")
        with pytest.raises(LookupError, match="late"):
            response(line)


def test_app_that_lingers(monkeypatch: pytest.MonkeyPatch) -> None:
    """An app that does not return after its last byte is told that the client has gone; the connection goes on."""
    monkeypatch.setattr("socketless._http11.worker_socket._PATIENCE", 0.05)
    ended = threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            raise NotImplementedError
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello", "more_body": True})
        if scope["path"] == "/linger":
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
        await send({"type": "http.response.body"})

    with nothing_leaks(), IpcThread(app, max_connections=1) as worker:
        with WorkerSocket(worker, LIMIT) as first, WorkerSocket(worker, LIMIT) as second:
            for line, path in ((first, b"/linger"), (second, b"/"), (first, b"/")):
                line.sendall(GET % path)
                if line is second:  # whose channel is the one that the first has left
                    assert select.select([first, second], [], [], LIMIT)[0] == [second]
                assert response(line).startswith(b"HTTP/1.1 200 ")
                assert ended.wait(LIMIT)
