"""Makes the sockets of a child process virtual, as those of the process that has started it are; see ../children.py.

It runs at the start of every Python process, in whatever environment, so it imports nothing but what is there anyway.
The work is done once somebody imports `socket`, or starts a program with another environment. Then comes the
environment's own `sitecustomize`, if it has one.
"""

import os
import sys

TYPE_CHECKING = False  # as typing's, which not every process imports
if TYPE_CHECKING:
    from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))
_PACKAGE = os.path.dirname(os.path.dirname(_HERE))
_PATH = os.environ.get("PYTHONPATH")
_ENVIRONMENT = 6  # which argument it is


class _Watch:
    """A finder that finds nothing, but sees to it that something is done after a module is imported."""

    def __init__(self, name: str, function: "Any") -> None:
        self._name = name
        self._function = function

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name != self._name:
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find and find(name, path, target)
            if spec:
                _call_after(spec.loader, self._function)
                return spec
        return None


def _after_import(name: str, function: "Any") -> None:
    if name in sys.modules:
        function()
    else:
        sys.meta_path.insert(0, _Watch(name, function))


def _call_after(loader: "Any", function: "Any") -> None:
    run = loader.exec_module

    def exec_module(module: "Any") -> None:
        try:
            del loader.exec_module
        except AttributeError:
            pass
        run(module)
        function()

    loader.exec_module = exec_module


def _watch_programs() -> None:
    """Let a process that needs no socket itself pass virtual ones on to programs with another environment."""
    popen = sys.modules["subprocess"].Popen
    original = popen._execute_child

    def _execute_child(self: "Any", *args: "Any") -> None:
        is_other = args[_ENVIRONMENT] is not None or os.environ.get("PYTHONPATH") != _PATH
        if is_other and "socketless.loopback" not in sys.modules:
            import socket  # noqa: F401 - which changes this method

            self._execute_child(*args)
        else:
            original(self, *args)

    popen._execute_child = _execute_child


_watched: "dict[str, Any]" = {}  # the functions of `os` that start programs: the system's own


def _watch_executions() -> None:
    """Do that for the functions of `os`, too."""
    for name in ("execv", "execve", "posix_spawn", "posix_spawnp"):
        if hasattr(os, name):
            _watched[name] = getattr(os, name)
            setattr(os, name, _starting(name))


def _starting(name: str) -> "Any":
    def start(*args: "Any", **options: "Any") -> "Any":
        import socket  # noqa: F401 - which changes the function of `os`

        return getattr(os, name)(*args, **options)

    return start


def _install() -> None:
    while _watched:
        setattr(os, *_watched.popitem())
    try:
        from socketless import loopback
    except ImportError:  # another environment than that of who has started the rescue
        _load_package()
        from socketless import loopback
    loopback.install()


def _load_package() -> None:
    from importlib.util import module_from_spec, spec_from_file_location

    spec: Any = spec_from_file_location(
        "socketless", os.path.join(_PACKAGE, "__init__.py"), submodule_search_locations=[_PACKAGE]
    )
    sys.modules["socketless"] = module = module_from_spec(spec)
    spec.loader.exec_module(module)


def _go_on() -> None:
    """Run the environment's own `sitecustomize`, as if this one were not there."""
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry) != _HERE]
    own = sys.modules.pop("sitecustomize", None)
    try:
        __import__("sitecustomize")
    except ImportError as error:
        if error.name != "sitecustomize":
            raise
    finally:
        if own is not None:
            sys.modules.setdefault("sitecustomize", own)


if os.environ.get("SOCKETLESS_LOOPBACK") and sys.version_info >= (3, 10):
    _watch_executions()  # first: what is next ends it, if sockets are there already
    _after_import("socket", _install)
    _after_import("subprocess", _watch_programs)
_go_on()
