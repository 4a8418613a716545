"""The pytest plugin, which pytest finds by itself where socketless is installed.

It imports nothing until it is used: pytest loads it in every project of the environment.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from socketless.host.worker import Worker

__all__: list[str] = []

_EVENTLOOP = ("auto", "on", "off")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "socketless_eventloop",
        "let the event loops of the tests wake by a pipe: auto (where this sandbox refuses sockets), on, off",
        default="auto",
    )


@pytest.hookimpl(tryfirst=True, hookwrapper=True)  # `wrapper` is unknown to pytest 7
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, None]:
    # A wrapper is called before every other hook: a conftest.py, or Django's settings, may make a loop.
    _rescue(early_config)
    early_config.stash[_workers_before] = _live_workers()
    yield


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    _rescue(config)  # again, where the plugin is registered later than usual


def pytest_report_header(config: pytest.Config) -> list[str]:
    reason = config.stash.get(_rescued, None)
    return [f"socketless: event loops wake by a pipe ({reason})"] if reason else []


@pytest.hookimpl(trylast=True, hookwrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, None]:
    """Close the workers that are left open: they save what coverage.py has counted, which pytest-cov reports next."""
    yield
    before = session.config.stash.get(_workers_before, [])  # of a pytest around this one, for example
    left = [worker for worker in _live_workers() if worker not in before]
    if left:
        from socketless.host.worker import close_all

        close_all(left)


_workers_before = pytest.StashKey[list["Worker"]]()  # those that are not of this session's tests


def _live_workers() -> list[Worker]:
    module = sys.modules.get("socketless.host.worker")
    return [] if module is None else module.live_workers()


_rescued = pytest.StashKey[str]()  # why the loops wake by a pipe


def _rescue(config: pytest.Config) -> None:
    """Make the event loops of this process work, if the sandbox breaks them."""
    wanted = config.getini("socketless_eventloop")
    if wanted not in _EVENTLOOP:
        raise pytest.UsageError(f"socketless_eventloop must be auto, on or off, not {wanted!r}")
    if wanted == "off" or _rescued in config.stash:
        return
    from socketless import sandbox

    refusal = sandbox.wakeup_refusal()
    if wanted == "on" or refusal is not None:
        from socketless import eventloop

        config.stash[_rescued] = "socketless_eventloop = on" if refusal is None else f"this sandbox refuses {refusal}"
        if not eventloop.is_installed():
            eventloop.install()
            config.add_cleanup(eventloop.uninstall)
