"""An app that prints and logs much, for tests/host/test_files.py: a worker imports it sooner than the tests."""

from __future__ import annotations

import logging
import sys
from typing import Any

MIB = 1024 * 1024


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    sys.stdout.write("x" * MIB)
    sys.stderr.write("y" * MIB)
    for _ in range(16):
        logging.getLogger("app").warning("z" * (MIB // 16))
    start_response("200 OK", [])
    return []
