"""The program of lowhaio's first document, as it stands there, but for whom it asks and where it puts the answer."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from socketless import IpcThread, lowlevel
from socketless.unix_server import UnixServer
from support import nothing_leaks, sockets_are_refused, unix_sockets_are_refused
from unix_peer import Peer, say_hello

OVER_TCP = pytest.mark.skipif(sockets_are_refused(), reason="sockets are refused here")
OVER_UNIX = pytest.mark.skipif(unix_sockets_are_refused(), reason="UNIX sockets are refused here")

ANSWER = (200, [(b"Content-Length", b"5")], b"hello")


async def ask(*peer: Any) -> tuple[int, list[tuple[bytes, bytes]], bytes]:
    headers, body = [], b""
    async with (
        lowlevel.connection_pool(
            max=20,
            max_wait_connection_seconds=20,
            max_requests_per_connection=20,
            max_idle_seconds=5,
            max_wait_send_recv_seconds=10,
            chunk_bytes=4096,
        ) as pool,
        pool.connection(*peer) as connection,
    ):
        await pool.send(connection, b"POST /path HTTP/1.1\r\nHost: www.w3.org\r\n\r\nBody")  # without a length
        code, cursor = await pool.recv_status_line(connection)
        async for header_key, header_value, cursor in pool.recv_headers(connection, cursor):  # noqa: B007, B020
            headers.append((header_key, header_value))
        async for body_bytes in pool.recv_body(connection, cursor):
            body += body_bytes
    return code, headers, body


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"hello"]


def test_worker() -> None:
    """It asks a worker."""
    with nothing_leaks(), IpcThread(app) as worker:
        assert asyncio.run(ask(worker)) == ANSWER


@OVER_UNIX
def test_unix_socket(tmp_path: Path) -> None:
    """It asks a UNIX socket."""
    with nothing_leaks(), IpcThread(app) as worker, UnixServer(worker, tmp_path / "socket"):
        assert asyncio.run(ask(tmp_path / "socket")) == ANSWER


@asynccontextmanager
async def serving(authority: trustme.CA | None) -> AsyncIterator[int]:
    """Say hello on a port of 127.0.0.1, over TLS if there is an authority, and return the port."""
    context = None
    if authority is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
    peer = Peer(say_hello)
    async with await asyncio.start_server(peer, "127.0.0.1", 0, ssl=context) as server:
        yield server.sockets[0].getsockname()[1]
        await peer.finish()


@OVER_TCP
@pytest.mark.parametrize("host", [b"127.0.0.1", "localhost"])
def test_getaddrinfo_over_tls(host: str | bytes) -> None:
    """It asks a TCP port over TLS, and gives what `loop.getaddrinfo()` returned for the address."""
    authority = trustme.CA()
    ssl_context = ssl.create_default_context()
    authority.configure_trust(ssl_context)

    async def main() -> None:
        async with serving(authority) as port:
            loop = asyncio.get_running_loop()
            ip_address = await loop.getaddrinfo(host, port)
            assert await ask(ip_address, port, ssl_context) == ANSWER

    with nothing_leaks():
        asyncio.run(main())


def info(address: str, port: int) -> tuple[Any, ...]:
    return (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port))


@OVER_TCP
def test_addresses_in_turn() -> None:
    """An address where nobody listens is passed over for the next one. Where nobody listens at all, it says so."""

    async def main() -> None:
        async with serving(None) as port:
            infos = [info("127.0.0.2", port), info("127.0.0.1", port)]
            assert await ask(infos, port, None) == ANSWER
            assert await ask(["127.0.0.2", "127.0.0.1"], port, None) == ANSWER
            with pytest.raises(ConnectionRefusedError) as caught:
                await ask([info("127.0.0.2", port), info("127.0.0.3", port)], port, None)
            for address in ("127.0.0.2", "127.0.0.3"):
                assert f"Connect call failed ('{address}', {port})" in str(caught.value)

    with nothing_leaks():
        asyncio.run(main())


@OVER_TCP
def test_wrong_certificate() -> None:
    """A certificate that is not trusted is the error, whatever addresses would come next."""

    async def main() -> None:
        async with serving(trustme.CA()) as port:
            with pytest.raises(ssl.SSLCertVerificationError):
                await ask(["127.0.0.1", "127.0.0.2"], port, ssl.create_default_context())

    with nothing_leaks():
        asyncio.run(main())


@pytest.mark.parametrize(
    ("to", "text"),
    [
        ("localhost", r"^'localhost' is not an IP address: resolve names first, by loop.getaddrinfo\(\) for example"),
        (("127.0.0.1", 80), r"^\('127.0.0.1', 80\) is not an IP address"),
        (info("127.0.0.1", 80), "is not an IP address"),
        ([], "^there is no IP address in an empty list$"),
    ],
)
def test_no_addresses(to: Any, text: str) -> None:
    """What is no address, and no list of them, is refused."""
    with pytest.raises(ValueError, match=text):
        asyncio.run(ask(to, 80, None))


def test_no_ssl_context() -> None:
    """The document's way to do without TLS, a class that plays an SSL context, is answered with ours."""
    with pytest.raises(TypeError, match="^ssl_context is an ssl.SSLContext for TLS, or None for plain HTTP, not <obj"):
        asyncio.run(ask("127.0.0.1", 80, object()))
