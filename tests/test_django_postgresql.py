"""Django's test databases in PostgreSQL, in a worker: a real server, which this module starts and stops.

It runs when it is named, as by `tox -e postgresql`; then nothing of it is skipped. `initdb` and `pg_ctl` are those of
the newest PostgreSQL that Debian has installed, or of the folder that the environment variable POSTGRESQL_BIN names.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from library import MANAGE, PYTEST, WORKERS, Library
from support import LIMIT

PASSWORD = "hunter2 of the librarian"


def find_binaries() -> Path:
    """Return the folder with the server's programs."""
    if "POSTGRESQL_BIN" in os.environ:
        return Path(os.environ["POSTGRESQL_BIN"])
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    assert found, "there is no /usr/lib/postgresql/*/bin: apt-get install postgresql, or set POSTGRESQL_BIN"
    return found[-1]


class Server:
    """A PostgreSQL server that listens on a UNIX socket in its folder only, and may be lost."""

    def __init__(self, binaries: Path, folder: Path, user: str | None) -> None:
        self._binaries = binaries
        self._folder = folder
        self._user = user

    def run(self, command: str, *arguments: str) -> str:
        done = subprocess.run(
            [self._binaries / command, *arguments],
            cwd=self._folder,
            user=self._user,
            env={"PGPASSWORD": PASSWORD, "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=4 * LIMIT,
        )
        assert done.returncode == 0, done.stdout
        return done.stdout

    def start(self) -> None:
        password = self._folder / "password"
        password.write_text(PASSWORD)
        if self._user is not None:
            shutil.chown(self._folder, self._user)
            shutil.chown(password, self._user)
        self.run("initdb", "-D", "data", "-U", "librarian", "-A", "scram-sha-256", "--pwfile=password", "--no-sync")
        options = f"-c listen_addresses='' -c unix_socket_directories={self._folder} -c fsync=off"
        self.run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self) -> None:
        self.run("pg_ctl", "-D", "data", "-w", "-m", "fast", "stop")

    def query(self, sql: str) -> list[str]:
        host = str(self._folder)
        return self.run("psql", "-h", host, "-U", "librarian", "-d", "postgres", "-Atc", sql).splitlines()

    def database(self, name: str = "library", **more: Any) -> dict[str, Any]:
        """Return Django's settings of a database."""
        return {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": name,
            "USER": "librarian",
            "PASSWORD": PASSWORD,
            "HOST": str(self._folder),
            **more,
        }


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server with the database that the settings name, which is empty."""
    user = "postgres" if os.geteuid() == 0 else None  # the server refuses to be root
    if user is not None:
        pwd.getpwnam(user)
    with tempfile.TemporaryDirectory(prefix="socketless-pg-") as name:  # short, as the path of a socket must be
        server = Server(find_binaries(), Path(name), user)
        server.start()
        try:
            server.query("CREATE DATABASE library")
            yield server
        finally:
            server.stop()


CONNECTIONS: dict[str, dict[str, Any]] = {
    "closed": {},
    "kept open": {"CONN_MAX_AGE": 600, "CONN_HEALTH_CHECKS": True},
    "pooled": {"OPTIONS": {"pool": {"min_size": 1, "max_size": 8}}},
}


@pytest.fixture(params=CONNECTIONS)
def library(request: pytest.FixtureRequest, server: Server, tmp_path: Path) -> Iterator[Library]:
    """The project, whose connections are closed after each request, kept open, or taken from a pool."""
    yield Library(tmp_path, {"default": server.database(**CONNECTIONS[request.param])})
    # The tests have destroyed the database of theirs, and have not touched the real one.
    assert server.query("SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1") == ["library", "postgres"]
    assert server.query("SELECT numbackends FROM pg_stat_database WHERE datname = 'library'") == ["0"]
    sql = "SELECT sessions FROM pg_stat_database WHERE datname = 'library'"
    assert server.query(sql) == ["0"]


TESTS = """
    import asyncio

    import httpx
    from books.eager import look
    from books.models import Book
    from django.db import connection, transaction
    from socketless import IpcProcess, IpcThread
    from socketless.django import StaticLiveServerTestCase


    class LiveTest(StaticLiveServerTestCase):
        WORKER

        def test_there_and_back(self):
            Book.objects.create(title="Emma")
            assert httpx.get(self.live_server_url + "/books").json() == ["Emma"]
            assert httpx.post("/books", data={"title": "Dune"}).json() == ["Dune", "Emma"]
            assert httpx.get("/async-books", params={"title": "Ulysses"}).json() == ["Dune", "Emma", "Ulysses"]
            assert Book.objects.count() == 3
            assert httpx.get("/database").json()["name"] == "test_library"

        def test_flushed(self):
            assert httpx.get("/books").json() == []

        def test_own_session(self):
            with transaction.atomic():
                Book.objects.create(title="Emma")
                assert httpx.get("/books").json() == []
            assert httpx.get("/books").json() == ["Emma"]

        def test_run(self):
            self.worker.run(Book.objects.create, title="Emma")
            assert Book.objects.get().title == "Emma"

        def test_thread_of_the_app(self):
            Book.objects.create(title="Emma")
            assert httpx.get("/thread").json() == ["Emma"]

        def test_many_at_once(self):
            async def ask():
                async with httpx.AsyncClient(base_url=self.live_server_url) as client:
                    return await asyncio.gather(
                        *(client.get("/async-books", params={"title": f"Volume {number}"}) for number in range(8))
                    )

            assert {response.status_code for response in asyncio.run(ask())} == {200}
            assert Book.objects.count() == 8

        def test_our_session_stays(self):
            Book.objects.create(title="Emma")
            before = connection.connection
            look("test")
            if self.worker_class is IpcProcess:
                with self.assertRaises(httpx.ReadError):
                    httpx.get("/die")
            assert httpx.get("/books").json() == ["Emma"]
            assert Book.objects.count() == 1 and connection.connection is before
