"""The Python processes that this one starts get virtual sockets by their environment: PYTHONPATH has a `sitecustomize`.

It is not there for who is started with `-I`, `-E` or `-S`. An environment that was made from nothing for
`subprocess.Popen` gets it as well, see programs.py.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from socketless._loopback import families, folder

SITE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "site")
_VARIABLE = "PYTHONPATH"


def add_to_environment() -> None:
    """Let processes that are started from now on have virtual sockets."""
    entries = _entries()
    if SITE not in entries:
        os.environ[_VARIABLE] = os.pathsep.join([SITE, *entries])


def remove_from_environment() -> None:
    """Let them have real ones again."""
    entries = [entry for entry in _entries() if entry != SITE]
    if entries:
        os.environ[_VARIABLE] = os.pathsep.join(entries)
    else:
        os.environ.pop(_VARIABLE, None)


def completed(environment: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """Return the environment that somebody has made for a program, with what lets it have virtual sockets.

    It stays as it is where that is off, or where it says something of that itself.
    """
    if SITE not in _entries() or folder.VARIABLE in environment:
        return environment
    names = (folder.VARIABLE, families.VARIABLE, families.ALONE)
    path = os.pathsep.join(filter(None, [SITE, environment.get(_VARIABLE)]))
    return {**environment, _VARIABLE: path, **{name: os.environ[name] for name in names if name in os.environ}}


def _entries() -> list[str]:
    value = os.environ.get(_VARIABLE)
    return value.split(os.pathsep) if value else []
