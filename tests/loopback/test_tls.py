"""TLS on virtual sockets, where it is kinder than on real ones."""

from __future__ import annotations

import errno
import importlib
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

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


CONNECTION = """
class Connection:
    def __init__(self, context, socket=None):
        self.context, self._socket = context, socket

    def __getattr__(self, name):
        return getattr(self._socket, name)
"""


def test_pyopenssl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """pyOpenSSL says that it cannot use a virtual socket; without one, it is as it always is."""
    (tmp_path / "OpenSSL").mkdir()
    (tmp_path / "OpenSSL" / "SSL.py").write_text(CONNECTION)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("OpenSSL", "OpenSSL.SSL"):
        monkeypatch.setitem(sys.modules, name, None)  # so that this one goes again, where there was none
        monkeypatch.delitem(sys.modules, name)
    connection = importlib.import_module("OpenSSL.SSL").Connection
    with socket.socket() as sock, pytest.raises(OSError, match="pyOpenSSL cannot use a virtual socket") as raised:
        connection("context", sock)
    assert raised.value.errno == errno.EOPNOTSUPP
    for another in (None, object()):
        assert vars(connection("context", another)) == {"context": "context", "_socket": another}
