"""An app that waits in `send()`, since nobody reads: it goes on as soon as its client has gone, and hears of that."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from socketless._wire.channel import make_channel
from socketless._wire.messages import Cancel, Request
from socketless._worker.asgi_call import Writer
from socketless._worker.asgi_http import HttpCall
from socketless._worker.asgi_websocket import WebSocketCall
from socketless.errors import ClientDisconnected
from support import LIMIT, nothing_leaks

HTTP = (
    HttpCall,
    [{"type": "http.response.start", "status": 200}],
    {"type": "http.response.body", "body": bytes(1000), "more_body": True},
)
WEBSOCKET = (WebSocketCall, [{"type": "websocket.accept"}], {"type": "websocket.send", "bytes": bytes(1000)})


@pytest.mark.parametrize(("kind", "beginning", "piece"), [HTTP, WEBSOCKET], ids=["http", "websocket"])
def test_client_goes(kind: Any, beginning: list[Any], piece: Any) -> None:
    """It gets `ClientDisconnected`, as one that is just about to send, and is not cancelled where it waits."""
    ended_by: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            for event in beginning:
                await send(event)
            while True:
                await send(piece)
        except BaseException as error:
            ended_by.append(type(error).__name__)
            raise

    async def main() -> None:
        channel = make_channel(1)
        channel.worker.set_blocking(False)
        writer = Writer(channel.worker, lambda: None)
        scheme = "ws" if kind is WebSocketCall else "http"
        call = kind(app, Request("GET", scheme, ("testserver", 80), b"/", []), None, writer, None)
        call.begin()
        while not writer._waiting:  # until the pipe is full
            await asyncio.sleep(0)
        call.take(Cancel())
        while not ended_by:
            await asyncio.sleep(0)
        assert writer._writing is not None  # and still is
        writer._writing.cancel()
        call.task.cancel()
        await asyncio.wait([writer._writing, call.task])
        channel.worker.close()
        channel.host.close()

    with nothing_leaks():
        asyncio.run(asyncio.wait_for(main(), LIMIT))
    assert ended_by == [ClientDisconnected.__name__]
