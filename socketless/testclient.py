"""`TestClient`: a drop-in for Starlette's that runs the app in a worker, and takes WSGI apps as well.

    from socketless.testclient import AsyncTestClient, TestClient

    client = TestClient(app)              # a worker on threads of this process, which shares the app object
    client = TestClient("myapp:app")      # a worker process
    client = TestClient(worker)           # an IpcProcess or IpcThread of your own
    client = AsyncTestClient(app)         # the app on the test's own event loop

Like Starlette's, they are clients of httpx2 if that is installed, and otherwise of httpx. They do not need Starlette.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from socketless._testclient.client import TestClient
from socketless.websocket import AsyncWebSocketSession, WebSocketDenialResponse, WebSocketSession

if TYPE_CHECKING:
    from socketless._testclient.async_client import AsyncTestClient

__all__ = [
    "AsyncTestClient",
    "AsyncWebSocketTestSession",
    "TestClient",
    "WebSocketDenialResponse",
    "WebSocketTestSession",
]

WebSocketTestSession = WebSocketSession  # Starlette's name for it
AsyncWebSocketTestSession = AsyncWebSocketSession


def __getattr__(name: str) -> Any:
    # Loaded when it is used: it needs what runs an app, which is otherwise the worker's.
    if name != "AsyncTestClient":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = import_module("socketless._testclient.async_client").AsyncTestClient
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
