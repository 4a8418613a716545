"""Fake services as apps of the switch: handlers of `MockTransport`, routes of respx, pytest-httpserver, httpbin."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Iterator
from typing import Any

import aiohttp
import httpbin
import httpx
import pytest
import requests
import respx
import werkzeug
from asking import WAYS
from flask import Flask
from pytest_httpserver import HTTPServer

from socketless import switch_to_ipc_connection
from socketless.fakes import FakeApp
from support import LIMIT, nothing_leaks

shop = Flask(__name__)
shop.testing = True  # lets exceptions through


@shop.post("/buy/<thing>")
def buy(thing: str) -> Any:
    """Ask the bank for the money, by another library than the test's."""
    charge = requests.post("https://bank.test/charges?for=tea&for=two", json={"thing": thing})
    return charge.json(), charge.status_code


def to_shop_and(bank: Any) -> Any:
    return switch_to_ipc_connection({"shop.test": shop, "bank.test": bank}, others="refuse")


def test_handler() -> None:
    """A handler of `MockTransport` answers every library, and the requests that have come can be looked at."""

    def handler(request: httpx.Request) -> httpx.Response:
        assert request.headers["content-type"] == "application/json"
        return httpx.Response(402, json={"error": "no money"}, headers=[("x-seen", "a"), ("x-seen", "b")])

    bank = FakeApp(handler)
    with nothing_leaks(), to_shop_and(bank):
        answer = httpx.post("http://shop.test/buy/tea")
        assert (answer.status_code, answer.json()) == (402, {"error": "no money"})
        (request,) = bank.requests
        assert (request.method, str(request.url)) == ("POST", "https://bank.test/charges?for=tea&for=two")
        assert request.content == b'{"thing": "tea"}'
        response = requests.get("http://bank.test/", headers={"Content-Type": "application/json"})
        assert response.headers["x-seen"] == "a, b"


@pytest.mark.parametrize("way", WAYS)
def test_every_library(way: str) -> None:
    """Every client library reads what a handler returns."""
    with switch_to_ipc_connection({"bank.test": FakeApp(lambda request: httpx.Response(200, text=str(request.url)))}):
        assert WAYS[way]("http://bank.test/%C3%A4") == "http://bank.test/%C3%A4"


def test_another_server() -> None:
    """A fake app runs as well where nobody tells it the URL as it was sent (PEP 3333)."""
    fake = FakeApp(lambda request: httpx.Response(200, text=str(request.url)))
    environ = werkzeug.test.create_environ("/a/\xe4", "https://bank.test", query_string="b=%20")
    del environ["REQUEST_URI"]
    response = werkzeug.test.run_wsgi_app(fake, environ)
    assert b"".join(response[0]) == b"https://bank.test/a/%C3%A4?b=%20"


def test_failing_handler() -> None:
    """What a handler raises, an assertion of its own for example, goes through the app that has asked to the test."""

    def handler(request: httpx.Request) -> httpx.Response:
        raise AssertionError("nobody shall pay for tea")

    with to_shop_and(FakeApp(handler)), pytest.raises(AssertionError, match="nobody shall pay for tea"):
        httpx.post("http://shop.test/buy/tea")


def test_streamed_response() -> None:
    """A response whose content is a generator is streamed, and the generator closed when the client leaves."""
    is_closed = threading.Event()

    def events() -> Iterator[bytes]:
        try:
            for number in itertools.count():
                yield f"data: {number}\n\n".encode()
        finally:
            is_closed.set()

    fake = FakeApp(lambda request: httpx.Response(200, headers={"content-type": "text/event-stream"}, content=events()))
    with nothing_leaks(), switch_to_ipc_connection({"bank.test": fake}):
        with httpx.stream("GET", "http://bank.test/") as response:
            lines = response.iter_lines()
            assert [next(lines) for _ in range(4)] == ["data: 0", "", "data: 1", ""]
        assert is_closed.wait(LIMIT)


def test_asynchronous_response() -> None:
    """A response whose content is async is an error that says so."""

    async def content() -> Any:
        yield b""

    with (
        switch_to_ipc_connection({"bank.test": FakeApp(lambda request: httpx.Response(200, content=content()))}),
        pytest.raises(TypeError, match="a fake app takes responses with sync content, not AsyncIteratorByteStream"),
    ):
        httpx.get("http://bank.test/")


def test_respx() -> None:
    """The routes of a router of respx are an app by its handler, for other libraries than httpx as well."""
    router = respx.MockRouter(base_url="https://bank.test")
    charges = router.post("/charges", json={"thing": "tea"}).respond(201, json={"paid": True})
    with to_shop_and(FakeApp(router.handler)):
        assert httpx.post("http://shop.test/buy/tea").json() == {"paid": True}

        async def main() -> int:
            async with (
                aiohttp.ClientSession() as session,
                session.post("https://bank.test/charges", json={"thing": "tea"}) as response,
            ):
                return response.status

        assert asyncio.run(main()) == 201
        assert charges.call_count == 2
        with pytest.raises(respx.models.AllMockedAssertionError):
            httpx.post("http://shop.test/buy/cake")
    router.assert_all_called()


def test_pytest_httpserver() -> None:
    """The expectations of pytest-httpserver are an app, of which no server is started."""
    server = HTTPServer(host="bank.test", port=443)
    server.expect_ordered_request("/charges", method="POST", json={"thing": "tea"}).respond_with_json({"paid": True})
    with nothing_leaks(), to_shop_and(werkzeug.Request.application(server.application)):
        assert httpx.post("http://shop.test/buy/tea").json() == {"paid": True}
        server.check()
        (request, _), *others = server.log
        assert (request.url, others) == ("https://bank.test/charges?for=tea&for=two", [])
        assert httpx.post(server.url_for("/unknown")).status_code == 500
        with pytest.raises(AssertionError, match="No handler found for"):
            server.check()


def test_httpbin() -> None:
    """httpbin is an app like any other."""
    with switch_to_ipc_connection({"httpbin.org": httpbin.app}, others="refuse"):
        assert requests.get("https://httpbin.org/status/418").status_code == 418
        answer = httpx.get("https://httpbin.org/redirect/2", follow_redirects=True)
        assert answer.json()["url"] == "https://httpbin.org/get"
