"""Tests that use pyfakefs: its files are the app's and the test's, and no descriptor of ours is one of its numbers."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import tempfile
import traceback
from asyncio import unix_events
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import quote

import httpx
import pyfakefs.pytest_plugin  # noqa: F401  # keeps the files of pytest itself real; setup.cfg leaves out the plugin
import pytest
import trio
from pyfakefs.fake_filesystem import FakeFilesystem
from pyfakefs.fake_filesystem_unittest import Patcher
from test_conformance import KINDS

from apps import files_app
from clients import CLIENTS
from projects import SHOP_INI, Project
from socketless import IpcThread, IpcTransport, errors, eventloop
from socketless._host.worker import Worker
from socketless.requests import Session
from socketless.requests.testutils import UnixSocketServerThread
from support import LIMIT, nothing_leaks, unix_sockets_are_refused

each_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module", params=KINDS)
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with KINDS[request.param](files_app.app) as worker:
        yield worker


@contextmanager
def only_fake_files() -> Iterator[FakeFilesystem]:
    """There is one file, a fake one. The descriptors that were open before are open after it."""
    files = [tempfile.TemporaryFile() for _ in range(24)]  # of the numbers that pyfakefs would give away first
    with Patcher() as patcher:
        patcher.fs.create_file("/leaf.txt", contents="tea")
        yield patcher.fs
    gc.collect()
    for file in files:
        os.fstat(file.fileno())
        file.close()


@pytest.fixture
def fake_files() -> Iterator[FakeFilesystem]:
    with only_fake_files() as files:
        yield files


def test_clients(worker: Worker, fake_files: FakeFilesystem) -> None:
    """Every client reaches a worker of any kind, which was started before, and streams."""
    for name, make_client in CLIENTS.items():
        client = make_client(worker)
        assert client.request("GET", "/nothing").text == "no file", name
        with client.stream("GET", "/stream") as response:
            assert b"".join(response.chunks) == bytes(300_000), name


def test_whose_files(worker: Worker, fake_files: FakeFilesystem) -> None:
    """An app on threads sees the test's files, as in-process; one in a process, started before, the real ones."""
    read = b"tea" if isinstance(worker, IpcThread) else b"no file"
    with httpx.Client(transport=IpcTransport(worker)) as client:
        assert client.get("http://testserver/leaf.txt").content == read
    assert worker.run(files_app.read, "/leaf.txt") == read


@each_kind
@pytest.mark.unmeasured
def test_whole_life(kind: str) -> None:
    """A worker starts, is killed, starts again and ends. One that is forked takes a copy of the files with it."""
    with nothing_leaks(), only_fake_files():
        with KINDS[kind](files_app.app) as worker:
            if kind != "thread":
                with pytest.raises(errors.WorkerDied):
                    worker.run(os._exit, 7)
            assert worker.run(files_app.read, "/leaf.txt") == (b"no file" if kind == "spawn" else b"tea")


@each_kind
def test_after_it(kind: str) -> None:
    """A worker that was first asked in it goes on while it pauses, and after it."""
    with ExitStack() as stack, Patcher() as patcher:
        worker = stack.enter_context(KINDS[kind]("apps.files_app:app"))
        client = stack.enter_context(httpx.Client(transport=IpcTransport(worker)))
        for change in (patcher.pause, patcher.resume):
            assert client.get("http://testserver/leaf.txt").text == "no file"
            change()
        stack.callback(lambda: client.get("http://testserver/leaf.txt").raise_for_status())


