"""Our errors as those of a client library: one object that is both, so that `except` finds it by either name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from socketless import errors
from socketless.errors import SocketlessError

Names = Mapping[type[SocketlessError], str]  # what our errors are called: "module.Class"

_OURS = {getattr(errors, name) for name in errors.__all__}


def as_theirs(error: SocketlessError, names: Names) -> SocketlessError:
    """Return the same error as one that is the client library's, too; as it is, if the library has no name for it."""
    name = name_of(error, names)
    return error if name is None else mixed(error, name)


def name_of(error: SocketlessError, names: Names) -> str | None:
    """Return what a client library calls an error, from a table of its names; `None`: it has none for it."""
    return next((name for base, name in names.items() if isinstance(error, base)), None)


def mixed(error: SocketlessError, name: str) -> SocketlessError:
    """Return the same error as one that is `name`, too: "module.Class", an exception. It can be pickled."""
    ours = next(cls for cls in type(error).__mro__ if cls in _OURS)  # an app may use a transport of ours itself
    if type(error) is _both.get((ours, name)):
        return error
    both = _rebuild(ours, name, getattr(error, "_own_args", error.args))
    both.__cause__ = error.__cause__
    return both


def _rebuild(ours: type[SocketlessError], name: str, args: tuple[Any, ...]) -> SocketlessError:
    key = ours, name
    if key not in _both:
        module, _, class_name = name.rpartition(".")
        _both[key] = _make_both(ours, getattr(import_module(module), class_name), key)
    return _both[key](*args)


_both: dict[tuple[type, str], type[SocketlessError]] = {}


def _make_both(ours: type[SocketlessError], theirs: type[Exception], key: tuple[Any, ...]) -> type[SocketlessError]:
    """Return a class that is one of our errors and one of the client library's."""

    def __init__(self: Any, *args: Any) -> None:
        ours.__init__(self, *args)
        self.args = self._own_args = args  # an OSError has made something else of them
        self._request = None

    def __str__(self: Any) -> str:
        if self.args is self._own_args:
            return ours.__str__(self)
        return str(ours(*self._own_args))

    def __reduce__(self: Any) -> Any:
        # What it was about does not cross; who asks finds that there is nothing.
        about = dict.fromkeys(name for name in ("request", "response") if name in vars(self))
        return _rebuild, (*key, self._own_args), about

    members: dict[str, Any] = {"__init__": __init__, "__str__": __str__, "__reduce__": __reduce__}
    members |= {"__module__": ours.__module__, "__doc__": ours.__doc__}
    return type(ours.__name__, (ours, theirs), members)
