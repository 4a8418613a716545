"""One app that is written down once, served as WSGI (`wsgi`) and as ASGI (`asgi`), without a framework between.

It answers what `tests/conformance.py` asks. Everything about a request comes back as JSON, with bytes as latin-1.

What takes its time (`/stream/...`) is written down once, too: as a generator of steps, a *script*. `WsgiPlay` and
`play_asgi` are the two ways of playing one.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import signal
import sys
import threading
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl

from validators import valid_asgi, valid_wsgi

hold = threading.Event()  # /hang waits for it, /release sets it
counter = 0


class Seen:
    """What the app sees of a request."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)
        self.values = values


def answer(seen: Any) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return status, headers and body."""
    path = seen.path.removeprefix(seen.root_path)
    if path == "/echo":
        return 200, [("Content-Type", "application/octet-stream")], seen.body
    if path == "/headers":
        return 200, [("X-One", "a"), ("X-Two", "b"), ("X-One", "c"), ("Content-Length", "2")], b"ok"
    if path == "/head":
        headers = parse_qsl(seen.query, keep_blank_values=True, encoding="latin-1")
        return int(headers[0][1]), headers[1:], b"hello"
    if path == "/latin-1":
        return 200, [("X-Name", "caf\xe9")], b""
    if path.startswith("/status/"):
        return int(path.rpartition("/")[2]), [("Content-Length", "5")], b"hello"
    if path == "/redirect":
        return 302, [("Location", "/echo-redirected")], b""
    if path == "/set-cookies":
        return 200, [("Set-Cookie", "a=1; Path=/"), ("Set-Cookie", "b=2; Path=/")], b""
    if path == "/large":
        return 200, [], bytes(int(seen.query))
    if path == "/boom":
        raise LookupError("boom", 42)
    if path == "/boom-odd":
        raise Odd("here", "there")
    return special(seen, path)


def special(seen: Any, path: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """The paths that do something to the worker."""
    global counter
    if path == "/count":
        counter += 1
        return 200, [], str(counter).encode()
    if path == "/exit":
        print("leaving now", file=sys.stderr)
        os._exit(7)
    if path == "/kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if path == "/hang":
        hold.wait()
    if path == "/fifo":
        with open(seen.query) as fifo:  # blocks until the test writes
            fifo.read()
    if path == "/release":
        hold.set()
    if path == "/print":
        print("to stdout")
        print("to stderr", file=sys.stderr)
        os.write(1, b"from C\n")
    if path == "/close-0-to-2":
        os.closerange(0, 3)
    if path == "/stdin":
        return 200, [], repr(sys.stdin.read()).encode()
    return 200, [("Content-Type", "application/json")], json.dumps(seen.values, default=as_text).encode()


def as_text(value: bytes) -> str:
    return value.decode("latin-1")


class Odd(Exception):
    """It cannot be pickled."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")
        self.lock = threading.Lock()


def reset() -> None:
    global counter
    counter = 0


def failing_reset() -> None:
    raise ValueError("the hook failed")


@valid_wsgi
def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    if environ["PATH_INFO"].startswith("/stream/"):
        return WsgiPlay(environ, start_response).begin()
    names = ("CONTENT_TYPE", "CONTENT_LENGTH")
    headers = [(key, value) for key, value in environ.items() if key.startswith("HTTP_") or key in names]
    seen = Seen(
        method=environ["REQUEST_METHOD"],
        path=environ["PATH_INFO"],
        query=environ["QUERY_STRING"],
        target=environ["REQUEST_URI"],
        root_path=environ["SCRIPT_NAME"],
        scheme=environ["wsgi.url_scheme"],
        server=[environ["SERVER_NAME"], int(environ["SERVER_PORT"])],
        client=[environ["REMOTE_ADDR"], int(environ["REMOTE_PORT"])],
        headers=sorted((key.removeprefix("HTTP_").replace("_", "-").lower(), value) for key, value in headers),
        body=environ["wsgi.input"].read(-1),  # wsgiref.validate wants an argument
    )
    status, headers, body = answer(seen)
    start_response(f"{status} Whatever", headers)
    return [body]


