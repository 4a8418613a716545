"""The switch with several apps: each host has its own, and the others go on as before, or are refused."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests
import urllib3
from asking import WAYS, WEBSOCKETS

from socketless import IpcProcess, IpcThread, reset_ipc_state, switch_to_ipc_connection
from socketless._switch import starlette
from socketless._switch.hosts import Hosts, parse_host
from socketless.errors import StateError, UnknownHost, WorkerStartError
from support import LIMIT, nothing_leaks

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of websockets, of its older clients

HERE = __name__

visits: list[str] = []


async def answer(name: str, scope: Any, receive: Any, send: Any) -> None:
    """Say whose app it is, and for which host; the path may be the name of an exception."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": name})
        await send({"type": "websocket.close"})
        return
    assert scope["type"] == "http"
    visits.append(name)
    if scope["path"] == "/raise":
        raise LookupError(name)
    host = dict(scope["headers"])[b"host"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": name.encode() + b" for " + host})


red, blue = partial(answer, "red"), partial(answer, "blue")


def reset() -> None:
    """Forget the visits of this worker."""
    visits.clear()


@pytest.fixture(scope="module")
def workers() -> Iterator[dict[str, Any]]:
    with nothing_leaks(), IpcProcess(red, start_method="fork") as process, IpcThread(blue) as thread:
        yield {"red.test": process, "http://localhost:9000": thread}


@pytest.fixture
def switched(workers: Any) -> Iterator[Any]:
    """An app in a process and one on threads; others are refused."""
    before = {*threading.enumerate()}
    with switch_to_ipc_connection(workers, others="refuse") as switch:
        yield switch
    for thread in {*threading.enumerate()} - before:
        if not thread.name.startswith("socketless"):
            thread.join(LIMIT)  # the clients' own close their sockets when they have come to their end


@pytest.mark.parametrize("way", WAYS)
def test_clients(way: str, switched: Any) -> None:
    """Every client library reaches the app of the host, at the port, that its URL names."""
    ask = WAYS[way]
    assert ask("http://red.test/") == "red for red.test"
    assert ask("https://red.test/") == "red for red.test"
    assert ask("http://red.test:8000/") == "red for red.test:8000"
    assert ask("http://localhost:9000/") == "blue for localhost:9000"


@pytest.mark.parametrize("way", WEBSOCKETS)
def test_websockets(way: str, switched: Any) -> None:
    """So do the client libraries of WebSockets."""
    ask = WEBSOCKETS[way]
    assert [ask("ws://red.test/"), ask("ws://localhost:9000/")] == ["red", "blue"]


REFUSALS: dict[str, type[BaseException]] = {
    "httpx": httpx.ConnectError,
    "httpx, async": httpx.ConnectError,
    "httpx, traced": httpx.ConnectError,
    "httpx2": httpx2.ConnectError,
    "httpx2, async": httpx2.ConnectError,
    "requests": requests.ConnectionError,
    "urllib3": urllib3.exceptions.NewConnectionError,
    "urllib.request": OSError,
    "http.client": ConnectionRefusedError,
    "httplib2": ConnectionRefusedError,
    "aiohttp": aiohttp.ClientConnectionError,
}
REFUSED = (
    "GET /x: no app has the host localhost:9001, and others='refuse'; there are apps for red.test, "
    "http://localhost:9000"
)


@pytest.mark.parametrize("way", REFUSALS)
def test_refused(way: str, switched: Any) -> None:
    """A host that no app has is the library's connection error, which says so; the others are as they were."""
    with pytest.raises(REFUSALS[way]) as caught:
        WAYS[way]("http://localhost:9001/x")
    error = getattr(caught.value, "reason", caught.value)  # of urllib.request
    assert (isinstance(error, UnknownHost), str(error)) == (True, REFUSED)
    assert WAYS[way]("http://red.test/") == "red for red.test"


@pytest.mark.parametrize("way", WEBSOCKETS)
def test_refused_websocket(way: str, switched: Any) -> None:
    """So it is for WebSockets."""
    with pytest.raises(ConnectionRefusedError, match=r"no app has the host localhost:9001, and others='refuse'"):
        WEBSOCKETS[way]("ws://localhost:9001/x")
    assert WEBSOCKETS[way]("ws://red.test/") == "red"


def test_test_client_of_another_app(switched: Any) -> None:
    """Starlette's `TestClient` has an app of its own for hosts that no app has: nothing goes to the network."""
    assert WAYS["TestClient"]("http://testserver/") == "the client's own"


def test_one_worker_for_one_app() -> None:
    """An app that has several hosts has one worker, which knows them all by its own name."""
    apps = {"a.test": f"{HERE}:red", "b.test": f"{HERE}:red", "c.test": blue, "d.test": blue}
    with nothing_leaks(), switch_to_ipc_connection(apps) as switch:
        assert list(switch.workers) == list(apps)
        a, b, c, d = switch.workers.values()
        assert (a is b, c is d, type(a), type(c)) == (True, True, IpcProcess, IpcThread)
        assert httpx.get("http://b.test/").text == "red for b.test"


def test_reset_run_and_exceptions() -> None:
    """Reset hooks, `run()` and exceptions are each worker's own; a worker that is given keeps its options."""
    visits.clear()
    hooks = {"red.test": f"{HERE}:reset"}
    with nothing_leaks(), IpcProcess(f"{HERE}:blue", start_method="fork") as worker:
        apps = {"red.test": f"{HERE}:red", "blue.test": worker}
        with switch_to_ipc_connection(apps, reset_hook=hooks, start_method="fork") as switch:
            for host in apps:
                with pytest.raises(LookupError, match=host.partition(".")[0]):
                    httpx.get(f"http://{host}/raise")
            assert [each.run(lambda: visits) for each in switch.workers.values()] == [["red"], ["blue"]]
            reset_ipc_state()
            assert [each.run(lambda: visits) for each in switch.workers.values()] == [[], ["blue"]]
        assert worker.run(int) == 0


def test_base_url() -> None:
    """`base_url` picks the app of relative URLs; without one that an app has, they are what they were."""
    apps = {"red.test": red, "localhost:9000": blue}
    with switch_to_ipc_connection(apps, base_url="http://localhost:9000") as switch:
        assert (httpx.get("/").text, requests.get("/").text) == ("blue for localhost:9000",) * 2
        assert switch.worker is switch.workers["localhost:9000"]
    with switch_to_ipc_connection(apps) as switch:
        with pytest.raises(httpx.UnsupportedProtocol):
            httpx.get("/")
        with pytest.raises(requests.exceptions.MissingSchema):
            requests.get("/")
        with pytest.raises(StateError, match=r"take one by its host, switch\.workers\['red\.test'\], or give"):
            switch.worker  # noqa: B018


def test_one_app_and_others() -> None:
    """One app answers every host, or, once others are named, that of `base_url` alone."""
    with switch_to_ipc_connection(f"{HERE}:red", start_method="fork") as switch:
        assert httpx.get("http://elsewhere.test/").text == "red for elsewhere.test"
        assert list(switch.workers) == ["*"]
    with switch_to_ipc_connection(
        f"{HERE}:red", start_method="fork", base_url="http://red.test:80", others="refuse"
    ) as switch:
        assert httpx.get("/").text == "red for red.test"
        with pytest.raises(UnknownHost):
            httpx.get("http://elsewhere.test/")


def test_kept_connection_of_another_switch() -> None:
    """A connection that a pool has kept is not used when its host has another app."""
    with urllib3.PoolManager() as pool, httpx.Client() as client:
        trace = {"trace": lambda name, info: None}
        for app in (red, blue):
            with switch_to_ipc_connection({"red.test": app}):
                name = app.args[0]
                assert pool.request("GET", "http://red.test/").data.decode() == f"{name} for red.test"
                assert client.get("http://red.test/", extensions=trace).text == f"{name} for red.test"


def test_closing_a_client_ends_the_streams_of_all() -> None:
    """A client that is closed leaves its open responses, whichever app they are of."""

    async def endless(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        while (await receive())["type"] != "http.disconnect":
            pass
        left.append(scope["server"][0])

    left: list[str] = []
    with nothing_leaks(), switch_to_ipc_connection({"a.test": endless, "b.test": partial(endless)}) as switch:
        client = httpx.Client()
        requests = [client.build_request("GET", f"http://{host}/") for host in switch.workers]
        responses = [client.send(request, stream=True) for request in requests]
        client.close()
        assert len(responses) == 2
        assert all(worker.wait_idle(LIMIT) for worker in switch.workers.values())
        assert sorted(left) == ["a.test", "b.test"]


def test_patch_that_fails(monkeypatch: Any) -> None:
    """If something cannot be replaced, what was is put back, and the workers are stopped."""

    def bit_length(self: int) -> int:
        return 0

    def replacements(*arguments: Any) -> Iterator[Any]:
        yield int, bit_length  # which int refuses

    before = httpx.HTTPTransport.handle_request
    monkeypatch.setattr(starlette, "replacements", replacements)  # the last to be replaced
    with nothing_leaks(), pytest.raises(TypeError):
        switch_to_ipc_connection({"a.test": red})
    assert httpx.HTTPTransport.handle_request is before
    monkeypatch.undo()
    with switch_to_ipc_connection({"a.test": red}):
        assert httpx.get("http://a.test/").text == "red for a.test"


PATTERNS = {
    "api.test": ("api.test", None),
    "API.test.": ("api.test", None),
    "api.test:8000": ("api.test", 8000),
    "http://api.test": ("api.test", 80),
    "https://api.test/": ("api.test", 443),
    "wss://api.test": ("api.test", 443),
    "http://[::1]:8000": ("::1", 8000),
    "[::1]": ("::1", None),
    "*.api.test": ("*.api.test", None),
    "*": ("*", None),
    "*:8000": ("*", 8000),
    "bücher.test": ("xn--bcher-kva.test", None),
    "*.BÜCHER.test": ("*.xn--bcher-kva.test", None),
    "straße.test": ("xn--strae-oqa.test", None),
    "my_shop.bücher.test": ("my_shop.xn--bcher-kva.test", None),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_pattern(pattern: str) -> None:
    """A pattern is a host, with or without a port, or the origin of a URL."""
    assert parse_host(pattern) == PATTERNS[pattern]


@pytest.mark.parametrize(
    "pattern", ["", "http://api.test/path", "api.test/", "a b", "ftp://api.test", "a*", "user@api.test", ":80", 1]
)
def test_no_pattern(pattern: Any) -> None:
    """Anything else is an error, which says what to write."""
    with pytest.raises(ValueError) as caught:
        parse_host(pattern)
    assert str(caught.value) == (
        f"{pattern!r} is not a host: write 'api.test', 'api.test:8000', 'http://api.test' or '*.api.test'"
    )


def test_most_particular_pattern() -> None:
    """Of several patterns that fit, the most particular one counts."""
    patterns = ["a.test:81", "a.test", "*.a.test", "*.test:81", "*.test", "*:81"]
    hosts = Hosts({each: each for each in patterns}, "pass")
    asked = [("a.test", 81), ("A.TEST.", 80), (b"x.y.a.test", 81), ("b.test", 81), ("b.test", 80), ("c", 81), ("c", 80)]
    found = [hosts.find(*each) for each in asked]
    assert found == ["a.test:81", "a.test", "*.a.test", "*.test:81", "*.test", "*:81", None]


def test_names_and_ports_of_clients() -> None:
    """Names mean what they mean to clients; one that cannot be written has no app of its own; port 0 is a port."""
    hosts = Hosts({"straße.test:80": "straße", "*.test:80": "others"}, "pass")
    found = [hosts.find_url(httpx.URL(f"http://{name}.test/")) for name in ("straße", "strasse")]
    assert found == ["straße", "others"]
    assert hosts.find_url(httpx.URL("http://straße.test:0/")) is None
    assert (hosts.find("ü" * 70, 80), hosts.find_any("ü" * 70)) == (None, None)
    assert Hosts({"*": "all", "a.test": "one"}, "pass").find("ü" * 70, 80) == "all"
    with pytest.raises(ValueError, match="^'ü+' is not a host: Label too long"):
        parse_host("ü" * 70)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"app_import": {}}, "there is no app: write {'api.test': 'package.module:app'}"),
        ({"app_import": {"a.test/x": red}}, "'a.test/x' is not a host: "),
        ({"app_import": {"a.test": red, "A.test": blue}}, "'A.test' names hosts that another pattern names already"),
        ({"others": "drop"}, "others must be one of 'pass', 'refuse', not 'drop'"),
        (
            {"base_url": "http://c.test"},
            "no app has the host of base_url='http://c.test'; there are apps for a.test, b.test",
        ),
        (
            {"reset_hook": reset},
            "reset_hook=<function reset at .*>: name the host of its app: reset_hook={'api.test': ...}",
        ),
        (
            {"reset_hook": {"c.test": reset}},
            "reset_hook: no app has the host 'c.test'; there are apps for a.test, b.test",
        ),
    ],
)
def test_wrong_arguments(arguments: Any, expected: str) -> None:
    """What is wrong with hosts is said before anything is started."""
    with nothing_leaks(), pytest.raises(ValueError, match=expected.replace("{", r"\{").replace("...", r"\.\.\.")):
        switch_to_ipc_connection(**{"app_import": {"a.test": red, "b.test": blue}, **arguments})


def test_options_of_given_workers() -> None:
    """Options, and hooks, of workers that are there already are the workers' own."""
    with IpcThread(red) as worker:
        for options in ({"max_body_bytes": 5}, {"reset_hook": {"a.test": reset}}):
            with pytest.raises(ValueError, match=f"^{next(iter(options))}: only for workers that the switch starts"):
                switch_to_ipc_connection({"a.test": worker}, **options)  # type: ignore[arg-type]


def test_app_that_does_not_start() -> None:
    """If one of the apps cannot start, those that have are stopped, and nothing is switched."""
    before = httpx.HTTPTransport.handle_request
    with nothing_leaks(), pytest.raises(WorkerStartError, match="there is no module 'no_such_module'"):
        switch_to_ipc_connection({"a.test": f"{HERE}:red", "b.test": "no_such_module:app"}, start_method="fork")
    assert httpx.HTTPTransport.handle_request is before
