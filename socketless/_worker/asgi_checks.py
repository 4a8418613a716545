"""Whether what an app has put into an event is what the ASGI specification wants."""

from __future__ import annotations

from typing import Any

from socketless._wire import heads
from socketless._wire.messages import RawHeaders
from socketless.errors import AppProtocolError


def check_status(status: Any, kind: str) -> int:
    """Return the status of an event of that kind.

    Raises:
        AppProtocolError: it is not one.
    """
    if not isinstance(status, int) or not 100 <= status <= 999:
        raise AppProtocolError(f"the ASGI app's status is {status!r}; {kind} wants an integer like 200")
    return int(status)


def check_body(body: Any, kind: str) -> bytes:
    """Return the body of an event of that kind.

    Raises:
        AppProtocolError: it is not made of bytes.
    """
    if not isinstance(body, (bytes, bytearray, memoryview)):
        raise AppProtocolError(f"the ASGI app's body is {type(body).__name__}; {kind} wants bytes")
    return bytes(body)


def check_headers(headers: Any, kind: str) -> RawHeaders:
    """Return the headers of an event of that kind.

    Raises:
        AppProtocolError: they are no (name, value) pairs of bytes, or a name is no token, or a value holds control
            characters.
    """
    if not hasattr(headers, "__iter__"):
        raise AppProtocolError(
            f"the ASGI app's headers are {type(headers).__name__}; {kind} wants an iterable of pairs"
        )
    checked = []
    for header in headers:
        try:
            name, value = _raw(header[0]), _raw(header[1])
            if len(header) != 2 or not heads.is_token(name) or not heads.is_value(value):
                raise ValueError("illegal characters")
        except (TypeError, ValueError, IndexError, KeyError):
            raise AppProtocolError(
                f"the ASGI app's header {header!r} is bad; {kind} wants (name, value), two byte strings: a token, and "
                "a value without control characters (RFC 9110, section 5)"
            ) from None
        checked.append((name, value.strip(b" \t")))  # RFC 9110, section 5.5
    return checked


def _raw(part: Any) -> bytes:
    # Some apps have text there. It should be bytes, and uvicorn (with h11) and httpx's ASGITransport take it.
    if type(part) is bytes:
        return part
    return part.encode("ascii") if isinstance(part, str) else bytes(memoryview(part))
