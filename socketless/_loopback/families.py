"""Which address families are virtual: those that a sandbox refuses; and whether the others may be tried."""

from __future__ import annotations

import os
from _socket import AF_INET, AF_INET6, AF_UNIX
from collections.abc import Collection

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

# Of the environment, for the processes that are started.
VARIABLE = "SOCKETLESS_LOOPBACK_FAMILIES"
ALONE = "SOCKETLESS_LOOPBACK_ONLY"

_NAMES = {"inet": {AF_INET, AF_INET6}, "unix": {AF_UNIX}}

chosen: frozenset[int] = frozenset()


def choose(names: Collection[str] | None) -> None:
    """Choose what is virtual in this process, and in those that it starts; `None`: what they say, or else all.

    Raises:
        ValueError: there is no such family.
    """
    global chosen
    wanted = set(os.environ.get(VARIABLE, "").split(",")) - {""} if names is None else set(names)
    unknown = sorted(wanted - {*_NAMES})
    if unknown:
        raise ValueError(f"families must be of {', '.join(map(repr, _NAMES))}, not {unknown[0]!r}")
    wanted = wanted or {*_NAMES}
    chosen = frozenset().union(*(_NAMES[name] for name in wanted))
    os.environ[VARIABLE] = ",".join(sorted(wanted))


def choose_none() -> None:
    """Let no new socket of this process be virtual."""
    global chosen
    chosen = frozenset()


def forbid_real() -> None:
    """Let nobody of this process, or of those that it starts, even try a real socket: it might be killed for that."""
    os.environ[ALONE] = "1"


def are_real_forbidden() -> bool:
    """Whether nobody may."""
    return bool(os.environ.get(ALONE))
