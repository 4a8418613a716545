"""What the head of a request says (RFC 9112, section 3): which server it is for, and whether it opens a WebSocket."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable, Mapping

import h11

from socketless._http11 import upgrade
from socketless._wire.messages import DEFAULT_PORTS

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_URL = re.compile(rb"https?://([^/?]*)(.*)", re.IGNORECASE | re.DOTALL)
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[-A-Za-z0-9._~!$&'()*+,;=%]*)(?::([0-9]{0,5}))?")  # RFC 3986, section 3.2


class Refused(Exception):
    """What the client has written is not HTTP. An app may raise h11's own error, which is none of this connection."""

    def __init__(self, reason: str, status: int, headers: Iterable[tuple[str, str]] = ()) -> None:
        super().__init__(reason, status)
        self.reason, self.status, self.headers = reason, status, headers


def authority_and_target(target: bytes) -> tuple[bytes, bytes]:
    """Split a request target that may be a whole URL, whose host is then that of the request (RFC 9112, section 3.2.2).

    Returns:
        Host and port, `b""` if the target is no URL; path and query.
    """
    found = _URL.fullmatch(target)
    if found is None:
        return b"", target
    authority, rest = found.groups()
    return authority.rpartition(b"@")[2], rest if rest.startswith(b"/") else b"/" + rest


def server_of(host: str, scheme: str, default: tuple[str, int]) -> tuple[str, int]:
    """Return host and port of a `Host` header (RFC 9110, section 7.2); where it is empty, `default`."""
    if not host:
        return default
    match = _HOST.fullmatch(host)
    port = match and (match[2] or DEFAULT_PORTS[scheme])
    if match is None or int(port or 0) > 65535:
        raise Refused(f"no host and port: {host[:100]}", 400)
    return match[1].strip("[]") or default[0], int(port or 0)


def text_of(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Return headers as text."""
    return {name.decode("ascii"): value.decode("latin-1") for name, value in headers}


def connection_options(head: h11.Request | h11.Response) -> list[bytes]:
    """Return what the Connection header says (RFC 9110, section 7.6.1), in small letters."""
    value = b",".join(value for name, value in head.headers if name == b"connection")
    return [option.strip() for option in value.lower().split(b",")]


def opens_websocket(request: h11.Request, headers: Mapping[str, str]) -> bool:
    """Return whether a request is the opening handshake of a WebSocket (RFC 6455, section 4.2.1).

    Raises:
        Refused: it is one that cannot be answered.
    """
    may_upgrade = request.method == b"GET" and request.http_version != b"1.0"  # RFC 9110, section 7.8
    if not (may_upgrade and b"upgrade" in connection_options(request) and upgrade.is_asked_for(headers)):
        return False
    if headers.get("sec-websocket-version") != "13":
        raise Refused("there is version 13 of WebSockets", 426, [("sec-websocket-version", "13")])
    try:
        key = base64.b64decode(headers["sec-websocket-key"], validate=True)
    except ValueError:
        key = b""
    if len(key) != 16:
        raise Refused("Sec-WebSocket-Key is no 16 bytes in base64", 400)
    return True
