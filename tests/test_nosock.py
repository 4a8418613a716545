"""`nosock.py` refuses what it says, and socketless needs none of it.

The first law of the package is tested here: no socket system call, in either process, ever.
"""

from __future__ import annotations

import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import nosock

SCRIPT = Path(nosock.__file__).resolve()
GENEROUS = 60  # seconds; only a hang takes as long

pytestmark = pytest.mark.skipif(
    platform.system() != "Linux" or platform.machine() not in ("x86_64", "aarch64"),
    reason="nosock.py is for x86-64 and arm64 Linux",
)


def run(*command: str, directory: Path, script: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run `python nosock.py *command`; a `script` is the standard input."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *command],
        cwd=directory,
        input=script,
        stdin=subprocess.DEVNULL if script is None else None,
        capture_output=True,
        text=True,
        timeout=GENEROUS,
    )


def assert_prints(expected: str, done: subprocess.CompletedProcess[str]) -> None:
    assert (done.returncode, done.stdout, done.stderr) == (0, expected, "")


@pytest.fixture(scope="module")
def _sockets_allowed() -> None:
    # In a process of its own: under `fatal` it does not survive. Filters add up: what strict refuses, none can allow.
    probe = [sys.executable, "-c", "import socket; socket.socketpair()"]
    if subprocess.run(probe, stderr=subprocess.DEVNULL, timeout=GENEROUS).returncode != 0:
        pytest.skip("socketpair() is refused here already, and codex is a profile that allows it")


needs_sockets = pytest.mark.usefixtures("_sockets_allowed")


# What each profile refuses

NAMES = ("tcp", "tcp6", "udp", "unix", "pair")
TRY_ALL = """
import socket

def attempt(name, call):
    try:
        call()
    except OSError as error:
        print(f"{name}: {type(error).__name__} {error.errno}")
    else:
        print(f"{name}: possible")

attempt("tcp", lambda: socket.socket(socket.AF_INET))
attempt("tcp6", lambda: socket.socket(socket.AF_INET6))
attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
attempt("unix", lambda: socket.socket(socket.AF_UNIX))
attempt("pair", lambda: socket.socketpair())
"""


def test_strict_refuses_every_socket(tmp_path: Path) -> None:
    """Under strict there is no socket of any family, and no pair."""
    done = run("strict", sys.executable, "-", directory=tmp_path, script=TRY_ALL)
    expected = "".join(f"{name}: PermissionError 1\n" for name in NAMES)
    assert_prints(expected, done)


@needs_sockets
@pytest.mark.parametrize(
    ("profile", "refused"),
    [
        ("codex", {"tcp", "tcp6", "udp"}),
        ("codex-2025", {"tcp", "tcp6", "udp"}),
        ("codex-proxy", {"unix"}),
        ("claude", {"unix"}),
    ],
)
def test_families(tmp_path: Path, profile: str, refused: set[str]) -> None:
    """A sandbox refuses sockets by their address family; a pair is of AF_UNIX, and another call."""
    done = run(profile, sys.executable, "-", directory=tmp_path, script=TRY_ALL)
    outcomes = {name: "PermissionError 1" if name in refused else "possible" for name in NAMES}
    assert_prints("".join(f"{name}: {outcome}\n" for name, outcome in outcomes.items()), done)


@needs_sockets
@pytest.mark.parametrize("profile", ["codex-proxy", "claude"])
def test_calls_that_are_allowed(tmp_path: Path, profile: str) -> None:
    """Where a sandbox refuses families alone, all can be done with a socket of another."""
    script = """
import socket
with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
    client.sendall(b"hello")
    print(server.accept()[0].recv(5))
"""
    assert_prints("b'hello'\n", run(profile, sys.executable, "-", directory=tmp_path, script=script))


@pytest.mark.parametrize("name", ["EACCES", "ENOSYS", "EAFNOSUPPORT"])
def test_errno(tmp_path: Path, name: str) -> None:
    """A profile refuses with the errno that is asked for."""
    script = "import errno, socket\ntry: socket.socket()\nexcept OSError as error: print(errno.errorcode[error.errno])"
    assert_prints(f"{name}\n", run(f"strict:{name}", sys.executable, "-", directory=tmp_path, script=script))


