"""What clients need for the network alone: under the switch it is not made, and after it, it is as without."""

from __future__ import annotations

import asyncio
import copy
import http.client
import os
import ssl
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import httpcore
import httpcore2
import httpx
import httpx2
import pytest
import trustme
from ways import FAMILIES, WAYS

from socketless import IpcThread, switch_to_ipc_connection
from support import LIMIT, nothing_leaks, raised_by

APP = "apps.conformance_app:wsgi"
CORES = {httpx: httpcore, httpx2: httpcore2}

both_families = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(autouse=True)
def no_certificates_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def worker() -> Iterator[IpcThread]:
    with nothing_leaks(), IpcThread(APP) as worker:
        yield worker


@pytest.fixture
def switched(worker: IpcThread) -> Iterator[Any]:
    with switch_to_ipc_connection(worker) as switch:
        yield switch


@pytest.fixture
def made(switched: Any, monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """The TLS contexts that are made."""
    made: list[type] = []
    original = ssl.SSLContext.__new__

    def __new__(cls: type, *args: Any, **options: Any) -> Any:
        made.append(cls)
        return original(cls, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(ssl.SSLContext, "__new__", __new__)
    return made


@pytest.mark.parametrize("way", WAYS)
def test_no_context_under_the_switch(way: str, made: list[type]) -> None:
    """A new client that asks the app makes no TLS context, for https neither."""
    for scheme in ("http", "https"):
        assert WAYS[way](f"{scheme}://shop.example/seen")["scheme"] == scheme
    assert made == []


# Of httpx and httpx2, after the switch

ARGUMENTS: dict[str, dict[str, Any]] = {
    "none": {},
    "not verified": {"verify": False},
    "no environment": {"trust_env": False},
    "limits": {"limits": (7, 3, 1.5), "http2": True, "retries": 3, "local_address": "127.0.0.1"},
    "UNIX socket": {"uds": "/nowhere.sock", "http1": False},
    "proxy": {"proxy": "http://me:secret@proxy.example:3128"},
    "TLS proxy": {"proxy": "https://proxy.example:3128", "verify": False},
}
SIMPLE = (type(None), bool, int, float, bytes, str, list, httpcore.URL, httpcore2.URL)


def of_context(context: ssl.SSLContext) -> list[Any]:
    """Return what can be seen of a context."""
    assert isinstance(context, ssl.SSLContext)
    names = ("verify_mode", "check_hostname", "options", "verify_flags", "minimum_version", "keylog_filename")
    seen = [getattr(context, name) for name in names]
    return [context.__class__, *seen, context.post_handshake_auth, certificates_of(context)]


def certificates_of(context: ssl.SSLContext) -> list[str]:
    """Return the certificates that a context has loaded."""
    try:
        return sorted(map(str, context.get_ca_certs()))
    except NotImplementedError:  # of truststore, which asks the system
        return ["the system's"]


def of_pool(pool: Any) -> dict[str, Any]:
    """Return what can be seen of a pool, with its context."""
    seen = {name: value for name, value in vars(pool).items() if isinstance(value, SIMPLE)}
    return seen | {"class": pool.__class__, "context": of_context(pool._ssl_context)}


@both_families
@pytest.mark.parametrize("kind", ["HTTPTransport", "AsyncHTTPTransport"])
@pytest.mark.parametrize("case", ARGUMENTS)
def test_pool_is_the_same_as_without(family: Any, kind: str, case: str, switched: Any) -> None:
    """The pool of a transport that was made under the switch, and its context, are those that it would have had."""
    arguments = dict(ARGUMENTS[case])
    if "limits" in arguments:
        arguments["limits"] = family.Limits(**dict(zip(vars(family.Limits()), arguments["limits"], strict=True)))
    transport = getattr(family, kind)(**arguments)
    switched()
    expected = getattr(family, kind)(**arguments)
    assert isinstance(transport._pool, type(expected._pool))
    assert not isinstance(transport._pool, ssl.SSLContext)
    assert of_pool(transport._pool) == of_pool(expected._pool)
    assert repr(transport._pool) == repr(expected._pool)
    with pytest.raises(TypeError, match="pickle"):  # its lock
        copy.deepcopy(transport._pool)


@both_families
def test_context_of_the_callers(family: Any, switched: Any, made: list[type]) -> None:
    """A context that the caller gives is the one that is used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client = family.Client(verify=context)
    switched()
    assert client._transport._pool._ssl_context is context
    assert len(made) == 1


ANSWER = [b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", b"network"]


@both_families
def test_requests_before_and_after(family: Any, switched: Any) -> None:
    """A client asks the app under the switch, and after it the network, by a pool that it goes on to have."""
    client = family.Client()
    assert client.get("http://shop.example/seen").status_code == 200
    switched()
    pool = client._transport._pool
    pool._network_backend = CORES[family].MockBackend(ANSWER)
    assert client.get("http://shop.example/").text == "network"
    assert client._transport._pool is pool
    assert [each.info() for each in pool.connections] == ["'http://shop.example:80', HTTP/1.1, IDLE, Request Count: 1"]
    client.close()
    assert pool.connections == []


@both_families
def test_requests_of_async_clients(family: Any, worker: IpcThread) -> None:
    """So does an async client."""

    async def main() -> None:
        with switch_to_ipc_connection(worker):
            client = family.AsyncClient()
            assert (await client.get("http://shop.example/seen")).status_code == 200
        client._transport._pool._network_backend = CORES[family].AsyncMockBackend(ANSWER)
        assert (await client.get("http://shop.example/")).text == "network"
        assert len(client._transport._pool.connections) == 1
        await client.aclose()
        assert client._transport._pool.connections == []

    asyncio.run(main())


@both_families
def test_close(family: Any, switched: Any, made: list[type]) -> None:
    """A client that is entered, left or closed, under the switch or after it, has no context because of that."""

    async def leave(*clients: Any) -> None:
        for client in clients:
            async with client:
                pass
        await family.AsyncClient().aclose()

    clients = [family.Client() for _ in range(4)]
    async_clients = [family.AsyncClient() for _ in range(2)]
    clients[0].close()
    with clients[1]:
        pass
    asyncio.run(leave(async_clients[0]))
    switched()
    made.clear()
    clients[2].close()
    with clients[3]:
        pass
    asyncio.run(leave(async_clients[1]))
    without = len(made)  # of the one that was made after the switch
    family.Client()
    assert len(made) == 2 * without


@both_families
def test_first_use_by_many_threads(family: Any, switched: Any, made: list[type]) -> None:
    """Threads that want the pool at the same time get the same one."""
    client = family.Client()
    switched()
    barrier = Barrier(8)

    def context(_: int) -> Any:
        barrier.wait(LIMIT)
        return client._transport._pool._ssl_context

    with ThreadPoolExecutor(8) as threads:
        contexts = list(threads.map(context, range(8)))
    assert len(set(map(id, contexts))) == 1
    for_all = len(made)
    family.Client()
    assert len(made) == 2 * for_all


@both_families
def test_pool_that_is_patched(family: Any, switched: Any) -> None:
    """What is set in a pool, or deleted, is set in the one that is used; a transport may have a pool of its own."""
    client = family.Client()
    client._transport._pool.handle_request = lambda request: CORES[family].Response(418)
    switched()
    assert client.get("http://shop.example/").status_code == 418
    del client._transport._pool.handle_request
    client._transport._pool._network_backend = CORES[family].MockBackend(ANSWER)
    assert client.get("http://shop.example/").status_code == 200


@both_families
def test_transport_with_a_pool_of_its_own(family: Any, switched: Any, made: list[type]) -> None:
    """A subclass may give itself another pool, for which no context is made; what connects there keeps its way."""

    class Own(family.HTTPTransport):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__()
            self._pool = CORES[family].ConnectionPool(**options)

    with family.Client(transport=Own()) as client:
        assert client.get("http://shop.example/seen").json()["path"] == "/seen"
    with family.Client(transport=Own(network_backend=CORES[family].MockBackend(ANSWER))) as client:
        assert client.get("http://shop.example/").text == "network"
        switched()
        assert client.get("http://shop.example/").text == "network"
    assert made == []


@both_families
@pytest.mark.filterwarnings("ignore:`(verify|cert)=:DeprecationWarning")
@pytest.mark.parametrize(
    "arguments",
    [{"verify": "/no/such/file.pem"}, {"cert": "/no/such/file.pem"}, {"cert": ("/no/such/file.pem", "/no/key.pem")}],
)
def test_wrong_paths(family: Any, arguments: Any, switched: Any) -> None:
    """What is wrong with the caller's own certificates is raised by the client's constructor, as without the switch."""

    def errors() -> Iterator[Any]:
        for kind in (family.Client, family.AsyncClient, family.HTTPTransport, family.AsyncHTTPTransport):
            with pytest.raises(OSError) as caught:
                kind(**arguments)
            yield type(caught.value), str(caught.value)

    under = list(errors())
    switched()
    assert under == list(errors())


@both_families
def test_wrong_arguments(family: Any, switched: Any) -> None:
    """So is what is wrong with the other arguments."""
    with pytest.raises(TypeError, match="unexpected keyword argument 'color'"):
        family.HTTPTransport(color="red")
    with pytest.raises(ValueError, match="^Unknown scheme for proxy URL"):
        family.HTTPTransport(proxy="gopher://proxy.example")
    with pytest.raises(ValueError, match="^Unknown scheme for proxy URL"):
        family.AsyncClient(proxy="gopher://proxy.example")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("authority") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(path))
    return path


def alone(authority: Path) -> list[str]:
    """Return the certificates of a context that trusts an authority alone."""
    certificates = certificates_of(ssl.create_default_context(cafile=str(authority)))
    assert len(certificates) == 1
    return certificates


@both_families
@pytest.mark.filterwarnings("ignore:`verify=<str>`:DeprecationWarning")
def test_authority_of_the_callers(family: Any, authority: Path, switched: Any, made: list[type]) -> None:
    """The file of an authority that the caller names is read at once."""
    client = family.Client(verify=str(authority))
    assert len(made) == 1
    switched()
    assert certificates_of(client._transport._pool._ssl_context) == alone(authority)


@both_families
def test_authority_of_the_environment(
    family: Any, authority: Path, switched: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the environment says of certificates counts as it was when the client was made, and does not change."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority))
    clients = [family.Client(), family.Client(trust_env=False)]
    connection: Any = http.client.HTTPSConnection("shop.example")
    monkeypatch.delenv("SSL_CERT_FILE")
    clients.append(family.Client())
    switched()
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    before = dict(os.environ)
    trusted = [certificates_of(client._transport._pool._ssl_context) for client in clients]
    assert trusted[0] == certificates_of(connection._context) == alone(authority)
    assert trusted[1] == trusted[2] != alone(authority)
    assert dict(os.environ) == before


@both_families
def test_wrong_authority_of_the_environment(family: Any, switched: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is wrong with the certificates of the environment does not matter under the switch, and does after it."""
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file.pem")
    client = family.Client()
    assert client.get("https://shop.example/seen").status_code == 200
    switched()
    error = raised_by(family.Client)
    monkeypatch.delenv("SSL_CERT_FILE")
    if error is not None:  # httpx 0.27 takes no notice of what is not there
        for _ in range(2):
            assert raised_by(lambda: client.get("https://shop.example/seen")) == error
    client.close()


# Of http.client


def test_contexts_of_http_client(switched: Any, made: list[type]) -> None:
    """A connection or a handler of urllib.request that outlives the switch has the context that it would have had."""
    connections: list[Any] = [http.client.HTTPSConnection("shop.example") for _ in range(2)]
    opener = urllib.request.build_opener()
    assert made == []
    switched()
    expected: Any = http.client.HTTPSConnection("shop.example")
    assert of_context(connections[0]._context) == of_context(expected._context)
    ends = ssl.MemoryBIO(), ssl.MemoryBIO()
    assert isinstance(connections[1]._context.wrap_bio(*ends, server_hostname="shop.example"), ssl.SSLObject)
    fresh = urllib.request.build_opener()
    contexts = [
        next(each for each in one.handlers if isinstance(each, urllib.request.HTTPSHandler))._context  # type: ignore[attr-defined]
        for one in (opener, fresh)
    ]
    assert (contexts[0] is contexts[1] is None) or of_context(contexts[0]) == of_context(contexts[1])


def test_context_that_is_given_to_http_client(switched: Any, made: list[type]) -> None:
    """A context of the caller's is kept, and what is set in the default one holds."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    connection: Any = http.client.HTTPSConnection("shop.example", context=context)
    assert connection._context is context
    other: Any = http.client.HTTPSConnection("shop.example")
    other._context.check_hostname = False
    assert other._context.check_hostname is False
    assert len(made) == 2
