"""A plugin of pytest: the tests fail if an app, or socketless, breaks a rule. `tox -e validate` runs it."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sitecustomize

sitecustomize.come_first()  # pytest has put its own finder there

# By the beginning of their names: tests that are not run, and why.
EXEMPT = {
    "tests/worker/test_broken_apps.py::test_broken_apps[wsgi]": "breaks the rules; the validator sees it first",
    "tests/worker/test_broken_apps.py::test_broken_apps_as_responses[wsgi]": "likewise",
    "tests/worker/test_broken_apps.py::test_what_others_let_pass": "likewise",
    "tests/loopback/test_install.py::test_a_child_pays_nothing": "its children must not have this sitecustomize",
    "tests/loopback/test_install.py::test_its_own_sitecustomize": "likewise",
    "tests/worker/test_stacks.py::test_wsgi": "expects a whole stack, in which the validator is",
    "tests/test_cli.py::test_exception_of_the_app": "likewise, a traceback",
    "tests/test_start_anywhere.py::test_where_functions_of_main_are": "likewise",
    "tests/test_seen.py::test_debug": "expects one message, where the validator's iterable gives its chunks one by one",
}


def _broken() -> Counter[str]:
    path = Path(os.environ["SOCKETLESS_VALIDATED"])
    return Counter(path.read_text().splitlines()) if path.exists() else Counter()


def _is_worker(config: Any) -> bool:
    return hasattr(config, "workerinput")  # of pytest-xdist


def pytest_configure(config: Any) -> None:
    if not _is_worker(config):
        Path(os.environ["SOCKETLESS_VALIDATED"]).unlink(missing_ok=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for beginning, reason in EXEMPT.items():
            if item.nodeid.startswith(beginning):
                item.add_marker(pytest.mark.skip(reason))


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: Any) -> None:
    if not _is_worker(session.config) and _broken() and session.exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    for text, count in _broken().most_common():
        terminalreporter.write_line(f"broken {count} times: {text}")
