"""The families of client libraries, httpx and httpx2: which one a request is of, and our errors as theirs.

Neither is imported here before a request of its comes.
"""

from __future__ import annotations

import sys
from typing import Any

from socketless._clients.error_mixins import mixed, name_of
from socketless.errors import (
    AppProtocolError,
    BodyTooLarge,
    ChannelClosed,
    IncompleteResponse,
    InvalidRequest,
    PoolTimeout,
    ReadTimeout,
    SocketlessError,
    TransferError,
    UnknownHost,
    WorkerDied,
    WorkerStartError,
    WriteTimeout,
)

# What each error is called in either of them, and in the one below it that moves its bytes. StateError stays as it
# is: httpx, too, raises RuntimeError then. And AppError does: what the app raises is not the library's.
_NAMES: dict[type[SocketlessError], str] = {
    WorkerStartError: "ConnectError",
    UnknownHost: "ConnectError",
    WorkerDied: "ReadError",
    ChannelClosed: "ReadError",
    TransferError: "LocalProtocolError",
    AppProtocolError: "RemoteProtocolError",
    InvalidRequest: "LocalProtocolError",
    BodyTooLarge: "ProtocolError",
    IncompleteResponse: "RemoteProtocolError",
    PoolTimeout: "PoolTimeout",
    WriteTimeout: "WriteTimeout",
    ReadTimeout: "ReadTimeout",
}


def family_of(request: Any) -> Any:
    """Return httpx or httpx2, whichever a request comes from."""
    request_type = type(request)
    family = _families.get(request_type)
    if family is None:
        names = [base.__module__.partition(".")[0] for base in request_type.__mro__]
        name = next((name for name in names if name in ("httpx", "httpx2")), None)
        if name is None:
            raise TypeError(f"{request_type.__qualname__} is not a request of httpx or httpx2")
        family = _families[request_type] = sys.modules[name]
    return family


_families: dict[type, Any] = {}


def client_error(error: SocketlessError, request: Any) -> SocketlessError:
    """Return the same error as one that is the client library's, too."""
    both = _as_theirs(error, family_of(request).__name__)
    if hasattr(both, "_request"):
        both._request = request
    return both


def network_error(request: Any, error: SocketlessError, name: str | None = None) -> SocketlessError:
    """Return the same error as one of httpcore or httpcore2, too: what is raised below the client library.

    `name` is what it is called there, if not the usual.
    """
    return _as_theirs(error, _CORES[family_of(request).__name__], name)


def core_error(core_name: str, error: SocketlessError) -> SocketlessError:
    """Return the same error as one of "httpcore" or "httpcore2", too."""
    return _as_theirs(error, core_name)


_CORES = {"httpx": "httpcore", "httpx2": "httpcore2"}


def _as_theirs(error: SocketlessError, library: str, name: str | None = None) -> SocketlessError:
    if name is None:
        name = name_of(error, _NAMES)
    return error if name is None else mixed(error, f"{library}.{name}")
