"""Says which ways of testing hang or fail because of what a sandbox refuses, and what to write so that they work."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from socketless.sandbox import Check

__all__ = ["FAILS", "HANGS", "WORKS", "Advice", "advise"]

WORKS, HANGS, FAILS = "works", "hangs", "fails"


@dataclass(frozen=True)
class Advice:
    """Whether one way of testing works here, and what to do if not.

    Args:
        way: its name; names are stable.
        what: the libraries and calls that it stands for.
        outcome: ``"works"``, ``"hangs"`` or ``"fails"``.
        because: the name of the `Check` that failed; `None` if the way works.
        write: what to do about it, in lines of at most 71 characters; `None` if the way works.
    """

    way: str
    what: str
    outcome: str
    because: str | None = None
    write: str | None = None


@dataclass(frozen=True)
class _Way:
    name: str
    what: str
    breaks: dict[str, str]  # the check that it needs: how it ends without; the first that is refused decides
    write: str = ""
    writes: dict[str, str] = field(default_factory=dict)  # where another check was refused, what to write then


_RESCUE = """\
pytest: nothing, as socketless's plugin takes care of it
elsewhere: socketless rescue COMMAND, for example
    socketless rescue python -m unittest"""
_ON = _RESCUE.replace("nothing, as socketless's plugin takes care of it", "socketless_loopback = on, in its ini file")
_LOOPS = f"""\
{_RESCUE}
or, before the first loop is made:
    from socketless import eventloop; eventloop.install()"""
_LOOPBACK = f"""\
{_RESCUE}
or, before the first socket is made:
    from socketless import loopback; loopback.install()"""

# Each line of it is tested under real refusals: tests/test_advice.py.
_WAYS = (
    _Way(
        "asyncio",
        "asyncio: TestClient of Starlette and FastAPI, asyncio.run() and to_thread(), pytest-asyncio, anyio, "
        "Django's AsyncClient and async views",
        {"socketpair": FAILS, "send": HANGS},
        _LOOPS,
    ),
    _Way("trio", "trio", {"socketpair": FAILS, "send": FAILS, "setsockopt": FAILS}, _LOOPS),
    _Way(
        "uvloop",
        "uvloop",
        {"socketpair": FAILS},
        "as below, for servers on 127.0.0.1; uvloop then makes asyncio loops",
    ),
    _Way(
        "port",
        "servers on 127.0.0.1 that the tests start, and their clients: LiveServerTestCase, live_server of "
        "pytest-django, uvicorn, waitress, http.server, in a thread or a Python process",
        {"inet_socket": FAILS, "bind": FAILS, "loopback": FAILS},
        f"""\
{_LOOPBACK}
or, without a server, let all clients reach the app over pipes:
    socketless run package.module:app -m pytest
or in pytest's ini file: socketless_app = package.module:app""",
    ),
    _Way(
        "ipv6",
        "servers on ::1 that the tests start",
        {"inet_socket": FAILS, "bind": FAILS, "loopback": FAILS, "ipv6": FAILS},
        _LOOPBACK,
        {"ipv6": f"127.0.0.1; or, with ::1,\n{_ON}"},
    ),
    _Way(
        "unix_server",
        "servers on UNIX sockets that the tests start",
        {"unix_socket": FAILS, "unix_server": FAILS},
        _LOOPBACK,
    ),
    _Way(
        "tcp_client",
        "clients of other servers on this machine, such as database drivers",
        {"inet_socket": FAILS, "loopback": FAILS},
        "a database in a file; for the rest, fakes: socketless docs systems",
    ),
    _Way(
        "host_name",
        "host names: http://localhost:8000",
        {"name_lookup": FAILS},
        f"127.0.0.1; or, with that name,\n{_ON}",
    ),
    _Way(
        "multiprocessing",
        "multiprocessing's Process, Pool, ThreadPool, Lock and Queue",
        {"semaphore": FAILS, "process": FAILS},
        """\
concurrent.futures.ThreadPoolExecutor, or processes that talk over
    multiprocessing.Pipe(duplex=False)""",
        {"process": f'multiprocessing.set_start_method("spawn"), before any other use; or\n{_RESCUE}'},
    ),
    _Way(
        "process_pool",
        "concurrent.futures.ProcessPoolExecutor",
        {"sysconf": FAILS, "semaphore": FAILS, "process": FAILS},
        "concurrent.futures.ThreadPoolExecutor",
        {"process": f"concurrent.futures.ThreadPoolExecutor; or\n{_RESCUE}"},
    ),
    _Way(
        "duplex_pipe",
        "multiprocessing.Pipe()",
        {"socketpair": FAILS},
        f"two multiprocessing.Pipe(duplex=False), one for each direction; or\n{_RESCUE}",
    ),
    _Way(
        "forkserver",
        "multiprocessing's Manager, and its start method forkserver, the default from Python 3.14 on",
        {"unix_socket": FAILS, "unix_server": FAILS},
        f'multiprocessing.get_context("spawn").Process, without a Manager; or\n{_RESCUE}',
    ),
    _Way(
        "shared_memory",
        "multiprocessing.shared_memory",
        {"shm": FAILS},
        "mmap of a file in a temporary folder",
    ),
    _Way(
        "browser",
        "browsers in tests: Playwright, Selenium",
        {"socketpair": FAILS, "setsockopt": FAILS, "unix_socket": FAILS, "unix_server": FAILS},
        """\
nothing helps: Chromium itself needs sockets between its processes.
Run these tests outside this sandbox, or get pages without a browser:
    socketless.testclient.TestClient("package.module:app").get("/")""",
    ),
    _Way("wsgi_client", "test clients of Flask, Django and werkzeug with sync views", {}),
    _Way("xdist", "pytest-xdist", {}),
)


def advise(checks: Collection[Check]) -> list[Advice]:
    """Return, for each well-known way of testing, whether it works, given the results of checks.

    Args:
        checks: the result of `socketless.sandbox.examine()`.
    """
    refused = {check.name for check in checks if not check.works}
    return [_advice(way, refused) for way in _WAYS]


def _advice(way: _Way, refused: set[str]) -> Advice:
    for check, outcome in way.breaks.items():
        if check in refused:
            return Advice(way.name, way.what, outcome, check, way.writes.get(check, way.write))
    return Advice(way.name, way.what, WORKS)