@valid_asgi
async def asgi(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    if scope["path"].startswith("/stream/"):
        await play_asgi(scope, receive, send)
        return
    body, more = b"", True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return
        body += event["body"]
        more = event.get("more_body", False)
    seen = Seen(
        method=scope["method"],
        path=scope["path"].encode().decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        target=(scope["raw_path"] + b"?" * bool(scope["query_string"]) + scope["query_string"]).decode("latin-1"),
        root_path=scope["root_path"],
        scheme=scope["scheme"],
        server=list(scope["server"]),
        client=list(scope["client"]),
        headers=merge(scope["headers"]),
        body=body,
    )
    status, headers, body = await asyncio.to_thread(answer, seen)
    raw_headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw_headers})
    await send({"type": "http.response.body", "body": body})


def merge(headers: list[tuple[bytes, bytes]]) -> list[tuple[str, str]]:
    """Join repeated headers as WSGI has to."""
    merged: dict[str, str] = {}
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name == "transfer-encoding":
            continue
        joiner = "; " if name == "cookie" else ","
        merged[name] = merged[name] + joiner + value if name in merged else value
    return sorted(merged.items())


def outer(scope: Any) -> Any:
    """The ASGI app in the manner of version 2."""

    async def inner(receive: Any, send: Any) -> None:
        await asgi(scope, receive, send)

    return inner


# The steps of a script. Bytes are a step as well: a chunk of the answer.


@dataclass
class Start:
    """The status and the headers."""

    status: int = 200
    headers: list[tuple[str, str]] = field(default_factory=list)
    trailers: bool = False


@dataclass
class Read:
    """Read the request's body: some of it (ASGI), up to `size` bytes (WSGI), or b"" at its end."""

    size: int


@dataclass
class Wait:
    """Wait until somebody has said a word."""

    word: str


@dataclass
class Event:
    """An event that only ASGI has."""

    event: dict[str, Any]


class Work:
    """Do something that takes a moment."""


class Listen:
    """Do nothing until the client has gone."""


@dataclass
class End:
    """The response is complete, for ASGI by this event. What follows is the background task."""

    event: dict[str, Any] = field(default_factory=lambda: {"type": "http.response.body"})


LIMIT = 30.0  # seconds for what takes milliseconds; only a defect reaches it
MOMENT = 0.02  # seconds that work takes; nothing is right or wrong by them
EMPTY_SECONDS = 4.0  # for what is over long before, unless empty chunks count as an answer

Script = Generator[Any, bytes, None]


class Word:
    """What one request waits for and another says."""

    def __init__(self) -> None:
        self._in_threads = threading.Event()
        self._in_tasks = asyncio.Event()

    def say(self) -> None:
        self._in_threads.set()
        self._in_tasks.set()

    def wait_in_thread(self) -> None:
        if not self._in_threads.wait(LIMIT):
            raise TimeoutError("nobody has said it")

    async def wait_in_task(self) -> None:
        await asyncio.wait_for(self._in_tasks.wait(), LIMIT)


words: dict[str, Word] = {}
notes: dict[str, list[str]] = {}  # what has become of a script, by its token


def word(name: str) -> Word:
    return words.setdefault(name, Word())


class Call:
    """What a script knows of its request: the query's values as attributes, and how its body is announced."""

    def __init__(self, query: str, length: str | None, encoding: str | None) -> None:
        self.token = "nobody"
        self.__dict__.update(parse_qsl(query, keep_blank_values=True))
        self.length, self.encoding = length, encoding

    def note(self, text: str) -> None:
        notes.setdefault(self.token, []).append(text)

    def over(self) -> None:
        word(f"{self.token}/over").say()


def say(call: Any) -> Script:
    """Say a word to another script."""
    word(call.word).say()
    yield Start()


def noted(call: Any) -> Script:
    """Answer with the notes on another script, now or when a word was said."""
    if hasattr(call, "word"):
        yield Wait(call.word)
    yield Start()
    yield json.dumps(notes.get(call.of, [])).encode()


def length_header(call: Any) -> list[tuple[str, str]]:
    return [("Content-Length", call.length_is)] if hasattr(call, "length_is") else []


def numbers(call: Any) -> Script:
    """Answer "0", "1", "2", each when it is told to."""
    yield Start(headers=[("X-One", "a"), ("X-One", "b"), *length_header(call)])
    for number in range(3):
        yield Wait(f"{call.token}/{number}")
        yield b"%d" % number
    yield Wait(f"{call.token}/end")


def chunks(call: Any) -> Script:
    """Answer with these chunks."""
    yield Start(int(getattr(call, "status", "200")), length_header(call))
    for chunk in call.chunks.split(","):
        yield chunk.encode()


