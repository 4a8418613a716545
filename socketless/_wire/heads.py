"""What the heads of requests and of responses may hold (RFC 9110 and 9112), whichever client library carries them.

What is said of a request are the words of h11, which httpx writes its requests with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

from socketless._wire.messages import Request
from socketless.errors import InvalidRequest

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_is_token = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+").fullmatch  # RFC 9110, section 5.6.2
_is_target = re.compile(rb"[\x21-\x7e]+").fullmatch
_is_length = re.compile(rb"[0-9]{1,20}").fullmatch
# RFC 9110, section 5.5. There are cookies with control characters, so that h11 lets most of them pass in a request. In
# a response, uvicorn (httptools) and gunicorn let none of them.
_is_sent_value = re.compile(rb"(?:[^\0\s]+(?:[ \t]+[^\0\s]+)*)?").fullmatch
_is_value = re.compile(rb"[\t\x20-\x7e\x80-\xff]*").fullmatch


class IllegalHead(ValueError):
    """A head that HTTP/1.1 cannot carry; the text says what is wrong with it."""


def is_token(name: bytes) -> bool:
    """Return whether a header may have that name, or a request that method."""
    return _is_token(name) is not None


def is_value(value: bytes) -> bool:
    """Return whether a header of a response may have that value, or its status line that reason phrase."""
    return _is_value(value) is not None


def content_length(headers: Iterable[tuple[bytes, bytes]]) -> int | None:
    """Return what Content-Length says of the body; `None` if nothing does, or another header (RFC 9112, section 6.3).

    Raises:
        IllegalHead: it is no number, or two; or the body has a transfer coding that nobody speaks.
    """
    values: list[bytes] = []
    codings: list[bytes] = []
    for name, value in headers:
        if len(name) == 14 and name.lower() == b"content-length":
            values.append(value)
        elif len(name) == 17 and name.lower() == b"transfer-encoding":
            codings.append(value)
    if len(values) == 1 and not codings and _is_length(values[0]):
        return int(values[0])
    lengths = {length.strip() for value in values for length in value.split(b",")}
    _check_framing(lengths, codings)
    return int(lengths.pop()) if lengths and not codings else None


def _check_framing(lengths: set[bytes], codings: list[bytes]) -> None:
    if len(lengths) > 1:
        raise IllegalHead("conflicting Content-Length headers")
    if not all(map(_is_length, lengths)):
        raise IllegalHead("bad Content-Length")
    if len(codings) > 1:
        raise IllegalHead("multiple Transfer-Encoding headers")
    if codings and codings[0].lower() != b"chunked":
        raise IllegalHead("Only Transfer-Encoding: chunked is supported")


def check_request(request: Request) -> int | None:
    """Refuse a request whose head no client would write, or no server read. Nothing of it must have been sent.

    A lenient one may have white space around a value, and another Content-Length than its body has.

    Returns:
        How many bytes the body has by its head; `None`: as many as come.

    Raises:
        InvalidRequest: it is one.
    """
    try:
        if _is_token(request.method.encode("latin-1", "replace")) is None:
            raise IllegalHead("Illegal method characters")
        if _is_target(request.raw_target) is None:
            raise IllegalHead("Illegal target characters")
        length = _check_fields(tuple(request.headers), is_lenient=request.is_lenient)
        if length is not None and not request.more_body:
            check_length(len(request.body), length, is_complete=True)
    except IllegalHead as error:
        raise InvalidRequest(f"{request.label}: {error}") from None
    return length


@lru_cache(maxsize=64)  # a client's headers are mostly the same from one request to the next
def _check_fields(headers: tuple[tuple[bytes, bytes], ...], *, is_lenient: bool) -> int | None:
    has_host = False
    for name, value in headers:
        if _is_token(name) is None:
            raise IllegalHead(f"Illegal header name {name!r}")
        if _is_sent_value(value.strip(b" \t") if is_lenient else value) is None:
            raise IllegalHead(f"Illegal header value {value!r}")
        if len(name) == 4 and name.lower() == b"host":
            if has_host:
                raise IllegalHead("Found multiple Host: headers")
            has_host = True
    return None if is_lenient else content_length(headers)


def check_length(size: int, length: int | None, *, is_complete: bool) -> None:
    """Refuse a request's body of another size than Content-Length says; `size` is of what is there by now.

    Raises:
        IllegalHead: it has another.
    """
    if length is not None and size > length:
        raise IllegalHead("Too much data for declared Content-Length")
    if length is not None and size < length and is_complete:
        raise IllegalHead("Too little data for declared Content-Length")
