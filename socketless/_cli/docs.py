"""`socketless docs [TOPIC]`: the documentation, which is installed with the package and needs no network."""

from __future__ import annotations

import re
import sys
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, metadata
from io import TextIOWrapper
from pathlib import Path

import click

from socketless._cli.output import show
from socketless._extras import DISTRIBUTION

__all__ = ["command"]

_FOLDER = Path(__file__).parent.parent / "docs"
_CHANGELOG = "=========\nChangelog\n=========\n"  # the metadata have both documents, one after the other
_MOST_MENTIONS = 5


@click.command("docs", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("topic", required=False)
@click.option("--list", "wants_list", is_flag=True, help="List the topics, with one line on each.")
def command(topic: str | None, wants_list: bool) -> None:
    """Print a page of the documentation, or list the topics.

    On a terminal, a pager shows the page, in colours if rich is installed. Elsewhere, it is plain reStructuredText.

    Exits with 2 if there is no such topic.
    """
    pages = _read_pages()
    if topic is None or wants_list:
        text = _list(pages)
    elif topic.lower() in pages:
        text = pages[topic.lower()]
    else:
        raise click.UsageError(f"There is no topic {topic!r}. {_hint(topic.lower(), pages)}")
    # Where the locale has no arrows, a question mark takes the place of each.
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    show(text, "rst")


def _read_pages() -> dict[str, str]:
    pages = {path.stem: path.read_text(encoding="utf-8") for path in sorted(_FOLDER.glob("*.rst"))}
    try:
        readme, _, changelog = metadata(DISTRIBUTION)["Description"].partition(_CHANGELOG)
    except PackageNotFoundError:  # the sources are on sys.path, and nothing is installed
        return pages
    return {**pages, "changelog": _CHANGELOG + changelog, "readme": readme}


def _list(pages: dict[str, str]) -> str:
    longest = max(map(len, pages))
    lines = [f"  {topic:{longest}}  {_first_line(text)}" for topic, text in pages.items()]
    return "\n".join(["Topics, for socketless docs TOPIC:", *lines, ""])


def _first_line(page: str) -> str:
    """Return the first sentence below the title."""
    _, _, _, below = page.split("\n", 3)
    return " ".join(below.strip().partition("\n\n")[0].split())


def _hint(topic: str, pages: dict[str, str]) -> str:
    near = get_close_matches(topic, pages)
    if near:
        return f"Write {' or '.join(f'socketless docs {name}' for name in near)}."
    mentions = {name: len(re.findall(rf"\b{re.escape(topic)}", text, re.IGNORECASE)) for name, text in pages.items()}
    most = sorted(filter(mentions.get, mentions), key=lambda name: -mentions[name])[:_MOST_MENTIONS]
    if most:
        return f"These mention the word: {', '.join(most)}."
    return "Write socketless docs --list."