@needs_sockets
@pytest.mark.parametrize(("profile", "messages"), [("codex", "possible"), ("codex-2025", "refused")])
def test_codex_refuses_what_sockets_are_for(tmp_path: Path, profile: str, messages: str) -> None:
    """Under codex a socket is written to and read from as a file, received from, has messages, and that is all."""
    script = """
import os, socket
left, right = socket.socketpair()
os.write(left.fileno(), b"by write")
print(right.recv(100))
os.write(left.fileno(), b"by write")
print(os.read(right.fileno(), 100))
calls = {
    "send": lambda: left.send(b"x"),
    "setsockopt": lambda: left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1),
    "getsockopt": lambda: left.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE),
    "getsockname": lambda: left.getsockname(),
    "getpeername": lambda: left.getpeername(),
    "shutdown": lambda: left.shutdown(socket.SHUT_RDWR),
    "connect": lambda: socket.socket(socket.AF_UNIX).connect("nobody"),
    "bind": lambda: socket.socket(socket.AF_UNIX).bind("somebody"),
    "listen": lambda: socket.socket(socket.AF_UNIX).listen(),
    "accept": lambda: socket.socket(socket.AF_UNIX).accept(),
}
for name, call in calls.items():
    try:
        call()
    except PermissionError:
        pass
    else:
        print("possible:", name)
print("the rest is refused")
try:
    left.sendmsg([b"x"])
    assert right.recvmsg(1)[0] == b"x"
    print("messages are possible")
except PermissionError:
    print("messages are refused")
"""
    done = run(profile, sys.executable, "-", directory=tmp_path, script=script)
    assert_prints(f"b'by write'\nb'by write'\nthe rest is refused\nmessages are {messages}\n", done)


@pytest.mark.parametrize("call", ["socket.socket()", "socket.socket(socket.AF_UNIX)", "socket.socketpair()"])
def test_fatal_kills_who_tries(tmp_path: Path, call: str) -> None:
    """Under fatal a socket call ends the process with SIGSYS, whatever the program would do about an error."""
    script = f"""
import resource, socket
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
print("about to try", flush=True)
try:
    {call}
finally:
    print("still here")
"""
    done = run("fatal", sys.executable, "-", directory=tmp_path, script=script)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGSYS, "about to try\n", "")


@pytest.mark.parametrize("profile", nosock.PROFILES)
def test_what_needs_no_socket_goes_on(tmp_path: Path, profile: str) -> None:
    """Files, pipes, threads and processes work under every profile, and a process that is started has the filter."""
    script = """
import os, subprocess, sys, threading
reader, writer = os.pipe()
threading.Thread(target=os.write, args=(writer, b"through a pipe")).start()
print(os.read(reader, 100), flush=True)
status = 'import re; print(*re.findall("Seccomp:.(.)", open("/proc/self/status").read()))'
sys.exit(subprocess.call([sys.executable, "-c", status]))
"""
    assert_prints("b'through a pipe'\n2\n", run(profile, sys.executable, "-", directory=tmp_path, script=script))


def test_install_holds_for_the_calling_process(tmp_path: Path) -> None:
    """As a module, `install()` sets the filter for this process, and there it stays."""
    script = f"""
import sys, socket
sys.path.insert(0, {str(SCRIPT.parent)!r})
import nosock
nosock.install("strict")
nosock.install("codex")  # adds up: nothing is allowed again
try:
    socket.socketpair()
except PermissionError as error:
    print(error)
"""
    done = subprocess.run(
        [sys.executable, "-"], input=script, cwd=tmp_path, capture_output=True, text=True, timeout=GENEROUS
    )
    assert_prints("[Errno 1] Operation not permitted\n", done)


@pytest.mark.parametrize(("outer", "inner"), [("strict", "fatal"), ("fatal", "strict")])
def test_nested_filters_add_up(tmp_path: Path, outer: str, inner: str) -> None:
    """nosock.py runs inside nosock.py, and the stricter profile wins whichever comes first."""
    script = "import resource, socket; resource.setrlimit(resource.RLIMIT_CORE, (0, 0)); socket.socket()"
    done = run(outer, sys.executable, str(SCRIPT), inner, sys.executable, "-", directory=tmp_path, script=script)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGSYS, "", "")


# How it is called


@pytest.mark.parametrize("code", [0, 1, 77])
def test_exit_code_and_streams_are_the_commands(tmp_path: Path, code: int) -> None:
    """The command has the standard streams and its exit code is passed on."""
    script = f"import sys; print('out'); print('err', file=sys.stderr); sys.exit({code})"
    done = run("strict", sys.executable, "-c", script, directory=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (code, "out\n", "err\n")


def test_signal_of_the_command_is_passed_on(tmp_path: Path) -> None:
    """A command that a signal kills looks so to the caller: there is no process in between."""
    done = run("strict", sys.executable, "-c", "import os; os.kill(os.getpid(), 9)", directory=tmp_path)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.parametrize("args", [[], ["strict"], ["codex"]])
def test_missing_arguments(tmp_path: Path, args: list[str]) -> None:
    """Without a profile and a command it says how it is used, and exits with 2."""
    done = run(*args, directory=tmp_path)
    usage = "usage: python nosock.py {strict,codex,codex-2025,codex-proxy,claude,fatal}[:ERRNO] COMMAND [ARG ...]\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", usage)


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (
            "lenient",
            "there is no profile 'lenient'; choose one of strict, codex, codex-2025, codex-proxy, claude, fatal",
        ),
        ("strict:ENOTHING", "there is no errno 'ENOTHING'"),
    ],
)
def test_unknown_profile(tmp_path: Path, profile: str, message: str) -> None:
    """A profile that there is not is named, with those that there are; the command does not run."""
    done = run(profile, sys.executable, "-c", "print('ran')", directory=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"nosock: {message}\n")


