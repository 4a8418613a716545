"""What all tests share."""

from __future__ import annotations

import compileall
import ctypes
import gc
import signal
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import socketless
from socketless import eventloop

if TYPE_CHECKING:
    from apps.streaming.testing import Workers
    from projects import Project

# So that the async tests of this process can run where sockets are refused, too.
eventloop.install()

# A shell's background job ignores Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


# The workers that are forked here have it at once.
for _name in ("asgi_http", "asgi_websocket", "lifespan", "main", "runners", "wsgi"):
    import_module(f"socketless.worker.{_name}")

# It needs a server's programs, so it runs only when it is named, as by `tox -e postgresql`.
collect_ignore = ["test_django_postgresql.py"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    values: dict[tuple[object, str], list[Any]] = {}  # of a function's parameter
    for item in items:
        known = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
        for mark in item.iter_markers("one_in"):
            number, *names = mark.args
            if {*names} <= {*known}:
                lists = [values.setdefault((item.function, name), []) for name in names]
                if sum(position(known[name], each) for name, each in zip(names, lists, strict=True)) % number:
                    item.add_marker("slow")


def position(value: Any, values: list[Any]) -> int:
    """Return where a value is in a list, to which it is added if it is not."""
    if value not in values:
        values.append(value)
    return values.index(value)


def pytest_configure(config: pytest.Config) -> None:
    # Hundreds of interpreters are started: where PYTHONDONTWRITEBYTECODE is set, each would compile all that it imports.
    if not hasattr(config, "workerinput"):  # those of xdist start after this
        for folder in (socketless.__path__[0], Path(__file__).parent):
            compileall.compile_dir(folder, quiet=2)


def pytest_collection_finish() -> None:
    set_old_objects_aside()


@pytest.fixture(scope="module", autouse=True)
def _nothing_old() -> Iterator[None]:
    """The tests of a module are as fast as if they were the first."""
    yield
    set_old_objects_aside()


def set_old_objects_aside() -> None:
    """Let no test go through, or copy when it forks, what others have left.

    Many tests collect garbage, to see that nothing is left, or to leave nothing. What was there before them is no
    garbage, and takes longer to go through than a test to run.
    """
    gc.collect()
    gc.freeze()
    with suppress(AttributeError):  # the C library of another system
        ctypes.CDLL(None).malloc_trim(0)


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # for who asks it about what was there, as hypothesis does at the end


@pytest.fixture(scope="module")
def all_workers() -> Iterator[Workers]:
    """The workers of the apps that stream."""
    from apps.streaming.testing import Workers  # here, as some tests run without what it needs

    workers = Workers()
    yield workers
    workers.close()


@pytest.fixture
def workers(
    all_workers: Workers, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> Iterator[Workers]:
    """The same, for one test: nothing may be left of what that has begun."""
    with all_workers.watched(capsys, caplog):
        yield all_workers


@pytest.fixture
def topic() -> str:
    """A name that no other test uses."""
    from apps.streaming.testing import new_topic

    return new_topic()


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with a shop, whose tests a test writes and runs."""
    from projects import Project

    return Project(tmp_path)
