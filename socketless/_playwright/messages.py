"""What a page asks for, as the message for a worker."""

from __future__ import annotations

from urllib.parse import urlsplit

from socketless._wire.messages import RawHeaders, Request, port_of


def message_of(
    method: str, url: str, headers: RawHeaders, root_path: str, client: tuple[str, int], body: bytes = b""
) -> Request:
    """Return the message for a request. The headers follow the Host, from which a user and a password are cut off."""
    parts = urlsplit(url)
    return Request(
        method=method,
        scheme=parts.scheme,
        server=(parts.hostname or "", port_of(parts.port, parts.scheme)),
        raw_target=((parts.path or "/") + (f"?{parts.query}" if "?" in url else "")).encode(),
        headers=[(b"host", host_of(url).encode()), *headers],
        body=body,
        root_path=root_path,
        client=client,
    )


def host_of(url: str) -> str:
    """Return the host of a URL, with its port if it names one."""
    return urlsplit(url).netloc.rpartition("@")[2]
