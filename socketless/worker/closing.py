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
    if "werkzeug.wsgi" in sys.modules:
        from socketless.worker.werkzeug import callbacks_of

        return any(map(_does_something, callbacks_of(close)))
    return _does_something(close)


def _does_something(close: Any) -> bool:
    if close is None:
        return False
    owner = getattr(close, "__self__", None)
    return not (inspect.isgenerator(owner) and owner.gi_frame is None)
