"""A WSGI app for tests/host/test_processes.py: it answers with the number of its process."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

resets: list[None] = []


def count_reset() -> None:
    resets.append(None)


def app(environ: dict[str, Any], start_response: Callable[..., object]) -> Iterable[bytes]:
    start_response("200 OK", [("Content-Type", "application/json")])
    if environ["PATH_INFO"] == "/stream":
        return _lines()
    if environ["PATH_INFO"] == "/exit":
        os._exit(3)
    if environ["PATH_INFO"] == "/meet":
        query = parse_qs(environ["QUERY_STRING"])
        _meet(Path(query["folder"][0]), int(query["count"][0]))
    return [json.dumps(os.getpid()).encode()]


def _lines() -> Iterator[bytes]:
    while True:
        yield f"{os.getpid()}\n".encode()


def _meet(folder: Path, count: int) -> None:
    """Wait until so many processes are here."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < count:
        time.sleep(0.001)
