"""What is put in the place of something of somebody else's, and put back."""

from __future__ import annotations

from typing import Any

_MISSING: Any = object()


class Patches:
    """A pile of attributes that were replaced. Not thread-safe: whoever installs holds a lock."""

    def __init__(self) -> None:
        self._originals: list[tuple[Any, str, Any]] = []
        self._items: list[tuple[dict[Any, Any], Any, Any]] = []

    def __bool__(self) -> bool:
        return bool(self._originals)

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Replace an attribute."""
        self._originals.append((owner, name, vars(owner).get(name, _MISSING)))
        setattr(owner, name, value)

    def set_special(self, owner: Any, name: str, value: Any) -> None:
        """Replace an attribute that is not in the owner's `__dict__`, such as `__bases__`."""
        self._originals.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def set_item(self, owner: dict[Any, Any], key: Any, value: Any) -> None:
        """Replace an item of a dictionary, which has one."""
        self._items.append((owner, key, owner[key]))
        owner[key] = value

    def undo(self) -> None:
        """Put everything back, the last one first."""
        while self._items:
            dictionary, key, item = self._items.pop()
            dictionary[key] = item
        while self._originals:
            owner, name, original = self._originals.pop()
            if original is _MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, original)
