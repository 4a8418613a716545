"""Something to be done when a module is imported, so that nobody has to import it for that."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.machinery import BuiltinImporter, FrozenImporter, ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_PYTHONS_OWN = (BuiltinImporter, FrozenImporter, PathFinder)


class Watch:  # a MetaPathFinder, whose module takes many others to import
    """Calls a function after each import of a module, from construction to `close()`.

    The function runs in the thread that imports, which holds that module's import lock.
    """

    def __init__(self, name: str, function: Callable[[], object]) -> None:
        self._name = name
        self._function = function
        # Just before Python's own finders: who has put one at the head, as pyfakefs does, may take the head away again.
        own = (index for index, each in enumerate(sys.meta_path) if each in _PYTHONS_OWN)
        sys.meta_path.insert(next(own, 0), self)

    def close(self) -> None:
        """Stop watching. May be called twice."""
        with suppress(ValueError):
            sys.meta_path.remove(self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Find nothing itself; of the module, return what the next finder finds."""
        finders: list[Any] = [*sys.meta_path]
        if fullname != self._name or self not in finders:
            return None
        for finder in finders[finders.index(self) + 1 :]:  # another watch of this module may be among them
            find: Any = getattr(finder, "find_spec", None)  # an older finder has none
            spec: ModuleSpec | None = None if find is None else find(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    self._watch(spec.loader)
                return spec
        return None

    def _watch(self, loader: Any) -> None:
        # The loader stays the one it is, for who looks at it; only this once it does one thing more.
        original = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            if module.__name__ == self._name:  # a loader may be that of several modules
                vars(loader).pop("exec_module", None)
            original(module)
            if module.__name__ == self._name:
                self._function()

        loader.exec_module = exec_module
