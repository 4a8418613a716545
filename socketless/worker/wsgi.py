"""Runs a WSGI app as PEP 3333 says: natively, in the thread of the channel."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import lru_cache
from io import BytesIO
from types import TracebackType
from typing import Any
from urllib.parse import unquote_to_bytes

from werkzeug.test import EnvironBuilder

from socketless.errors import AppProtocolError
from socketless.wire.channel import Channel, finish
from socketless.wire.messages import Done, Failed, Message, RawHeaders, Request, Reset, Response
from socketless.worker import stacks
from socketless.worker.failures import failed
from socketless.worker.output import flush_output

ExcInfo = tuple[type[BaseException], BaseException, TracebackType]
App = Callable[[dict[str, Any], Callable[..., Callable[[bytes], None]]], Iterable[bytes]]


class WsgiRunner:
    """Answers requests with a WSGI app."""

    kind = "wsgi"

    def __init__(self, app: App, hook: Callable[[], Any] | None = None) -> None:
        self._app = app
        self._hook = hook
        self._stopped = threading.Event()

    def run(self, on_ready: Callable[[], None]) -> None:
        # Runs in the main thread, until stop().
        on_ready()
        self._stopped.wait()

    def stop(self) -> None:
        self._stopped.set()

    def serve(self, channel: Channel) -> None:
        name = f"socketless-channel-{channel.number}"
        threading.Thread(target=self._serve_channel, args=(channel,), name=name, daemon=True).start()

    def stack_of(self, number: int) -> str:
        name = f"socketless-channel-{number}"
        return next((stacks.of_thread(thread) for thread in threading.enumerate() if thread.name == name), "")

    def _serve_channel(self, channel: Channel) -> None:
        # Runs in the thread socketless-channel-N, one for each channel in use, until the pipe ends.
        try:
            while True:
                message = finish(channel.receive())
                # A context of its own, or the variables of one request would be seen by the next.
                answer = contextvars.copy_context().run(self._answer, message)
                flush_output()
                finish(channel.send(answer))
        except (EOFError, OSError):
            channel.close()

    def _answer(self, message: Message) -> Message:
        if isinstance(message, Request):
            return self.respond(message)
        assert isinstance(message, Reset)
        try:
            result = self._hook() if self._hook is not None else None
            if inspect.isawaitable(result):
                _wait_for(result)
        except BaseException as error:
            return failed(error)
        return Done()

    def respond(self, request: Request) -> Response | Failed:
        """Call the app and return its response, or what it raised."""
        answer = _Answer(request)
        try:
            iterable = self._app(make_environ(request), answer.start_response)
            try:
                for chunk in _iterate(iterable):
                    answer.write(chunk)
            finally:
                close = getattr(iterable, "close", None)
                if close is not None:
                    close()
            return answer.finish()
        except BaseException as error:
            return failed(error, answer.so_far())


def _wait_for(awaitable: Awaitable[Any]) -> None:
    async def wait() -> None:
        await awaitable

    asyncio.run(wait())


def _iterate(iterable: Any) -> Iterator[Any]:
    if isinstance(iterable, (str, bytes)):
        raise AppProtocolError(
            f"the WSGI app returned {type(iterable).__name__}; PEP 3333 wants an iterable of bytes: return [body]"
        )
    if not isinstance(iterable, Iterable) and not hasattr(iterable, "__getitem__"):
        hint = "; is it a factory? Then write the call: 'package.module:factory(...)'" if callable(iterable) else ""
        raise AppProtocolError(
            f"the WSGI app returned {type(iterable).__name__}; PEP 3333 wants an iterable of bytes{hint}"
        )
    return iter(iterable)


class _Answer:
    """What a WSGI app has answered so far: `start_response()`, `write()` and the chunks that it yields."""

    def __init__(self, request: Request) -> None:
        self._bodiless = request.method == "HEAD"
        self._started: tuple[int, str, RawHeaders] | None = None
        self._chunks: list[bytes] = []

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None, /
    ) -> Callable[[bytes], None]:
        """The `start_response` of PEP 3333."""
        if exc_info is not None:
            try:
                if self._chunks:  # sent already, as far as the app can tell
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None
        elif self._started is not None:
            raise AppProtocolError("the WSGI app called start_response() twice without exc_info (PEP 3333)")
        code, reason = _parse_status(status)
        self._started = code, reason, _encode_headers(headers)
        return self.write

    def write(self, chunk: bytes) -> None:
        """The `write()` of PEP 3333; the chunks that the app yields come here too."""
        if not isinstance(chunk, bytes):
            raise AppProtocolError(f"the WSGI app's body holds {type(chunk).__name__}; PEP 3333 wants bytes")
        if not chunk:
            return
        if self._started is None:
            raise AppProtocolError("the WSGI app wrote its body before it called start_response() (PEP 3333)")
        self._chunks.append(chunk)

    def finish(self) -> Response:
        """Return the whole response."""
        if self._started is None:
            raise AppProtocolError("the WSGI app returned without calling start_response() (PEP 3333)")
        status, reason, headers = self._started
        bodiless = self._bodiless or status in (204, 304) or status < 200
        return Response(status, reason, headers, b"" if bodiless else b"".join(self._chunks))

    def so_far(self) -> Response | None:
        """Return the response of an app that raised, if a client would have seen one."""
        return self.finish() if self._started is not None and self._chunks else None


def _parse_status(status: Any) -> tuple[int, str]:
    if isinstance(status, str):
        code, _, reason = status.partition(" ")
        if len(code) == 3 and code.isascii() and code.isdigit() and not _unprintable(reason):
            return int(code), reason
    raise AppProtocolError(f"the WSGI app's status is {status!r}; PEP 3333 wants a string like '200 OK'")


def _encode_headers(headers: Any) -> RawHeaders:
    if not isinstance(headers, list):
        raise AppProtocolError(f"the WSGI app's headers are {type(headers).__name__}; PEP 3333 wants a list of tuples")
    raw_headers = []
    for header in headers:
        try:
            name, value = header
            if not name or _unprintable(name) or _unprintable(value):
                raise ValueError("control character")
            # White space around a value is no part of it (RFC 9110, section 5.5).
            raw_headers.append((name.encode("latin-1"), value.strip(" \t").encode("latin-1")))
        except (TypeError, ValueError, AttributeError):
            raise AppProtocolError(
                f"the WSGI app's header {header!r} is bad; PEP 3333 wants (name, value), two latin-1 strings "
                "without control characters"
            ) from None
    return raw_headers


def _unprintable(text: str) -> bool:
    return any(character in text for character in "\r\n\0")


def make_environ(request: Request) -> dict[str, Any]:
    """Build the environ of PEP 3333 for a request."""
    environ = _base_environ(request.scheme, request.server, request.root_path).copy()
    raw_path, _, raw_query = request.raw_target.partition(b"?")
    target = request.raw_target.decode("latin-1")
    environ["REQUEST_METHOD"] = request.method
    environ["PATH_INFO"] = unquote_to_bytes(raw_path).decode("latin-1")
    environ["QUERY_STRING"] = raw_query.decode("latin-1")
    environ["REQUEST_URI"] = environ["RAW_URI"] = target  # as werkzeug, mod_wsgi and gunicorn do
    environ["wsgi.input"] = BytesIO(request.body)
    environ["wsgi.errors"] = sys.stderr
    if request.client is not None:
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = request.client[0], str(request.client[1])
    chunked = False
    for raw_name, raw_value in request.headers:
        key = raw_name.decode("latin-1").upper().replace("-", "_")
        if key == "TRANSFER_ENCODING":
            chunked = True  # the body has arrived whole, so its length is known: see below
            continue
        if key not in ("CONTENT_TYPE", "CONTENT_LENGTH"):
            key = f"HTTP_{key}"
        value = raw_value.decode("latin-1")
        if key in environ and key != "HTTP_HOST":
            value = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + value
        environ[key] = value
    if chunked or request.body:
        environ["CONTENT_LENGTH"] = str(len(request.body))
    return environ


@lru_cache(maxsize=64)
def _base_environ(scheme: str, server: tuple[str, int], root_path: str) -> dict[str, Any]:
    # What does not change from one request to the next; building it takes longer than all the rest.
    host, port = server
    netloc = f"[{host}]" if ":" in host else host
    environ = EnvironBuilder(base_url=f"{scheme}://{netloc}:{port}", multithread=True).get_environ()
    environ["SERVER_NAME"] = host  # werkzeug cuts an IPv6 address at its first colon
    environ["SERVER_PORT"] = str(port)
    environ["SERVER_PROTOCOL"] = "HTTP/1.1"
    environ["SERVER_SOFTWARE"] = "socketless"
    environ["SCRIPT_NAME"] = unquote_to_bytes(root_path).decode("latin-1")
    environ["wsgi.input_terminated"] = True  # reading to the end is safe, whatever CONTENT_LENGTH says
    return environ
