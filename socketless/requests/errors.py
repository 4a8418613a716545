"""Our errors as those of requests: which of them requests raises over a connection in the like case."""

from __future__ import annotations

from typing import Any

from socketless.clients.theirs import mixed, name_of
from socketless.errors import (
    AppProtocolError,
    BodyTooLarge,
    ChannelClosed,
    IncompleteResponse,
    PoolTimeout,
    ReadTimeout,
    SocketlessError,
    WorkerDied,
    WorkerStartError,
    WriteTimeout,
)

# Those that are not here stay as they are: requests, too, lets a TypeError through (TransferError), it has no name for
# what is used after its end (StateError), and what the app raises is not the library's (AppError).
NAMES: dict[type[SocketlessError], str] = {
    WorkerStartError: "requests.exceptions.ConnectionError",
    WorkerDied: "requests.exceptions.ConnectionError",
    ChannelClosed: "requests.exceptions.ConnectionError",
    AppProtocolError: "requests.exceptions.ConnectionError",
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
    return both  # type: ignore[no-any-return]
