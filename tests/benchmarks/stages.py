"""Where the time of one GET to Flask in a process goes: from stage to stage, and function by function.

The stages are of plain requests: a note of the time (of a clock that both processes share) where one goes over to the
next. The functions are what cProfile says, which makes all of them slower, Python's more than those in C.
"""

from __future__ import annotations

import cProfile
import pstats
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any

import contestants
import httpx

import socketless
from socketless import IpcProcess, IpcTransport
from socketless._wire.frames import Incoming, Outgoing

PACKAGE = str(Path(socketless.__file__).parent)
_MARKS = "_marks_of_benchmark"  # of this process, or of the worker: in `sys`, which both have

# What lies between one mark and the next.
HOST = ["the client library", "from the transport to the pipe", "away", "from the pipe back", "the client library"]
WORKER = ["from the pipe to the app", "the app", "from the app to the pipe"]
_MOST_FUNCTIONS = 25

Profile = dict[str, Any]


def measure(requests: int) -> Profile:
    with IpcProcess(contestants.FLASK) as worker:
        client = httpx.Client(transport=IpcTransport(worker), base_url=contestants.BASE_URL)
        for _ in range(200):
            client.get("/")
        host = _profile_here(lambda: [client.get("/") for _ in range(requests)])
        worker.run(start_profile)
        for _ in range(requests):
            client.get("/")
        functions = {"host": per_get(host, requests), "worker": per_get(worker.run(stop_profile), requests)}
        worker.run(mark_worker)
        with _mark_host():
            for _ in range(requests):
                _mark()
                client.get("/")
                _mark()
        return {"stages": _stages(_take_marks(), worker.run(_take_marks)), "functions": functions}


def show(profile: Profile) -> None:
    if not profile:
        return
    print("\none GET, httpx, Flask in a process: the stages, µs (median)")
    for name, microseconds in profile["stages"]:
        print(f"  {name:<48}{microseconds:>8.1f}")
    for side, functions in profile["functions"].items():
        ours = [each for each in functions if each["file"].startswith("socketless/")]
        files = len({each["file"] for each in ours})
        calls, own = sum(each["calls"] for each in ours), sum(each["own"] for each in ours)
        print(f"\nin the {side}, of socketless: {calls:.0f} calls in {files} files, {own:.0f} µs under cProfile")
        for each in sorted(ours, key=lambda each: -each["own"])[:_MOST_FUNCTIONS]:
            print(f"  {each['file'] + ' ' + each['function']:<58}{each['calls']:>6.1f} x{each['own']:>7.1f}")


# Functions


def _profile_here(run: Callable[[], object]) -> list[Any]:
    profile = cProfile.Profile()
    profile.runcall(run)
    return rows_of(profile)


def start_profile() -> None:
    """Runs in the worker, in the thread of the channel that carries the requests that come next."""
    profile: Any = cProfile.Profile()
    setattr(sys, _MARKS, profile)
    profile.enable()


def stop_profile() -> list[Any]:
    profile = getattr(sys, _MARKS)
    profile.disable()
    return rows_of(profile)


def rows_of(profile: cProfile.Profile) -> list[Any]:
    stats: Any = pstats.Stats(profile)
    return [(*where, calls, own) for where, (_, calls, own, _, _) in stats.stats.items()]


def per_get(rows: list[Any], requests: int) -> list[dict[str, Any]]:
    """Return what each function costs in one GET; own time, in microseconds. What is called once is not of a GET."""
    return [
        {"file": _shown(file), "function": name, "calls": calls / requests, "own": own / requests * 1e6}
        for file, _, name, calls, own in rows
        if calls >= requests // 2
    ]


def _shown(file: str) -> str:
    return "socketless" + file.removeprefix(PACKAGE) if file.startswith(PACKAGE) else file


# Stages


def _mark() -> None:
    getattr(sys, _MARKS).append(time.clock_gettime(time.CLOCK_MONOTONIC))


def _take_marks() -> list[float]:
    marks: list[float] = getattr(sys, _MARKS)
    setattr(sys, _MARKS, [])
    return marks


def marking(function: Callable[..., Any], *, before: bool, after: Callable[[Any], bool]) -> Callable[..., Any]:
    """Return a function that notes the time `before`, and `after` if what it has returned says so."""

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if before:
            _mark()
        result = function(*args, **kwargs)
        if after(result):
            _mark()
        return result

    return call


def _mark_pipes() -> None:
    setattr(sys, _MARKS, [])
    Outgoing.write = marking(Outgoing.write, before=True, after=lambda result: False)  # type: ignore[method-assign]
    Incoming.read = marking(Incoming.read, before=False, after=bool)  # type: ignore[method-assign]


@contextmanager
def _mark_host() -> Iterator[None]:
    originals = Outgoing.write, Incoming.read, IpcTransport.handle_request
    _mark_pipes()
    handle_request: Any = marking(IpcTransport.handle_request, before=True, after=lambda result: True)
    IpcTransport.handle_request = handle_request  # type: ignore[method-assign]
    try:
        yield
    finally:
        Outgoing.write, Incoming.read, IpcTransport.handle_request = originals  # type: ignore[method-assign]


def mark_worker() -> None:
    """Runs in the worker."""
    import app_flask

    _mark_pipes()
    app_flask.app.wsgi_app = marking(  # type: ignore[method-assign]
        app_flask.app.wsgi_app, before=True, after=lambda result: True
    )


def _stages(host: list[float], worker: list[float]) -> list[tuple[str, float]]:
    # In the worker, the first mark is of the answer to `mark_worker()`, and the last one of the call that reads them.
    theirs = worker[1:]
    requests = len(host) // 6
    ours_of = [host[6 * number : 6 * number + 6] for number in range(requests)]
    theirs_of = [theirs[4 * number : 4 * number + 4] for number in range(requests)]
    rows = [(name, [each[at + 1] - each[at] for each in ours_of]) for at, name in enumerate(HOST)]
    away = [
        ("  to the worker", [theirs[0] - ours[2] for ours, theirs in zip(ours_of, theirs_of, strict=True)]),
        *((f"  {name}", [each[at + 1] - each[at] for each in theirs_of]) for at, name in enumerate(WORKER)),
        ("  back to the host", [ours[3] - theirs[3] for ours, theirs in zip(ours_of, theirs_of, strict=True)]),
    ]
    return [(name, median(seconds) * 1e6) for name, seconds in [*rows[:3], *away, *rows[3:]]]
