"""The worker's standard streams: two files of the host's (`socketless._host.output`)."""

from __future__ import annotations

import io
import sys


def set_up_output() -> None:
    """Make what the app prints be there for the host line by line, whatever it is."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def flush_output() -> None:
    """Write what is still buffered: a line without its end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except BaseException:
            pass  # the app has closed it, or put something else there
