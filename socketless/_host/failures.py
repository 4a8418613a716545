"""From the message of a failure in the worker back to an exception."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from socketless._wire.exceptions import unpack
from socketless._wire.import_strings import LoadError
from socketless._wire.messages import Failed
from socketless._wire.pickling import loads
from socketless.errors import AppError, AppProtocolError, WorkerStartError


def exception_of(failed: Failed, loads: Callable[[bytes], Any] = loads) -> BaseException:
    """Return what the worker raised, with its traceback there and all that it is linked to.

    It is of its own type where that could cross, and `loads` finds it here, else an `AppError`.
    """
    if isinstance(failed.error, BaseException):
        return failed.error
    try:
        error = unpack(failed.error, loads)
    except Exception:  # out of what the exception's own class does as its traceback and notes are given to it
        error = None
    return AppError(failed.summary, failed.traceback) if error is None else error


def start_error(failed: Failed, printed: str) -> WorkerStartError:
    """Return the error of a worker that could not start. Its cause is what the app raised, if it did."""
    cause: BaseException | None = exception_of(failed)
    explained = isinstance(cause, (LoadError, AppProtocolError))
    text = str(cause) if explained else f"{failed.summary}\n{failed.traceback.rstrip()}"
    error = WorkerStartError(f"the worker could not start: {text}{printed}")
    error.__cause__ = cause.__cause__ if isinstance(cause, LoadError) else cause
    return error


def error_of_app(error: BaseException) -> BaseException:
    """Return what an app has raised in its lifespan, where the worker tells of its failure."""
    return error.__cause__ or error if isinstance(error, LoadError) else error