def test_unknown_command(tmp_path: Path) -> None:
    """A command that there is not is named."""
    done = run("strict", "no-such-command", directory=tmp_path)
    message = "nosock: cannot run 'no-such-command': No such file or directory\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)


def test_refused_by_the_kernel(tmp_path: Path) -> None:
    """Where seccomp itself is refused, the error says so and the command does not run without its filter."""
    script = f"""
import sys
sys.path.insert(0, {str(SCRIPT.parent)!r})
import errno, nosock
from nosock import Instruction, architecture
prctl = {{"x86_64": 157, "aarch64": 167}}[{platform.machine()!r}]
set_seccomp = 22
nosock.apply_filter([
    Instruction(0x20, 0, 0, 0), Instruction(0x15, 0, 3, prctl),
    Instruction(0x20, 0, 0, 16), Instruction(0x15, 0, 1, set_seccomp),
    Instruction(0x06, 0, 0, 0x00050000 | errno.EINVAL), Instruction(0x06, 0, 0, 0x7FFF0000),
])
sys.exit(nosock.main(["strict", "echo", "ran"]))
"""
    done = subprocess.run(
        [sys.executable, "-"], input=script, cwd=tmp_path, capture_output=True, text=True, timeout=GENEROUS
    )
    message = "nosock: the kernel refused the seccomp filter: Invalid argument\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", message)


@pytest.mark.parametrize(
    ("system", "machine", "bits", "message"),
    [
        ("Darwin", "arm64", 64, "seccomp filters are Linux's own, and this is Darwin"),
        ("Windows", "AMD64", 64, "seccomp filters are Linux's own, and this is Windows"),
        (
            "Linux",
            "riscv64",
            64,
            "the system calls of 64-bit riscv64 are not known here, only those of x86-64 and arm64",
        ),
        (
            "Linux",
            "x86_64",
            32,
            "the system calls of 32-bit x86_64 are not known here, only those of x86-64 and arm64",
        ),
    ],
)
def test_other_machines(system: str, machine: str, bits: int, message: str) -> None:
    """Another system, another processor and a 32-bit interpreter are named."""
    with pytest.raises(nosock.UnsupportedError) as caught:
        nosock.architecture(system, machine, bits)
    assert str(caught.value) == message


def test_both_architectures_have_the_same_calls() -> None:
    """x86-64 and arm64 refuse the same calls, each by numbers of its own, none twice."""
    x86_64, arm64 = (nosock.architecture("Linux", machine, 64).calls for machine in ("x86_64", "aarch64"))
    assert set(x86_64) == set(arm64)
    assert len(set(x86_64.values())) == len(set(arm64.values())) == len(x86_64)


# The first law

APPS = """
import os

from flask import Flask, request
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

flask_app = Flask(__name__)
seen = []


@flask_app.post("/echo")
def echo():
    seen.append("a request")
    return request.get_data()


@flask_app.get("/count")
def count():
    return {"seen": len(seen)}


@flask_app.get("/async")
async def flask_async():
    return {"pid": os.getpid()}


async def in_the_loop(request):
    return JSONResponse({"pid": os.getpid()})


def in_a_thread(request):
    return JSONResponse({"pid": os.getpid()})


starlette_app = Starlette(routes=[Route("/async", in_the_loop), Route("/sync", in_a_thread)])


def reset():
    seen.clear()
"""

