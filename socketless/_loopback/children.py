"""The Python processes that this one starts get virtual sockets by their environment: PYTHONPATH has a `sitecustomize`.

Processes that are started with `-I`, `-E` or `-S` do not get it. An environment that was made for a program, or in
which PYTHONPATH was set anew, gets it as well, see programs.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from socketless._loopback import families, folder

SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "site")
_VARIABLE = "PYTHONPATH"
_NAMES = (folder.VARIABLE, families.VARIABLE, families.ALONE)

_given: dict[str, str] = {}  # the other variables that programs get; none: they have real sockets


def add_to_environment() -> None:
    """Let processes that are started from now on have virtual sockets."""
    entries = _entries(os.environ)
    if SITE not in entries:
        os.environ[_VARIABLE] = os.pathsep.join([SITE, *entries])
    _given.update({name: os.environ[name] for name in _NAMES if name in os.environ})


def remove_from_environment() -> None:
    """Let them have real ones again."""
    _given.clear()
    entries = [entry for entry in _entries(os.environ) if entry != SITE]
    if entries:
        os.environ[_VARIABLE] = os.pathsep.join(entries)
    else:
        os.environ.pop(_VARIABLE, None)


def completed(environment: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return the environment of a program, with what lets it have virtual sockets.

    It is returned unchanged where the rescue is off, or where its SOCKETLESS_LOOPBACK is empty.
    """
    own = {os.fsdecode(name): value for name, value in environment.items()}
    is_off = not _given or not own.get(folder.VARIABLE, True)
    if is_off or (SITE in _entries(own) and own.keys() >= _given.keys()):
        return environment
    path = [SITE, *(entry for entry in _entries(own) if entry != SITE)]
    return {**_given, **own, _VARIABLE: os.pathsep.join(path)}


def inherited() -> Mapping[Any, Any] | None:
    """Return the environment of a program that gets this process's; `None`: the one that the system has."""
    own: Any = os.environ
    if not isinstance(own, os._Environ):  # a test's dictionary, which programs do not get
        return None
    environment = completed(own)
    return None if environment is own else environment


def _entries(environment: Mapping[str, Any]) -> list[str]:
    value = os.fsdecode(environment.get(_VARIABLE, ""))
    return value.split(os.pathsep) if value else []
