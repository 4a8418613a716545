"""Every claim of `socketless.advice`, tried: each way of testing really runs where this and that is refused."""

from __future__ import annotations

import functools
import importlib.util
import json
import multiprocessing
import subprocess
import sys

import pytest

from commands import LIMIT, MODULE, TESTS, environment
from projects import under
from support import hangs

# By its default, which is forkserver from Python 3.14 on, multiprocessing needs UNIX sockets for each process.
FORKSERVER = {"multiprocessing": "fails"} if multiprocessing.get_all_start_methods()[0] == "forkserver" else {}

# What each sandbox breaks. All other ways work there.
SANDBOXES = {
    "none": {},
    "codex": {
        "asyncio": "hangs",
        "trio": "fails",
        "port": "fails",
        "tcp_client": "fails",
        "forkserver": "fails",
        **FORKSERVER,
    },
    "strict": {
        "asyncio": "fails",
        "trio": "fails",
        "uvloop": "fails",
        "port": "fails",
        "tcp_client": "fails",
        "duplex_pipe": "fails",
        "forkserver": "fails",
        **FORKSERVER,
    },
    "only setsockopt": {"trio": "fails"},
    "no loopback": {"port": "fails", "tcp_client": "fails"},
    "read-only /dev/shm": {"multiprocessing": "fails", "shared_memory": "fails"},
    "no hosts": {"port": "fails", "tcp_client": "fails", "host_name": "fails"},
}

SERVER = """\
import sys, threading, urllib.request
from wsgiref.simple_server import make_server, demo_app
server = make_server("127.0.0.1", 0, demo_app)
threading.Thread(target=server.handle_request, daemon=True).start()
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
opener.open(f"http://127.0.0.1:{server.server_port}/").read()
"""
TCP_CLIENT = """\
import socket
try:
    socket.create_connection(("127.0.0.1", 9))
except ConnectionRefusedError:
    pass  # that far it should come
"""

# Several calls: the loop may happen to be awake, and need no waking.
WAYS = {
    "asyncio": "import asyncio\nasync def main():\n    for _ in range(1000): await asyncio.to_thread(len, 'x')\n"
    "asyncio.run(main())",
    "trio": "import trio\ntrio.run(trio.to_thread.run_sync, len, 'x')",
    "uvloop": "import asyncio, uvloop\nasync def main():\n    for _ in range(1000): await asyncio.to_thread(len, 'x')\n"
    "uvloop.run(main())",
    "port": SERVER,
    "tcp_client": TCP_CLIENT,
    "host_name": "import socket; socket.getaddrinfo('localhost', 8000)",
    "multiprocessing": "import multiprocessing\nwith multiprocessing.Pool(1) as pool:\n    pool.map(len, ['x'])",
    "duplex_pipe": "import multiprocessing; multiprocessing.Pipe()",
    "forkserver": "import multiprocessing\nif __name__ == '__main__':\n"
    "    process = multiprocessing.get_context('forkserver').Process(target=len, args=('x',))\n"
    "    process.start(); process.join(); raise SystemExit(process.exitcode)",
    "shared_memory": "from multiprocessing.shared_memory import SharedMemory\n"
    "memory = SharedMemory(create=True, size=9); memory.close(); memory.unlink()",
    "wsgi_client": "from flask import Flask\napp = Flask('x')\napp.add_url_rule('/', view_func=lambda: 'x')\n"
    "assert app.test_client().get('/').text == 'x'",
    "xdist": "import pathlib, pytest, sys, tempfile\nfolder = pathlib.Path(tempfile.mkdtemp())\n"
    "(folder / 'test_x.py').write_text('def test(): pass')\n"
    "sys.exit(pytest.main(['-n', '1', '-q', '-p', 'no:cacheprovider', '--rootdir', str(folder), str(folder)]))",
}

INSTALL = "from socketless import eventloop; eventloop.install()\n"

# What to write instead: way, sandbox, the way out.
WAYS_OUT = [
    ("asyncio", "codex", INSTALL + WAYS["asyncio"]),
    ("asyncio", "strict", INSTALL + WAYS["asyncio"]),
    ("trio", "codex", INSTALL + WAYS["trio"]),
    ("trio", "strict", INSTALL + WAYS["trio"]),
    ("trio", "only setsockopt", INSTALL + WAYS["trio"]),
    ("uvloop", "strict", INSTALL + WAYS["asyncio"]),
    (
        "port",
        "strict",
        "import httpx\nfrom socketless import switch_to_ipc_connection\n"
        "with switch_to_ipc_connection('wsgiref.simple_server:demo_app'):\n"
        "    assert httpx.get('http://127.0.0.1:8000/').status_code == 200",
    ),
    (
        "tcp_client",
        "strict",
        "import httpx\nwith httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200))) as client:\n"
        "    client.get('http://db/')",
    ),
    (
        "host_name",
        "no hosts",
        "import httpx\nfrom socketless import switch_to_ipc_connection\n"
        "with switch_to_ipc_connection('wsgiref.simple_server:demo_app'):\n"
        "    assert httpx.get('http://localhost:8000/').status_code == 200",
    ),
    (
        "multiprocessing",
        "read-only /dev/shm",
        "from concurrent.futures import ThreadPoolExecutor\nimport multiprocessing\n"
        "with ThreadPoolExecutor() as pool: list(pool.map(len, ['x']))\nmultiprocessing.Pipe(duplex=False)",
    ),
    *(
        (
            "multiprocessing",
            sandbox,
            "import multiprocessing\nmultiprocessing.set_start_method('spawn')\n"
            "with multiprocessing.Pool(1) as pool:\n    assert pool.map(len, ['x']) == [1]",
        )
        for sandbox in ("codex", "strict")
        if FORKSERVER
    ),
    ("duplex_pipe", "strict", "import multiprocessing; multiprocessing.Pipe(duplex=False)"),
    ("forkserver", "codex", WAYS["forkserver"].replace("forkserver", "spawn")),
    ("forkserver", "strict", WAYS["forkserver"].replace("forkserver", "spawn")),
    (
        "shared_memory",
        "read-only /dev/shm",
        "import mmap, tempfile\nfile = tempfile.TemporaryFile(); file.truncate(9); mmap.mmap(file.fileno(), 9)",
    ),
]

