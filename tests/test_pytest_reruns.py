"""pytest-rerunfailures, which opens a server on loopback where pytest-xdist is installed."""

from __future__ import annotations

from projects import Project, header, where_refused

TEST = """
    import os

    import pytest

    runs = []


    @pytest.mark.parametrize("number", range(2))
    def test_flaky(number):
        runs.append(number)
        assert runs.count(number) == 2


    def test_crash():
        os._exit(3)
"""


@where_refused
def test_refused(project: Project, profile: str) -> None:
    """Tests are rerun in the processes of xdist, those that crash their process as well: its server is virtual."""
    project.write("test_flaky.py", TEST)
    seen = project.run("-p", "xdist", "-p", "pytest_rerunfailures", "-n2", "--reruns=1", profile=profile)
    assert (seen.header, seen.end) == (header(profile), "1 failed, 2 passed, 3 rerun"), seen.text
