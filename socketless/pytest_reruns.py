"""The pytest plugin's part beside pytest-rerunfailures.

Where pytest-xdist is installed, used or not, that opens a server, so that the count of a test's reruns outlives a
process that crashes. If the server is refused, it counts in each process, as it does without xdist.
"""

from __future__ import annotations

import sys
from typing import Any

import pytest

from socketless import sandbox

_does_without = pytest.StashKey[bool]()  # the server


def pytest_configure(config: pytest.Config) -> None:
    # Must be called before pytest-rerunfailures is configured.
    module: Any = sys.modules["pytest_rerunfailures"]
    opens_one = getattr(module, "HAS_PYTEST_HANDLECRASHITEM", False) and config.pluginmanager.hasplugin("xdist")
    if not opens_one or "inet" not in sandbox.loopback_refusals():
        return
    module.HAS_PYTEST_HANDLECRASHITEM = False
    config.stash[_does_without] = True

    def put_back() -> None:
        module.HAS_PYTEST_HANDLECRASHITEM = True

    config.add_cleanup(put_back)


def pytest_report_header(config: pytest.Config) -> list[str]:
    if _does_without not in config.stash or config.getoption("dist") == "no":
        return []
    return ["socketless: a test that crashes its process is not rerun (pytest-rerunfailures would need a socket)"]
