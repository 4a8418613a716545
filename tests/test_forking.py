"""`socketless._forking`: a fork that does not warn of itself."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator

import pytest

from socketless._forking import fork
from support import LIMIT


@pytest.fixture(autouse=True)
def _other_thread() -> Iterator[None]:
    may_end = threading.Event()
    thread = threading.Thread(target=may_end.wait)
    thread.start()
    yield
    may_end.set()
    thread.join(LIMIT)


def reap(fork: Callable[[], int]) -> None:
    pid = fork()
    if pid == 0:
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_warnings_as_errors() -> None:
    """Beside other threads, it forks and returns on both sides where warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            reap(fork)


def test_other_warnings() -> None:
    """It is silent of itself alone: a fork of somebody else warns, as do other warnings of the same kind."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        reap(fork)
        assert seen == []
        reap(os.fork)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    assert ["fork" in str(each.message) for each in seen] == [True] * (sys.version_info >= (3, 12)) + [False]


def test_filters_of_another_thread() -> None:
    """Whoever catches warnings when it forks in another thread catches on."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        thread = threading.Thread(target=reap, args=(fork,))
        thread.start()
        thread.join(LIMIT)
        warnings.warn("odd", UserWarning, stacklevel=1)
    assert [str(each.message) for each in seen] == ["odd"]


def test_filters_do_not_pile_up() -> None:
    """Forking again adds no filter."""
    with warnings.catch_warnings():
        reap(fork)
        before = list(warnings.filters)
        reap(fork)
        assert warnings.filters == before
