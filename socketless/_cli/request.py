"""`socketless request APP URL`, with the options of httpx's own command line and of the worker."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, TextIO

import click
import httpx

from socketless._cli.habits import Command
from socketless._cli.options import BASE_URL, SECONDS, app_argument, worker_options
from socketless._cli.output import drop_stdout, print_error, print_highlighted
from socketless._clients.response import traceback_in_worker
from socketless._host.process import IpcProcess
from socketless._httpx.transport import IpcTransport
from socketless.errors import SocketlessError

__all__ = ["command"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_STRUCTURED = re.compile(r"[/+](?:x-)?(json|xml|yaml)$")  # application/json, application/problem+json
_WORKER_OPTIONS = ("app_kind", "start_method", "startup_timeout", "lifespan", "backend", "debug")
_BODY_OPTIONS = {"content": "-c/--content", "json": "-j/--json", "data": "-d/--data", "files": "-f/--files"}


def _check_url(_context: click.Context, _option: click.Parameter, value: str) -> str:
    try:
        url = httpx.URL(value)
    except (httpx.InvalidURL, UnicodeError) as error:
        raise click.BadParameter(f"{error}.") from None
    is_host = re.match(r"(localhost|\d+(\.\d+){3}|[\w.-]*:\d+)(?=[/?]|$)", value)
    if is_host or ((url.scheme or url.host) and not (url.scheme in ("http", "https") and url.host)):
        hint = f" Write 'http://{'testserver' * value.startswith(':')}{value}'." if is_host else ""
        raise click.BadParameter(
            f"{value!r} is neither a path, like '/users?page=2', nor an http:// or https:// URL.{hint}"
        )
    return value


def _check_method(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is not None and (not _TOKEN.fullmatch(value) or value.isdigit()):  # a token, but rather a time limit
        raise click.BadParameter(f"{value!r} is not an HTTP method.")
    return value


def _check_pairs(
    _context: click.Context, _option: click.Parameter, value: tuple[tuple[str, str], ...]
) -> tuple[tuple[str, str], ...]:
    for name, text in value:
        if text.startswith("-") and re.search("[=:@{&]", name):  # the two were written as one
            raise click.BadParameter(f"{text!r} would be the value of {name!r}.")
    return value


def _check_headers(
    _context: click.Context, _option: click.Parameter, value: tuple[tuple[str, str], ...]
) -> list[tuple[bytes, bytes]]:
    for name, text in value:
        if not _TOKEN.fullmatch(name):
            raise click.BadParameter(f"{name!r} is not a header name.")
        if re.search(r"[\r\n\0]", text):
            raise click.BadParameter(f"the value of {name!r} has a line break or a NUL in it.")
    return [(name.encode("ascii"), os.fsencode(text).strip(b" \t")) for name, text in value]


def _check_json(_context: click.Context, _option: click.Parameter, value: str | None) -> bytes | None:
    if value is None:
        return None
    try:
        return json.dumps(json.loads(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, RecursionError) as error:
        reason = f": {error}" if isinstance(error, json.JSONDecodeError) else ""  # NaN, or half a surrogate pair
        raise click.BadParameter(f"not valid JSON{reason}.") from None


def _read_files(
    _context: click.Context, _option: click.Parameter, value: tuple[tuple[str, IO[bytes]], ...]
) -> list[tuple[str, tuple[str, bytes]]]:
    files = []
    for name, file in value:
        try:
            files.append((name, (Path(file.name).name, file.read())))
        except OSError as error:
            raise click.BadParameter(f"{file.name!r}: {error.strerror}.") from None
    return files


def _ask_password(
    context: click.Context, _option: click.Parameter, value: tuple[str, str] | None
) -> tuple[bytes, bytes] | None:
    if value is None or context.resilient_parsing:
        return None
    user, password = value
    if ":" in user:  # RFC 7617, section 2
        raise click.BadParameter(f"the user's name {user!r} has a colon in it.")
    if password == "-":
        password = click.prompt("Password", hide_input=True, default="", show_default=False, err=True)
    return os.fsencode(user), os.fsencode(password)


_PAIR: Any = {"type": (str, str), "multiple": True, "metavar": "NAME VALUE"}
_FIELD: Any = {**_PAIR, "callback": _check_pairs}
_METHOD: Any = {"callback": _check_method, "metavar": "METHOD"}
_FILES: Any = {**_PAIR, "type": (str, click.File("rb")), "callback": _read_files, "metavar": "NAME FILENAME"}
_AUTH: Any = {"type": (str, str), "callback": _ask_password, "metavar": "USER PASS"}

_PARAMETERS: list[click.Parameter] = [
    app_argument(),
    click.Argument(["url"], callback=_check_url),
    click.Option(["-m", "--method"], **_METHOD, help="Request method.  [default: GET, or POST with a body]"),
    click.Option(["-p", "--params"], **_FIELD, help="Add a query parameter to the URL."),
    click.Option(["-c", "--content"], metavar="TEXT", help="Send TEXT as the body."),
    click.Option(["-d", "--data"], **_FIELD, help="Send a form with this field."),
    click.Option(["-f", "--files"], **_FILES, help="Send a multipart form with this file; '-' is standard input."),
    click.Option(["-j", "--json"], callback=_check_json, metavar="TEXT", help="Send TEXT, which is JSON, as the body."),
    click.Option(["-h", "--headers"], **_PAIR, callback=_check_headers, help="Add a header to the request."),
    click.Option(["--cookies"], **_FIELD, help="Add a cookie to the request."),
    click.Option(["--auth"], **_AUTH, help="Basic authentication; '-' for PASS asks for it. --verbose shows it."),
    click.Option(["--timeout"], default=5.0, **SECONDS, help="How long the app may take to answer."),
    click.Option(["--follow-redirects"], is_flag=True, help="Follow redirects; all of them go to APP."),
    click.Option(["--download"], type=click.File("wb"), metavar="FILE", help="Save the body instead of printing it."),
    click.Option(["-v", "--verbose"], is_flag=True, help="Print the request line and the headers, too."),
    *worker_options(),
]


@click.command("request", cls=Command, params=_PARAMETERS, context_settings={"help_option_names": ["--help"]})
def command(app: str, url: str, **options: Any) -> None:
    """Send one request to APP and print the response.

    APP is 'package.module:app' or 'package.module:factory()', URL a path like '/users?page=2', or a whole URL. What
    APP prints goes to stderr. Where stdout is no terminal, it gets the body as it is and as it comes, and nothing else
    without -v.

    Exits with 0 if the response's status is 2xx, with 1 if it is not or there is none, with 2 for wrong usage.
    """
    _check_body_options(options)
    out, is_success = sys.stdout, False
    try:
        # What the worker prints while the body comes in is no part of the body.
        with contextlib.redirect_stdout(sys.stderr), _response_of(app, url, options) as response:
            is_success = response.is_success
            _print_response(response, out, verbose=options["verbose"], download=options["download"])
    except _OutputError as error:
        drop_stdout()
        with contextlib.suppress(OSError):  # which is what has just been raised
            if options["download"] is not None:
                options["download"].close()
        if not isinstance(error.reason, BrokenPipeError):  # or the reader has seen enough
            print_error(error.reason)
            is_success = False
    except BaseException as error:  # an app may raise SystemExit, too
        if not _explain(error):
            raise
        is_success = False
    sys.exit(0 if is_success else 1)


class _OutputError(Exception):
    """Nothing more can be written. The app has done nothing wrong."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason = reason


