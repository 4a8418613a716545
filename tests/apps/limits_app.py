"""Apps for tests/host/test_limits.py: a worker imports them sooner than the tests."""

from __future__ import annotations

import os
import sys
import threading
from typing import Any

RELEASE = threading.Event()


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    if environ["PATH_INFO"] == "/hang":
        RELEASE.wait()
    start_response("200 OK", [])
    return [repr(sys.argv).encode()]


def environ_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [repr([os.environ.get(name) for name in ("KEPT", "GONE", "OTHER", "NEW")]).encode()]
