"""Import strings, ``package.module:attribute``: what one says, and of a wrong one, what to write instead."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import pkgutil
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

_FORMS = "'package.module:attribute' or 'package.module:factory()'"
_AFTER_THE_COLON = ": what follows the colon must be a name, a dotted name, or a call of one with literal arguments"
_USUAL = ("app", "application", "create_app", "make_app", "api")  # what apps and their factories are called
_SHOWN = 3  # entries of sys.path
_NEAR = 0.65  # how much of a name is that of another one, for `get_close_matches()`
FIRST_ARGUMENTS = ("scope", "environ", "env")  # what the first argument of an app is called


class LoadError(Exception):
    """The app or the hook is not there, or is not what it should be. The text says all, so no traceback is shown."""


Parsed = tuple[str, str, tuple[list[Any], dict[str, Any]] | None]


def parse_path(path: str) -> Parsed:
    """Split an import string into module, dotted attribute and the factory's arguments (`None` without a call).

    Raises:
        LoadError: it has another form.
    """
    try:
        return _parse(path)
    except ValueError as error:
        raise LoadError(f"{path!r}{error}; write {_meant(path) or _FORMS}") from None


def _parse(path: str) -> Parsed:
    module_name, colon, expression = path.partition(":")
    is_file = module_name.endswith(".py") and not _is_module(module_name)
    if not colon or is_file or not all(part.isidentifier() for part in module_name.split(".")):
        raise ValueError(" is not an import string")
    try:
        node = ast.parse(expression.strip(), mode="eval").body
        call = None
        if isinstance(node, ast.Call):
            kwargs = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in node.keywords}
            if "None" in kwargs:
                raise ValueError("** is not possible")
            call = [ast.literal_eval(argument) for argument in node.args], kwargs
            node = node.func
        attribute = ast.unparse(node)
        if not all(part.isidentifier() for part in attribute.split(".")):
            raise ValueError(attribute)
    except (SyntaxError, ValueError):
        raise ValueError(_AFTER_THE_COLON) from None
    return module_name, attribute, call


def _meant(path: str) -> str | None:
    """Return the import string that a wrong one stands for: a file, a module, or what other tools take."""
    module, colon, attribute = path.strip().partition(":")
    attribute = attribute.strip(":")  # as in pytest's good.py::app
    if os.sep in module or module.endswith(".py"):
        module = _module_of(module.removesuffix(".py"))
    elif not colon and "." in module and not _is_module(module):
        module, _, attribute = module.rpartition(".")
    if not attribute:
        attribute = "application" if module.endswith((".wsgi", ".asgi")) else "app"
    meant = f"{module}:{attribute}"
    try:
        _parse(meant)
    except ValueError:
        return None
    return repr(meant)


def _module_of(path: str) -> str:
    seen_from: list[str] = []
    with suppress(FileNotFoundError):  # the current folder has gone
        seen_from = [os.path.relpath(path, entry) for entry in [*sys.path, os.curdir]]
    inside = [relative for relative in seen_from if not relative.startswith(os.pardir)]
    return min(inside, key=len, default=os.path.basename(path)).replace(os.sep, ".")


def _is_module(name: str) -> bool:
    path = name.replace(".", os.sep)
    return any(os.path.exists(os.path.join(entry, f"{path}{end}")) for entry in sys.path for end in (".py", ""))


def load_path(path: str) -> Any:
    """Import ``module:attribute``, with dots in the attribute, or a call with literal arguments at its end.

    Raises:
        LoadError: there is no such thing; the text says what there is.
        Exception: what the module or the factory has raised.
    """
    module_name, attribute, call = parse_path(path)
    try:
        value: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is not None and (module_name + ".").startswith(error.name + "."):
            raise LoadError(f"cannot import {path!r}: {_no_module(error.name)}") from None
        raise
    for name in attribute.split("."):
        try:
            value = getattr(value, name)
        except AttributeError:
            raise LoadError(f"cannot import {path!r}: {_no_attribute(value, name)}") from None
    if call is None:
        return value
    args, kwargs = call
    if not callable(value):
        raise LoadError(f"{module_name}:{attribute} is not callable: {value!r}")
    _check_call(path, value, args, kwargs)
    return value(*args, **kwargs)


def _check_call(path: str, factory: Any, args: list[Any], kwargs: dict[str, Any]) -> None:
    try:
        signature = inspect.signature(factory)
    except (ValueError, TypeError):  # it does not say
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as error:
        is_app = next(iter(signature.parameters), "") in FIRST_ARGUMENTS
        hint = f"; an app is named without the call: {path.partition('(')[0]!r}" if is_app else ""
        raise LoadError(f"cannot call {path!r}: {error}{hint}") from None


def _no_attribute(value: Any, name: str) -> str:
    what = f"module {value.__name__!r}" if inspect.ismodule(value) else f"{type(value).__name__!r} object"
    names = [each for each in dir(value) if not each.startswith("_")]
    near = _nearest(name, names) or (next((each for each in _USUAL if each in names), None) if name in _USUAL else None)
    return f"{what} has no attribute {name!r}" + (f". Did you mean: {near!r}?" if near else "")


def _no_module(name: str) -> str:
    package, _, last = name.rpartition(".")
    if package:
        return _no_submodule(package, last)
    entries = list(_entries_of_ones_own())
    first = ", ".join(map(repr, entries[:_SHOWN])) + ", ..." * (len(entries) > _SHOWN)
    what = f"begins with {first}" if entries else "has only what is installed"
    text = f"there is no module {name!r} on sys.path, which {what}"
    elsewhere = next(_folders_with(name), None)
    if elsewhere is not None:
        return (
            f"{text}; but there is one in {elsewhere!r}: set PYTHONPATH={elsewhere}, or, for pytest, write "
            f"pythonpath = {elsewhere} in its ini file"
        )
    near = _nearest(name, [module.name for module in pkgutil.iter_modules(entries)])
    return f"{text}. Did you mean: {near!r}?" if near else text


def _no_submodule(package: str, name: str) -> str:
    folders = getattr(sys.modules.get(package), "__path__", None)
    if folders is None:
        return f"{package!r} is a module, and no package; did you mean '{package}:{name}'?"
    near = _nearest(name, [module.name for module in pkgutil.iter_modules(folders)])
    return f"there is no module '{package}.{name}'" + (f". Did you mean: '{package}.{near}'?" if near else "")


def _entries_of_ones_own() -> Iterator[str]:
    """Yield the folders of sys.path that are neither Python's nor those of what is installed."""
    pythons = (sys.prefix, sys.base_prefix, *sysconfig.get_paths().values())
    entries: dict[str, None] = {}
    with suppress(FileNotFoundError):  # the current folder has gone
        entries = dict.fromkeys(os.path.abspath(entry) for entry in sys.path)
    for entry in entries:
        if os.path.isdir(entry) and not any(f"{entry}{os.sep}".startswith(f"{prefix}{os.sep}") for prefix in pythons):
            yield entry


def _folders_with(name: str) -> Iterator[str]:
    """Yield where there is a module of that name: the current folder, those in it, and the one it is in."""
    inner: list[str] = []
    with suppress(OSError):  # it may not be read
        inner = sorted(entry.name for entry in os.scandir() if entry.is_dir() and entry.name[0] != ".")
    for folder in [".", *inner, ".."]:
        path = os.path.join(folder, name)
        if os.path.isfile(f"{path}.py") or (folder == "." and os.path.isdir(path)):
            yield folder
        elif os.path.isfile(os.path.join(path, "__init__.py")):
            yield folder


def _nearest(name: str, names: list[str]) -> str | None:
    from difflib import get_close_matches  # here: few need it

    return next(iter(get_close_matches(name, names, 1, _NEAR)), None)
