"""Mocks, cassettes and tracing of other packages: under the switch they do what they do before a server on a port."""

from __future__ import annotations

import asyncio
import http.client
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpcore
import httpretty
import httpx
import httpx2
import pytest
import requests
import requests_mock
import responses
import respx
import trio
import urllib3
import vcr
from mocket import Mocketizer
from mocket.mocks.mockhttp import Entry
from opentelemetry.instrumentation.aiohttp_client import AioHttpClientInstrumentor
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.urllib import URLLibInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from wsgi_intercept.interceptor import (
    HttpClientInterceptor,
    RequestsInterceptor,
    Urllib3Interceptor,
    UrllibInterceptor,
)

from socketless import IpcThread, switch_to_ipc_connection
from support import LIMIT, nothing_leaks, sockets_are_refused

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of those packages
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

HOST, PORT = "127.0.0.1", 8000  # where nobody listens
MOCKED, OTHER = f"http://{HOST}:{PORT}/mocked", f"http://{HOST}:{PORT}/other"


def app(environ: Any, start_response: Any) -> list[bytes]:
    """Say what was asked for."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Connection", "close")])
    return [f"app {environ['wsgi.url_scheme']} {environ['PATH_INFO']}".encode()]


@pytest.fixture(scope="module")
def worker() -> Iterator[IpcThread]:
    with nothing_leaks(), IpcThread(app) as worker:
        yield worker


# The clients

Ask = Callable[[str], str]


async def _of_async(family: Any, url: str) -> str:
    async with family.AsyncClient(trust_env=False) as client:
        text: str = (await client.get(url)).text
        return text


async def _of_aiohttp(url: str) -> str:
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        return await response.text()


def _of_http_client(url: str) -> str:
    connection = http.client.HTTPConnection(HOST, PORT, timeout=LIMIT)
    connection.request("GET", f"/{url.rpartition('/')[2]}")
    with connection.getresponse() as response:
        text = response.read().decode()
    connection.close()
    return text


CLIENTS: dict[str, Ask] = {
    "httpx": lambda url: httpx.get(url).text,
    "httpx2": lambda url: httpx2.get(url).text,
    "httpx, asyncio": lambda url: asyncio.run(_of_async(httpx, url)),
    "httpx2, asyncio": lambda url: asyncio.run(_of_async(httpx2, url)),
    "httpx, trio": lambda url: trio.run(_of_async, httpx, url),
    "requests": lambda url: requests.get(url, timeout=LIMIT).text,
    "urllib3": lambda url: urllib3.PoolManager().request("GET", url, timeout=LIMIT).data.decode(),
    "http.client": _of_http_client,
    "urllib": lambda url: urllib.request.urlopen(url, timeout=LIMIT).read().decode(),  # type: ignore[no-any-return]
    "aiohttp": lambda url: asyncio.run(_of_aiohttp(url)),
}

# The mocks, of which each answers for MOCKED, and sends on what it does not know.

Mock = Callable[[], AbstractContextManager[object]]


@contextmanager
def with_httpretty() -> Iterator[None]:
    with httpretty.enabled():
        httpretty.register_uri(httpretty.GET, MOCKED, body="mock")
        yield
    httpretty.reset()


@contextmanager
def with_mocket() -> Iterator[None]:
    Entry.register(Entry.GET, MOCKED, Entry.response_cls(body="mock", status=200, headers={}))
    with Mocketizer():
        yield


@contextmanager
def with_responses() -> Iterator[None]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        mock.get(MOCKED, body="mock")
        mock.add_passthru(OTHER)
        yield


@contextmanager
def with_respx(**options: Any) -> Iterator[None]:
    with respx.mock(assert_all_called=False, **options) as mock:
        mock.get(MOCKED).respond(text="mock")
        mock.route(path="/other").pass_through()
        yield


@contextmanager
def with_requests_mock() -> Iterator[None]:
    with requests_mock.Mocker(real_http=True) as mock:
        mock.get(MOCKED, text="mock")
        yield


def _intercepting(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"mock" if environ["PATH_INFO"] == "/mocked" else app(environ, start_response)[0]]


def with_wsgi_intercept(interceptor: Any) -> Mock:
    return lambda: interceptor(lambda: _intercepting, host=HOST, port=PORT)  # type: ignore[no-any-return]


MOCKS: dict[str, tuple[Mock, list[str]]] = {
    "httpretty": (with_httpretty, ["requests", "urllib3", "http.client", "urllib"]),
    "mocket": (
        with_mocket,
        ["httpx", "httpx, asyncio", "httpx2, asyncio", "requests", "urllib3", "http.client", "urllib", "aiohttp"],
    ),
    "responses": (with_responses, ["requests"]),
    "respx": (with_respx, ["httpx", "httpx, asyncio", "httpx, trio"]),
    "respx, httpx": (lambda: with_respx(using="httpx"), ["httpx", "httpx, asyncio", "httpx, trio"]),
    "requests-mock": (with_requests_mock, ["requests"]),
    "wsgi-intercept, requests": (with_wsgi_intercept(RequestsInterceptor), ["requests"]),
    "wsgi-intercept, urllib3": (with_wsgi_intercept(Urllib3Interceptor), ["urllib3"]),
    "wsgi-intercept, urllib": (with_wsgi_intercept(UrllibInterceptor), ["urllib"]),
    "wsgi-intercept, http.client": (with_wsgi_intercept(HttpClientInterceptor), ["http.client"]),
}


@contextmanager
def under(worker: IpcThread, mock: Mock) -> Iterator[Any]:
    with switch_to_ipc_connection(worker), mock() as begun:
        yield begun


@contextmanager
def before(worker: IpcThread, mock: Mock) -> Iterator[Any]:
    with mock() as begun, switch_to_ipc_connection(worker):
        yield begun


begun = pytest.mark.parametrize("begun", [under, before])


@begun
@pytest.mark.parametrize(("mock", "client"), [(mock, client) for mock, (_, of) in MOCKS.items() for client in of])
def test_mocks(mock: str, client: str, begun: Any, worker: IpcThread) -> None:
    """A mock answers, begun under the switch or before it; what it does not know, the app answers."""
    ask = CLIENTS[client]
    with begun(worker, MOCKS[mock][0]):
        assert (ask(MOCKED), ask(OTHER)) == ("mock", "app http /other")
    with switch_to_ipc_connection(worker):
        assert ask(MOCKED) == "app http /mocked"


@begun
@pytest.mark.parametrize("client", ["httpx", "httpx2", "httpx, asyncio", "http.client", "urllib"])
def test_mock_of_sockets_that_sends_nothing_on(client: str, begun: Any, worker: IpcThread) -> None:
    """httpretty answers, and refuses what it does not know, which the app is not asked."""
    with begun(worker, lambda: httpretty.enabled(allow_net_connect=True)):
        httpretty.register_uri(httpretty.GET, MOCKED, body="mock")
        assert CLIENTS[client](MOCKED) == "mock"
    with begun(worker, lambda: httpretty.enabled(allow_net_connect=False)), pytest.raises(BaseException) as caught:
        CLIENTS[client](OTHER)
    assert "app" not in str(caught.value)


def test_mock_of_sockets_and_tls(worker: IpcThread) -> None:
    """What a mock sends on by https reaches the app as such."""
    with under(worker, with_httpretty):
        # httpretty cannot wrap the sockets of http.client: Python 3.13 warns of it, 3.14 refuses it.
        for client in ("requests", "urllib3", "urllib")[: 3 if sys.version_info < (3, 13) else 2]:
            assert CLIENTS[client](f"https://{HOST}/other") == "app https /other"


def test_mock_of_sockets_afresh() -> None:
    """A mock of sockets may come before httpx has imported httpcore, and with that trio."""
    code = f"""
        import httpretty, httpx, sys
        from socketless import switch_to_ipc_connection
        with switch_to_ipc_connection("wsgiref.simple_server:demo_app"), httpretty.enabled(allow_net_connect=False):
            assert "httpcore" not in sys.modules
            httpretty.register_uri(httpretty.GET, {MOCKED!r}, body="mock")
            print(httpx.get({MOCKED!r}, trust_env=False).text)
    """
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "mock\n"


# Cassettes


@begun
@pytest.mark.parametrize("client", [client for client in CLIENTS if client != "httpx, trio"])
def test_cassette(client: str, begun: Any, worker: IpcThread, tmp_path: Path) -> None:
    """vcrpy records what the app has answered, and plays it."""
    counts = []
    for mode in ("once", "none"):
        with begun(worker, lambda mode=mode: vcr.use_cassette(str(tmp_path / "tape.yaml"), record_mode=mode)) as tape:
            assert CLIENTS[client](OTHER) == "app http /other"
            counts.append((len(tape), tape.play_count))
    assert counts == [(1, 0), (1, 1)]


# Tracing

INSTRUMENTORS = {
    "httpx": HTTPXClientInstrumentor,
    "httpx, asyncio": HTTPXClientInstrumentor,
    "httpx, trio": HTTPXClientInstrumentor,
    "requests": RequestsInstrumentor,
    "urllib3": URLLib3Instrumentor,
    "urllib": URLLibInstrumentor,
    "aiohttp": AioHttpClientInstrumentor,
}


@begun
@pytest.mark.parametrize("client", INSTRUMENTORS)
def test_opentelemetry(client: str, begun: Any, worker: IpcThread) -> None:
    """A request has a span of its own, and its headers; afterwards nothing is left."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))

    @contextmanager
    def instrumented() -> Iterator[None]:
        instrumentor = INSTRUMENTORS[client]()
        instrumentor.instrument(tracer_provider=provider)
        try:
            yield
        finally:
            instrumentor.uninstrument()

    with begun(worker, instrumented):
        assert CLIENTS[client](OTHER) == "app http /other"
    assert [span.name for span in exporter.get_finished_spans()] == ["GET"]
    with switch_to_ipc_connection(worker):
        assert CLIENTS[client](OTHER) == "app http /other"
    assert len(exporter.get_finished_spans()) == 1


