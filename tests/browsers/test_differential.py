"""What a page sees, and what its app is asked, are the same with a worker as with a real server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("pytest_playwright", reason="needs pytest-playwright: tox -e browsers")
uvicorn = pytest.importorskip("uvicorn")

from browsers.cells import FETCHED, KNOWN, LOADED  # noqa: E402
from browsers.replying import Replying  # noqa: E402
from socketless.playwright import serve  # noqa: E402


@pytest.fixture(scope="module")
def real_app() -> Replying:
    return Replying()


@pytest.fixture(scope="module")
def real_port(real_app: Replying) -> Iterator[int]:
    config = uvicorn.Config(real_app, host="127.0.0.1", port=0, log_level="critical")
    server = uvicorn.Server(config)
    started = threading.Event()
    server.startup_done = started  # type: ignore[attr-defined]
    startup = server.startup

    async def startup_and_tell(sockets: Any = None) -> None:
        await startup(sockets)
        started.set()

    server.startup = startup_and_tell  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    assert started.wait(30)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join(30)


@pytest.fixture(scope="module")
def both(browser_type: Any, browser_type_launch_args: dict[str, Any], real_port: int) -> Iterator[Any]:
    """A browser for which the hosts of the cells are the real server, unless they are served."""
    address = f"127.0.0.1:{real_port}"  # not for all hosts: Chromium itself asks for updates
    rules = f"--host-resolver-rules=MAP *.test {address}, MAP localhost {address}, MAP * ~NOTFOUND"
    args = [*browser_type_launch_args["args"], rules]
    browser = browser_type.launch(**{**browser_type_launch_args, "args": args})
    yield browser
    browser.close()


def _cookies(context: Any) -> list[Any]:
    wanted = ("name", "value", "domain", "path", "httpOnly", "secure", "sameSite")
    return sorted(tuple(each[name] for name in wanted) for each in context.cookies())


def _observe(context: Any, app: Replying, script: str, *, loads: bool) -> dict[str, Any]:
    page = context.new_page()
    page.goto("http://a.test/start")
    app.seen.clear()
    result = None
    if loads:
        with page.expect_navigation(wait_until="load", url=lambda url: not url.endswith("/start")):
            page.evaluate(f"void ({script})")
        if "later" in script:
            page.wait_for_url("**body=later")
    else:
        result = page.evaluate(script)
    seen = {"result": result, "url": page.url, "text": page.inner_text("body"), "title": page.title()}
    return {**seen, "cookies": _cookies(context), "asked": list(app.seen)}


@pytest.mark.parametrize(
    ("script", "loads"),
    [pytest.param(script, False, id=name) for name, script in FETCHED.items()]
    + [pytest.param(script, True, id=f"load-{name}") for name, script in LOADED.items()],
)
def test_same(both: Any, real_app: Replying, script: str, loads: bool) -> None:
    """The page sees the same, stores the same cookies, and asks the same, with the same headers."""
    real, ours = _observe_both(both, real_app, script, loads=loads)
    assert ours == real


@pytest.mark.parametrize("script", KNOWN.values(), ids=list(KNOWN))
def test_known_difference(both: Any, real_app: Replying, script: str) -> None:
    """What the documentation says is different is."""
    real, ours = _observe_both(both, real_app, script, loads=False)
    assert ours != real


def _observe_both(browser: Any, real_app: Replying, script: str, *, loads: bool) -> tuple[Any, Any]:
    options = {"http_credentials": {"username": "a", "password": "b"}} if "/secret" in script else {}
    context = browser.new_context(**options)
    real = _observe(context, real_app, script, loads=loads)
    context.close()
    app = Replying()
    context = browser.new_context(**options)
    with serve(context, {"*": app}, raise_app_exceptions=False):
        ours = _observe(context, app, script, loads=loads)
    context.close()
    return real, ours
