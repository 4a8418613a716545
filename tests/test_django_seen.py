"""Django's tests with the app in a worker: the settings that the app has, and what a person sees of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from library import EACH_RUNNER, IN_FILES, MANAGE, PYTEST, WORKERS, Library, sqlite


@pytest.fixture
def library(tmp_path: Path) -> Library:
    """The project with a test database that is a file."""
    return Library(tmp_path, IN_FILES)


# Settings


@EACH_RUNNER
def test_settings(runner: tuple[str, ...], library: Library) -> None:
    """The app has the settings of the tests: what the runner and the class's decorators override, and no real mail."""
    text = """
    @override_settings(GREETING="bonjour")
    class LiveTest(LiveServerTestCase):
        WORKER

        def test(self):
            assert httpx.get("/settings").json() == {
                "DEBUG": False,
                "GREETING": "bonjour",
                "ALLOWED_HOSTS": ["library.example", "testserver", "localhost"],
            }

        def test_mail(self):
            from django.core import mail

            assert httpx.get("/mailer").text == "django.core.mail.backends.locmem.EmailBackend"
            assert httpx.get("/mail").text == "sent"
            assert [message.subject for message in self.worker.run(lambda: mail.outbox)] == ["Overdue"]
    """
    library.write_tests_of_each(text)
    library.passes(6, *runner)


IN_PLACE = """
from django import conf

settings.CACHES["default"]["KEY_PREFIX"] = "test"  # in what Django has as a default
settings.MIDDLEWARE.append("django.middleware.gzip.GZipMiddleware")
settings.TEMPLATES[0]["NAME"] = "test"
settings.ODD.add(3)


class LiveTest(LiveServerTestCase):
    WORKER

    def test(self):
        def seen():
            found = conf.settings
            return found.CACHES["default"]["KEY_PREFIX"], found.TEMPLATES[0]["NAME"], found.ODD, len(found.LOCKS)

        assert self.worker.run(seen) == ("test", "test", {1, 3}, 1)
        assert self.worker.run(lambda: conf.settings.MIDDLEWARE) == settings.MIDDLEWARE
"""


def test_settings_changed_in_place(library: Library) -> None:
    """The app has what the tests have changed in a list, dict or set of the settings; what cannot go stays as is."""
    library.write(
        "special.py",
        """
        import threading

        from library.settings import *

        SETTINGS_MODULE = __name__
        LOCKS = [threading.Lock()]
        ODD = {1}
        """,
    )
    library.write_tests_of_each(IN_PLACE)
    library.passes(3, *MANAGE, "--settings", "special")


def test_setting_that_cannot_be_pickled(library: Library) -> None:
    """A setting that cannot go to a spawned worker is named."""
    text = """
    @override_settings(GREETING=threading.Lock())
    class LiveTest(LiveServerTestCase):
        worker_class = IpcProcess

        def test(self):
            pass
    """
    library.write_tests(text)
    done = library.run(*MANAGE)
    assert done.exit_code == 1
    assert (
        "ImproperlyConfigured: the setting GREETING cannot be sent to a spawned worker: cannot pickle lock object: "
        "cannot pickle '_thread.lock' object. "
        'Fork the worker, worker_options = {"start_method": "fork"}, or run it on threads, '
        "worker_class = IpcThread\n"
    ) in done.text
    assert library.leftovers == set()


CONFIGURED = """
    import unittest

    import django
    import httpx
    from django import conf
    from django.conf import settings
    from django.test.runner import DiscoverRunner

    settings.configure(
        INSTALLED_APPS=["books"],
        ROOT_URLCONF="library.urls",
        GREETING="hello",
        USE_TZ=True,
        DATABASES=DATABASES_HERE,
    )
    settings.CACHES["default"]["KEY_PREFIX"] = "test"
    django.setup()

    from books.models import Book
    from socketless import IpcProcess, IpcThread
    from socketless.django import LiveServerTestCase


    class Checks:
        def test(self):
            Book.objects.create(title="Emma")
            assert httpx.get("/books").json() == ["Emma"]
            assert httpx.get("/settings").json()["GREETING"] == "hello"
            assert self.worker.run(lambda: conf.settings.CACHES["default"]["KEY_PREFIX"]) == "test"


    class ThreadTest(Checks, LiveServerTestCase):
        THREAD


    class SpawnTest(Checks, LiveServerTestCase):
        SPAWN


    class ForkTest(Checks, LiveServerTestCase):
        FORK


    if __name__ == "__main__":
        runner = DiscoverRunner()
        runner.setup_test_environment()
        old = runner.setup_databases()
        result = unittest.main(exit=False).result
        runner.teardown_databases(old)
        assert result.wasSuccessful()
    """


def test_settings_without_a_module(library: Library) -> None:
    """Settings that were made by `settings.configure()` reach every kind of worker."""
    text = CONFIGURED.replace("DATABASES_HERE", repr(IN_FILES))
    for kind, worker in WORKERS.items():
        text = text.replace(kind.upper(), worker)
    library.write("run_it.py", text)
    done = library.run("-W", "error", "run_it.py")
    assert (done.summary, done.exit_code) == ("OK", 0), done.text
    assert "Ran 3 tests" in done.text
    assert library.leftovers == set()


