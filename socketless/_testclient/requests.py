"""What the requests of both test clients have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urljoin

from socketless._testclient.library import httpx

__all__ = ["SESSION", "STREAMED", "be_paced", "not_connected", "websocket_request", "with_user_agent"]

STREAMED = "socketless.streamed"  # extension of a request: who has sent it reads the response bit by bit, or not at all
SESSION = "socketless.session"  # extension of a request: a session is wanted, not the bytes of a WebSocket


def with_user_agent(headers: Mapping[str, str] | None) -> Any:
    """Return the headers that a client sends with every request."""
    all_headers = httpx.Headers(headers)
    all_headers.setdefault("user-agent", "testclient")
    return all_headers


def be_paced(request: Any) -> None:
    """Let the app go no further than the response is read."""
    request.extensions = {**request.extensions, STREAMED: True}


def websocket_request(url: str, subprotocols: Sequence[str] | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return the arguments of the request that asks for a session."""
    headers = httpx.Headers(options.pop("headers", None))
    headers.setdefault("connection", "upgrade")
    headers.setdefault("sec-websocket-key", "testserver==")
    headers.setdefault("sec-websocket-version", "13")
    if subprotocols is not None:
        headers.setdefault("sec-websocket-protocol", ", ".join(subprotocols))
    extensions = {**(options.pop("extensions", None) or {}), SESSION: True}
    return {"url": urljoin("ws://testserver", url), "headers": headers, "extensions": extensions, **options}


def not_connected(url: str) -> RuntimeError:
    """Return the error of such a request that got a response instead."""
    return RuntimeError(f"Expected WebSocket upgrade: a WebSocket's URL begins with ws://, wss:// or /, not {url!r}")
