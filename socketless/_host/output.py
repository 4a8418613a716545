"""What a worker prints.

The worker's standard output and standard error are two files without a name. Files need no thread that empties them,
a worker never waits for one, and what was printed before a response is there when the response is: `forward()` writes
it to this process's `sys.stdout` and `sys.stderr`, where pytest's `capsys` sees it. The end of it is there even when
the worker was killed.

A third file holds what the worker reports: what its app logs and warns (`socketless._wire.reports`). Each report says
how much had been printed before it, and so `forward()` keeps the order.
"""

from __future__ import annotations

import codecs
import sys
from contextlib import ExitStack
from typing import TextIO

from socketless._host.files import NamelessFile, any_news
from socketless._host.reports import Replay, ReportReader, show
from socketless._locks import make_lock
from socketless._wire.reports import Frame, LogReport

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_TAIL_SIZE = 4096  # bytes of stderr that an error shows
_PIECE_SIZE = 64 * 1024


class _Stream:
    def __init__(self) -> None:
        self.file = NamelessFile(keep=_TAIL_SIZE)
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def forward(self, target: TextIO | None, end: int = sys.maxsize) -> None:
        while data := self.file.read_until(end, _PIECE_SIZE):
            if target is not None:
                _write(target, self._decoder.decode(data))

    def tail(self) -> str:
        data, is_cut = self.file.tail()
        text = data.decode("utf-8", "replace")
        return "..." + text.partition("\n")[2] if is_cut else text


def _write(target: TextIO, text: str) -> None:
    try:
        try:
            target.write(text)
        except UnicodeEncodeError:
            encoding = target.encoding or "ascii"
            target.write(text.encode(encoding, "backslashreplace").decode(encoding))
        target.flush()
    except Exception:
        pass  # the host has closed its own, or put something else there; no reason to lose a response


class WorkerOutput:
    """The three files of one worker. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = make_lock()  # a handler may make a request to the same worker
        self._closed = False  # guarded by _lock, like all below
        with ExitStack() as undo:  # or an error would hold what has been opened
            self._stdout = _Stream()
            undo.callback(self._stdout.file.close)
            self._stderr = _Stream()
            undo.callback(self._stderr.file.close)
            reports = NamelessFile()
            undo.pop_all()
        self._files = (self._stdout.file, self._stderr.file, reports)
        self._reader = ReportReader(reports)
        self._replay = Replay()

    def fileno(self) -> tuple[int, int, int]:
        """The descriptors to be the worker's 1 and 2, and the one for its reports."""
        stdout, stderr, reports = self._files
        return stdout.fileno(), stderr.fileno(), reports.fileno()

    def forward(self, *, quietly: bool = False) -> None:
        """Print, log and warn what the worker has since the last call, in order.

        Everything has been forwarded when it raises, and only the first error is raised; `quietly`, none is, and errors
        are shown on stderr.

        Raises:
            Warning: the app has warned, and a filter of this process says "error".
            Exception: a handler of this process has raised.
        """
        first_error: Exception | None = None
        with self._lock:
            if self._closed or not (any_news(self._files) or self._reader.has_rest):
                return
            while not self._closed:
                try:
                    frame = self._reader.next()
                    if frame is None:
                        self._stdout.forward(sys.stdout)
                        self._stderr.forward(sys.stderr)
                        break
                    self._forward(frame, quietly)
                except Exception as error:
                    if quietly:
                        show(error)
                    first_error = first_error or error
        if first_error is not None and not quietly:
            raise first_error

    def _forward(self, frame: Frame, quietly: bool) -> None:
        # Must be called with _lock held. It may come to forward() again, which then goes on with the next frame.
        self._stdout.forward(sys.stdout, frame.stdout_size)
        self._stderr.forward(sys.stderr, frame.stderr_size)
        if isinstance(frame.report, LogReport):
            self._replay.log(frame.report)
        else:
            self._replay.warn(frame.report, quietly=quietly)

    def tail(self, *, with_stdout: bool = False) -> str:
        """Return the last lines of standard error, after those of standard output if wanted."""
        with self._lock:
            if self._closed:
                return ""
            return (self._stdout.tail() if with_stdout else "") + self._stderr.tail()

    def close(self) -> None:
        """Forget what is there. May be called twice."""
        with self._lock:
            self._closed = True
            for file in self._files:
                file.close()
