"""A connection of a client over two descriptors, answered in the calling thread: a pipe each, or a socket for both."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from socketless.bridge import Bridge
from socketless.errors import ClientDisconnected
from socketless.host.worker import Worker
from socketless.wire.drivers import run_blocking

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_READ_SIZE = 64 * 1024


def serve_connection(worker: Worker, read_fd: int, write_fd: int, **options: Any) -> None:
    """Answer what a client writes, until it writes no more, or one of both ends the connection.

    Args:
        worker: what answers.
        read_fd, write_fd: where the client's bytes come from, and where it reads. They are blocking, and left open.
        options: of `Bridge`.

    Raises:
        Exception: what `Bridge.next_output()` raises.
    """
    bridge = Bridge(worker, _pieces(read_fd), lambda data: _write(write_fd, data), **options)
    pump: threading.Thread | None = None
    try:
        while (output := run_blocking(bridge.next_output(), write_fd)) is not None:
            _write(write_fd, output)
            if pump is None and bridge.upgraded is not None:
                pump = threading.Thread(target=_pump, args=(bridge,), name="socketless-pump", daemon=True)
                pump.start()
    except ClientDisconnected:
        pass
    finally:
        bridge.hang_up()


def _pump(bridge: Bridge) -> None:
    # Runs in the thread socketless-pump, until the client of a WebSocket writes no more.
    with suppress(Exception):  # the WebSocket is closed, which next_output() tells
        run_blocking(bridge.pump())


def _pieces(fd: int) -> Iterator[bytes]:
    with suppress(ConnectionResetError):
        while piece := os.read(fd, _READ_SIZE):
            yield piece


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except (BrokenPipeError, ConnectionResetError):
        raise ClientDisconnected("the client has gone") from None
