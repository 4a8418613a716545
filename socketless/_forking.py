"""A fork that its caller means, and what is closed in every fork."""

from __future__ import annotations

import re
import warnings
import weakref
from typing import Protocol

from socketless._genuine import os

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


def fork() -> int:
    """Fork this process, as `os.fork()` does, whatever other threads it has.

    From Python 3.12 on, `os.fork()` warns of them. Where warnings are errors, from 3.15 on, it raises after it has
    forked: the parent then never learns of its child.
    """
    # Only what this module does warns no more. The filter stays: to put back the filters that were there before would
    # undo what another thread does to them meanwhile, as pytest.warns() does.
    warnings.filterwarnings("ignore", category=DeprecationWarning, module=re.escape(__name__))
    return os.fork()


class Closable(Protocol):
    """What holds a descriptor."""

    def close(self) -> None:
        """Give it back."""


_live: weakref.WeakSet[Closable] = weakref.WeakSet()


def close_in_forks(what: Closable) -> None:
    """Close it in every process that this one forks: a copy keeps the other side from seeing that this has ended it."""
    _live.add(what)


def _close_all() -> None:
    # Runs in every forked child.
    for each in list(_live):
        each.close()


os.register_at_fork(after_in_child=_close_all)
