"""From an exception in the worker to a message that the host can raise again."""

from __future__ import annotations

import asyncio
import traceback

from socketless.errors import ClientDisconnected
from socketless.wire import codec
from socketless.wire.messages import Chunk, Failed, Response
from socketless.worker.stacks import format_exception


def failed(error: BaseException, response: Response | Chunk | None = None) -> Failed:
    """Describe an exception; `response` is the end of the app's response, if that was complete before it raised."""
    summary = "".join(traceback.format_exception_only(type(error), error)).rstrip()
    return Failed(pickled(error), summary, format_exception(error), response)


def pickled(error: BaseException) -> bytes | None:
    """Pickle an exception, or return `None` if it cannot be rebuilt."""
    # Many an exception can be pickled and not be rebuilt (its __init__ wants other arguments): try both here, where
    # the host still can be told.
    try:
        data = codec.dumps(error)
        rebuilt = codec.loads(data)
    except Exception:
        return None
    return data if type(rebuilt) is type(error) else None


def is_disconnection(error: BaseException) -> bool:
    """Return whether an app raised only because it was told that its client has gone."""
    inner = getattr(error, "exceptions", ())  # of an ExceptionGroup, which Python 3.10 has from a package
    if inner:
        return all(is_disconnection(each) for each in inner)
    if isinstance(error, (asyncio.CancelledError, ClientDisconnected)):
        return True
    name = type(error).__name__
    if name == "WebSocketDisconnect":  # of Starlette, which raises it for other reasons, too
        return isinstance(error.__context__, ClientDisconnected)
    return name in ("ClientDisconnect", "ClientDisconnected")  # of Starlette and werkzeug
