"""Locks that are released whatever comes out of a signal's handler: Ctrl-C, or pytest-timeout's.

In Python 3.14, such an exception may come between the taking of a lock by `with` and the beginning of its block (771
times in 2.3 million, where a signal came each 0.2 ms); then nobody releases it. In other versions, it may not.
"""

from __future__ import annotations

import sys
import threading
from typing import Any

__all__ = ["make_lock"]

_LEAVES_LOCKS = sys.version_info[:2] == (3, 14)

_RLock: Any = type(threading.RLock())


class _ReleasedLock(_RLock):  # type: ignore[misc]
    """Its `__enter__` is in Python: between its end and the block, no handler is called."""

    def __enter__(self) -> Any:
        held = self._recursion_count()
        try:
            return self.acquire()
        except BaseException:
            if self._recursion_count() > held:
                self.release()
            raise


def make_lock() -> Any:
    """Return a lock for `with`, which the thread that has it may take once more."""
    lock = threading.RLock()
    return _ReleasedLock() if _LEAVES_LOCKS and type(lock) is _RLock else lock  # gevent's is another one