# On purpose without any of the package's helpers for asyncio in the host: what is tried must be tried by itself.
SYNC_CLIENTS = """
import sys

import httpx
from socketless import IpcProcess, IpcTransport, reset_ipc_state, switch_to_ipc_connection

start_method = sys.argv[1]
large = bytes(range(256)) * 8192
with IpcProcess("apps:flask_app", reset_hook_path="apps:reset", start_method=start_method) as worker:
    with httpx.Client(transport=IpcTransport(worker), base_url="http://testserver") as client:
        assert client.post("/echo", content=b"hello").content == b"hello"
        assert client.post("/echo", content=large).content == large
        assert client.get("/count").json() == {"seen": 2}
        worker.reset()
        assert client.get("/count").json() == {"seen": 0}
        assert client.get("/async").json() == {"pid": worker.pid}
print("wsgi", flush=True)

with IpcProcess("apps:starlette_app", start_method=start_method) as worker:
    with httpx.Client(transport=IpcTransport(worker), base_url="http://testserver") as client:
        assert client.get("/async").json() == {"pid": worker.pid}
        assert client.get("/sync").json() == {"pid": worker.pid}
print("asgi", flush=True)

with switch_to_ipc_connection("apps:flask_app", reset_hook="apps:reset", start_method=start_method) as switch:
    assert httpx.get("http://example.org/async").json() == {"pid": switch.worker.pid}
    reset_ipc_state()
print("switch", flush=True)
"""

ASYNC_CLIENT = """
import asyncio
import sys

import httpx
from socketless import IpcAsyncTransport, IpcProcess, eventloop

async def main(worker):
    transport = IpcAsyncTransport(worker)
    async with httpx.AsyncClient(transport=transport, base_url="http://testserver", timeout=None) as client:
        answers = await asyncio.gather(*(client.get("/async") for _ in range(20)))
        assert [answer.json() for answer in answers] == [{"pid": worker.pid}] * 20
        print("20 requests, at most 2 at once", flush=True)
        if "to_thread" in sys.argv:
            print(await asyncio.to_thread(lambda: "to_thread"), flush=True)

if "install" in sys.argv:
    eventloop.install()
start_method, app = sys.argv[1:3]
with IpcProcess(app, start_method=start_method, max_connections=2) as worker:
    asyncio.run(main(worker))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A directory with `apps.py`, `sync_clients.py` and `async_client.py`."""
    for name, text in {"apps": APPS, "sync_clients": SYNC_CLIENTS, "async_client": ASYNC_CLIENT}.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


start_methods = pytest.mark.parametrize("start_method", ["spawn", "fork"])
apps = pytest.mark.parametrize("app", ["apps:flask_app", "apps:starlette_app"])
pairs = pytest.mark.parametrize(("start_method", "app"), [("spawn", "apps:starlette_app"), ("fork", "apps:flask_app")])


@pytest.mark.parametrize(("profile", "start_method"), [("fatal", "spawn"), ("fatal", "fork"), ("strict", "spawn")])
def test_first_law(project: Path, profile: str, start_method: str) -> None:
    """Starting, requests, resetting, the switch and closing make no socket system call, in neither process."""
    done = run(profile, sys.executable, "sync_clients.py", start_method, directory=project)
    assert_prints("wsgi\nasgi\nswitch\n", done)


@start_methods
@apps
def test_first_law_with_asyncio(project: Path, start_method: str, app: str) -> None:
    """With `eventloop.install()`, an async client and `asyncio.to_thread` make no socket system call either."""
    command = [sys.executable, "async_client.py", start_method, app, "install", "to_thread"]
    done = run("fatal", *command, directory=project)
    assert_prints("20 requests, at most 2 at once\nto_thread\n", done)


@pairs
def test_asyncio_where_sockets_are_refused(project: Path, start_method: str, app: str) -> None:
    """With `eventloop.install()`, an async client and `asyncio.to_thread` work under strict."""
    command = [sys.executable, "async_client.py", start_method, app, "install", "to_thread"]
    done = run("strict", *command, directory=project)
    assert_prints("20 requests, at most 2 at once\nto_thread\n", done)


@needs_sockets
@pairs
def test_asyncio_as_it_is_where_sending_is_refused(project: Path, start_method: str, app: str) -> None:
    """Under codex an async client gets its answers from an event loop that nothing can wake up.

    Those that wait for a free channel get theirs, too.
    """
    done = run("codex", sys.executable, "async_client.py", start_method, app, directory=project)
    assert_prints("20 requests, at most 2 at once\n", done)


@needs_sockets
def test_lost_wake_up_is_what_codex_is_about(tmp_path: Path) -> None:
    """Under codex asyncio's own wake-up is refused, so the two tests above would hang if anything relied on it."""
    script = """
import asyncio
loop = asyncio.new_event_loop()
loop.set_debug(True)
import logging
logging.basicConfig(format="%(levelname)s %(message)s", level=logging.DEBUG)
loop.call_soon_threadsafe(lambda: None)
loop.close()
"""
    done = run("codex", sys.executable, "-", directory=tmp_path, script=script)
    assert done.returncode == 0
    assert "Fail to write a null byte into the self-pipe socket" in done.stderr