def held(call: Any) -> Script:
    """Answer something, and more when it is told to."""
    yield Start()
    yield b"held"
    yield Wait(f"{call.token}/go")
    yield b"told"


def endless(call: Any) -> Script:
    yield Start()
    while True:
        yield b"x" * int(call.size)


def quiet(call: Any) -> Script:
    """Answer something, and then nothing for as long as there is a client."""
    yield Start()
    yield b"quiet"
    yield Listen()


def empty(call: Any) -> Script:
    """Answer something, and then nothing at all, for a while."""
    yield Start()
    yield b"first"
    for _ in range(int(EMPTY_SECONDS / MOMENT)):
        yield Work()
        yield b""


def boom(call: Any) -> Script:
    """Raise: before the first byte, in the middle, when it is whole by its length, or when the response is complete."""
    yield Start(headers=[("Content-Length", "5")] if call.at == "whole" else [])
    if call.at == "headers":
        yield Wait(f"{call.token}/go")
    elif call.at in ("middle", "whole"):
        yield b"first"
    elif call.at == "end":
        yield b"first"
        yield b"last"
        yield End()
    raise LookupError("boom", 42)


def background(call: Any) -> Script:
    yield Start()
    yield b"body"
    yield End()
    if hasattr(call, "wait_for"):
        word(f"{call.token}/complete").say()
        yield Wait(call.wait_for)
    yield Work()
    call.note("the task has run")


def whole(call: Any) -> Script:
    """Answer at once, and go on when told."""
    yield Start(headers=[("Content-Length", call.length_is)] if hasattr(call, "length_is") else [])
    yield End({"type": "http.response.body", "body": b"body"})
    yield Wait(f"{call.token}/go")
    call.note("the task has run")


def echo(call: Any) -> Script:
    """Answer with the request's body, in pieces of a size, or as it comes if that is smaller."""
    size = int(call.size)
    yield Start(headers=[("X-Length", call.length or "none"), ("X-Encoding", call.encoding or "none")])
    while chunk := (yield Read(size)):
        for start in range(0, len(chunk), size):
            yield chunk[start : start + size]


def answer_first(call: Any) -> Script:
    """Answer a number of chunks, and then read the request's body, or only so many pieces; say how much that was."""
    size, total, crc = int(call.size), 0, 0
    yield Start()
    for _ in range(int(call.chunks)):
        yield b"x" * size
    for _ in range(int(getattr(call, "reads", sys.maxsize))):
        chunk = yield Read(size)
        if not chunk:
            break
        total, crc = total + len(chunk), zlib.crc32(chunk, crc)
    yield f"{total} {crc}".encode()


def trailers(call: Any) -> Script:
    yield Start(trailers=True)
    yield b"body"
    yield End()
    yield Event({"type": "http.response.trailers", "headers": [(b"x-one", b"1")], "more_trailers": True})
    yield Event({"type": "http.response.trailers", "headers": [(b"x-two", b"2")]})


class Named:
    """A template, say: it cannot be pickled, and has a name."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.lock = threading.Lock()


def debug(call: Any) -> Script:
    context = {"user": "ada", "items": [1, 2], "request": threading.Lock(), "form": Named("login"), 3: "no name"}
    yield Event({"type": "http.response.debug", "info": {"template": Named("index.html"), "context": context}})
    yield Start()
    yield b"first"
    yield b"last"
    yield Event({"type": "http.response.debug", "info": {"template": Named("other.html"), "context": {}}})


class Local:
    """It can be pickled, and be rebuilt only in the process where it was."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __reduce__(self) -> Any:
        return rebuild_local, (self.name, os.getpid())


def rebuild_local(name: str, pid: int) -> Local:
    if pid != os.getpid():
        raise ImportError("its module is not to be had here")
    return Local(name)


def debug_of_its_own(call: Any) -> Script:
    yield Event({"type": "http.response.debug", "info": {"template": Local("index.html")}})
    yield Start()
    yield b"body"


def file(call: Any) -> Script:
    yield Start()
    yield End({"type": "http.response.pathsend", "path": call.path})


SCRIPTS: dict[str, Callable[[Any], Script]] = {
    script.__name__: script
    for script in (
        *(say, noted, numbers, chunks, held, endless, quiet, empty, boom, background, whole, echo, answer_first),
        *(trailers, debug, debug_of_its_own, file),
    )
}


