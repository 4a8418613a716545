"""From the message of a failure in the worker back to an exception."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from socketless.errors import AppError
from socketless.wire import codec
from socketless.wire.messages import Failed


class WorkerTraceback(Exception):
    """The cause of an exception that was raised in a worker: its traceback there, as text."""

    def __str__(self) -> str:
        return f"\n\nin the worker:\n{self.args[0].rstrip()}"


def exception_of(failed: Failed, loads: Callable[[bytes], Any] = codec.loads) -> BaseException:
    """Return what the worker raised, as its own type where it could cross, else an `AppError`."""
    error: BaseException | None = None
    if failed.pickled is not None:
        try:
            error = loads(failed.pickled)
        except Exception:  # its class is not importable here, or its module fails here
            error = None
    if not isinstance(error, BaseException):
        return AppError(failed.summary, failed.traceback)
    error.__cause__ = WorkerTraceback(failed.traceback)
    return error
