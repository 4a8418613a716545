"""Apps for tests/host/test_memory.py, and what it asks of a worker, which imports them sooner than the tests."""

from __future__ import annotations

import gc
import logging
import os
import sys
from pathlib import Path
from typing import Any


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    print("printed")
    logging.getLogger("app").warning("logged")
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/boom":
        raise LookupError
    return [b"a piece", b"another"]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    print("printed")
    if scope["type"] != "http" or scope["path"] == "/boom":
        raise LookupError
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a piece", "more_body": True})
    await send({"type": "http.response.body", "body": b"another"})


def quiet(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [environ["wsgi.input"].read()]


def blocks() -> int:
    gc.collect()
    return sys.getallocatedblocks()


def resident() -> float:
    """Return the resident memory of this process, in MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
