"""aiohttp under the switch."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

from socketless import IpcThread, switch_to_ipc_connection
from support import nothing_leaks

APP = "apps.aiohttp_app:app"
URL = "http://example.org/hello"


async def host() -> str:
    async with aiohttp.ClientSession() as session, session.get(URL) as response:
        seen: str = (await response.json())["host"]
        return seen


def test_switch() -> None:
    """Sessions reach the worker by a TCPConnector of before and of after; leaving restores the class."""
    before = vars(aiohttp.TCPConnector)["_create_connection"]

    async def main() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector()) as session:
            with switch_to_ipc_connection(APP):
                assert await host() == "example.org"
                async with session.get(URL) as response:
                    assert response.status == 200
                    await response.read()
                async with session.ws_connect("ws://example.org/chat/switch") as socket:
                    await socket.send_str("hello")
                    assert await socket.receive_str() == "hello"
                with pytest.raises(LookupError):
                    await session.get("http://example.org/boom/switch")
            await asyncio.sleep(0)
            assert session.connector is not None
            assert not [each for pool in session.connector._conns.values() for each in pool if each[0].is_connected()]

    with nothing_leaks():
        asyncio.run(main())
    assert vars(aiohttp.TCPConnector)["_create_connection"] is before


def test_twice() -> None:
    """One switch after the other, each to its own worker."""
    for _ in range(2):
        with IpcThread(APP) as worker, switch_to_ipc_connection(worker, raise_app_exceptions=False):
            assert asyncio.run(host()) == "example.org"


def test_imported_later() -> None:
    """aiohttp is switched when it is imported, and is not imported for that."""
    code = f"""
import asyncio, sys
from socketless import eventloop, switch_to_ipc_connection
eventloop.install()
with switch_to_ipc_connection({APP!r}):
    assert "aiohttp" not in sys.modules
    import aiohttp
    async def main():
        async with aiohttp.ClientSession() as session, session.get({URL!r}) as response:
            print((await response.json())["host"])
    asyncio.run(main())
assert aiohttp.TCPConnector._create_connection.__module__ == "aiohttp.connector"
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("example.org\n", "")
