"""A WSGI app that reads files, for tests in which there are none."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    path = environ["PATH_INFO"]
    if path == "/boom":
        print("about to fail")
        logging.getLogger(__name__).warning("failing")
        raise LookupError("boom")
    start_response("200 OK", [("Content-Type", "text/plain")])
    if path == "/stream":
        return (bytes(1000) for _ in range(300))
    return [read(path)]


def read(path: str) -> bytes:
    if not os.path.isfile(path):
        return b"no file"
    with open(path, "rb") as file:
        return file.read()
