"""The workers of this process that nobody has closed yet."""

from __future__ import annotations

import atexit
from collections.abc import Iterator
from typing import TYPE_CHECKING
from weakref import WeakSet

from socketless._host.trace import logger

if TYPE_CHECKING:
    from socketless._host.supervisor import Supervisor

live: WeakSet[Supervisor] = WeakSet()


def live_workers() -> list[Supervisor]:
    """Return the workers that nobody has closed yet."""
    return list(live)


def close_all(workers: list[Supervisor]) -> Iterator[tuple[Supervisor, Exception]]:
    """Close workers that have been left open, and yield what goes wrong with each."""
    for worker in workers:
        try:
            worker.close()
        except Exception as error:
            yield worker, error


@atexit.register
def _close_live() -> None:
    # A worker would notice the end of this process by itself, but then it may not take its time to leave.
    for worker, error in close_all(live_workers()):
        logger.error("%r could not be closed", worker, exc_info=error)
