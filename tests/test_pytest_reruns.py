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


@where_refused
@pytest.mark.parametrize("options", [[], ["-n1"]], ids=["alone", "xdist"])
def test_refused(project: Project, profile: str, options: list[str]) -> None:
    """Tests are rerun: the server by which pytest-rerunfailures counts beside pytest-xdist is a virtual one."""
    project.write("test_flaky.py", TEST)
    seen = project.run(*PLUGINS, *options, profile=profile)
    assert seen.header == header(profile), seen.text
    assert (seen.end, seen.exit_code) == ("1 passed, 1 rerun", 0)
