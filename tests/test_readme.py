"""The examples of README.rst, run as a reader would.

A block with a `:name:` is a file, `folder/file.py` or `file.py`. A console block is named `folder-what` and runs there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from support import LIMIT, no_plugins, unix_sockets_are_refused, without_path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.rst").read_text()

BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n(?:   :name: (\S+)\n)?\n((?:(?:   .*)?\n)+)", re.MULTILINE)
BLOCKS = [
    (language, name, re.sub(r"^   ", "", body, flags=re.MULTILINE).strip("\n") + "\n")
    for language, name, body in BLOCK.findall(README)
]
FILES = {name: body for language, name, body in BLOCKS if language in ("python", "ini")}
CONSOLES = [(name.partition("-")[0], body) for language, name, body in BLOCKS if language == "console" and name]
COMMANDS = [body.removeprefix("$ ").strip() for language, name, body in BLOCKS if language == "console" and not name]


def write_files(folder: Path, files: dict[str, str] = FILES) -> None:
    for name, body in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)


def run(args: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    # As if in a shell of the environment that runs these tests.
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "80"}
    needed = {"--cov": "pytest_cov", "--ds": "django"}
    env["PYTEST_ADDOPTS"] = no_plugins("pytest_httpserver", *(needed[word] for word in args if word in needed))
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", ""), str(ROOT)]))
    return subprocess.run(args, cwd=folder, env=env, capture_output=True, text=True, timeout=120)


def test_every_block_is_tested() -> None:
    """Every example is a file or a command that one of these tests runs."""
    assert all(name for language, name, _ in BLOCKS if language in ("python", "ini"))
    assert {name.partition("/")[0] for name in FILES if "/" in name} == {name for name, _ in CONSOLES}
    assert len(COMMANDS) == 2


@pytest.mark.parametrize(("name", "console"), CONSOLES, ids=lambda value: value.split("\n")[0])
def test_console(name: str, console: str, tmp_path: Path) -> None:
    """The commands of a section succeed, and print what the README shows."""
    if name == "unix" and unix_sockets_are_refused():
        pytest.skip("UNIX sockets are sockets, and this sandbox refuses them")
    write_files(tmp_path)
    command, *shown = console.splitlines()
    words = command.removeprefix("$ ").split()
    assert words[0] == "python"
    done = run([sys.executable, *words[1:]], tmp_path / name)
    assert done.returncode == 0, done.stdout + done.stderr
    if shown:
        assert done.stdout.strip() == "\n".join(shown).strip()
    else:
        assert re.search(r"\d passed|^OK$", done.stdout + done.stderr, re.MULTILINE)
        assert "warning" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "printed"),
    [
        ("why.py", "200\n"),
        (
            "errors.py",
            "the worker could not start: "
            "cannot import 'no_such_module:app': there is no module 'no_such_module' on sys.path\n",
        ),
    ],
)
def test_script(name: str, printed: str, tmp_path: Path) -> None:
    """A script of the README runs and prints what it should."""
    write_files(tmp_path)
    done = run([sys.executable, name], tmp_path)
    assert (done.returncode, without_path(done.stdout), done.stderr) == (0, printed, "")


CI = ROOT / ".ci" / "run"


def test_ci_runs_the_test_command() -> None:
    """`.ci/run` calls the README's test command, and then lint and types."""
    _, _, after = CI.read_text().partition(COMMANDS[1])
    assert re.search(r"^[^#\n]*\blint\b", after, re.MULTILINE)
    assert re.search(r"^[^#\n]*\btypes\b", after, re.MULTILINE)


@pytest.mark.parametrize("fails", ["", "python3", "pip", "python", "tox"])
def test_ci_fails(tmp_path: Path, fails: str) -> None:
    """It fails with whatever it calls."""
    programs = [tmp_path / ".venv" / "bin" / name for name in ("python3", "pip", "python", "tox")]
    texts = {str(path): f"#!/bin/sh\necho {path.name}\nexit {int(path.name == fails)}\n" for path in programs}
    write_files(tmp_path, {".ci/run": CI.read_text(), **texts})
    for path in programs:
        path.chmod(0o700)
    env = {"PATH": f"{programs[0].parent}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", ".ci/run"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=LIMIT)
    called = ["python3", "pip", "python", "pip", "tox"]
    assert done.stdout.split() == called[: called.index(fails) + 1 if fails else None]
    assert done.returncode == bool(fails)


def test_first_command_does_the_main_job(tmp_path: Path) -> None:
    """What the first command does after it has installed the package: ask an app that every Python has."""
    *_, command = COMMANDS[0].split(" && ")
    assert command.startswith(".venv/bin/socketless ")
    done = run([sys.executable, "-m", *command.removeprefix(".venv/bin/").split()], tmp_path)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "Hello world!")
