"""The threads that a worker starts for its app: known by what they are, since anybody may name a thread as we do."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class AppThread(threading.Thread):
    """A daemon thread of a worker, in which it runs the app: one that hangs must not keep the process from leaving."""

    is_late = False  # its worker has been stopped, and did not wait for it any longer

    def __init__(self, name: str, target: Callable[..., object] | None = None, args: tuple[Any, ...] = ()) -> None:
        super().__init__(target=target, name=name, args=args, daemon=True)


def is_app_thread() -> bool:
    """Whether this is called in a thread of a worker. The main thread of a worker process is not told apart."""
    return isinstance(threading.current_thread(), AppThread)


def is_late_thread() -> bool:
    """Whether this is called in a thread that has outlived its worker."""
    return getattr(threading.current_thread(), "is_late", False)
