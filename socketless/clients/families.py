"""The families of client libraries, httpx and httpx2: which one a request is of, and our errors as theirs.

Neither is imported here before a request of its comes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from socketless import errors
from socketless.errors import (
    AppProtocolError,
    BodyTooLarge,
    IncompleteResponse,
    PoolTimeout,
    ReadTimeout,
    SocketlessError,
    TransferError,
    WorkerDied,
    WorkerStartError,
    WriteTimeout,
)

# What each error is called in the client library, and in the one below it that moves its bytes. StateError stays as it
# is: httpx, too, raises RuntimeError then. And AppError does: what the app raises is not the library's.
_THEIR_NAMES: dict[type[SocketlessError], str] = {
    WorkerStartError: "ConnectError",
    WorkerDied: "ReadError",
    TransferError: "LocalProtocolError",
    AppProtocolError: "RemoteProtocolError",
    BodyTooLarge: "ProtocolError",
    IncompleteResponse: "RemoteProtocolError",
    PoolTimeout: "PoolTimeout",
    WriteTimeout: "WriteTimeout",
    ReadTimeout: "ReadTimeout",
}


_OURS = {getattr(errors, name) for name in errors.__all__}


def family_of(request: Any) -> Any:
    """Return httpx or httpx2, whichever a request comes from."""
    request_type = type(request)
    family = _families.get(request_type)
    if family is None:
        names = [base.__module__.partition(".")[0] for base in request_type.__mro__]
        name = next((name for name in names if name in ("httpx", "httpx2")), None)
        if name is None:
            raise TypeError(f"{request_type.__qualname__} is no request of httpx or httpx2")
        family = _families[request_type] = sys.modules[name]
    return family


_families: dict[type, Any] = {}


def client_error(error: SocketlessError, request: Any) -> SocketlessError:
    """Return the same error as one that is the client library's, too."""
    both = _as_theirs(error, family_of(request).__name__)
    if both is not error:
        both._request = request  # type: ignore[attr-defined]
    return both


def network_error(request: Any, error: SocketlessError, name: str | None = None) -> SocketlessError:
    """Return the same error as one of httpcore or httpcore2, too: what is raised below the client library.

    `name` is what it is called there, if not the usual.
    """
    return _as_theirs(error, _CORES[family_of(request).__name__], name)


_CORES = {"httpx": "httpcore", "httpx2": "httpcore2"}


def _as_theirs(error: SocketlessError, library: str, name: str | None = None) -> SocketlessError:
    if name is None:
        name = name_of(error, _THEIR_NAMES)
    return error if name is None else mixed(error, library, name)


def name_of(error: SocketlessError, names: Mapping[type[SocketlessError], str]) -> str | None:
    """Return what a client library calls an error, from a table of its names; `None`: it has none for it."""
    return next((name for base, name in names.items() if isinstance(error, base)), None)


def mixed(error: SocketlessError, library: str, name: str) -> SocketlessError:
    """Return the same error as one that is `library.name`, too: a module's exception class. It can be pickled."""
    ours = next(cls for cls in type(error).__mro__ if cls in _OURS)  # an app may use a transport of ours itself
    both = _rebuild(ours, library, name, error.args)
    both.__cause__ = error.__cause__
    return both


def _rebuild(ours: type[SocketlessError], library: str, name: str, args: tuple[Any, ...]) -> SocketlessError:
    key = ours, library, name
    if key not in _both:
        _both[key] = _make_both(ours, getattr(import_module(library), name), key)
    return _both[key](*args)


_both: dict[tuple[type, str, str], type[SocketlessError]] = {}


def _make_both(ours: type[SocketlessError], theirs: type[Exception], key: tuple[Any, ...]) -> type[SocketlessError]:
    """Return a class that is one of our errors and one of the client library's."""

    def __init__(self: Any, *args: Any) -> None:
        ours.__init__(self, *args)
        self.args = args  # an OSError has made something else of them
        self._request = None

    def __reduce__(self: Any) -> Any:
        # What it was about does not cross; who asks finds that there is nothing.
        about = dict.fromkeys(name for name in ("request", "response") if name in vars(self))
        return _rebuild, (*key, self.args), about

    members = {"__init__": __init__, "__reduce__": __reduce__, "__module__": ours.__module__, "__doc__": ours.__doc__}
    return type(ours.__name__, (ours, theirs), members)
