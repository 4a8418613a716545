"""Requests of a page: from the DevTools protocol's events to a worker, and back.

The protocol takes a response when all of it is there.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from socketless._clients.base import close_body
from socketless._clients.response import Body, reason_of, response_of
from socketless._host.failures import exception_of
from socketless._host.trace import logger
from socketless._host.worker import Worker
from socketless._playwright.messages import message_of
from socketless._wire.drivers import run_async
from socketless._wire.messages import Failed, RawHeaders, Request
from socketless.errors import IncompleteResponse, SocketlessError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

# What Chromium adds after it has shown a request. It decodes no response that it is given, which is done here.
_ADDED = {"connection": "keep-alive", "accept-encoding": "gzip, deflate", "accept-language": "en-US,en;q=0.9"}
_EVENT_STREAM = b"text/event-stream"


def request_of(shown: Mapping[str, Any], body: bytes, root_path: str, client: tuple[str, int]) -> Request:
    """Return the message for a request that the protocol shows."""
    headers = [(name.encode(), value.encode("latin-1", "replace")) for name, value in shown["headers"].items()]
    names = {name.lower() for name, _ in headers}
    headers += [(name.encode(), value.encode()) for name, value in _ADDED.items() if name.encode() not in names]
    if body or shown["method"] in ("POST", "PUT", "PATCH"):
        headers.append((b"content-length", b"%d" % len(body)))
    return message_of(shown["method"], shown["url"], headers, root_path, client, body)


class Broken(Exception):
    """A response breaks off: the page gets an error of the network."""


async def fetch(
    worker: Worker, message: Request, note: Callable[[BaseException], object], *, raise_app_exceptions: bool
) -> dict[str, Any]:
    """Let a worker answer, and return what the command `Fetch.fulfillRequest` takes.

    `note` gets what the app has raised, if that is to be raised, and what is wrong with the worker.

    Raises:
        Broken: there is no response, or only a part of it.
    """
    try:
        exchange = await run_async(worker.exchange(message))
        if raise_app_exceptions and isinstance(exchange.answer, Failed):
            note(exception_of(exchange.answer))
        response = response_of(exchange.answer, _as_it_is, raise_app_exceptions=False)
        content = response.body
        if response.more_body:
            if _is_event_stream(response.headers):
                logger.warning("%s: the page gets the events only when the response has ended", message.label)
            body = Body(exchange, message.method, response, _as_it_is, raise_app_exceptions=raise_app_exceptions)
            content = await _read(body)
        content = _decoded(response.headers, content, message.label)
    except Exception as error:  # what the app has raised in the middle, too
        if raise_app_exceptions or not isinstance(error, (IncompleteResponse, httpx.DecodingError)):
            note(error)
        raise Broken from error
    return _fulfilment(response.status, reason_of(response), response.headers, content)


async def _read(body: Body) -> bytes:
    chunks = []
    try:
        while (chunk := await run_async(body.next_chunk())) is not None:
            chunks.append(chunk)
    finally:
        close_body(body)
    return b"".join(chunks)


def _as_it_is(error: SocketlessError) -> SocketlessError:
    return error


def _is_event_stream(headers: RawHeaders) -> bool:
    return any(name.lower() == b"content-type" and value.startswith(_EVENT_STREAM) for name, value in headers)


def _decoded(headers: RawHeaders, content: bytes, label: str) -> bytes:
    if not content or not any(name.lower() == b"content-encoding" for name, _ in headers):
        return content
    try:
        return httpx.Response(200, headers=headers, content=content).content
    except httpx.DecodingError as error:
        raise httpx.DecodingError(f"{label}: the body is not what its Content-Encoding says: {error}") from error


def _fulfilment(status: int, reason: str, headers: RawHeaders, content: bytes) -> dict[str, Any]:
    raw_headers = b"\0".join(name + b": " + value for name, value in headers)
    return {
        "responseCode": status,
        "responsePhrase": reason or "Unknown",
        "binaryResponseHeaders": b64encode(raw_headers).decode(),
        "body": b64encode(content).decode(),
    }
