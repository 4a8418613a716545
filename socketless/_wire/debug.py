"""What crosses of the ASGI extension "http.response.debug"."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

from socketless._wire.pickling import dumps, loads

_LISTS = (list, tuple, set, frozenset)
_SCALARS = (str, int, float, bool, bytes, type(None))
_DEPTH = 100  # of containers in containers; what is deeper is left out


def crossing_info(value: Any) -> Any:
    """Return what of a template's name and context can cross: plain values, and what the standard library makes.

    The host is not to import the app's modules for it. Of anything else that has a name, such as the template, a
    stand-in crosses that has the same. What cannot cross, holds itself, or raises as it is looked at, is left out.
    """
    return _Crossing().of(value)


_CANNOT = object()


class _Crossing:
    """What becomes of the values of one context. One that is there twice is looked at once."""

    def __init__(self) -> None:
        self._found: dict[int, Any] = {}
        self._kept: list[Any] = []  # or another value could get the number of one of these
        self._depth = 0

    def of(self, value: Any) -> Any:
        if type(value) in _SCALARS:
            return value
        if id(value) not in self._found:
            self._found[id(value)] = _CANNOT  # as long as it is being looked at: what it holds may hold it
            self._kept.append(value)
            self._depth += 1
            try:
                self._found[id(value)] = self._look_at(value) if self._depth <= _DEPTH else _CANNOT
            except BaseException:  # whatever it is, even a CancelledError, it is the value's own
                pass
            finally:
                self._depth -= 1
        return self._found[id(value)]

    def _look_at(self, value: Any) -> Any:
        if isinstance(value, dict):
            crossing = {str.__str__(key): self.of(each) for key, each in value.items() if isinstance(key, str)}
            return {key: each for key, each in crossing.items() if each is not _CANNOT}
        if type(value) in _LISTS:
            items = [self.of(each) for each in value]
            return _CANNOT if any(item is _CANNOT for item in items) else type(value)(items)
        if type(value).__module__.partition(".")[0] in sys.stdlib_module_names:
            if _is_picklable(value):
                return value
        name = getattr(value, "name", None)
        return SimpleNamespace(name=str.__str__(name)) if isinstance(name, str) else _CANNOT


def _is_picklable(value: Any) -> bool:
    try:
        loads(dumps(value))
    except BaseException:
        return False
    return True
