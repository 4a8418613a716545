"""Objects to bytes and back. Nothing else in the package pickles."""

from __future__ import annotations

import io
import marshal
import pickle
import sys
from collections.abc import Callable
from types import CodeType, FunctionType
from typing import Any

import cloudpickle

from socketless.errors import TransferError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


def dumps(value: Any, leave_out: Callable[[pickle.PickleBuffer], None] | None = None) -> bytes:
    """Pickle anything; `leave_out` receives the buffers that protocol 5 leaves out.

    Raises:
        TransferError: it cannot be pickled.
    """
    file = io.BytesIO()
    _dump(_Pickler(file, protocol=5, buffer_callback=leave_out), value)
    return file.getvalue()


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
        if isinstance(value, BaseException) and _is_plain(type(value)):
            return _rebuild_exception, (type(value), value.args, vars(value))
        return super().reducer_override(value)


class _NamingPickler(_ObjectPickler):
    def persistent_id(self, value: Any) -> Any:
        return self.name_of(value)


def _is_plain(exception_class: type[BaseException]) -> bool:
    # Whether all of it is in `args` and attributes, whatever its own __init__ makes of its arguments.
    built_in = next(cls for cls in exception_class.__mro__ if cls.__module__ == "builtins")
    return (
        built_in is not exception_class
        and built_in.__basicsize__ == BaseException.__basicsize__
        and exception_class.__reduce__ is BaseException.__reduce__
        and exception_class.__reduce_ex__ is BaseException.__reduce_ex__
        and exception_class.__new__ is built_in.__new__
        and not hasattr(exception_class, "__getstate__" if sys.version_info < (3, 11) else "__getnewargs__")
    )


def _rebuild_exception(cls: type[BaseException], args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    error = cls.__new__(cls, *args)
    error.args = args
    vars(error).update(state)
    return error


def loads_by_name(pickled: bytes, load: Callable[[str], Any]) -> Any:
    """Turn what `dumps_object()` has made with names back into objects; `load` knows those that have a name."""
    unpickler = _NamingUnpickler(io.BytesIO(pickled))
    unpickler.load_name = load
    return unpickler.load()


class _NamingUnpickler(pickle.Unpickler):
    load_name: Callable[[str], Any]

    def persistent_load(self, name: Any) -> Any:
        return self.load_name(name)