def test_password(library: Library) -> None:
    """The password of a database is in no report of a worker that could not start, not even with local variables."""
    library.databases = {"default": sqlite("real", NAME="test.sqlite3") | {"PASSWORD": "hunter2"}}
    text = """
    class LiveTest(LiveServerTestCase):
        WORKER
        app = "library:none"

        def test(self):
            pass
    """
    library.write_tests_of_each(text)
    done = library.run(*PYTEST, "--showlocals")
    assert (done.summary, done.exit_code) == ("3 errors", 1), done.text
    assert done.text.count("cannot import 'library:none': module 'library' has no attribute 'none'") >= 3
    assert "hunter2" not in done.text


# What the person sees

SHOWN = """
class LiveTest(LiveServerTestCase):
    WORKER

    def test_talk(self):
        httpx.get("/talk")
        assert False

    def test_crash(self):
        httpx.get("/crash")
"""


def test_report(library: Library) -> None:
    """What a view prints, logs and raises is in the report of the test that has asked for it."""
    library.write_tests_of_each(SHOWN)
    done = library.run(*PYTEST)
    assert (done.summary, done.exit_code) == ("6 failed", 1)
    _, *reports = re.split(r"^_+ LiveTest.test_(?:crash|talk) _+$", done.text, flags=re.M)
    raised = '>       raise ValueError("no such shelf")\nE       ValueError: no such shelf\n\nbooks/views.py:'
    for crash in reports[::2]:
        assert raised in crash
        assert "ERROR    django.request:log.py:" in crash.partition("- Captured log call -")[2]
    for talk in reports[1::2]:
        sections = re.findall(r"^-+ Captured (.*) -+\n(.*)", talk, re.M)
        assert sections[:2] == [
            ("stdout call", "printed by the view"),
            ("stderr call", "an error by the view"),
        ]
        assert re.fullmatch(r"WARNING  books:views.py:\d+ logged by the view", sections[2][1])


def test_manage_report(library: Library) -> None:
    """`manage.py test` shows the line of the view that has raised."""
    library.write_tests_of_each(SHOWN)
    done = library.run(*MANAGE)
    assert (done.summary, done.exit_code) == ("FAILED (failures=3, errors=3)", 1)
    _, *reports = re.split(r"^ERROR: test_crash \(", done.text, flags=re.M)
    assert {report.partition(".LiveTest")[0] for report in reports} == {f"test_{kind}" for kind in WORKERS}
    line = re.escape('raise ValueError("no such shelf")')
    raised = rf'File ".*/books/views.py", line \d+, in crash\n    {line}\nValueError: no such'
    for report in reports:
        assert re.search(raised, report.partition("\n====")[0]), done.text
    assert done.text.count("printed by the view\n") == done.text.count("an error by the view\n") == 3


def test_500(library: Library) -> None:
    """With `raise_request_exception = False` a view that raises is a 500, as with Django's own test case."""
    text = """
    class LiveTest(LiveServerTestCase):
        WORKER
        raise_request_exception = False

        def test(self):
            with self.assertLogs("django.request", "ERROR") as logs:
                assert httpx.get("/crash").status_code == httpx.get("/async-crash").status_code == 500
            assert [record.getMessage() for record in logs.records] == [
                "Internal Server Error: /crash",
                "Internal Server Error: /async-crash",
            ]
    """
    library.write_tests_of_each(text)
    library.passes(3, *MANAGE)


@EACH_RUNNER
def test_failing_set_up(runner: tuple[str, ...], library: Library) -> None:
    """A class that cannot be set up leaves nothing behind that the next one meets."""
    text = """
    class AppTest(LiveServerTestCase):
        app = "library.nothing:app"

        def test(self):
            pass


    class BusyTest(LiveServerTestCase):
        @classmethod
        def setUpClass(cls):
            super().setUpClass()
            raise RuntimeError("after ours")

        def test(self):
            pass


    class LiveTest(LiveServerTestCase):
        def test(self):
            assert httpx.get("/books").json() == []


    class TwiceTest(LiveServerTestCase):
        @classmethod
        def setUpClass(cls):
            from socketless import switch_to_ipc_connection

            cls.addClassCleanup(switch_to_ipc_connection("wsgiref.simple_server:demo_app"))
            super().setUpClass()

        def test(self):
            pass


    class ZLiveTest(LiveTest):
        pass


    def setUpModule():
        global leaks
        connections.close_all()
        leaks = nothing_leaks()
        leaks.__enter__()


    def tearDownModule():
        connections.close_all()
        leaks.__exit__(None, None, None)
    """
    library.write_tests(text)
    done = library.run(*runner)
    assert (done.summary, done.exit_code) == (
        "FAILED (errors=3)" if runner is MANAGE else "2 passed, 3 errors",
        1,
    ), done.text
    assert "there is no module 'library.nothing'" in done.text
    assert "RuntimeError: after ours" in done.text
    assert "StateError: this process is switched to 'wsgiref.simple_server:demo_app' already" in done.text


def test_serialized_rollback(library: Library) -> None:
    """With `serialized_rollback` the app finds in every test what the migrations have made."""
    text = """
    class LiveTest(LiveServerTestCase):
        WORKER
        serialized_rollback = True

        def test_one(self):
            assert httpx.post("/books", data={"title": "Emma"}).json() == ["Dictionary", "Emma"]

        def test_two(self):
            assert httpx.post("/books", data={"title": "Dune"}).json() == ["Dictionary", "Dune"]
    """
    library.write_tests_of_each(text)
    library.passes(6, *MANAGE, LIBRARY_INITIAL="Dictionary")
