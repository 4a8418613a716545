"""`socketless request APP URL`, with the options of httpx's own command line and of the worker."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import IO, TYPE_CHECKING, Any

import click

from socketless._cli.habits import Command
from socketless._cli.options import SECONDS, app_argument, worker_options
from socketless._host.process import IpcProcess

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["command"]

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
# What needs no closer look: most URLs.
_PLAIN_URL = re.compile(r"(https?://[a-z][a-z0-9.-]*)?/(?!/)[a-zA-Z0-9._~!$&'()*+,;=:@%/?-]{0,1000}")
_WORKER_OPTIONS = ("app_kind", "start_method", "startup_timeout", "lifespan", "backend", "debug")
_BODY_OPTIONS = {"content": "-c/--content", "json": "-j/--json", "data": "-d/--data", "files": "-f/--files"}


def _check_url(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if _PLAIN_URL.fullmatch(value):
        return value
    import httpx  # which takes as long as the rest of the command line

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
    click.Option(["-j", "--json"], callback=_check_json, metavar="TEXT", help="Send TEXT as the body, as JSON."),
    click.Option(["-h", "--headers"], **_PAIR, callback=_check_headers, help="Add a header to the request."),
    click.Option(["--cookies"], **_FIELD, help="Add a cookie to the request."),
    click.Option(["--auth"], **_AUTH, help="Basic authentication; '-' as PASS prompts for it. --verbose shows it."),
    click.Option(["--timeout"], default=5.0, **SECONDS, help="How long the app may take to answer."),
    click.Option(["--follow-redirects"], is_flag=True, help="Follow redirects; all of them go to APP."),
    click.Option(["--download"], type=click.File("wb"), metavar="FILE", help="Save the body instead of printing it."),
    click.Option(["-v", "--verbose"], is_flag=True, help="Print the request line and the headers, too."),
    *worker_options(),
]


@click.command("request", cls=Command, params=_PARAMETERS, context_settings={"help_option_names": ["--help"]})
def command(app: str, url: str, **options: Any) -> None:
    """Send one request to APP and print the response.

    APP is 'package.module:app' or 'package.module:factory()'. URL is a path like '/users?page=2', or a whole URL. The
    output of APP goes to stderr. If stdout is not a terminal, it gets the body, unchanged and as it arrives, and
    nothing else unless -v is given.

    Exits with 0 if the response has a 2xx status, with 1 if it has another one or if there is no response, and with 2
    for wrong usage.
    """
    _check_body_options(options)
    out, is_success = sys.stdout, False
    try:
        # What the worker prints while the body comes in is no part of the body.
        with contextlib.redirect_stdout(sys.stderr), _start(app, options) as worker:
            is_success = _sending().send(worker, url, options, out)
    except BaseException as error:  # an app may raise SystemExit, too
        if not _sending().explain(error):
            raise
        is_success = False
    sys.exit(0 if is_success else 1)


def _start(app: str, options: dict[str, Any]) -> IpcProcess:
    if options["start_method"] == "spawn":  # a fork would have the locks of what is being imported
        Thread(target=_sending).start()  # while the worker imports the app
    return IpcProcess(app, max_connections=1, **{name: options[name] for name in _WORKER_OPTIONS})


def _sending() -> ModuleType:
    return import_module("socketless._cli.sending")


def _check_body_options(options: dict[str, Any]) -> None:
    given = [name for name in _BODY_OPTIONS if options[name] not in (None, (), [])]
    if len(given) > 1 and given != ["data", "files"]:
        first, second, *_ = (_BODY_OPTIONS[name] for name in given)
        raise click.UsageError(f"{first} and {second} cannot be used together: a request has one body.")
    options["method"] = options["method"] or ("POST" if given else "GET")
