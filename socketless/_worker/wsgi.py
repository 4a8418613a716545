"""Runs a WSGI app as PEP 3333 says: natively, in the thread of the channel."""

from __future__ import annotations

import contextvars
import inspect
import re
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from functools import lru_cache, partial
from io import BytesIO
from types import TracebackType
from typing import Any
from urllib.parse import unquote_to_bytes
from weakref import WeakValueDictionary

from werkzeug.test import EnvironBuilder

from socketless._genuine import is_green
from socketless._wire import heads
from socketless._wire.channel import Channel
from socketless._wire.drivers import is_soon_readable, run_blocking
from socketless._wire.messages import (
    DEFAULT_PORTS,
    Call,
    Chunk,
    Done,
    Message,
    Opening,
    RawHeaders,
    Request,
    Reset,
    Response,
    Start,
    is_bodiless,
)
from socketless._wire.trace import describe, say
from socketless._worker import stacks
from socketless._worker.app_threads import AppThread
from socketless._worker.closing import may_take_time
from socketless._worker.content_length import check_final, check_length, check_size, content_length
from socketless._worker.failures import failed, is_disconnection, last_message
from socketless._worker.functions import answer_to, function_of
from socketless._worker.wsgi_call import WsgiCall
from socketless.errors import AppProtocolError

ExcInfo = tuple[type[BaseException], BaseException, TracebackType]

_is_status = re.compile(r"([0-9]{3})(?: ([\t\x20-\x7e\x80-\xff]*))?").fullmatch  # RFC 9112, section 4

App = Callable[[dict[str, Any], Callable[..., Callable[[bytes], None]]], Iterable[bytes]]


class WsgiRunner:
    """Answers requests with a WSGI app."""

    kind = "wsgi"
    is_on_loop = False  # there is none

    def __init__(
        self, app: App, hook: Callable[[], Any] | None, start: Start, *, outlives_its_worker: bool = False
    ) -> None:
        self.app = app
        self._waits_for_threads = outlives_its_worker
        self._hook = hook
        self._max_body_bytes = start.max_body_bytes
        self._debug = start.debug
        self._spins = start.spins
        self._stopped = threading.Event()
        self._threads: WeakValueDictionary[int, AppThread] = WeakValueDictionary()  # by their channel's number
        self._channels: dict[int, Channel] = {}  # those that are served

    @property
    def threads(self) -> list[AppThread]:
        # Python's list of references is made at once, whatever other threads add meanwhile.
        return [thread for reference in self._threads.valuerefs() if (thread := reference()) is not None]

    def run(self, on_ready: Callable[[], None]) -> None:
        # Runs in the worker's thread, the main one of a process, until stop(). The threads of the channels end with
        # the pipes, or with the process.
        on_ready()
        self._stopped.wait()
        if self._waits_for_threads:
            for thread in self.threads:
                thread.join()

    def stop(self) -> None:
        self._stopped.set()

    @property
    def is_ending(self) -> bool:
        return self._stopped.is_set()

    def serve(self, channel: Channel) -> None:
        name = f"socketless-channel-{channel.number}"
        thread = AppThread(name, self._serve_channel, (channel,))
        self._threads[channel.number] = thread
        try:
            thread.start()
        except RuntimeError:  # no thread is to be had
            del self._threads[channel.number]
            raise

    def end_channel(self, number: int) -> None:
        channel = self._channels.get(number)
        if channel is not None:
            channel.break_off()  # the app finds that out when it writes

    def stack_of(self, number: int | None) -> str:
        thread = self._threads.get(number or 0)
        return "" if thread is None else stacks.of_thread(thread)

    def _serve_channel(self, channel: Channel) -> None:
        # Runs in the thread socketless-channel-N, one for each channel in use, until the pipe ends.
        channel.set_blocking(not is_green())  # or all greenlets of this thread would wait
        self._channels[channel.number] = channel
        try:
            while True:
                if self._spins:
                    is_soon_readable(channel.read_fd)
                message = run_blocking(channel.receive())
                if not isinstance(message, Opening):
                    continue  # a Cancel, for an exchange that was over by then
                if self._debug:
                    say(f"the worker has received {describe(message)}")
                call = WsgiCall(channel)
                # A context of its own, or the variables of one request would be seen by the next.
                context = message.context or contextvars.copy_context()
                if isinstance(message, Request):
                    call.end(context.run(self._respond, message, call))
                else:
                    call.end(context.run(self._call_function, message))
        except (EOFError, OSError):
            pass
        finally:
            channel.close()
            self._channels.pop(channel.number, None)

    def _call_function(self, message: Reset | Call) -> Message:
        try:
            result = function_of(message, self._hook)()
            if inspect.isawaitable(result):
                import asyncio

                result = asyncio.run(_wait_for(result))
            return answer_to(message, result)
        except BaseException as error:
            return failed(error)

    def _respond(self, request: Request, call: WsgiCall) -> Message:
        """Call the app, send its response, and return the last message of it."""
        answer = _Answer(request, call, self._max_body_bytes)
        try:
            iterable = self.app(make_environ(request, call), answer.start_response)
            close = getattr(iterable, "close", None)
            try:
                answer.take_all(iterable)
                if may_take_time(close):
                    answer.send_whole()
            finally:
                if close is not None:
                    close()
            last = answer.finish()
            return last if answer.error is None else failed(answer.error, last)
        except BaseException as error:
            return last_message(partial(self._describe, error, call, answer), error)

    def _describe(self, error: BaseException, call: WsgiCall, answer: _Answer) -> Message:
        if call.is_cancelled and is_disconnection(error):
            return Done()
        return failed(error, answer.end_if_complete())


