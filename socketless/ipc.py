"""The names that the package socketless-http has in its module `ipc`, at home elsewhere in this package."""

from __future__ import annotations

from socketless.host.process import IpcProcess
from socketless.httpx.transport import IpcAsyncTransport, IpcTransport

__all__ = ["IpcAsyncTransport", "IpcProcess", "IpcTransport"]