class WsgiPlay:
    """A script as the iterable of PEP 3333, or, with `how=write` in the query, by its `write()`."""

    def __init__(self, environ: dict[str, Any], start_response: Any) -> None:
        self._environ = environ
        self._start_response = start_response
        self._call: Any = Call(
            environ["QUERY_STRING"], environ.get("CONTENT_LENGTH"), environ.get("HTTP_TRANSFER_ENCODING")
        )
        self._script = SCRIPTS[environ["PATH_INFO"].removeprefix("/stream/")](self._call)
        self._got: bytes | None = None
        self._is_listening = self._is_complete = False

    def begin(self) -> Any:
        if getattr(self._call, "how", "") != "write":
            return self
        try:
            while (chunk := self._advance()) is not None:
                self._write(chunk)
        except OSError as error:
            self._call.note(type(error).__name__)
            raise
        except ValueError:  # BodyTooLarge
            if not hasattr(self._call, "swallow"):
                raise
        finally:
            self._call.over()
        return []

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        chunk = self._advance()
        if chunk is None:
            raise StopIteration
        return chunk

    def close(self) -> None:
        """What PEP 3333 calls when the response is complete, or the client has gone."""
        try:
            if self._is_complete:
                self._advance()
            elif inspect.getgeneratorstate(self._script) != inspect.GEN_CLOSED:
                self._call.note("closed")
                self._script.close()
        finally:
            self._call.over()

    def _advance(self) -> bytes | None:
        """Return the next chunk; `None` at the end of the response, and at that of the background task."""
        while not self._is_listening:
            try:
                step = self._script.send(self._got)
            except StopIteration:
                return None
            self._got = None
            if isinstance(step, bytes):
                return step
            if isinstance(step, End):
                self._is_complete = True
                return None
            self._got = self._perform(step)
        time.sleep(MOMENT / 10)
        return b""  # so that it is closed when the client has gone

    def _perform(self, step: Any) -> bytes | None:
        if isinstance(step, Start):
            self._write = self._start_response(f"{step.status} Whatever", step.headers)
        elif isinstance(step, Read):
            return self._read(step.size)
        elif isinstance(step, Wait):
            word(step.word).wait_in_thread()
        elif isinstance(step, Work):
            time.sleep(MOMENT)
        elif isinstance(step, Listen):
            self._is_listening = True
        return None

    def _read(self, size: int) -> bytes:
        try:
            data: bytes = self._environ["wsgi.input"].read(size)
        except OSError:
            self._call.note("disconnected")
            raise
        return data


async def play_asgi(scope: Any, receive: Any, send: Any) -> None:
    """Play a script as an ASGI app."""
    headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"]}
    call: Any = Call(scope["query_string"].decode(), headers.get("content-length"), headers.get("transfer-encoding"))
    script = SCRIPTS[scope["path"].removeprefix("/stream/")](call)
    more_body, is_complete, got = True, False, None
    try:
        while True:
            try:
                step = script.send(got)
            except StopIteration:
                break
            got = None
            if isinstance(step, Read) and not more_body:
                got = b""
            elif isinstance(step, (Read, Listen)):
                event = await receive()
                while isinstance(step, Listen) and event["type"] != "http.disconnect":
                    event = await receive()
                if event["type"] == "http.disconnect":
                    call.note("disconnected")
                    return
                got, more_body = event["body"], event.get("more_body", False)
            elif isinstance(step, Wait):
                await word(step.word).wait_in_task()
            elif isinstance(step, Work):
                await asyncio.sleep(MOMENT)
            else:
                is_complete |= isinstance(step, End)
                await send(event_of(step))
        if not is_complete:
            await send(event_of(End()))
    except (asyncio.CancelledError, OSError) as error:
        call.note(type(error).__name__)
        raise
    except ValueError:  # BodyTooLarge
        if not hasattr(call, "swallow"):
            raise
    finally:
        call.over()


def event_of(step: Any) -> dict[str, Any]:
    if isinstance(step, bytes):
        return {"type": "http.response.body", "body": step, "more_body": True}
    if isinstance(step, Start):
        headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in step.headers]
        return {"type": "http.response.start", "status": step.status, "headers": headers, "trailers": step.trailers}
    event: dict[str, Any] = step.event
    return event
