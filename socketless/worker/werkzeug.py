"""What a WSGI app made with werkzeug, as one of Flask is, gets and returns. Imported where the app has done so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from werkzeug.exceptions import BadRequest
from werkzeug.wrappers import Response
from werkzeug.wsgi import ClosingIterator

from socketless import errors


class ClientDisconnected(errors.ClientDisconnected, BadRequest):
    """Flask answers 400 to what is werkzeug's, too, and does not log it as an error of the app."""

    def __init__(self, text: str) -> None:
        errors.ClientDisconnected.__init__(self, text)
        self.description = text
        self.response = None


def callbacks_of(close: Any) -> Iterator[Any]:
    """Return what the `close()` of an iterable comes to: itself, or what that of an iterable of werkzeug's calls."""
    owner = getattr(close, "__self__", None)
    if isinstance(owner, ClosingIterator):
        callbacks = getattr(owner, "_callbacks", [_unknown])
    elif isinstance(owner, Response) and type(owner).close is Response.close:
        callbacks = [getattr(owner.response, "close", None), *getattr(owner, "_on_close", [_unknown])]
    else:
        yield close
        return
    for callback in callbacks:
        yield from callbacks_of(callback)


def _unknown() -> None:
    """Stand for what cannot be found out."""
