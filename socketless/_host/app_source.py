"""How an app, or a reset hook, reaches its worker.

As it is, where the worker is forked or of threads. To a fresh interpreter by name, where the object is an attribute of
a module that it can import; else by value (cloudpickle), the last resort: the worker's copy then shares nothing.
"""

from __future__ import annotations

import importlib.util
import inspect
import os
import re
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import cloudpickle

from socketless._host.trace import logger
from socketless._wire.apps import WAYS_OUT
from socketless._wire.import_strings import LoadError, parse_path
from socketless._wire.messages import AppSource, ImportSource, InheritedSource, PickledSource
from socketless._wire.pickling import dumps
from socketless.errors import TransferError, WorkerStartError


def source_of(value: Any, *, what: str, forked: bool) -> AppSource:
    """Choose the way for `value`, an import string or an object; `what` is "app" or "reset hook" in errors.

    Raises:
        WorkerStartError: a string that is no import string.
        TypeError: neither a string nor a callable.
        TransferError: an object that cannot reach a spawned worker; the text names the ways out.
    """
    if forked or isinstance(value, str) or not callable(value):
        return local_source_of(value, what=what)
    path = find_import_path(value)
    if path is not None:
        logger.debug("the worker imports the %s as %r", what, path)
        return ImportSource(path)
    try:
        with by_value(unimportable_modules()):
            pickled = dumps(value)
    except TransferError as error:
        raise TransferError(
            f"the {what} {_shorten(repr(value))} cannot be sent to a spawned worker: it is not an attribute of a "
            f"module that the worker can import, and it cannot be pickled: {error}.\n{WAYS_OUT}"
        ) from error
    shown = _shorten(repr(value))
    logger.debug("the %s %s is not an attribute of an importable module and is sent by value", what, shown)
    return PickledSource(pickled, f"the {what} object")


def check_import_string(value: str) -> None:
    """Refuse a string that is no import string.

    Raises:
        ValueError: it is not one; the text says what to write.
    """
    try:
        parse_path(value)
    except LoadError as error:
        raise ValueError(str(error)) from None


def read_by_host(lines: Iterable[str]) -> str | dict[str, str]:
    """Read import strings that a person has written, each with its host before it: ``api.test = shop:app``.

    One that has none is for all other hosts, ``"*"``; alone, it is returned as it is. Without any, that is ``""``.

    Raises:
        ValueError: one is no import string, or a host comes twice.
    """
    found: dict[str, str] = {}
    for line in filter(None, map(str.strip, lines)):
        host, path = _BY_HOST.fullmatch(line).groups()  # type: ignore[union-attr]
        check_import_string(path)
        if found.setdefault(host or "*", path) is not path:
            raise ValueError(f"{host or line!r} is given twice")
    return found.get("*", "") if found.keys() <= {"*"} else found


_BY_HOST = re.compile(r"(?:([^\s=()'\"]+)\s*=\s*)?(.*)")


def local_source_of(value: Any, *, what: str) -> AppSource:
    """Choose the way for a worker that has everything of this process in its memory.

    Raises:
        WorkerStartError: a string that is no import string.
        TypeError: neither a string nor a callable.
    """
    if isinstance(value, str):
        try:
            check_import_string(value)
        except ValueError as error:
            raise WorkerStartError(f"the {what} is not usable: {error}") from None
        return ImportSource(value)
    if not callable(value):
        raise TypeError(f"the {what} must be an import string or a callable, not {described(value)}")
    return InheritedSource(value, f"the {what} object")


# What is given for an app or a hook and is neither, and what to write instead.
_INSTEAD: tuple[tuple[Callable[[Any], bool], Callable[[Any], str]], ...] = (
    (lambda value: isinstance(value, ModuleType), lambda value: f"name an attribute of it: '{value.__name__}:...'"),
    (lambda value: isinstance(value, os.PathLike), lambda value: "write 'package.module:attribute'"),
    (inspect.iscoroutine, lambda value: f"call an async function by asyncio.run({value.__name__}())"),
    (lambda value: hasattr(value, "exchange_blocking"), lambda value: "that is a worker already; use it as it is"),
)


