"""What WSGI and ASGI have in common about bodies (RFC 9110)."""

from __future__ import annotations

from socketless.errors import BodyTooLarge
from socketless.wire.messages import RawHeaders


def content_length(headers: RawHeaders) -> int | None:
    """Return what the Content-Length header says, if it can be read (RFC 9110, section 8.6)."""
    for name, value in headers:
        if name.lower() == b"content-length":
            return int(value) if value.isdigit() else None
    return None


def check_size(size: int, limit: int | None, label: str) -> None:
    """Refuse a body of a response that is too large.

    Raises:
        BodyTooLarge: it is.
    """
    if limit is not None and size > limit:
        raise BodyTooLarge(f"{label}: the body of the response is larger than max_body_bytes={limit}")
