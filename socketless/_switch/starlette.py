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

from socketless._switch.hosts import Hosts, Refusal
from socketless._switch.replacing import original_of
from socketless._testclient.requests import be_paced
from socketless._testclient.transport import TestTransport
from socketless.websocket import session_of

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


def replacements(hosts: Hosts, options: Mapping[str, Any]) -> Iterator[tuple[type, Callable[..., Any]]]:
    """Return classes, and functions to replace their methods of the same name; none where there is no Starlette."""
    if importlib.util.find_spec("starlette") is None:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it would rather have httpx2, and says so to who imports it
        try:
            starlette: Any = importlib.import_module("starlette.testclient")
        except (ImportError, RuntimeError):  # it finds no client library
            return
    ours: WeakKeyDictionary[Any, dict[Any, TestTransport]] = WeakKeyDictionary()  # for each of theirs, by workers
    owner = starlette._TestClientTransport
    original, original_close, original_enter = (
        original_of(cls, name)
        for cls, name in ((owner, "handle_request"), (owner, "close"), (starlette.TestClient, "__enter__"))
    )

    def find(url: Any) -> Any:
        # A refusal is for what would go to the network; this has an app of its own.
        worker = hosts.find_url(url)
        return None if isinstance(worker, Refusal) else worker

    def handle_request(self: Any, request: Any) -> Any:
        worker = find(request.url)
        if worker is None:
            return original(self, request)
        own = {
            "raise_app_exceptions": self.raise_server_exceptions,
            "root_path": self.root_path or options["root_path"],
            "client": tuple(getattr(self, "client", ("testclient", 50000))),  # an older one has none
        }
        if request.url.scheme in ("ws", "wss"):
            raise starlette._Upgrade(session_of(worker, request, root_path=own["root_path"], client=own["client"]))
        transports = ours.setdefault(self, {})
        return (transports.get(worker) or transports.setdefault(worker, TestTransport(worker, **own))).handle_request(
            request
        )

    def close(self: Any) -> None:
        for transport in list(ours.get(self, {}).values()):
            transport.close()
        original_close(self)

    yield owner, handle_request
    yield owner, close

    def send(self: Any, request: Any, *, stream: bool = False, **options: Any) -> Any:
        if stream:
            be_paced(request)
        return super(starlette.TestClient, self).send(request, stream=stream, **options)

    yield starlette.TestClient, send

    def __enter__(self: Any) -> Any:
        if find(self.base_url) is None:
            return original_enter(self)
        self.exit_stack = ExitStack()  # which Starlette's own __exit__ closes
        self.exit_stack.callback(lambda: self._transport.close())
        return self

    yield starlette.TestClient, __enter__
