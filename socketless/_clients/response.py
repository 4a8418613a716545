"""The response of an exchange, for every client library: its head, and its body as it comes.

A client module says how our errors are to be raised, as its library's own: that is `AsTheirs`.
"""

from __future__ import annotations

from collections.abc import Callable
from http import HTTPStatus
from types import TracebackType
from typing import Any, Protocol

from socketless._host.failures import exception_of
from socketless._host.limits import NO_LIMITS, Timeouts
from socketless._wire.messages import Chunk, Done, Event, Failed, Message, Request, Response, Taken, is_bodiless
from socketless._wire.steps import Pull, PullingSteps
from socketless.errors import BodyTooLarge, IncompleteResponse, ReadTimeout, SocketlessError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


class Exchanging(Protocol):
    """What a client needs of an exchange, with a worker or in its own loop."""

    label: str
    answer: Message
    failed: Failed | None

    @property
    def is_over(self) -> bool: ...
    def keep_open(self) -> None: ...
    def send(self, message: Message, timeouts: Timeouts | None = None) -> PullingSteps[None]: ...
    def receive(self, timeouts: Timeouts | None = None) -> PullingSteps[Message]: ...
    def receive_or_end(self, timeouts: Timeouts | None = None) -> PullingSteps[Message | None]: ...
    def let_through(self) -> None: ...
    def cancel(self) -> None: ...
    def abandon(self) -> None: ...
    def finish(self) -> PullingSteps[None]: ...


class ResponseStream(Protocol):
    """The bytes of a response, some of which may still be to come: a `Body`, or a WebSocket's frames."""

    def next_chunk(self) -> PullingSteps[bytes | None]: ...
    def cancel(self) -> PullingSteps[None]: ...
    def finish(self) -> PullingSteps[None]: ...


class Answers(Protocol):
    """What answers requests: a worker, or what stands before one."""

    @property
    def app_kind(self) -> str: ...
    @property
    def max_body_bytes(self) -> int | None: ...
    def exchange(
        self, message: Request, timeouts: Timeouts = NO_LIMITS, body: Pull | None = None
    ) -> PullingSteps[Exchanging]: ...


AsTheirs = Callable[[SocketlessError], BaseException]

_FORBIDDEN = Response(403, "Forbidden", [(b"content-length", b"0")], more_body=True)  # the app has yet to return
INTERNAL_SERVER_ERROR = Response(
    500,
    "Internal Server Error",
    [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"21")],
    b"Internal Server Error",
)

_PHRASES = {status.value: status.phrase for status in HTTPStatus}
_PATIENCE = Timeouts(read=1.0)  # with an app that goes on after the headers of a response that has no body


def reason_of(response: Response) -> str:
    """Return the reason phrase of a response (RFC 9112, section 4); an ASGI app gives none."""
    return response.reason or _PHRASES.get(response.status, "")


def response_of(
    answer: Message,
    as_theirs: AsTheirs,
    *,
    raise_app_exceptions: bool,
    error_page: Response = INTERNAL_SERVER_ERROR,
) -> Response:
    """Return the response that an exchange's first answer is, or stands for: `error_page` for that of no app.

    Raises:
        Exception: what the app has raised, if it is to be raised.
    """
    if isinstance(answer, Event):  # websocket.close, before it was accepted
        return _FORBIDDEN
    if isinstance(answer, Failed):
        _raise_failure(answer, as_theirs, raise_app_exceptions=raise_app_exceptions)
        answer = answer.response or error_page
    assert isinstance(answer, Response)
    return answer


def _raise_failure(failed: Failed, as_theirs: AsTheirs, *, raise_app_exceptions: bool) -> None:
    """Raise what the app has raised, if it is to be raised; a limit of the worker's is no matter of the app's."""
    error = exception_of(failed)
    if isinstance(error, SocketlessError) and (raise_app_exceptions or isinstance(error, BodyTooLarge)):
        raise as_theirs(error).with_traceback(error.__traceback__) from error.__cause__
    if raise_app_exceptions:
        raise error


