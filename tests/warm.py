"""Runs `python -m socketless` many times, and imports its command line once: each time it is a fork of one process.

A fork has what a command that is started has: standard streams, folder, environment, `sys.path` and `__main__` of its
own, and Python's own end. What depends on when something is imported is not for this.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import runpy
import select
import signal
import subprocess
import sys
import types
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import nosock

MODULES = [
    *("doctor", "request", "run", "serve"),  # of socketless.cli
    *("socketless.host.process", "socketless.transport", "socketless.unix_server", "rich.console", "rich.syntax"),
]
FLAGS = (os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)


class Warm:
    """The process that is forked. Ends with this one."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        atexit.register(self.close)

    def close(self) -> None:
        with self._process:  # closes its standard input, which ends it, and waits
            pass

    def run(
        self,
        args: Sequence[str],
        profile: str | None,
        streams: Sequence[str],
        folder: Path,
        env: Mapping[str, str],
        timeout: float,
    ) -> int:
        """Run `python -m socketless` under a profile of nosock.py or none, with its three streams in files that exist.

        Returns:
            its exit code.

        Raises:
            subprocess.TimeoutExpired: it takes too long; it has been killed.
        """
        job = {"args": args, "profile": profile, "streams": streams, "folder": str(folder), "env": dict(env)}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(job).encode() + b"\n")
        self._process.stdin.flush()
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            os.killpg(self._process.pid, signal.SIGKILL)
            start.cache_clear()
            raise subprocess.TimeoutExpired([*args], timeout)
        return int(self._process.stdout.readline())


@cache
def start() -> Warm:
    """Return the one of this process."""
    return Warm()


# The other side


def serve() -> dict[str, Any] | None:
    """Fork for each command; return it in the fork, and `None` when there are no more."""
    for line in sys.stdin.buffer:
        job: dict[str, Any] = json.loads(line)
        pid = os.fork()
        if pid == 0:
            return job
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return None


def become(job: dict[str, Any]) -> None:
    """Let this process look as if Python had just been started with this command."""
    for fd, path in enumerate(job["streams"]):
        opened = os.open(path, FLAGS[fd] | os.O_NOCTTY)
        os.dup2(opened, fd)
        os.close(opened)
    for name, mode, fd in (("stdin", "r", 0), ("stdout", "w", 1), ("stderr", "w", 2)):
        before = getattr(sys, name)
        stream = open(fd, mode, 1 if os.isatty(fd) or fd == 2 else -1, before.encoding, before.errors, closefd=False)
        stream.buffer.raw.name = f"<{name}>"  # type: ignore[attr-defined]
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    ours = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    theirs = [entry for entry in job["env"].get("PYTHONPATH", "").split(os.pathsep) if entry]
    os.chdir(job["folder"])
    os.environ.clear()
    os.environ.update(job["env"])
    sys.path[:] = [job["folder"], *theirs, *(entry for entry in sys.path[1:] if entry not in ours)]
    sys.argv[:] = ["-m", *job["args"]]
    sys.modules["__main__"] = types.ModuleType("__main__")
    if job["profile"] is not None:
        nosock.install(job["profile"])


if __name__ == "__main__":
    for each in MODULES:
        import_module(each if "." in each else f"socketless.cli.{each}")
    gc.freeze()
    command = serve()
    if command is not None:
        become(command)
        runpy._run_module_as_main("socketless")  # type: ignore[attr-defined]  # what Python itself calls for -m