def _check_body_options(options: dict[str, Any]) -> None:
    given = [name for name in _BODY_OPTIONS if options[name] not in (None, (), [])]
    if len(given) > 1 and given != ["data", "files"]:
        first, second, *_ = (_BODY_OPTIONS[name] for name in given)
        raise click.UsageError(f"{first} and {second} cannot be used together: a request has one body.")
    options["method"] = options["method"] or ("POST" if given else "GET")


@contextlib.contextmanager
def _response_of(app: str, url: str, options: dict[str, Any]) -> Iterator[httpx.Response]:
    with (
        IpcProcess(app, **{name: options[name] for name in _WORKER_OPTIONS}) as worker,
        httpx.Client(
            transport=IpcTransport(worker, root_path=options["root_path"]),
            base_url=BASE_URL,
            cookies=dict(options["cookies"]),
            timeout=options["timeout"],
            follow_redirects=options["follow_redirects"],
        ) as client,
        contextlib.closing(
            client.send(_build_request(client, url, options), auth=options["auth"], stream=True)
        ) as response,
    ):
        yield response


def _build_request(client: httpx.Client, url: str, options: dict[str, Any]) -> httpx.Request:
    headers, content = list(options["headers"]), options["json"]
    if content is not None and b"content-type" not in (name.lower() for name, _ in headers):
        headers.append((b"Content-Type", b"application/json"))
    if options["content"] is not None:
        content = os.fsencode(options["content"])
    data: dict[str, list[str]] = {}
    for name, value in options["data"]:
        data.setdefault(name, []).append(value)
    try:
        return client.build_request(
            options["method"],
            httpx.URL(url).copy_merge_params(options["params"]) if options["params"] else url,
            headers=headers,
            content=content,
            data=data or None,
            files=options["files"] or None,
        )
    except UnicodeError as error:
        raise click.UsageError(f"an argument is not valid UTF-8: {error}.") from None


