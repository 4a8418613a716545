"""Every claim of `socketless.advice`, tried: each way of testing really runs where this and that is refused."""

from __future__ import annotations

import functools
import importlib.util
import json
import multiprocessing
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import nosock
from commands import LIMIT, MODULE, TESTS, environment
from projects import under
from support import hangs, no_plugins

# By its default, which is forkserver from Python 3.14 on, multiprocessing needs UNIX sockets for each process.
FORKSERVER = (
    {"multiprocessing": "fails", "process_pool": "fails"}
    if multiprocessing.get_all_start_methods()[0] == "forkserver"
    else {}
)

# What each sandbox breaks. All other ways work there.
SANDBOXES = {
    "none": {},
    "codex": {
        "asyncio": "hangs",
        "trio": "fails",
        "port": "fails",
        "ipv6": "fails",
        "unix_server": "fails",
        "tcp_client": "fails",
        "forkserver": "fails",
        "browser": "fails",
        **FORKSERVER,
    },
    "strict": {
        "asyncio": "fails",
        "trio": "fails",
        "uvloop": "fails",
        "port": "fails",
        "ipv6": "fails",
        "unix_server": "fails",
        "tcp_client": "fails",
        "duplex_pipe": "fails",
        "forkserver": "fails",
        "browser": "fails",
        **FORKSERVER,
    },
    "only setsockopt": {"trio": "fails", "browser": "fails"},
    "claude": {"unix_server": "fails", "forkserver": "fails", "browser": "fails", **FORKSERVER},
    "no loopback": {"port": "fails", "ipv6": "fails", "tcp_client": "fails"},
    "no IPv6": {"ipv6": "fails"},
    "read-only /dev/shm": {"multiprocessing": "fails", "process_pool": "fails", "shared_memory": "fails"},
    "no sysconf": {"process_pool": "fails"},
    "no hosts": {"port": "fails", "ipv6": "fails", "tcp_client": "fails", "host_name": "fails"},
}

SERVER = """\
import sys, threading, urllib.request
from wsgiref.simple_server import make_server, demo_app
server = make_server("127.0.0.1", 0, demo_app)
thread = threading.Thread(target=server.handle_request, daemon=True)
thread.start()
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
opener.open(f"http://127.0.0.1:{server.server_port}/").read()
thread.join()
"""
OTHER_SERVER = """\
import os, socket, tempfile
family, address = {}
with socket.socket(family) as server, socket.socket(family) as client:
    server.bind(address)
    server.listen()
    client.connect(server.getsockname())
    client.sendall(b"x")
    assert server.accept()[0].recv(1) == b"x"
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
    "ipv6": OTHER_SERVER.format('socket.AF_INET6, ("::1", 0)'),
    "unix_server": OTHER_SERVER.format('socket.AF_UNIX, os.path.join(tempfile.mkdtemp(), "s")'),
    "tcp_client": TCP_CLIENT,
    "host_name": "import socket; socket.getaddrinfo('localhost', 8000)",
    "multiprocessing": "import multiprocessing\nwith multiprocessing.Pool(1) as pool:\n    pool.map(len, ['x'])",
    "process_pool": "from concurrent.futures import ProcessPoolExecutor\nif __name__ == '__main__':\n"
    "    with ProcessPoolExecutor(1) as pool: assert pool.submit(len, 'x').result() == 1",
    "duplex_pipe": "import multiprocessing; multiprocessing.Pipe()",
    "forkserver": "import multiprocessing\nif __name__ == '__main__':\n"
    "    process = multiprocessing.get_context('forkserver').Process(target=len, args=('x',))\n"
    "    process.start(); process.join(); raise SystemExit(process.exitcode)",
    "shared_memory": "from multiprocessing.shared_memory import SharedMemory\n"
    "memory = SharedMemory(create=True, size=9); memory.close(); memory.unlink()",
    # As Playwright starts it.
    "browser": "import subprocess, tempfile\nwith tempfile.TemporaryDirectory() as folder:\n"
    "    subprocess.run(['chromium', '--headless', '--no-sandbox', '--disable-dev-shm-usage', '--dump-dom',"
    " f'--user-data-dir={folder}', 'data:text/html,x'], check=True)",
    "wsgi_client": "from flask import Flask\napp = Flask('x')\napp.add_url_rule('/', view_func=lambda: 'x')\n"
    "assert app.test_client().get('/').text == 'x'",
    "xdist": "import pathlib, pytest, sys, tempfile\nfolder = pathlib.Path(tempfile.mkdtemp())\n"
    "(folder / 'test_x.py').write_text('def test(): pass')\n"
    "sys.exit(pytest.main(['-n', '1', '-q', '-p', 'no:cacheprovider', '--rootdir', str(folder), str(folder)]))",
}

INSTALL = "from socketless import eventloop; eventloop.install()\n"
INSTALL_LOOPBACK = "from socketless import loopback; loopback.install()\n"

# What the rescue makes work: in a sandbox, ways. By the two lines that install it, and from outside.
RESCUED = [
    *((sandbox, way) for sandbox in ("codex", "strict") for way in ("asyncio", "port", "ipv6", "unix_server")),
    *((sandbox, way) for sandbox in ("codex", "strict") for way in ("trio", "forkserver")),
    *(("strict", way) for way in ("uvloop", "duplex_pipe", *FORKSERVER)),
    ("claude", "unix_server"),
    *(("no loopback", way) for way in ("port", "ipv6")),
    ("no IPv6", "ipv6"),
    *(("no hosts", way) for way in ("host_name", "port")),
]

# What to write instead: way, sandbox, the way out.
WAYS_OUT = [
    *((way, sandbox, INSTALL_LOOPBACK + WAYS[way]) for sandbox, way in RESCUED),
    (
        "browser",
        "strict",
        "from socketless.testclient import TestClient\n"
        "with TestClient('wsgiref.simple_server:demo_app') as client: assert client.get('/').status_code == 200",
    ),
    ("asyncio", "codex", INSTALL + WAYS["asyncio"]),
    ("asyncio", "strict", INSTALL + WAYS["asyncio"]),
    ("trio", "codex", INSTALL + WAYS["trio"]),
    ("trio", "strict", INSTALL + WAYS["trio"]),
    ("trio", "only setsockopt", INSTALL + WAYS["trio"]),
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
        "import httpx\nfrom socketless import switch_to_ipc_connection\n"
        "from socketless.fakes import FakeApp\nfake = FakeApp(lambda _: httpx.Response(200))\n"
        "with switch_to_ipc_connection({'db': fake}): assert httpx.get('http://db/').status_code == 200",
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
# In a network of its own, which has 127.0.0.1 alone.
WITHOUT_IPV6 = """\
import fcntl, os, socket, struct, sys
with open("/proc/sys/net/ipv6/conf/lo/disable_ipv6", "w") as setting:
    setting.write("1")
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
with socket.socket() as any_socket:
    fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh", b"lo", IFF_UP))
