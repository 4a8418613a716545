"""The recipes of `socketless docs recipes`, each with the packages that it is about: `tox -e recipes`.

Where a package is missing, its recipe is skipped.
"""

from __future__ import annotations

import re
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from documents import DOCUMENTS, run, write_files

RECIPES = DOCUMENTS["recipes.rst"]
# What the recipe in a folder needs, beside what the tests need anyway.
PACKAGES = {
    "mcp": ["mcp.server.mcpserver"],
    "s3": ["moto", "boto3"],
    "openapi": ["schemathesis"],
    "webtest": ["webtest", "wsgiproxy"],
    "chat": ["channels"],
    "graphql": ["strawberry"],
    "litestar": ["litestar"],
    "quart": ["quart"],
    "sanic": ["sanic"],
    "blacksheep": ["blacksheep"],
    "falcon": ["falcon"],
    "pyramid": ["pyramid"],
    "connexion": ["connexion"],
    "ninja": ["ninja"],
    "rest": ["rest_framework"],
}


def is_missing(name: str) -> bool:
    try:
        return find_spec(name) is None
    except ModuleNotFoundError:  # what it is in
        return True


@pytest.mark.parametrize(
    ("folder", "console"), RECIPES.consoles, ids=[f"{folder}-{text.strip()}" for folder, text in RECIPES.consoles]
)
def test_recipe(folder: str, console: str, tmp_path: Path) -> None:
    """The command of a recipe succeeds, and its tests do, on threads and in a process."""
    missing = [name for name in PACKAGES[folder] if is_missing(name)]
    if missing:
        pytest.skip(f"there is no {', '.join(missing)}: tox -e recipes has it")
    write_files(tmp_path, RECIPES.files)
    done = run([sys.executable, *console.split()[2:]], tmp_path / folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d passed", done.stdout)
