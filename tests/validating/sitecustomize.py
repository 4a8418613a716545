"""Puts the apps of all workers of a process under `validators`, with this folder in PYTHONPATH: `tox -e validate`.

A worker process of its own has it as well, by the same variable. What breaks a rule is also written to the file that
SOCKETLESS_VALIDATED names, since a test may expect that its app raises.
"""

from __future__ import annotations

import copy
import importlib.abc
import importlib.util
import os
import sys
import threading
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

_TESTS = Path(__file__).parent.parent


def _note(text: str) -> None:
    with open(os.environ["SOCKETLESS_VALIDATED"], "a") as file:
        file.write(f"{text}\n")


_loading = threading.Lock()  # or another thread would have a part of it


def _load_validators() -> Any:
    with _loading:
        if "_validators" not in sys.modules:
            spec = importlib.util.spec_from_file_location("_validators", _TESTS / "validators.py")
            assert spec is not None
            assert spec.loader is not None
            module = sys.modules["_validators"] = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            module.on_break = _note  # type: ignore[attr-defined]
        return sys.modules["_validators"]


def _with_app(owner: Any) -> None:
    init = owner.__init__

    @wraps(init)
    def validated(self: Any, app: Any, *args: Any, **options: Any) -> None:
        init(self, _load_validators().valid_asgi(app), *args, **options)

    owner.__init__ = validated


def _of_http(module: Any) -> None:
    _with_app(module.HttpCall)


def _of_websockets(module: Any) -> None:
    _with_app(module.WebSocketCall)


def _of_lifespan(module: Any) -> None:
    _with_app(module.Lifespan)


def _of_wsgi(module: Any) -> None:
    respond = module.WsgiRunner._respond

    @wraps(respond)
    def validated(self: Any, *args: Any) -> Any:
        runner = copy.copy(self)  # its own app is shown to tests
        runner.app = _load_validators().valid_wsgi(self.app)
        return respond(runner, *args)

    module.WsgiRunner._respond = validated


_CHANGES = {
    "socketless._worker.asgi_http": _of_http,
    "socketless._worker.asgi_websocket": _of_websockets,
    "socketless._worker.lifespan": _of_lifespan,
    "socketless._worker.wsgi": _of_wsgi,
}


class _Finder(importlib.abc.MetaPathFinder):
    """Changes modules once they have been imported."""

    def __init__(self) -> None:
        self._is_looking = False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in _CHANGES or self._is_looking:
            return None
        self._is_looking = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._is_looking = False
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader, _CHANGES[name])
        return spec


class _Loader(importlib.abc.Loader):
    """Another loader, and a change of what it has loaded. That one may load other modules as well, as pytest's does."""

    def __init__(self, loader: Any, change: Callable[[Any], None]) -> None:
        self._loader = loader
        self._change = change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: Any) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: Any) -> None:
        self._loader.exec_module(module)
        self._change(module)


def come_first() -> None:
    """Let nobody else find the modules first: pytest does, of a plugin whose package lists its files."""
    sys.meta_path.remove(_FINDER)
    sys.meta_path.insert(0, _FINDER)


_FINDER = _Finder()
sys.meta_path.insert(0, _FINDER)
