"""Runs a module or a script in this process, as Python does it from its own command line."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader, SourcelessFileLoader
from types import CodeType, ModuleType, TracebackType
from typing import Any, NamedTuple, NoReturn

__all__ = ["Program"]

_OURS = (__file__, importlib.util.__file__)
_NOT_THERE = "No module named {!r}"


class _Found(NamedTuple):
    spec: ModuleSpec | None  # None: a plain script
    loader: Any
    code: CodeType


class Program:
    """A module or a script, with its arguments.

    Args:
        name: the module's name, or the path of the script: a file, or a directory or zip file with a `__main__.py`.
        args: what follows in its `sys.argv`.
        is_module: whether it is a module, as after Python's own ``-m``.

    Raises:
        OSError: there is no such script.
        ImportError: the directory or zip file cannot be run.
    """

    def __init__(self, name: str, args: Sequence[str], *, is_module: bool) -> None:
        self._name = name
        self._args = list(args)
        self._is_module = is_module
        self._main: ModuleSpec | None = None  # of a directory or zip file
        if not is_module:
            os.stat(name)
            path = os.path.abspath(name)
            if path in sys.path_importer_cache or os.path.isdir(path) or _is_archive(path):
                self._main = PathFinder.find_spec("__main__", [path])
                if self._main is None:
                    raise ImportError(f"there is no '__main__' module in {name!r}")

    def set_up(self) -> None:
        """Give `sys.argv` and `sys.path` to it. The first entry of `sys.path` stands for the current directory.

        A script's own directory is the first entry then, and the current one, where the app is, stays behind it.
        """
        sys.argv[:] = ["-m" if self._is_module else self._name, *self._args]
        if getattr(sys.flags, "safe_path", sys.flags.isolated):  # safe_path is of Python 3.11
            return
        path = os.path.abspath(self._name) if self._main else os.path.dirname(os.path.realpath(self._name))
        here = os.getcwd()
        sys.path[:1] = [here] if self._is_module or path == here else [path, here]

    def run(self) -> None:
        """Run it as `__main__`, which it stays; returns or raises as it does. Must be called after `set_up()`.

        Only its own lines are in the traceback that is shown of an exception, if that is let through to Python.
        """
        try:
            found = self._find_module(self._name) if self._is_module else self._find_script()
            main = _main_module(found, os.path.abspath(self._name))
            if self._is_module:
                sys.argv[0] = main.__file__ or self._name
            sys.modules["__main__"] = main
            exec(found.code, vars(main))
        except SystemExit:
            raise
        except BaseException as error:
            _show_without_our_frames(error)
            raise

    def _find_module(self, name: str) -> _Found:
        try:
            spec = importlib.util.find_spec(name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{name}.".startswith(f"{error.name}."):
                raise  # by the package that it is in
            _exit(_NOT_THERE.format(error.name))
        except ValueError:
            spec = None  # `__main__`, and what else has been made by hand
        if spec is None:
            _exit(_NOT_THERE.format(name))
        if spec.submodule_search_locations is not None:
            if name.endswith(".__main__"):
                _exit(f"{name!r} is a package and cannot be run")
            return self._find_module(f"{name}.__main__")
        return _Found(spec, spec.loader, _code_of(spec))

    def _find_script(self) -> _Found:
        if self._main is not None:
            return _Found(self._main, self._main.loader, _code_of(self._main))
        path = os.path.abspath(self._name)
        if path.endswith(".pyc"):
            compiled = SourcelessFileLoader("__main__", path)
            code = compiled.get_code("__main__")
            assert code is not None  # or it has raised
            return _Found(None, compiled, code)
        source = SourceFileLoader("__main__", path)
        return _Found(None, source, source.source_to_code(source.get_data(path), path))  # which leaves no __pycache__


def _is_archive(path: str) -> bool:
    # As Python decides it: somebody knows how to import from there.
    for hook in sys.path_hooks:
        try:
            hook(path)
        except ImportError:
            continue
        return True
    return False


def _code_of(spec: ModuleSpec) -> CodeType:
    loader: Any = spec.loader
    code = loader.get_code(spec.name) if hasattr(loader, "get_code") else None
    if code is None:
        _exit(f"No code object available for {spec.name}")
    return code  # type: ignore[no-any-return]


def _main_module(found: _Found, path: str) -> ModuleType:
    main, spec = ModuleType("__main__"), found.spec
    main.__spec__ = spec
    main.__file__ = path if spec is None else spec.origin
    main.__package__ = None if spec is None else spec.parent
    main.__loader__ = found.loader
    if sys.version_info < (3, 15):
        vars(main)["__cached__"] = None if spec is None else spec.cached
    vars(main)["__builtins__"] = sys.modules["builtins"]
    return main


def _exit(message: str) -> NoReturn:
    sys.exit(f"{sys.executable}: {message}")  # Python's own words


def _show_without_our_frames(error: BaseException) -> None:
    traceback = error.__traceback__
    while traceback is not None and _is_ours(traceback):
        traceback = traceback.tb_next
    show = sys.excepthook  # the program may have set it

    def excepthook(kind: type[BaseException], value: BaseException, seen: TracebackType | None) -> None:
        if value is error:  # and not what has gone wrong on the way
            value.__traceback__ = seen = traceback
        show(kind, value, seen)

    sys.excepthook = excepthook


def _is_ours(traceback: TracebackType) -> bool:
    file = traceback.tb_frame.f_code.co_filename
    return file in _OURS or file.startswith("<frozen importlib")
