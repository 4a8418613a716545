"""What the switch replaces of aiohttp: the connections of `TCPConnector`, which sessions have unless given another.

aiohttp is not imported for that, which takes 120 to 160 ms: where it is not there yet, its import is waited for.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any
from weakref import WeakSet

from socketless.host.worker import Worker

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_MODULE = "aiohttp.connector"


@contextmanager
def switched(worker: Worker, options: Mapping[str, Any]) -> Iterator[None]:
    """Send the sessions of aiohttp to a worker. At the end, connections to it that idle in a pool are closed."""
    opened: WeakSet[Any] = WeakSet()
    undo: list[Callable[[], None]] = []

    async def _create_connection(self: Any, req: Any, traces: Any, timeout: Any) -> Any:
        from socketless.aiohttp import connected_to_worker  # which needs aiohttp

        protocol = connected_to_worker(worker, req, timeout, **options)
        opened.add(protocol)
        return protocol

    def replace(module: Any) -> None:
        owner = module.TCPConnector
        original = vars(owner)[_create_connection.__name__]
        undo.append(lambda: setattr(owner, _create_connection.__name__, original))
        setattr(owner, _create_connection.__name__, _create_connection)

    finder = _Finder(replace)
    sys.meta_path.insert(0, finder)
    if _MODULE in sys.modules:
        finder.replace_once(sys.modules[_MODULE])
    try:
        yield
    finally:
        finder.is_over = True
        sys.meta_path.remove(finder)
        for each in undo:
            each()
        for protocol in list(opened):
            protocol.force_close()
            with suppress(RuntimeError):  # its loop is closed
                protocol._loop.call_soon_threadsafe(protocol.close)


class _Finder(MetaPathFinder):
    """Waits for aiohttp to be imported."""

    def __init__(self, replace: Callable[[Any], None]) -> None:
        self._replace = replace
        self._has_replaced = False
        self.is_over = False

    def replace_once(self, module: Any) -> None:
        if not self._has_replaced and not self.is_over:
            self._has_replaced = True
            self._replace(module)

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != _MODULE:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            execute = loader.exec_module

            def exec_module(module: Any) -> None:
                execute(module)
                self.replace_once(module)

            loader.exec_module = exec_module
        return spec
