"""Runs the command line for real: what a person sees in a pipe and on a terminal, and the exit codes."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
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
    """Return what follows `python` and the profile of a command, if it is `MODULE`, under a profile or none."""
    profile = None
    if command[:2] == [sys.executable, str(Path(nosock.__file__).resolve())]:
        profile, command = command[2], command[3:]
    return (command[1:], profile) if command[: len(MODULE)] == MODULE else None


def run(
    command: list[str],
    stdin: bytes = b"",
    *,
    folder: Path = TESTS,
    env: dict[str, str] | None = None,
    afresh: bool = False,
) -> Outcome:
    """Run a command with its streams in pipes.

    Args:
        afresh: start `MODULE`, too; by default, it runs in a fork of what has imported it, with its streams in files.
    """
    known = None if afresh else as_warm(command)
    if known is not None:
        command_line = warm.start("the command line")
        code, stdout, stderr = command_line.capture(*known, folder, environment(env), LIMIT, stdin)
        return Outcome(code, stdout.decode("utf-8", "surrogateescape"), stderr.decode())
    done = subprocess.run(
        command, check=False, input=stdin, capture_output=True, cwd=folder, env=environment(env), timeout=LIMIT
    )
    return Outcome(done.returncode, done.stdout.decode("utf-8", "surrogateescape"), done.stderr.decode())


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
    known = as_warm(command)
    master, slave = pty.openpty()
    outputs = [os.ttyname(slave), os.devnull]
    streams = [os.devnull, *(reversed(outputs) if stderr else outputs)]
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read_to_end, master)
        try:
            if known is not None:
                code = warm.start("the command line").run(*known, streams, TESTS, environment(env), LIMIT)
            else:
                code = run_with_streams(command, streams, environment(env))
        finally:
            os.close(slave)
        text = reading.result()
    os.close(master)
    return code, text


def run_with_streams(command: list[str], paths: list[str], env: dict[str, str]) -> int:
    """Run a command with its three streams in these files; return its exit code."""
    with ExitStack() as stack:
        streams = [stack.enter_context(open(path, mode)) for path, mode in zip(paths, ("rb", "wb", "wb"), strict=True)]
        done = subprocess.run(
            command, stdin=streams[0], stdout=streams[1], stderr=streams[2], cwd=TESTS, env=env, timeout=LIMIT
        )
    return done.returncode


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def traceback_of(text: str) -> str:
    """Return a traceback without what depends on the Python version and on where the lines are."""
    text = re.sub(r"^ *[~^]+\n", "", text, flags=re.MULTILINE)
    return re.sub(r"line \d+", "line N", text)
