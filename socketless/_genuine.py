"""The standard library as it is, whatever a test has put in its place.

pyfakefs gives each module that it finds another `os` and `fcntl`, whose descriptors are numbers of its own; gevent and
eventlet put functions of theirs into `os`, `subprocess` and `threading`; freezegun stops the clocks; and tests replace
a function for themselves.
Nobody looks into what is here: the namespaces are no modules, the copies are in nobody's `sys.modules`.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import time
from functools import partial
from types import BuiltinFunctionType, ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

__all__ = ["clock_is_stopped", "copy_of", "fcntl", "is_green", "monotonic", "original", "os"]


def _contents_of(name: str) -> dict[str, Any]:
    module: Any = importlib.import_module(name)
    if not isinstance(module, ModuleType):  # pyfakefs's, which holds the one that it stands for
        values = vars(module).values()
        module = next(each for each in values if isinstance(each, ModuleType) and each.__name__ == name)
    contents: dict[str, Any] = vars(module)
    return contents


if TYPE_CHECKING:
    import fcntl as fcntl
    import os as os
else:
    _os = _contents_of("os")
    # Its calls of the system are those of `posix`, which everybody leaves alone.
    _calls = {name: value for name, value in _contents_of(_os["name"]).items() if callable(value)}
    os = SimpleNamespace(**_os | _calls)
    if sys.platform != "win32":
        fcntl = SimpleNamespace(**_contents_of("fcntl"))


# The seconds of a clock that goes on, whatever a test has made of `time.monotonic()`, which is made of it. Nobody stops
# this one; and as an attribute of the module, that function would be replaced, too. (A call of this takes no frame.)
monotonic = partial(time.clock_gettime, time.CLOCK_MONOTONIC)
_DRIFT = 1.0  # seconds; on macOS, where it is another clock, that may be more: then it counts as stopped, unharmed


def clock_is_stopped() -> bool:
    """Whether a test has put another clock behind `time.monotonic()`, by which event loops measure their time."""
    return not isinstance(time.monotonic, BuiltinFunctionType) or abs(time.monotonic() - monotonic()) > _DRIFT


def copy_of(name: str) -> Any:
    """Return a copy of a module of the standard library that is written in Python, with this `os`."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["os"] = os
    return module


def is_green() -> bool:
    """Whether the threads of this process are greenlets: gevent or eventlet has patched `threading`."""
    if "gevent.monkey" not in sys.modules and "eventlet.patcher" not in sys.modules:  # as every wait asks
        return False
    gevent, eventlet = _patchers()
    return bool(
        (gevent and gevent.is_module_patched("threading")) or (eventlet and eventlet.is_monkey_patched("thread"))
    )


def original(name: str, attribute: str) -> Any:
    """Return what an attribute of a module was before gevent or eventlet patched it."""
    gevent, eventlet = _patchers()
    if gevent and gevent.is_object_patched(name, attribute):
        return gevent.get_original(name, attribute)
    return getattr(eventlet.original(name) if eventlet else importlib.import_module(name), attribute)


def _patchers() -> tuple[Any, Any]:
    return sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
