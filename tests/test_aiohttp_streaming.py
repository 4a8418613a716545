"""Bodies that aiohttp and an app write piece by piece."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp_support import EACH_WAY, hello, note, run_with, say


@EACH_WAY
def test_both_ways_at_once(way: str) -> None:
    """The response to what has been sent is read while the request is being written."""

    async def test(session: aiohttp.ClientSession) -> None:
        answers: asyncio.Queue[bytes] = asyncio.Queue()
        seen = []

        async def pieces() -> AsyncIterator[bytes]:
            for piece in (b"one", b"two", b"three"):
                yield piece
                seen.append(await answers.get())

        async with session.post("/shout", data=pieces()) as response:
            async for answer, _ in response.content.iter_chunks():
                answers.put_nowait(answer)
        assert seen == [b"ONE", b"TWO", b"THREE"]

    run_with(way, test)


@EACH_WAY
def test_app_does_not_run_ahead(way: str) -> None:
    """An app that answers more than anyone reads has to wait."""

    async def test(session: aiohttp.ClientSession) -> None:
        async with session.get("/numbers/ahead?most=100000&length=65536") as response:
            assert await response.content.readexactly(65536) == b"x" * 65536
            await hello(session)
        assert int(await note(session, "ahead")) < 100

    run_with(way, test)


@EACH_WAY
def test_client_does_not_run_ahead(way: str) -> None:
    """A client that sends more than the app reads has to wait."""

    async def test(session: aiohttp.ClientSession) -> None:
        sent = 0

        async def pieces() -> AsyncIterator[bytes]:
            nonlocal sent
            for _ in range(10_000):
                sent += 1
                yield b"x" * 65536

        task = asyncio.create_task(session.post("/deaf/ear", data=pieces()))
        for _ in range(20):
            await hello(session)
        await say(session, "ear")
        (await task).close()
        assert sent < 100

    run_with(way, test)


@EACH_WAY
def test_large_bodies_both_ways(way: str) -> None:
    """64 MiB go each way at once."""

    async def test(session: aiohttp.ClientSession) -> None:
        async def pieces() -> AsyncIterator[bytes]:
            for number in range(64):
                yield bytes([97 + number % 26]) * (1 << 20)

        size = 0
        async with session.post("/shout", data=pieces()) as response:
            async for piece in response.content.iter_any():
                assert piece[0] == 65 + (size >> 20) % 26
                size += len(piece)
        assert size == 64 << 20

    run_with(way, test)


@EACH_WAY
def test_expect_100_continue(way: str) -> None:
    """A client that waits for 100 Continue writes its body when the app wants it."""

    async def test(session: aiohttp.ClientSession) -> None:
        async with session.post("/echo", data=b"body", expect100=True) as response:
            assert await response.read() == b"body"

    run_with(way, test)


@EACH_WAY
def test_body_that_raises(way: str) -> None:
    """What the source of a body raises is the cause of aiohttp's error, while the response is read, too."""

    async def test(session: aiohttp.ClientSession) -> None:
        has_come = asyncio.Event()

        async def pieces() -> AsyncIterator[bytes]:
            yield b"one"
            await has_come.wait()
            raise ZeroDivisionError("the source")

        async with session.post("/shout", data=pieces()) as response:
            assert await response.content.readany() == b"ONE"
            has_come.set()
            with pytest.raises((aiohttp.ClientConnectionError, ZeroDivisionError)) as caught:
                await response.content.readany()
        assert isinstance(caught.value.__cause__ or caught.value, ZeroDivisionError)
        await hello(session)

    run_with(way, test)
