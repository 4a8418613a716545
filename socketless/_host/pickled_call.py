"""How a function for `run()` reaches a worker process.

By value, so that a worker need not import the tests. But what can be imported there, of the app's modules, goes by its
name: a copy of a list that the app appends to, or of the app itself, would be of no use.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from types import FunctionType, MethodType, ModuleType
from typing import Any

from socketless._host.app_source import by_value, find_import_path, is_test_module, unimportable_modules
from socketless._wire.apps import WorkersApp
from socketless._wire.pickling import dumps_object
from socketless.errors import TransferError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

# What is the same wherever it is, what pickle sends by its name anyway, and what stands for the app. (To be asked of
# type(), since isinstance() makes a lazy object load what it stands for.)
_PLAIN = (str, bytes, int, float, complex, bool, type(None), type, FunctionType, MethodType, ModuleType, tuple)
_NOT_BY_NAME = (*_PLAIN, WorkersApp)


def pickled_call(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], app_module: str | None
) -> bytes:
    """Pickle a call of a function.

    Args:
        function, args, kwargs: the call.
        app_module: the name of the module that the app is from. The worker has it, if it is one of tests, too.

    Raises:
        TransferError: something in it cannot be pickled.
    """
    modules = [
        module
        for name, module in list(sys.modules.items())
        if isinstance(module, ModuleType) and name == module.__name__ and is_test_module(name)
        if name != app_module
    ]
    try:
        with by_value([*modules, *unimportable_modules()]):
            return dumps_object(partial(function, *args, **kwargs), _Names(app_module).name_of)
    except TransferError as error:
        name = getattr(function, "__qualname__", repr(function))
        what = f"the function {name} or an argument of it cannot be sent to another process"
        raise TransferError(f"{what}: {error.__cause__ or error}") from error


class _Names:
    """The objects that are attributes of modules."""

    def __init__(self, app_module: str | None) -> None:
        self._ids: set[int] = set()
        for name, module in list(sys.modules.items()):
            if isinstance(module, ModuleType) and (name == app_module or not is_test_module(name)):
                self._ids.update(
                    id(value) for value in list(vars(module).values()) if not issubclass(type(value), _NOT_BY_NAME)
                )

    def name_of(self, value: Any) -> str | None:
        return find_import_path(value) if id(value) in self._ids else None
