"""HTTP tests without sockets: the app runs in a worker, and requests reach it over pipes.

The public names are loaded when they are first used, so that a worker does not pay for a client library.

PYTEST_DONT_REWRITE, since pytest warns of a plugin's package that was imported before pytest was.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from socketless._host.process import IpcProcess
    from socketless._host.processes import IpcProcesses
    from socketless._host.thread import IpcThread
    from socketless._httpx.transport import IpcAsyncTransport, IpcTransport
    from socketless.switch import reset_ipc_state, switch_to_ipc_connection

__version__ = "0.1.0"

__all__ = [
    "IpcAsyncTransport",
    "IpcProcess",
    "IpcProcesses",
    "IpcThread",
    "IpcTransport",
    "__version__",
    "reset_ipc_state",
    "switch_to_ipc_connection",
]

_HOMES = {
    "IpcAsyncTransport": "socketless._httpx.transport",
    "IpcProcess": "socketless._host.process",
    "IpcProcesses": "socketless._host.processes",
    "IpcThread": "socketless._host.thread",
    "IpcTransport": "socketless._httpx.transport",
    "reset_ipc_state": "socketless.switch",
    "switch_to_ipc_connection": "socketless.switch",
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in ("errors", "eventloop", "loopback"):
        return import_module(f"socketless.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
