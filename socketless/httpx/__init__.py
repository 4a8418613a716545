"""Transports for httpx and httpx2, whose requests go to an app in a worker instead of the network."""

from __future__ import annotations

from socketless.httpx.transport import IpcAsyncTransport, IpcTransport

__all__ = ["IpcAsyncTransport", "IpcTransport"]
