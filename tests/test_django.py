"""Django's tests with the app in a worker: what a person sees who runs them, where sockets are refused, too.

A small project, `tests/apps/library`, is tested by `manage.py test` and by pytest, in processes of its own.
"""

from __future__ import annotations

from pathlib import Path

import django
import pytest

from library import (
    EACH_RUNNER,
    EACH_WORKER,
    IN_FILES,
    IN_MEMORY,
    MANAGE,
    PROCESSES,
    PYTEST,
    WORKERS,
    Library,
    everywhere_but,
    with_profile,
)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """The project with two databases, whose test databases are files."""
    return Library(tmp_path, IN_FILES)


@pytest.fixture
def in_memory(tmp_path: Path) -> Library:
    """The project with its test database in memory."""
    return Library(tmp_path, IN_MEMORY)


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

    async def test_async(self):
        await Book.objects.acreate(title="Emma")
        assert httpx.get("/books").json() == ["Emma"]
        async with httpx.AsyncClient(base_url=self.live_server_url) as client:
            assert (await client.get("/async-books", params={"title": "Dune"})).json() == ["Dune", "Emma"]
        assert await Book.objects.acount() == 2

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
    gc.collect()  # executors that asgiref has dropped, after an async view has raised: now their threads end
    for thread in threading.enumerate():
        if thread.name.startswith("ThreadPoolExecutor-"):
            thread.join(LIMIT)
    leaks.__exit__(None, None, None)


class ThreadTest(WsgiChecks, StaticLiveServerTestCase):
    pass
"""

OTHERS = """

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


# The next two meet each runner under each profile together.


@pytest.mark.parametrize(
    ("runner", "profile"),
    [
        with_profile(MANAGE, "free"),
        with_profile(MANAGE, "strict"),
        with_profile(PYTEST, "free"),
        with_profile(MANAGE, "codex", is_slow=True),
    ],
    ids=["manage-free", "manage-strict", "pytest-free", "manage-codex"],
)
def test_in_memory(runner: tuple[str, ...], profile: str, in_memory: Library) -> None:
    """On threads, the app and its tests share SQLite in memory, whichever thread serves a request."""
    in_memory.write_tests(ALL)
    in_memory.passes(12, *runner, profile=profile, afresh=profile == "free")
    assert in_memory.leftovers == set()


@pytest.mark.parametrize(
    ("runner", "profile"),
    [
        with_profile(MANAGE, "free"),
        with_profile(PYTEST, "codex"),
        with_profile(PYTEST, "strict", is_slow=True),
    ],
    ids=["manage-free", "pytest-codex", "pytest-strict"],
)
def test_in_files(runner: tuple[str, ...], profile: str, library: Library) -> None:
    """Classes with different workers, one after the other, use the test databases, never the real ones."""
    library.write_tests(ALL + OTHERS)
    library.passes(57, *runner, profile=profile)
    assert library.leftovers == set()


def set_start_method(library: Library, method: str) -> None:
    """Let `manage.py` say by which method Django starts the processes of --parallel."""
    imports, main = (library.folder / "manage.py").read_text().split('if __name__ == "__main__":\n')
    setting = f"import multiprocessing\n\n    multiprocessing.set_start_method({method!r})"
    library.write("manage.py", f'{imports}if __name__ == "__main__":\n    {setting}\n{main}')


@EACH_RUNNER
def test_parallel(runner: tuple[str, ...], library: Library) -> None:
    """Each of two processes with tests has test databases of its own, and so do its workers."""
    library.write_tests(ALL + OTHERS)
    set_start_method(library, "fork")
    options = ("--parallel", "2") if runner is MANAGE else ("-p", "xdist.plugin", "-n", "2")
    library.passes(57, *runner, *options)
    assert library.leftovers == set()


@pytest.mark.skipif(django.VERSION < (6,), reason="of a test database in a file, Django spawned processes for ever")
def test_parallel_without_fork(library: Library) -> None:
    """Where --parallel spawns, Django puts SQLite into memory: on threads the app shares it, a process says why not."""
    library.write_tests(ALL + OTHERS)
    set_start_method(library, "spawn")
    done = library.run(*MANAGE, "--parallel", "2")
    assert (
        "django.core.exceptions.ImproperlyConfigured: the test database of 'default' is SQLite in memory, which no "
        "other process can use. --parallel has copied it there from its file, as it does where multiprocessing does "
        "not fork. "
        'Call multiprocessing.set_start_method("fork") in manage.py, or leave out --parallel, '
        "or let the app run on threads of this process: worker_class = IpcThread "
        "(pytest-django: socketless_live_server = thread)\n"
    ) in done.text
    assert (done.summary, done.exit_code) == (f"FAILED (errors={OTHERS.count('IpcProcess')})", 1), done.text
    assert library.leftovers == set()


SHARING = """
class LiveTest(LiveServerTestCase):
    def test(self):
        seen = []
        thread = threading.Thread(target=lambda: seen.append(connections["default"]), name="socketless-channel-1")
        thread.start()
        thread.join()
        assert seen[0] is not connections["default"]
        ours = connections["default"]
        assert ours.connection is not None
        assert self.worker.run(lambda: connections["default"].connection) is ours.connection
        assert self.worker.run(lambda: isinstance(connections["default"], type(ours)))


class AsgiTest(LiveTest):
    app = "library.asgi:application"
"""


