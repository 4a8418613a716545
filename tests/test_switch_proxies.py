"""Proxies of the environment, and those that are given: under the switch, and with a worker, none is asked."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import aiohttp
import httpcore
import httpcore2
import pytest
import requests
from starlette.applications import Starlette
from ways import FAMILIES, WAYS

import socketless.requests
import warm
from commands import MODULE
from commands import run as run_command
from projects import Project
from socketless import IpcThread, IpcTransport, switch_to_ipc_connection
from socketless.requests import IpcAdapter
from socketless.testclient import TestClient
from support import LIMIT, nothing_leaks, raised_by

APP = "apps.conformance_app:wsgi"
NAMES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
SOCKS = "socks5h://localhost:1080"

ENVIRONMENTS = {
    "http": dict.fromkeys(NAMES[:3], "http://me:secret@proxy.example:3128"),
    "TLS": dict.fromkeys(NAMES[:2], "https://proxy.example:3128"),
    "without a scheme": dict.fromkeys(NAMES[:2], "proxy.example:3128"),
    "SOCKS for all": {"all_proxy": SOCKS},
    "SOCKS for each": dict.fromkeys(NAMES[:3], SOCKS),
    "a sandbox": {
        **dict.fromkeys(NAMES[:2], "http://localhost:3128"),
        "all_proxy": SOCKS,
        "no_proxy": "localhost,127.0.0.1,::1,*.local,.local,169.254.0.0/16,10.0.0.0/8",
    },
    "not for the host": {**dict.fromkeys(NAMES[:3], "http://proxy.example:3128"), "no_proxy": "shop.example"},
    "a network of IPv6": {"all_proxy": SOCKS, "no_proxy": "[::1],fd00::/8,shop.example"},
    "no known scheme": dict.fromkeys(NAMES[:3], "socks4://localhost:1080"),
}

both_families = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(autouse=True)
def set_proxies(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that lets the environment have these proxies, and no others."""

    def set_proxies(proxies: dict[str, str]) -> None:
        for name in NAMES:
            for spelling in (name, name.upper()):
                monkeypatch.delenv(spelling, raising=False)
        for name, value in proxies.items():
            monkeypatch.setenv(name, value)

    set_proxies({})
    return set_proxies


@pytest.fixture(scope="module")
def worker() -> Iterator[IpcThread]:
    warm.start("the command line")  # is left, for other tests
    with nothing_leaks(), IpcThread(APP) as worker:
        yield worker


@pytest.fixture
def switched(worker: IpcThread) -> Iterator[Any]:
    with switch_to_ipc_connection(worker) as switch:
        yield switch


def oddities(seen: Any, scheme: str) -> list[Any]:
    """Return what the app would not have seen without proxies."""
    expected = scheme, ["shop.example", 443 if scheme == "https" else 80]
    odd = [value for value in ((seen["scheme"], seen["server"]),) if value != expected]
    odd += [value for value in (seen["target"],) if value not in ("/seen", "/echo-redirected")]
    headers = [(name.lower(), value) for name, value in seen["headers"]]
    return odd + [each for each in headers if "proxy" in each[0] or (each[0] == "host" and each[1] != "shop.example")]


def redirected(url: str) -> Any:
    return requests.get(url.replace("/seen", "/redirect"), timeout=LIMIT).json()


def of_sdk(family: Any) -> Callable[[str], Any]:
    """Ask as an SDK does that reads the environment itself, and gives its client a transport for the proxy."""

    def ask(url: str) -> Any:
        proxy = os.environ.get("all_proxy", os.environ.get("ALL_PROXY", "http://proxy.example"))
        known = proxy.replace("socks5h", "socks5").replace("socks4", "socks5")  # to all versions of httpx.Proxy
        with family.Client(mounts={"all://": family.HTTPTransport(proxy=family.Proxy(known))}) as client:
            return client.get(url).json()

    return ask


def of_starlette(url: str) -> Any:
    from starlette.testclient import TestClient

    return TestClient(Starlette()).get(url).json()


MORE_WAYS: dict[str, Callable[[str], Any]] = {
    **WAYS,
    **{f"an SDK of {family.__name__}": of_sdk(family) for family in FAMILIES},
    "requests, redirected": redirected,
    "Starlette": of_starlette,
}