async def _wait_for(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


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
    """What a WSGI app answers: `start_response()`, `write()` and the chunks that it yields.

    Each chunk is sent before the app is asked for the next (PEP 3333, "Buffering and Streaming"). Only a response that
    is whole, by its Content-Length, waits for the app's return, so that it is one message.
    """

    def __init__(self, request: Request, call: WsgiCall, max_body_bytes: int | None) -> None:
        self._label = request.label
        self._method = request.method
        self._is_lenient = request.is_lenient
        self._bodiless = False
        self._is_paced = request.is_paced
        self._call = call
        self._max_body_bytes = max_body_bytes
        self._started: tuple[int, str, RawHeaders] | None = None
        self.error: BaseException | None = None  # what the app answers by an error page of its own
        self._length: int | None = None  # what Content-Length says
        self._size = 0  # of what the app has given
        self._held: list[bytes] = []  # not sent yet
        self._is_sent = False  # the headers, at least
        self._is_complete = False

    def start_response(
        self, status: str, headers: list[tuple[str, str]], exc_info: ExcInfo | None = None, /
    ) -> Callable[[bytes], None]:
        """The `start_response` of PEP 3333."""
        if exc_info is not None:
            try:
                if self._is_sent or self._size:  # held, perhaps, but sent as far as the app can tell
                    raise exc_info[1].with_traceback(exc_info[2])
                self.error = exc_info[1]
            finally:
                exc_info = None
        elif self._started is not None:
            raise AppProtocolError("the WSGI app called start_response() twice without exc_info (PEP 3333)")
        code, reason = _parse_status(status)
        if not self._is_lenient:
            check_final(code)
        raw_headers = _encode_headers(headers)
        self._length = content_length(raw_headers)
        self._started = code, reason, raw_headers
        self._bodiless = is_bodiless(self._method, code)
        return self.write

    def take_all(self, iterable: Any) -> None:
        """Take what the app has returned."""
        is_there = isinstance(iterable, (list, tuple))  # all of it, already
        for chunk in _iterate(iterable):
            self._take(chunk)
            if not is_there:
                self._send()
        self._is_complete = self._bodiless or self._length in (None, self._size)

    def write(self, chunk: bytes) -> None:
        """The `write()` of PEP 3333."""
        self._take(chunk)
        self._send()

    def _take(self, chunk: bytes) -> None:
        if not isinstance(chunk, bytes):
            raise AppProtocolError(f"the WSGI app's body holds {type(chunk).__name__}; PEP 3333 wants bytes")
        if not chunk:
            return
        if self._started is None:
            raise AppProtocolError("the WSGI app wrote its body before it called start_response() (PEP 3333)")
        self._size += len(chunk)
        check_size(self._size, self._max_body_bytes, self._label)
        self._is_complete = self._size == self._length
        if not self._bodiless:
            check_length(self._size, self._length, is_complete=False)
            self._held.append(chunk)

    def _send(self) -> None:
        if self.error is not None:
            return  # the error page is held as a whole: a client that wants the error itself gets no part of it
        if self._is_paced and self._size:  # empty chunks count, too, but for those before the headers
            self._call.send(self._next(more_body=True, is_held=True))
        elif self._held or (self._size and not self._is_sent):
            if self._is_sent or not self._is_complete:
                self._call.send(self._next(more_body=True))
        else:
            self._call.look()

    def send_whole(self) -> None:
        """Send the whole response, since the app may take its time to close it: over TCP, the client has it by then."""
        if self.error is None and self._is_complete and self._started is not None:
            self._call.send(self._next(more_body=True, is_whole=True))

    def _next(self, *, more_body: bool, is_whole: bool = False, is_held: bool = False) -> Response | Chunk:
        assert self._started is not None
        body = b"".join(self._held)
        self._held = []
        if self._is_sent:
            return Chunk(body, more_body, is_whole=is_whole, is_held=is_held)
        self._is_sent = True
        status, reason, headers = self._started
        return Response(status, reason, headers, body, more_body, is_whole=is_whole, is_held=is_held)

    def finish(self) -> Response | Chunk:
        """Return the end of the response."""
        if self._started is None:
            raise AppProtocolError("the WSGI app returned without calling start_response() (PEP 3333)")
        check_size(self._size, self._max_body_bytes, self._label)  # an app may have swallowed that
        if not self._bodiless:
            check_length(self._size, self._length, is_complete=True)
        return self._next(more_body=False)

    def end_if_complete(self) -> Response | Chunk | None:
        """Return the end of the response of an app that has raised, if a client would have seen it."""
        is_whole = self._is_complete or (self._bodiless and self._size > 0)
        return self._next(more_body=False) if self._started is not None and is_whole else None


def _parse_status(status: Any) -> tuple[int, str]:
    match = _is_status(status) if isinstance(status, str) else None
    if match is None:
        raise AppProtocolError(f"the WSGI app's status is {status!r}; PEP 3333 wants a string like '200 OK'")
    return int(match[1]), match[2] or ""


def _encode_headers(headers: Any) -> RawHeaders:
    if not isinstance(headers, list):
        raise AppProtocolError(f"the WSGI app's headers are {type(headers).__name__}; PEP 3333 wants a list of tuples")
    raw_headers = []
    for header in headers:
        try:
            name, value = header
            raw_name, raw_value = name.encode("latin-1"), value.encode("latin-1")
            if not heads.is_token(raw_name) or not heads.is_value(raw_value):
                raise ValueError("illegal characters")
            # White space around a value is no part of it (RFC 9110, section 5.5).
            raw_headers.append((raw_name, raw_value.strip(b" \t")))
        except (TypeError, ValueError, AttributeError):
            raise AppProtocolError(
                f"the WSGI app's header {header!r} is bad; PEP 3333 wants (name, value), two latin-1 strings: a token, "
                "and a value without control characters (RFC 9110, section 5)"
            ) from None
    return raw_headers


def make_environ(request: Request, call: WsgiCall) -> dict[str, Any]:
    """Build the environ of PEP 3333 for a request."""
    environ = _base_environ(request.scheme, request.server, request.root_path).copy()
    raw_path, _, raw_query = request.raw_target.partition(b"?")
    target = request.raw_target.decode("latin-1")
    path = (unquote_to_bytes(raw_path) if b"%" in raw_path else raw_path).decode("latin-1")
    environ["REQUEST_METHOD"] = request.method
    environ["PATH_INFO"] = _path_info(path, environ["SCRIPT_NAME"]) if environ["SCRIPT_NAME"] else path
    environ["QUERY_STRING"] = raw_query.decode("latin-1")
    environ["REQUEST_URI"] = environ["RAW_URI"] = target  # as werkzeug, mod_wsgi and gunicorn do
    environ["wsgi.input"] = call.open_body() if request.more_body else BytesIO(request.body)
    environ["wsgi.errors"] = sys.stderr
    if request.client is not None:
        environ["REMOTE_ADDR"], environ["REMOTE_PORT"] = request.client[0], str(request.client[1])
    chunked = False
    for raw_name, raw_value in request.headers:
        key = _key_of(raw_name)
        if not key:
            continue
        if key == "HTTP_TRANSFER_ENCODING" and not request.more_body:
            chunked = True  # the body has arrived whole, so its length is known: see below
            continue
        value = raw_value.decode("latin-1")
        if key in environ and key != "HTTP_HOST":
            value = environ[key] + ("; " if key == "HTTP_COOKIE" else ",") + value
        environ[key] = value
    if chunked or request.body:
        environ["CONTENT_LENGTH"] = str(len(request.body))
    return environ


@lru_cache(maxsize=256)
def _key_of(raw_name: bytes) -> str:
    if b"_" in raw_name:  # the app would take it for the one with a dash (CVE-2015-0219): all servers drop it
        return ""
    key = raw_name.decode("latin-1").upper().replace("-", "_")
    return key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"


def _path_info(path: str, script_name: str) -> str:
    """Return what follows `SCRIPT_NAME`, which a client may have left out: as in waitress."""
    if f"{path}/".startswith(f"{script_name}/"):
        return path[len(script_name) :]
    return path


@lru_cache(maxsize=64)
def _base_environ(scheme: str, server: tuple[str, int], root_path: str) -> dict[str, Any]:
    # What does not change from one request to the next; building it takes longer than all the rest.
    host, port = server
    netloc = f"[{host}]" if ":" in host else host
    environ = EnvironBuilder(base_url=f"{scheme}://localhost", multithread=True).get_environ()
    environ["SERVER_NAME"], environ["SERVER_PORT"] = host, str(port)
    environ["HTTP_HOST"] = netloc if port == DEFAULT_PORTS[scheme] else f"{netloc}:{port}"
    environ["SERVER_PROTOCOL"] = "HTTP/1.1"
    environ["SERVER_SOFTWARE"] = "socketless"
    environ["SCRIPT_NAME"] = unquote_to_bytes(root_path).decode("latin-1").rstrip("/")
    environ["wsgi.input_terminated"] = True  # reading to the end is safe, whatever CONTENT_LENGTH says
    return environ
