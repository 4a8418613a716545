"""`os.execve()` and its like: a program has virtual sockets whatever environment it is given."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

from socketless._loopback import children
from socketless._loopback.patches import Patches

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_NAMES = ("execve", "posix_spawn", "posix_spawnp")  # the others call these, or `execv()`
_execv = os.execv
_execve = os.execve


def execv(path: Any, argv: Any, /) -> None:
    """As `os.execv()`."""
    environment = children.inherited()
    if environment is None:
        _execv(path, argv)
    else:
        _execve(path, argv, environment)


def _completing(original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def start(path: Any, argv: Any, env: Any, **options: Any) -> Any:
        if env is None:  # since Python 3.13
            env = children.inherited()
        elif isinstance(env, Mapping):
            env = children.completed(env)
        return original(path, argv, env, **options)

    return start


def patch(patches: Patches) -> None:
    """Change what starts programs."""
    patches.set(os, "execv", execv)
    for name in _NAMES:
        original = getattr(os, name)
        completing = _completing(original)
        patches.set(os, name, completing)
        if original in os.supports_fd:
            os.supports_fd.add(completing)
