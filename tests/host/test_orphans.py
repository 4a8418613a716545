"""A worker does not outlive its host, whatever either is doing."""

from __future__ import annotations

import itertools
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from support import LIMIT, nothing_leaks

APP = """
import os, subprocess, sys, threading

def tell(what, pid=None):
    with open(os.environ["TELL"], "w") as fifo:
        fifo.write(f"{what} {pid or os.getpid()}\\n")

if os.environ["MOMENT"] == "import":
    tell("worker")
    threading.Event().wait()
child = subprocess.Popen([sys.executable, "-c", "import threading; threading.Event().wait()"])
tell("child", child.pid)

def wsgi(environ, start_response):
    tell("worker")
    if os.environ["MOMENT"] == "request":
        threading.Event().wait()
    start_response("200 OK", [])
    return []

async def asgi(scope, receive, send):
    tell("worker")
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        if os.environ["MOMENT"] == "shutdown":
            threading.Event().wait()
    if os.environ["MOMENT"] == "request":
        threading.Event().wait()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})
"""

HOST = """
import os, signal, sys, httpx
from socketless import IpcProcess, IpcTransport
worker = IpcProcess("orphan_app:" + sys.argv[1], start_method=sys.argv[2], startup_timeout=None)
httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=None).get("/")
os.kill(os.getpid(), signal.SIGKILL)
"""


@contextmanager
def starting(*args: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a host, and let none be there that a failed test would wait for."""
    with subprocess.Popen([sys.executable, "-c", *args], text=True, **options) as host:
        try:
            yield host
        finally:
            host.kill()


@pytest.mark.one_in(2, "start_method", "kind", "moment")
@pytest.mark.parametrize("start_method", ["spawn", "fork"])
@pytest.mark.parametrize("kind", ["wsgi", "asgi"])
@pytest.mark.parametrize("moment", ["idle", "request", "import", "shutdown"])
def test_no_orphan(moment: str, kind: str, start_method: str, tmp_path: Path) -> None:
    """When its host is killed, a worker ends with its children: idle, in a request, in its start or while it leaves."""
    (tmp_path / "orphan_app.py").write_text(APP)
    (tmp_path / "host.py").write_text(HOST)
    os.mkfifo(tmp_path / "fifo")
    env = {**os.environ, "TELL": str(tmp_path / "fifo"), "MOMENT": moment}
    with (
        nothing_leaks(),
        open(os.open(tmp_path / "fifo", os.O_RDWR)) as told,  # for writing, too, so that it never ends
        starting(HOST, kind, start_method, env=env, cwd=tmp_path) as host,
    ):
        wanted = {"worker"} if moment == "import" else {"worker", "child"}
        pids = {}
        while set(pids) != wanted:
            what, pid = told.readline().split()
            pids[what] = int(pid)
        if moment in ("request", "import"):
            host.kill()
        host.wait(LIMIT)
        for pid in pids.values():
            wait_for_end(pid)


DEAF_APP = """
import ctypes, os, signal, subprocess, sys, threading

WAITS = [sys.executable, "-c", "import threading; threading.Event().wait()"]

def tell(what, pid=None):
    with open(os.environ["TELL"], "w") as fifo:
        fifo.write(f"{what} {pid or os.getpid()}\\n")

def app(environ, start_response):
    child = subprocess.Popen([sys.executable, "-c", "import subprocess, sys; child = subprocess.Popen(sys.argv[1:], "
        "start_new_session=True); print(child.pid, flush=True); child.wait()", *WAITS], start_new_session=True,
        stdout=subprocess.PIPE, text=True)
    tell("child", child.pid)
    tell("grandchild", child.stdout.readline().strip())
    tell("worker")
    how = os.environ["HOW"]
    if how == "holds its GIL":
        ctypes.PyDLL(None).pause()
    elif how == "is stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    elif how == "is another program":
        os.execv(sys.executable, WAITS)
    threading.Event().wait()
"""


# It lets live for longer than this test what has closed its pipes.
PATIENT_HOST = f"from socketless._host import process_run; process_run._TERM_SECONDS = {LIMIT}\n{HOST}"

HOWS = ("waits", "holds its GIL", "is stopped", "is another program")

# With which start method each of some workers is started. They are there at the same time, as the test waits long for
# the end of each.
by_turns = pytest.mark.parametrize(
    "start_methods", [["spawn", "fork"] * 2, pytest.param(["fork", "spawn"] * 2, marks=pytest.mark.slow)]
)


@by_turns
def test_orphans_that_do_not_listen(start_methods: list[str], tmp_path: Path) -> None:
    """A worker that can do nothing itself ends with its host, and so do its children in sessions of their own."""
    (tmp_path / "orphan_app.py").write_text(DEAF_APP)
    with nothing_leaks(), ExitStack() as stack:
        started = []
        for number, (how, start_method) in enumerate(zip(HOWS, start_methods, strict=True)):
            fifo = tmp_path / f"fifo {number}"
            os.mkfifo(fifo)
            told = stack.enter_context(open(os.open(fifo, os.O_RDWR)))  # for writing, too, so that it never ends
            env = {**os.environ, "TELL": str(fifo), "HOW": how}
            host = stack.enter_context(starting(PATIENT_HOST, "app", start_method, env=env, cwd=tmp_path))
            pids = dict(told.readline().split() for _ in range(3))
            wait_for_state(int(pids["worker"]), "T" if how == "is stopped" else "S")
            started.append((host, pids))
        for host, _ in started:
            host.kill()
            host.wait(LIMIT)
        for _, pids in started:
            for pid in pids.values():
                wait_for_end(int(pid))


def wait_for_state(pid: int, wanted: str) -> None:
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != wanted:
        pass


LEAVING_APP = """
import asyncio, os, signal, threading
from asgiref.sync import sync_to_async

def break_off():
    os.kill(os.getppid(), signal.Signals[os.environ["SIGNAL"]])
    threading.Event().wait()

async def hangs_in_its_lifespan(scope, receive, send):
    if scope["type"] == "lifespan":
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        break_off()

async def hangs_in_a_thread(scope, receive, send):
    if scope["type"] == "http":
        loop = asyncio.get_running_loop()
        close = loop.close
        loop.close = lambda: (close(), break_off())
        await sync_to_async(threading.Event().wait)()
"""

LEAVING_HOST = """
import signal, sys, threading, httpx
from socketless import IpcProcess, IpcTransport
signal.signal(signal.SIGINT, signal.default_int_handler)
worker = IpcProcess("leaving_app:" + sys.argv[2], start_method=sys.argv[1], shutdown_timeout=None)
print(worker.pid, flush=True)
try:
    if sys.argv[2] == "hangs_in_a_thread":
        httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=0.1).get("/")
