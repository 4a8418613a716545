"""The client library requests, for a worker and for UNIX sockets. Needs the extra `requests`.

    from socketless.requests import Session

    with IpcProcess("myapp:app") as worker, Session(worker=worker) as session:
        session.get("/")

For UNIX sockets, it has the names of the package requests-unixsocket: `Session`, `UnixAdapter`, `monkeypatch`, `get`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socketless._extras import require

if TYPE_CHECKING:
    from socketless._requests.adapter import IpcAdapter
    from socketless._requests.api import delete, get, head, monkeypatch, options, patch, post, put, request
    from socketless._requests.session import Session
    from socketless._requests.unix import DEFAULT_SCHEME, UnixAdapter

__all__ = [
    "DEFAULT_SCHEME",
    "IpcAdapter",
    "Session",
    "UnixAdapter",
    "delete",
    "get",
    "head",
    "monkeypatch",
    "options",
    "patch",
    "post",
    "put",
    "request",
]

_HOMES = {
    "DEFAULT_SCHEME": "unix",
    "IpcAdapter": "adapter",
    "Session": "session",
    "UnixAdapter": "unix",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    require("requests", "requests", by=__name__)
    value = globals()[name] = getattr(import_module(f"socketless._requests.{_HOMES.get(name, 'api')}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
