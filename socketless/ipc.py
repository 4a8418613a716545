"""The names that the package socketless-http has in its module `ipc`, for code that imports them from there."""

from __future__ import annotations

from socketless._host.process import IpcProcess
from socketless._httpx.transport import IpcAsyncTransport, IpcTransport

__all__ = ["IpcAsyncTransport", "IpcProcess", "IpcTransport"]
