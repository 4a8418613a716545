"""A view that outlives its test, or the tests of its class, writes nothing into the next ones, nor holds them up."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from library import IN_FILES, IN_MEMORY, MANAGE, PYTEST, Library

# What a view does, until it waits for the next test; and what it does then.
VIEWS = {
    "first": ("pass", "Book.objects.create(title='late')"),
    "again": ("Book.objects.count()", "Book.objects.create(title='late')"),
    "cursor": ("cursor = connection.cursor()", "cursor.execute('INSERT INTO books_book (title) VALUES (1)')"),
    "many": (
        "cursor = connection.cursor()",
        "cursor.executemany('INSERT INTO books_book (title) VALUES (%s)', [(1,)])",
    ),
    "atomic": (
        "atomic = transaction.atomic(); atomic.__enter__(); Book.objects.create(title='half')",
        "Book.objects.create(title='late')",
    ),
    "leaves": ("atomic = transaction.atomic(); atomic.__enter__()", "atomic.__exit__(None, None, None); 1 / 0"),
    "commit": ("transaction.set_autocommit(False); Book.objects.create(title='half')", "transaction.commit()"),
}

BASES = ("LiveServerTestCase", "TransactionTestCase")

TESTS = """
import re

from django.db import transaction
from django.test import TransactionTestCase

GO, HERE, DONE = threading.Event(), threading.Event(), threading.Event()
errors = []

def app(environ, start_response):
    start_response("200 OK", [])
    if environ["PATH_INFO"] == "/late":
        BEFORE
        HERE.set()
        GO.wait()
        try:
            AFTER
        except Exception as error:
            errors.append(error)
        finally:
            DONE.set()
    return [b"|".join(title.encode() for title in Book.objects.values_list("title", flat=True))]

class AFirst(LiveServerTestCase):
    app = app
    worker_options = {"shutdown_timeout": 0.01}

    def test_1_late(self):
        with httpx.Client(base_url=self.live_server_url) as client:
            with self.assertRaises(httpx.ReadTimeout):
                client.get("/late", timeout=httpx.Timeout(LIMIT, read=0.1))
        assert HERE.wait(LIMIT)

class BNext(BASE):
    app = app

    def test_2_next(self):
        assert Book.objects.count() == 0
        with transaction.atomic():
            Book.objects.create(title="mine")
            GO.set()
            assert DONE.wait(LIMIT)
        assert [book.title for book in Book.objects.all()] == ["mine"]
        assert len(errors) == ERRORS
        for error in errors:
            assert re.search("has outlived its worker|closed database|division by zero", str(error)), repr(error)
        if hasattr(self, "live_server_url"):
            assert httpx.get(self.live_server_url).text == "mine"

    def test_3_flushed(self):
        assert Book.objects.count() == 0

class CLast(BASE):
    app = app

    def test_4_last(self):
        assert Book.objects.count() == 0
        assert not connection.in_atomic_block
        assert connection.get_autocommit()
"""


CASES = [
    *((IN_MEMORY, view, base, MANAGE) for view, base in zip(VIEWS, itertools.cycle(BASES), strict=False)),
    (IN_MEMORY, "again", "TransactionTestCase", PYTEST),
    # Those that hold the lock of a file keep the tests of their own class from flushing it.
    *(
        (IN_FILES, view, base, MANAGE)
        for view, base in zip(("first", "again", "many"), itertools.cycle(BASES), strict=False)
    ),
]


@pytest.mark.parametrize(
    ("databases", "view", "base", "runner"),
    CASES,
)
def test_late_view(databases: dict[str, object], view: str, base: str, runner: tuple[str, ...], tmp_path: Path) -> None:
    """What it does to a database is an error in its own thread; the tests see what they have written themselves."""
    library = Library(tmp_path, databases)
    before, after = VIEWS[view]
    tests = TESTS.replace("BEFORE", before).replace("AFTER", after).replace("BASE", base)
    library.write_tests(tests.replace("ERRORS", "1"))
    library.passes(4, *runner)
    assert library.leftovers == set()


@pytest.mark.parametrize("databases", [IN_MEMORY, IN_FILES], ids=["memory", "files"])
@pytest.mark.parametrize("view", VIEWS)
def test_late_in_its_class(databases: dict[str, object], view: str, tmp_path: Path) -> None:
    """The next test of the same class is as safe, and has a worker, too."""
    library = Library(tmp_path, databases)
    before, after = VIEWS[view]
    one_class = re.sub(r"class (BNext|CLast).*\n(    app = app\n)?", "", TESTS)
    # To commit what was rolled back when its connection was closed does nothing.
    count = "0" if (databases, view) == (IN_FILES, "commit") else "1"
    library.write_tests(one_class.replace("BEFORE", before).replace("AFTER", after).replace("ERRORS", count))
    library.passes(4, *MANAGE)
    assert library.leftovers == set()


FIXTURE = """
import pytest
from django.http import HttpResponse
from django.urls import path

GO, HERE, DONE = threading.Event(), threading.Event(), threading.Event()
errors = []

def late(request):
    HERE.set()
    GO.wait()
    try:
        Book.objects.create(title="late")
    except Exception as error:
        errors.append(error)
    finally:
        DONE.set()
    return HttpResponse()

urlpatterns = [path("late", late)]

def test_late(socketless_live_server, settings):
    settings.ROOT_URLCONF = __name__
    with pytest.raises(httpx.ReadTimeout):
        httpx.get(socketless_live_server.url + "/late", timeout=httpx.Timeout(LIMIT, read=0.1))
    assert HERE.wait(LIMIT)

def test_next(socketless_live_server):
    Book.objects.create(title="mine")
    GO.set()
    assert DONE.wait(LIMIT)
    assert httpx.get(socketless_live_server.url + "/books").json() == ["mine"]
    [error] = errors
    assert "has outlived its worker" in str(error)
"""


@pytest.mark.parametrize(
    "databases",
    [pytest.param(IN_MEMORY, id="memory"), pytest.param(IN_FILES, id="files", marks=pytest.mark.slow)],
)
def test_late_with_the_fixture(databases: dict[str, object], tmp_path: Path) -> None:
    """So is the next test of the fixture for pytest-django."""
    library = Library(tmp_path, databases)
    library.write_tests(FIXTURE)
    library.passes(2, *PYTEST)
    assert library.leftovers == set()
