"""Django's tests with the app in a worker: what a person sees who runs them, where sockets are refused, too.

A small project, `tests/apps/library`, is tested by `manage.py test` and by pytest, in processes of its own.
"""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from library import IN_FILES, IN_MEMORY, MANAGE, PROFILES, PYTEST, WORKERS, Library

EVERYWHERE = pytest.mark.parametrize(
    "profile",
    [
        pytest.param(
            profile,
            marks=pytest.mark.skipif(
                profile != "free" and platform.system() != "Linux", reason="nosock.py is for x86-64 and arm64 Linux"
            ),
        )
        for profile in PROFILES
    ],
)
EACH_WORKER = pytest.mark.parametrize("kind", WORKERS)
EACH_PROCESS = pytest.mark.parametrize("kind", ["spawn", "fork"])
EACH_RUNNER = pytest.mark.parametrize("runner", [MANAGE, PYTEST], ids=["manage", "pytest"])

IMPORTS = """
import asyncio
import os

import httpx
from books.models import Book
from django.conf import settings
from django.db import connection, connections
from django.test import TestCase, override_settings
from socketless import IpcProcess, IpcThread
from socketless.django import LiveServerTestCase, StaticLiveServerTestCase
from support import nothing_leaks

"""


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """The project with two databases, whose test databases are files."""
    return Library(tmp_path, IN_FILES)


@pytest.fixture
def in_memory(tmp_path: Path) -> Library:
    """The project with its test database in memory."""
    return Library(tmp_path, IN_MEMORY)


def write_tests(library: Library, text: str, kind: str = "thread", name: str = "test_live.py") -> None:
    library.write(name, IMPORTS + text.replace("WORKER", WORKERS[kind]))


# The test case

ALL = """
class Checks:
    def test_there_and_back(self):
        Book.objects.create(title="Emma")
        assert httpx.get(self.live_server_url + "/books").json() == ["Emma"]
        assert httpx.post("/books", data={"title": "Dune"}).json() == ["Dune", "Emma"]
        assert httpx.get("/async-books", params={"title": "Ulysses"}).json() == ["Dune", "Emma", "Ulysses"]
        assert Book.objects.count() == 3

    def test_flushed(self):
        assert httpx.get("/books").json() == []

    def test_own_client(self):
        Book.objects.create(title="Emma")
        assert self.client.get("/books").json() == ["Emma"]
        assert self.client.get("/database").json()["pid"] == os.getpid()

    def test_where(self):
        found = httpx.get("/database").json()
        assert found["name"] == connection.settings_dict["NAME"]
        assert (found["pid"] == os.getpid()) == (self.worker_class is IpcThread)

    def test_run(self):
        self.worker.run(Book.objects.create, title="Emma")
        assert Book.objects.get().title == "Emma"

    def test_thread_of_the_app(self):
        Book.objects.create(title="Emma")
        assert httpx.get("/thread").json() == ["Emma"]

    def test_async_client(self):
        async def ask():
            async with httpx.AsyncClient(base_url=self.live_server_url) as client:
                return await asyncio.gather(*(client.get("/books") for _ in range(4)))

        Book.objects.create(title="Emma")
        assert [response.json() for response in asyncio.run(ask())] == [["Emma"]] * 4

    def test_hosts(self):
        assert [httpx.get(f"http://{host}/books").status_code for host in ("localhost", "elsewhere")] == [200, 400]

    def test_exceptions(self):
        for path in ("/crash", "/async-crash"):
            with self.assertRaisesMessage(ValueError, "no such shelf"):
                httpx.get(path)
        assert httpx.get("/nowhere").status_code == 404
        assert [book.title for book in Book.objects.all()] == ["Half a book"]  # no transaction has been rolled back


class WsgiChecks(Checks):
    def test_streams(self):
        Book.objects.create(title="Emma")
        assert httpx.get("/stream").text == "Emma\\n"
        with self.assertRaisesMessage(ValueError, "torn"):
            httpx.get("/half")

    def test_files(self):
        assert "green" in httpx.get(self.live_server_url + "/static/books/style.css").text
        assert httpx.get("/static/books/none.css").status_code == 404
        assert httpx.get("/media/cover.txt").text == "a cover\\n"


def setUpModule():
    global leaks
    from socketless import eventloop
    eventloop.install()
    connections.close_all()
    leaks = nothing_leaks()
    leaks.__enter__()


def tearDownModule():
    assert httpx.HTTPTransport.handle_request.__module__ == "httpx._transports.default"
    assert settings.ALLOWED_HOSTS == ["library.example", "testserver"]
    connections.close_all()
    leaks.__exit__(None, None, None)


class ThreadTest(WsgiChecks, StaticLiveServerTestCase):
    pass
"""

PROCESSES = """

class SpawnTest(WsgiChecks, StaticLiveServerTestCase):
    worker_class = IpcProcess


class AsgiTest(Checks, LiveServerTestCase):
    app = "library.asgi:application"


class ForkTest(WsgiChecks, StaticLiveServerTestCase):
    worker_class, worker_options = IpcProcess, {"start_method": "fork"}


class AsgiSpawnTest(Checks, LiveServerTestCase):
    app = "library.asgi:application"
    worker_class = IpcProcess


class OrdinaryTest(TestCase):
    def test_nothing_is_switched(self):
        Book.objects.create(title="Emma")
        assert self.client.get("/books").json() == ["Emma"]
"""


@EVERYWHERE
@EACH_RUNNER
def test_in_memory(runner: tuple[str, ...], profile: str, in_memory: Library) -> None:
    """On threads, the app and its tests share SQLite in memory, whichever thread serves a request."""
    write_tests(in_memory, ALL)
    in_memory.passes(11, *runner, profile=profile)
    assert in_memory.leftovers == set()


@EVERYWHERE
@EACH_RUNNER
def test_in_files(runner: tuple[str, ...], profile: str, library: Library) -> None:
    """Classes with different workers, one after the other, use the test databases, never the real ones."""
    write_tests(library, ALL + PROCESSES)
    library.passes(52, *runner, profile=profile)
    assert library.leftovers == set()


@EACH_RUNNER
def test_parallel(runner: tuple[str, ...], library: Library) -> None:
    """Each of two processes with tests has test databases of its own, and so do its workers."""
    write_tests(library, ALL + PROCESSES)
    options = ("--parallel", "2") if runner is MANAGE else ("-p", "xdist.plugin", "-n", "2")
    library.passes(52, *runner, *options)
    assert library.leftovers == set()
