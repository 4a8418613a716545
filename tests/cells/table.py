"""A table of what can go wrong: moments of an exchange, failures, kinds of worker, clients.

A cell is one of each. A client asks an app of `apps.cells_app`, and when the two have come to the moment, something
fails. `EXPECTED` says what the client gets then, and what becomes of the other requests of the same worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from apps.cells_app import Asked, AskedAndHeld
from socketless import IpcProcess, IpcThread, errors
from socketless._host.worker import Worker

APP = "apps.cells_app"
CHANNELS = 2
KINDS = ["thread-wsgi", "thread-asgi", "fork-wsgi", "fork-asgi", "spawn-wsgi", "spawn-asgi"]

# The moments, from when it waits for a channel ("waiting") until it is over ("idle"): its body is on its way; the app
# has all of it; the head of the response has been sent (by WSGI, it waits for the body); a piece of that; all of it.
IN_FLIGHT = ("upload", "asked", "head", "body", "end")

CAN_BE_CANCELLED = ("httpx-asyncio", "httpx-trio", "lowlevel", "aiohttp")  # clients
OF_PROCESSES = ("os._exit", "close-channel", "write-rubbish", "kill", "SIGSTOP")  # alone
OF_THE_APP = ("raise", "raise-unpicklable", "sys.exit", "os._exit", "close-channel", "write-rubbish")
FATAL = ("os._exit", "kill", "stop", "close-channel", "write-rubbish")  # to the worker, or to a channel


@dataclass(frozen=True)
class Expected:
    """What is to come of a cell."""

    error: type[BaseException] | tuple[type[BaseException], ...] | None = None  # None: an answer
    text: str = ""  # a regular expression of its whole text; {label} is the request, {worker} is the worker
    theirs: str = ""  # the error of the client library that it is as well, by httpx's name
    others: type[BaseException] | None = None  # what the others in flight get; None: their answers
    after: type[BaseException] | None = None  # what comes next on this worker
    is_sure: bool = True  # else an answer will do


_died = partial(Expected, errors.WorkerDied, theirs="ReadError", others=errors.WorkerDied)
_closed = "{label}: {worker} closed the channel of this request, but still runs"
_rubbish = ": 74 68 69 73 20 69 73 20 6e 6f 20 6d 65 is not the beginning of a message"
_late = Expected(
    errors.ReadTimeout, r"{label}: the app did not (answer|go on with its answer) within 0\.1 s(?s:.*)", "ReadTimeout"
)
_busy = r"{label}: all 2 channels of the worker stayed busy \(max_connections\):(\n  POST /other, for \d+\.\d s){2}"
_has_ended = "{label}: {worker} (exited with code 0|was killed by SIG(TERM|KILL)|has ended)"  # as the app lets go
_stopped = partial(Expected, others=errors.WorkerDied, after=errors.StateError)

Table = dict[tuple[str, tuple[str, ...]], Expected]

# Of processes; (failure, moments): what is expected. Where no row is, the failure makes no sense.
EXPECTED: Table = {
    # What the app does
    ("raise", IN_FLIGHT): Expected(Asked, "as asked"),
    ("raise-unpicklable", IN_FLIGHT): Expected(
        errors.AppError, r"apps\.cells_app\.AskedAndHeld: as asked\n\nThe worker's traceback:\n(?s:.*)"
    ),
    ("sys.exit", IN_FLIGHT): Expected(SystemExit, "3"),
    ("os._exit", IN_FLIGHT): _died("{label}: {worker} exited with code 7; the end of its stderr:\nleaving now"),
    ("close-channel", IN_FLIGHT): Expected(errors.ChannelClosed, _closed, "ReadError"),
    ("write-rubbish", IN_FLIGHT): Expected(errors.ChannelClosed, _closed + _rubbish, "ReadError"),
    # What happens to the worker
    ("kill", ("waiting",)): Expected(others=errors.WorkerDied),  # nothing of it had been sent
    ("kill", IN_FLIGHT): _died("{label}: {worker} was killed by SIGKILL"),
    ("kill", ("idle",)): Expected(others=errors.WorkerDied),
    ("stop", ("waiting", "idle")): _stopped(errors.StateError, "the worker has been closed"),
    ("stop", IN_FLIGHT): _stopped(errors.WorkerDied, _has_ended, "ReadError"),
    ("SIGSTOP", ("asked", "body")): _late,
    # What the client does
    ("be-late", ("waiting",)): Expected(errors.PoolTimeout, _busy, "PoolTimeout"),
    ("be-late", ("upload", "asked", "head", "body")): _late,
    ("be-late", ("end",)): Expected(),  # no time limit counts what the app does after its response
    ("leave", ("body",)): Expected(),
    ("cancel", ("waiting", *IN_FLIGHT)): Expected(asyncio.CancelledError),
    ("interrupt", ("waiting", *IN_FLIGHT)): Expected(KeyboardInterrupt),
    ("body-raises", ("upload",)): Expected(ZeroDivisionError, "of the body"),
}
# The same of WebSockets: not accepted yet; accepted, and the client sends; between two messages; the client has closed.
WHILE_CONNECTED = ("connect", "accepted", "open", "closing")
EXPECTED_OF_WEBSOCKETS: Table = {
    **{(failure, WHILE_CONNECTED): EXPECTED[failure, IN_FLIGHT] for failure in OF_THE_APP},
    ("kill", WHILE_CONNECTED): EXPECTED["kill", IN_FLIGHT],
    ("stop", WHILE_CONNECTED): EXPECTED["stop", IN_FLIGHT],
    ("be-late", WHILE_CONNECTED): _late,
    ("cancel", WHILE_CONNECTED): EXPECTED["cancel", ("waiting", *IN_FLIGHT)],
    ("interrupt", WHILE_CONNECTED): EXPECTED["interrupt", ("waiting", *IN_FLIGHT)],
}
OF_THREADS = {"raise-unpicklable": Expected(AskedAndHeld, "as asked")}  # where these differ


def expected(table: Table, kind: str, moment: str, failure: str) -> Expected | None:
    """Return what is to come of a cell; `None` if there is no such cell."""
    is_thread = kind.startswith("thread")
    if is_thread and failure in OF_PROCESSES:
        return None
    for (each, moments), known in table.items():
        if each == failure and moment in moments:
            return OF_THREADS.get(failure, known) if is_thread else known
    return None


def cells(table: Table, kinds: list[str], clients: Iterable[str]) -> Iterator[tuple[str, str, str, str]]:
    """Yield all that there are: the kind of worker, the moment, the failure, the client."""
    moments = dict.fromkeys(moment for _, moments in table for moment in moments)
    failures = dict.fromkeys(failure for failure, _ in table)
    for kind, moment, failure, client in product(kinds, moments, failures, clients):
        if expected(table, kind, moment, failure) is not None and (failure != "cancel" or client in CAN_BE_CANCELLED):
            yield kind, moment, failure, client


def start(kind: str, **options: Any) -> Worker:
    """Start a worker, which is started again as often as need be."""
    how, _, app = kind.partition("-")
    known: dict[str, Any] = {"max_connections": CHANNELS, "max_restarts": 10**9, "lifespan": False, **options}
    if how == "thread":
        return IpcThread(f"{APP}:{app}", **known)
    return IpcProcess(f"{APP}:{app}", start_method=how, **known)
