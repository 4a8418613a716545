"""A short spin before a wait, where another process is about to answer.

Most apps answer sooner than a process that sleeps is woken on an idle processor: that takes 25 us on either side of a
pair of pipes, and it finds its caches cold. A GET to Flask in a process takes 230 us instead of 310 where both sides
spin. Where they share their processor with others, spinning takes from those: then nobody does.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from socketless._genuine import monotonic, os

T = TypeVar("T")

_SECONDS = 0.0004  # what a client library does between two requests takes half of it
_CPU_MAX = "/sys/fs/cgroup/cpu.max"  # microseconds of processor time, in so many; the first may be "max"


def spin(look: Callable[[], T]) -> T:
    """Look again and again until there is something, or for a moment, and return what there is."""
    end = monotonic() + _SECONDS
    while not (found := look()) and monotonic() < end:
        os.sched_yield()  # to whoever else wants this processor
    return found


def may_spin() -> bool:
    """Whether this process and a worker of it are likely to have a processor each.

    They are not when they are one of several that run tests: by pytest-xdist, or by Django's `--parallel`.
    """
    if multiprocessing.parent_process() is not None:
        return False
    runs = os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")
    return runs.isdecimal() and _processors() >= 2 * int(runs)


def _processors() -> float:
    if hasattr(os, "sched_getaffinity"):
        count = float(len(os.sched_getaffinity(0)))
    else:
        count = float(os.cpu_count() or 1)
    with suppress(OSError, ValueError), open(_CPU_MAX) as file:
        quota, period = map(float, file.read().split())
        count = min(count, quota / period)
    return count
