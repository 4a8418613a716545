"""Apps for `tests/host/test_run.py`."""

from __future__ import annotations

from typing import Any

names: list[str] = []


class Odd(Exception):
    """It pickles, and cannot be rebuilt."""

    def __reduce__(self) -> tuple[type[int], tuple[str]]:
        return int, ("no number",)


def make_odd() -> Odd:
    return Odd()


def wsgi(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", [])
    return [b""]


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body"})