@each_kind
def test_default_arguments(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told to replace the default values of arguments as well, pyfakefs reaches no descriptor of ours."""
    if hasattr(unix_events, "can_use_pidfd"):  # which closes a real descriptor with pyfakefs's os.close()
        monkeypatch.setattr(unix_events, "can_use_pidfd", lambda: False)
    with nothing_leaks(), Patcher(patch_default_args=True, additional_skip_names=["apps.files_app"]):
        with KINDS[kind](files_app.app) as worker:
            assert CLIENTS["httpx-asyncio"](worker).request("GET", "/nothing").text == "no file"


def test_failing_app(
    worker: Worker, fake_files: FakeFilesystem, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """What the app prints, logs and raises is seen, with the lines of its source."""
    with pytest.raises(LookupError, match="boom") as caught:
        CLIENTS["httpx"](worker).request("GET", "/boom")
    assert capsys.readouterr().out == "about to fail\n"
    assert caplog.messages == ["failing"]
    cause = "".join(traceback.format_exception(caught.value))
    assert 'raise LookupError("boom")' in cause


def test_loops(fake_files: FakeFilesystem) -> None:
    """Loops of asyncio and trio that are made in it wake by a real pipe."""

    async def main() -> list[str]:
        return [await asyncio.to_thread(str.upper, "tea"), await asyncio.to_thread(Path("/leaf.txt").read_text)]

    assert asyncio.run(main()) == ["TEA", "tea"]
    assert trio.run(trio.to_thread.run_sync, str.upper, "tea") == "TEA"


def test_installed_in_it() -> None:
    """pyfakefs takes away its own import hook, and not the one that waits for trio."""
    eventloop.uninstall()
    before = [*sys.meta_path]
    with Patcher():
        eventloop.install()
    added = [each for each in sys.meta_path if each not in before]
    assert {type(each).__module__ for each in added} == {"socketless._import_watch"}


def test_module_that_was_looked_up() -> None:
    """An app object that a worker is started for in it stays in the module that the test knows."""
    with Patcher(), KINDS["spawn"](files_app.app):
        pass
    assert sys.modules["apps.files_app"] is files_app


@pytest.mark.skipif(unix_sockets_are_refused(), reason="sockets are refused here")
def test_unix_sockets() -> None:
    """A server on a UNIX socket has a real one, in a folder that it removes."""
    with only_fake_files(), UnixSocketServerThread(files_app.app) as thread, Session() as session:
        url = f"http+unix://{quote(thread.usock, safe='')}/leaf.txt"
        assert session.get(url, timeout=LIMIT).text == "tea"
    assert not os.path.exists(os.path.dirname(thread.usock))


def test_plugin(project: Project) -> None:
    """The worker of the pytest plugin is reset before each test, in whatever scope the fake files are."""
    project.write("pytest.ini", SHOP_INI)
    project.write(
        "test_files.py",
        """
        import asyncio
        import os

        import httpx
        import pytest


        def add(name):
            assert os.path.exists("/tea.txt")
            response = httpx.post("/items", params={"name": name})
            print("added", name)
            return response.json()


        @pytest.fixture
        def tea(fs):
            fs.create_file("/tea.txt")


        @pytest.mark.parametrize("name", ["tea", "cake"])
        def test_function(tea, name, capsys):
            assert add(name) == [name]
            assert capsys.readouterr().out == f"adding {name}\\nadded {name}\\n"
            assert asyncio.run(asyncio.to_thread(os.path.exists, "/tea.txt"))


        @pytest.fixture(scope="class")
        def tea_of_class(fs_class):
            fs_class.create_file("/tea.txt")


        @pytest.mark.usefixtures("tea_of_class")
        class TestClass:
            def test_one(self):
                assert add("one") == ["one"]

            def test_two(self):
                assert add("two") == ["one", "two"]


        def test_after(socketless_worker):
            assert httpx.get("/items").json() == []
            assert not os.path.exists("/tea.txt")
        """,
    )
    seen = project.run("-p", "pyfakefs.pytest_plugin")
    assert seen.end == "1 failed, 4 passed", seen.text
    lines = """
        assert add("two") == ["one", "two"]
E       AssertionError: assert ['two'] == ['one', 'two']
"""
    assert lines in seen.text.replace(">  ", "   ")


AFRESH = """
import sys
import httpx, httpx2, requests
from pyfakefs.fake_filesystem_unittest import Patcher
from socketless import IpcThread, switch_to_ipc_connection


def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]


with IpcThread(app) as worker, Patcher():
    with switch_to_ipc_connection(worker):
        print(*(library.get("http://x/").text for library in (httpx, httpx2, requests)))
print(*{"httpcore", "httpcore2", "trio"} & {*sys.modules})
"""


def test_switch_afresh() -> None:
    """A switch imports nothing that httpx itself has not: with fake files, that might be impossible."""
    done = subprocess.run([sys.executable, "-c", AFRESH], capture_output=True, text=True, timeout=LIMIT)
    assert (done.stdout, done.stderr) == ("hello hello hello\n\n", "")
