"""The client of bytes over TCP and TLS, against uvicorn."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
import uvicorn

from socketless.lowlevel import Connection, ConnectionPool, connection_pool
from support import nothing_leaks, sockets_are_refused

pytestmark = pytest.mark.skipif(sockets_are_refused(), reason="sockets are refused here")


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the scheme, the headers and the body."""
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event["body"], event["more_body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-scheme", scope["scheme"].encode())]})
    await send({"type": "http.response.body", "body": repr(scope["headers"]).encode(), "more_body": True})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def uvicorn_on(address: str, authority: trustme.CA | None = None, *names: str) -> AsyncIterator[int]:
    """Run uvicorn on this loop, over TLS if there is an authority, with a certificate for names; return its port."""
    options: dict[str, Any] = {"log_config": None, "lifespan": "off"}
    with tempfile.TemporaryDirectory() as folder:
        if authority is not None:
            certificate = f"{folder}/certificate.pem"
            authority.issue_cert(*names).private_key_and_cert_chain_pem.write_to_path(certificate)
            options.update(ssl_certfile=certificate, ssl_keyfile=certificate)
        config = uvicorn.Config(app, **options)
        config.load()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listening:
        peer = uvicorn.Server(config)
        task = asyncio.ensure_future(peer.serve(sockets=[listening]))
        try:
            yield listening.getsockname()[1]
        finally:
            peer.should_exit = True
            await task


def run_tcp(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with nothing_leaks():
        asyncio.run(main())


async def say_back(pool: ConnectionPool, body: bytes, *peer: Any, **options: Any) -> Connection:
    """POST a body to the app, check its answer, and return the connection."""
    async with pool.connection(*peer, **options) as connection:
        await pool.send(connection, b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body))
        sending = asyncio.ensure_future(pool.send(connection, body))
        code, cursor = await pool.recv_status_line(connection)
        headers = {name.lower(): value async for name, value, _ in pool.recv_headers(connection, cursor)}
        received = b"".join([piece async for piece in pool.recv_body(connection, cursor)])
        await sending
        scheme = b"http" if peer[2] is None else b"https"
        assert (code, headers[b"x-scheme"], headers[b"transfer-encoding"]) == (200, scheme, b"chunked")
        seen = repr([(b"host", b"x"), (b"content-length", b"%d" % len(body))]).encode()
        assert received == seen + body
        return connection


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_uvicorn_over_tls(address: str, authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    """Requests to uvicorn go over one TLS connection to an IP address, one after the other, with bodies of any size."""

    async def main() -> None:
        async with uvicorn_on(address, authority, address, "localhost") as port, connection_pool() as pool:
            peer = (ipaddress.ip_address(address), port, trusting)
            first = await say_back(pool, b"hello", *peer)
            assert await say_back(pool, bytes(5 << 20), *peer) is first
            by_name = await say_back(pool, b"hello", *peer, server_hostname="localhost")
            assert by_name is not first
            assert await say_back(pool, b"hello", *peer, server_hostname="localhost") is by_name

    run_tcp(main)


def test_uvicorn_without_tls() -> None:
    """Plain HTTP is an explicit choice; several connections work at once."""

    async def main() -> None:
        async with uvicorn_on("127.0.0.1") as port, connection_pool(max=3) as pool:
            peer = "127.0.0.1", port, None
            connections = await asyncio.gather(*(say_back(pool, bytes(size), *peer) for size in range(10)))
            assert len(set(connections)) == 3

    run_tcp(main)


def test_wrong_certificates(authority: trustme.CA, trusting: ssl.SSLContext) -> None:
    """A certificate of an unknown authority, or for another host, is refused; nothing was sent, no place is lost."""

    async def main() -> None:
        async with uvicorn_on("127.0.0.1", authority, "localhost") as port, connection_pool(max=1) as pool:
            peer = "127.0.0.1", port
            with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer certificate"):
                await say_back(pool, b"", *peer, ssl.create_default_context(), server_hostname="localhost")
            with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
                await say_back(pool, b"", *peer, trusting)
            with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
                await say_back(pool, b"", *peer, trusting, server_hostname="example.org")
            await say_back(pool, b"", *peer, trusting, server_hostname="localhost")

    run_tcp(main)


def test_tls_that_nobody_answers(trusting: ssl.SSLContext) -> None:
    """The limit for a connection holds for TLS's handshake, too; so does a cancelled task. No descriptor is left."""

    async def main() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listening:
            listening.setblocking(False)
            peer = "127.0.0.1", listening.getsockname()[1], trusting
            async with connection_pool(max_wait_connection_seconds=0.05) as pool:
                with pytest.raises(TimeoutError) as caught:
                    await say_back(pool, b"", *peer)
                assert str(caught.value) == f"127.0.0.1:{peer[1]}: not connected within 0.05 s"
            async with connection_pool() as pool:
                task = asyncio.ensure_future(say_back(pool, b"", *peer))
                for _ in range(2):  # that of before, too
                    accepted, _ = await asyncio.get_running_loop().sock_accept(listening)
                    accepted.close()
                task.cancel()
                with pytest.raises((asyncio.CancelledError, ConnectionError)):
                    await task

    run_tcp(main)
