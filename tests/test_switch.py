"""The switch: every client of the process goes to the worker, and comes back."""

from __future__ import annotations

import asyncio
import http.client
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.testclient import TestClient

from socketless import IpcProcess, IpcThread, IpcTransport, reset_ipc_state, switch_to_ipc_connection
from socketless.errors import ReadTimeout, StateError, WorkerDied, WorkerStartError
from support import LIMIT, nothing_leaks

APP = "apps.conformance_app:wsgi"
FAMILIES = [httpx, httpx2]


class Subclass(httpx.Client):
    """A client class that was written before the switch."""

    def ping(self) -> Any:
        return self.get("/seen").json()


from httpx import Client as ImportedBefore  # noqa: E402  # as a test module would


@pytest.fixture
def switched() -> Iterator[Any]:
    options: Any = {"reset_hook": "apps.conformance_app:reset", "start_method": "fork"}  # it is there sooner
    with nothing_leaks(), switch_to_ipc_connection(APP, **options) as switch:
        yield switch


@pytest.mark.parametrize("kind", [IpcProcess, IpcThread])
def test_worker_that_is_given(kind: Any) -> None:
    """The switch sends the clients to a worker that is there already, and leaves it running."""
    with nothing_leaks(), kind(APP, reset_hook_path="apps.conformance_app:reset") as worker:
        with switch_to_ipc_connection(worker) as switch:
            assert switch.worker is worker
            assert httpx.get("/seen").status_code == 200
            reset_ipc_state()
        with httpx.Client(transport=IpcTransport(worker), base_url="http://testserver") as client:
            assert client.get("/seen").status_code == 200
        with pytest.raises(ValueError, match="^reset_hook, start_method: only for workers that the switch starts"):
            switch_to_ipc_connection(worker, reset_hook="apps.conformance_app:reset", start_method="fork")
        worker.run(int)


def attributes() -> list[Any]:
    return [
        vars(cls)[name]
        for family in FAMILIES
        for cls, names in (
            (family.HTTPTransport, ["handle_request", "__init__", "close", "__exit__"]),
            (family.AsyncHTTPTransport, ["handle_async_request", "__init__", "aclose", "__aexit__"]),
            (family._client.BaseClient, ["build_request", "_merge_url", "_get_proxy_map"]),
            (family.Client, ["send", "__init__"]),
            (http.client.HTTPSConnection, ["connect", "__init__"]),
            (urllib.request, ["proxy_bypass"]),
            (aiohttp.client, ["get_env_proxy_for_url"]),
        )
        for name in names
    ] + [dict(vars(http.client))]


@pytest.mark.parametrize("family", FAMILIES)
def test_clients(family: Any, switched: Any) -> None:
    """Clients, their subclasses, and the functions of the module reach the worker, relative URLs too."""
    assert family.get("http://example.org/seen").json()["server"] == ["example.org", 80]
    assert family.get("/seen").json()["server"] == ["testserver", 80]
    assert family.Client().get("/seen?a=1").json()["query"] == "a=1"
    assert family.Client(base_url="https://other:8443/api/").get("seen").json()["server"] == ["other", 8443]
    assert isinstance(family.Client(), family.Client)
    with family.stream("POST", "/echo", content=b"body") as response:
        assert response.read() == b"body"


@pytest.mark.parametrize("family", FAMILIES)
def test_async_clients(family: Any, switched: Any) -> None:
    """Async clients reach the worker, several requests at once."""

    async def main() -> list[Any]:
        async with family.AsyncClient() as client:
            return await asyncio.gather(*(client.get(f"/seen?n={n}") for n in range(50)))

    assert [response.json()["query"] for response in asyncio.run(main())] == [f"n={n}" for n in range(50)]