def described(value: Any) -> str:
    """Return what an error shows of a value that is wrong, with what to write instead if that can be told."""
    hint = next((f"; {write(value)}" for fits, write in _INSTEAD if fits(value)), "")
    return _shorten(repr(value)) + hint


def find_import_path(value: Any) -> str | None:
    """Return `module:attribute` under which a fresh interpreter finds this very object, or `None`."""
    # A function or a class says where it was made. Found elsewhere only, it was put there by this process, by a test
    # perhaps, and a fresh interpreter would find another.
    says_so = isinstance(value, (FunctionType, type)) and not hasattr(value, "__wrapped__")  # wraps() copies __module__
    home = value.__module__ if says_so else None
    found = []
    for position, (name, module) in enumerate(list(sys.modules.items())):
        try:
            attributes = list(vars(module).items()) if isinstance(module, ModuleType) else []
        except Exception:
            continue  # a lazy module that does not load
        for attribute, other in attributes:
            if other is value and home in (None, name):
                found.append((_rank(value, name), position, name, attribute))
    for _, _, name, attribute in sorted(found):
        if _is_importable(name):
            return f"{name}:{attribute}"
    return None


def _rank(value: Any, module_name: str) -> int:
    # The module that made the object comes first; a test's module last, since it is imported for the test's own ends.
    if module_name in (getattr(value, "import_name", None), getattr(value, "__module__", None)):
        return 0
    return 2 if is_test_module(module_name) else 1


def is_test_module(name: str) -> bool:
    """Return whether a module is one of tests, or is the script that runs."""
    last = name.rpartition(".")[2]
    return last in ("conftest", "__main__") or last.startswith("test_") or last.endswith("_test")


def unimportable_modules() -> list[ModuleType]:
    """Return the packages and modules of tests that a fresh interpreter does not find (`--import-mode=importlib`)."""
    tops = {name.partition(".")[0] for name in list(sys.modules) if is_test_module(name)} - {"__main__", "__mp_main__"}
    modules = [module for top in sorted(tops) if isinstance(module := sys.modules.get(top), ModuleType)]
    return [module for module in modules if not _is_importable(module.__name__)]


_registering = threading.Lock()


@contextmanager
def by_value(modules: Iterable[ModuleType]) -> Iterator[None]:
    """Let what is pickled meanwhile take along what it needs of these modules, and of the modules in them."""
    with _registering:
        known = cloudpickle.list_registry_pickle_by_value()  # the person's own
        chosen = {module.__name__: module for module in modules}
        unknown = [module for name, module in chosen.items() if name not in known and name in sys.modules]
        for module in unknown:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in unknown:
                cloudpickle.unregister_pickle_by_value(module)


def _is_importable(name: str) -> bool:
    if name in ("__main__", "__mp_main__"):
        return False  # the worker never runs the host's script again
    try:
        spec = importlib.util.find_spec(name)
        if spec is None or getattr(sys.modules[name], "__spec__", None) is None:
            return False
        # find_spec() answers from sys.modules; only the path finders say what a fresh interpreter would find.
        parts = name.split(".")
        return all(_is_found(".".join(parts[:count])) for count in range(1, len(parts) + 1))
    except Exception:
        return False


def _is_found(name: str) -> bool:
    # Whether a fresh interpreter finds this very module, once it has its parents.
    module, parent = sys.modules.get(name), sys.modules.get(name.rpartition(".")[0])
    for finder in sys.meta_path:
        if type(finder).__module__.startswith("pyfakefs."):
            continue  # it takes the question for an import, and removes the module in the end
        fresh = None
        if hasattr(finder, "find_spec"):
            fresh = finder.find_spec(name, getattr(parent, "__path__", None), None)
        if fresh is not None:
            break
    else:
        return False
    spec = getattr(module, "__spec__", None)
    if spec is not None and fresh.origin is not None:
        return bool(fresh.origin == spec.origin)
    # A namespace, or what stands for a package that nobody has imported: by where its modules are.
    places = set(fresh.submodule_search_locations or ())
    return module is None or not places.isdisjoint(getattr(module, "__path__", ()))


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
