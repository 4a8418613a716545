"""How the pytest plugin is loaded and told what to do, by whom, and how often."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from projects import MORE, everywhere, fork, header, run_pytest, write

# Where nothing is rescued, the loop needs a socket when it is made.
TESTS = """
    import asyncio


    def test_thread():
        for number in range(100):
            assert asyncio.run(asyncio.to_thread(str, number)) == str(number)
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    write(folder, {"test_threads.py": TESTS})
    return folder


@pytest.mark.parametrize("profile", ["none"])
def test_setting_on(project: Path, profile: str) -> None:
    """`on` lets the loops wake by a pipe where sockets are allowed, and the header says that it was asked for."""
    seen = run_pytest(project, profile, "-o", "socketless_eventloop=on")
    assert seen.header == ["socketless: event loops wake by a pipe (socketless_eventloop = on)", MORE]
    assert (seen.end, seen.exit_code) == ("1 passed", 0)


@pytest.mark.parametrize("profile", ["strict"])
def test_setting_off(project: Path, profile: str) -> None:
    """`off` leaves the loops, and their sockets, as they are, and no header says anything."""
    off = ("-o", "socketless_eventloop=off", "-o", "socketless_loopback=off")
    seen = run_pytest(project, profile, *off, "--tb=native")
    assert "PermissionError: [Errno 1] Operation not permitted" in seen.part("FAILURES")
    assert (seen.header, seen.end, seen.exit_code) == ([], "1 failed", 1)


@pytest.mark.parametrize(
    ("name", "profile"),
    [("socketless_eventloop", "none"), ("socketless_loopback", "codex"), ("socketless_eventloop", "strict")],
)
def test_unknown_setting(project: Path, profile: str, name: str) -> None:
    """Another value is a usage error that names those that there are, and no test runs."""
    seen = run_pytest(project, profile, "-o", f"{name}=rubbish")
    assert seen.text == f"ERROR: {name} must be auto, on or off, not 'rubbish'\n\n"
    assert seen.exit_code == pytest.ExitCode.USAGE_ERROR


LOADED = {
    "option": (["-p", "socketless"], {}, ""),
    "option, module": (["-p", "socketless.pytest_plugin"], {}, ""),
    "environment": ([], {"PYTEST_PLUGINS": "socketless"}, ""),
    "environment, module": ([], {"PYTEST_PLUGINS": "socketless.pytest_plugin"}, ""),
    "conftest": ([], {}, "pytest_plugins = ['socketless.pytest_plugin']\n"),
}


@pytest.mark.parametrize("way", LOADED)
@pytest.mark.parametrize("profile", ["strict"])
def test_loaded_by_name(project: Path, tmp_path: Path, profile: str, way: str) -> None:
    """Where pytest loads no plugins by itself, naming this one is enough."""
    options, env, conftest = LOADED[way]
    shutil.copytree(project, tmp_path, dirs_exist_ok=True)
    (tmp_path / "conftest.py").write_text(conftest)
    seen = run_pytest(tmp_path, profile, *options, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", **env)
    assert (seen.header, seen.end, seen.exit_code) == (header(profile), "1 passed", 0), seen.text


@pytest.mark.parametrize("profile", ["strict"])
def test_named_although_it_is_loaded(project: Path, profile: str) -> None:
    """Naming the plugin where pytest loads it by itself changes nothing, whichever comes first."""
    options = ["-p", "xdist", "-p", "socketless", "-p", "anyio"]
    seen = run_pytest(project, profile, *options, PYTEST_ADDOPTS=None, PYTEST_PLUGINS="socketless")
    assert (seen.header, seen.end, seen.exit_code) == (header(profile), "1 passed", 0), seen.text


NESTED = """
    import asyncio
    from wsgiref.simple_server import demo_app

    import pytest
    from socketless import IpcThread

    pytest_plugins = ["pytester"]
    worker = IpcThread(demo_app)


    def test_runs_pytest(pytester):
        pytester.makepyfile("def test(): import asyncio; asyncio.run(asyncio.to_thread(str))")
        pytester.runpytest_inprocess("-p", "no:asyncio").assert_outcomes(passed=1)


    @pytest.mark.parametrize("number", range(20))
    def test_goes_on(number):
        assert asyncio.run(asyncio.to_thread(str, number)) == str(number)
        assert worker.run(str, number) == str(number)
"""


@everywhere
def test_nested(tmp_path: Path, profile: str) -> None:
    """A pytest within pytest, in one process, leaves the loops of the outer one as they are, and its workers open."""
    write(tmp_path, {"test_nested.py": NESTED})
    options = ("-p", "socketless.pytest_plugin", "-p", "no:cacheprovider", "--color=no")
    seen = fork(tmp_path, profile, "-m", "pytest", *options, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")
    assert (seen.header, seen.end, seen.exit_code) == (header(profile), "21 passed", 0), seen.text
