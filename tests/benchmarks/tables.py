"""What is measured: tables of contestants, and the ratios in them that are wanted."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from typing import NamedTuple

import contestants
import floors
import programs
import sockets
import suite
import suite_of_app
import suite_of_clients
from contestants import BASELINE, OUR_TEST_CLIENT, OURS, STARLETTES, UVICORN, WSGI_TRANSPORT, Action, Contestant
from rounds import Samples, Turn, take_turns

GET = Action("GET", "/")
MIB = 1024 * 1024
THREADS, REQUESTS_A_THREAD, SLEEP = 8, 25, 0.02
IDEAL = "ideal"

FLASK, FASTAPI, DEF, DJANGO = "GET, Flask", "GET, FastAPI", "GET, FastAPI def", "GET, Django ASGI"
REQUESTS, ECHO_4, ECHO_32 = "GET, Flask, requests", "4 MiB echo, Flask", "32 MiB echo, Flask"
START, REQUEST, HELP = "start to first answer, Flask", "socketless request", "socketless --help"
CLIENTS = "300 tests with a TestClient each"
APP = "300 tests under socketless_app"
PYTEST = "pytest's start, codex"
IN_THREADS = f"{THREADS} threads x {REQUESTS_A_THREAD} x 20 ms"
SUITES = f"{suite.TESTS} tests of {suite.REQUESTS} GETs"
LOOPBACK = "loopback, GET and 16 MiB"


class Goal(NamedTuple):
    """How long one contestant of a table may take, beside another one."""

    table: str
    ours: str
    peer: str
    most: float

    @property
    def text(self) -> str:
        return f"{self.table}: {self.ours} / {self.peer}"


GOALS = [
    Goal(FLASK, OURS, BASELINE, 0.40),
    Goal(FLASK, OURS, WSGI_TRANSPORT, 1.6),
    Goal(FASTAPI, OURS, BASELINE, 0.60),
    Goal(DEF, OURS, UVICORN, 0.50),
    Goal(DJANGO, OURS, UVICORN, 0.6),
    Goal(REQUESTS, OURS, floors.CLIENT, 2.0),
    Goal(FASTAPI, OUR_TEST_CLIENT, STARLETTES, 0.18),
    Goal(CLIENTS, suite_of_clients.OURS, suite_of_clients.STARLETTES, 0.5),
    Goal(APP, suite_of_app.TWO, suite_of_app.NONE, 2.0),
    Goal(ECHO_4, OURS, UVICORN, 0.5),
    Goal(ECHO_32, OURS, UVICORN, 0.5),
    Goal(START, f"{OURS}, spawn", programs.IMPORT_APP, 1.08),
    Goal(REQUEST, programs.REQUEST, programs.IMPORT_HTTPX, 1.6),
    Goal(HELP, programs.HELP, programs.IMPORT_CLICK, 1.3),
    Goal(PYTEST, programs.WITH_PLUGIN, programs.WITHOUT_PLUGIN, 1.05),
    Goal(IN_THREADS, OURS, IDEAL, 1.08),
]


def further_goals(names: Iterable[str]) -> list[Goal]:
    """Return those of the tables that are made only when they are asked for; `names` are in that of loopback."""
    goals = [Goal(SUITES, suite.NEW_CLIENT, suite.KEPT_CLIENT, 1.5)]
    lines = [name.removesuffix(", virtual") for name in names if name.endswith(", virtual")]
    most = {line: 1.5 if line.endswith("child") else 1.0 for line in lines}
    return goals + [Goal(LOOPBACK, f"{line}, virtual", f"{line}, real", most[line]) for line in lines]


def of_goals(rounds: int, requests: int) -> dict[str, Callable[[], Samples]]:
    """Return what makes the tables of `GOALS`, by title."""
    few = max(2, rounds // 8)
    flask = {**contestants.of_flask(), **floors.of_flask()}
    fastapi = {**contestants.of_fastapi(), **floors.of_fastapi()}
    in_threads = {name: fastapi[name] for name in fastapi if name in (OURS, BASELINE, UVICORN)}
    large = contestants.of_large_bodies()
    return {
        FLASK: partial(measure, flask, GET, rounds, requests),
        FASTAPI: partial(measure, fastapi, GET, rounds, requests),
        DEF: partial(measure, in_threads, Action("GET", "/def"), rounds, requests),
        DJANGO: partial(measure, contestants.of_django(), GET, rounds, requests),
        REQUESTS: partial(measure, {**contestants.of_requests(), **floors.of_requests()}, GET, rounds, requests),
        CLIENTS: lambda: take_turns(programs.of_suite_of_clients(), few),
        APP: lambda: take_turns(programs.of_suite_of_app(), few),
        ECHO_4: partial(measure, large, echo(4), rounds, 2),
        ECHO_32: partial(measure, large, echo(32), few, 1),
        START: lambda: take_turns(programs.of_start(), rounds // 2),
        REQUEST: lambda: take_turns(programs.of_request(), rounds // 2),
        HELP: lambda: take_turns(programs.of_help(), rounds // 2),
        PYTEST: lambda: take_turns(programs.of_pytest_start(), rounds // 2),
        IN_THREADS: partial(measure_threads, {OURS: flask[OURS]}, few),
    }


def of_the_rest(rounds: int, requests: int) -> dict[str, Callable[[], Samples]]:
    """Return what makes the further tables, by title."""
    flask, fastapi = contestants.of_flask(), contestants.of_fastapi()
    return {
        "1 MiB echo, Flask": partial(measure, flask, echo(1), rounds, 5),
        "1 MiB echo, FastAPI": partial(measure, fastapi, echo(1), rounds, 5),
        "4 MiB echo, FastAPI": partial(measure, fastapi, echo(4), rounds, 2),
        "start, empty WSGI app": lambda: take_turns(programs.of_ready("app_empty:app"), rounds // 2),
        "start, Flask": lambda: take_turns(programs.of_ready(contestants.FLASK), rounds // 2),
        "start, FastAPI": lambda: take_turns(programs.of_ready(contestants.FASTAPI), rounds // 2),
        SUITES: lambda: take_turns(programs.of_suite(), max(2, rounds // 8), suite.TESTS),
        LOOPBACK: lambda: sockets.measure(rounds, requests) if contestants.sockets_allowed() else {},
    }


def echo(mebibytes: int) -> Action:
    return Action("POST", "/echo", os.urandom(MIB) * mebibytes)


def measure(entries: Mapping[str, Contestant], action: Action, rounds: int, requests: int) -> Samples:
    """Return the seconds that one request takes."""
    with ExitStack() as stack:
        turns: dict[str, Turn] = {
            name: partial(stack.enter_context(contestant()), action, requests) for name, contestant in entries.items()
        }
        return take_turns(turns, rounds, requests)


def measure_threads(entries: Mapping[str, Contestant], rounds: int) -> Samples:
    """Return the seconds that all the threads take together, with one client, beside the least possible."""
    action = Action("GET", "/sleep")
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(THREADS))
        turns: dict[str, Turn] = {IDEAL: lambda: REQUESTS_A_THREAD * SLEEP}
        for name, contestant in entries.items():
            send = stack.enter_context(contestant())
            turns[name] = lambda send=send: list(  # type: ignore[misc]
                threads.map(send, [action] * THREADS, [REQUESTS_A_THREAD] * THREADS)
            )
        return take_turns(turns, rounds)
