"""`http.client` under the switch, and `urllib.request` and urllib3, which are built on it."""

from __future__ import annotations

import contextlib
import gc
import http.client
import io
import json
import socket
import urllib.error
import urllib.request
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import urllib3

from socketless import IpcThread, switch_to_ipc_connection
from socketless._http11.worker_socket import WorkerSocket
from socketless.errors import ReadTimeout, WorkerDied
from support import LIMIT, nothing_leaks, sockets_are_refused


@pytest.fixture(params=["wsgi", "asgi"])
def switched(request: pytest.FixtureRequest) -> Iterator[Any]:
    app = f"apps.conformance_app:{request.param}"
    # How the worker is started is nothing to http.client, and a fork is there sooner.
    with nothing_leaks(), switch_to_ipc_connection(app, start_method="fork", shutdown_timeout=0.5) as switch:
        yield switch
        gc.collect()


def connection(**options: Any) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("shop.example", 8080, timeout=LIMIT, **options)


def test_http_client(switched: Any) -> None:
    """A connection is kept over several requests, and the app sees what was asked for."""
    client = connection()
    client.request("POST", "/a?x=1", body=b"hello", headers={"X-One": "a"})
    response = client.getresponse()
    seen = json.loads(response.read())
    assert (response.status, seen["method"], seen["target"], seen["body"]) == (200, "POST", "/a?x=1", "hello")
    assert seen["server"] == ["shop.example", 8080]
    line = client.sock
    client.request("GET", "/headers")
    response = client.getresponse()
    assert response.msg.get_all("X-One") == ["a", "c"]
    assert response.read() == b"ok"
    assert client.sock is line
    client.close()
    assert line.fileno() == -1

    tls = http.client.HTTPSConnection("shop.example", timeout=LIMIT)
    tls.request("GET", "/seen")
    seen = json.loads(tls.getresponse().read())
    assert (seen["scheme"], seen["server"]) == ("https", ["shop.example", 443])
    tls.close()


def test_streams(switched: Any) -> None:
    """Bodies of unknown length go both ways, and large ones as well."""
    client = connection()
    client.request("POST", "/echo", body=iter([b"one", b"two"]), encode_chunked=True)
    assert client.getresponse().read() == b"onetwo"
    body = bytes(range(256)) * (16 << 10)
    client.request("POST", "/echo", body=io.BytesIO(body), headers={"Content-Length": str(len(body))})
    assert client.getresponse().read() == body
    client.request("GET", "/stream/chunks?chunks=one,two")
    response = client.getresponse()
    assert (response.chunked, response.read(3), response.read()) == (True, b"one", b"two")
    client.close()


def test_urllib_request(switched: Any) -> None:
    """`urlopen()` reaches the app, follows redirects, and raises its own error for a status."""
    with urllib.request.urlopen("https://shop.example/seen", timeout=LIMIT) as response:
        assert json.loads(response.read())["scheme"] == "https"
    with urllib.request.urlopen("http://shop.example/redirect", timeout=LIMIT) as response:
        assert json.loads(response.read())["path"] == "/echo-redirected"
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen("http://shop.example/status/404", timeout=LIMIT)
    assert caught.value.read() == b"hello"
    caught.value.close()


def test_urllib3(switched: Any) -> None:
    """A pool reuses its connections, and warns of no certificate."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with urllib3.PoolManager() as pool:
            for _ in range(3):
                assert pool.request("GET", "https://shop.example/status/200", timeout=LIMIT).data == b"hello"
            response = pool.request("POST", "http://shop.example/echo", body=b"x", preload_content=False)
            assert b"".join(response.stream()) == b"x"
            response.release_conn()
            assert pool.connection_from_url("https://shop.example").num_connections == 1


@pytest.mark.parametrize(("scheme", "port"), [("http", 80), ("https", 443)])
def test_urllib3_with_a_proxy(switched: Any, scheme: str, port: int) -> None:
    """What would go through a proxy goes to the app, as the request of the server that it is for."""
    with urllib3.ProxyManager("http://proxy.example:3128") as pool:
        seen = json.loads(pool.request("GET", f"{scheme}://shop.example/seen", timeout=LIMIT).data)
    assert (seen["scheme"], seen["server"], seen["target"]) == (scheme, ["shop.example", port], "/seen")


def failing(environ: Any, start_response: Any) -> Any:
    calls.append(environ["PATH_INFO"])
    raise FileNotFoundError(2, "no such file", environ["PATH_INFO"])


calls: list[str] = []


def test_app_that_raises_an_os_error() -> None:
    """urllib3 does not take it for one of the connection, and asks the app once."""
    calls.clear()
    with IpcThread(failing) as worker, switch_to_ipc_connection(worker), urllib3.PoolManager() as pool:
        for retries in (None, False, 5):
            with pytest.raises(FileNotFoundError) as caught:
                pool.request("GET", f"http://shop.example/{retries}", retries=retries, timeout=LIMIT)
            assert caught.value.filename == f"/{retries}"
    assert calls == ["/None", "/False", "/5"]


@pytest.mark.parametrize("path", ["/boom", "/stream/boom?at=body"])
def test_app_that_raises(switched: Any, path: str) -> None:
    """What the app raises is raised where its response is read."""
    client = connection()
    client.request("GET", path)
    with pytest.raises(LookupError):
        client.getresponse().read()
    client.close()


def test_request_after_an_error_of_the_app(switched: Any) -> None:
    """The connection can be used again; how large the request was does not matter."""
    client = connection()
    for size in (0, 1 << 20):
        with pytest.raises(LookupError):
            ask(client, "/stream/boom?at=start", size)
    client.request("GET", "/status/200")
    assert client.getresponse().read() == b"hello"
    client.close()


def ask(client: http.client.HTTPConnection, path: str, size: int) -> http.client.HTTPResponse:
    client.request("POST", path, io.BytesIO(bytes(size)), {"Content-Length": str(size)})
    return client.getresponse()


def test_urllib_request_and_an_os_error_of_the_app() -> None:
    """It is the app's own, also while a large request is being sent."""
    with IpcThread(failing) as worker, switch_to_ipc_connection(worker):
        for size in (10, 1 << 20):
            request = urllib.request.Request(
                "http://shop.example/", io.BytesIO(bytes(size)), {"Content-Length": str(size)}
            )
            with pytest.raises(FileNotFoundError):
                urllib.request.urlopen(request)


