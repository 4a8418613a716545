"""A fork that its caller means."""

from __future__ import annotations

import re
import warnings

from socketless.genuine import os

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
