"""A guard ends a worker whose host was killed, where the worker cannot do that itself.

    host                    guard                             worker
    is killed ─ its pipes ─▶ reads the end ──────────────────▶ reads the end, and leaves within 1.5 s
                            becomes worker/descendants.py,     (or C code holds its GIL, or it is stopped,
                            kills what is left after 1.8 s ──▶  or it has become another program by exec)

It is a process, as nothing within a worker that is stopped can act; and a shell, since each worker has one, and that
starts in a tenth of the time of a Python (0.7 ms). While its host lives it waits; it goes with its worker.
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress
from typing import Any

from socketless._genuine import os
from socketless._host.spawn import subprocess
from socketless._wire.pipes import make_pipe
from socketless._worker import descendants

SHELL = "/bin/sh"
# $0 is the worker. Where no Python is to be had, no more than its own process group ends.
_PROGRAM = 'read -r nothing; "$@" "$0" || { sleep 2; kill -KILL "-$0"; }'


class Guard:
    """Watches over one worker for this process. Where no guard is to be had, the worker has to do without."""

    def __init__(self, worker: int) -> None:
        self._process: Any = None
        try:
            reader, self._writer = make_pipe()
        except OSError:  # no descriptor is to be had
            return
        try:
            self._process = subprocess.Popen(
                [SHELL, "-c", _PROGRAM, str(worker), sys.executable or "", "-I", "-S", descendants.__file__],
                stdin=reader.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",  # not where somebody may want to unmount
                start_new_session=True,
            )
        except OSError:  # there is no shell, or no process is to be had
            self._writer.close()
        finally:
            reader.close()

    def close(self) -> None:
        """Let it go: the worker has ended. To be called before the worker is reaped, while nobody has its number."""
        if self._process is not None:
            with suppress(OSError):  # somebody has reaped it
                os.kill(self._process.pid, signal.SIGKILL)
                os.waitpid(self._process.pid, 0)
            self.forget()

    def forget(self) -> None:
        """Let go of it without a word: this is a fork of the process whose child it is."""
        if self._process is not None:
            self._process.returncode = 0
            self._process = None
            self._writer.close()
