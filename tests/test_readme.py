"""The examples of README.rst and of the pages, run as a reader would: each document's by themselves, in a folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from documents import DOCUMENTS, EXAMPLES, ROOT, Document, fork, run, write_files
from support import LIMIT, has_chromium, unix_sockets_are_refused, without_path

README = DOCUMENTS["README.rst"]
CONSOLES = [
    (document, folder, text)
    for document in DOCUMENTS.values()
    if document.name != "recipes.rst"  # those are in test_recipes.py
    for folder, text in document.consoles
    if folder != "till"  # in test_coverage_py.py, with what it reports
]
# Documents, their scripts, and what these print.
SCRIPTS = [
    ("README.rst", "why.py", "200\n"),
    (
        "errors.rst",
        "errors.py",
        "the worker could not start: "
        "cannot import 'no_such_module:app': there is no module 'no_such_module' on sys.path\n",
    ),
]


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_every_block_is_tested(document: Document) -> None:
    """Every example is a file or a command that one of these tests runs."""
    assert len(document.blocks) == document.text.count("\n.. code-block::")
    assert all(name for language, name, _ in document.blocks if language in ("python", "ini"))
    folders = {name.partition("/")[0] for name in document.files if "/" in name}
    assert folders == {folder for folder, _ in document.consoles}
    assert {name for name in document.files if "/" not in name} == {
        name for place, name, _ in SCRIPTS if place == document.name
    }
    assert len(document.commands) == (2 if document is README else 0)


def test_names() -> None:
    """No two documents have files of the same name."""
    assert len(EXAMPLES) == sum(len(document.files) for document in DOCUMENTS.values())


def can_be_forked(document: Document, words: list[str]) -> bool:
    """Whether what a command imports first changes nothing of what the document says.

    README.rst's, which a reader runs first, are started nevertheless.
    """
    return document.name not in ("README.rst", "rescue.rst") and words[1:] in (["-m", "pytest"], ["-m", "unittest"])


@pytest.mark.parametrize("document", DOCUMENTS.values(), ids=DOCUMENTS)
def test_examples_import_what_they_use(document: Document) -> None:
    """No example relies on a submodule that only another import makes an attribute, which a fork might hide."""
    packages = re.compile(r"^ *import (?:socketless|starlette|concurrent|importlib|multiprocessing)\b", re.MULTILINE)
    assert [name for name, text in document.files.items() if packages.search(text)] == []


@pytest.mark.parametrize(
    ("document", "folder", "console"),
    CONSOLES,
    ids=[f"{folder}-{text.splitlines()[0]}" for _, folder, text in CONSOLES],
)
def test_console(document: Document, folder: str, console: str, tmp_path: Path) -> None:
    """The commands of a section succeed, and print what the document shows."""
    if folder == "unix" and unix_sockets_are_refused():
        pytest.skip("UNIX sockets are sockets, and this sandbox refuses them")
    if folder.startswith("browsers") and not has_chromium():
        pytest.skip("needs Chromium and pytest-playwright: tox -e browsers")
    write_files(tmp_path, document.files)
    command, *shown = console.splitlines()
    words = command.removeprefix("$ ").split()
    assert words[0] == "python"
    if can_be_forked(document, words):
        done = fork(words[1:], tmp_path / folder)
    else:
        done = run([sys.executable, *words[1:]], tmp_path / folder)
    assert done.returncode == 0, done.stdout + done.stderr
    if shown:
        assert done.stdout.strip() == "\n".join(shown).strip()
    else:
        assert re.search(r"\d passed|^OK$", done.stdout + done.stderr, re.MULTILINE)
        assert "warning" not in done.stdout + done.stderr


@pytest.mark.parametrize(("place", "name", "printed"), SCRIPTS)
def test_script(place: str, name: str, printed: str, tmp_path: Path) -> None:
    """A script of a document runs and prints what it should."""
    write_files(tmp_path, DOCUMENTS[place].files)
    done = run([sys.executable, name], tmp_path)
    assert (done.returncode, without_path(done.stdout), done.stderr) == (0, printed, "")


CI = ROOT / ".ci" / "run"


def test_ci_runs_the_test_command() -> None:
    """`.ci/run` calls the README's test command, and then lint and types, and the tests without extras."""
    _, _, after = CI.read_text().partition(README.commands[1])
    for name in ("lint", "types", "core"):
        assert re.search(rf"^[^#\n]*\b{name}\b", after, re.MULTILINE)


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
    *_, command = README.commands[0].split(" && ")
    assert command.startswith(".venv/bin/socketless ")
    done = run([sys.executable, "-m", *command.removeprefix(".venv/bin/").split()], tmp_path)
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, "Hello world!")
