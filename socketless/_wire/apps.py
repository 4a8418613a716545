"""What host and worker both know of apps: their kinds, what runs them, and the one that this process has, or loads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

KINDS = ("auto", "wsgi", "asgi")
BACKENDS = ("asyncio", "trio")
LIFESPANS = ("auto", "on", "off")
WAYS_OUT = (
    "Give an import string ('package.module:app'), or a factory that makes it, or use start_method='fork', which takes "
    "any object."
)
_is_worker_process = False
_loading = False
_app: Any = None  # of a worker process


def be_worker_process() -> None:
    """Say that this process is a worker."""
    global _is_worker_process
    _is_worker_process = True


def have_app(app: Any) -> None:
    """Say which app this worker process has."""
    global _app
    _app = app


@contextmanager
def loading() -> Iterator[None]:
    """Say that this process loads an app during the block."""
    global _loading
    before, _loading = _loading, True  # a factory may load an app, too
    try:
        yield
    finally:
        _loading = before


def is_loading() -> bool:
    """Whether this process is a worker that is just importing its app."""
    return _loading and _is_worker_process


class WorkersApp:
    """Stands for the app of a worker process, where it is an argument of `run()`: it arrives as the app itself."""

    def __repr__(self) -> str:
        return "<the app in the worker>"

    def __reduce__(self) -> Any:
        return _the_app, ()


def _the_app() -> Any:
    return _app
