"""What apps in worker processes ask others for: on its way through this process to the workers of a switch.

    worker process of A                    this process                          worker of B
    httpx, requests ...                    thread socketless-upstream-N
      exchange ── Request ──▶ FIFO ──────▶   exchange ── Request ──▶ pipe ─────▶ the app
               ◀─ Response ── FIFO ◀──────            ◀─ Response ── pipe ◀─────

A worker process makes a channel when it needs one, of two FIFOs, and says so by a third, on which this process listens.
Each channel has a thread here, so A may ask B, which asks A in turn: one request never blocks another.
"""

from __future__ import annotations

import atexit
import select
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

from socketless._forking import close_in_forks
from socketless._genuine import is_green, os
from socketless._host.limits import NO_LIMITS
from socketless._host.sentinel import Sentinel
from socketless._host.trace import logger
from socketless._locks import make_lock
from socketless._wire.channel import Channel
from socketless._wire.drivers import milliseconds_until, remaining, run_blocking
from socketless._wire.exceptions import UNKNOWN
from socketless._wire.fifos import open_offered
from socketless._wire.messages import Chunk, Done, Failed, Message, Request, Taken, WantBody, is_last
from socketless._wire.pipes import PipeEnd, above_stdio
from socketless._wire.steps import Pull, PullingSteps, Wait, Woken
from socketless.errors import ClientDisconnected, TransferError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

GREETING = b"\0"  # what a worker process waits for: this process has opened its channel

M = TypeVar("M")
T = TypeVar("T")

Find = Callable[[str, int], Any]  # from the host and port of a URL to what answers it


