"""README.rst and the pages of `socketless docs`, with their examples.

A block with a `:name:` is a file, `folder/file.py` or `file.py`. A console block is named `folder-what` and runs there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import socketless

__all__ = ["DOCUMENTS", "EXAMPLES", "PAGES", "ROOT", "Document"]

ROOT = Path(__file__).parent.parent

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
