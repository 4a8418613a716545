# pyright: strict
"""The app of `test_typed.py`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment

items: list[str] = []


def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    if environ["REQUEST_METHOD"] == "POST":
        items.append(environ["QUERY_STRING"])
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [" ".join(items).encode()]


def reset() -> None:
    items.clear()
