"""Compressed request bodies, which the connector of aiohttp decodes for the app."""

from __future__ import annotations

import asyncio
import gzip
import sys
import tracemalloc
import zlib
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import aiohttp
import pytest
from aiohttp_support import EACH_WAY, run, run_with

from apps import aiohttp_app
from socketless import IpcThread
from socketless.aiohttp import ASGIApplicationConnector
from socketless.errors import BodyTooLarge, TransferError

compress = partial(gzip.compress, mtime=0)
TEXT = b"a body that is long enough to be worth the trouble " * 1000


async def echo(session: aiohttp.ClientSession, data: Any, coding: str | None = None, **options: Any) -> tuple[Any, ...]:
    """Post a body; return what the app got, and what it was told of the body."""
    headers = {"Content-Encoding": coding} if coding else {}
    async with session.post("/echo", data=data, headers=headers, **options) as response:
        names = ("X-Content-Encoding", "X-Content-Length", "X-Transfer-Encoding")
        return (await response.read(), *(response.headers[name] for name in names))


async def pieces(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 7):
        await asyncio.sleep(0)
        yield data[start : start + 7]


@EACH_WAY
@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_by_aiohttp(way: str, coding: str) -> None:
    """What aiohttp compresses is what the app gets; it is chunked, and streams stay streams."""

    async def test(session: aiohttp.ClientSession) -> None:
        for data in (TEXT, pieces(TEXT)):
            assert await echo(session, data, compress=coding) == (TEXT, "none", "none", "chunked")

    run_with(way, test)


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return compressor.compress(data) + compressor.flush()


@pytest.mark.parametrize(
    ("coding", "data"),
    [
        ("gzip", compress(TEXT)),
        ("x-gzip", compress(TEXT[:1000]) + compress(TEXT[1000:])),
        ("deflate", zlib.compress(TEXT)),
        ("deflate", raw_deflate(TEXT)),
        ("deflate, gzip", compress(zlib.compress(TEXT))),
        ("identity, gzip", compress(TEXT)),
        ("GZIP", compress(TEXT)),
    ],
)
def test_compressed_by_the_test(coding: str, data: bytes) -> None:
    """A body with a length has the right one afterwards."""

    async def test(session: aiohttp.ClientSession) -> None:
        assert await echo(session, data, coding) == (TEXT, "none", str(len(TEXT)), "none")
        assert await echo(session, pieces(data), coding) == (TEXT, "none", "none", "chunked")

    run_with("app", test)


@pytest.mark.parametrize("coding", ["br", "zstd"])
def test_codings_of_other_libraries(coding: str) -> None:
    """br and zstd are decoded where a library for them is installed."""
    if coding == "br":
        library = pytest.importorskip("brotlicffi")
        data = library.compress(TEXT)
    else:
        library = pytest.importorskip("zstandard")
        data = library.ZstdCompressor().compress(TEXT)

    async def test(session: aiohttp.ClientSession) -> None:
        assert await echo(session, data, coding) == (TEXT, "none", str(len(TEXT)), "none")
        assert await echo(session, pieces(data), coding) == (TEXT, "none", "none", "chunked")

    run_with("app", test)


def test_unknown_coding() -> None:
    """A coding that nobody knows is left to the app, with all of the body's codings."""

    async def test(session: aiohttp.ClientSession) -> None:
        assert await echo(session, b"text", "gzip, rot13") == (b"text", "gzip, rot13", "4", "none")

    run_with("app", test)


def test_no_decompression() -> None:
    """With decompress=False the app gets what is on the wire."""

    async def test(session: aiohttp.ClientSession) -> None:
        data = compress(TEXT)
        assert await echo(session, data, "gzip") == (data, "gzip", str(len(data)), "none")

    run_with("app", test, decompress=False)


@pytest.mark.parametrize(
    ("coding", "data", "why"),
    [
        ("gzip", b"this is no gzip", "Error -3 while decompressing data: incorrect header check"),
        ("gzip", compress(TEXT)[:-10], "it is cut off"),
        ("deflate", zlib.compress(TEXT)[:-10], "it is cut off"),
    ],
)
def test_not_what_it_says(coding: str, data: bytes, why: str) -> None:
    """A body that is not what its Content-Encoding says is an error."""

    async def test(session: aiohttp.ClientSession) -> None:
        for body in (data, pieces(data)):
            with pytest.raises(aiohttp.ClientError) as caught:
                await echo(session, body, coding)
            assert isinstance(caught.value, TransferError)
            text = f"POST /echo: the request's body is not {coding}, as its Content-Encoding says: {why}"
            assert str(caught.value) == text

    run_with("app", test)


LIMIT_OF_BODIES = 1024 * 1024
BOMB_SIZE = 64 * LIMIT_OF_BODIES


def bomb(coding: str) -> bytes:
    """Return a small body that stands for a large one."""
    piece = bytes(LIMIT_OF_BODIES)
    if coding == "br":
        compressor: Any = pytest.importorskip("brotli").Compressor()
        add = compressor.process
    elif coding == "zstd":
        name = "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
        compressor = pytest.importorskip(name).ZstdCompressor()
        add = compressor.compress
    else:
        compressor = zlib.compressobj(wbits=zlib.MAX_WBITS | (16 if coding == "gzip" else 0))
        add = compressor.compress
    pieces = [add(piece) for _ in range(BOMB_SIZE // len(piece))]
    return b"".join(pieces) + (compressor.finish() if coding == "br" else compressor.flush())


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_bomb(coding: str) -> None:
    """A body that is too large when it is decoded is an error as soon as it is, and never in memory as a whole."""
    data = bomb(coding)

    async def main() -> None:
        with IpcThread(aiohttp_app.app, max_body_bytes=LIMIT_OF_BODIES) as worker:
            connector = ASGIApplicationConnector(worker)
            async with aiohttp.ClientSession("http://testserver", connector=connector) as session:
                for body in (data, pieces(data)):
                    with pytest.raises(aiohttp.ClientError) as caught:
                        await echo(session, body, coding)
                    errors.append(caught.value)

    errors: list[BaseException] = []
    assert len(data) < LIMIT_OF_BODIES
    tracemalloc.start()
    try:
        run(main)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * LIMIT_OF_BODIES
    text = f"POST /echo: the body of the request is larger than max_body_bytes={LIMIT_OF_BODIES}"
    assert [(isinstance(error, BodyTooLarge), str(error)) for error in errors] == [(True, text)] * 2


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd"])
def test_large_body(coding: str) -> None:
    """Without a limit, all of a large body arrives."""
    data = bomb(coding)

    async def test(session: aiohttp.ClientSession) -> None:
        [body, *_] = await echo(session, data, coding)
        assert len(body) == BOMB_SIZE

    run_with("app", test)


def test_wsgi() -> None:
    """A WSGI app gets it decoded as well."""

    async def main() -> None:
        connector = ASGIApplicationConnector(aiohttp_app.wsgi)
        async with aiohttp.ClientSession("http://testserver", connector=connector) as session:
            async with session.post("/", data=TEXT, compress="gzip") as response:
                assert await response.read() == TEXT

    run(main)
