"""How the switch puts functions into the place of a library's own, and takes them away again.

Whoever has taken a reference meanwhile (a mock's "original", say) holds it longer than the switch is on. So each
function looks whether it still is. If not, it is what it replaced; of the lowest pieces, beneath which there is nothing
but the network, it is what the next switch has put there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from types import FunctionType
from typing import Any

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_lowest: dict[tuple[Any, str], Callable[..., Any]] = {}  # what a switch that is on has put there


def lowest(replacement: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a replacement as one of a library's lowest pieces."""
    replacement.is_lowest = True  # type: ignore[attr-defined]
    return replacement


def is_replaced(owner: Any, name: str) -> bool:
    """Return whether a switch is on, which has put something in the place of this lowest piece."""
    return (owner, name) in _lowest


def original_of(owner: Any, name: str) -> Any:
    """Return a method of a class or a function of a module as it is without any switch, of now or of before."""
    found = _found(owner, name)
    if found is None:
        return getattr(owner, name)
    if inspect.ismodule(owner) or type(found) is FunctionType or not hasattr(type(found), "__get__"):
        return found

    @wraps(found)
    def bound(self: Any, *args: Any, **options: Any) -> Any:
        # It wants to be bound before it is called (wrapt).
        return found.__get__(self, type(self))(*args, **options)

    return bound


def _found(owner: Any, name: str) -> Any:
    # None: it is inherited.
    found = vars(owner).get(name)
    while hasattr(found, "socketless_original"):
        found = found.socketless_original
    return found


class Patch:
    """An attribute of a class or a module, and the function that is there while a switch is on.

    A `classmethod`, a `staticmethod` or a module is put there as it is.
    """

    def __init__(self, owner: Any, replacement: Any) -> None:
        self._owner = owner
        self.name: str = replacement.__name__
        self._found = _found(owner, self.name)
        self._is_on = False
        is_function = inspect.isfunction(replacement)
        self._replacement = self._guarded(replacement) if is_function else replacement
        if getattr(replacement, "is_lowest", False):
            self._target: Callable[..., Any] | None = replacement
        else:
            self._target = None

    def _guarded(self, replacement: Callable[..., Any]) -> Any:
        key, original = (self._owner, self.name), original_of(self._owner, self.name)

        def function() -> Callable[..., Any]:
            return replacement if self._is_on else _lowest.get(key, original)

        if inspect.iscoroutinefunction(replacement):

            @wraps(original)
            async def guarded(*args: Any, **options: Any) -> Any:
                return await function()(*args, **options)

        else:

            @wraps(original)
            def guarded(*args: Any, **options: Any) -> Any:
                return function()(*args, **options)

        vars(guarded).update(vars(replacement), socketless_original=self._found)
        return guarded

    def apply(self) -> None:
        """Put the function there."""
        self._is_on = True
        if self._target is not None:
            _lowest[self._owner, self.name] = self._target
        setattr(self._owner, self.name, self._replacement)

    def undo(self) -> None:
        """Take it away again; what others have put above it, and not taken away themselves, stays."""
        self._is_on = False
        if self._target is not None and _lowest.get((self._owner, self.name)) is self._target:
            del _lowest[self._owner, self.name]
        if vars(self._owner).get(self.name) is not self._replacement:
            return
        if self._found is None:
            delattr(self._owner, self.name)
        else:
            setattr(self._owner, self.name, self._found)
