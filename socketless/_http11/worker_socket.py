"""A stand-in for a connected, blocking socket, whose peer is a worker.

    sendall() ── bytes ─▶ Bridge ── Request ──▶ the app
    recv()    ◀─ bytes ── Bridge ◀─ Response ── the app

No thread is needed for it: the bridge goes on in the calls of the client.
"""

from __future__ import annotations

import errno
import io
import socket
import warnings
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from socketless._forking import close_in_forks
from socketless._genuine import os
from socketless._host.limits import Timeouts
from socketless._host.worker import Worker
from socketless._http11.bridge import NEED_DATA, Bridge, Output
from socketless._locks import make_lock
from socketless._wire.drivers import deadline_after, poll, run_blocking
from socketless._wire.pipes import make_pipe
from socketless._wire.steps import Need, PullingSteps, Steps, Wait, Woken
from socketless.errors import ClientDisconnected, ExchangeTimeout, SocketlessError

if TYPE_CHECKING:
    from typing_extensions import Self

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_BUFFER_SIZE = 64 * 1024  # bytes that wait on either side, before the other one has to take some
_POOL_SECONDS = 60.0  # for a free channel, without a time limit: perhaps the client itself holds them all, unread
_PATIENCE = 1.0  # seconds, with an app that goes on after its response
_NOTHING_YET = object()

_open: WeakSet[WorkerSocket] = WeakSet()


def end_connections(worker: Worker) -> None:
    """End those to a worker, whoever keeps them: the next request is for the network, or for another worker."""
    for sock in list(_open):
        if sock.worker is worker:
            sock.end()


