"""Whether the `close()` of a WSGI app's iterable does anything, after the last of it."""

from __future__ import annotations

import inspect
from typing import Any

from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator


def may_take_time(close: Any) -> bool:
    """Return whether a response should be sent before `close()` is called: that is one message more.

    It is false if there is none, and for what is known to do nothing: an exhausted generator, and what Flask and
    werkzeug return for a response without `call_on_close()`.
    """
    if close is None:
        return False
    owner = getattr(close, "__self__", None)
    if isinstance(owner, ClosingIterator):
        return any(map(may_take_time, getattr(owner, "_callbacks", [may_take_time])))
    if isinstance(owner, Response) and type(owner).close is Response.close:
        callbacks = [getattr(owner.response, "close", None), *getattr(owner, "_on_close", [may_take_time])]
        return any(map(may_take_time, callbacks))
    return not (inspect.isgenerator(owner) and owner.gi_frame is None)
