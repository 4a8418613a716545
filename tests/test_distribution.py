"""What the package is called where it is installed from: its metadata, and what the hints tell people to type."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import socketless
from socketless._extras import DISTRIBUTION, install_hint

ROOT = Path(__file__).parent.parent
PACKAGE = Path(socketless.__file__).parent
DOCUMENTS = ["README.rst", "CHANGELOG.rst", "tox.ini", "setup.cfg", ".ci/run", ".github/CONTRIBUTING.rst"]
PAGES = {path.relative_to(PACKAGE.parent).as_posix(): path.read_text() for path in PACKAGE.glob("docs/*.rst")}
INSTALLED = distribution(DISTRIBUTION)
EXTRAS = {*INSTALLED.metadata.get_all("Provides-Extra", [])}
OTHERS = {"pytest-django", "pytest-playwright", "tox", "trio"}  # what else a hint may name

# One requirement, in quotes of any kind or without; options before it are read over.
HINT = re.compile(r"""pip install((?: --?[\w-]+)*) +["']?([^\s"'`]+)""")


class Hint(NamedTuple):
    """A requirement that somebody is told to install."""

    place: str
    requirement: str


MODULES = {path.relative_to(PACKAGE.parent).as_posix(): path.read_text() for path in PACKAGE.rglob("*.py")}
TEXTS = {**MODULES, **PAGES, **{name: (ROOT / name).read_text() for name in DOCUMENTS}}
HINTS = [
    Hint(place, requirement)
    for place, text in TEXTS.items()
    for _, requirement in HINT.findall(text)
    if "{" not in requirement  # the template of install_hint(), whose calls are another matter
]


def extras_asked_for() -> Iterator[tuple[str, str]]:
    """Yield where the package gives an extra as an argument to the functions that make a hint of it, and which."""
    may_ask = {place: text for place, text in MODULES.items() if re.search(r"\b(install_hint|require)\b", text)}
    for place, text in may_ask.items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("install_hint", "require"):
                extra = node.args[-1]
                if place != "socketless/_extras.py":
                    assert isinstance(extra, ast.Constant), f"{place}: {ast.unparse(node)}"
                    yield place, extra.value


def test_metadata() -> None:
    """The distribution has another name than the package, and the package's version, command and plugin."""
    assert INSTALLED.version == socketless.__version__
    assert {(point.group, point.name) for point in INSTALLED.entry_points} == {
        ("console_scripts", "socketless"),
        ("pytest11", "socketless"),
    }


def test_urls() -> None:
    """There is an author, and the links go to where the distribution is, on PyPI."""
    assert INSTALLED.metadata["Author"] == "The socketless authors"
    assert "Copyright (c) 2026 The socketless authors" in (ROOT / "LICENSE").read_text()
    links = [link.split(", ")[1] for link in INSTALLED.metadata.get_all("Project-URL", [])]
    assert len(links) >= 2
    assert {link.partition("#")[0] for link in links} == {f"https://pypi.org/project/{DISTRIBUTION}/"}


@pytest.mark.parametrize("hint", HINTS, ids=lambda hint: f"{hint.place}:{hint.requirement}")
def test_hint(hint: Hint) -> None:
    """Whoever types what a text of the package says gets this distribution, and an extra that it has."""
    if hint.requirement.startswith((".", "/")):  # a folder
        _, _, extras = hint.requirement.rstrip("]").partition("[")
        assert EXTRAS.issuperset(filter(None, extras.split(",")))
        return
    requirement = Requirement(hint.requirement)
    if canonicalize_name(requirement.name) in OTHERS:
        return
    assert requirement.name == DISTRIBUTION
    assert requirement.extras <= EXTRAS


def test_hints_are_found() -> None:
    """The hints of README, and those of modules that need something else, are among them."""
    expected = {("README.rst", "."), ("README.rst", ".[test]"), ("socketless/_worker/runners.py", "trio")}
    assert expected <= {*HINTS}


@pytest.mark.parametrize(("place", "extra"), [*extras_asked_for()])
def test_extra_that_is_named(place: str, extra: str) -> None:
    """A module that says what to install names an extra that there is."""
    assert extra in EXTRAS, place
    assert install_hint(extra) == f"pip install '{DISTRIBUTION}[{extra}]'"


def test_import_name_is_no_distribution() -> None:
    """No text of the package names the other distribution together with an extra."""
    assert [place for place, text in TEXTS.items() if re.search(r"\bsocketless\[", text)] == []
