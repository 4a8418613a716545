"""What several commands print. The colours of a language need rich, of the extra `cli`; the text is the same."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from rich.text import Text

__all__ = ["drop_stdout", "print_error", "print_highlighted", "show", "wants_colours"]


def wants_colours() -> bool | None:
    """Return whether the environment says yes or no to colours; `None`: a terminal gets them, and nothing else.

    As https://no-color.org and https://force-color.org have it, and as rich does.
    """
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") in ("dumb", "unknown"):
        return False
    return True if os.environ.get("FORCE_COLOR") else None


def print_error(error: BaseException) -> None:
    """Print an error's name, text and notes to stderr, without a traceback; the first line is red."""
    text = "\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", [])])
    first, newline, rest = text.partition("\n")
    click.echo(click.style(first, "red") + newline + rest, err=True, color=wants_colours())


def print_highlighted(text: str, language: str, file: TextIO) -> None:
    """Print text in a language, by a name or a media type that pygments knows; with rich, a terminal shows colours."""
    try:
        from rich.console import Console
    except ModuleNotFoundError:
        click.echo(text.rstrip(), file, color=True)  # what it has of its own
        return
    Console(file=file).print(_highlight(text, language), soft_wrap=True)


def show(text: str, language: str) -> None:
    """Write a long text to stdout: on a terminal in a pager, and in colours with rich; elsewhere as it is."""
    if not sys.stdout.isatty():
        click.echo(text, nl=False)
        return
    with suppress(ModuleNotFoundError):
        from rich.console import Console

        console = Console()
        with console.capture() as capture:
            console.print(_highlight(text, language), soft_wrap=True)
        text = capture.get()
    click.echo_via_pager(text)


def _highlight(text: str, language: str) -> Text:
    from pygments.lexers import get_lexer_for_mimetype  # type: ignore[import-untyped]
    from pygments.util import ClassNotFound  # type: ignore[import-untyped]
    from rich.syntax import Syntax

    if "/" in language:
        with suppress(ClassNotFound):
            language = get_lexer_for_mimetype(language).aliases[0]
    # Not printed as a Syntax, which fills each line with spaces, and breaks long ones: bad for copying.
    highlighted = Syntax("", language, theme="ansi_dark").highlight(text)
    highlighted.rstrip()
    return highlighted


def drop_stdout() -> None:
    """Let nothing more be written to stdout, or Python would try again at its exit and complain."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)
