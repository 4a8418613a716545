"""What the tests of the sample apps share: workers that are watched, and the tests' side of the board."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from socketless import IpcProcess
from socketless.errors import SocketlessError
from support import LIMIT, nothing_leaks

_topic_numbers = itertools.count(1)


def new_topic() -> str:
    """Return the name of a topic that no other test has."""
    return f"topic-{next(_topic_numbers)}"


class Workers:
    """The workers of a test module: one for each app and number of channels, started when it is first wanted."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._workers: dict[tuple[str, int], IpcProcess] = {}
        self._used: set[IpcProcess] = set()

    def __call__(self, app: str, max_connections: int = 8) -> IpcProcess:
        key = app, max_connections
        if key not in self._workers:
            self._workers[key] = self._stack.enter_context(new_worker(app, max_connections))
        self._used.add(self._workers[key])
        return self._workers[key]

    def close(self) -> None:
        self._stack.close()

    @contextmanager
    def watched(self, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Iterator[Workers]:
        """Assert that neither the apps nor socketless complain, of anything that the test has not looked at itself."""
        self._used.clear()
        yield self
        for worker in self._used:
            self._reset(worker)
        printed = capsys.readouterr().err
        assert printed == "", printed
        logged = [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.WARNING]
        assert logged == [], logged

    def _reset(self, worker: IpcProcess) -> None:
        """Let the worker collect its garbage, and bring along what it has printed."""
        has_channel = True

        def reset() -> None:
            try:
                worker.reset()
            except SocketlessError:
                if has_channel:
                    raise

        thread = threading.Thread(target=reset, daemon=True)
        thread.start()
        thread.join(LIMIT)
        if thread.is_alive():
            has_channel = False
            self._workers = {key: each for key, each in self._workers.items() if each is not worker}
            worker.close()
            thread.join(LIMIT)
            pytest.fail("the worker has no channel left")


def new_worker(app: str, max_connections: int = 8) -> IpcProcess:
    return IpcProcess(
        f"apps.streaming.{app}", reset_hook_path="apps.streaming.board:reset", max_connections=max_connections
    )


@contextmanager
def nothing_left() -> Iterator[None]:
    """As `nothing_leaks()`, and wait for threads that have given their channel back and are about to end."""
    with nothing_leaks():
        before = set(threading.enumerate())
        yield
        for thread in set(threading.enumerate()) - before:
            if thread.name.startswith("socketless-parked-"):
                thread.join(LIMIT)