def traceback_in_worker(error: BaseException) -> TracebackType | None:
    """Return the worker's part of the traceback of what an app has raised; `None` if no app has raised it."""
    entry = error.__traceback__
    while entry is not None and entry.tb_frame.f_code is not _raise_failure.__code__:
        entry = entry.tb_next
    return None if entry is None else entry.tb_next


class Body:
    """The body of a response that says `more_body`, for every way of waiting.

    `on_failure` gets the traceback of what the app raises, where that is not raised here. With `breaks_off`, a response
    of which the app still owes something then is an error; else what was sent is the response. The end is that of the
    app or, without `waits_for_app`, of the body.
    """

    def __init__(
        self,
        exchange: Exchanging,
        method: str,
        response: Response,
        as_theirs: AsTheirs,
        *,
        raise_app_exceptions: bool,
        on_failure: Callable[[str], object] = lambda traceback: None,
        breaks_off: bool = True,
        waits_for_app: bool = True,
    ) -> None:
        self._exchange = exchange
        self._as_theirs = as_theirs
        self._piece: Response | Chunk | None = response  # has come, and was not taken yet
        self._is_bodiless = is_bodiless(method, response.status)
        self._is_complete = False
        self._raise_app_exceptions = raise_app_exceptions
        self._on_failure = on_failure
        self._breaks_off = breaks_off
        self._waits_for_app = waits_for_app
        self.is_whole = response.is_whole  # the app goes on after it
        self.extensions: dict[str, Any] = {}  # of the response

    def next_chunk(self) -> PullingSteps[bytes | None]:
        """Return the next bytes of the body; `None` at its end."""
        chunk = b""
        try:
            while not chunk and not self._is_complete:
                if self.is_whole and self._piece is None and not self._waits_for_app:
                    return None
                piece, self._piece = self._piece, None
                chunk = yield from self._take(piece or self._piece_of((yield from self._next_message())))
        except SocketlessError as error:
            if self._is_bodiless and isinstance(error, ReadTimeout):
                return None  # the app goes on with what nobody gets; it has been told
            raise self._as_theirs(error) from error.__cause__
        return chunk or None

    def _take(self, piece: Response | Chunk) -> PullingSteps[bytes]:
        self._is_complete = not piece.more_body
        self.is_whole |= piece.is_whole
        if piece.is_held:
            yield from self._exchange.send(Taken())
        return piece.body

    def _next_message(self) -> PullingSteps[Message]:
        failed = self._exchange.failed
        if failed is not None and not self._breaks_off:
            return Done()
        if failed is not None:
            raise IncompleteResponse(f"{self._exchange.label}: the app raised in the middle: {failed.summary}")
        timeouts = _PATIENCE if self._is_bodiless else None
        return (yield from self._exchange.receive(NO_LIMITS if self.is_whole else timeouts))

    def _piece_of(self, message: Message) -> Response | Chunk:
        if isinstance(message, Failed):
            _raise_failure(message, self._as_theirs, raise_app_exceptions=self._raise_app_exceptions)
            self._on_failure(message.traceback)
            return message.response or Chunk(b"", more_body=True)
        if isinstance(message, Done):
            return Chunk(b"", more_body=False)
        assert isinstance(message, Chunk)
        for name, value in message.extensions.items():
            self.extensions[name] = [*self.extensions.get(name, []), *value] if isinstance(value, list) else value
        return message

    def cancel(self) -> PullingSteps[None]:
        """Tell the app, if it is still there, that its client has gone."""
        self._exchange.cancel()
        yield from ()

    def abandon(self) -> None:
        """Cancel it when there is time: for finalizers."""
        self._exchange.abandon()

    def finish(self) -> PullingSteps[None]:
        """Wait for the app's end if it is on this loop; one in a worker ends in its own time."""
        yield from self._exchange.finish()
