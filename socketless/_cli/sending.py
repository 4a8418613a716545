"""What `socketless request` does once its arguments are known: sends the request, and prints the response."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sys
import traceback
from collections.abc import Iterator
from typing import IO, Any, TextIO

import click
import httpx

from socketless._cli.options import BASE_URL
from socketless._cli.output import drop_stdout, print_error, print_highlighted
from socketless._clients.response import traceback_in_worker
from socketless._host.process import IpcProcess
from socketless._httpx.transport import IpcTransport
from socketless.errors import SocketlessError

__all__ = ["explain", "send"]

_STRUCTURED = re.compile(r"[/+](?:x-)?(json|xml|yaml)$")  # application/json, application/problem+json


def send(worker: IpcProcess, url: str, options: dict[str, Any], out: TextIO) -> bool:
    """Send the request, print the response to `out`, and return whether all went well. `options` are the command's."""
    is_success = False
    try:
        with _response_of(worker, url, options) as response:
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
    return is_success


class _OutputError(Exception):
    """Nothing more can be written. The app has done nothing wrong."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason = reason


@contextlib.contextmanager
def _response_of(worker: IpcProcess, url: str, options: dict[str, Any]) -> Iterator[httpx.Response]:
    with (
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


def explain(error: BaseException) -> bool:
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