@pytest.mark.parametrize("spelling", [str.lower, str.upper])
@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_environment(environment: str, spelling: Callable[[str], str], set_proxies: Any, worker: IpcThread) -> None:
    """Every client reaches the app under the switch, which sees a request that knows of no proxy."""
    set_proxies({spelling(name): value for name, value in ENVIRONMENTS[environment].items()})
    opener = urllib.request.build_opener()

    def of_earlier_opener(url: str) -> Any:
        with opener.open(url, timeout=LIMIT) as response:
            return json.load(response)

    failed = {}
    with switch_to_ipc_connection(worker):
        for name, ask in {**MORE_WAYS, "opener": of_earlier_opener}.items():
            for scheme in ("http", "https"):
                try:
                    found: Any = oddities(ask(f"{scheme}://shop.example/seen"), scheme)
                except Exception as error:
                    found = error
                if found:
                    failed[name, scheme] = found
    assert failed == {}


def test_aiohttp_says_nothing(switched: Any, set_proxies: Any, caplog: pytest.LogCaptureFixture) -> None:
    """aiohttp does not warn of a proxy that it would not support."""
    set_proxies(ENVIRONMENTS["TLS"])
    assert WAYS["aiohttp"]("http://shop.example/seen")["path"] == "/seen"
    assert caplog.messages == []


# With proxies that are given

GIVEN = "http://me:secret@proxy.example:3128"


@both_families
@pytest.mark.parametrize("proxy", [GIVEN, "https://proxy.example:3128", "socks5://localhost:1080"])
def test_proxy_that_is_given_to_httpx(family: Any, proxy: str, switched: Any) -> None:
    """The app is asked, whether or not the proxy's package is installed."""
    for given in (proxy, family.Proxy(proxy)):
        assert oddities(family.get("http://shop.example/seen", proxy=given).json(), "http") == []

    async def ask() -> Any:
        async with family.AsyncClient(proxy=proxy) as client:
            return (await client.get("https://shop.example/seen")).json()

    assert oddities(asyncio.run(ask()), "https") == []


def test_proxy_that_is_given_to_requests(switched: Any) -> None:
    """The app is asked, and does not see what is for the proxy; a header of the caller's own, it does."""
    proxies = {"http": GIVEN, "https": SOCKS}
    for url in ("http://shop.example/seen", "https://shop.example/seen", "http://shop.example/redirect"):
        assert oddities(requests.get(url, proxies=proxies, timeout=LIMIT).json(), url.partition(":")[0]) == []
    own = {"Proxy-Authorization": "Basic own"}
    seen = requests.get("http://shop.example/seen", headers=own, timeout=LIMIT).json()
    assert oddities(seen, "http") == [("proxy-authorization", "Basic own")]


