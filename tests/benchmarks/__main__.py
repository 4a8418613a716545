"""Measure what a request costs, beside the other ways to send one: `python tests/benchmarks`.

All contestants of a table are there at the same time and take turns, round by round; what counts is the best round of
each, so that what else the machine does falls on nobody. The ratios are to `socketless-http`, the best package that did
this before, and those of whole runs of pytest to Starlette's TestClient; only they can be compared from one machine to
another.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

HERE = str(Path(__file__).resolve().parent)
sys.path.insert(0, HERE)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")]))  # for the servers

import contestants
import sockets
import suite
from contestants import BASELINE, OURS, Action, Contestant, Send

from socketless import IpcProcess, eventloop

PACKAGES = ("socketless-testing", "socketless-http", "httpx", "flask", "fastapi", "starlette", "waitress", "uvicorn")
GET = Action("GET", "/")
MIB = 1024 * 1024
THREADS, REQUESTS_A_THREAD = 8, 25
IN_THREADS = f"{THREADS} threads x {REQUESTS_A_THREAD} requests of 20 ms"
SUITES = f"{suite.TESTS} tests of {suite.REQUESTS} GETs, each test"
LOOPBACK = "loopback, GET and 16 MiB"

Table = dict[str, float]  # seconds by contestant


def main() -> None:
    options = parse_options()
    if not contestants.sockets_allowed():
        eventloop.install()
    print_heading()
    tables: dict[str, Table] = {}
    for title, measure in sections(options.rounds, options.requests).items():
        if options.only in title:
            tables[title] = measure()
            print_table(title, tables[title])
    print_goals(tables)
    if options.json:
        options.json.write_text(json.dumps({"versions": versions(), "machine": machine(), "seconds": tables}, indent=2))


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/benchmarks", description="Measure what a request costs.")
    parser.add_argument("--rounds", type=int, default=15, help="how often each contestant has its turn")
    parser.add_argument("--requests", type=int, default=200, help="small requests in one turn")
    parser.add_argument("--only", default="", metavar="WORD", help="the tables that have this word in their title")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results, in seconds, to a file")
    return parser.parse_args()


def sections(rounds: int, requests: int) -> dict[str, Callable[[], Table]]:
    """Return what is measured, by title."""
    flask, fastapi = contestants.of_flask(), contestants.of_fastapi()
    few = max(1, requests // 40)
    return {
        "GET, Flask": lambda: measure_requests(flask, GET, rounds, requests),
        "GET, FastAPI": lambda: measure_requests(fastapi, GET, rounds, requests),
        "1 MiB echo, Flask": lambda: measure_requests(flask, echo(1), rounds, few),
        "1 MiB echo, FastAPI": lambda: measure_requests(fastapi, echo(1), rounds, few),
        "4 MiB echo, Flask": lambda: measure_requests(flask, echo(4), rounds, few),
        "4 MiB echo, FastAPI": lambda: measure_requests(fastapi, echo(4), rounds, few),
        "start, empty WSGI app": lambda: measure_starts("app_empty:app", rounds),
        "start, Flask": lambda: measure_starts(contestants.FLASK, rounds),
        "start, FastAPI": lambda: measure_starts(contestants.FASTAPI, rounds),
        IN_THREADS: lambda: measure_threads(flask),
        SUITES: lambda: measure_suites(max(1, rounds // 5)),
        LOOPBACK: lambda: sockets.measure(rounds, requests) if contestants.sockets_allowed() else {},
    }


def echo(mebibytes: int) -> Action:
    return Action("POST", "/echo", os.urandom(MIB) * mebibytes)


def measure_requests(entries: Mapping[str, Contestant], action: Action, rounds: int, requests: int) -> Table:
    """Return the seconds that one request takes."""
    with ExitStack() as stack:
        sends = {name: stack.enter_context(contestant()) for name, contestant in entries.items()}
        turns = {name: turn(send, action, requests) for name, send in sends.items()}
        for run in turns.values():
            run()  # to warm up
        return {name: seconds / requests for name, seconds in best_of(turns, rounds).items()}


def turn(send: Send, action: Action, requests: int) -> Callable[[], None]:
    return lambda: send(action, requests)


def best_of(turns: Mapping[str, Callable[[], None]], rounds: int) -> Table:
    """Let all take turns, and return the best seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, run in turns.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: min(taken) for name, taken in seconds.items()}


