"""An app for `socketless run`: it keeps items, and says where it runs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

items: list[str] = []


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    """Add the path's name to the items, and answer with all of them; or do what the path says."""
    name = environ["PATH_INFO"].strip("/")
    if name == "boom":
        raise LookupError("no such item")
    if name == "die":
        os._exit(7)
    if name == "pid":
        answer = str(os.getpid())
    elif name == "where":
        answer = f"{environ['HTTP_HOST']} {environ['SCRIPT_NAME']} {sys.argv[1:]}"
    else:
        items.append(name)
        answer = " ".join(items)
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [answer.encode()]


def reset() -> None:
    items.clear()


def fail() -> None:
    print("about to fail")
    raise OSError("the database is away")
