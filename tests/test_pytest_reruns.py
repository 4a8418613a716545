"""pytest-rerunfailures, which opens a server on loopback where pytest-xdist is installed."""

from __future__ import annotations

import pytest

from projects import Project, header, where_refused

FLAKY = """
    import pytest

    runs = []


    @pytest.mark.parametrize("number", range(4))
    def test_flaky(number):
        runs.append(number)
        assert runs.count(number) == 2
"""
CRASH = """
    import os


    def test_crash():
        os._exit(3)
"""


@where_refused
@pytest.mark.parametrize(
    ("test", "end"), [(FLAKY, "4 passed, 4 rerun"), (CRASH, "1 failed, 2 rerun")], ids=["flaky", "crash"]
)
def test_refused(project: Project, profile: str, test: str, end: str) -> None:
    """Tests are rerun in the processes of xdist, and one that crashes its process as well: the server is virtual."""
    project.write("test_it.py", test)
    seen = project.run("-p", "xdist", "-p", "pytest_rerunfailures", "-n2", "--reruns=2", profile=profile)
    assert (seen.header, seen.end) == (header(profile), end), seen.text
