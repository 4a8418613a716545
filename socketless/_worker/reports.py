"""What the app logs and warns is reported to the host, which logs and warns it once more (`socketless._host.reports`).

A report is in the host's file when the call that caused it returns, so it is there before the response is. No thread is
needed for that, and no lock: a frame is one write at the end of the file.

Records are taken where `logging` gives them to handlers, not by a handler: `dictConfig()` and `basicConfig(force=True)`
would remove that, and because of it a plain `basicConfig()` would do nothing.
"""

from __future__ import annotations

import io
import logging
import sys
import warnings
from contextlib import suppress
from typing import Any, TextIO

from socketless._genuine import os
from socketless._wire.exceptions import pack, pickled
from socketless._wire.reports import Frame, LogReport, Report, WarningReport, encode, target_of
from socketless._worker.failures import failed

_SCALARS = (str, int, float, bool, type(None), bytes)
_LISTS = (list, tuple, set, frozenset)
_DEPTH = 6  # of lists in lists; what is deeper may hold itself

# What a report says in another way, or a formatter has left there.
_NOT_COPIED = ("msg", "args", "exc_info", "message", "asctime")

_broken = logging.NullHandler()  # its handleError() says on stderr what is wrong with a record


class HostsHandler(logging.NullHandler):
    """Stands for the handlers of the host's root logger.

    What asks whether there are any, as `logging.basicConfig()` and Flask do, finds one here, as it would in-process.
    """


def set_up_reports(fd: int, *, has_log_handlers: bool) -> None:
    """Report what is logged and warned from now on to the file `fd`. Must be called once, before the app is loaded.

    Args:
        fd: the file.
        has_log_handlers: whether the host's root logger has handlers.
    """
    os.set_inheritable(fd, False)  # not for the children of the app
    if has_log_handlers:
        logging.root.addHandler(HostsHandler())
    reporter = _Reporter(fd)
    reporter.take_records()
    reporter.take_warnings()
    os.register_at_fork(after_in_child=reporter.stop)


class _Reporter:
    """Writes the reports of this process. Any thread may call it."""

    def __init__(self, fd: int) -> None:
        self._fd: int | None = fd  # None in a process that the app has forked
        self._modules: dict[str, str] = {}  # their names by their files
        self._last_resort = logging.lastResort

    def stop(self) -> None:
        # Runs in a process that the app has forked. It may close all that it has inherited, and open files of its own.
        self._fd = None
        logging.lastResort = self._last_resort
        for handler in [each for each in logging.root.handlers if isinstance(each, HostsHandler)]:
            logging.root.removeHandler(handler)

    def take_records(self) -> None:
        """Report what is logged by any logger."""
        original, report = logging.Logger.callHandlers, self._report_record

        def callHandlers(self: logging.Logger, record: logging.LogRecord) -> None:
            try:
                original(self, record)
            finally:  # not before: a handler's filter may have given the record attributes that the test looks at
                report(self, record)

        logging.Logger.callHandlers = callHandlers  # type: ignore[method-assign]
        logging.lastResort = logging.NullHandler()  # the host knows whether there is a handler for it

    def take_warnings(self) -> None:
        """Report all warnings. The host's filters decide; only an "error" of the command line is for here, too."""
        warnings.resetwarnings()
        for option in sys.warnoptions:
            with suppress(warnings._OptionError):  # Python has said so
                warnings._setoption(option)  # type: ignore[attr-defined]
        filters: Any = warnings.filters
        filters[:] = [each if each[0] == "error" else ("always", *each[1:]) for each in filters]
        warnings.simplefilter("always", append=True)
        # The threads are this package's; the app may fork.
        warnings.filterwarnings("ignore", r"This process \(pid=\d+\) is multi-threaded", DeprecationWarning)
        warnings.showwarning = self._show_warning

    def _report_record(self, logger: logging.Logger, record: logging.LogRecord) -> None:
        if self._fd is None:
            return
        try:
            self._write(_describe(logger, record))
        except Exception:  # its arguments do not fit its message, perhaps
            _broken.handleError(record)

    def _show_warning(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if self._fd is not None and file is None:
            with suppress(Exception):
                self._report_warning(message, category, filename, lineno)
                return
        # What Python's own does; a forked worker cannot call that, where the host has put a list behind it.
        file = sys.stderr if file is None else file
        with suppress(AttributeError, OSError):  # there is none, or it cannot be written to
            file.write(warnings.formatwarning(message, category, filename, lineno, line))

    def _report_warning(self, message: Warning | str, category: type[Warning], filename: str, lineno: int) -> None:
        builtin = next(each for each in category.__mro__ if each.__module__ == "builtins")
        data = pickled(message) if isinstance(message, Warning) else None
        module = self._module_of(filename)
        self._write(WarningReport(data, builtin.__name__, str(message), filename, lineno, module))

    def _module_of(self, filename: str) -> str:
        module = self._modules.get(filename)
        if module is None:
            found = (name for name, each in list(sys.modules.items()) if getattr(each, "__file__", None) == filename)
            module = self._modules[filename] = next(found, filename.removesuffix(".py"))  # as warn_explicit() has it
        return module

    def _write(self, report: Report) -> None:
        for stream in (sys.stdout, sys.stderr):
            # Not what the app has put there instead: a stream that logs would never come to an end.
            if isinstance(stream, io.TextIOWrapper):
                with suppress(Exception):
                    stream.flush()
        frame = encode(Frame(report, _size(1), _size(2)))
        if self._fd is not None:
            with suppress(OSError):  # the disk is full
                os.write(self._fd, frame)


def _size(fd: int) -> int:
    try:
        return os.fstat(fd).st_size
    except OSError:
        return 0  # the app has closed it


def _describe(logger: logging.Logger, record: logging.LogRecord) -> LogReport:
    fields: dict[str, Any] = {
        name: value for name, value in vars(record).items() if name not in _NOT_COPIED and _is_plain(value)
    }
    fields["msg"], fields["args"] = record.msg, record.args
    if not (_is_plain(record.msg) and _is_plain(record.args)):
        fields["msg"], fields["args"] = record.getMessage(), None
    error = record.exc_info[1] if record.exc_info else None
    if record.exc_info and error is None:
        fields["exc_info"] = record.exc_info  # logged with exc_info=True where there was none
    has_handlers, taken_by, stops_at = False, set(), None
    each: logging.Logger | None = logger
    while each is not None:
        for handler in each.handlers:
            if isinstance(handler, HostsHandler):
                continue
            has_handlers = True
            target = target_of(handler) if record.levelno >= handler.level else None
            if target is not None:
                taken_by.add(target)
        if not each.propagate and each.parent is not None:
            stops_at = each.name
            break
        each = each.parent
    described = None
    if error is not None:
        message = failed(error)
        described = pack(error), message.summary, message.traceback
    return LogReport(fields, described, has_handlers, tuple(taken_by), stops_at)


def _is_plain(value: Any, depth: int = _DEPTH) -> bool:
    # Of exactly these types: a subclass would be imported by who reads it.
    kind = type(value)
    if kind in _SCALARS:
        return True
    if depth == 0:
        return False
    if kind in _LISTS:
        return all(_is_plain(each, depth - 1) for each in value)
    return kind is dict and all(_is_plain(each, depth - 1) for pair in value.items() for each in pair)
