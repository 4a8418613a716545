"""What a worker reports beside its answers: records of `logging`, and warnings.

Reports go into a file, not over a pipe (`socketless._host.output` says why), one frame each, written as a whole. A
frame is a head (`!IQQ`: the length of the pickle, and how large the files of standard output and standard error were
just then) and the pickle. The sizes keep what was printed and what was logged in order.

A report is made of plain values, so that reading it imports nothing. Only an exception and a warning object are more,
and they are rebuilt where the host knows their classes already (`pickling.loads_known`).
"""

from __future__ import annotations

import logging
import struct
import sys
from dataclasses import dataclass
from typing import Any, NamedTuple

from socketless._wire.exceptions import Packed
from socketless._wire.pickling import dumps, loads

HEAD = struct.Struct("!IQQ")


@dataclass(frozen=True)
class LogReport:
    """A record that the app has logged."""

    record: dict[str, Any]  # attributes of the LogRecord that are plain values
    error: tuple[Packed, str, str] | None  # its exception: the first three fields of a `Failed`
    has_handlers: bool  # whether there was a handler for it in the worker, whatever that has done with it
    taken_by: tuple[str, ...]  # where handlers of the worker have written it: see target_of()
    stops_at: str | None  # the logger in the worker beyond which it was not propagated; None: it came to the root


@dataclass(frozen=True)
class WarningReport:
    """A warning that the app has caused."""

    pickled: bytes | None  # the warning object, where it can be pickled and rebuilt
    category: str  # its class, or the nearest base of it that is built in
    text: str
    filename: str
    lineno: int
    module: str


Report = LogReport | WarningReport

_TYPES: tuple[Any, ...] = (LogReport, WarningReport)


class Frame(NamedTuple):
    """A report, and what had been printed before it, in bytes."""

    report: Report
    stdout_size: int
    stderr_size: int


def encode(frame: Frame) -> bytes:
    """Return the bytes of a frame.

    Raises:
        TransferError: something in it cannot be pickled.
    """
    # A tuple: an object of its class takes cloudpickle three times as long.
    payload = dumps((_TYPES.index(type(frame.report)), *vars(frame.report).values()))
    return HEAD.pack(len(payload), frame.stdout_size, frame.stderr_size) + payload


def decode(payload: bytes) -> Report:
    """Return the report of a frame's pickle."""
    kind, *fields = loads(payload)
    report: Report = _TYPES[kind](*fields)
    return report


def target_of(handler: logging.Handler) -> str | None:
    """Return where a handler writes to, as far as two processes can do that both: "console", or the path of a file."""
    if isinstance(handler, logging.FileHandler):
        return handler.baseFilename
    stream = getattr(handler, "stream", None) or getattr(getattr(handler, "console", None), "file", None)  # rich's
    if stream is None:
        return None
    # A handler that was made while pytest captured has pytest's stream, which need not be sys.stderr any more.
    is_console = any(stream is each for each in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__))
    return "console" if is_console or type(stream).__module__ == "_pytest.capture" else None