def _explain(error: BaseException) -> bool:
    """Print an error to stderr, if it is one of the app, of socketless or of httpx."""
    in_worker = traceback_in_worker(error)
    if in_worker is not None and not isinstance(error, SocketlessError):
        text = "".join(traceback.format_exception(type(error), error, in_worker))
        print_highlighted(text, "pytb", sys.stderr)
        return True
    is_expected = isinstance(error, (SocketlessError, httpx.HTTPError, httpx.InvalidURL))
    if is_expected:
        print_error(error)
    return is_expected


def _print_response(response: httpx.Response, out: TextIO, *, verbose: bool, download: IO[bytes] | None) -> None:
    heads = list(_heads(response, verbose))
    if out.isatty():
        _print_for_people(response, out, heads, download)
        return
    if verbose:
        _write(out.buffer, "".join(f"{head}\n\n" for head in heads).encode("latin-1"))
    _save(response, download or out.buffer)


def _save(response: httpx.Response, file: IO[bytes]) -> int:
    """Write the body as it comes, and return its size."""
    _write(file, b"")  # an empty body makes an empty file
    size = 0
    for chunk in response.iter_bytes():
        _write(file, chunk)
        size += len(chunk)
    return size


def _write(file: IO[bytes], data: bytes) -> None:
    # At once: whoever reads it may wait for it.
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        raise _OutputError(error) from error


def _print_for_people(response: httpx.Response, out: TextIO, heads: list[str], download: IO[bytes] | None) -> None:
    out.reconfigure(errors="backslashreplace")  # type: ignore[attr-defined]
    for number, head in enumerate(heads):
        print_highlighted(f"\n{head}" if number else head, "http", out)
    if download is not None:
        size = _save(response, download)
        click.echo(f"\n<{size} bytes saved as {download.name}>", out)
    elif _mime_type(response) == "text/event-stream":
        out.write("\n")
        for text in response.iter_text():  # it may never end
            out.write(text)
            out.flush()
    elif response.read():
        text, language = _readable(response)
        print_highlighted(f"\n{text}", language, out)


def _heads(response: httpx.Response, verbose: bool) -> Iterator[str]:
    """Yield the first line and the headers of each response, and of its request before it if `verbose`."""
    for each in (*response.history, response):
        if verbose:
            target = each.request.url.raw_path.decode("ascii")
            yield _head(f"{each.request.method} {target} HTTP/1.1", each.request.headers)
        yield _head(f"{each.http_version} {each.status_code} {each.reason_phrase}".rstrip(), each.headers)


def _head(first_line: str, headers: httpx.Headers) -> str:
    lines = (b"%b: %b" % header for header in headers.raw)
    return "\n".join([first_line, *(line.decode("latin-1") for line in lines)])


def _mime_type(response: httpx.Response) -> str:
    return str(response.headers.get("content-type", "")).partition(";")[0].strip().lower()


def _readable(response: httpx.Response) -> tuple[str, str]:
    """Return a body as text for people, and its language, by a name or a type that pygments knows."""
    mime_type = _mime_type(response)
    structured, text = _STRUCTURED.search(mime_type), response.text
    is_text = structured or mime_type.startswith("text/") or "\N{REPLACEMENT CHARACTER}" not in text
    if not is_text or "\0" in text:
        return f"<{len(response.content)} bytes of binary data>", "text"
    language = structured[1] if structured else mime_type
    if language == "json":
        with contextlib.suppress(ValueError, RecursionError):
            text = json.dumps(response.json(), indent=4, ensure_ascii=False)
    return text, language