def test_sharing(in_memory: Library) -> None:
    """The threads of the worker share the connection of the tests, and no other thread does, whatever its name."""
    in_memory.write_tests(SHARING)
    in_memory.passes(2, *MANAGE)


def test_closing(library: Library) -> None:
    """Connections that cannot be closed are reported, and the others of the class are closed all the same."""
    library.write_tests(
        """
        made = []


        class LiveTest(LiveServerTestCase):
            def test(self):
                for number in range(3):
                    thread = threading.Thread(target=self.use, args=(number,))
                    thread.start()
                    thread.join()

            def use(self, number):
                def close_and_raise():
                    made[number].connection.close()
                    raise RuntimeError("not today")

                Book.objects.count()
                made.append(connections["default"])
                if number < 2:
                    made[number]._close = close_and_raise


        def tearDownModule():
            print("open:", [number for number, wrapper in enumerate(made) if wrapper.connection is not None])
        """
    )
    done = library.run(*MANAGE)
    assert (done.summary, done.exit_code) == ("FAILED (errors=1)", 1), done.text
    assert "\nRuntimeError: not today\n" in done.text
    assert "open: []\n" in done.text


# What it must not do


@EACH_RUNNER
def test_process_in_memory(runner: tuple[str, ...], in_memory: Library) -> None:
    """A process cannot share SQLite in memory: the class fails with a text that says what to write, others do not."""
    one = "class LiveTest(LiveServerTestCase):\n    WORKER\n\n    def test(self):\n        pass\n"
    in_memory.write_tests_of_each(one)
    done = in_memory.run(*runner)
    said = (
        "django.core.exceptions.ImproperlyConfigured: the test database of 'default' is SQLite in memory, which no "
        'other process can use. Give it a file, DATABASES["default"]["TEST"] = {"NAME": BASE_DIR / '
        '"test_default.sqlite3"}, '
        "or let the app run on threads of this process: worker_class = IpcThread "
        "(pytest-django: socketless_live_server = thread)\n"
    )
    assert done.text.count(said) == len(PROCESSES)
    assert (done.summary, done.exit_code) == (
        "FAILED (errors=2)" if runner is MANAGE else "1 passed, 2 errors",
        1,
    )
    assert in_memory.leftovers == set()


@EACH_WORKER
def test_eager_code(kind: str, library: Library) -> None:
    """Settings, `ready()`, middleware and URLs that query a database get that of the tests."""
    text = 'class LiveTest(LiveServerTestCase):\n    WORKER\n\n    def test(self):\n        httpx.get("/books")\n'
    library.write_tests(text, kind)
    places = "settings ready urls middleware"
    library.passes(1, *PYTEST, "-W", "ignore::RuntimeWarning", afresh=True, LIBRARY_EAGER=places)
    looks = [line.split() for line in (library.folder / "eager.log").read_text().splitlines()]
    [(_, _, tests, _), *_] = looks
    in_worker = {where: name for where, name, pid, _ in looks if pid != tests}
    here = {where: name for where, name, pid, _ in looks if pid == tests}
    assert set(in_worker) == set({"thread": "", "spawn": places, "fork": "urls middleware"}[kind].split())
    assert set(in_worker.values()) <= {"test.sqlite3"}
    assert here.get("urls", "test.sqlite3") == here.get("middleware", "test.sqlite3") == "test.sqlite3"
    assert library.leftovers == {"real.sqlite3"}  # of the tests' own process, before it has made the test databases


@EACH_RUNNER
def test_other_database(runner: tuple[str, ...], library: Library) -> None:
    """A database that the tests do not name is refused, as it may be the real one; one that they name is the test's."""
    one = """
        class OneTest(LiveServerTestCase):
            WORKER

            def test(self):
                with self.assertRaisesRegex(AssertionError, "connections to 'other' are not allowed in this test"):
                    httpx.get("/elsewhere")
        """
    both = """
        class BothTest(LiveServerTestCase):
            WORKER
            databases = {"default", "other"}

            def test(self):
                Book.objects.using("other").create(title="Emma")
                assert httpx.get("/elsewhere").json() == ["Emma"]
        """
    library.write_tests_of_each(one)
    library.passes(3, *runner)
    for kind in WORKERS:
        library.write_tests(both, kind, f"test_two_{kind}.py")
    library.passes(6, *runner)
    assert library.leftovers == set()


@everywhere_but("codex")
def test_dead_worker(profile: str, library: Library) -> None:
    """A worker that has died in the middle of a test is replaced by one that uses the test database again."""
    text = """
    class LiveTest(LiveServerTestCase):
        WORKER

        def test(self):
            Book.objects.create(title="Emma")
            with self.assertRaisesRegex(httpx.ReadError, r"^GET /die: the worker \\(pid \\d+\\) exited with code 3$"):
                httpx.get("/die")
            assert httpx.get("/books").json() == ["Emma"]
            assert httpx.post("/books", data={"title": "Dune"}).json() == ["Dune", "Emma"]
            assert Book.objects.count() == 2
    """
    library.write_tests_of_each(text, PROCESSES)
    library.passes(2, *MANAGE, profile=profile)
    assert library.leftovers == set()
