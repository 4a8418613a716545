"""What a WSGI app made with werkzeug, as one of Flask is, gets and returns. Imported where the app has done so."""

from __future__ import annotations

from collections.abc import Callable
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


def callbacks_of(owner: object, unknown: Callable[[], object]) -> list[Any] | None:
    """Return what the `close()` of an iterable of werkzeug's calls; `None`: it is none of those that are known.

    `unknown` stands for what cannot be found out.
    """
    if isinstance(owner, ClosingIterator):
        return list(getattr(owner, "_callbacks", [unknown]))
    if isinstance(owner, Response) and type(owner).close is Response.close:
        return [getattr(owner.response, "close", None), *getattr(owner, "_on_close", [unknown])]
    return None
