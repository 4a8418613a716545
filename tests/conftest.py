"""What all tests share."""

from __future__ import annotations

import compileall
import ctypes
import gc
import os
import signal
import sys
import zlib
from collections.abc import Iterator
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import socketless
from socketless import eventloop
from warm import WORKER

if TYPE_CHECKING:
    from apps.streaming.testing import Workers
    from projects import Project

# So that the async tests of this process can run where sockets are refused, too.
eventloop.install()

# A shell's background job ignores Ctrl-C, and so would all that the tests start.
signal.signal(signal.SIGINT, signal.default_int_handler)


# pytest keeps what it has made of the tests, or each of its processes would make it again, each time. (What the tests
# themselves import may be written twice within a second, so it is not kept.)
_DONT_WRITE_BYTECODE, sys.dont_write_bytecode = sys.dont_write_bytecode, False

# The workers that are forked here have it at once.
for _name in WORKER:
    import_module(_name)

# It needs a server's programs, so it runs only when it is named, as by `tox -e postgresql`.
collect_ignore = ["test_django_postgresql.py"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    functions: dict[object, list[pytest.Function]] = {}  # with what is not slow anyway
    for item in items:
        if isinstance(item, pytest.Function) and not item.get_closest_marker("slow"):
            functions.setdefault((item.module, item.originalname, item.cls), []).append(item)
    for same in functions.values():
        mark = same[0].get_closest_marker("one_in")
        if mark is not None:
            number, *names = mark.args
            leave_out(same, number, names, zlib.crc32(same[0].originalname.encode()))


def leave_out(items: list[pytest.Function], number: int, names: list[str], shift: int) -> None:
    """Call slow what `one_in` leaves out of a test's combinations: with another shift, those are others."""
    known = [getattr(item, "callspec", None) for item in items]
    names = [name for name in names if all(each is not None and name in each.params for each in known)]
    if len(names) < 2:
        return
    values: dict[str, list[Any]] = {name: [] for name in names}
    combinations = [[(name, position(item.callspec.params[name], values[name])) for name in names] for item in items]
    usual = [sum(at for _, at in each) % number == shift % number for each in combinations]
    met = {value for each, is_usual in zip(combinations, usual, strict=True) if is_usual for value in each}
    for item, each, is_usual in zip(items, combinations, usual, strict=True):
        if not is_usual and met >= {*each}:
            item.add_marker("slow")
        met |= {*each}


def position(value: Any, values: list[Any]) -> int:
    """Return where a value is in a list, to which it is added if it is not."""
    if value not in values:
        values.append(value)
    return values.index(value)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers() -> int:
    """Many tests wait for a worker that they have started, or for a time limit: another may run meanwhile."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores + (cores + 1) // 2


def pytest_configure(config: pytest.Config) -> None:
    # Many interpreters are started: where PYTHONDONTWRITEBYTECODE is set, each would compile all that it imports.
    if not hasattr(config, "workerinput"):  # those of xdist start after this
        for folder in (socketless.__path__[0], Path(__file__).parent):
            compileall.compile_dir(folder, quiet=2)


def pytest_collection_finish() -> None:
    sys.dont_write_bytecode = _DONT_WRITE_BYTECODE
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
