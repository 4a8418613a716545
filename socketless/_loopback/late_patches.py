"""Modules that are changed once somebody imports them: nobody has to pay for one that is not used."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from socketless._import_watch import Watch
from socketless._loopback.patches import Patches

# The module that is changed, and what of ours does it.
_MODULES = {
    "OpenSSL.SSL": ("pyopenssl", "patch"),
    "pytest_socket": ("keepers", "patch_pytest_socket"),
    "ssl": ("tls", "patch"),
    "subprocess": ("programs", "patch"),
    "trio._socket": ("keepers", "patch_trio"),
    "urllib3.util.connection": ("keepers", "patch_urllib3"),
    "uvloop": ("event_loops", "patch"),
    "multiprocessing.popen_forkserver": ("processes", "patch_fork_server"),
    "multiprocessing.reduction": ("processes", "patch_reduction"),
    "multiprocessing.connection": ("processes", "patch_connection"),
}


_unfinished: list[Callable[[], None]] = []  # for modules that were in the middle of being imported


class LatePatches:
    """What `install()` does to modules, whether they are there already or come later."""

    def __init__(self, patches: Patches) -> None:
        self._patches = patches
        self._watches = [self._watch(name) for name in _MODULES]

    def _watch(self, name: str) -> Watch | None:
        if name not in sys.modules:
            return Watch(name, lambda: self._patch(name))
        if getattr(sys.modules[name].__spec__, "_initializing", False):
            _unfinished.append(lambda: self._patch(name))  # it is who imports `socket`, and so has us installed
        else:
            self._patch(name)
        return None

    def _patch(self, name: str) -> None:
        ours, function = _MODULES[name]
        patch: Callable[[Any, Patches], None] = getattr(import_module(f"socketless._loopback.{ours}"), function)
        patch(sys.modules[name], self._patches)

    def close(self) -> None:
        """Watch no more."""
        _unfinished.clear()
        for watch in self._watches:
            if watch is not None:
                watch.close()


def finish() -> None:
    """Do what had to wait; to be called before the first socket is made."""
    while _unfinished:
        _unfinished.pop()()
