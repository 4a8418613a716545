"""pytest-rerunfailures, which opens a server where pytest-xdist is installed, and where that is refused."""

from __future__ import annotations

import pytest

from projects import Project, header, where_refused

TEST = """
    import pytest

    runs = []


    @pytest.mark.flaky(reruns=2)
    def test_flaky():
        runs.append(1)
        assert len(runs) == 2
"""
PLUGINS = ["-p", "xdist", "-p", "pytest_rerunfailures"]
MISSING = "socketless: a test that crashes its process is not rerun (pytest-rerunfailures would need a socket)"


@where_refused
@pytest.mark.parametrize("options", [[], ["-n1"]], ids=["alone", "xdist"])
def test_refused(project: Project, profile: str, options: list[str]) -> None:
    """Tests are rerun without the server; if xdist is used, the header says what is missing."""
    project.write("test_flaky.py", TEST)
    seen = project.run(*PLUGINS, *options, profile=profile)
    assert seen.header == [*header(profile), *([MISSING] if options else [])], seen.text
    assert (seen.end, seen.exit_code) == ("1 passed, 1 rerun", 0)


def test_not_refused(project: Project) -> None:
    """Where the server is allowed, it is there."""
    project.write("test_server.py", "def test(pytestconfig):\n    assert pytestconfig.failures_db.sock_port\n")
    seen = project.run(*PLUGINS, profile="none")
    assert (seen.header, seen.end) == ([], "1 passed"), seen.text
