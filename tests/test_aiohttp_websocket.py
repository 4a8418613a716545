"""`session.ws_connect()` of aiohttp, over apps and workers."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType
from aiohttp_support import EACH_WAY, hello, note, run, run_with, session_for

from apps import aiohttp_app
from socketless.aiohttp import ASGIApplicationConnector


@EACH_WAY
def test_messages(way: str) -> None:
    """Texts, bytes, pings and messages of any size go both ways; the app hears how the client closes."""

    async def test(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/chat/messages") as socket:
            await socket.send_str("caf\xe9")
            assert await socket.receive_str() == "caf\xe9"
            await socket.send_bytes(bytes(range(256)))
            assert await socket.receive_bytes() == bytes(range(256))
            await socket.send_json({"a": [1]})
            assert await socket.receive_json() == {"a": [1]}
            await socket.send_str("x" * (1 << 20))
            assert await socket.receive_str() == "x" * (1 << 20)
            await socket.close(code=4000, message=b"bye")
            assert socket.close_code == 4000
        assert await note(session, "messages") == "4000 bye"

    run_with(way, test)


@EACH_WAY
def test_pong(way: str) -> None:
    """A ping is answered, so aiohttp's heartbeat holds."""

    async def test(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/chat/pong", autoping=False, heartbeat=10.0) as socket:
            await socket.ping(b"are you there?")
            message = await socket.receive()
            assert (message.type, message.data) == (WSMsgType.PONG, b"are you there?")

    run_with(way, test)


@EACH_WAY
def test_negotiation(way: str) -> None:
    """The app chooses the subprotocol and adds headers; compression is not agreed on."""

    async def test(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/chat/offer", protocols=["one", "two"], compress=15) as socket:
            assert (socket.protocol, socket.compress) == ("two", 0)
            assert socket._response.headers["X-One"] == "1"
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect("/closed")
        assert caught.value.status == 403
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await session.ws_connect("/hello")
        assert caught.value.status == 403

    run_with(way, test)


@EACH_WAY
def test_closed_by_the_app(way: str) -> None:
    """The code and the reason that the app closes with arrive."""

    async def test(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/chat/close") as socket:
            await socket.send_str("close")
            message = await socket.receive()
            assert (message.type, message.data, message.extra) == (WSMsgType.CLOSE, 4001, "enough")
            assert socket.close_code == 4001
            assert (await socket.receive()).type is WSMsgType.CLOSED

    run_with(way, test)


@EACH_WAY
def test_exceptions(way: str) -> None:
    """What the app raises is an ERROR message, after what it has sent before; aiohttp raises nothing there."""

    async def test(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/chat/boom") as socket:
            await socket.send_str("one")
            await socket.send_str("boom")
            assert await socket.receive_str() == "one"
            message = await socket.receive()
            assert (message.type, repr(message.data)) == (WSMsgType.ERROR, "LookupError('boom', 42)")
            assert socket.exception() is message.data
        async with session.ws_connect("/early") as socket:
            assert repr((await socket.receive()).data) == "LookupError('early')"

    run_with(way, test)


@pytest.mark.parametrize("way", ["thread", "process"])  # one that shares the loop ends that
@pytest.mark.parametrize("receives", [True, False])
def test_app_that_exits(way: str, receives: bool) -> None:
    """So is a SystemExit, after which aiohttp would not close its connection, since that is no Exception."""

    async def test(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/chat/exit") as socket:
            await socket.send_str("exit")
            if receives:
                message = await socket.receive()
                assert (message.type, repr(message.data)) == (WSMsgType.ERROR, "SystemExit(3)")
                assert isinstance(message.data, SystemExit)
        assert socket._response.connection is None

    run_with(way, test)


@EACH_WAY
def test_exceptions_as_codes(way: str) -> None:
    """With propagate_exceptions=False it is the close code 1011."""

    async def test(session: aiohttp.ClientSession) -> None:
        async with session.ws_connect("/early") as socket:
            message = await socket.receive()
            assert (message.type, message.data) == (WSMsgType.CLOSE, 1011)

    run_with(way, test, propagate_exceptions=False)


@EACH_WAY
def test_many_at_once(way: str) -> None:
    """WebSockets and requests live side by side."""

    async def test(session: aiohttp.ClientSession) -> None:
        async def talk(number: int) -> None:
            async with session.ws_connect(f"/chat/{number}") as socket:
                for turn in range(10):
                    await socket.send_str(f"{number}:{turn}")
                    assert await socket.receive_str() == f"{number}:{turn}"

        await asyncio.gather(*map(talk, range(10)))

    run_with(way, test)


@EACH_WAY
def test_session_closed(way: str, caplog: pytest.LogCaptureFixture) -> None:
    """A session that is closed with a WebSocket open closes that, and the app hears of it."""

    async def main() -> None:
        async with session_for(way) as session:
            socket = await session.ws_connect("/chat/left")
            waiting = asyncio.create_task(socket.receive())
            await hello(session)
            await session.close()
            assert (await waiting).type is WSMsgType.CLOSED
        if way != "process":
            assert (await aiohttp_app.note("left")).startswith("1006")

    run(main)
    assert not caplog.messages


@EACH_WAY
def test_receive_timeout(way: str) -> None:
    """aiohttp's time limit for a message holds, and `sock_read` is none for messages."""

    async def main() -> None:
        timeout = aiohttp.ClientTimeout(total=None, sock_read=1)  # the handshake has that time
        async with session_for(way, timeout=timeout) as session, session.ws_connect("/chat/late") as socket:
            with pytest.raises(asyncio.TimeoutError):
                await socket.receive(timeout=1.2)
            await socket.send_str("still there")
            assert not socket.closed

    run(main)


def test_wsgi() -> None:
    """A WSGI app has no WebSockets."""

    async def main() -> None:
        connector: Any = ASGIApplicationConnector(aiohttp_app.wsgi)
        async with aiohttp.ClientSession("http://testserver", connector=connector) as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
                await session.ws_connect("/")
            assert caught.value.status == 200

    run(main)
