"""From an exception in the worker to a message that the host can raise again."""

from __future__ import annotations

import traceback

from socketless.wire import codec
from socketless.wire.messages import Failed, Response
from socketless.worker.stacks import format_exception


def failed(error: BaseException, response: Response | None = None) -> Failed:
    """Describe an exception; `response` is what the app had answered before it raised."""
    summary = "".join(traceback.format_exception_only(type(error), error)).rstrip()
    return Failed(_pickle(error), summary, format_exception(error), response)


def _pickle(error: BaseException) -> bytes | None:
    # Many an exception can be pickled and not be rebuilt (its __init__ wants other arguments): try both here, where
    # the host still can be told.
    try:
        pickled = codec.dumps(error)
        rebuilt = codec.loads(pickled)
    except Exception:
        return None
    return pickled if type(rebuilt) is type(error) else None
