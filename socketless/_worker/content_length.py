"""What WSGI and ASGI have in common about bodies (RFC 9110)."""

from __future__ import annotations

from socketless._wire import heads
from socketless._wire.messages import RawHeaders
from socketless.errors import AppProtocolError, BodyTooLarge


def content_length(headers: RawHeaders) -> int | None:
    """Return what the head of a response says of its body's length.

    Raises:
        AppProtocolError: it says what no server would let pass.
    """
    try:
        return heads.content_length(headers)
    except heads.IllegalHead as error:
        raise AppProtocolError(f"the app's response is not HTTP/1.1: {error}") from None


def check_final(status: int) -> None:
    """Refuse a status of a response that is none of a final one (RFC 9110, section 15.2).

    Raises:
        AppProtocolError: it is one that another response follows.
    """
    if status < 200:
        raise AppProtocolError(f"the app's status is {status}; a response ends with a status from 200 on")


def check_length(size: int, length: int | None, *, is_complete: bool) -> None:
    """Refuse a body that is longer than the Content-Length says, or shorter, once it is complete.

    Raises:
        AppProtocolError: it is; no server would send it, or no client take it (RFC 9110, section 8.6).
    """
    if length is None:
        return
    if size > length:
        raise AppProtocolError(f"the app's body is longer than its Content-Length says: {length} bytes")
    if is_complete and size < length:
        raise AppProtocolError(f"the app's body is shorter than its Content-Length says: {size} of {length} bytes")


def check_size(size: int, limit: int | None, label: str) -> None:
    """Refuse a body of a response that is too large.

    Raises:
        BodyTooLarge: it is.
    """
    if limit is not None and size > limit:
        raise BodyTooLarge(f"{label}: the body of the response is larger than max_body_bytes={limit}")
