"""Runs Python many times, and imports what its programs import once: each time it is a fork of one process.

A fork has what a command that is started has: standard streams, folder, environment, `sys.path` and `__main__` of its
own; and Python's own end, except that nothing is freed: that takes longer than most of the programs. What depends on
when something is imported, or on Python's options but `-W`, is not for this.
"""

from __future__ import annotations

import atexit
import gc
import io
import json
import multiprocessing.process
import os
import runpy
import select
import signal
import subprocess
import sys
import tempfile
import threading
import types
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import nosock

# What a worker needs that is forked.
WORKER = [
    f"socketless._worker.{name}" for name in ("asgi_http", "asgi_websocket", "lifespan", "main", "runners", "wsgi")
]

# What is imported before, by what it is for.
MODULES = {
    "the command line": [
        *WORKER,
        *(f"socketless._cli.{name}" for name in ("doctor", "request", "run", "serve")),
        *(
            "socketless._host.process",
            "socketless._httpx.transport",
            "socketless.unix_server",
            "rich.console",
            "rich.syntax",
        ),
    ],
    "tests": [
        *WORKER,
        *("pytest", "unittest", "asyncio", "httpx", "fastapi", "flask", "starlette.testclient"),
        *("socketless.testclient", "socketless.switch", "socketless._host.process", "socketless.sandbox"),
        *("faulthandler", "pdb"),  # of pytest
    ],
    "tests of Django": [
        *WORKER,
        *("pytest", "asyncio", "httpx", "socketless.django", "socketless._host.process", "socketless._host.thread"),
        *("django.core.management.commands.test", "django.test.runner", "django.db.backends.sqlite3.base"),
        *("django.core.handlers.asgi", "django.contrib.staticfiles.handlers"),
        *("faulthandler", "pdb", "socketless.sandbox"),
    ],
}
# What belongs to the processes that are forked here, and stays: no leak of the test that happens to come first.
PIDS: set[int] = set()
FDS: set[str] = set()
FLAGS = (os.O_RDONLY, os.O_WRONLY | os.O_APPEND, os.O_WRONLY | os.O_APPEND)


class Warm:
    """The process that is forked. Ends with this one."""

    def __init__(self, purpose: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).resolve()), purpose],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        PIDS.add(self._process.pid)
        FDS.update(str(stream.fileno()) for stream in (self._process.stdin, self._process.stdout))
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
        """Run `python` with `args`, under a profile of nosock.py or none, with its three streams in these files.

        Args:
            args: `-W ACTION` as often as it is needed, and then either `-m MODULE` or a script.

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

    def capture(
        self,
        args: Sequence[str],
        profile: str | None,
        folder: Path,
        env: Mapping[str, str],
        timeout: float,
        stdin: bytes = b"",
    ) -> tuple[int, bytes, bytes]:
        """Run a command as `run()` does; return its exit code, and what it has written to stdout and to stderr."""
        with tempfile.TemporaryDirectory() as streams:
            paths = [Path(streams, name) for name in ("stdin", "stdout", "stderr")]
            for path, content in zip(paths, (stdin, b"", b""), strict=True):
                path.write_bytes(content)
            code = self.run(args, profile, [*map(str, paths)], folder, env, timeout)
            return code, paths[1].read_bytes(), paths[2].read_bytes()


@cache
def start(purpose: str) -> Warm:
    """Return the one of this process."""
    return Warm(purpose)


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
    ours = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    theirs = [entry for entry in job["env"].get("PYTHONPATH", "").split(os.pathsep) if entry]
    os.chdir(job["folder"])
    multiprocessing.process.ORIGINAL_DIR = job["folder"]  # type: ignore[attr-defined]  # where children find the script
    os.environ.clear()
    os.environ.update(job["env"])
    for fd, path in enumerate(job["streams"]):
        opened = os.open(path, FLAGS[fd] | os.O_NOCTTY)
        os.dup2(opened, fd)
        os.close(opened)
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        stream = make_stream(fd, name)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    sys.path[:] = [job["folder"], *theirs, *(entry for entry in sys.path[1:] if entry not in ours)]
    sys.dont_write_bytecode = "PYTHONDONTWRITEBYTECODE" in os.environ
    sys.modules["__main__"] = types.ModuleType("__main__")
    if job["profile"] is not None:
        nosock.install(job["profile"])


def make_stream(fd: int, name: str) -> io.TextIOWrapper:
    """Make a standard stream as Python does."""
    before = getattr(sys, name)
    is_unbuffered = fd > 0 and "PYTHONUNBUFFERED" in os.environ
    raw = io.FileIO(fd, "wb" if fd else "rb", closefd=False)
    raw.name = f"<{name}>"
    buffer: Any = raw if is_unbuffered else io.BufferedWriter(raw) if fd else io.BufferedReader(raw)
    line_buffering = raw.isatty() or fd == 2
    return io.TextIOWrapper(buffer, before.encoding, before.errors, "\n", line_buffering, is_unbuffered)


def run_as_main(args: list[str]) -> None:
    """Do what `python` does with its arguments."""
    while args[0] == "-W":
        warnings.simplefilter(args[1])  # type: ignore[arg-type]
        sys.warnoptions.append(args[1])
        args = args[2:]
    if args[0] == "-m":
        sys.argv[:] = ["-m", *args[2:]]
        runpy._run_module_as_main(args[1])  # type: ignore[attr-defined]  # as Python does for -m
    else:
        sys.argv[:] = args
        main = sys.modules["__main__"]
        main.__file__ = args[0]
        exec(compile(Path(args[0]).read_bytes(), args[0], "exec"), main.__dict__)


def leave(code: object) -> None:
    """Do what Python does at its end, up to where it would free all that there is."""
    if code is not None and not isinstance(code, int):
        return  # it prints this
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with suppress(OSError):  # else, Python has something to say
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


if __name__ == "__main__":
    for each in MODULES[sys.argv[1]]:
        import_module(each)
    if "pytest" in sys.modules:  # which imports its own plugins only where it runs
        for each in sys.modules["_pytest.config"].default_plugins:
            import_module(f"_pytest.{each}")
    gc.freeze()
    command = serve()
    if command is not None:
        become(command)
        try:
            run_as_main(command["args"])
        except SystemExit as end:
            leave(end.code)
            raise
        leave(0)
