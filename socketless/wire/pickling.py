"""Objects to bytes and back. Nothing else in the package pickles."""

from __future__ import annotations

import io
import pickle
import sys
from collections.abc import Callable
from typing import Any

import cloudpickle

from socketless.errors import TransferError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


def dumps(value: Any, leave_out: Callable[[pickle.PickleBuffer], None] | None = None) -> bytes:
    """Pickle anything; `leave_out` receives the buffers that protocol 5 leaves out.

    Raises:
        TransferError: it cannot be pickled.
    """
    try:
        pickled: bytes = cloudpickle.dumps(value, protocol=5, buffer_callback=leave_out)
    except Exception as error:
        raise TransferError(f"cannot pickle {type(value).__name__} object: {error}") from error
    return pickled


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


def dumps_by_name(value: Any, name_of: Callable[[Any], str | None]) -> bytes:
    """Pickle anything; where `name_of` knows a name for an object in it, only the name.

    Raises:
        TransferError: it cannot be pickled.
    """
    file = io.BytesIO()
    pickler = _NamingPickler(file, protocol=5)
    pickler.name_of = name_of
    try:
        pickler.dump(value)
    except Exception as error:
        raise TransferError(f"cannot pickle {type(value).__name__} object: {error}") from error
    return file.getvalue()


class _NamingPickler(cloudpickle.Pickler):  # type: ignore[misc]
    name_of: Callable[[Any], str | None]

    def persistent_id(self, value: Any) -> str | None:
        return self.name_of(value)


def loads_by_name(pickled: bytes, load: Callable[[str], Any]) -> Any:
    """Turn what `dumps_by_name()` has made back into objects; `load` knows those that have a name."""
    unpickler = _NamingUnpickler(io.BytesIO(pickled))
    unpickler.load_name = load
    return unpickler.load()


class _NamingUnpickler(pickle.Unpickler):
    load_name: Callable[[str], Any]

    def persistent_load(self, name: Any) -> Any:
        return self.load_name(name)
