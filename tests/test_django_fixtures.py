"""The fixture `socketless_live_server`: what a person sees who runs pytest-django, where sockets are refused, too."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from library import EACH_PROCESS, IN_FILES, IN_MEMORY, PYTEST, Library, everywhere_but, with_profile

TESTS = """
    import pytest


    def test_there_and_back(socketless_live_server):
        Book.objects.create(title="Emma")
        assert httpx.get(socketless_live_server.url + "/books").json() == ["Emma"]
        assert httpx.post("/books", data={"title": "Dune"}).json() == ["Dune", "Emma"]
        assert Book.objects.count() == 2


    def test_flushed(socketless_live_server):
        assert str(socketless_live_server) == "http://localhost"
        assert httpx.get(f"{socketless_live_server}/books").json() == []
        assert httpx.get(socketless_live_server + "/async-books").json() == []


    @pytest.mark.django_db
    def test_marked(socketless_live_server):
        Book.objects.create(title="Emma")
        assert httpx.get("/books").json() == ["Emma"]


    @pytest.mark.parametrize("number", [0, 1])
    def test_rolled_back(db, number):
        Book.objects.create(title="Emma")  # as ever; and nothing is switched
        assert httpx.HTTPTransport.handle_request.__module__ == "httpx._transports.default"
        assert settings.ALLOWED_HOSTS == ["library.example", "testserver"]


    def test_files(socketless_live_server):
        assert "green" in httpx.get("/static/books/style.css").text
        assert httpx.get("/media/cover.txt").text == "a cover\\n"


    def test_worker(socketless_live_server):
        socketless_live_server.worker.run(Book.objects.create, title="Emma")
        assert Book.objects.get().title == "Emma"
        found = httpx.get("/database").json()
        assert found["name"] == connection.settings_dict["NAME"]
        assert (found["pid"] == os.getpid()) == isinstance(socketless_live_server.worker, IpcThread)


    def test_own_client(socketless_live_server, client):
        assert client.get("/database").json()["pid"] == os.getpid()


    def test_output(socketless_live_server, capsys, caplog):
        httpx.get("/talk")
        assert capsys.readouterr() == ("printed by the view\\n", "an error by the view\\n")
        assert [record.getMessage() for record in caplog.records] == ["logged by the view"]


    def test_exceptions(socketless_live_server):
        with pytest.raises(ValueError, match="no such shelf"):
            httpx.get("/crash")


    def test_other(socketless_live_server):
        with pytest.raises(AssertionError, match="onnections to 'other' are not allowed"):
            httpx.get("/elsewhere")


    def test_mail(socketless_live_server):
        assert httpx.get("/mail").text == "sent"
    """


@pytest.mark.parametrize(
    ("kind", "profile"),
    [
        with_profile("thread", "free"),
        with_profile("spawn", "free"),
        with_profile("spawn", "strict"),
        with_profile("fork", "codex"),
    ],
)
def test_fixture(kind: str, profile: str, tmp_path: Path) -> None:
    """The app uses the test databases; the tests that ask for it are transactional, the others as ever."""
    library = Library(tmp_path, IN_FILES)
    library.write_tests(TESTS)
    library.passes(12, *PYTEST, "-o", f"socketless_live_server={kind}", profile=profile)
    assert library.leftovers == set()


@everywhere_but("strict")
def test_in_memory(profile: str, tmp_path: Path) -> None:
    """By default the app runs on threads, and shares SQLite in memory with the tests."""
    library = Library(tmp_path, IN_MEMORY)
    library.write_tests(TESTS.replace("def test_other", "def other"))
    library.passes(11, *PYTEST, profile=profile, afresh=profile == "free")
    assert library.leftovers == set()


def test_connections_of_threads(tmp_path: Path) -> None:
    """After each test the connections of its threads are closed: those that have ended are gone, others may go on."""
    library = Library(tmp_path, IN_FILES)
    library.write_tests(
        """
        import weakref
        from concurrent.futures import ThreadPoolExecutor

        import pytest

        pool = ThreadPoolExecutor(1)
        wrappers = []


        def use():
            assert Book.objects.count() == 0
            wrappers.append(weakref.ref(connections["default"]))


        @pytest.mark.parametrize("number", range(3))
        def test(socketless_live_server, number):
            gc.collect()
            assert [wrapper().connection for wrapper in wrappers if wrapper()] == [None] * number
            thread = threading.Thread(target=use)
            thread.start()
            thread.join()
            pool.submit(use).result()
        """
    )
    library.passes(3, *PYTEST)


@pytest.mark.parametrize("kind", ["spawn"])
def test_xdist(kind: str, tmp_path: Path) -> None:
    """Each process of pytest-xdist has a worker of its own, which uses the databases of that process."""
    library = Library(tmp_path, IN_FILES)
    library.write_tests(TESTS)
    library.passes(12, *PYTEST, "-o", f"socketless_live_server={kind}", "-p", "xdist.plugin", "-n", "2")


@pytest.mark.parametrize("kind", ["thread", "spawn"])
def test_all_databases(kind: str, tmp_path: Path) -> None:
    """A test that names a database for itself may ask the app about it."""
    library = Library(tmp_path, IN_FILES)
    library.write_tests(
        """
        import pytest


        @pytest.mark.django_db(databases=["default", "other"])
        def test(socketless_live_server):
            Book.objects.using("other").create(title="Emma")
            assert httpx.get("/elsewhere").json() == ["Emma"]
        """
    )
    library.passes(1, *PYTEST, "-o", f"socketless_live_server={kind}")
    assert library.leftovers == set()


@EACH_PROCESS
def test_process_in_memory(kind: str, tmp_path: Path) -> None:
    """A process cannot share SQLite in memory, and the text says what to write."""
    library = Library(tmp_path, IN_MEMORY)
    library.write_tests("def test(socketless_live_server):\n    pass\n")
    done = library.run(*PYTEST, "-o", f"socketless_live_server={kind}")
    assert (done.summary, done.exit_code) == ("1 error", 1)
    assert "which no other process can use" in done.text
    assert "(pytest-django: socketless_live_server = thread)" in done.text


def test_wrong_option(tmp_path: Path) -> None:
    """A wrong value of the ini option ends pytest with one line."""
    library = Library(tmp_path, IN_MEMORY)
    done = library.run(*PYTEST, "-o", "socketless_live_server=process")
    assert done == ("ERROR: socketless_live_server must be thread, spawn or fork, not 'process'\n\n", 4)


def test_offered(tmp_path: Path) -> None:
    """`pytest --fixtures` shows the one fixture that is there to be used, with what it is."""
    library = Library(tmp_path)
    library.write("test_it.py", "def test():\n    pass\n")
    done = library.run(*PYTEST, "-q", "--fixtures")
    shown = re.findall(r"^\w*live_?(?:app|server)\b.*$", done.text, re.M)
    assert [line.split()[0] for line in shown] == ["live_server", "socketless_live_server"], done.text
    assert "Send the clients of a test to the Django project" in done.text


def test_without_pytest_django(tmp_path: Path) -> None:
    """Without pytest-django, the fixture says that it needs that."""
    (tmp_path / "test_it.py").write_text("def test(socketless_live_server):\n    pass\n")
    library = Library(tmp_path)
    library.write("pytest.ini", "[pytest]\n")
    done = library.run(*PYTEST, PYTEST_PLUGINS="socketless.pytest_plugin")
    assert (done.summary, done.exit_code) == ("1 error", 1)
    assert "the fixture socketless_live_server needs pytest-django: pip install pytest-django\n" in done.text


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    """The plugin imports neither Django nor the package's own workers before the fixture is used."""
    library = Library(tmp_path)
    library.write("pytest.ini", "[pytest]\n")
    library.write(
        "test_it.py",
        """
        import sys


        def test():
            names = {"socketless.django", "socketless._host.worker", "django.db", "httpx"}
            assert set(sys.modules) & names == set()
        """,
    )
    library.passes(1, *PYTEST, afresh=True)
