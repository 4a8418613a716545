"""`socketless doctor`, run for real: what a person and a program read, under each profile, and the exit codes."""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import re
import subprocess
import sys

import pytest

from commands import LIMIT, MODULE, TESTS, environment, run, run_on_terminal, without_colours
from projects import under
from socketless import __version__

# The default method by which multiprocessing starts processes decides what breaks.
FORKSERVER = multiprocessing.get_all_start_methods()[0] == "forkserver"
REFUSED_BY_CODEX = {
    "socket(AF_INET)": "",
    "send() and recv() on a socket pair": "",
    "setsockopt() on a socket pair": "",
    "bind() and listen() on 127.0.0.1": "",
    "a connection over 127.0.0.1": "socket(): ",
    "a connection over ::1": "socket(): ",
    "a connection over a UNIX socket": "bind(): ",
    **({"a process of multiprocessing (forkserver)": ""} if FORKSERVER else {}),
}
WIDTH = max(map(len, REFUSED_BY_CODEX))
RESCUE = """\
       > pytest: nothing, as socketless's plugin takes care of it
       > elsewhere: socketless rescue COMMAND, for example
       >     socketless rescue python -m unittest
"""
MULTIPROCESSING_FAILS = f"""\
fails  multiprocessing's Process, Pool, ThreadPool, Lock and Queue
       needs a process of multiprocessing (forkserver)
       > multiprocessing.set_start_method("spawn"), before any other use; or
{RESCUE}
fails  concurrent.futures.ProcessPoolExecutor
       needs a process of multiprocessing (forkserver)
       > concurrent.futures.ThreadPoolExecutor; or
{RESCUE}
"""
MULTIPROCESSING_WORKS = """\
works  uvloop; host names: http://localhost:8000; multiprocessing's Process,
       Pool, ThreadPool, Lock and Queue; concurrent.futures.ProcessPoolExecutor;
       multiprocessing.Pipe(); multiprocessing.shared_memory; test clients of
       Flask, Django and werkzeug with sync views; pytest-xdist
"""
OTHERS_WORK = """\
works  uvloop; host names: http://localhost:8000; multiprocessing.Pipe();
       multiprocessing.shared_memory; test clients of Flask, Django and werkzeug
       with sync views; pytest-xdist
"""
CODEX = f"""\
Refused here:
{"".join(f"  {what:{WIDTH}}  {step}Operation not permitted{chr(10)}" for what, step in REFUSED_BY_CODEX.items())}
hangs  asyncio: TestClient of Starlette and FastAPI, asyncio.run() and
       to_thread(), pytest-asyncio, anyio, Django's AsyncClient and async views
       needs send() and recv() on a socket pair
{RESCUE}\
       > or, before the first loop is made:
       >     from socketless import eventloop; eventloop.install()

fails  trio
       needs send() and recv() on a socket pair
       > as above

fails  servers on 127.0.0.1 that the tests start, and their clients:
       LiveServerTestCase, live_server of pytest-django, uvicorn, waitress,
       http.server, in a thread or a Python process
       needs socket(AF_INET)
{RESCUE}\
       > or, before the first socket is made:
       >     from socketless import loopback; loopback.install()
       > or, without a server, let all clients reach the app over pipes:
       >     socketless run package.module:app -m pytest
       > or in pytest's ini file: socketless_app = package.module:app

fails  servers on ::1 that the tests start
       needs socket(AF_INET)
{RESCUE}\
       > or, before the first socket is made:
       >     from socketless import loopback; loopback.install()

fails  servers on UNIX sockets that the tests start
       needs a connection over a UNIX socket
       > as above

fails  clients of other servers on this machine, such as database drivers
       needs socket(AF_INET)
       > a database in a file; for the rest, fakes: socketless docs systems

{MULTIPROCESSING_FAILS if FORKSERVER else ""}\
fails  multiprocessing's Manager, and its start method forkserver, the default
       from Python 3.14 on
       needs a connection over a UNIX socket
       > multiprocessing.get_context("spawn").Process, without a Manager; or
{RESCUE}
fails  browsers in tests: Playwright, Selenium
       needs setsockopt() on a socket pair
       > nothing helps: Chromium itself needs sockets between its processes.
       > Run these tests outside this sandbox, or get pages without a browser:
       >     socketless.testclient.TestClient("package.module:app").get("/")

more   socketless docs rescue

{OTHERS_WORK if FORKSERVER else MULTIPROCESSING_WORKS}\
works  socketless {__version__}: a worker has answered
"""
NOTHING_REFUSED = f"""\
works  everything that tests need
works  socketless {__version__}: a worker has answered
"""


def test_nothing_refused() -> None:
    """Where everything works, two lines say so, and the exit code is 0."""
    assert run([*under("none"), *MODULE, "doctor"]) == (0, NOTHING_REFUSED, "")


def test_report_for_people() -> None:
    """What is refused, what breaks because of it, what to write, and what works; the exit code is 1."""
    assert run([*under("codex"), *MODULE, "doctor"]) == (1, CODEX, "")


