"""How objects are rebuilt where pickle's own way fails, though they hold only what can be pickled.

An exception: without its `__init__`, which often takes other arguments than `args` has. An object with a `__getattr__`,
such as Starlette's `State`: pickle asks it for a `__setstate__` before it has any of the attributes that this method
looks into, so `__getattr__` calls itself until Python gives up.
"""

from __future__ import annotations

import copyreg
from collections.abc import Iterator
from contextlib import suppress
from types import FunctionType
from typing import Any

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


def has_getattr(cls: type) -> bool:
    """Return whether objects of a class have a `__getattr__` in Python, and leave it to Python how they are pickled."""
    return (
        isinstance(getattr(cls, "__getattr__", None), FunctionType)
        and not issubclass(cls, type)
        and all(getattr(cls, name) is getattr(object, name) for name in ("__reduce__", "__reduce_ex__"))
        and not hasattr(cls, "__setstate__")
        and cls not in copyreg.dispatch_table
    )


def reduced_with_state(value: Any) -> tuple[Any, ...]:
    """Return what `__reduce_ex__()` returns, and `set_state` as what takes the state."""
    of_python = value.__reduce_ex__(5)
    return (*of_python, *(None,) * (5 - len(of_python)), set_state)


def set_state(value: Any, state: Any) -> None:
    """Give an object its state, as pickle does; it is asked for nothing."""
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    if attributes:
        object.__getattribute__(value, "__dict__").update(attributes)
    for name, each in (slots or {}).items():
        object.__setattr__(value, name, each)


def is_plain(cls: type[BaseException]) -> bool:
    """Return whether exceptions of a class leave it to Python how they are pickled, and made."""
    built_in = _built_in(cls)
    return (
        built_in is not cls
        and all(getattr(cls, name) is getattr(built_in, name) for name in ("__reduce__", "__reduce_ex__", "__new__"))
        and not hasattr(cls, "__getnewargs__")
        and not hasattr(cls, "__getnewargs_ex__")
    )


def reduced(error: BaseException) -> tuple[Any, ...]:
    """Return what `__reduce__()` returns, whatever its class says itself about that."""
    of_python: Any = _built_in(type(error)).__reduce__(error)
    state = (of_python[2] if len(of_python) > 2 else None) or {}
    return rebuilt, (type(error), of_python[1], error.args, state, dict(_slots_of(error)))


def rebuilt(
    cls: type[BaseException],
    made_of: tuple[Any, ...],
    args: tuple[Any, ...],
    state: dict[str, Any],
    slots: dict[str, Any],
) -> BaseException:
    """Make the exception again."""
    built_in: Any = _built_in(cls)
    error: BaseException = built_in.__new__(cls, *made_of)
    with suppress(TypeError):  # it was never called, or with others
        built_in.__init__(error, *made_of)
    set_attribute = object.__setattr__  # its own refuses that, if it is frozen
    set_attribute(error, "args", args)
    for name, value in {**state, **slots}.items():
        if name in slots or hasattr(built_in, name):
            set_attribute(error, name, value)
        else:
            vars(error)[name] = value
    return error


def _built_in(cls: type[BaseException]) -> type[BaseException]:
    return next(base for base in cls.__mro__ if base.__module__ == "builtins" and issubclass(base, BaseException))


def _slots_of(error: BaseException) -> Iterator[tuple[str, Any]]:
    for cls in type(error).__mro__:
        if cls.__module__ == "builtins":
            continue
        slots = vars(cls).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            place = f"_{cls.__name__.lstrip('_')}{name}" if name.startswith("__") and not name.endswith("__") else name
            if name not in ("__dict__", "__weakref__") and hasattr(error, place):
                yield place, getattr(error, place)
