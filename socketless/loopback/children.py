"""The Python processes that this one starts get virtual sockets by their environment: PYTHONPATH has a `sitecustomize`.

It is not there for who is started with `-I`, `-E` or `-S`, or with an environment made from nothing.
"""

from __future__ import annotations

import os

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


def _entries() -> list[str]:
    value = os.environ.get(_VARIABLE)
    return value.split(os.pathsep) if value else []
