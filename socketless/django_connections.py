"""Which databases the connections of this process stand for, and which of them threads share.

It runs in a worker, and for a worker on threads in the tests' process, which is the same one. Every connection of
Django's is made by `connections.create_connection()`, so that is where it is said. It imports nothing of the package:
both sides import it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


class Connections:
    """Which connections the threads of this process get from `django.db.connections`.

    Args:
        allowed: the aliases that the tests may use. Another's database was not replaced by one for tests.
        shared: connections for the threads of a worker, by their aliases.
        is_sharing: whether this thread is one of those.
        where: what a person has to add an alias to.
    """

    def __init__(
        self,
        allowed: Collection[str],
        where: str,
        shared: Mapping[str, Any] | None = None,
        is_sharing: Callable[[], bool] = lambda: False,
    ) -> None:
        self._allowed = frozenset(allowed)
        self._where = where
        self._shared = dict(shared or {})
        self._is_sharing = is_sharing
        self._owner = threading.get_ident()
        self._made: list[tuple[threading.Thread, Any]] = []  # by other threads, which may add to it at any time

    def install(self) -> None:
        """Be asked for every new connection from now on."""
        connections.create_connection = self._create

    def uninstall(self) -> None:
        """Leave it to Django again, and close what was opened meanwhile, in whichever thread.

        Raises:
            Exception: what closing one of them has raised; the others are closed all the same.
        """
        vars(connections).pop("create_connection", None)
        with ExitStack() as closing:
            living = []
            while self._made:
                thread, connection = self._made.pop()
                closing.callback(_close, connection)
                if thread.is_alive():
                    living.append((thread, connection))
            self._made += living  # a thread that goes on may open its connection again, to be closed the next time

    def _create(self, alias: str) -> Any:
        # Runs in whichever thread uses an alias for the first time.
        if alias in self._shared and self._is_sharing():
            return self._shared[alias]
        settings = connections.settings[alias]
        connection = load_backend(settings["ENGINE"]).DatabaseWrapper(settings, alias)
        if alias not in self._allowed:
            _forbid(connection, alias, self._where)
        if threading.get_ident() != self._owner:
            self._made.append((threading.current_thread(), connection))
        return connection


def _close(connection: Any) -> None:
    connection.inc_thread_sharing()
    try:
        BaseDatabaseWrapper.close(connection)  # SQLite's own does not close what is in memory
    finally:
        connection.dec_thread_sharing()


def _forbid(connection: Any, alias: str, where: str) -> None:
    # Django's own test cases do this for the connections of the tests.
    def refuse(*args: object, **kwargs: object) -> None:
        from django.test.testcases import DatabaseOperationForbidden

        raise DatabaseOperationForbidden(
            f"Database connections to {alias!r} are not allowed in this test. Add {alias!r} to {where} to ensure "
            "proper test isolation and silence this failure."
        )

    connection.connect = connection.temporary_connection = refuse
