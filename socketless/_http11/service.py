"""A connection of a client over two descriptors, answered in the calling thread: a pipe each, or a socket for both."""

from __future__ import annotations

import select
import threading
from contextlib import suppress
from functools import partial
from typing import Any

from socketless._forking import close_in_forks
from socketless._genuine import os
from socketless._host.worker import Worker
from socketless._http11.bridge import Bridge, Output
from socketless._http11.heads import Refused
from socketless._wire.drivers import deadline_after, milliseconds_until, poll, remaining, run_blocking
from socketless._wire.pipes import make_pipe
from socketless._wire.steps import Wait, Woken
from socketless.errors import BodyTooLarge, ClientDisconnected, SocketlessError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

HEAD_TIMEOUT = 10.0  # seconds
_READ_SIZE = 64 * 1024


class Service:
    """One connection. `run()` answers what a client writes, in the calling thread; other threads may call the rest.

    Args:
        worker: what answers.
        read_fd, write_fd: where the client's bytes come from, and where it reads. They are left open.
        head_timeout: seconds from the first byte of a request's head to its last; more is a 408. `None`: for ever.
        options: of `Bridge`.
    """

    def __init__(
        self, worker: Worker, read_fd: int, write_fd: int, *, head_timeout: float | None = HEAD_TIMEOUT, **options: Any
    ) -> None:
        self._read_fd = read_fd
        self._write_fd = write_fd
        self._head_timeout = head_timeout
        self._bridge = Bridge(worker, is_strict=True, **options)
        self._is_stopping = False
        self._end_fd = -1  # of a pipe whose other end is closed once run() is to return
        self._head_deadline: float | None = None  # of the head that is coming
        self._pumping: threading.Thread | None = None  # of a WebSocket

    @property
    def may_end(self) -> bool:
        """Whether it waits for a request, of which nothing has come, or is a WebSocket."""
        return self._bridge.is_idle or self._bridge.upgraded is not None

    def stop(self) -> None:
        """Answer what has begun, and nothing after it.

        A connection that `may_end` ends only when its reading side is shut down, too; the caller does that.
        """
        self._is_stopping = True
        if self._bridge.upgraded is not None:
            self._bridge.upgraded.code_of_end = 1012  # as uvicorn says it

    def let_through(self) -> None:
        """The client is about to leave: what it has written of a WebSocket waits for the app no more."""
        self._bridge.let_through()

    def run(self) -> None:
        """Answer until the client writes no more, or one of both ends the connection.

        A request that the worker cannot answer gets a 502, if no response to it has begun.

        Raises:
            Exception: what `Bridge.run()` raises.
        """
        end_reader, end_writer = make_pipe()
        for end in (end_reader, end_writer):
            close_in_forks(end)  # or the pump would wait for a fork, too
        self._end_fd = end_reader.fileno()
        try:
            while not (self._bridge.is_closed or self._is_stopping):
                self._read()
                run_blocking(self._bridge.run(), partial(self._meet, client_fd=self._write_fd))
        except BodyTooLarge as error:
            with suppress(ClientDisconnected):
                self._write(self._bridge.refuse(502 if self._bridge.app_has_failed else 413, str(error)) or b"")
        except SocketlessError as error:
            reason = str(error).partition("\n")[0].rstrip(":")
            with suppress(ClientDisconnected):
                self._write(self._bridge.refuse(502, reason) or b"")
            raise
        finally:
            self._bridge.cancel()
            end_writer.close()
            if self._pumping is not None:
                self._pumping.join()  # the descriptors may be another client's next
            end_reader.close()

    def _meet(self, need: Any, client_fd: int) -> Woken | None:
        # What the bridge's steps need.
        if isinstance(need, Wait):
            self._head_deadline = None  # the head is here
            return poll(need, client_fd)
        if isinstance(need, Output):
            try:
                self._write(need.data)
            except ClientDisconnected:
                self._bridge.close()
            if self._pumping is None and self._bridge.upgraded is not None:
                self._pumping = threading.Thread(target=self._pump, name="socketless-pump", daemon=True)
                self._pumping.start()
        else:
            self._read()
        return None

    def _pump(self) -> None:
        # Runs in the thread socketless-pump, until the client of a WebSocket writes no more, or run() returns.
        with suppress(Exception):  # the WebSocket is closed, which run() tells
            run_blocking(self._bridge.pump(), partial(self._meet, client_fd=self._end_fd))

    def _read(self) -> None:
        # Feeds the bridge with what comes next, or the end.
        poller = select.poll()
        poller.register(self._read_fd, select.POLLIN)
        poller.register(self._end_fd, 0)
        if not self._bridge.is_in_head:
            self._head_deadline = None
        elif self._head_deadline is None:
            self._head_deadline = deadline_after(self._head_timeout)
        piece = None
        while piece is None:
            ready = poller.poll(milliseconds_until(self._head_deadline))
            if remaining(self._head_deadline) == 0.0 and not ready:
                raise Refused("the head of the request did not come in time", 408)
            if any(fd == self._end_fd for fd, _ in ready):
                piece = b""
            elif ready:
                piece = self._read_piece()
        if piece:
            self._bridge.feed(piece)
        else:
            self._bridge.feed_eof()

    def _read_piece(self) -> bytes | None:
        try:
            return os.read(self._read_fd, _READ_SIZE)
        except BlockingIOError:  # another process has it, too
            return None
        except ConnectionResetError:
            return b""

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                try:
                    view = view[os.write(self._write_fd, view) :]
                except BlockingIOError:
                    poller = select.poll()
                    poller.register(self._write_fd, select.POLLOUT)
                    poller.poll()
        except (BrokenPipeError, ConnectionResetError):
            raise ClientDisconnected("the client has gone") from None