def endless(environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
    """Yield for ever, or say which queries have been left."""
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/left":
        yield ",".join(sorted(left)).encode()
        return
    try:
        while True:
            yield b"again\n"
    finally:
        left.append(environ["QUERY_STRING"])


left: list[str] = []


def wait_until_left(name: str) -> list[str]:
    deadline = time.monotonic() + LIMIT
    while name not in (names := httpx.get("/left").text.split(",")) and time.monotonic() < deadline:
        pass
    return names


@pytest.mark.parametrize("family", FAMILIES)
def test_closing_a_client_ends_its_streams(family: Any) -> None:
    """A client that is closed, by `close()` or as a context manager, leaves its open responses; others keep theirs."""
    with nothing_leaks(), switch_to_ipc_connection(endless, start_method="fork"), family.Client() as staying:
        kept = staying.send(staying.build_request("GET", "/?kept"), stream=True)
        closed = family.Client()
        responses = [closed.send(closed.build_request("GET", "/?closed"), stream=True)]
        closed.close()
        with family.Client() as left_client:
            responses.append(left_client.send(left_client.build_request("GET", "/?exited"), stream=True))
        wait_until_left("closed")
        assert wait_until_left("exited") == ["closed", "exited"]
        assert next(kept.iter_lines()) == "again"
        assert len(responses) == 2


@pytest.mark.parametrize("family", FAMILIES)
def test_closing_an_async_client_ends_its_streams(family: Any) -> None:
    """So do async clients."""

    async def main() -> None:
        async with family.AsyncClient() as staying:
            kept = await staying.send(staying.build_request("GET", "/?kept"), stream=True)
            closed = family.AsyncClient()
            responses = [await closed.send(closed.build_request("GET", "/?closed"), stream=True)]
            await closed.aclose()
            async with family.AsyncClient() as left_client:
                request = left_client.build_request("GET", "/?exited")
                responses.append(await left_client.send(request, stream=True))
            wait_until_left("closed")
            assert wait_until_left("exited") == ["closed", "exited"]
            assert await anext(kept.aiter_lines()) == "again"
            assert len(responses) == 2

    with nothing_leaks(), switch_to_ipc_connection(endless, start_method="fork"):
        asyncio.run(main())


def test_clients_from_before() -> None:
    """A client that was imported, subclassed or created before the switch reaches the worker; leaving undoes it."""
    client, subclass, based = httpx.Client(), Subclass(), httpx.Client(base_url="http://based")
    with switch_to_ipc_connection(APP):
        assert client.get("/seen").json()["server"] == ["testserver", 80]
        assert subclass.ping()["method"] == "GET"
        assert based.get("/seen").json()["server"] == ["based", 80]
        assert ImportedBefore().get("/seen").status_code == 200
    with pytest.raises(httpx.UnsupportedProtocol):
        client.get("/seen")


def test_relative_url_with_a_url_in_its_query(switched: Any) -> None:
    """A relative URL is relative whatever its query says."""
    assert httpx.get("/seen?next=http://example.com/").json()["query"] == "next=http://example.com/"


def test_redirects_and_cookies_of_relative_urls(switched: Any) -> None:
    """A redirect is followed and a cookie is kept, for a client that has no base_url."""
    with httpx.Client(follow_redirects=True) as client:
        assert client.get("/redirect").json()["path"] == "/echo-redirected"
        client.get("/set-cookies")
        assert dict(client.get("/seen").json()["headers"])["cookie"] == "a=1; b=2"


def test_other_transports_stay(switched: Any) -> None:
    """A client with a transport of its own is left alone."""
    transport = httpx.MockTransport(lambda request: httpx.Response(418))
    assert httpx.Client(transport=transport).get("http://example.org/").status_code == 418


def test_restores_every_attribute() -> None:
    """Leaving the switch restores every attribute exactly, also when it is left by an exception."""
    before = attributes()
    cleanup = switch_to_ipc_connection(APP)
    assert attributes() != before
    cleanup()
    cleanup()
    assert attributes() == before
    with pytest.raises(KeyError), switch_to_ipc_connection(APP):
        raise KeyError
    assert attributes() == before


def test_reset(switched: Any) -> None:
    """reset_ipc_state() calls the hook in the worker."""
    assert [httpx.get("/count").text for _ in range(2)] == ["1", "2"]
    reset_ipc_state()
    assert httpx.get("/count").text == "1"


def test_reset_with_a_callable() -> None:
    """The hook may be a callable: it runs in the worker."""
    from apps import conformance_app

    with switch_to_ipc_connection(conformance_app.wsgi, reset_hook=conformance_app.reset):
        assert [httpx.get("/count").text for _ in range(2)] == ["1", "2"]
        reset_ipc_state()
        assert httpx.get("/count").text == "1"
    assert conformance_app.counter == 0


def test_failing_reset() -> None:
    """What the hook raises is raised by reset_ipc_state()."""
    with (
        switch_to_ipc_connection(APP, reset_hook="apps.conformance_app:failing_reset"),
        pytest.raises(ValueError, match="^the hook failed$"),
    ):
        reset_ipc_state()


def test_reset_without_switch_or_hook() -> None:
    """Without a switch, or without a hook, a reset does nothing."""
    reset_ipc_state()
    with switch_to_ipc_connection(APP):
        reset_ipc_state()


def test_two_switches(switched: Any) -> None:
    """A second switch is refused, and the first goes on."""
    with pytest.raises(StateError) as caught:
        switch_to_ipc_connection(APP)
    assert str(caught.value) == (
        "this process is switched to 'apps.conformance_app:wsgi' already; call what the first "
        "switch_to_ipc_connection() returned before the next, or use IpcProcess and IpcTransport for one of the two"
    )
    assert httpx.get("/count").text == "1"


def test_switch_that_cannot_start() -> None:
    """When the worker cannot start, nothing is switched, and the next switch can be made."""
    before = attributes()
    with nothing_leaks(), pytest.raises(WorkerStartError, match="there is no module 'nowhere'"):
        switch_to_ipc_connection("nowhere:app")
    assert attributes() == before
    with switch_to_ipc_connection(APP):
        assert httpx.get("/seen").status_code == 200


@pytest.mark.parametrize("base_url", [None, "", "testserver", "ftp://testserver", "http://test server:x"])
def test_bad_base_url(base_url: Any) -> None:
    """A base_url that is none is refused, and nothing is left."""
    with nothing_leaks(), pytest.raises((ValueError, httpx.InvalidURL)):
        switch_to_ipc_connection(APP, base_url=base_url)


def test_options(capfd: pytest.CaptureFixture[str]) -> None:
    """The switch passes on what a worker and a transport take."""
    with switch_to_ipc_connection(
        "apps.conformance_app:outer",
        base_url="https://example.org/api",
        app_kind="asgi",
        start_method="fork",
        raise_app_exceptions=False,
        root_path="/api",
        max_connections=1,
        debug=True,
    ) as switch:
        assert isinstance(switch.worker, IpcProcess)
        seen = httpx.get("/seen").json()
        assert (seen["scheme"], seen["server"], seen["path"]) == ("https", ["example.org", 443], "/api/seen")
        assert seen["root_path"] == "/api"
        assert httpx.get("https://example.org/boom").status_code == 500
    trace = capfd.readouterr().err
    assert "[socketless] > GET https://example.org:443/api/seen (5 headers, 0 bytes)" in trace
    assert "[socketless] < GET /boom: raised LookupError: ('boom', 42)" in trace


def test_starlettes_client_across_the_ends_of_a_switch() -> None:
    """Starlette's TestClient that was entered before the switch is left within it, and the other way round."""
    heard = []

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        heard.append("up")
        yield
        heard.append("down")

    app = Starlette(lifespan=lifespan)
    before, within = TestClient(app), TestClient(app)
    with nothing_leaks():
        before.__enter__()
        with switch_to_ipc_connection(APP):
            assert before.get("/seen").json()["path"] == "/seen"
            before.__exit__(None, None, None)
            assert heard == ["up", "down"]
            within.__enter__()
            assert within.get("/seen").status_code == 200
        within.__exit__(None, None, None)
        assert within.get("/seen").status_code == 404
    assert heard == ["up", "down"]


@pytest.mark.parametrize("family", FAMILIES)
def test_trace(family: Any, switched: Any) -> None:
    """The `trace` extension hears what httpcore does, as before a server; what the app raises is raised."""
    heard: list[str] = []

    async def trace(event: str, info: Any) -> None:
        heard.append(event)

    async def main() -> None:
        async with family.AsyncClient() as client:
            assert (await client.get("/seen", extensions={"trace": trace})).status_code == 200
            with pytest.raises(LookupError):
                await client.get("/boom", extensions={"trace": trace})

    options = {"extensions": {"trace": lambda event, info: heard.append(event)}}
    with family.Client() as client:
        assert client.get("https://shop.example/seen", **options).json()["scheme"] == "https"
        of_first = list(heard)
        heard.clear()
        assert client.get("https://shop.example/seen", **options).status_code == 200
        assert heard == [each for each in of_first if not each.startswith("connection.")]  # it is kept
        with pytest.raises(LookupError):
            client.get("/boom", **options)
    assert of_first[:4] == [f"connection.{what}" for what in TCP_AND_TLS]
    assert of_first[-1] == "http11.response_closed.complete"
    heard.clear()
    asyncio.run(main())
    assert heard[:2] == ["connection.connect_tcp.started", "connection.connect_tcp.complete"]


TCP_AND_TLS = ["connect_tcp.started", "connect_tcp.complete", "start_tls.started", "start_tls.complete"]


@pytest.mark.parametrize("family", FAMILIES)
def test_limits_of_a_client(family: Any, switched: Any) -> None:
    """A client with as many connections as it may have waits for one, and not for the worker."""
    limits, timeout = family.Limits(max_connections=1), family.Timeout(LIMIT, pool=0.01)

    async def main() -> None:
        async with family.AsyncClient(limits=limits, timeout=timeout) as client:
            async with client.stream("GET", "/stream/endless?size=5000"):
                with pytest.raises(family.PoolTimeout):
                    await client.get("/seen")
            assert (await client.get("/seen")).status_code == 200

    with family.Client(limits=limits, timeout=timeout) as client:
        with client.stream("GET", "/stream/endless?size=5000"), pytest.raises(family.PoolTimeout):
            client.get("/seen")
        assert client.get("/seen").status_code == 200
    asyncio.run(main())


@pytest.mark.parametrize("family", FAMILIES)
def test_errors_by_way_of_httpcore(family: Any, switched: Any) -> None:
    """A dead worker and a timeout are the same errors for a client that has a limit, or is traced."""
    with family.Client(limits=family.Limits(max_connections=1)) as client:
        with pytest.raises(family.ReadError) as died:
            client.get("/exit")
        assert isinstance(died.value, WorkerDied)
        assert died.value.request.url.path == "/exit"
        with pytest.raises(family.ReadTimeout) as late:
            client.get("/hang", timeout=0.1)
        assert isinstance(late.value, ReadTimeout)
        assert "hold.wait()" in late.value.stack
        assert client.post("/echo", content=iter([b"one", b"two"])).text == "onetwo"