"""


@pytest.mark.parametrize("kind", WORKERS)
def test_live_server_test_case(kind: str, library: Library) -> None:
    """The app uses the test database; what it had open when the tests end does not keep that from being destroyed."""
    library.write("test_live.py", TESTS.replace("WORKER", WORKERS[kind]))
    done = library.passes(7, *MANAGE, LIBRARY_EAGER="middleware urls test")
    looks = [line.split() for line in (library.folder / "eager.log").read_text().splitlines()]
    assert {(where, name) for where, name, *_ in looks} == {(w, "test_library") for w in ("middleware", "urls", "test")}
    sessions = {(session, pid) for _, _, pid, session in looks}
    assert len({session for session, _ in sessions}) == len(sessions)  # none is used by two processes
    assert "Destroying test database" in done.text


FIXTURE_TESTS = """
    import httpx
    import pytest
    from books.models import Book


    @pytest.mark.parametrize("title", ["Dune", "Emma", "Ulysses"])
    def test_there_and_back(socketless_live_server, title):
        Book.objects.create(title="Beloved")
        assert httpx.post(socketless_live_server + "/books", data={"title": title}).json() == ["Beloved", title]
        assert Book.objects.count() == 2
        name = httpx.get("/database").json()["name"]
        assert name.startswith("test_library")
        print(f"[{name}]")


    @pytest.mark.parametrize("title", ["Dune", "Emma", "Ulysses"])
    def test_between(db, title):
        assert Book.objects.count() == 0
"""


@pytest.mark.parametrize("kind", WORKERS)
def test_fixture(kind: str, library: Library) -> None:
    """The fixture for pytest-django does the same, in every process of pytest-xdist with a database of its own."""
    library.write("test_fixture.py", FIXTURE_TESTS)
    options = ("-o", f"socketless_live_server={kind}", "-rP")
    assert "[test_library]" in library.passes(6, *PYTEST, *options).text
    done = library.passes(6, *PYTEST, *options, "-p", "xdist.plugin", "-n", "2", "--dist", "load")
    assert "[test_library_gw" in done.text


def test_parallel(library: Library) -> None:
    """Each process of `manage.py test --parallel` asks workers that use its own clone of the test database."""
    for kind in WORKERS:
        text = TESTS.replace("WORKER", WORKERS[kind]).replace(
            '== "test_library"', 'in ("test_library_1", "test_library_2")'
        )
        library.write(f"test_{kind}.py", text)
    library.passes(21, *MANAGE, "--parallel", "2")


@pytest.mark.parametrize("kind", WORKERS)
def test_password(kind: str, library: Library) -> None:
    """The password of the database is in no report, even with local variables, of a worker that does not start."""
    library.write(
        "test_live.py",
        TESTS.replace("WORKER", f'{WORKERS[kind]}\n        app = "library.settings:no_such_app"'),
    )
    library.write("conftest.py", "")
    done = library.run(*PYTEST, "--showlocals", "-rA")
    assert "module 'library.settings' has no attribute 'no_such_app'" in done.text
    assert (done.exit_code, PASSWORD in done.text) == (1, False), done.text
