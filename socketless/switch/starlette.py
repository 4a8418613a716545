"""What the switch replaces of Starlette's `TestClient`, which is FastAPI's as well: its way to the app.

The app that such a client was given is not called: the worker's is. So `with` starts no lifespan here either, as that
of the worker runs already.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any
from weakref import WeakKeyDictionary

from socketless.host.worker import Worker
from socketless.testclient.requests import be_paced
from socketless.testclient.transport import TestTransport
from socketless.websocket import session_of

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


def replacements(worker: Worker, options: Mapping[str, Any]) -> Iterator[tuple[type, Callable[..., Any]]]:
    """Return classes, and functions to replace their methods of the same name; none where there is no Starlette."""
    if importlib.util.find_spec("starlette") is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would rather have httpx2, and says so to who imports it
        try:
            starlette: Any = importlib.import_module("starlette.testclient")
        except (ImportError, RuntimeError):  # it finds no client library
            return
    ours: WeakKeyDictionary[Any, TestTransport] = WeakKeyDictionary()

    def handle_request(self: Any, request: Any) -> Any:
        own = {
            "raise_app_exceptions": self.raise_server_exceptions,
            "root_path": self.root_path or options["root_path"],
            "client": tuple(getattr(self, "client", ("testclient", 50000))),  # an older one has none
        }
        if request.url.scheme in ("ws", "wss"):
            raise starlette._Upgrade(session_of(worker, request, root_path=own["root_path"], client=own["client"]))
        return (ours.get(self) or ours.setdefault(self, TestTransport(worker, **own))).handle_request(request)

    def close(self: Any) -> None:
        if self in ours:
            ours[self].close()

    yield starlette._TestClientTransport, handle_request
    yield starlette._TestClientTransport, close

    def send(self: Any, request: Any, *, stream: bool = False, **options: Any) -> Any:
        if stream:
            be_paced(request)
        return super(starlette.TestClient, self).send(request, stream=stream, **options)

    yield starlette.TestClient, send

    def __enter__(self: Any) -> Any:
        self.exit_stack = ExitStack()  # which Starlette's own __exit__ closes
        self.exit_stack.callback(lambda: self._transport.close())
        return self

    yield starlette.TestClient, __enter__
