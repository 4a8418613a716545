"""README.rst and the pages of `socketless docs`, with their examples.

A block with a `:name:` is a file, `folder/file.py` or `file.py`. A console block is named `folder-what` and runs there.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import socketless
import warm
from support import no_plugins

__all__ = ["DOCUMENTS", "EXAMPLES", "PAGES", "ROOT", "Document", "fork", "run", "write_files"]

ROOT = Path(__file__).parent.parent

_SECONDS = 120  # only a hang takes as long

_BLOCK = re.compile(r"^\.\. code-block:: (\w+)\n(?:   :name: (\S+)\n)?\n((?:(?:   .*)?\n)+)", re.MULTILINE)


@dataclass(frozen=True)
class Document:
    """A document, and its blocks of code, each with its language and its name, which may be empty."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def text(self) -> str:
        return self.path.read_text()

    @property
    def blocks(self) -> list[tuple[str, str, str]]:
        return [
            (language, name, re.sub(r"^   ", "", body, flags=re.MULTILINE).strip("\n") + "\n")
            for language, name, body in _BLOCK.findall(self.text)
        ]

    @property
    def files(self) -> dict[str, str]:
        return {name: body for language, name, body in self.blocks if language in ("python", "ini")}

    @property
    def consoles(self) -> list[tuple[str, str]]:
        """The folder and the text of each console block that runs beside the files."""
        return [
            (name.partition("-")[0], body) for language, name, body in self.blocks if language == "console" and name
        ]

    @property
    def commands(self) -> list[str]:
        """The commands of the other ones."""
        found = [body for language, name, body in self.blocks if language == "console" and not name]
        return [body.removeprefix("$ ").strip() for body in found]


PAGES = [Document(path) for path in sorted((Path(socketless.__file__).parent / "docs").glob("*.rst"))]
DOCUMENTS = {document.name: document for document in [Document(ROOT / "README.rst"), *PAGES]}
EXAMPLES = {name: text for document in DOCUMENTS.values() for name, text in document.files.items()}


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write files into a folder."""
    for name, body in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body)


def run(args: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a folder, as if in a shell of the environment that runs these tests."""
    return subprocess.run(
        args, cwd=folder, env=_environment(args, folder), capture_output=True, text=True, timeout=_SECONDS
    )


def fork(args: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run Python with `args`, as `run()` does, in a fork of a process that has imported much."""
    env = _environment(args, folder)
    env["PYTEST_ADDOPTS"] += " -W 'ignore:Module already imported so cannot be rewritten; anyio'"
    code, stdout, stderr = warm.start("tests").capture(args, None, folder, env, _SECONDS)
    return subprocess.CompletedProcess(args, code, stdout.decode(), stderr.decode())


def _environment(args: list[str], folder: Path) -> dict[str, str]:
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "80"}
    needed = {"--cov": "pytest_cov", "--ds": "django", "--asyncio-mode=auto": "asyncio", "-n": "xdist"}
    plugins = ["pytest_httpserver"] if any("httpserver" in path.read_text() for path in folder.glob("*.py")) else []
    env["PYTEST_ADDOPTS"] = no_plugins(*plugins, *(needed[word] for word in args if word in needed))
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", ""), str(ROOT)]))
    return env
