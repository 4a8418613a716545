"""Runs the command line for real: what a person sees in a pipe and on a terminal, and the exit codes."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import nosock
import warm
from projects import environment as environment_of_projects

TESTS = Path(__file__).resolve().parent
MODULE = [sys.executable, "-m", "socketless"]
LIMIT = 60.0  # seconds for what takes less than one; only a defect reaches it


class Outcome(NamedTuple):
    code: int
    stdout: str
    stderr: str


def environment(env: dict[str, str] | None = None) -> dict[str, str]:
    return environment_of_projects(**{"TERM": "xterm-256color", "COLUMNS": "80", **(env or {})})


def as_warm(command: list[str]) -> tuple[list[str], str | None] | None:
    """Return what follows `python -m` and the profile of a command, if it is `MODULE`, under a profile or none."""
    profile = None
    if command[:2] == [sys.executable, str(Path(nosock.__file__).resolve())]:
        profile, command = command[2], command[3:]
    return (command[2:], profile) if command[: len(MODULE)] == MODULE else None


def call(command: list[str], streams: list[str], folder: Path, env: dict[str, str] | None) -> int:
    """Run a command, `MODULE` in a fork, with its three streams in these files; return its code."""
    known = as_warm(command)
    if known is not None:
        return warm.start("the command line").run(*known, streams, folder, environment(env), LIMIT)
    with ExitStack() as stack:
        stdin, stdout, stderr = (
            stack.enter_context(open(path, mode)) for path, mode in zip(streams, ("rb", "ab", "ab"), strict=True)
        )
        return subprocess.call(
            command, stdin=stdin, stdout=stdout, stderr=stderr, cwd=folder, env=environment(env), timeout=LIMIT
        )


def run(command: list[str], stdin: bytes = b"", *, folder: Path = TESTS, env: dict[str, str] | None = None) -> Outcome:
    """Run a command with its streams in files."""
    with tempfile.TemporaryDirectory() as directory:
        streams = [Path(directory, name) for name in ("stdin", "stdout", "stderr")]
        for path, content in zip(streams, (stdin, b"", b""), strict=True):
            path.write_bytes(content)
        code = call(command, [*map(str, streams)], folder, env)
        stdout, stderr = (path.read_bytes() for path in streams[1:])
    return Outcome(code, stdout.decode("utf-8", "surrogateescape"), stderr.decode())


def read_to_end(master: int) -> str:
    data = b""
    try:
        while piece := os.read(master, 65536):
            data += piece
    except OSError:  # EIO: the other side has closed it (Linux)
        pass
    return data.decode().replace("\r\n", "\n")


def run_on_terminal(command: list[str], *, stderr: bool = False, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command with stdout, or stderr, on a terminal of 80 columns; return the code and its text."""
    master, slave = pty.openpty()
    outputs = [os.ttyname(slave), os.devnull]
    streams = [os.devnull, *(reversed(outputs) if stderr else outputs)]
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read_to_end, master)
        try:
            code = call(command, streams, TESTS, env)
        finally:
            os.close(slave)
        text = reading.result()
    os.close(master)
    return code, text


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def traceback_of(text: str) -> str:
    """Return a traceback without what depends on the Python version and on where the lines are."""
    text = re.sub(r"^ *[~^]+\n", "", text, flags=re.MULTILINE)
    return re.sub(r"line \d+", "line N", text)
