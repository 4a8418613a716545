"""From an exception in the worker to a message that the host can raise again."""

from __future__ import annotations

import asyncio
import traceback
from itertools import dropwhile

from socketless.errors import ClientDisconnected
from socketless.wire.exceptions import members_of
from socketless.wire.messages import Chunk, Failed, Response
from socketless.worker.stacks import hide_our_frames


def failed(error: BaseException, response: Response | Chunk | None = None) -> Failed:
    """Describe an exception; `response` is the end of the app's response, if that was complete before it raised.

    From then on, its traceback has no frame of this package.
    """
    lines = traceback.format_exception_only(type(error), error)
    summary = "".join(dropwhile(_is_of_the_code, lines)).rstrip()
    hide_our_frames(error)
    return Failed(error, summary, "".join(traceback.format_exception(error)), response)


def _is_of_the_code(line: str) -> bool:
    return line.startswith("  ")  # where a SyntaxError is; its traceback says it, too


def is_disconnection(error: BaseException) -> bool:
    """Return whether an app raised only because it was told that its client has gone."""
    members = members_of(error)
    if members:
        return all(is_disconnection(each) for each in members)
    if isinstance(error, (asyncio.CancelledError, ClientDisconnected)):
        return True
    name = type(error).__name__
    if name == "WebSocketDisconnect":  # of Starlette, which raises it for other reasons, too
        return isinstance(error.__context__, ClientDisconnected)
    return name in ("ClientDisconnect", "ClientDisconnected")  # of Starlette and werkzeug
