"""Modules that are changed once somebody imports them: nobody has to pay for one that is not used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from socketless.late import Watch
from socketless.loopback.patches import Patches

# The module that is changed, and which of ours does it.
_MODULES = {
    "ssl": "tls",
    "uvloop": "event_loops",
}


class LatePatches:
    """What `install()` does to modules, whether they are there already or come later."""

    def __init__(self, patches: Patches) -> None:
        self._patches = patches
        self._watches = [self._watch(name) for name in _MODULES]

    def _watch(self, name: str) -> Watch | None:
        if name in sys.modules:
            self._patch(name)
            return None
        return Watch(name, lambda: self._patch(name))

    def _patch(self, name: str) -> None:
        ours = import_module(f"socketless.loopback.{_MODULES[name]}")
        patch: Callable[[Any, Patches], None] = ours.patch
        patch(sys.modules[name], self._patches)

    def close(self) -> None:
        """Watch no more."""
        for watch in self._watches:
            if watch is not None:
                watch.close()
