"""Apps that know no lifespan, for tests/worker/test_lifespan.py: a worker imports them sooner than the tests."""

from __future__ import annotations

from typing import Any


async def answer(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"kettle"})


async def raises_at_once(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await answer(scope, receive, send)


async def reads_its_body_first(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body", False):
        pass
    scope["path"]
    await answer(scope, receive, send)


async def answers_with_an_error_page(scope: Any, receive: Any, send: Any) -> None:
    try:
        await answer(scope, receive, send)
    except Exception:
        await answer(scope, receive, send)


async def swallows(scope: Any, receive: Any, send: Any) -> None:
    try:
        await answer(scope, receive, send)
    except Exception:
        return


async def sends_nonsense(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.nonsense"})
    await answer(scope, receive, send)


async def sends_no_type(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await send({})
    await answer(scope, receive, send)


async def returns(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await answer(scope, receive, send)


async def answers_before_it_is_asked(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    else:
        await answer(scope, receive, send)


class OfVersion2:
    def __init__(self, scope: Any) -> None:
        self._scope = scope

    async def __call__(self, receive: Any, send: Any) -> None:
        await answer(self._scope, receive, send)
