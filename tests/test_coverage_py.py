"""coverage.py and pytest-cov count the lines that an app runs in a worker, with the settings of the docs."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from documents import DOCUMENTS, EXAMPLES
from projects import Seen, run, run_pytest, where_refused, write, write_example
from support import no_plugins

# The coverage.py that measures these tests, if one does, is not for the projects.
ENV: dict[str, str | None] = dict.fromkeys(
    ("COVERAGE_PROCESS_CONFIG", "COVERAGE_PROCESS_START", "COVERAGE_FILE", "COVERAGE_RCFILE")
)
ENV["PYTEST_ADDOPTS"] = no_plugins("pytest_cov", "xdist")
# Of Starlette, which is imported in no time: coverage.py traces that, too, in each process.
APP = """
    import contextlib
    import os
    import threading

    from starlette.applications import Starlette
    from starlette.responses import Response
    from starlette.routing import Route


    @contextlib.asynccontextmanager
    async def lifespan(app):
        yield
        by = "a worker that leaves"


    async def spawned(request):
        by = "a process that was spawned"
        return Response(by)


    async def forked(request):
        by = "a process that was forked"
        return Response(by)


    def thread(request):
        by = "the pool's thread of a worker of threads"
        return Response(by)


    def kept(request):
        by = "the pool's thread of a process that nobody closes"
        return Response(by)


    async def exits(request):
        by = "a process that exits"
        os._exit(3)


    async def spawned_hangs(request):
        by = "a spawned process that SIGTERM ends"
        threading.Event().wait()


    async def forked_hangs(request):
        by = "a forked process that SIGTERM ends"
        threading.Event().wait()


    async def never(request):
        by = "nobody"
        return Response(by)


    endpoints = [spawned, forked, thread, kept, exits, spawned_hangs, forked_hangs, never]
    app = Starlette(lifespan=lifespan, routes=[Route(f"/{each.__name__}", each) for each in endpoints])
"""
TESTS = """
    import httpx
    import pytest
    from shop import app
    from socketless import IpcProcess, IpcThread, IpcTransport
    from socketless.errors import WorkerDied

    kept = IpcProcess("shop:app")


    def client_of(worker):
        return httpx.Client(transport=IpcTransport(worker), base_url="http://testserver")


    def test_spawned():
        with IpcProcess("shop:app") as worker, client_of(worker) as client:
            assert client.get("/spawned").status_code == 200
            with pytest.raises(WorkerDied):
                client.get("/exits")


    def test_forked():
        with IpcProcess(app, start_method="fork") as worker, client_of(worker) as client:
            assert client.get("/forked").status_code == 200


    def test_by_value():
        def sent():
            by = "a function of the tests, which a spawned process has by value"
            return by

        with IpcProcess("shop:app") as worker:
            assert worker.run(sent) is not None


    def test_thread():
        with IpcThread(app) as worker, client_of(worker) as client:
            assert client.get("/thread").status_code == 200


    def test_kept():
        with client_of(kept) as client:
            assert client.get("/kept").status_code == 200


    @pytest.mark.parametrize(("start_method", "path"), [("spawn", "/spawned_hangs"), ("fork", "/forked_hangs")])
    def test_hangs(start_method, path):
        worker = IpcProcess("shop:app", start_method=start_method, shutdown_timeout=0.1)
        with worker, client_of(worker) as client, pytest.raises(httpx.ReadTimeout):
            client.get(path, timeout=httpx.Timeout(30, read=0.5))
"""


MISSING = [number for number, line in enumerate(textwrap.dedent(APP).strip().splitlines(), 1) if '"nobody"' in line]
REPORT = f"""
    Name           Stmts   Miss  Cover   Missing
    --------------------------------------------
    shop.py           36      2    94%   {MISSING[0]}-{MISSING[0] + 1}
    test_shop.py      33      0   100%
    --------------------------------------------
    TOTAL             69      2    97%
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    settings = EXAMPLES["till/.coveragerc"]
    write(tmp_path, {".coveragerc": settings, "shop.py": APP, "test_shop.py": TESTS})
    return tmp_path


def assert_reports(expected: str, seen: Seen) -> None:
    found = re.search(r"^Name .*\n(?:.*\n)*TOTAL .*\n", seen.text, re.M)
    assert found is not None, seen.text
    assert found[0] == textwrap.dedent(expected).lstrip()
    assert "arning" not in seen.text


@pytest.mark.parametrize("profile", ["none"])
def test_coverage_run(shop: Path, profile: str) -> None:
    """`coverage run` counts what runs in a worker: spawned, forked, of threads; closed, left, hung, exited."""
    seen = run(shop, profile, "-m", "coverage", "run", "-m", "pytest", "-p", "no:cacheprovider", **ENV)
    assert (seen.end, seen.exit_code) == ("7 passed", 0), seen.text
    assert run(shop, profile, "-m", "coverage", "combine", "--quiet", **ENV) == ("", 0)
    assert_reports(REPORT, run(shop, profile, "-m", "coverage", "report", "--show-missing", **ENV))


@where_refused
def test_pytest_cov(shop: Path, profile: str) -> None:
    """pytest-cov counts the same where sockets are refused; with the same settings, for pytest-xdist as well."""
    options = ("-n", "1") if profile == "codex" else ()
    seen = run_pytest(shop, profile, "--cov", "--cov-report=term-missing", *options, **ENV)
    assert (seen.end, seen.exit_code) == ("7 passed", 0), seen.text
    assert_reports(REPORT, seen)


@pytest.mark.parametrize("profile", ["none"])
def test_readme(tmp_path: Path, profile: str) -> None:
    """The example of `socketless docs pytest` reports what is said there."""
    [command] = [text for folder, text in DOCUMENTS["pytest.rst"].consoles if folder == "till"]
    assert command.startswith("$ python -m pytest ")
    seen = run_pytest(write_example(tmp_path, "till"), profile, *command.split()[4:], **ENV)
    assert (seen.end, seen.exit_code) == ("1 passed", 0), seen.text
    report = """
        Name           Stmts   Miss  Cover   Missing
        --------------------------------------------
        test_till.py       4      0   100%
        till.py            7      1    86%   11
        --------------------------------------------
        TOTAL             11      1    91%
    """
    assert_reports(report, seen)
