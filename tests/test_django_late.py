"""A view that outlives the tests of its class writes nothing into those of the next one, nor does it hold them up."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from library import IN_FILES, IN_MEMORY, MANAGE, PYTEST, Library

# What a view does, until it waits for the tests of the next class; and what it does then.
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

    def test_late(self):
        with httpx.Client(base_url=self.live_server_url) as client:
            with self.assertRaises(httpx.ReadTimeout):
                client.get("/late", timeout=httpx.Timeout(LIMIT, read=0.1))
        assert HERE.wait(LIMIT)

class BNext(BASE):
    app = app

    def test_next(self):
        assert Book.objects.count() == 0
        with transaction.atomic():
            Book.objects.create(title="mine")
            GO.set()
            assert DONE.wait(LIMIT)
        assert [book.title for book in Book.objects.all()] == ["mine"]
        [error] = errors
        assert "has outlived its worker" in str(error) or type(error) is ZeroDivisionError, repr(error)
        if hasattr(self, "live_server_url"):
            assert httpx.get(self.live_server_url).text == "mine"

    def test_flushed(self):
        assert Book.objects.count() == 0

class CLast(BASE):
    app = app

    def test_last(self):
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
    library.write_tests(TESTS.replace("BEFORE", before).replace("AFTER", after).replace("BASE", base))
    library.passes(4, *runner)
    assert library.leftovers == set()