os.execvp(sys.argv[1], sys.argv[1:])
"""
NAMESPACES = {
    "no loopback": ["unshare", "--map-root-user", "--net"],
    "read-only /dev/shm": ["unshare", "--map-root-user", "--mount", "sh", "-c",
                           'mount -t tmpfs -o ro none /dev/shm && exec "$@"', "sh"],
    "no IPv6": ["unshare", "--map-root-user", "--net", sys.executable, "-c", WITHOUT_IPV6],
    "no hosts": ["unshare", "--map-root-user", "--mount", "--net", "sh", "-c",
                 'mount --bind /dev/null /etc/hosts && mount --bind /dev/null /etc/nsswitch.conf && exec "$@"', "sh"],
}  # fmt: skip


@functools.cache
def no_sysconf() -> str:
    """Return a folder with a `sitecustomize` in which the system refuses to tell its limits, as macOS's sandbox may."""
    folder = Path(tempfile.mkdtemp())
    refuse = "import os\ndef sysconf(name): raise PermissionError(1, 'Operation not permitted')\nos.sysconf = sysconf\n"
    (folder / "sitecustomize.py").write_text(refuse)
    return str(folder)


@functools.cache
def is_possible(sandbox: str) -> bool:
    command = [*NAMESPACES[sandbox], "true"]
    try:
        return subprocess.run(command, check=False, capture_output=True, timeout=LIMIT).returncode == 0
    except OSError:
        return False


def within(sandbox: str) -> list[str]:
    """Return what comes before a command to run it in a sandbox. Skips the test where there can be none."""
    if sandbox in nosock.PROFILES:
        return under(sandbox)
    under("none")
    if sandbox == "no sysconf":
        return ["env", f"PYTHONPATH={no_sysconf()}"]
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
        env=environment({"PYTEST_ADDOPTS": no_plugins("xdist")}),
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
        # That pytest-xdist works where nothing is refused, these tests show themselves.
        pytest.param(sandbox, way, marks=[pytest.mark.slow] if (sandbox, way) == ("none", "xdist") else [])
        for sandbox, broken in SANDBOXES.items()
        for way in WAYS
        if way in broken or sandbox in ("none", "codex", "strict")
    ],
)
def test_what_it_says_is_so(sandbox: str, way: str) -> None:
    """A way of testing works, hangs or fails as the report says."""
    if way in ("trio", "uvloop") and importlib.util.find_spec(way) is None:
        pytest.skip(f"there is no {way}")
    if way == "browser" and shutil.which("chromium") is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    expected = SANDBOXES[sandbox].get(way, "works")
    assert outcome(sandbox, WAYS[way]) == expected


@pytest.mark.parametrize(("way", "sandbox", "snippet"), WAYS_OUT, ids=[f"{way} {box}" for way, box, _ in WAYS_OUT])
def test_way_out(way: str, sandbox: str, snippet: str) -> None:
    """What the report tells to write works where the way itself does not."""
    assert SANDBOXES[sandbox][way] != "works"
    assert outcome(sandbox, snippet) == "works"


RUN_WAYS = """\
import json, subprocess, sys
from pathlib import Path

def test_ways():
    ways = json.loads((Path(__file__).parent / "ways.json").read_text())
    children = {name: subprocess.Popen([sys.executable, "-c", way]) for name, way in ways.items()}
    assert {name: child.wait() for name, child in children.items()} == dict.fromkeys(ways, 0)

if __name__ == "__main__":
    test_ways()
"""


@pytest.mark.parametrize("sandbox", sorted({sandbox for sandbox, _ in RESCUED}))
def test_rescue(sandbox: str, tmp_path: Path) -> None:
    """What the report says of `socketless rescue` and of the plugin is so: all of it works, in child processes, too."""
    ways = [way for box, way in RESCUED if box == sandbox]
    (tmp_path / "ways.json").write_text(json.dumps({way: WAYS[way] for way in ways}))
    script = tmp_path / "test_ways.py"
    script.write_text(RUN_WAYS)
    wanted = "on" if "no" in sandbox else "auto"
    in_pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", f"socketless_loopback={wanted}", str(script)]
    for command in ([*MODULE, "rescue", sys.executable, str(script)], [sys.executable, *in_pytest]):
        done = subprocess.run(
            [*within(sandbox), *command],
            check=False,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=TESTS,
            env=environment(),
            timeout=LIMIT,
            text=True,
        )
        assert done.returncode == 0, done.stdout