class Upstreams:
    """Carries the requests of worker processes to other workers, until it is closed.

    Args:
        find: returns what answers the host and port of a URL: a worker or what stands for one.

    Raises:
        OSError: there is no folder where FIFOs can be made, or there are no threads, as they are greenlets.
    """

    def __init__(self, find: Find) -> None:
        if is_green():
            raise OSError("gevent or eventlet has patched this process")
        self._find = find
        self._lock = make_lock()
        self._threads: set[threading.Thread] = set()  # guarded by _lock
        self._is_closed = False
        self._owner_pid = os.getpid()
        self._folder = tempfile.mkdtemp(prefix="socketless-")
        try:
            self.path = os.path.join(self._folder, "channels")
            os.mkfifo(self.path, 0o600)
            self._fifo = PipeEnd(above_stdio(os.open(self.path, os.O_RDWR)), writable=True)  # so it has no end
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._sentinel = Sentinel()  # readable once this is being closed
        close_in_forks(self._fifo)
        close_in_forks(self._sentinel)
        self._listener = threading.Thread(target=self._listen, name="socketless-upstreams", daemon=True)
        self._listener.start()
        atexit.register(self.close)  # who calls no switch back leaves no folder either

    def _listen(self) -> None:
        # Runs in the thread socketless-upstreams, until an empty line comes, from close().
        rest = b""
        while True:
            *lines, rest = (rest + os.read(self._fifo.fileno(), 4096)).split(b"\n")
            for line in lines:
                if not line:
                    return
                if self._is_closed:
                    continue
                try:
                    self._open(*line.decode().split("\t"))
                except (OSError, RuntimeError) as error:  # no descriptors, or no thread: who waits gives up
                    logger.warning("a worker process cannot reach the other apps of the switch: %s", error)

    def _open(self, number: str, requests: str, responses: str) -> None:
        channel = open_offered(int(number), requests, responses)
        close_in_forks(channel)
        thread = threading.Thread(
            target=self._serve, args=(channel,), name=f"socketless-upstream-{number}", daemon=True
        )
        with self._lock:
            self._threads.add(thread)
        try:
            os.write(channel.fileno()[1], GREETING)
            thread.start()
        except BaseException:
            self._forget(channel, thread)
            raise

    def _serve(self, channel: Channel) -> None:
        # Runs in the thread socketless-upstream-N, until the worker process closes the channel.
        channel.set_blocking(False)
        try:
            while True:
                message = self._drive(channel.receive())
                if isinstance(message, Request):  # and no Cancel of the one before
                    self._answer(channel, message)
        except (EOFError, OSError):
            pass  # the worker process has ended, or this is closed
        finally:
            self._forget(channel, threading.current_thread())

    def _forget(self, channel: Channel, thread: threading.Thread) -> None:
        channel.close()
        with self._lock:
            self._threads.discard(thread)

    def _answer(self, channel: Channel, request: Request) -> None:
        try:
            self._relay(channel, request)
        except ClientDisconnected:
            if self._is_closed:
                raise
            self._send(channel, Done())  # the client has gone; until this comes, it keeps the channel
        except Exception as error:
            self._send(channel, Failed(error, f"{type(error).__name__}: {error}", ""))

    def _relay(self, channel: Channel, request: Request) -> None:
        pull = Pull(self._body(channel)) if request.more_body else None
        request = replace(request, offers_files=False)
        exchange = self._drive(self._find(*request.server).exchange(request, NO_LIMITS, pull), channel)
        try:
            message: Message = exchange.answer
            while True:
                self._send(channel, message)
                if is_last(message):
                    return
                if getattr(message, "is_held", False):
                    self._drive(exchange.send(self._next(channel, Taken)), channel)
                self._wait(Wait(channel.fileno()[1], for_writing=True), channel)  # an endless stream waits for nothing
                message = self._drive(exchange.receive(), channel)
        finally:
            if not exchange.is_over:
                exchange.cancel()

    def _body(self, channel: Channel) -> Iterator[bytes]:
        chunk = Chunk(b"", more_body=True)
        while chunk.more_body:
            self._send(channel, WantBody())
            chunk = self._next(channel, Chunk)
            if chunk.body:
                yield chunk.body

    def _next(self, channel: Channel, wanted: type[M]) -> M:
        message = self._drive(channel.receive())
        if not isinstance(message, wanted):
            raise ClientDisconnected("the client has gone")
        return message

    def _send(self, channel: Channel, message: Message) -> None:
        try:
            steps = channel.send(message)
        except TransferError as error:
            summary = message.summary if isinstance(message, Failed) else str(error)
            traceback = message.traceback if isinstance(message, Failed) else ""
            steps = channel.send(Failed(UNKNOWN, summary, traceback))
        self._drive(steps)

    def _drive(self, steps: PullingSteps[T], channel: Channel | None = None) -> T:
        """Drive steps to their end; what comes over `channel` meanwhile says that its client has gone.

        Raises:
            ClientDisconnected: that is so, or this is being closed; the steps get it, too.
        """
        return run_blocking(steps, partial(self._wait, channel=channel))

    def _wait(self, wait: Wait, channel: Channel | None) -> Woken:
        poller = select.poll()
        poller.register(wait.fd, select.POLLOUT if wait.for_writing else select.POLLIN)
        for fd in (wait.sentinel, self._sentinel.fd, None if channel is None else channel.read_fd):
            if fd is not None:
                poller.register(fd, select.POLLIN)
        if channel is not None and channel.has_rest:  # a Cancel has been read with what came before it
            raise ClientDisconnected("the client has gone")
        while True:
            ready = dict(poller.poll(milliseconds_until(wait.deadline)))
            if channel is not None and channel.read_fd in ready:
                raise ClientDisconnected("the client has gone")
            if wait.fd in ready:
                return Woken.READY
            if wait.sentinel in ready:
                return Woken.ENDED
            if ready:
                raise ClientDisconnected("the client has gone")
            if remaining(wait.deadline) == 0.0:
                return Woken.LATE

    def close(self) -> None:
        """End all channels, and wait for their threads. May be called twice."""
        if self._is_closed or os.getpid() != self._owner_pid:
            return
        self._is_closed = True
        atexit.unregister(self.close)
        self._sentinel.writer.close()
        os.write(self._fifo.fileno(), b"\n\n")  # the first ends what somebody has written half
        self._listener.join()
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join()
        self._fifo.close()
        self._sentinel.close()
        shutil.rmtree(self._folder, ignore_errors=True)
