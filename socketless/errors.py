"""Every error that socketless raises by itself.

An exception that the *app* lets through is not in this tree: it is raised in the test as its own type.

    SocketlessError
    ├── WorkerStartError      RuntimeError   the worker could not start: import, lifespan, time
    ├── WorkerDied            RuntimeError   the worker exited, or was killed, while it was needed
    ├── ChannelClosed         RuntimeError   the worker closed the channel of one request, and lives on
    ├── StateError            RuntimeError   used after close(), in a forked child, two switches at once
    ├── UnknownHost           RuntimeError   no app of the switch has the host, and others="refuse"; nothing was sent
    ├── TransferError         TypeError      something cannot cross to the worker; nothing was sent
    ├── AppError              RuntimeError   the app raised something that cannot cross; its traceback as text
    ├── AppProtocolError      RuntimeError, AssertionError  the app broke PEP 3333 or the ASGI specification
    ├── InvalidRequest        ValueError     the request's head is not one that HTTP can carry; nothing was sent
    ├── BodyTooLarge          ValueError     a body is over the worker's max_body_bytes
    ├── IncompleteResponse    RuntimeError   the app raised in the middle of its response (raise_app_exceptions=False)
    ├── ClientDisconnected    ConnectionError  what the *app* gets when its client has gone
    ├── RemoteProtocolError   ConnectionError  `socketless.lowlevel`: what came is not a response of HTTP/1.1
    ├── WebSocketDisconnect                  the app closed the WebSocket
    └── ExchangeTimeout       TimeoutError
        ├── PoolTimeout                      every channel stayed busy
        ├── WriteTimeout                     the worker did not take the request
        └── ReadTimeout                      the app did not answer

A transport raises them as the client library's own error *as well*: what `IpcTransport` raises for a dead worker is a
`WorkerDied` and an `httpx.ReadError`. `StateError`, `AppError` and those of WebSockets stay as they are, and so does an
error for which the library has no name, as `TransferError` is for requests. All can be pickled. So none of them calls
`super().__init__()`: what is next may be the library's, which wants other arguments.
"""

from __future__ import annotations

import signal
import sys

__all__ = [
    "AppError",
    "AppProtocolError",
    "BodyTooLarge",
    "ChannelClosed",
    "ClientDisconnected",
    "ExchangeTimeout",
    "IncompleteResponse",
    "InvalidRequest",
    "PoolTimeout",
    "ReadTimeout",
    "RemoteProtocolError",
    "SocketlessError",
    "StateError",
    "TransferError",
    "UnknownHost",
    "WebSocketDisconnect",
    "WorkerDied",
    "WorkerStartError",
    "WriteTimeout",
]


class SocketlessError(Exception):
    """Base of every error in this module."""


class WorkerStartError(SocketlessError, RuntimeError):
    """The worker could not start. No process and no file descriptor is left, except a thread of an app that hangs.

    The text holds the app's own traceback, or the stack that the start is stuck in, and what the worker printed.
    Where the app's exception could cross, it is the `__cause__`.
    """


class WorkerDied(SocketlessError, RuntimeError):
    """The worker ended while a request needed it. The request was not sent again.

    The next request starts a new worker, as long as `max_restarts` allows.

    Args:
        what: what was under way, for example ``"GET /users"``.
        pid: the process id of the worker; `None` if it was one of threads.
        exitcode: its exit code; minus the signal's number if a signal killed it (as in `subprocess`);
            `None` if that is not known.
        stderr: the last lines of the worker's standard error; of threads, the traceback of what has ended them.
    """

    def __init__(self, what: str, pid: int | None, exitcode: int | None, stderr: str = "") -> None:
        Exception.__init__(self, what, pid, exitcode, stderr)
        self.what = what
        self.pid = pid
        self.exitcode = exitcode
        self.stderr = stderr

    def __str__(self) -> str:
        if self.pid is None:
            return f"{self.what}: the worker has ended:\n{self.stderr}".rstrip(":\n ")
        text = f"{self.what}: the worker (pid {self.pid}) {describe_exit(self.exitcode)}"
        if self.stderr.strip():
            text += f"; the end of its stderr:\n{self.stderr.rstrip()}"
        return text


class ChannelClosed(SocketlessError, RuntimeError):
    """The worker closed the channel of one request before it had answered, and goes on to serve the others.

    Perhaps the app has closed descriptors that are not its own, or has written to them.

    Args:
        what: the request.
        pid: of the worker; `None` where it is threads.
        why: what came instead of an answer; empty if nothing did.
    """

    def __init__(self, what: str, pid: int | None = None, why: str = "") -> None:
        Exception.__init__(self, what, pid, why)
        self.pid = pid

    def __str__(self) -> str:
        what, pid, why = self.args
        worker = "the worker" if pid is None else f"the worker (pid {pid})"
        return f"{what}: {worker} has closed the channel of this request, and lives on" + (f": {why}" if why else "")


