"""Fixtures for pytest-playwright; the pytest plugin registers this module where that is there.

    def test_front_page(socketless_page):
        socketless_page.goto("/")

It imports Playwright when a fixture is first used.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import TYPE_CHECKING, Any

import pytest

from socketless.pytest_plugin import renew_workers

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

    from socketless.playwright import Serving

__all__ = ["socketless_page", "socketless_serving"]

_serving = pytest.StashKey["Serving"]()


@pytest.fixture
def socketless_serving(request: pytest.FixtureRequest, context: BrowserContext) -> Iterator[Serving]:
    """Send the requests of pytest-playwright's `context` to `socketless_workers`; the value is the `Serving`.

    In a test that uses `socketless_live_server` as well, they go to its worker. An exception of the app fails the test.
    A single app answers the host of pytest-playwright's `base_url`, or else of `socketless_base_url`.
    """
    from socketless.playwright import serve

    if "socketless_live_server" in request.fixturenames:
        live_server = request.getfixturevalue("socketless_live_server")
        apps, base_url = live_server.worker, live_server.url
    else:
        workers = request.getfixturevalue("socketless_workers")
        renew_workers(request)
        apps = workers.get("*", workers)
        base_url = request.getfixturevalue("base_url") or request.config.getini("socketless_base_url")
    with serve(context, apps, base_url=base_url) as serving:
        request.node.stash[_serving] = serving
        yield serving


@pytest.fixture
def socketless_page(socketless_serving: Serving, page: Page) -> Page:
    """pytest-playwright's `page`, with `socketless_serving`."""
    return page


@pytest.hookimpl(hookwrapper=True)  # `wrapper` is unknown to pytest 7
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, None]:
    """Let a test fail by what its app has raised: at the end of a fixture it would have passed already."""
    outcome = yield
    if _serving in pyfuncitem.stash:
        try:
            pyfuncitem.stash[_serving].raise_exceptions(outcome.excinfo and outcome.excinfo[1])
        except BaseException as error:
            outcome.force_exception(error)
