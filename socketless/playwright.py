"""Browser tests without a port: a worker answers the requests of Playwright's pages.

    from socketless.playwright import serve

    def test_front_page(page):
        with serve(page, "shop:app"):
            page.goto("http://testserver/")
            expect(page.get_by_role("heading")).to_have_text("Tea")

It needs Chromium, or a browser based on it: Chromium's DevTools protocol shows each request before it goes to the
network, including those after a redirect and CORS preflights, which Playwright's own routes leave out. Redirects,
cookies and CORS are handled by the browser itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from socketless._playwright.serving import Serving
from socketless._switch.apps import App

if TYPE_CHECKING:
    from playwright import async_api, sync_api

__all__ = ["Serving", "serve"]


def serve(
    target: sync_api.Page | sync_api.BrowserContext | async_api.Page | async_api.BrowserContext,
    apps: App | Mapping[str, App],
    *,
    base_url: str = "http://testserver",
    others: Literal["refuse", "pass"] = "refuse",
    raise_app_exceptions: bool = True,
    root_path: str = "",
) -> Serving:
    """Send the requests of a browser context to a worker, or to several by their hosts.

        with serve(page, {"shop.test": "shop:app", "http://localhost:9000": worker}):

    All pages of the context are served, with their frames, popups, workers and WebSockets; other contexts of the
    browser are not. The test's own routes, set by `page.route()`, take precedence.

    Args:
        target: a context, or a page of it.
        apps: ``"package.module:attribute"``, which runs in an `IpcProcess`; an app object, which runs in an
            `IpcThread`; an existing worker, which is left running; or a dict of these by their hosts.
        base_url: the URL of a single app. ``https://`` needs no certificate.
        others: what happens to requests to other hosts: with ``"refuse"``, they fail as if an extension of the browser
            had blocked them; with ``"pass"``, they go to the network.
        raise_app_exceptions: whether the end of the block raises an exception of an app. The page gets a 500 either
            way.
        root_path: the path that the apps are mounted at: `SCRIPT_NAME` (PEP 3333) or `root_path` (ASGI).

    Returns:
        A context manager: for `with`, or, with Playwright's async API, for `async with`.

    Raises:
        TypeError: `target` is neither a page nor a context.
        ValueError: the context is not Chromium's; or a host, `base_url` or `others` is invalid.
        ModuleNotFoundError: Playwright is not installed.
        WorkerStartError, TransferError: on entering; see `IpcProcess`.
        Exception: on leaving, an exception that an app has raised, or an error such as `WorkerDied`.
    """
    return Serving(
        target,
        apps,
        base_url=base_url,
        others=others,
        raise_app_exceptions=raise_app_exceptions,
        root_path=root_path,
    )
