"""What a worker prints.

The worker's standard output and standard error are two files without a name. Files need no thread that empties them,
a worker never waits for one, and what was printed before a response is there when the response is: `forward()` writes
it to this process's `sys.stdout` and `sys.stderr`, where pytest's `capsys` sees it. The end of it is there even when
the worker was killed.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import sys
import tempfile
import threading
from typing import IO, TextIO

_TAIL_SIZE = 4096  # bytes of stderr that an error shows
_PIECE_SIZE = 64 * 1024


def _nameless_file() -> IO[bytes]:
    try:
        file: IO[bytes] = tempfile.TemporaryFile(buffering=0)
    except FileNotFoundError:  # no temporary directory that can be written to
        if not hasattr(os, "memfd_create"):  # Linux only
            raise
        file = open(os.memfd_create("socketless-output"), "w+b", buffering=0)
    # Whoever opens it again, as /dev/stdout, must not write over what is there.
    fcntl.fcntl(file, fcntl.F_SETFL, fcntl.fcntl(file, fcntl.F_GETFL) | os.O_APPEND)
    return file


class _Stream:
    def __init__(self) -> None:
        self._file = _nameless_file()
        self._position = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def fileno(self) -> int:
        return self._file.fileno()

    def forward(self, target: TextIO | None) -> None:
        while data := os.pread(self._file.fileno(), _PIECE_SIZE, self._position):
            self._position += len(data)
            if target is not None:
                _write(target, self._decoder.decode(data))

    def tail(self) -> str:
        size = os.fstat(self._file.fileno()).st_size
        data = os.pread(self._file.fileno(), _TAIL_SIZE, max(0, size - _TAIL_SIZE))
        text = data.decode("utf-8", "replace")
        return text if size <= _TAIL_SIZE else "..." + text.partition("\n")[2]

    def close(self) -> None:
        self._file.close()


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
    """The two files of one worker. Any thread may call it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._closed = False  # guarded by _lock
        self._stdout = _Stream()
        self._stderr = _Stream()

    def fileno(self) -> tuple[int, int]:
        """The descriptors to be the worker's 1 and 2."""
        return self._stdout.fileno(), self._stderr.fileno()

    def forward(self) -> None:
        """Write what has come since the last call to `sys.stdout` and `sys.stderr`."""
        with self._lock:
            if not self._closed:
                self._stdout.forward(sys.stdout)
                self._stderr.forward(sys.stderr)

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
            self._stdout.close()
            self._stderr.close()
