"""Objects to bytes and back. Nothing else in the package pickles."""

from __future__ import annotations

import io
import marshal
import pickle
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from types import CodeType, FunctionType
from typing import Any
from weakref import WeakValueDictionary

import cloudpickle

from socketless._wire import rebuilding
from socketless.errors import TransferError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


def dumps(value: Any, leave_out: Callable[[pickle.PickleBuffer], None] | None = None) -> bytes:
    """Pickle anything; `leave_out` receives the buffers that protocol 5 leaves out.

    Raises:
        TransferError: it cannot be pickled.
    """
    if leave_out is None:
        with suppress(Exception):  # it is not plain; or it cannot be pickled, as will be said below
            return _dumps_plain(value)
    file = io.BytesIO()
    _dump(_Pickler(file, protocol=5, buffer_callback=leave_out), value)
    return file.getvalue()


def _dumps_plain(value: Any) -> bytes:
    # What consists of str, bytes, numbers, lists and the like, as most messages do: in two thirds of the time.
    file = io.BytesIO()
    _PlainPickler(file, protocol=5).dump(value)
    return file.getvalue()


class _PlainPickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        raise TypeError("it is somebody's class, or an object of it")


loads = pickle.loads


def loads_known(pickled: bytes) -> Any:
    """Unpickle what is made of modules that this process has imported already; it imports none for it.

    Raises:
        UnpicklingError: a module has not been imported.
        Exception: whatever rebuilding it raises.
    """
    return _KnownUnpickler(io.BytesIO(pickled)).load()


class _KnownUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if module not in sys.modules:
            raise pickle.UnpicklingError(f"module {module!r} has not been imported")
        return super().find_class(module, name)


def dumps_object(value: Any, name_of: Callable[[Any], str | None] | None = None) -> bytes:
    """Pickle an object of an app or of a test.

    Exceptions in it are rebuilt without their `__init__`, which often takes other arguments than `args` has. Where
    `name_of` knows a name for an object in it, only the name goes.

    Raises:
        TransferError: it cannot be pickled.
    """
    file = io.BytesIO()
    pickler = _ObjectPickler(file, protocol=5) if name_of is None else _NamingPickler(file, protocol=5)
    pickler.name_of = name_of
    _dump(pickler, value)
    return file.getvalue()


def _dump(pickler: _Pickler, value: Any) -> None:
    try:
        pickler.dump(value)
    except Exception as error:
        raise TransferError(f"cannot pickle {type(value).__name__} object: {error}") from error


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, CodeType):
            # As Python itself keeps it in a .pyc: cloudpickle, from 3.1.3 on, forgets which file it is from.
            try:
                return marshal.loads, (marshal.dumps(value),)
            except ValueError:  # somebody has put a constant into it that no compiler makes
                return NotImplemented
        if rebuilding.has_getattr(type(value)):
            return rebuilding.reduced_with_state(value)
        if sys.version_info >= (3, 14) and isinstance(value, FunctionType):
            try:
                return super().reducer_override(value)
            except Exception:  # what it is annotated with may be there for a type checker alone (PEP 649)
                return super().reducer_override(_annotated_in_words(value))
        return super().reducer_override(value)


if sys.version_info >= (3, 14):

    def _annotated_in_words(function: FunctionType) -> FunctionType:
        import annotationlib

        copy = FunctionType(
            function.__code__, function.__globals__, argdefs=function.__defaults__, closure=function.__closure__
        )
        copy.__name__, copy.__qualname__, copy.__module__ = (
            function.__name__,
            function.__qualname__,
            function.__module__,
        )
        copy.__doc__, copy.__kwdefaults__ = function.__doc__, function.__kwdefaults__
        copy.__annotations__ = annotationlib.get_annotations(function, format=annotationlib.Format.STRING)
        vars(copy).update(vars(function))
        return copy


class _ObjectPickler(_Pickler):
    name_of: Any

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, BaseException) and rebuilding.is_plain(type(value)):
            return rebuilding.reduced(value)
        if _is_forked and issubclass(type(value), type) and not _has_name(value):
            with suppress(TransferError):
                return _class_of_before, (*_place_of(value), dumps(value))
            return _class_of_before, (*_place_of(value), None)
        return super().reducer_override(value)


class _BareExceptionPickler(_ObjectPickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, BaseException):
            return rebuilding.reduced(value)
        return super().reducer_override(value)


def dumps_bare(error: BaseException) -> bytes:
    """Pickle an exception by its type, its arguments and its attributes, whatever it says itself about that.

    Raises:
        TransferError: it cannot be pickled.
    """
    file = io.BytesIO()
    _dump(_BareExceptionPickler(file, protocol=5), error)
    return file.getvalue()


class _NamingPickler(_ObjectPickler):
    def persistent_id(self, value: Any) -> Any:
        return self.name_of(value)


# A class without a name (of a test, of a factory, of a script) is in a forked worker where it is in its host, and the
# host knows it by that; by value, it would be another class.

_is_forked = False


def set_forked() -> None:
    """Let classes be known by where they are: this process is a copy of its host. Must be called after the fork."""
    global _is_forked
    _is_forked = True


def _has_name(cls: type) -> bool:
    found: Any = sys.modules.get(cls.__module__) if cls.__module__ != "__main__" else None
    for name in cls.__qualname__.split("."):
        found = getattr(found, name, None)
    return found is cls


def _class_of_before(address: int, module: str, name: str, pickled: bytes | None) -> Any:
    key = address, module, name
    found = _classes_of_before.get(key)
    if found is None:
        found = next((each for each in _all_classes() if _place_of(each) == key), None)
        if found is None:  # the worker has made it since
            if pickled is None:
                raise pickle.UnpicklingError(f"the class {module}.{name} is not here, and cannot be pickled")
            return loads(pickled)
        _classes_of_before[key] = found
    return found


_classes_of_before: WeakValueDictionary[tuple[int, str, str], type] = WeakValueDictionary()


def _place_of(cls: type) -> tuple[int, str, str]:
    return id(cls), cls.__module__, cls.__qualname__


def _all_classes() -> Iterator[type]:
    seen, rest = {id(object)}, [object]  # by what they are: a class of classes may say when two are equal
    while rest:
        for each in type.__subclasses__(rest.pop()):
            if id(each) not in seen:
                seen.add(id(each))
                rest.append(each)
                yield each


def loads_by_name(pickled: bytes, load: Callable[[str], Any]) -> Any:
    """Turn what `dumps_object()` has made with names back into objects; `load` knows those that have a name."""
    unpickler = _NamingUnpickler(io.BytesIO(pickled))
    unpickler.load_name = load
    return unpickler.load()


class _NamingUnpickler(pickle.Unpickler):
    load_name: Callable[[str], Any]

    def persistent_load(self, name: Any) -> Any:
        return self.load_name(name)
