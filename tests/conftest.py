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

# What is made until the tests begin stays, so it is not gone through again and again meanwhile.
gc.disable()

# The workers that are forked here have it at once.
for _name in WORKER:
    import_module(_name)

# It needs a server's programs, so it runs only when it is named, as by `tox -e postgresql`.
collect_ignore = ["test_django_postgresql.py"]


@pytest.hookimpl(hookwrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Iterator[None]:
    """Leave out the slow combinations, half of all there are, where `-m` would only deselect them."""
    yield
    calls = metafunc._calls  # with all parameters, those of fixtures, too
    if metafunc.definition.get_closest_marker("slow") is None:
        mark = metafunc.definition.get_closest_marker("one_in")
        if mark is not None:
            number, *names = mark.args
            usual = [call for call in calls if not is_slow(call)]
            leave_out(usual, number, names, zlib.crc32(metafunc.definition.originalname.encode()))
        if metafunc.config.getoption("markexpr").startswith("not slow"):
            # Without any, it would be a test without parameters.
            calls[:] = [call for call in calls if not is_slow(call)] or calls[:1]


def is_slow(call: Any) -> bool:
    """Return whether a combination of parameters is slow."""
    return any(mark.name == "slow" for mark in call.marks)


def leave_out(calls: list[Any], number: int, names: list[str], shift: int) -> None:
    """Call slow what `one_in` leaves out of a test's combinations: with another shift, those are others."""
    names = [name for name in names if all(name in call.params for call in calls)]
    if len(names) < 2:
        return
    values: dict[str, list[Any]] = {name: [] for name in names}
    combinations = [[(name, position(call.params[name], values[name])) for name in names] for call in calls]
    usual = [sum(at for _, at in each) % number == shift % number for each in combinations]
    met = {value for each, is_usual in zip(combinations, usual, strict=True) if is_usual for value in each}
    for call, each, is_usual in zip(calls, combinations, usual, strict=True):
        if not is_usual and met >= {*each}:
            call.marks.append(pytest.mark.slow.mark)
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
    return cores + max(2, (cores + 1) // 2)


def pytest_configure(config: pytest.Config) -> None:
    # Many interpreters are started: where PYTHONDONTWRITEBYTECODE is set, each would compile all that it imports.
    if not hasattr(config, "workerinput"):  # those of xdist start after this
        for folder in (socketless.__path__[0], Path(__file__).parent):
            compileall.compile_dir(folder, quiet=2)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    gc.enable()  # in the process that distributes the tests, too


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
