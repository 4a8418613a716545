"""An app that prints, for tests/host/test_output.py: a worker imports it sooner than the tests."""

from __future__ import annotations

import sys
from typing import Any


class OnlyWrite:
    """A stream that has no more than it needs."""

    def write(self, text: str) -> int:
        return sys.__stdout__.write(text) if sys.__stdout__ else 0


def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    path = environ["PATH_INFO"]
    if path == "/only-write":
        sys.stdout = OnlyWrite()  # type: ignore[assignment]
    if path == "/dev-stdout":
        print("before", flush=True)
        with open("/dev/stdout", "a") as stdout:
            stdout.write("beside\n")
    if path == "/bytes":
        sys.stdout.buffer.write(b"caf\xe9 \xe2\x98\x83\n")
    if path == "/partial":
        sys.stdout.write("no line end")
    print("h\xe9llo \u2603 and plain")
    start_response("200 OK", [])
    return [" ".join(sys.argv).encode()]
