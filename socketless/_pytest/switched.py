"""The pytest plugin's part that acts on every test: where an app is configured, or `socketless run` runs pytest."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from socketless.pytest_plugin import run_arguments
from socketless.switch import active_switch, switch_to_ipc_connection

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    # A hook of pytest-xdist, in the process that starts those that run the tests: they shall be switched as it is.
    arguments = node.config.stash.get(run_arguments, None)
    if arguments is not None:
        import execnet

        try:
            execnet.dumps(arguments)
        except execnet.DumpError as error:
            raise pytest.UsageError(f"the switch of this process cannot be repeated by pytest-xdist: {error}") from None
        node.workerinput["socketless_run"] = arguments


@pytest.fixture(scope="session", autouse=True)
def _socketless_switch(request: pytest.FixtureRequest) -> Iterator[None]:
    arguments = request.config.stash.get(run_arguments, None)
    if arguments is not None and active_switch() is not None:  # that of `socketless run` itself
        yield
        return
    if arguments is None:
        workers = request.getfixturevalue("socketless_workers")
        arguments = {
            "app_import": workers["*"] if list(workers) == ["*"] else workers,
            "base_url": request.config.getini("socketless_base_url"),
            "others": request.config.getini("socketless_others") or None,
        }
    with switch_to_ipc_connection(**arguments):
        yield