WITH_SENTRY = """
import contextlib
import sentry_sdk
import test_switch_mocks as mocks

def crumb(crumb, hint):
    data = crumb["data"]
    seen.append((crumb["type"], data["url.full" if "url.full" in data else "url"]))  # the first one from version 3 on

with mocks.IpcThread(mocks.app) as worker:
    for begun in (mocks.under, mocks.before):
        # Before version 3, init() returns a context manager.
        with begun(worker, lambda: contextlib.nullcontext(sentry_sdk.init(before_breadcrumb=crumb))):
            for client in ("httpx", "httpx, asyncio", "requests", "urllib3", "urllib", "aiohttp"):
                seen = []
                answer = mocks.CLIENTS[client](mocks.OTHER)
                assert (answer, seen) == ("app http /other", [("http", mocks.OTHER)]), (begun, client, answer, seen)
"""


def test_sentry() -> None:
    """Sentry, whose instrumentation stays for ever, sees each request."""
    subprocess.run(
        [sys.executable, "-W", "ignore", "-c", WITH_SENTRY], check=True, timeout=LIMIT, cwd=Path(__file__).parent
    )


# What outlives its switch


def other_app(environ: Any, start_response: Any) -> list[bytes]:
    """Say that it is another."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Connection", "close")])
    return [b"another app"]


@pytest.mark.parametrize("client", CLIENTS)
def test_references_that_outlive_their_switch(client: str, worker: IpcThread, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever keeps a function from under a switch, and puts it back, is sent on to the next one."""
    kept: dict[tuple[Any, str], Any] = {}
    with switch_to_ipc_connection(worker):
        for owner in (httpx.HTTPTransport, httpx.AsyncHTTPTransport, httpx2.HTTPTransport, httpx2.AsyncHTTPTransport):
            name = "handle_async_request" if "Async" in owner.__name__ else "handle_request"
            kept[owner, name] = getattr(owner, name)
        for owner in (http.client.HTTPConnection, urllib3.connection.HTTPConnection):
            kept[owner, "connect"] = owner.connect
        kept[requests.adapters.HTTPAdapter, "send"] = requests.adapters.HTTPAdapter.send
        kept[aiohttp.TCPConnector, "_create_connection"] = aiohttp.TCPConnector._create_connection
        kept[httpcore.SyncBackend, "connect_tcp"] = httpcore.SyncBackend.connect_tcp
        kept[httpcore.AnyIOBackend, "connect_tcp"] = httpcore.AnyIOBackend.connect_tcp
    with IpcThread(other_app) as other, switch_to_ipc_connection(other):
        assert CLIENTS[client](OTHER) == "another app"
        for (owner, name), function in kept.items():
            monkeypatch.setattr(owner, name, function)
        assert CLIENTS[client](OTHER) == "another app"
        monkeypatch.undo()
        assert CLIENTS[client](OTHER) == "another app"


@pytest.mark.parametrize("client", ["httpx", "httpx, asyncio", "requests", "urllib3", "http.client"])
def test_mock_that_outlives_its_switch(client: str, worker: IpcThread) -> None:
    """A mock that was begun under a switch stays, and sends on to the next; ended after it, it leaves nothing."""
    mock, _ = MOCKS["respx" if "httpx" in client else "httpretty"]
    if "httpx" not in client and sockets_are_refused():
        pytest.skip("outside of a switch, httpretty makes sockets of its own")
    cleanup = switch_to_ipc_connection(worker)
    with mock():
        cleanup()
        assert CLIENTS[client](MOCKED) == "mock"
        with IpcThread(other_app) as other, switch_to_ipc_connection(other):
            assert CLIENTS[client](MOCKED) == "mock"
            assert CLIENTS[client](OTHER) == "another app"
    with switch_to_ipc_connection(worker):
        assert CLIENTS[client](MOCKED) == "app http /mocked"
