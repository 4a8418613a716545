"""Lets the tests of loopback import what is in this folder, and use virtual sockets in this process."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from socketless import loopback

sys.path.append(str(Path(__file__).parent))


def tcp_is_refused() -> bool:
    """Whether no real connection is possible here."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
            return False
    except OSError:
        return True


@pytest.fixture(params=["virtual", "real"])
def sockets(request: pytest.FixtureRequest) -> Iterator[None]:
    """Once, sockets of loopback are virtual, and once they are what they always are: both do the same."""
    if request.param == "virtual":
        loopback.install()
    elif tcp_is_refused():
        pytest.skip("there are no real sockets here")
    yield
    loopback.uninstall()


@pytest.fixture
def virtual() -> Iterator[None]:
    """Sockets of loopback are virtual."""
    loopback.install()
    yield
    loopback.uninstall()
