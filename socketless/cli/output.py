"""What several commands print."""

from __future__ import annotations

import os

from rich.console import Console
from rich.text import Text

__all__ = ["drop_stdout", "print_error"]


def print_error(error: BaseException) -> None:
    """Print an error's name, text and notes to stderr, without a traceback; the first line is red."""
    text = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    first, newline, rest = text.partition("\n")
    Console(stderr=True).print(Text.assemble((first, "red"), newline, rest), soft_wrap=True)


def drop_stdout() -> None:
    """Let nothing more be written to stdout, or Python would try again at its exit and complain."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)