except httpx.ReadTimeout:
    pass
try:
    worker.close()
except KeyboardInterrupt:
    print("in a hurry", [thread.name for thread in threading.enumerate()], flush=True)
sys.stdin.read()
"""


@by_turns
def test_close_that_is_broken_off(start_methods: list[str], tmp_path: Path) -> None:
    """A worker that hangs while it leaves ends when its host is killed, or when close() is interrupted there."""
    (tmp_path / "leaving_app.py").write_text(LEAVING_APP)
    cases = itertools.product(("SIGINT", "SIGKILL"), ("hangs_in_its_lifespan", "hangs_in_a_thread"))
    with nothing_leaks(), ExitStack() as stack:
        started = []
        for (signal_name, app), start_method in zip(cases, start_methods, strict=True):
            streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            env = {**os.environ, "SIGNAL": signal_name}
            host = stack.enter_context(starting(LEAVING_HOST, start_method, app, env=env, cwd=tmp_path, **streams))
            assert host.stdout is not None
            started.append((host, int(host.stdout.readline()), signal_name == "SIGKILL"))
        for host, worker, is_killed in started:
            wait_for_end(worker)  # in a hurry, the host is still there
            assert host.stdin is not None
            assert host.stdout is not None
            host.stdin.close()
            assert host.stdout.read() == ("" if is_killed else "in a hurry ['MainThread']\n")
            assert host.wait(LIMIT) == (-signal.SIGKILL if is_killed else 0)


def wait_for_end(pid: int) -> None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        assert poller.poll(LIMIT * 1000), f"process {pid} is still there"
    finally:
        os.close(pidfd)


def test_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C is for the host: a request in flight ends with KeyboardInterrupt, and the worker is stopped with it."""
    program = (
        "import httpx, os, signal\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a shell's background job ignores it
        "from socketless import IpcProcess, IpcTransport\n"
        "with IpcProcess('apps.conformance_app:wsgi', shutdown_timeout=0.1) as worker:\n"
        "    client = httpx.Client(transport=IpcTransport(worker), base_url='http://testserver', timeout=None)\n"
        "    client.get('/count')\n"
        "    os.killpg(0, signal.SIGINT)\n"  # as a terminal does
        "    client.get('/hang')\n"
    )
    with nothing_leaks():
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            start_new_session=True,
        )
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert done.returncode == -signal.SIGINT
