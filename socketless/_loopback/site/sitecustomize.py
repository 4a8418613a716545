"""Makes the sockets of a child process virtual, as those of the process that has started it are; see ../children.py.

It runs at the start of every Python process, in whatever environment, so it imports nothing but what is there anyway.
The work is done once somebody imports `socket`. Then comes the environment's own `sitecustomize`, if it has one.
"""

import os
import sys

TYPE_CHECKING = False  # as typing's, which not every process imports
if TYPE_CHECKING:
    from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))
_PACKAGE = os.path.dirname(os.path.dirname(_HERE))


class _SocketWatch:
    """A finder that finds nothing, but sees to it that something is done after `socket` is imported."""

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name != "socket":
            return None
        sys.meta_path.remove(self)
        for finder in sys.meta_path:
            find = getattr(finder, "find_spec", None)
            spec = find and find(name, path, target)
            if spec:
                _install_after(spec.loader)
                return spec
        return None


def _install_after(loader: "Any") -> None:
    run = loader.exec_module

    def exec_module(module: "Any") -> None:
        try:
            del loader.exec_module
        except AttributeError:
            pass
        run(module)
        _install()

    loader.exec_module = exec_module


def _install() -> None:
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
    if "socket" in sys.modules:
        _install()
    else:
        sys.meta_path.insert(0, _SocketWatch())
_go_on()