def test_sandbox_has_a_name() -> None:
    """Where the environment tells which sandbox this is, the report begins with it, and programs have it, too."""
    env = {"CODEX_SANDBOX_NETWORK_DISABLED": "1"}
    name = "OpenAI Codex, without a network (CODEX_SANDBOX_NETWORK_DISABLED=1)"
    assert run([*under("codex"), *MODULE, "doctor"], env=env) == (1, f"Sandbox: {name}\n\n{CODEX}", "")
    _, stdout, _ = run([*under("codex"), *MODULE, "doctor", "--json"], env=env)
    assert json.loads(stdout)["sandbox"] == name


def test_report_for_programs() -> None:
    """`--json` prints one object with the documented keys."""
    code, stdout, stderr = run([*under("strict"), *MODULE, "doctor", "--json"])
    report = json.loads(stdout)
    assert (code, stderr) == (1, "")
    checks, advice = report.pop("checks"), report.pop("advice")
    assert report == {
        "version": __version__,
        "python": platform.python_version(),
        "platform": "linux",
        "sandbox": None,
        "docs": "socketless docs rescue",
        "socketless": {"works": True, "error": None},
    }
    assert {
        "name": "socketpair",
        "what": "socketpair()",
        "works": False,
        "error": "Operation not permitted",
    } in checks
    assert {"name": "shm", "what": "a file in /dev/shm", "works": True, "error": None} in checks
    assert {"way": "xdist", "what": "pytest-xdist", "outcome": "works", "because": None, "write": None} in advice
    assert {
        "way": "duplex_pipe",
        "what": "multiprocessing.Pipe()",
        "outcome": "fails",
        "because": "socketpair",
        "write": "two multiprocessing.Pipe(duplex=False), one for each direction; or\n"
        "pytest: nothing, as socketless's plugin takes care of it\n"
        "elsewhere: socketless rescue COMMAND, for example\n    socketless rescue python -m unittest",
    } in advice


def test_sandbox_that_kills() -> None:
    """Where a socket call kills, the report says by what, and socketless works all the same."""
    code, stdout, stderr = run([*under("fatal"), *MODULE, "doctor"])
    assert (code, stderr) == (1, "")
    assert f"  {'socketpair()':{WIDTH}}  killed by SIGSYS\n" in stdout
    assert stdout.endswith(f"works  socketless {__version__}: a worker has answered\n")


def limited(limit: str, *args: str) -> list[str]:
    # The limit comes after the imports, which need files.
    program = (
        "import resource, sys, socketless.__main__, socketless._cli.doctor;"
        "import socketless._host.process, socketless._httpx.transport;"
        f"resource.setrlimit({limit}); sys.argv[1:] = ['doctor', *{list(args)}];"
        "from socketless.__main__ import main; main()"
    )
    return [sys.executable, "-c", program]


@pytest.mark.unmeasured
def test_no_descriptors_left() -> None:
    """Where nothing can be tried at all, socketless does not work either, and the exit code is 3."""
    limit = "resource.RLIMIT_NOFILE, (3, 3)"
    error = "OSError: [Errno 24] Too many open files"
    assert run(limited(limit)) == (3, f"fails  socketless {__version__} itself: {error}\n", "")
    code, stdout, stderr = run(limited(limit, "--json"))
    report = json.loads(stdout)
    assert (code, stderr) == (3, "")
    assert report["socketless"] == {"works": False, "error": error}
    assert (report["checks"], report["advice"]) == ([], [])


def test_worker_that_cannot_start() -> None:
    """Where the checks are possible and a worker is not, its error is shown, and the exit code is 3."""
    limit = "resource.RLIMIT_NOFILE, (20, 20)"  # a worker has more pipes than that
    code, stdout, stderr = run(limited(limit))
    assert (code, stderr) == (3, "")
    last = stdout.splitlines()[-1]
    assert last.startswith(f"fails  socketless {__version__} itself: ")
    assert "[Errno 24] Too many open files; it needs 4 for each of its 32 channels" in last


def test_colours_on_a_terminal() -> None:
    """A terminal shows what works in green and what does not in red; the text is the same as in a pipe."""
    code, text = run_on_terminal([*under("codex"), *MODULE, "doctor"])
    assert (code, without_colours(text)) == (1, CODEX)
    assert "\x1b[31mhangs\x1b[0m  asyncio" in text
    assert "\x1b[32mworks\x1b[0m  uvloop" in text


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_terminal_without_colours(env: dict[str, str]) -> None:
    """NO_COLOR and a dumb terminal switch the colours off."""
    _, text = run_on_terminal([*under("strict"), *MODULE, "doctor"], env=env)
    assert re.findall(r"\x1b\[[0-9;]*[39]\dm", text) == []
    assert without_colours(text).startswith("Refused here:\n")


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_closed_pipe_is_silent(option: list[str]) -> None:
    """A reader that has seen enough leads to no message."""
    reader, writer = os.pipe()
    os.close(reader)
    command = [*MODULE, "doctor", *option]
    done = subprocess.run(
        command, check=False, stdout=writer, stderr=subprocess.PIPE, cwd=TESTS, env=environment(), timeout=LIMIT
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_wrong_usage() -> None:
    """Wrong usage exits with 2, and tries nothing."""
    assert run([*MODULE, "doctor", "now"]) == (
        2,
        "",
        (
            "Usage: socketless doctor [OPTIONS]\nTry 'socketless doctor --help' for help.\n\n"
            "Error: Got unexpected extra argument (now)\n"
        ),
    )
