"""Which databases the connections of this process stand for, and which of them threads share.

It runs in a worker, and for a worker on threads in the tests' process, which is the same one. Every connection of
Django's is made by `connections.create_connection()`, so that is where it is said. It imports nothing of the package:
both sides import it.

A thread that has outlived its worker, and so the test that it was for, has no connection any more: those of the tests
are not shared with it, its own are closed and cannot be opened again.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping
from contextlib import ExitStack
from typing import Any

from django.db import InterfaceError, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


class Connections:
    """Which connections the threads of this process get from `django.db.connections`.

    Args:
        allowed: the aliases that the tests may use. Another's database was not replaced by one for tests.
        shared: connections for the threads of a worker, by their aliases.
        is_sharing: whether this thread is one of those.
        is_late: whether this thread has outlived its worker.
        where: what a person has to add an alias to.
    """

    def __init__(
        self,
        allowed: Collection[str],
        where: str,
        shared: Mapping[str, Any] | None = None,
        is_sharing: Callable[[], bool] = lambda: False,
        is_late: Callable[[], bool] = lambda: False,
    ) -> None:
        self._allowed = frozenset(allowed)
        self._where = where
        self._originals = dict(shared or {})
        self._shared = {alias: _Shared(connection, is_late) for alias, connection in self._originals.items()}
        self._is_sharing = is_sharing
        self._is_late = is_late
        self._owner = threading.get_ident()
        self._made: list[tuple[threading.Thread, Any]] = []  # by other threads, which may add to it at any time

    def install(self) -> None:
        """Be asked for every new connection from now on."""
        connections.create_connection = self._create

    def uninstall(self) -> None:
        """Leave it to Django again, save for threads that are late, and close what was opened meanwhile, in any thread.

        Raises:
            Exception: what closing one of them has raised; the others are closed all the same.
        """
        connections.create_connection = self._create_unless_late
        with ExitStack() as closing:
            living = []
            while self._made:
                thread, connection = self._made.pop()
                if getattr(thread, "is_late", False):
                    _refuse(connection)
                elif thread.is_alive():
                    living.append((thread, connection))
                closing.callback(_close, connection)
            self._made += living  # a thread that goes on may open its connection again, to be closed the next time

    def end_transactions(self) -> None:
        """End what late threads have begun on connections that they shared with the tests."""
        for connection in self._originals.values():
            if connection.in_atomic_block or not connection.get_autocommit():
                # Django begins a transaction's bookkeeping anew with each connection; this one, in memory, must stay.
                connection.in_atomic_block, connection.needs_rollback = False, False
                connection.savepoint_ids, connection.atomic_blocks, connection.run_on_commit = [], [], []
                connection.commit()  # of what the tests have flushed since, too
                connection.set_autocommit(True)

    def _create(self, alias: str) -> Any:
        # Runs in whichever thread uses an alias for the first time.
        if self._is_late():
            return _refuse(_make(alias))
        if alias in self._shared and self._is_sharing():
            return self._shared[alias]
        connection = _make(alias)
        if alias not in self._allowed:
            _forbid(connection, alias, self._where)
        if threading.get_ident() != self._owner:
            self._made.append((threading.current_thread(), connection))
        return connection

    def _create_unless_late(self, alias: str) -> Any:
        # Runs as _create() does, while no worker is there for the tests.
        return _refuse(_make(alias)) if self._is_late() else type(connections).create_connection(connections, alias)


class _Shared:
    """A connection of the tests for threads of a worker, which stays theirs as long as that is there.

    It has no attribute of its own that Django's could have, too.
    """

    __slots__ = ("__is_late", "__refused", "__shared")

    def __init__(self, shared: Any, is_late: Callable[[], bool]) -> None:
        refused = _refuse(_make(shared.alias))
        refused.validate_thread_sharing = refused.connect
        set_own = super().__setattr__
        set_own("_Shared__shared", shared)
        set_own("_Shared__refused", refused)
        set_own("_Shared__is_late", is_late)

    def __now(self) -> Any:
        return self.__refused if self.__is_late() else self.__shared

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.__shared)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__now(), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__now(), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self.__now(), name)

    def cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Return a cursor of Django's that asks this one whether it may go on."""
        cursor = self.__now().cursor(*args, **kwargs)
        cursor.db = self
        return cursor

    def chunked_cursor(self, *args: Any, **kwargs: Any) -> Any:
        """Return one for large results, which does the same."""
        cursor = self.__now().chunked_cursor(*args, **kwargs)
        cursor.db = self
        return cursor


def _make(alias: str) -> Any:
    settings = connections.settings[alias]
    return load_backend(settings["ENGINE"]).DatabaseWrapper(settings, alias)


def _close(connection: Any) -> None:
    connection.inc_thread_sharing()
    try:
        BaseDatabaseWrapper.close(connection)  # SQLite's own does not close what is in memory
    finally:
        connection.dec_thread_sharing()


def _refuse(connection: Any) -> Any:
    # Whatever it is used for begins with one of these; a cursor's use, with the last one.
    def refuse(*args: object, **kwargs: object) -> None:
        raise InterfaceError(
            f"this thread has outlived its worker and the tests of that worker: it may not use {connection.alias!r}, "
            "which is the database of later tests"
        )

    connection.connect = connection.temporary_connection = connection.validate_no_broken_transaction = refuse
    return connection


def _forbid(connection: Any, alias: str, where: str) -> None:
    # Django's own test cases do this for the connections of the tests.
    def refuse(*args: object, **kwargs: object) -> None:
        from django.test.testcases import DatabaseOperationForbidden

        raise DatabaseOperationForbidden(
            f"Database connections to {alias!r} are not allowed in this test. Add {alias!r} to {where} to ensure "
            "proper test isolation and silence this failure."
        )

    connection.connect = connection.temporary_connection = refuse