def measure_starts(app: str, rounds: int) -> Table:
    """Return the seconds until a worker is ready. What is forked has the frameworks in its memory already."""
    starts: dict[str, Callable[[], Any]] = {
        f"{OURS}, spawn": partial(IpcProcess, app, start_method="spawn"),
        f"{OURS}, fork": partial(IpcProcess, app, start_method="fork"),
    }
    if contestants.baseline_works():
        starts[BASELINE] = partial(import_module("socketless_http").IpcProcess, app, startup_timeout=30)
    return best_starts(starts, rounds)


def best_starts(starts: Mapping[str, Callable[[], Any]], rounds: int) -> Table:
    seconds: dict[str, list[float]] = {name: [] for name in starts}
    for _ in range(rounds):
        for name, start in starts.items():
            began = time.perf_counter()
            worker = start()
            seconds[name].append(time.perf_counter() - began)
            worker.close()
    return {name: min(taken) for name, taken in seconds.items()}


def measure_threads(entries: Mapping[str, Contestant]) -> Table:
    """Return the seconds that all the threads take together, with one client; the least possible is 0.5."""
    action = Action("GET", "/sleep")
    seconds = {}
    for name, contestant in entries.items():
        if name.endswith("async"):
            continue
        with contestant() as send, ThreadPoolExecutor(THREADS) as threads:
            start = time.perf_counter()
            list(threads.map(send, [action] * THREADS, [REQUESTS_A_THREAD] * THREADS))
            seconds[name] = time.perf_counter() - start
    return seconds


def measure_suites(rounds: int) -> Table:
    """Return the seconds of a whole run of pytest, for each of its tests."""
    ways = {name: partial(run_suite, name) for name in suite.WAYS if name != BASELINE or contestants.baseline_works()}
    return {name: seconds / suite.TESTS for name, seconds in best_of(ways, rounds).items()}


def run_suite(way: str) -> None:
    options = ["-p", "socketless.pytest_plugin", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", HERE]
    subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(suite.__file__)],
        env={**os.environ, "SUITE": way, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        stdout=subprocess.DEVNULL,
        check=True,
    )


def versions() -> dict[str, str]:
    found = {distribution.name.lower(): distribution.version for distribution in metadata.distributions()}
    return {"python": platform.python_version(), **{name: found[name] for name in PACKAGES if name in found}}


def machine() -> str:
    cpu = next((line for line in _cpu_lines() if line.startswith("model name")), ": " + platform.machine())
    return f"{platform.platform()}, {os.cpu_count()} x {cpu.partition(': ')[2].strip()}"


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def print_heading() -> None:
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    print(machine())
    if not contestants.sockets_allowed():
        print("sockets are refused here: no servers")


def print_table(title: str, table: Table) -> None:
    beside = suite.TEST_CLIENT if title == SUITES else BASELINE
    baseline = table.get(beside)
    print(f"\n{title:<36}{'µs':>12}{f'/ {beside}':>24}")
    for name, seconds in sorted(table.items(), key=lambda entry: entry[1]):
        ratio = f"{seconds / baseline:.2f}" if baseline else ""
        print(f"  {name:<34}{seconds * 1e6:>12,.0f}{ratio:>24}", flush=True)


def print_goals(tables: Mapping[str, Table]) -> None:
    print()
    for title, most in {"GET, Flask": 0.6, "GET, FastAPI": 0.8}.items():
        if BASELINE in tables.get(title, {}):
            print_goal(f"{title}, / {BASELINE}", tables[title][OURS] / tables[title][BASELINE], most)
    if SUITES in tables:
        [new_client, kept_client] = (tables[SUITES][name] for name in (suite.NEW_CLIENT, suite.KEPT_CLIENT))
        print_goal(f"{SUITES}: {suite.NEW_CLIENT}, / {suite.KEPT_CLIENT}", new_client / kept_client, 1.5)
    for name, seconds in tables.get(LOOPBACK, {}).items():
        line, _, kind = name.rpartition(", ")
        if kind == "virtual":
            most = 1.5 if line.endswith("child") else 1.0
            print_goal(f"loopback, {line}, / real", seconds / tables[LOOPBACK][f"{line}, real"], most)
    if IN_THREADS in tables:
        print_goal(f"{IN_THREADS}, seconds", tables[IN_THREADS][OURS], 0.6)


def print_goal(what: str, measured: float, most: float) -> None:
    print(f"{'reached' if measured <= most else 'MISSED '}  {what}: {measured:.2f}, the goal is {most}")


if __name__ == "__main__":
    main()
