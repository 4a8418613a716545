"""What a worker has logged and warned, logged and warned once more here.

A record goes to this process's logger of the same name: its filters, its handlers, and those of the loggers above it.
Levels of loggers are not asked again; the worker has them (`socketless._host.levels`). A warning goes through this
process's filters, as if the app's module were here.
"""

from __future__ import annotations

import builtins
import logging
import sys
import traceback
import warnings
from contextlib import suppress
from typing import Any

from socketless._host.failures import exception_of
from socketless._host.files import NamelessFile
from socketless._wire.exceptions import traceback_at
from socketless._wire.messages import Failed
from socketless._wire.pickling import loads_known
from socketless._wire.reports import HEAD, Frame, LogReport, WarningReport, decode, target_of

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_PIECE_SIZE = 64 * 1024


class ReportReader:
    """Reads the frames of a file. One thread at a time may use it."""

    def __init__(self, file: NamelessFile) -> None:
        self._file = file
        self._read = b""  # what was read; the frames before `_start` have been returned
        self._start = 0

    @property
    def has_rest(self) -> bool:
        """Whether a part of what was read has not been returned."""
        return self._start < len(self._read)

    def next(self) -> Frame | None:
        """Return the next frame, `None` if there is none yet. It is never returned again."""
        while True:
            rest, size = len(self._read) - self._start, HEAD.size
            if rest >= size:
                length, stdout_size, stderr_size = HEAD.unpack_from(self._read, self._start)
                size += length
                if rest >= size:
                    payload = self._read[self._start + HEAD.size : self._start + size]
                    self._start += size
                    return Frame(decode(payload), stdout_size, stderr_size)
            data = self._file.read(max(_PIECE_SIZE, size - rest))
            if not data:
                return None
            self._read, self._start = self._read[self._start :] + data, 0


class Replay:
    """Logs and warns in this process. One thread at a time may use it."""

    def __init__(self) -> None:
        self._registries: dict[str, dict[str | tuple[str, type[Warning], int], int]] = {}  # `__warningregistry__`s

    def log(self, report: LogReport) -> None:
        """Give a record to the handlers of this process.

        Raises:
            Exception: what a handler raises, as that of pytest does for a record that cannot be formatted.
        """
        fields = dict(report.record)
        if report.error is not None:
            failed = Failed(*report.error)
            error = exception_of(failed, loads_known)
            fields["exc_info"] = type(error), error, None
            fields["exc_text"] = failed.traceback.rstrip("\n")
        record = logging.makeLogRecord(fields)
        logger = logging.getLogger(record.name)
        if logger.disabled or logger.manager.disable >= record.levelno:
            return
        if not report.has_handlers and report.stops_at is None:
            logger.handle(record)
            return
        kept: Any = logger.filter(record)
        if kept:
            _call_handlers(logger, kept if isinstance(kept, logging.LogRecord) else record, report)  # Python 3.12 on

    def warn(self, report: WarningReport, *, quietly: bool) -> None:
        """Warn as the filters of this process say; `quietly`, "error" counts as "always".

        So it does for what a finalizer warns: in-process, too, that comes at any time and cannot be raised.

        Raises:
            Warning: a filter says "error".
        """
        message: Any = None
        if report.pickled is not None:
            with suppress(Exception):  # its class is not known here
                message = loads_known(report.pickled)
        if not isinstance(message, Warning):
            message = getattr(builtins, report.category)(report.text)
        registry = self._registries.setdefault(report.module, {})
        try:
            warnings.warn_explicit(message, type(message), report.filename, report.lineno, report.module, registry)
        except Warning as error:
            if error is not message:
                raise
            if not quietly and not _is_of_finalizer(message):
                raise error.with_traceback(traceback_at(report.filename, report.lineno)) from None
            warnings.showwarning(message, type(message), report.filename, report.lineno)


def _is_of_finalizer(warning: Warning) -> bool:
    return isinstance(warning, ResourceWarning) or (
        isinstance(warning, RuntimeWarning) and "was never awaited" in str(warning)
    )


def _call_handlers(logger: logging.Logger, record: logging.LogRecord, report: LogReport) -> None:
    # As Logger.callHandlers() does it, without the handlers that have done their work in the worker.
    each: logging.Logger | None = logger
    found = report.has_handlers
    while each is not None:
        for handler in each.handlers:
            found = True
            if record.levelno >= handler.level and target_of(handler) not in report.taken_by:
                handler.handle(record)
        each = each.parent if each.propagate and each.name != report.stops_at else None
    last = logging.lastResort
    if not found and last is not None and record.levelno >= last.level:
        last.handle(record)


def show(error: Exception) -> None:
    """Say on stderr what cannot be raised."""
    with suppress(Exception):  # there is no stderr
        traceback.print_exception(type(error), error, error.__traceback__, file=sys.stderr)
