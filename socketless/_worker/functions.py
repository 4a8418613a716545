"""Functions that the host has called in the worker: the reset hook, and those of `run()`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from socketless._wire.import_strings import load_path
from socketless._wire.messages import Call, Done, Message, Reset, Result
from socketless._wire.pickling import loads_by_name
from socketless.errors import TransferError


def function_of(message: Reset | Call, hook: Callable[[], Any] | None) -> Callable[[], Any]:
    """Return what is to be called.

    Raises:
        TransferError: it cannot be rebuilt here.
    """
    if isinstance(message, Reset):
        return hook if hook is not None else _nothing
    if isinstance(message.function, bytes):
        try:
            function: Callable[[], Any] = loads_by_name(message.function, load_path)
        except Exception as error:
            what = f"{message.label}: the function or an argument of it cannot be rebuilt in the worker"
            raise TransferError(f"{what}: {type(error).__name__}: {error}") from error
        return function
    return message.function


def answer_to(message: Reset | Call, result: Any) -> Message:
    """Return the last message for what the function has returned."""
    return Done() if isinstance(message, Reset) else Result(result)


def is_async(function: Callable[[], Any]) -> bool:
    """Return whether a function is to be called on the event loop."""
    inner = getattr(function, "func", function)  # of a partial
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(type(inner).__call__)


def _nothing() -> None:
    pass
