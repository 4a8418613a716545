"""One app that is written down once, served as WSGI (`wsgi`) and as ASGI (`asgi`), without a framework between.

It answers what `tests/conformance.py` asks. Everything about a request comes back as JSON, with bytes as latin-1.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from typing import Any

hold = threading.Event()  # /hang waits for it, /release sets it
counter = 0


class Seen:
    """What the app sees of a request."""

    def __init__(self, **values: Any) -> None:
        self.__dict__.update(values)
        self.values = values


def answer(seen: Any) -> tuple[int, list[tuple[str, str]], bytes]:
    """Return status, headers and body."""
    path = seen.path
    if path == "/echo":
        return 200, [("Content-Type", "application/octet-stream")], seen.body
    if path == "/headers":
        return 200, [("X-One", "a"), ("X-Two", "b"), ("X-One", "c"), ("Content-Length", "2")], b"ok"
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
    return special(seen)


def special(seen: Any) -> tuple[int, list[tuple[str, str]], bytes]:
    """The paths that do something to the worker."""
    global counter
    if seen.path == "/count":
        counter += 1
        return 200, [], str(counter).encode()
    if seen.path == "/exit":
        print("leaving now", file=sys.stderr)
        os._exit(7)
    if seen.path == "/kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if seen.path == "/hang":
        hold.wait()
    if seen.path == "/fifo":
        with open(seen.query) as fifo:  # blocks until the test writes
            fifo.read()
    if seen.path == "/release":
        hold.set()
    if seen.path == "/print":
        print("to stdout")
        print("to stderr", file=sys.stderr)
        os.write(1, b"from C\n")
    if seen.path == "/close-0-to-2":
        os.closerange(0, 3)
    if seen.path == "/stdin":
        return 200, [], repr(sys.stdin.read()).encode()
    return 200, [("Content-Type", "application/json")], json.dumps(seen.values, default=as_text).encode()


def as_text(value: bytes) -> str:
    return value.decode("latin-1")


class Odd(Exception):
    """It pickles, and cannot be rebuilt: `args` is not what `__init__` wants."""

    def __init__(self, one: str, two: str) -> None:
        super().__init__(f"{one} and {two}")


def reset() -> None:
    global counter
    counter = 0


def failing_reset() -> None:
    raise ValueError("the hook failed")


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
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
        body=environ["wsgi.input"].read(),
    )
    status, headers, body = answer(seen)
    start_response(f"{status} Whatever", headers)
    return [body]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    body, more = b"", True
    while more:
        event = await receive()
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
    import asyncio

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
