"""What WSGI and ASGI have in common about bodies (RFC 9110)."""

from __future__ import annotations

from socketless.errors import AppProtocolError, BodyTooLarge
from socketless.wire.messages import RawHeaders


def content_length(headers: RawHeaders) -> int | None:
    """Return what the Content-Length header says, if it can be read and counts (RFC 9112, section 6.3)."""
    length: int | None = None
    for name, value in headers:
        name = name.lower()
        if name == b"transfer-encoding":
            return None
        if name == b"content-length" and length is None and value.isdigit():
            length = int(value)
    return length


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