class OwnWay(http.client.HTTPConnection):
    """It connects by itself."""

    connected = 0

    def connect(self) -> None:
        self.connected += 1
        self.sock = socket.create_connection((self.host, self.port))


@pytest.mark.skipif(sockets_are_refused(), reason="it is about a socket")
def test_connection_with_a_way_of_its_own(switched: Any) -> None:
    """It goes its way, and is kept for the next request."""
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as listener:

        def answer() -> None:
            peer, _ = listener.accept()
            with peer:
                for _ in range(3):
                    peer.recv(65536)
                    peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

        with ThreadPoolExecutor(1) as threads:
            answering = threads.submit(answer)
            client = OwnWay("127.0.0.1", listener.getsockname()[1], timeout=LIMIT)
            for _ in range(3):
                client.request("GET", "/")
                assert client.getresponse().read() == b"ok"
            client.close()
            answering.result(LIMIT)
    assert client.connected == 1


def test_worker_that_dies(switched: Any) -> None:
    """It is an error of the connection, too, and the next request gets another worker."""
    client = connection()
    client.request("GET", "/exit")
    with pytest.raises(ConnectionResetError) as caught:
        client.getresponse()
    assert isinstance(caught.value, WorkerDied)
    assert caught.value.exitcode == 7
    client.close()
    client.request("GET", "/status/200")
    assert client.getresponse().read() == b"hello"
    client.close()


def test_timeout(switched: Any) -> None:
    """A read timeout is the client's own and says where the app is, which is told that its client has gone."""
    client = http.client.HTTPConnection("shop.example", timeout=0.1)
    client.request("GET", "/stream/held?token=never")
    response = client.getresponse()
    assert response.read1() == b"held"
    with pytest.raises(TimeoutError) as caught:
        response.read1()
    assert isinstance(caught.value, ReadTimeout)
    assert str(caught.value.args[0]).endswith("the app did not go on with its answer within 0.1 s")
    assert "conformance_app.py" in caught.value.stack
    response.close()
    client.close()


def test_timeouts_of_urllib3(switched: Any) -> None:
    """They are urllib3's own, too, and asking again after one is counted as it does."""
    with urllib3.PoolManager() as pool:
        timeout = urllib3.Timeout(connect=LIMIT, read=0.1)
        with pytest.raises(urllib3.exceptions.ReadTimeoutError) as caught:
            pool.request("GET", "http://shop.example/hang", timeout=timeout, retries=False)
        assert isinstance(caught.value, ReadTimeout)
        assert "hold.wait()" in caught.value.stack
        with pytest.raises(urllib3.exceptions.MaxRetryError) as gone:
            pool.request("GET", "http://shop.example/hang", timeout=timeout, retries=urllib3.Retry(2, backoff_factor=0))
        assert isinstance(gone.value.reason, ReadTimeout)
        assert str(gone.value).endswith("(Caused by ReadTimeout('GET /hang: the app did not answer within 0.1 s'))")


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("path", ["/status/200", "/stream/endless?size=1000&token=dropped"])
def test_dropped_connection(switched: Any, path: str) -> None:
    """A connection that is dropped, whatever is left of its response, ends, and its channel is free again."""
    for _ in range(2 * switched.worker.max_connections):
        client = connection()
        client.request("GET", path)
        client.getresponse()
        del client


def test_pool_that_is_kept(switched: Any) -> None:
    """A pool that outlives a switch goes where the next one sends it."""
    with urllib3.PoolManager() as pool:
        assert pool.request("GET", "http://shop.example/status/200", timeout=LIMIT).data == b"hello"
        switched()
        with IpcThread(failing) as worker, switch_to_ipc_connection(worker):
            with pytest.raises(FileNotFoundError):
                pool.request("GET", "http://shop.example/", timeout=LIMIT)
        with switch_to_ipc_connection("wsgiref.simple_server:demo_app"):
            assert pool.request("GET", "http://shop.example/", timeout=LIMIT).data.startswith(b"Hello world!")


def test_leaving(switched: Any) -> None:
    """The switch restores the methods; a connection that is open then has ended."""
    replaced = http.client.HTTPConnection.connect
    client = connection()
    client.request("GET", "/status/200")
    assert client.getresponse().read() == b"hello"
    assert isinstance(client.sock, WorkerSocket)
    switched()
    assert http.client.HTTPConnection.connect is not replaced
    assert client.sock.recv(1) == b""
    client.close()