# One system call refused, and no other.
ONLY_SETSOCKOPT = f"""\
import os, platform, sys
sys.path.insert(0, {str(TESTS)!r})
import nosock
machine = nosock.architecture(platform.system(), platform.machine(), 64)
one = nosock.Architecture(machine.audit_arch, {{"setsockopt": machine.calls["setsockopt"]}})
nosock.apply_filter(nosock.build_filter("strict", one))
os.execvp(sys.argv[1], sys.argv[1:])
"""
NAMESPACES = {
    "no loopback": ["unshare", "--map-root-user", "--net"],
    "read-only /dev/shm": ["unshare", "--map-root-user", "--mount", "sh", "-c",
                           'mount -t tmpfs -o ro none /dev/shm && exec "$@"', "sh"],
    "no hosts": ["unshare", "--map-root-user", "--mount", "--net", "sh", "-c",
                 'mount --bind /dev/null /etc/hosts && mount --bind /dev/null /etc/nsswitch.conf && exec "$@"', "sh"],
}  # fmt: skip


@functools.cache
def is_possible(sandbox: str) -> bool:
    command = [*NAMESPACES[sandbox], "true"]
    try:
        return subprocess.run(command, check=False, capture_output=True, timeout=LIMIT).returncode == 0
    except OSError:
        return False


def within(sandbox: str) -> list[str]:
    """Return what comes before a command to run it in a sandbox. Skips the test where there can be none."""
    if sandbox in ("codex", "strict"):
        return under(sandbox)
    under("none")
    if sandbox == "only setsockopt":
        return [sys.executable, "-c", ONLY_SETSOCKOPT]
    if sandbox in NAMESPACES and not is_possible(sandbox):
        pytest.skip("this process may not have a namespace of its own")
    return NAMESPACES.get(sandbox, [])


def outcome(sandbox: str, snippet: str) -> str:
    """Run a snippet in a sandbox, and say how it went."""
    with subprocess.Popen(
        [*within(sandbox), sys.executable, "-c", snippet],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=TESTS,
        env=environment(),
    ) as process:
        try:
            if hangs(process, LIMIT):
                return "hangs"
            return "fails" if process.returncode else "works"
        finally:
            process.kill()


@pytest.mark.parametrize("sandbox", SANDBOXES)
def test_what_the_doctor_says(sandbox: str) -> None:
    """The report on a sandbox names what breaks there, by which refusal, and what to write; and nothing else."""
    command = [*within(sandbox), *MODULE, "doctor", "--json"]
    done = subprocess.run(command, check=False, capture_output=True, cwd=TESTS, env=environment(), timeout=LIMIT)
    report = json.loads(done.stdout)
    assert {each["way"]: each["outcome"] for each in report["advice"]} == {
        **dict.fromkeys(WAYS, "works"),
        **SANDBOXES[sandbox],
    }
    refused = {check["name"] for check in report["checks"] if not check["works"]}
    for each in report["advice"]:
        is_broken = each["outcome"] != "works"
        assert (each["because"] in refused) == (each["write"] is not None) == is_broken
        assert all(len(line) <= 71 for line in (each["write"] or "").splitlines())
    assert report["socketless"] == {"works": True, "error": None}
    assert done.returncode == bool(SANDBOXES[sandbox])


@pytest.mark.parametrize(
    ("sandbox", "way"),
    [
        (sandbox, way)
        for sandbox, broken in SANDBOXES.items()
        for way in WAYS
        if way in broken or sandbox in ("none", "codex", "strict")
    ],
)
def test_what_it_says_is_so(sandbox: str, way: str) -> None:
    """A way of testing works, hangs or fails as the report says."""
    if way in ("trio", "uvloop") and importlib.util.find_spec(way) is None:
        pytest.skip(f"there is no {way}")
    expected = SANDBOXES[sandbox].get(way, "works")
    assert outcome(sandbox, WAYS[way]) == expected


@pytest.mark.parametrize(("way", "sandbox", "snippet"), WAYS_OUT, ids=[f"{way} {box}" for way, box, _ in WAYS_OUT])
def test_way_out(way: str, sandbox: str, snippet: str) -> None:
    """What the report tells to write works where the way itself does not."""
    assert SANDBOXES[sandbox][way] != "works"
    assert outcome(sandbox, snippet) == "works"
