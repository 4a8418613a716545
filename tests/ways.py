"""Every client library's ways to ask for a URL with a new client: functions of the URL, whose answer is JSON."""

from __future__ import annotations

import asyncio
import http.client
import json
import urllib.request
from collections.abc import Callable
from typing import Any

import aiohttp
import httpx
import httpx2
import requests
import urllib3

from support import LIMIT

FAMILIES = [httpx, httpx2]


def of_client(family: Any) -> Callable[[str], Any]:
    def ask(url: str) -> Any:
        with family.Client(follow_redirects=True) as client:
            return client.get(url).json()

    return ask


def of_async_client(family: Any) -> Callable[[str], Any]:
    async def ask(url: str) -> Any:
        async with family.AsyncClient() as client:
            return (await client.get(url)).json()

    return lambda url: asyncio.run(ask(url))


def of_own_transport(family: Any) -> Callable[[str], Any]:
    def ask(url: str) -> Any:
        transports = {"all://": family.HTTPTransport(verify=False), "https://": family.HTTPTransport(http2=True)}
        with family.Client(mounts=transports) as client:
            return client.get(url).json()

    return ask


def of_http_client(url: str) -> Any:
    scheme, _, rest = url.partition("://")
    host, _, path = rest.partition("/")
    cls = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
    connection = cls(host, timeout=LIMIT)
    connection.request("GET", f"/{path}")
    with connection.getresponse() as response:
        seen = json.load(response)
    connection.close()
    return seen


def of_opener(url: str) -> Any:
    with urllib.request.build_opener().open(url, timeout=LIMIT) as response:
        return json.load(response)


def of_urlopen(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=LIMIT) as response:
        return json.load(response)


def of_aiohttp(url: str) -> Any:
    async def ask() -> Any:
        async with aiohttp.ClientSession(trust_env=True) as session, session.get(url) as response:
            return await response.json(content_type=None)

    return asyncio.run(ask())


def of_urllib3(url: str) -> Any:
    with urllib3.PoolManager() as pool:
        return json.loads(pool.request("GET", url, timeout=LIMIT).data)


WAYS: dict[str, Callable[[str], Any]] = {
    **{f"{family.__name__}.get": lambda url, family=family: family.get(url).json() for family in FAMILIES},  # type: ignore[misc]
    **{f"{family.__name__}.Client": of_client(family) for family in FAMILIES},
    **{f"{family.__name__}.AsyncClient": of_async_client(family) for family in FAMILIES},
    **{f"{family.__name__}.HTTPTransport": of_own_transport(family) for family in FAMILIES},
    "requests.get": lambda url: requests.get(url, timeout=LIMIT).json(),
    "aiohttp": of_aiohttp,
    "http.client": of_http_client,
    "build_opener": of_opener,
    "urlopen": of_urlopen,
    "urllib3": of_urllib3,
}
