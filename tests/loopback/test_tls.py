"""TLS on virtual sockets, where it is kinder than on real ones."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from loopback.tls import of_client, of_server

pytestmark = pytest.mark.usefixtures("virtual")


@contextmanager
def connected() -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """A client and a server, after the handshake."""
    servers: list[ssl.SSLSocket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        one = socket.create_connection(listener.getsockname())
        other, _ = listener.accept()
    thread = threading.Thread(target=lambda: servers.append(of_server().wrap_socket(other, server_side=True)))
    thread.start()
    client = of_client().wrap_socket(one, server_hostname="localhost")
    thread.join()
    with client, servers[0]:
        yield client, servers[0]


def test_tickets_are_not_unread() -> None:
    """A client that closes without having read is an end to a server, though that has sent tickets by then."""
    with connected() as (client, server):
        client.close()
        assert server.recv(1) == b""


def test_data_is_unread() -> None:
    """With data that it has not read, it is a reset."""
    with connected() as (client, server):
        server.sendall(b"never read")
        client.close()
        with pytest.raises(ConnectionResetError):
            server.recv(1)
