"""Each client library that the switch takes, as a function that asks a URL and returns the text of the response."""

from __future__ import annotations

import asyncio
import http.client
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httplib2
import httpx
import httpx2
import requests
import urllib3
import websocket
from starlette.testclient import TestClient
from websockets.asyncio.client import connect
from websockets.sync.client import connect as connect_blocking

from support import LIMIT

__all__ = ["WAYS", "WEBSOCKETS"]


def _with(family: Any) -> Callable[[str], str]:
    def ask(url: str) -> str:
        with family.Client() as client:
            return str(client.get(url).raise_for_status().text)

    return ask


def _with_async(family: Any) -> Callable[[str], str]:
    def ask(url: str) -> str:
        async def main() -> str:
            async with family.AsyncClient() as client:
                return str((await client.get(url)).raise_for_status().text)

        return asyncio.run(main())

    return ask


def _with_traced_httpx(url: str) -> str:
    # By httpcore: somebody wants to know of each step.
    with httpx.Client() as client:
        return client.get(url, extensions={"trace": lambda name, info: None}).text


def _with_requests(url: str) -> str:
    with requests.Session() as session:
        return session.get(url, timeout=LIMIT).text


def _with_urllib3(url: str) -> str:
    with urllib3.PoolManager(retries=False) as pool:
        return pool.request("GET", url).data.decode()


def _with_urllib(url: str) -> str:
    with urllib.request.urlopen(url, timeout=LIMIT) as response:
        return str(response.read().decode())


def _with_http_client(url: str) -> str:
    parts = urlsplit(url)
    cls = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = cls(parts.netloc)
    try:
        connection.request("GET", parts.path)
        return connection.getresponse().read().decode()
    finally:
        connection.close()


def _with_httplib2(url: str) -> str:
    client = httplib2.Http()
    try:
        return str(client.request(url)[1].decode())
    finally:
        client.close()


def _with_aiohttp(url: str) -> str:
    async def main() -> str:
        async with aiohttp.ClientSession() as session, session.get(url) as response:
            return await response.text()

    return asyncio.run(main())


def _with_test_client(url: str) -> str:
    async def own(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"the client's own"})

    parts = urlsplit(url)
    return TestClient(own, base_url=f"{parts.scheme}://{parts.netloc}").get(parts.path).text


WAYS: dict[str, Callable[[str], str]] = {
    "httpx": _with(httpx),
    "httpx, async": _with_async(httpx),
    "httpx, traced": _with_traced_httpx,
    "httpx2": _with(httpx2),
    "httpx2, async": _with_async(httpx2),
    "requests": _with_requests,
    "urllib3": _with_urllib3,
    "urllib.request": _with_urllib,
    "http.client": _with_http_client,
    "httplib2": _with_httplib2,
    "aiohttp": _with_aiohttp,
    "TestClient": _with_test_client,
}


def _of_websockets(url: str) -> str:
    with connect_blocking(url, open_timeout=LIMIT) as session:
        return str(session.recv(LIMIT))


def _of_asyncio(url: str) -> str:
    async def main() -> str:
        async with connect(url, open_timeout=LIMIT) as session:
            return str(await session.recv())

    return asyncio.run(main())


def _of_websocket_client(url: str) -> str:
    session = websocket.create_connection(url, timeout=LIMIT)
    try:
        return str(session.recv())
    finally:
        session.close()


WEBSOCKETS: dict[str, Callable[[str], str]] = {
    "websockets": _of_websockets,
    "websockets, asyncio": _of_asyncio,
    "websocket-client": _of_websocket_client,
}
