"""Apps for the command line: what it sends, and what it has to show."""

from __future__ import annotations

import sys
import threading
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

Environ = dict[str, Any]
StartResponse = Callable[..., object]
Body = Iterable[bytes]
TEXT = ("Content-Type", "text/plain; charset=utf-8")


def app(environ: Environ, start_response: StartResponse) -> Body:
    """Answer with the function that the path names."""
    page = _PAGES[environ["PATH_INFO"]]
    return page(environ, start_response)


def echo(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [TEXT])
    query = "?" * bool(environ["QUERY_STRING"]) + environ["QUERY_STRING"]
    yield f"{environ['REQUEST_METHOD']} {environ['SCRIPT_NAME']}|{environ['PATH_INFO']}{query}\n".encode("latin-1")
    for name in ("HTTP_HOST", "CONTENT_TYPE", "HTTP_COOKIE", "HTTP_AUTHORIZATION", "HTTP_X_TAG"):
        if environ.get(name):
            yield f"{name}: {environ[name]}\n".encode("latin-1")
    yield environ["wsgi.input"].read()


def show_json(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b'{"name":"J\xc3\xb6rg","ids":[1,2]}']


def show_problem(environ: Environ, start_response: StartResponse) -> Body:
    start_response("409 Conflict", [("Content-Type", "application/problem+json")])
    return [b'{"title":"taken"}']


def show_bad_json(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [b'{"name":\r\n']


def show_surrogate(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [("Content-Type", "application/json")])
    return [rb'"\ud800"']


def show_binary(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [("Content-Type", "image/png")])
    return [b"\x89PNG\r\n\x1a\n\0"]


def show_untyped(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [])
    return [b"\xff\xfe"] if environ["QUERY_STRING"] == "binary" else [b"plain [red]text[/red]"]


def show_long_line(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [TEXT])
    return [b"x" * 200]


def show_nothing(environ: Environ, start_response: StartResponse) -> Body:
    start_response("204 No Content", [("X-Name", "J\xf6rg")])
    return []


def show_bad_gzip(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [("Content-Encoding", "gzip")])
    return [b"no gzip"]


def not_found(environ: Environ, start_response: StartResponse) -> Body:
    start_response("404 Not Found", [TEXT])
    return [b"nothing here\n"]


def redirect(environ: Environ, start_response: StartResponse) -> Body:
    start_response("302 Found", [("Location", "/echo"), ("Set-Cookie", "seen=1")])
    return []


def redirect_for_ever(environ: Environ, start_response: StartResponse) -> Body:
    start_response("302 Found", [("Location", "/loop")])
    return []


def talk(environ: Environ, start_response: StartResponse) -> Body:
    print("on stdout")
    print("on stderr", file=sys.stderr)
    start_response("200 OK", [TEXT])
    return [b"the body"]


def has_click(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [TEXT])
    return [b"yes" if "click" in sys.modules else b"no"]


def boom(environ: Environ, start_response: StartResponse) -> Body:
    raise LookupError("no such user: 7")


def leave(environ: Environ, start_response: StartResponse) -> Body:
    raise SystemExit("the app leaves")


def break_rule(environ: Environ, start_response: StartResponse) -> Body:
    return []


def hang(environ: Environ, start_response: StartResponse) -> Body:
    threading.Event().wait()
    return []


def stream(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [("Content-Type", "text/event-stream")])
    yield b"data: one\n\n"
    with open(environ["QUERY_STRING"]) as fifo:  # blocks until the test writes
        fifo.read()
    yield b"data: two\n\n"


def for_ever(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [TEXT])
    while True:
        yield b"again\n"


def half(environ: Environ, start_response: StartResponse) -> Body:
    start_response("200 OK", [TEXT])
    yield b"the first half\n"
    raise LookupError("no second half")


_PAGES: dict[str, Callable[[Environ, StartResponse], Body]] = {
    "/echo": echo,
    "/json": show_json,
    "/problem": show_problem,
    "/bad-json": show_bad_json,
    "/surrogate": show_surrogate,
    "/binary": show_binary,
    "/untyped": show_untyped,
    "/long-line": show_long_line,
    "/nothing": show_nothing,
    "/bad-gzip": show_bad_gzip,
    "/not-found": not_found,
    "/redirect": redirect,
    "/loop": redirect_for_ever,
    "/talk": talk,
    "/has-click": has_click,
    "/boom": boom,
    "/leave": leave,
    "/break-rule": break_rule,
    "/hang": hang,
    "/stream": stream,
    "/for-ever": for_ever,
    "/half": half,
}


async def asgi_app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer with the path; print when the lifespan ends."""
    if scope["type"] == "lifespan":
        for done in ("startup", "shutdown"):
            await receive()
            print(f"lifespan: {done}")
            await send({"type": f"lifespan.{done}.complete"})
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": f"{scope['root_path']}|{scope['path']}".encode()})


def either(*args: Any) -> Any:
    """Be a WSGI app that does not look like one."""
    return app(*args)


def make_app() -> Callable[[Environ, StartResponse], Body]:
    return app


def fail() -> None:
    raise OSError("the database is away")


def never() -> None:
    threading.Event().wait()
