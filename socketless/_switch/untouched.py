"""Whether a library's pieces are its own, or somebody (a mock, a cassette, a tracer) has put something in their place.

If they are, nobody can tell whether a request has gone through them: then it goes to the worker directly.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FunctionType
from typing import Any

_WRAPPERS = ("contextlib", "functools")  # whose functions decorate a library's own
_SOCKETS_OF_LOOPS = ("gevent", "eventlet", "socketless")  # they do what sockets do


def connection_classes(module: Any) -> tuple[Any, Any]:
    """Return a module's own `HTTPConnection` and `HTTPSConnection`, whatever a cassette has put in their places."""
    return own_class(module, "HTTPConnection"), own_class(module, "HTTPSConnection")


def own_class(module: Any, name: str) -> Any:
    """Return a module's own class of a name, also where somebody else's is there now."""
    where = module.__name__, name
    found = getattr(module, name)
    if (found.__module__, found.__name__) == where:
        return found
    classes = [object]
    for each in classes:  # which grows meanwhile
        if (vars(each).get("__module__"), _name_of(each)) == where:
            return each
        classes += type.__subclasses__(each)
    return found


_name_of = vars(type)["__name__"].__get__  # whatever a class's own class makes of it

Socket: Any = own_class(socket, "socket")


class Pieces:
    """Classes that a request goes through; `packages` are the names of those that their contents may be from.

    Any thread may use it.
    """

    def __init__(self, owners: Sequence[type], packages: Sequence[str]) -> None:
        self._packages = {"socketless", *packages}
        self._seen: dict[type, dict[str, Any]] = {owner: {} for owner in owners}  # as it was when all was well

    def are_untouched(self) -> bool:
        """Return whether all is the libraries' own; it takes a microsecond for each class."""
        return all(vars(owner) == seen or self._is_untouched(owner) for owner, seen in self._seen.items())

    def _is_untouched(self, owner: type) -> bool:
        contents = dict(vars(owner))
        if not all(self._is_own(value) for value in contents.values()):
            return False
        self._seen[owner] = contents
        return True

    def _is_own(self, value: Any) -> bool:
        kind = type(value)  # not what it says to isinstance(): wrappers pretend (wrapt, unittest.mock)
        if kind is property:
            return all(self._is_own(each) for each in (value.fget, value.fset, value.fdel))
        if kind in (classmethod, staticmethod):
            return self._is_own(value.__func__)
        if kind is FunctionType:
            original = getattr(value, "socketless_original", None)
            return (original is None or self._is_own(original)) and self._is_own_function(value)
        if issubclass(kind, type):
            return self._is_from(value.__module__, "builtins")
        return not callable(value) or kind.__module__ == "builtins"

    def _is_own_function(self, function: FunctionType) -> bool:
        module = function.__globals__.get("__name__", "")
        if module in _WRAPPERS:
            return self._is_own(getattr(function, "__wrapped__", None))
        return self._is_from(module)

    def _is_from(self, module: str, *others: str) -> bool:
        return module.partition(".")[0] in (*self._packages, *others)


@contextmanager
def unmocked_sockets() -> Iterator[None]:
    """Put the class of sockets back for the block: what is imported there may build on it, as trio does."""
    mocked, socket.socket = socket.socket, Socket  # type: ignore[misc]
    try:
        yield
    finally:
        socket.socket = mocked  # type: ignore[misc]


def sockets_are_mocked() -> bool:
    """Return whether somebody has put a class of his own in the place of sockets, as httpretty and mocket do.

    Who has only put there what raises (pytest-socket) means that there shall be no sockets, and has what he wants.
    """
    cls: Any = socket.socket
    if cls is Socket or not isinstance(cls, type) or issubclass(cls, Socket):
        return False
    return cls.__module__.partition(".")[0] not in _SOCKETS_OF_LOOPS
