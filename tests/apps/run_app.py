"""Apps for `tests/host/test_run.py`."""

from __future__ import annotations

from typing import Any

names: list[str] = []


class Odd(Exception):
    """It pickles, and cannot be rebuilt."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(one + two)


def make_odd() -> Odd:
    return Odd(1, 2)


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b""]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})
