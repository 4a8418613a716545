"""The page `socketless docs api` has every public name and every argument."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

import socketless
from api_page import INTERNAL, MODULES, PATH, entries, members, parameters_of, render

PACKAGE = Path(socketless.__file__).parent
ELSEWHERE = {"switch", "transport"}  # their names are those of `socketless`

NAMES = [(module, name, value) for module in MODULES for name, value in entries(module)]
MEMBERS = [
    (module, *member) for module, name, value in NAMES if isinstance(value, type) for member in members(name, value)
]
# Each once, by its first name: elsewhere the page says that it is the same.
FUNCTIONS = {
    id(value): (module, name, value)
    for module, name, value in reversed([*NAMES, *(each for each in MEMBERS if inspect.isfunction(each[2]))])
    if callable(value)
}.values()


def test_is_up_to_date() -> None:
    """The page is what `python tests/api_page.py` makes of the docstrings."""
    assert PATH.read_text(encoding="utf-8") == render(), "run: python tests/api_page.py"


def test_modules() -> None:
    """Each module of the package is on the page, or says by an underscore that it is private."""
    modules = {path.stem for path in [*PACKAGE.glob("*.py"), *(path.parent for path in PACKAGE.glob("*/__init__.py"))]}
    public = {module.split(".")[1] for module in MODULES if "." in module}
    assert {name for name in modules if not name.startswith("_")} - ELSEWHERE == public
    assert set(socketless.__all__) >= {
        name for module in ELSEWHERE for name in importlib.import_module(f"socketless.{module}").__all__
    } - {"Switch", "active_switch"}


def sections() -> dict[str, str]:
    """Return the text below each title of a module."""
    parts = re.split(r"^(socketless[\w.]*)\n=+\n", PATH.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.mark.parametrize("module", MODULES)
def test_names(module: str) -> None:
    """Every public name of a module has a title."""
    names = {*importlib.import_module(module).__all__} - INTERNAL.get(module, set())
    titles = {*re.findall(r"^(\w+)\n-+$", sections()[module], re.MULTILINE)}
    assert titles == names


@pytest.mark.parametrize(
    ("module", "name", "value"), FUNCTIONS, ids=[f"{module}:{name}" for module, name, _ in FUNCTIONS]
)
def test_arguments(module: str, name: str, value: Any) -> None:
    """Every argument is in the signature that the page shows; where a docstring explains arguments, it explains all."""
    names = {parameter.name for parameter in parameters_of(value)}
    _, _, below = sections()[module].partition(f"\n{name}\n")
    signature = re.match(r"\W+::\n\n    \w+(\(.*?\)$|\(\n.*?^    \)$)", below, re.DOTALL | re.MULTILINE)
    assert names == set() or (signature is not None and names <= {*re.findall(r"\w+", signature[1])})
    doc = inspect.getdoc(value) or ""
    assert doc
    if "\nArgs:\n" in doc:
        explained = names - {parameter.name for parameter in parameters_of(value) if "VAR" in parameter.kind.name}
        assert [each for each in explained if not re.search(rf"\b{each}\b", doc)] == []
