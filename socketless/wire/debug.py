"""What crosses of the ASGI extension "http.response.debug"."""

from __future__ import annotations

import sys
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from socketless.wire.pickling import dumps, loads


def crossing_info(value: Any) -> Any:
    """Return what of a template's name and context can cross: plain values, and what the standard library makes.

    The host is not to import the app's modules for it. Of anything else that has a name, such as the template, a
    stand-in crosses that has the same.
    """
    if isinstance(value, dict):
        crossing = {key: crossing_info(each) for key, each in value.items() if isinstance(key, str)}
        return {key: each for key, each in crossing.items() if each is not _CANNOT}
    if type(value) in (list, tuple, set, frozenset):
        items = [crossing_info(each) for each in value]
        return _CANNOT if any(item is _CANNOT for item in items) else type(value)(items)
    if type(value).__module__.partition(".")[0] in sys.stdlib_module_names:
        with suppress(Exception):
            loads(dumps(value))
            return value
    name = getattr(value, "name", None)
    return SimpleNamespace(name=name) if isinstance(name, str) else _CANNOT


_CANNOT = object()
