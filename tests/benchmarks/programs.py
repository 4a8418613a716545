"""What people wait for: a worker's start, commands, and whole runs of pytest."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

import contestants
import suite
import suite_of_app
import suite_of_clients
from contestants import BASELINE, OURS
from rounds import Turn

from socketless import IpcProcess
from socketless._wire.messages import Request

HERE = Path(__file__).resolve().parent
NOSOCK = HERE.parent / "nosock.py"
IMPORT_APP, IMPORT_HTTPX, IMPORT_CLICK = "importing the app", 'python -c "import httpx"', 'python -c "import click"'
REQUEST, HELP = "socketless request", "socketless --help"
WITH_PLUGIN, WITHOUT_PLUGIN = "pytest with the plugin", "pytest without it"

_GET = Request("GET", "http", ("testserver", 80), b"/", [(b"host", b"testserver")])
# Nothing of the machine's own settings and plugins: what is measured is the same everywhere.
_PYTEST = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(HERE)]


def of_start() -> dict[str, Turn]:
    """Flask from the start of a worker to its first answer, beside the same app imported by a fresh Python."""
    return {
        f"{OURS}, spawn": partial(_first_answer, "spawn"),
        f"{OURS}, fork": partial(_first_answer, "fork"),
        IMPORT_APP: partial(_run, [sys.executable, "-c", "import app_flask"]),
    }


def _first_answer(start_method: str) -> float:
    began = time.perf_counter()
    with IpcProcess(contestants.FLASK, start_method=start_method) as worker:  # type: ignore[arg-type]
        worker.exchange_blocking(_GET)
        return time.perf_counter() - began


def of_ready(app: str) -> dict[str, Turn]:
    """Return the ways to a worker that is ready. What is forked has the frameworks in its memory already."""
    starts: dict[str, Turn] = {
        f"{OURS}, spawn": partial(_ready, partial(IpcProcess, app, start_method="spawn")),
        f"{OURS}, fork": partial(_ready, partial(IpcProcess, app, start_method="fork")),
    }
    if contestants.baseline_works():
        start = import_module("socketless_http").IpcProcess
        starts[BASELINE] = partial(_ready, partial(start, app, startup_timeout=30))
    return starts


def _ready(start: Callable[[], IpcProcess]) -> float:
    began = time.perf_counter()
    worker = start()
    seconds = time.perf_counter() - began
    worker.close()
    return seconds


def of_request() -> dict[str, Turn]:
    command = [sys.executable, "-m", "socketless", "request", "wsgiref.simple_server:demo_app", "/"]
    return {REQUEST: partial(_run, command), IMPORT_HTTPX: partial(_run, [sys.executable, "-c", "import httpx"])}


def of_help() -> dict[str, Turn]:
    command = [sys.executable, "-m", "socketless", "--help"]
    return {HELP: partial(_run, command), IMPORT_CLICK: partial(_run, [sys.executable, "-c", "import click"])}


def of_pytest_start() -> dict[str, Turn]:
    """pytest with one empty test, where sockets are refused as Codex refuses them."""
    empty = [*_PYTEST, str(HERE / "suite_empty.py")]
    under_codex = [sys.executable, str(NOSOCK), "codex"]
    return {
        WITH_PLUGIN: partial(_run, [*under_codex, *empty, "-p", "socketless.pytest_plugin"]),
        WITHOUT_PLUGIN: partial(_run, [*under_codex, *empty]),
    }


def of_suite() -> dict[str, Turn]:
    """Whole runs of pytest whose clients are made in different ways."""
    ways = [name for name in suite.WAYS if name != BASELINE or contestants.baseline_works()]
    return {name: partial(_run_suite, suite.__file__, SUITE=name) for name in ways}


def of_suite_of_clients() -> dict[str, Turn]:
    return {name: partial(_run_suite, suite_of_clients.__file__, SUITE=name) for name in suite_of_clients.MODULES}


def of_suite_of_app() -> dict[str, Turn]:
    path, options = suite_of_app.__file__, ["--socketless-app", contestants.FASTAPI]
    return {name: partial(_run_suite, path, *options, SUITE=name) for name in suite_of_app.REQUESTS}


def _run_suite(path: str, *options: str, **environ: str) -> None:
    _run([*_PYTEST, "-p", "socketless.pytest_plugin", *options, path], **environ)


def _run(command: list[str], **environ: str) -> None:
    environ = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environ}
    subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, check=True)