@pytest.mark.filterwarnings("ignore:(BasicAuth|The 'proxy_auth' parameter) is deprecated:DeprecationWarning")
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_proxy_that_is_given_to_aiohttp(scheme: str, switched: Any) -> None:
    """The app is asked."""

    async def ask(**options: Any) -> Any:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{scheme}://shop.example/seen", **options) as response:
                return await response.json(content_type=None)

    assert oddities(asyncio.run(ask(proxy=GIVEN)), scheme) == []
    auth = aiohttp.BasicAuth("me", "secret")
    assert oddities(asyncio.run(ask(proxy="http://proxy.example", proxy_auth=auth)), scheme) == []


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("proxy", [GIVEN, SOCKS])
def test_proxy_that_is_given_to_urllib(proxy: str, scheme: str, switched: Any) -> None:
    """The app is asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy, "https": proxy}))
    with opener.open(f"{scheme}://shop.example/seen", timeout=LIMIT) as response:
        assert oddities(json.load(response), scheme) == []


# After the switch

CORES: dict[str, Any] = {"httpx": httpcore, "httpx2": httpcore2}
ANSWER = [b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", b"network"]


def answer_in(pools: list[Any], core: Any) -> list[tuple[str, int]]:
    """Let the network of pools answer; return a list of the hosts that they connect to."""
    connected: list[tuple[str, int]] = []

    class Network(core.MockBackend):  # type: ignore[misc]
        def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> Any:
            connected.append((host, port))
            return super().connect_tcp(host, port, *args, **options)

    for pool in pools:
        pool._network_backend = Network(ANSWER)
    return connected


@both_families
def test_environment_of_clients_that_outlive_the_switch(family: Any, switched: Any, set_proxies: Any) -> None:
    """A client that is used after the switch asks the proxies that the environment had when it was made."""
    set_proxies({"http_proxy": GIVEN, "no_proxy": "direct.example"})
    client = family.Client()
    assert client.get("http://shop.example/seen").status_code == 200
    set_proxies({"http_proxy": "http://another.example:1"})
    switched()
    transports = [client._transport, *filter(None, client._mounts.values())]
    pools = [transport._pool for transport in transports]
    core = CORES[family.__name__]
    assert [pool.__class__ for pool in pools] == [core.ConnectionPool, core.HTTPProxy]
    connected = answer_in(pools, core)
    assert client.get("http://shop.example/").text == "network"
    assert client.get("http://direct.example/").text == "network"
    assert connected == [("proxy.example", 3128), ("direct.example", 80)]
    client.close()


@both_families
@pytest.mark.parametrize(
    "proxies",
    [
        {"all_proxy": SOCKS},  # socksio is not installed
        {"all_proxy": "socks4://localhost:1080"},
        {"http_proxy": "http://proxy.example", "no_proxy": "[::1]"},  # httpx2 takes this one
    ],
)
def test_environment_that_the_library_refuses(
    family: Any, proxies: dict[str, str], switched: Any, set_proxies: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its constructor would have raised, a client raises when it is used after the switch, each time."""
    monkeypatch.setitem(sys.modules, "socksio", None)
    set_proxies(proxies)
    clients = family.Client(), family.AsyncClient()
    assert clients[0].get("http://shop.example/seen").status_code == 200
    switched()
    error = raised_by(family.Client)
    set_proxies({})
    if error is None:
        assert clients[0]._mounts.keys() == {family._utils.URLPattern(name) for name in ("http://", "all://[::1]")}
    else:
        for _ in range(2):
            assert raised_by(lambda: clients[0].get("http://shop.example/seen")) == error
        assert raised_by(lambda: asyncio.run(clients[1].get("http://shop.example/seen"))) == error
    clients[0].close()
    asyncio.run(clients[1].aclose())


# With a worker, without the switch


@pytest.mark.parametrize("environment", ["http", "a sandbox", "a network of IPv6"])
def test_clients_of_a_worker(environment: str, worker: IpcThread, set_proxies: Any) -> None:
    """A client that was given a worker asks it, whatever the environment says, and the app sees nothing of that."""
    set_proxies(ENVIRONMENTS[environment])
    base_url = "http://shop.example"
    for family in FAMILIES:
        with family.Client(transport=IpcTransport(worker), base_url=base_url) as client:
            assert oddities(client.get("/seen").json(), "http") == []
    with TestClient(worker, base_url=base_url) as test_client:
        assert oddities(test_client.get("/seen").json(), "http") == []
    with socketless.requests.Session(worker=worker, base_url=base_url) as session:
        assert oddities(session.get("/redirect", timeout=LIMIT).json(), "http") == []
    with requests.Session() as session:
        session.mount("http://", IpcAdapter(worker))
        assert oddities(session.get(f"{base_url}/redirect", timeout=LIMIT).json(), "http") == []


def test_commands(project: Project) -> None:
    """So do the command line and the fixtures of the pytest plugin."""
    proxies = {**ENVIRONMENTS["a sandbox"], "no_proxy": ENVIRONMENTS["a network of IPv6"]["no_proxy"]}
    command = [*MODULE, "request", "wsgiref.simple_server:demo_app", "https://shop.example/"]
    outcome = run_command(command, env=proxies)
    assert (outcome.code, outcome.stderr) == (0, "")
    assert outcome.stdout.startswith("Hello world!")
    project.write(
        "test_run.py",
        """
        import httpx
        import requests


        def test_clients():
            assert httpx.get("https://shop.example/items").json() == []
            assert requests.get("http://shop.example/items", timeout=60).json() == []
        """,
    )
    run = ("-m", "socketless", "run", "shop:app", "-m", "pytest")
    assert project.run("test_run.py", command=run, **proxies).end == "1 passed"
    project.write(
        "test_fixtures.py",
        """
        import httpx
        import pytest
        from socketless.pytest_plugin import ipc_connection_fixture

        connection = ipc_connection_fixture("shop:app", scope="function")


        @pytest.fixture(scope="session")
        def socketless_app():
            return "shop:app"


        def test_client(socketless_client):
            assert socketless_client.get("/items").json() == []


        def test_connection(connection):
            assert httpx.get("https://shop.example/items").json() == []
        """,
    )
    assert project.run("test_fixtures.py", **proxies).end == "2 passed"
