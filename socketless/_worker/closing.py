"""Whether the `close()` of a WSGI app's iterable does anything, after the last of it."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator


def may_take_time(close: Any) -> bool:
    """Return whether a response should be sent before `close()` is called: that is one message more.

    It is false if there is none, and for what is known to do nothing: an exhausted generator, and what Flask and
    werkzeug return for a response without `call_on_close()`.
    """
    return any(map(_does_something, _callbacks_of(close)))


def _callbacks_of(close: Any) -> Iterator[Any]:
    """Yield what the `close()` of an iterable comes to: itself, or what that of an iterable of werkzeug's calls."""
    owner = getattr(close, "__self__", None)
    if isinstance(owner, ClosingIterator):
        callbacks = getattr(owner, "_callbacks", [_unknown])
    elif isinstance(owner, Response) and type(owner).close is Response.close:
        callbacks = [getattr(owner.response, "close", None), *getattr(owner, "_on_close", [_unknown])]
    else:
        yield close
        return
    for callback in callbacks:
        yield from _callbacks_of(callback)


def _unknown() -> None:
    """Stand for what cannot be found out."""


def _does_something(close: Any) -> bool:
    if close is None:
        return False
    owner = getattr(close, "__self__", None)
    return not (inspect.isgenerator(owner) and owner.gi_frame is None)
