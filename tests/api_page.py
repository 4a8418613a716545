"""Makes `socketless/docs/api.rst` of the signatures and docstrings of the public names: `python tests/api_page.py`."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from textwrap import wrap
from typing import Any, NamedTuple

import socketless

__all__ = ["INTERNAL", "MODULES", "PATH", "Entry", "entries", "members", "parameters_of", "render"]

PATH = Path(socketless.__file__).parent / "docs" / "api.rst"
MODULES = (
    "socketless",
    "socketless.testclient",
    "socketless.websocket",
    "socketless.pytest_plugin",
    "socketless.testcase",
    "socketless.django",
    "socketless.playwright",
    "socketless.requests",
    "socketless.requests.testutils",
    "socketless.aiohttp",
    "socketless.lowlevel",
    "socketless.unix_server",
    "socketless.fakes",
    "socketless.eventloop",
    "socketless.loopback",
    "socketless.errors",
    "socketless.sandbox",
    "socketless.advice",
    "socketless.ipc",
)
# What the parts of the package have for each other.
INTERNAL = {
    "socketless.sandbox": {"is_fatal", "loopback_refusals", "product", "refusals", "wakeup_refusal"},
    "IpcProcess": {"exchange", "exchange_blocking", "in_flight", "max_body_bytes", "renew"},
    "IpcProcesses": {"exchange", "exchange_blocking", "in_flight", "max_body_bytes", "renew"},
    "IpcThread": {"exchange", "exchange_blocking", "in_flight", "max_body_bytes", "renew"},
    "IpcAdapter": {"send_raw"},
    "UnixAdapter": {"get_connection_with_tls_context"},
    "Serving": {"connect"},
    "Connection": {"begin", "can_go_on", "parse", "send"},
    "Cursor": {"next_field", "next_piece", "skip_body", "status_line"},
}
TREE = "├"  # a drawing of such a docstring is for users
HEAD = """\
===
api
===

The Python interface: every public name, and every argument.

The options of pytest's ini file are in ``socketless docs pytest``, those of the commands in ``socketless docs cli``.
(This page is made of the signatures and docstrings of the package, by ``python tests/api_page.py``.)
"""


class Entry(NamedTuple):
    """A public name."""

    name: str
    value: Any


def entries(module: str) -> Iterator[Entry]:
    """Yield the public names of a module."""
    home = importlib.import_module(module)
    for name in sorted(set(home.__all__) - INTERNAL.get(module, set()), key=str.lower):
        yield Entry(name, getattr(home, name))


def members(name: str, cls: type) -> Iterator[Entry]:
    """Yield the public members that a class of this package adds to those of the library's class that it comes from."""
    ours = [base for base in reversed(cls.__mro__) if base.__module__.startswith("socketless")]
    theirs = {name for base in cls.__mro__ if base not in ours for name in vars(base)}
    found = {member: value for base in ours for member, value in vars(base).items()}
    for member, value in sorted(found.items()):
        if not member.startswith("_") and member not in theirs | INTERNAL.get(name, set()):
            yield Entry(f"{name}.{member}", value)


def render() -> str:
    """Return the text of the page."""
    said: dict[int, str] = {}  # what has been described already, by its identity: its name
    return "\n".join([HEAD, *(line for module in MODULES for line in _of_module(module, said))]).rstrip() + "\n"


def _of_module(module: str, said: dict[int, str]) -> Iterator[str]:
    doc = inspect.getdoc(importlib.import_module(module)) or ""
    if TREE not in doc:  # the rest is for those who read the code
        doc, _, _ = doc.partition("\n\n")
    yield from ["", *_title(module, "="), *_prose(doc), ""]
    for name, value in entries(module):
        yield from [*_title(name, "-"), *_said_or_new(f"{module}.{name}", value, said)]
        if isinstance(value, type) and said[id(value)] == f"{module}.{name}":
            attributes = []
            for member, what in members(name, value):
                if _has_text(what):
                    yield from [*_title(member, "~"), *_said_or_new(f"{module}.{member}", what, said)]
                elif member.rpartition(".")[2] not in _names(value):
                    attributes.append(f"``{member.rpartition('.')[2]}{_default(what)}``")
            if attributes:
                yield from [*_title(f"Attributes of {name}", "~"), *_wrap(attributes)]


def _names(what: Any) -> set[str]:
    return {parameter.name for parameter in parameters_of(what)}


