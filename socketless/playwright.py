"""Browser tests without a port: what a page of Playwright asks for goes to a worker.

    from socketless.playwright import serve

    def test_front_page(page):
        with serve(page, "shop:app"):
            page.goto("http://testserver/")
            expect(page.get_by_role("heading")).to_have_text("Tea")

It needs Chromium, or a browser made of it: its DevTools protocol shows each request before that goes to the network,
those after a redirect and the preflights of CORS as well, which Playwright's own routes leave out. Redirects, cookies
and CORS are the browser's own.
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
    """Send what a browser context asks for to a worker, or to several by their hosts.

        with serve(page, {"shop.test": "shop:app", "http://localhost:9000": worker}):

    All pages of the context are served, with their frames, popups, workers and WebSockets; other contexts of the
    browser are not. What the test has routed itself, by `page.route()`, comes first.

    Args:
        target: a context, or a page of it.
        apps: ``"package.module:attribute"``, which runs in an `IpcProcess`; an app object, which runs in an
            `IpcThread`; a worker that is there already, and is left running; or these by their hosts.
        base_url: where the page finds the one app. An ``https://`` needs no certificate.
        others: what becomes of requests to other hosts: ``"refuse"``, they fail as those that an extension of the
            browser has blocked; ``"pass"``, they go to the network.
        raise_app_exceptions: raise at the end of the block what an app has raised. The page gets a 500 either way.
        root_path: the path that the apps are mounted at: `SCRIPT_NAME` (PEP 3333) or `root_path` (ASGI).

    Returns:
        A context manager: for `with`, or, with Playwright's async API, for `async with`.

    Raises:
        TypeError: `target` is neither a page nor a context.
        ValueError: it is not Chromium's; or a host, `base_url` or `others` is not what it can be.
        ModuleNotFoundError: Playwright is not installed.
        WorkerStartError, TransferError: on entering; see `IpcProcess`.
        Exception: on leaving, what an app has raised, and `WorkerDied` and the like.
    """
    return Serving(
        target,
        apps,
        base_url=base_url,
        others=others,
        raise_app_exceptions=raise_app_exceptions,
        root_path=root_path,
    )
