"""`socketless docs`: its pages, in a pipe and on a terminal, and what names them."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from commands import LIMIT, MODULE, Outcome, environment, read_to_end, run, without_colours
from documents import DOCUMENTS, PAGES, Document

DOCS = [*MODULE, "docs"]
TOPICS = [*(page.path.stem for page in PAGES), "changelog", "readme"]
USAGE = """\
Usage: socketless docs [OPTIONS] [TOPIC]
Try 'socketless docs --help' for help.

Error: """
PACKAGE = Path(__file__).parent.parent / "socketless"


@pytest.mark.parametrize("args", [[], ["--list"], ["--list", "rescue"]])
def test_list(args: list[str]) -> None:
    """The topics are listed, each with a sentence on a line of at most 120 characters."""
    code, text, stderr = run([*DOCS, *args])
    title, *lines = text.splitlines()
    assert (code, title, stderr) == (0, "Topics, for socketless docs TOPIC:", "")
    assert [line.split()[0] for line in lines] == TOPICS
    assert all(re.fullmatch(r"  \w+ +[A-Z].*\.", line) and len(line) <= 120 for line in lines)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path.stem)
def test_page(page: Document) -> None:
    """A pipe gets a page as it is."""
    assert run([*DOCS, page.path.stem]) == (0, page.text, "")


def test_capitals() -> None:
    """Capitals in a topic do not matter."""
    assert run([*DOCS, "Rescue"]) == run([*DOCS, "rescue"])


@pytest.mark.parametrize(("topic", "name"), [("readme", "README.rst"), ("changelog", "CHANGELOG.rst")])
def test_page_of_the_metadata(topic: str, name: str) -> None:
    """The README and the changelog are those that the package was installed with."""
    code, text, stderr = run([*DOCS, topic])
    start = (PACKAGE.parent / name).read_text().split("\n")[:3]
    assert (code, text.split("\n")[:3], stderr) == (0, start, "")


@pytest.mark.parametrize(
    ("topic", "hint"),
    [
        ("swich", "Write socketless docs switch."),
        ("test", "Write socketless docs pytest or socketless docs unittest."),
        ("SCM_RIGHTS", "These mention the word: rescue."),
        ("xyzzy", "Write socketless docs --list."),
    ],
)
def test_unknown_topic(topic: str, hint: str) -> None:
    """An unknown topic is an error, which names what is near, or mentions the word."""
    assert run([*DOCS, topic]) == Outcome(2, "", f"{USAGE}There is no topic {topic!r}. {hint}\n")


@pytest.fixture
def pager(tmp_path: Path) -> Path:
    """Write a pager that says that it is one, and shows the text."""
    path = tmp_path / "less"  # by this name click knows that it shows colours
    path.write_text("#!/bin/sh\necho '[pager]'\nexec cat\n")
    path.chmod(0o700)
    return path


def show(pager: Path, program: str = "-m socketless", **env: str) -> str:
    """Return what `docs errors` shows where stdin and stdout are a terminal."""
    master, slave = pty.openpty()
    command = [sys.executable, *shlex.split(program), "docs", "errors"]
    variables = environment({"PAGER": str(pager), **env})
    with ThreadPoolExecutor(1) as threads:
        reading = threads.submit(read_to_end, master)
        try:
            subprocess.run(command, stdin=slave, stdout=slave, stderr=slave, env=variables, timeout=LIMIT, check=True)
        finally:
            os.close(slave)
        text = reading.result()
    os.close(master)
    return text


def test_pager(pager: Path) -> None:
    """A terminal shows a page in a pager, in colours."""
    begin, _, text = show(pager).partition("\n")
    assert (begin, without_colours(text).rstrip()) == ("[pager]", DOCUMENTS["errors.rst"].text.rstrip())
    assert "\x1b[" in text


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_pager_without_colours(pager: Path, env: dict[str, str]) -> None:
    """NO_COLOR and a dumb terminal switch the colours off."""
    text = show(pager, **env)
    assert re.findall(r"\x1b\[[0-9;]*[39]\dm", text) == []
    assert DOCUMENTS["errors.rst"].text.rstrip() in without_colours(text)


WITHOUT_RICH = "import sys; sys.modules['rich'] = None; from socketless.__main__ import main; main()"


def test_pager_without_rich(pager: Path) -> None:
    """Without rich, the pager shows a page as it is."""
    text = show(pager, shlex.join(["-c", WITHOUT_RICH]))
    assert text.rstrip() == f"[pager]\n{DOCUMENTS['errors.rst'].text.rstrip()}"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_locale(encoding: str) -> None:
    """A locale without arrows shows question marks, not an error."""
    code, text, stderr = run([*DOCS, "architecture"], env={"PYTHONIOENCODING": encoding}, afresh=True)
    assert (code, stderr) == (0, "")
    assert "the worker process" in text


MENTION = re.compile(r"socketless docs ([a-z]+)")
TEXTS = {path.relative_to(PACKAGE.parent).as_posix(): path.read_text() for path in PACKAGE.rglob("*.py")}


def test_mentions() -> None:
    """Whoever types what the package or a document says gets a page."""
    texts = {**TEXTS, **{name: document.text for name, document in DOCUMENTS.items()}}
    mentions = {topic for text in texts.values() for topic in MENTION.findall(text)}
    assert mentions <= {*TOPICS}
    assert {*TOPICS} - mentions <= {"changelog", "readme"}
