"""Whether the `close()` of a WSGI app's iterable does anything, after the last of it."""

from __future__ import annotations

import inspect
import sys
from typing import Any


def may_take_time(close: Any) -> bool:
    """Return whether a response should be sent before `close()` is called: that is one message more.

    It is false if there is none, and for what is known to do nothing: an exhausted generator, and what Flask and
    werkzeug return for a response without `call_on_close()`.
    """
    if close is None:
        return False
    owner = getattr(close, "__self__", None)
    if "werkzeug.wsgi" in sys.modules:
        from socketless.worker.werkzeug import callbacks_of

        callbacks = callbacks_of(owner, unknown=_unknown)
        if callbacks is not None:
            return any(map(may_take_time, callbacks))
    return not (inspect.isgenerator(owner) and owner.gi_frame is None)


def _unknown() -> None:
    """Stand for a function that may take its time."""