class StateError(SocketlessError, RuntimeError):
    """The call does not fit the state that the object is in. Nothing was changed."""


class TransferError(SocketlessError, TypeError):
    """An object cannot be pickled for the worker. Nothing was sent; the worker stays usable."""


class UnknownHost(SocketlessError, RuntimeError):
    """A request is for a host that no app of the switch has, and the switch refuses those: ``others="refuse"``.

    Name the host in the switch, or let such requests go to the network: ``others="pass"``.
    """


class AppError(SocketlessError, RuntimeError):
    """The app raised an exception that cannot be pickled, or not be rebuilt here.

    Args:
        summary: the exception's type and text, as the last line of a traceback.
        traceback: the worker's traceback.
    """

    def __init__(self, summary: str, traceback: str = "") -> None:
        Exception.__init__(self, summary, traceback)
        self.summary = summary
        self.traceback = traceback

    def __str__(self) -> str:
        if not self.traceback:
            return self.summary
        return f"{self.summary}\n\nThe worker's traceback:\n{self.traceback.rstrip()}"


class AppProtocolError(SocketlessError, RuntimeError, AssertionError):
    """The app broke a rule of PEP 3333 or of the ASGI specification; the text names the rule.

    It is an `AssertionError` because in-process clients, Starlette's and those of httpx, assert these rules.
    """


class InvalidRequest(SocketlessError, ValueError):
    """HTTP/1.1 cannot carry the head of the request (RFC 9110), or its body has another length than it says.

    The text says what is wrong. Over TCP, the client library would not write it, or no server take it.
    """


class BodyTooLarge(SocketlessError, ValueError):
    """The body of a request or of a response is larger than the worker's `max_body_bytes`; it was not cut off silently.

    Raise `max_body_bytes`, or leave it out: then there is no limit.
    """


class IncompleteResponse(SocketlessError, RuntimeError):
    """The app raised after it had sent a part of its response, and `raise_app_exceptions` is false.

    What was sent until then has been delivered. A client over TCP would see the connection close in the same place.
    """


class ClientDisconnected(SocketlessError, ConnectionError):
    """Raised in the app when it writes to a client that has gone, or reads the body that it did not send to its end.

    It is the `OSError` that the ASGI specification wants of `send()` (HTTP 2.4). An app may let it through.
    """


class RemoteProtocolError(SocketlessError, ConnectionError):
    """What came over a connection of `socketless.lowlevel` is not a response of HTTP/1.1 (RFC 9112), or ends too early.

    The text says why. The connection cannot be used any more.
    """


class WebSocketDisconnect(SocketlessError):
    """The app closed the WebSocket, or did not accept it.

    Args:
        code: the status code (RFC 6455, section 7.4); 1000 is a normal end.
        reason: the app's words for it.
    """

    def __init__(self, code: int = 1000, reason: str | None = None) -> None:
        Exception.__init__(self, code, reason)
        self.code = code
        self.reason: str = reason or ""

    def __reduce__(self) -> tuple[type[WebSocketDisconnect], tuple[int, str]]:
        return WebSocketDisconnect, (self.code, self.reason)  # also where it is Starlette's, too

    def __str__(self) -> str:
        return f"the app closed the WebSocket with code {self.code}" + (f": {self.reason}" if self.reason else "")


class ExchangeTimeout(SocketlessError, TimeoutError):
    """Base of the time limits of one exchange."""


class PoolTimeout(ExchangeTimeout):
    """Every channel stayed busy for the whole pool timeout; the text says with what.

    Raise `max_connections`, or close the responses that are no longer needed.
    """


class WriteTimeout(ExchangeTimeout):
    """The worker did not take the request, or a piece of its body, in time; it may be stopped."""


class ReadTimeout(ExchangeTimeout):
    """The app did not answer, or did not go on with its answer, in time.

    The app is told that its client has gone. Its channel is set aside until it lets go; the others stay usable.

    Args:
        text: what took too long.
        stack: where the app was then, as in a traceback; empty if the worker did not say. It is shown as a note of the
            exception (PEP 678), and before Python 3.11 in its text.
    """

    def __init__(self, text: str, stack: str = "") -> None:
        Exception.__init__(self, text, stack)
        self.stack = stack
        if stack and sys.version_info >= (3, 11):
            self.add_note(self._where())

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.args[0]!r})"  # a client library puts it into one line of its own

    def __str__(self) -> str:
        text = str(self.args[0])
        return text if not self.stack or sys.version_info >= (3, 11) else f"{text}\n{self._where()}"

    def _where(self) -> str:
        return f"The app is at:\n{self.stack.rstrip()}"


def describe_exit(exitcode: int | None) -> str:
    """Say in words how a process ended, from its exit code in the manner of `subprocess`."""
    if exitcode is None:
        return "has ended"
    if exitcode >= 0:
        return f"exited with code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    return f"was killed by {name}"
