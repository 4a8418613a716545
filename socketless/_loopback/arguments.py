"""The arguments of a socket's methods, checked as C does it, in its words."""

from __future__ import annotations

import sys
from _socket import MSG_TRUNC
from collections.abc import Iterable
from operator import index
from threading import TIMEOUT_MAX
from typing import Any

from socketless._loopback.state import Message

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


def seconds(timeout: Any) -> float | None:
    """Return a time limit."""
    if timeout is None:
        return None
    if not hasattr(timeout, "__float__") and not hasattr(timeout, "__index__"):
        raise TypeError(f"'{type(timeout).__name__}' object cannot be interpreted as an integer")
    seconds = float(timeout)
    if seconds != seconds:
        raise ValueError("Invalid value NaN (not a number)")
    if seconds < 0:
        raise ValueError("Timeout value out of range")
    if seconds > TIMEOUT_MAX:
        raise OverflowError("timestamp out of range for platform time_t")
    return seconds


def is_true(flag: Any) -> bool:
    """Return whether a flag is set. It had to be a number before Python 3.12."""
    return bool(flag if sys.version_info >= (3, 12) else index(flag))


def number(value: Any) -> int:
    """Return a number that C has room for in an `int`."""
    converted = index(value)
    if not -0x80000000 <= converted <= 0x7FFFFFFF:
        raise OverflowError("Python int too large to convert to C int")
    return converted


def readable(data: Any) -> memoryview:
    """Return the bytes of a buffer."""
    try:
        view = memoryview(data)
        if not view.contiguous:
            raise BufferError("memoryview: underlying buffer is not C-contiguous")
        return view
    except TypeError:
        raise TypeError(f"a bytes-like object is required, not '{type(data).__name__}'") from None


def iterable(values: Any, call: str, number: int) -> Iterable[Any]:
    """Return what is in an argument."""
    try:
        return list(values)
    except TypeError:
        raise TypeError(f"{call}() argument {number} must be an iterable") from None


def control(item: Any) -> tuple[int, int, bytes]:
    """Return a control message of `sendmsg()`."""
    try:
        level, kind, data = item
    except (TypeError, ValueError):
        raise TypeError("[sendmsg() ancillary data items] must be sequence of length 3") from None
    return index(level), index(kind), bytes(readable(data))


def check_room(size: Any) -> None:
    """Check the room for control messages."""
    if not 0 <= index(size) <= 0x7FFFFFFF:
        raise ValueError("invalid ancillary data buffer length")


def writable(buffer: Any, size: int, call: str, too_large: str = "buffer too small for requested bytes") -> memoryview:
    """Return the room that there is in a buffer."""
    view = memoryview(buffer).cast("B")
    if view.readonly:
        raise TypeError(f"{call}() argument 1 must be read-write bytes-like object, not {type(buffer).__name__}")
    if size < 0:
        raise ValueError(f"negative buffersize in {call}")
    if size > view.nbytes:
        raise ValueError(too_large)
    return view[:size] if size else view


def fill(view: memoryview, message: Message, flags: int) -> int:
    """Put what has been received into a buffer, and return how much it is."""
    view[: len(message.data)] = message.data
    return count(message, flags)


def count(message: Message, flags: int) -> int:
    """Return how much has been received; with MSG_TRUNC, how much it was before it was cut."""
    return max(message.length, len(message.data)) if flags & MSG_TRUNC else len(message.data)
