"""Transports for httpx and httpx2: `IpcTransport` for `Client`, `IpcAsyncTransport` for `AsyncClient`."""

from __future__ import annotations

from socketless._httpx.transport import IpcAsyncTransport, IpcTransport

__all__ = ["IpcAsyncTransport", "IpcTransport"]
