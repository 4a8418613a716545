"""Runs the command line for real: what a person sees in a pipe and on a terminal, and the exit codes."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

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


def run(command: list[str], stdin: bytes = b"", *, folder: Path = TESTS, env: dict[str, str] | None = None) -> Outcome:
    """Run a command with its streams in pipes."""
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
    master, slave = pty.openpty()
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if stderr else slave,
        stderr=slave if stderr else subprocess.DEVNULL,
        cwd=TESTS,
        env=environment(env),
    ) as process:
        os.close(slave)
        text = read_to_end(master)
        os.close(master)
        return process.wait(LIMIT), text


def without_colours(text: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def traceback_of(text: str) -> str:
    """Return a traceback without what depends on the Python version and on where the lines are."""
    text = re.sub(r"^ *[~^]+\n", "", text, flags=re.MULTILINE)
    return re.sub(r"line \d+", "line N", text)