def _has_text(value: Any) -> bool:
    return (isinstance(value, property) and value.__doc__ is not None) or inspect.isfunction(value)


def _wrap(words: list[str]) -> Iterator[str]:
    yield from [*wrap(", ".join(words), 110, break_on_hyphens=False, break_long_words=False), ""]


def _said_or_new(name: str, value: Any, said: dict[int, str]) -> Iterator[str]:
    if callable(value) or isinstance(value, property):
        if said.setdefault(id(value), name) != name:
            yield from [f"The same as ``{said[id(value)]}``.", ""]
            return
    yield from _of_value(name, value)


def _title(text: str, line: str) -> list[str]:
    return [text, line * len(text), ""]


def _of_value(name: str, value: Any) -> Iterator[str]:
    what = getattr(value, "__func__", value)
    if isinstance(what, property):
        yield from [*_prose(inspect.getdoc(what.fget) or ""), ""]
    elif callable(what):
        if not isinstance(what, type) or _has_own_init(what):
            yield from ["::", "", *(f"    {line}" for line in _signature(name.rpartition(".")[2], what)), ""]
        yield from [*_prose(inspect.getdoc(what) or ""), ""]
    else:
        yield from [f"``{what!r}``", ""]


def _signature(name: str, what: Any) -> list[str]:
    parameters = [*parameters_of(what)]
    words = [*_words(parameters)]
    line = f"{name}({', '.join(words)})"
    return [line] if len(line) <= 100 else [f"{name}(", *(f"    {word}," for word in words), ")"]


def parameters_of(what: Any) -> Iterator[inspect.Parameter]:
    """Yield the parameters of a function, or of what makes an object of a class of this package."""
    if isinstance(what, type) and not _has_own_init(what):
        return
    for parameter in inspect.signature(what).parameters.values():
        if parameter.name not in ("self", "cls") and not parameter.name.startswith("_"):
            yield parameter


def _has_own_init(cls: type) -> bool:
    first = next(base for base in cls.__mro__ if "__init__" in vars(base))
    return first.__module__.startswith("socketless")


def _words(parameters: Iterable[inspect.Parameter]) -> Iterator[str]:
    for kind, group in groupby(parameters, lambda parameter: parameter.kind):
        if kind is inspect.Parameter.KEYWORD_ONLY:
            yield "*"
        for parameter in group:
            stars = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}.get(kind, "")
            yield f"{stars}{parameter.name}{_default(parameter.default)}"


def _default(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return ""
    if isinstance(default, type):
        return f"={default.__name__}"
    if isinstance(default, property) or type(default).__name__ == "classproperty":
        return ""
    return "=..." if " at 0x" in repr(default) or "object" in repr(default) else f"={default!r}"


# Of the docstrings, which are in Google's style


def _prose(text: str) -> Iterator[str]:
    """Yield a docstring as reStructuredText: its sections as lists of definitions, what is indented as it is."""
    section = ""
    is_literal = False
    for line in _joined(text.splitlines()):
        heading = re.fullmatch(r"(Args|Raises|Returns|Yields|Attributes)\b(.*):", line)
        if heading is not None:
            section, is_literal = heading[1], False
            yield from [f"*{'Arguments' if section == 'Args' else section}*{_inline(heading[2])}", ""]
        elif line and not line.startswith(" "):
            section, is_literal = "", False
            yield _inline(line)
        elif section in ("Args", "Raises", "Attributes") and re.match(r" {4}\S", line):
            names, _, what = line.strip().partition(": ")
            yield from [f"    {', '.join(f'``{name}``' for name in names.split(', '))}", f"        {_inline(what)}"]
        elif line and not section:
            if not is_literal:
                yield from ["::", ""]
            is_literal = True
            yield line
        else:
            yield _inline(line)


def _joined(lines: list[str]) -> Iterator[str]:
    """Join what a long list of names has been broken into."""
    begin = ""
    for line in lines:
        begin += line.strip() if begin else line
        if re.fullmatch(r" {4}[\w, ]+,", begin):
            begin += " "
        else:
            yield begin
            begin = ""


def _inline(line: str) -> str:
    line = re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", line)
    parts = re.split(r"(``[^`]+``)", line)
    return "".join(part if part.startswith("``") else re.sub(r"(\||_\b(?=\W|$))", r"\\\1", part) for part in parts)


if __name__ == "__main__":
    PATH.write_text(render(), encoding="utf-8")
