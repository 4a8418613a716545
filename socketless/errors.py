"""All errors that socketless itself raises.

An exception that the *app* lets through is not in this tree: the test gets it with its own type.

    SocketlessError
    ├── WorkerStartError      RuntimeError   the worker could not start: import, lifespan, time
    ├── WorkerDied            RuntimeError   the worker exited, or was killed, while a request needed it
    ├── ChannelClosed         RuntimeError   the worker closed the channel of one request, but still runs
    ├── StateError            RuntimeError   used after close(), in a forked child, two switches at once
    ├── UnknownHost           RuntimeError   no app of the switch has the host, and others="refuse"; nothing was sent
    ├── TransferError         TypeError      an object cannot be pickled for the worker, or a result for this process
    ├── AppError              RuntimeError   the app's exception cannot be pickled; its traceback as text
    ├── AppProtocolError      RuntimeError, AssertionError  the app broke PEP 3333 or the ASGI specification
    ├── InvalidRequest        ValueError     HTTP cannot carry the request's head, or its body has the wrong length
    ├── BodyTooLarge          ValueError     a body is larger than the worker's max_body_bytes
    ├── IncompleteResponse    RuntimeError   the app raised in the middle of its response (raise_app_exceptions=False)
    ├── ClientDisconnected    ConnectionError  raised in the *app* when its client has gone
    ├── RemoteProtocolError   ConnectionError  `socketless.lowlevel`: the peer did not send an HTTP/1.1 response
    ├── WebSocketDisconnect                  the app closed the WebSocket
    └── ExchangeTimeout       TimeoutError
        ├── PoolTimeout                      every channel stayed busy
        ├── WriteTimeout                     the worker did not take the request
        └── ReadTimeout                      the app did not answer

When a client raises one of them, it is one of the client library's own errors *as well*: for a dead worker,
`IpcTransport` raises an error that is both a `WorkerDied` and an `httpx.ReadError`. `StateError`, `AppError` and the
errors of WebSockets stay as they are, and so do errors that the library has no counterpart for, such as `TransferError`
with requests. All of them can be pickled.
"""

# None of them calls `super().__init__()`: the next class may be the library's, which takes other arguments.

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
    """The worker could not start. No process, thread or file descriptor is left, except a thread of an app that hangs.

    The text has the app's own traceback, or the stack at which the start hangs, and the worker's output. The
    `__cause__` is the app's exception, if that could be pickled.
    """


class WorkerDied(SocketlessError, RuntimeError):
    """The worker ended while a request needed it. The request was not sent again.

    The next request starts a new worker, as long as `max_restarts` allows.

    Args:
        what: the request, for example ``"GET /users"``, or another call that was in progress.
        pid: the process id of the worker; `None` for a thread worker.
        exitcode: the exit code; minus the signal's number if a signal killed the worker (as in `subprocess`); `None` if
            it is not known.
        stderr: the last lines of the worker's standard error; for a thread worker, the traceback of the exception that
            ended it.
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
    """The worker closed the channel of one request before it had answered, and goes on serving the others.

    Perhaps the app has closed file descriptors that are not its own, or has written to them.

    Args:
        what: the request.
        pid: the process id of the worker; `None` for a thread worker.
        why: what is wrong with the bytes that came instead of an answer; empty if none came.
    """

    def __init__(self, what: str, pid: int | None = None, why: str = "") -> None:
        Exception.__init__(self, what, pid, why)
        self.pid = pid

    def __str__(self) -> str:
        what, pid, why = self.args
        worker = "the worker" if pid is None else f"the worker (pid {pid})"
        return f"{what}: {worker} closed the channel of this request, but still runs" + (f": {why}" if why else "")


class StateError(SocketlessError, RuntimeError):
    """The call is not possible in the state that the object is in. Nothing was changed."""


class TransferError(SocketlessError, TypeError):
    """An object cannot be pickled for the worker, or a result of `run()` for this process. The worker stays usable.

    Nothing was sent, unless the object is such a result, or a piece of a streamed body.
    """


class UnknownHost(SocketlessError, RuntimeError):
    """No app of the switch has the host that a request is for, and the switch has ``others="refuse"``.

    Name the host in the switch, or let such requests go to the network with ``others="pass"``.
    """


class AppError(SocketlessError, RuntimeError):
    """The app raised an exception that cannot be pickled, or that cannot be rebuilt here.

    Args:
        summary: the exception's type and text, like the last line of a traceback.
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

    It is also an `AssertionError`, because in-process clients (Starlette's and httpx's) assert these rules.
    """


class InvalidRequest(SocketlessError, ValueError):
    """HTTP/1.1 cannot carry the head of the request (RFC 9110), or its body is not as long as the head says.

    The text says what is wrong. Over TCP, the client library would refuse to send it, or a server to read it.
    """


class BodyTooLarge(SocketlessError, ValueError):
    """The body of a request or of a response is larger than the worker's `max_body_bytes`.

    Raise `max_body_bytes`, or leave it out for no limit.
    """


class IncompleteResponse(SocketlessError, RuntimeError):
    """The app raised after it had sent a part of its response, and `raise_app_exceptions` is false.

    The client has received that part. Over TCP, it would see the connection close at the same place.
    """


class ClientDisconnected(SocketlessError, ConnectionError):
    """Raised in the app when it writes to a client that has gone, or reads a body that the client has not sent in full.

    It is the `OSError` that `send()` raises according to the ASGI specification (HTTP 2.4). The app may let it through.
    """


class RemoteProtocolError(SocketlessError, ConnectionError):
    """The peer of a `socketless.lowlevel` connection did not send a complete response of HTTP/1.1 (RFC 9112).

    The text says why. The connection cannot be used any more.
    """


class WebSocketDisconnect(SocketlessError):
    """The app closed the WebSocket, or did not accept it.

    Args:
        code: the status code (RFC 6455, section 7.4); 1000 means a normal end.
        reason: the reason that the app gave.
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
    """Base of the errors for the time limits of one exchange."""


class PoolTimeout(ExchangeTimeout):
    """Every channel stayed busy for the whole pool timeout; the text names the requests that use them.

    Raise `max_connections`, or close the responses that are no longer needed.
    """


class WriteTimeout(ExchangeTimeout):
    """The worker did not take the request, or a piece of its body, in time; perhaps its process is stopped."""


class ReadTimeout(ExchangeTimeout):
    """The app did not answer, or did not go on with its answer, in time.

    The app learns that its client has gone. Its channel is set aside until the app returns; the others stay usable.

    Args:
        text: what took too long.
        stack: where the app was at that moment, as in a traceback; empty if the worker did not tell. It is shown as a
            note of the exception (PEP 678); before Python 3.11, in its text.
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
