"""The table of `tests/cells`: the error in full, the others unharmed, nothing leaked; and none hangs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import aiohttp_client
from apps.cells_app import state
from cells import table
from cells.clients import ALL_CLIENTS, IN_BYTES, MESSAGES
from cells.running import a_folder, deadline, one_cell, threads_end, use_all_channels
from cells.table import EXPECTED, EXPECTED_OF_WEBSOCKETS, FATAL, KINDS, Expected, cells, expected
from socketless._aiohttp import connector
from socketless._host.worker import Worker
from support import nothing_leaks


@pytest.fixture(scope="module")
def warm() -> Iterator[Callable[[str], Worker]]:
    """Workers which several cells use. All their channels have been used before."""
    aiohttp_client.loop()  # its thread stays
    with ExitStack() as stack:
        known: dict[str, Worker] = {}

        def get(kind: str) -> Worker:
            if kind not in known:
                known[kind] = stack.enter_context(table.start(kind))
                use_all_channels(known[kind], stack.enter_context(a_folder()))
            return known[kind]

        yield get


Warm = Callable[[str], Worker]


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connector, "LEAVE_SECONDS", 0.5)  # for apps that wait for ever


def check(
    make_client: Callable[[Worker], Any], place: tuple[str, str, str], wanted: Expected, warm: Warm, folder: Path
) -> None:
    kind, moment, failure = place
    with deadline():
        if failure in FATAL:
            with nothing_leaks(), threads_end(), table.start(kind, shutdown_timeout=0.2) as worker:
                one_cell(worker, moment, failure, make_client(worker), wanted, folder)
        else:
            worker = warm(kind)
            before = worker.run(state)
            with nothing_leaks(), threads_end():
                one_cell(worker, moment, failure, make_client(worker), wanted, folder)
            assert worker.run(state) == before


@pytest.mark.one_in(25, "kind", "moment", "failure", "name")
@pytest.mark.parametrize(("kind", "moment", "failure", "name"), list(cells(EXPECTED, KINDS, ALL_CLIENTS)))
def test_cell(kind: str, moment: str, failure: str, name: str, warm: Warm, tmp_path: Path) -> None:
    """Whatever fails, whenever: the client gets the error in full, others are unharmed, and nothing is left."""
    wanted = expected(EXPECTED, kind, moment, failure)
    assert wanted is not None
    check(ALL_CLIENTS[name], (kind, moment, failure), wanted, warm, tmp_path)


KINDS_WITH_WEBSOCKETS = [kind for kind in KINDS if kind.endswith("asgi")]


@pytest.mark.one_in(15, "kind", "moment", "failure", "name")
@pytest.mark.parametrize(
    ("kind", "moment", "failure", "name"), list(cells(EXPECTED_OF_WEBSOCKETS, KINDS_WITH_WEBSOCKETS, MESSAGES))
)
def test_cell_of_websockets(kind: str, moment: str, failure: str, name: str, warm: Warm, tmp_path: Path) -> None:
    """So it is with a WebSocket. Its protocol has no words for most of it: other libraries say that it is lost."""
    wanted = expected(EXPECTED_OF_WEBSOCKETS, kind, moment, failure)
    assert wanted is not None
    if name in IN_BYTES and moment != "connect" and failure not in ("interrupt", "cancel"):
        wanted = replace(wanted, error=(Exception, SystemExit), text="(?s:.*)", is_sure=moment != "closing")
    check(MESSAGES[name], (kind, moment, failure), replace(wanted, theirs=""), warm, tmp_path)
