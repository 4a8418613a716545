"""Our errors as those of requests: which of them requests raises over a connection in the like case."""

from __future__ import annotations

import errno
from typing import Any
from urllib.parse import urlsplit

from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    NewConnectionError,
    ProtocolError,
    ReadTimeoutError,
)

from socketless._clients.error_mixins import mixed, name_of
from socketless._wire.messages import DEFAULT_PORTS
from socketless.errors import (
    AppProtocolError,
    BodyTooLarge,
    ChannelClosed,
    IncompleteResponse,
    InvalidRequest,
    PoolTimeout,
    ReadTimeout,
    SocketlessError,
    UnknownHost,
    WorkerDied,
    WorkerStartError,
    WriteTimeout,
)

# Those that are not here stay as they are: requests, too, lets a TypeError through (TransferError), it has no name for
# what is used after its end (StateError), and what the app raises is not the library's (AppError).
NAMES: dict[type[SocketlessError], str] = {
    WorkerStartError: "requests.exceptions.ConnectionError",
    UnknownHost: "requests.exceptions.ConnectionError",
    WorkerDied: "requests.exceptions.ConnectionError",
    ChannelClosed: "requests.exceptions.ConnectionError",
    AppProtocolError: "requests.exceptions.ConnectionError",
    InvalidRequest: "requests.exceptions.InvalidHeader",
    BodyTooLarge: "requests.exceptions.ConnectionError",
    IncompleteResponse: "requests.exceptions.ChunkedEncodingError",
    PoolTimeout: "requests.exceptions.ConnectTimeout",
    WriteTimeout: "requests.exceptions.ConnectionError",
    ReadTimeout: "requests.exceptions.ReadTimeout",
}

# Once the headers are here, a connection that breaks off is another error, and one that stands still is no timeout.
NAMES_IN_BODY: dict[type[SocketlessError], str] = {
    ReadTimeout: "requests.exceptions.ConnectionError",
    WriteTimeout: "requests.exceptions.ConnectionError",
    SocketlessError: "requests.exceptions.ChunkedEncodingError",
}


def head_error(error: SocketlessError, request: Any) -> SocketlessError:
    """Return the same error as what requests raises while it waits for the headers."""
    return _as_theirs(error, request, name_of(error, NAMES))


def body_error(error: SocketlessError, request: Any) -> SocketlessError:
    """Return the same error as what requests raises while the body comes."""
    return _as_theirs(error, request, name_of(error, NAMES) and name_of(error, NAMES_IN_BODY))


def _as_theirs(error: SocketlessError, request: Any, name: str | None) -> SocketlessError:
    if name is None:
        return error
    both: Any = mixed(error, name)
    both.request, both.response = request, None
    both.args = (_wrapped(both, request),)
    return both  # type: ignore[no-any-return]


def _wrapped(error: SocketlessError, request: Any) -> Exception:
    """Return the error of urllib3 that such an error of requests has as its argument, for who takes that apart."""
    text, url = str(error), urlsplit(request.url)
    make_pool: Any = HTTPSConnectionPool if url.scheme == "https" else HTTPConnectionPool
    pool = make_pool(url.hostname or "testserver", url.port or DEFAULT_PORTS[url.scheme])
    if isinstance(error, ReadTimeout):
        return ReadTimeoutError(pool, request.path_url, text)
    if isinstance(error, PoolTimeout):
        return MaxRetryError(pool, request.path_url, ConnectTimeoutError(pool, text))
    if isinstance(error, (WorkerStartError, UnknownHost)):
        return MaxRetryError(pool, request.path_url, NewConnectionError(pool.ConnectionCls(pool.host, pool.port), text))
    if isinstance(error, WorkerDied):
        return ProtocolError("Connection aborted.", ConnectionResetError(errno.ECONNRESET, text))
    return ProtocolError(text)