class WorkerSocket:
    """A stand-in for a connected `socket.socket`. One thread uses it at a time.

    What is written is given to the app at once, as far as that needs no waiting; `recv()` waits. What the app raises is
    raised where the response is read.

    Args:
        worker: what answers.
        timeout: how many seconds a read or a write may wait; `None`: for ever.
        server, client, options: of `Bridge`.
    """

    def __init__(
        self,
        worker: Worker,
        timeout: float | None,
        *,
        server: tuple[str, int] = ("testserver", 80),
        client: tuple[str, int] = ("127.0.0.1", 123),
        **options: Any,
    ) -> None:
        self.worker = worker
        self._server, self._client = server, client
        self._timeout = timeout
        # Nothing of this refers to the socket: dropped, it is gone at once, without the garbage collector.
        self._to_read = bytearray()
        self._bridge = Bridge(worker, server=server, client=client, **options)
        self._bridge.timeouts = self._limits = Timeouts()
        self._answering = _Paused(self._bridge.run())
        self._pumping: _Paused | None = None  # of a WebSocket
        self._has_ended = False  # no more is to be read, beyond what is here
        self._error: BaseException | None = None  # what has ended it
        self._writes_at_end = 0  # since it has ended
        self._alarm = _Alarm()
        self._is_closed = False  # by close()
        self._is_gone = False  # that, and no file uses it any more
        self._files = 0  # that makefile() has made, and nobody has closed
        _open.add(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} to {self.worker!r}>"

    # Writing

    def sendall(self, data: Any, flags: int = 0) -> None:
        """Write bytes; while the app does not read, this waits.

        Raises:
            TimeoutError: it waited for too long.
            BrokenPipeError: the connection has ended.
            Exception: what the app has raised.
        """
        self._check_open()
        run_blocking(self.sending(data), partial(poll, client_fd=self._alarm.fd))

    def sending(self, data: Any) -> Steps[None]:
        """Return the steps of `sendall()`."""
        self._check_open()
        piece = bytes(data)
        if not piece:
            return  # it would be the end
        if self._has_ended:
            self._writes_at_end += 1  # as with a socket, the first one goes nowhere, and the next one fails
        if self._bridge.is_at_eof or self._writes_at_end > 1:
            self._raise_error()
            raise BrokenPipeError(errno.EPIPE, "the connection has ended")
        self._bridge.feed(piece)
        self._limits.pool = self._timeout or _POOL_SECONDS
        # A client that writes first and then reads gets there, however much the app sends before that.
        while len(self._to_read) < _BUFFER_SIZE:
            patiently = self._is_full and self._timeout != 0
            if not (yield from self._go_on(patiently=patiently)):
                break
        if isinstance(self._error, ExchangeTimeout):
            self._raise_error()

    def send(self, data: Any, flags: int = 0) -> int:
        """Write bytes, as `sendall()`, and return how many."""
        self.sendall(data)
        return memoryview(data).nbytes

    @property
    def _is_full(self) -> bool:
        return self._bridge.unread > _BUFFER_SIZE

    # Reading

    def recv(self, size: int, flags: int = 0) -> bytes:
        """Read up to `size` bytes; `b""` at the end.

        Raises:
            TimeoutError: none came in time. `PoolTimeout` and `ReadTimeout` say why, and have ended the connection.
            BlockingIOError: none is there, and the time limit is 0.
            Exception: what the app has raised.
        """
        self._check_open()
        return run_blocking(self.receiving(size), partial(poll, client_fd=self._alarm.fd))

    def receiving(self, size: int) -> Steps[bytes]:
        """Return the steps of `recv()`."""
        self._check_open()
        while not self._to_read and not self._has_ended:
            if not (yield from self._go_on(patiently=self._timeout != 0)) and not self._has_ended:
                if self._timeout == 0:
                    raise BlockingIOError(errno.EAGAIN, "nothing is there to be read yet")
                raise TimeoutError("nothing is to be read before more is written")
        yield from self._settle()
        if not self._to_read or self._bridge.is_sent:
            self._raise_error()
        data = bytes(self._to_read[:size])
        del self._to_read[:size]
        return data

    def recv_into(self, buffer: Any, size: int = 0, flags: int = 0) -> int:
        """Read into a buffer, as `recv()`, and return how many bytes."""
        data = self.recv(size or len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def _settle(self) -> Steps[None]:
        # A client that has a whole response may not come again, and the app has yet to return, or to raise. If it takes
        # too long for that, the connection goes on without it.
        patience = _PATIENCE if self._timeout is None else min(_PATIENCE, self._timeout)
        deadline = deadline_after(None if self._bridge.is_whole else patience)
        while self._bridge.is_sent and not self._has_ended:
            need = self._answering.need
            with suppress(ClientDisconnected):
                if isinstance(need, Wait) and (yield need._replace(deadline=deadline)) is Woken.LATE:
                    self._answering.close()
                    self._to_read += self._bridge.let_go()
                    break
            if not (yield from self._go_on(patiently=False)):
                break

    def _raise_error(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    # Both

    def _go_on(self, *, patiently: bool) -> Steps[bool]:
        """Let the bridge go on by a step; return whether it could. It yields nothing, if it is to be impatient."""
        if self._bridge.upgraded is not None:
            yield from self._pump()
        if not self._answering.is_under_way:
            if self._has_ended or (self._bridge.is_idle and not self._bridge.is_at_eof):
                return False
            self._answering = _Paused(self._bridge.run())
        got = yield from self._what_came(self._answering.need, patiently=patiently)
        if got is _NOTHING_YET:
            return False
        try:
            self._answering.resume(got)
        except BaseException as error:
            self._end(error)
            return True
        if isinstance(self._answering.need, Output):
            self._to_read += self._answering.need.data
        if self._bridge.is_closed and not self._answering.is_under_way:
            self._end()
        return True

    def _pump(self) -> Steps[None]:
        """Give a WebSocket what has been written."""
        if self._pumping is None:
            self._pumping = _Paused(self._bridge.pump())
        try:
            while self._pumping.is_under_way:
                need = self._pumping.need
                waits_to_read = isinstance(need, Wait) and not need.for_writing
                # Where both wait to read, `_go_on()` does it, and after it this one has what it needs.
                got = yield from self._what_came(
                    need, patiently=not (waits_to_read and isinstance(self._answering.need, Wait))
                )
                if got is _NOTHING_YET:
                    break
                self._pumping.resume(got)
        except TimeoutError:
            raise
        except Exception:
            pass  # the WebSocket is closed, which recv() tells

    def _what_came(self, need: Wait | Need | None, *, patiently: bool) -> Steps[Any]:
        if need is NEED_DATA:
            return None if self._bridge.has_news else _NOTHING_YET
        if not isinstance(need, Wait):
            return None  # nothing is to be waited for
        if not patiently:
            woken = poll(need._replace(deadline=0.0))
            return _NOTHING_YET if woken is Woken.LATE else woken
        try:
            if need.deadline is not None:
                return (yield need)
            # The time that the client waits counts, not what it does meanwhile, nor what the app does after its answer.
            timeout = None if self._bridge.is_whole else self._timeout
            woken = yield need._replace(deadline=deadline_after(timeout))
        except ClientDisconnected:
            self._give_up()
            return _NOTHING_YET
        if woken is Woken.LATE:
            if need.sentinel is None or self._bridge.upgraded is not None:
                raise TimeoutError("timed out")  # it may be tried again
            self._limits.read = self._limits.write = self._timeout  # the exchange says it
        return woken

    def settimeout(self, timeout: float | None) -> None:
        """Set how many seconds a read or a write may wait; `None`: for ever."""
        self._timeout = timeout

    def gettimeout(self) -> float | None:
        """Return it."""
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        """Wait for ever, or not at all."""
        self._timeout = None if flag else 0.0

    def getpeername(self) -> tuple[str, int]:
        """Return what the client has asked to be connected with."""
        return self._server

    def getsockname(self) -> tuple[str, int]:
        """Return the address that the app sees as the client's."""
        return self._client

    def setsockopt(self, *args: Any) -> None:
        """Do nothing: there are no options."""

    def getsockopt(self, *args: Any) -> int:
        """Return 0, as for an option that is off, or an error that there is not."""
        return 0

    def makefile(self, mode: str = "r", buffering: int | None = None, **text_options: Any) -> Any:
        """Return a file for reading or writing, as `socket.socket.makefile()` does."""
        self._files += 1
        raw = _File(self)
        if buffering == 0:
            return raw
        size = io.DEFAULT_BUFFER_SIZE if buffering in (None, -1) else buffering
        file: Any
        if "w" in mode:
            file = io.BufferedRWPair(raw, raw, size) if "r" in mode else io.BufferedWriter(raw, size)
        else:
            file = io.BufferedReader(raw, size)
        return file if "b" in mode else io.TextIOWrapper(file, **text_options)

    # The end

    def fileno(self) -> int:
        """Return a descriptor that is readable once there is something to be read, or the end; -1 after `close()`.

        It is another one as soon as the connection goes on: ask again each time, as `select` does.
        """
        if self._is_gone:
            return -1
        while len(self._to_read) < _BUFFER_SIZE and run_blocking(self._go_on(patiently=False)):
            pass
        is_ready = bool(self._to_read) or self._has_ended or self._bridge.is_at_eof
        need = self._answering.need
        if isinstance(need, Wait) and not (need.for_writing or is_ready):
            return need.fd
        self._alarm.signal(is_ready)
        return self._alarm.fd

    def shutdown(self, how: int) -> None:
        """Write no more, read no more, or both; any thread may call it, also while another one waits."""
        if how != socket.SHUT_RD:
            self.end()
        if how != socket.SHUT_WR:
            self._alarm.ring()

    def end(self) -> None:
        """Write no more, so that all that is left to be read is the end; any thread may call it."""
        self._bridge.feed_eof()

    def close(self) -> None:
        """End the connection, once the files of `makefile()` are closed, too. May be called twice."""
        self._is_closed = True
        self._leave()

    def drop_file(self) -> None:
        """Take notice that a file of `makefile()` is closed."""
        self._files -= 1
        if self._is_closed:
            self._leave()

    def _leave(self) -> None:
        if self._files > 0 or self._is_gone:
            return
        self.end()
        if self._bridge.upgraded is not None:
            self._bridge.let_through()
            with suppress(TimeoutError):
                run_blocking(self._pump(), partial(poll, client_fd=self._alarm.fd))  # says goodbye
        self._give_up()
        self._is_gone = True
        self._alarm.close()

    def _give_up(self) -> None:
        for steps in (self._pumping, self._answering):
            if steps is not None:
                with suppress(SocketlessError):
                    steps.throw(ClientDisconnected("the client has gone"))
        self._bridge.cancel()
        self._has_ended = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not getattr(self, "_is_gone", True):
            for steps in (self._answering, self._pumping):
                if steps is not None:
                    steps.close()
            self._bridge.abandon()
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)

    def _end(self, error: BaseException | None = None) -> None:
        self._has_ended, self._error = True, error

    def _check_open(self) -> None:
        if self._is_gone:
            raise OSError(errno.EBADF, "the connection is closed")


class _Alarm:
    """A pipe: it wakes a thread that waits, and is what `select` is told to wait for."""

    def __init__(self) -> None:
        self._reader, self._writer = make_pipe()
        for end in (self._reader, self._writer):
            close_in_forks(end)
        self._lock = make_lock()  # held where an end is closed, or is read from or written to
        self._is_signalling = False

    @property
    def fd(self) -> int:
        return self._reader.fileno()

    def ring(self) -> None:
        """Wake who waits for the pipe's end, from now on; any thread may call it."""
        with self._lock:
            self._writer.close()

    def signal(self, is_ready: bool) -> None:
        """Make the pipe readable, or not; once it rings, it is."""
        if is_ready == self._is_signalling:
            return
        self._is_signalling = is_ready
        with suppress(OSError), self._lock:
            if is_ready:
                os.write(self._writer.fileno(), b"\0")
            else:
                os.read(self._reader.fileno(), 1)

    def close(self) -> None:
        with self._lock:
            self._writer.close()
            self._reader.close()


class _Paused:
    """Steps that pause where they need something, until it is there."""

    def __init__(self, steps: PullingSteps[None]) -> None:
        self._steps: PullingSteps[None] | None = steps  # `None` while they are at work, and once they are over
        self.need: Wait | Need | None = None  # where they pause; they need nothing at first, and at the end

    @property
    def is_under_way(self) -> bool:
        return self._steps is not None

    def resume(self, got: Any) -> None:
        """Go on with what they needed; it raises what the steps raise."""
        assert self._steps is not None
        (steps, self._steps), self.need = (self._steps, None), None
        with suppress(StopIteration):
            self.need = steps.send(got)
            self._steps = steps

    def throw(self, error: BaseException) -> None:
        """Give them up, if they are under way: they get an error."""
        (steps, self._steps), self.need = (self._steps, None), None
        if steps is not None:
            with suppress(StopIteration):
                steps.throw(error)

    def close(self) -> None:
        """Give them up, as the garbage collector would."""
        (steps, self._steps), self.need = (self._steps, None), None
        if steps is not None:
            steps.close()


class _File(io.RawIOBase):
    def __init__(self, sock: WorkerSocket) -> None:
        self._sock = sock

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._sock.recv_into(buffer)

    def write(self, data: Any) -> int:
        return self._sock.send(data)

    def fileno(self) -> int:
        return self._sock.fileno()

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._sock.drop_file()
