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


class Service:
    """One connection. `run()` answers what a client writes, in the calling thread; other threads may call the rest.

    Args:
        worker: what answers.
        read_fd, write_fd: where the client's bytes come from, and where it reads. They are blocking, and left open.
        options: of `Bridge`.
    """

    def __init__(self, worker: Worker, read_fd: int, write_fd: int, **options: Any) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._bridge = Bridge(worker, self._pieces(), self._write, **options)
        self._is_leaving = False

    @property
    def is_idle(self) -> bool:
        """Whether it waits for a request, of which nothing has come."""
        return self._bridge.is_idle

    def leave(self) -> None:
        """Answer no request that has not begun yet. One that waits for that does so until its client writes no more."""
        self._is_leaving = True

    def run(self) -> None:
        """Answer until the client writes no more, or one of both ends the connection.

        Raises:
            Exception: what `Bridge.next_output()` raises.
        """
        pump: threading.Thread | None = None
        try:
            while (output := run_blocking(self._bridge.next_output(), self._write_fd)) is not None:
                self._write(output)
                if pump is None and self._bridge.upgraded is not None:
                    pump = threading.Thread(target=_pump, args=(self._bridge,), name="socketless-pump", daemon=True)
                    pump.start()
        except ClientDisconnected:
            pass
        finally:
            self._bridge.hang_up()

    def _pieces(self) -> Iterator[bytes]:
        with suppress(ConnectionResetError):
            while not (self._is_leaving and self._bridge.is_idle):
                piece = os.read(self._read_fd, _READ_SIZE)
                if not piece:
                    break
                yield piece

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._write_fd, view) :]
        except (BrokenPipeError, ConnectionResetError):
            raise ClientDisconnected("the client has gone") from None


def _pump(bridge: Bridge) -> None:
    # Runs in the thread socketless-pump, until the client of a WebSocket writes no more.
    with suppress(Exception):  # the WebSocket is closed, which next_output() tells
        run_blocking(bridge.pump())
