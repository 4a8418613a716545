"""A page of Playwright, served by a worker."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pytest_playwright", reason="needs pytest-playwright: tox -e browsers")

from flask import Flask, abort, redirect, request, session
from playwright.async_api import async_playwright

from browsers.replying import Replying
from socketless import IpcProcess, IpcThread
from socketless._playwright.contexts import served
from socketless.errors import TransferError, WorkerDied
from socketless.playwright import serve
from support import nothing_leaks

HOME = "http://testserver/start"


def in_thread(coroutine: Any) -> Any:
    """Run a coroutine where no other loop runs: that of the sync API does in this thread."""
    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, coroutine).result(60)


def failing(environ: Any, start_response: Any) -> Any:
    if environ["PATH_INFO"] == "/favicon.ico":
        start_response("204 No Content", [])
        return []
    raise ZeroDivisionError(environ["PATH_INFO"])


def make_shop() -> Flask:
    app = Flask(__name__)
    app.secret_key = "key"

    @app.get("/favicon.ico")
    def favicon() -> Any:
        return "", 204

    @app.get("/")
    def home() -> str:
        if "name" not in session:
            abort(redirect("/login"))
        return f"<h1>Hello {session['name']}</h1>"

    @app.get("/login")
    def form() -> str:
        fields = "<input name=name><input type=file name=file multiple><button>Log in</button>"
        return f"<form method=post enctype=multipart/form-data>{fields}</form>"

    @app.post("/login")
    def login() -> Any:
        session["name"] = " ".join(
            [
                request.form["name"],
                *(f"{each.filename}:{each.read().decode()}" for each in request.files.getlist("file") if each),
            ]
        )
        return redirect("/")

    return app


def log_in(page: Any) -> str:
    page.goto("http://testserver/")
    assert page.url == "http://testserver/login"
    page.fill("[name=name]", "Ada")
    page.click("button")
    return str(page.inner_text("h1"))


@pytest.mark.parametrize("kind", [IpcThread, IpcProcess])
def test_session(page: Any, kind: Any) -> None:
    """A person logs in: redirects and cookies, with a worker on threads and in a process."""
    with kind(make_shop, **({"start_method": "fork"} if kind is IpcProcess else {})) as worker, serve(page, worker):
        assert log_in(page) == "Hello Ada"
        assert page.url == "http://testserver/"
        [cookie] = page.context.cookies()
        assert cookie["name"] == "session"
        assert cookie["httpOnly"]


def test_import_string(page: Any) -> None:
    """An import string has a process, which ends with the block."""
    page.goto("about:blank")
    with nothing_leaks(), serve(page, "browsers.test_serving:make_shop()"):
        assert log_in(page) == "Hello Ada"


def test_upload_of_files(page: Any, tmp_path: Path) -> None:
    """Files on the disk and in memory are uploaded, those of one name, too, and what was selected last."""
    paths = []
    for number in (1, 2):
        (tmp_path / f"{number}").mkdir()
        path = tmp_path / f"{number}" / "same.txt"
        path.write_text(f"content {number}")
        paths.append(path)
    with serve(page, make_shop()):
        page.goto("http://testserver/login")
        page.set_input_files("[type=file]", paths)
        assert log_in_with_what_is_there(page) == "Hello Ada same.txt:content 1 same.txt:content 2"
        page.goto("http://testserver/login")
        page.set_input_files("[type=file]", paths)
        paths[1].write_text("changed")
        page.set_input_files("[type=file]", paths[1])
        assert log_in_with_what_is_there(page) == "Hello Ada same.txt:changed"
        page.goto("http://testserver/login")
        page.set_input_files("[type=file]", {"name": "m.txt", "mimeType": "text/plain", "buffer": b"in memory"})
        assert log_in_with_what_is_there(page) == "Hello Ada m.txt:in memory"


def test_upload_of_a_file_that_has_gone(page: Any, tmp_path: Path) -> None:
    """A file that the page cannot read fails the request, as over TCP."""
    path = tmp_path / "a.txt"
    path.write_text("content")
    with pytest.raises(TransferError, match="^POST http://testserver/login: Chromium does not show the whole body"):
        with serve(page, make_shop()):
            page.goto("http://testserver/login")
            page.set_input_files("[type=file]", path)
            path.unlink()
            page.dispatch_event("[type=file]", "input")
            log_in_with_what_is_there(page)


def log_in_with_what_is_there(page: Any) -> str:
    page.fill("[name=name]", "Ada")
    page.click("button")
    return str(page.inner_text("h1"))


def test_body_of_script(page: Any, tmp_path: Path) -> None:
    """What a script sends has its files, too; a stream is an error that says so."""
    (tmp_path / "a.txt").write_text("content")
    serving = serve(page, Replying())
    with serving:
        page.goto(HOME)
        page.set_content("<input type=file name=f>")
        page.set_input_files("input", tmp_path / "a.txt")
        file = "document.querySelector('input').files[0]"
        form = f"(() => {{ const form = new FormData(); form.append('f', {file}); return form }})()"
        for body in (file, form):
            script = f"fetch('/echo', {{method: 'POST', body: {body}}}).then(r => r.text())"
            assert "content" in page.evaluate(script)
        stream = "new ReadableStream({start(c) { c.enqueue(new Uint8Array(3)); c.close() }})"
        script = f"fetch('/echo', {{method: 'POST', duplex: 'half', body: {stream}}}).catch(e => e.name)"
        assert page.evaluate(script) == "TypeError"
        [error] = serving.exceptions
        serving.exceptions.clear()
    assert str(error) == (
        "POST http://testserver/echo: Chromium does not show the whole body of this request; a file can be given by "
        "set_input_files({'name': ..., 'mimeType': ..., 'buffer': ...}), and no stream at all"
    )


def test_download(page: Any) -> None:
    """A download arrives, byte for byte."""
    with serve(page, Replying()):
        page.goto(HOME)
        with page.expect_download() as download:
            page.evaluate("location = '/binary?h=Content-Disposition: attachment; filename=all.bin'")
        assert download.value.suggested_filename == "all.bin"
        assert Path(download.value.path()).read_bytes() == bytes(range(256))


def test_exception_is_raised(page: Any) -> None:
    """What an app raises is raised at the end of the block, in the place of what failed because of it."""
    with pytest.raises(ZeroDivisionError, match="^/first$") as raised, serve(page, failing):
        assert page.goto("http://testserver/first").status == 500
        page.goto("http://testserver/second")
        assert page.inner_text("body") == "a front page"
    assert isinstance(raised.value.__context__, AssertionError)
    assert raised.traceback[-1].name == "failing"


def test_other_exceptions_are_logged(page: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The first exception is raised, the others are in the log."""
    with pytest.raises(ZeroDivisionError, match="^/first$"), serve(page, failing) as serving:
        for path in ("first", "second"):
            page.goto(f"http://testserver/{path}")
        assert [str(error) for error in serving.exceptions] == ["/first", "/second"]
    assert [str(record.exc_info[1]) for record in caplog.records if record.exc_info] == ["/second"]  # type: ignore[index]


def test_exception_that_is_expected(page: Any) -> None:
    """A test that expects an exception takes it out; or wants none at all."""
    with serve(page, failing) as serving:
        page.goto("http://testserver/")
        [error] = serving.exceptions
        serving.exceptions.clear()
    assert isinstance(error, ZeroDivisionError)
    with serve(page, failing, raise_app_exceptions=False) as serving:
        assert page.goto("http://testserver/").status == 500
        assert page.inner_text("body") == "Internal Server Error"
    assert serving.exceptions == []


def test_response_that_breaks_off(page: Any) -> None:
    """A response that breaks off is an error of the network for the page, and raised in the test."""
    with pytest.raises(RuntimeError, match="^it breaks off$"), serve(page, Replying()):
        page.goto(HOME)
        assert page.evaluate("fetch('/breaks').catch(e => e.name)") == "TypeError"


def test_dead_worker(page: Any) -> None:
    """A worker that dies is an error of the network for the page, and raised in the test."""
    with IpcProcess(Replying(), start_method="fork", max_restarts=0) as worker:
        with pytest.raises(WorkerDied, match="^GET /start: not started again, after 0 of max_restarts=0"):
            with serve(page, worker):
                page.goto(HOME)
                with pytest.raises(WorkerDied):
                    worker.run(os._exit, 3)
                assert page.evaluate("fetch('/start').catch(e => e.name)") == "TypeError"


def test_other_hosts_are_refused(page: Any, caplog: pytest.LogCaptureFixture) -> None:
    """What an app is not there for fails in the page, is listed and in the log, and reaches no app."""
    app = Replying()
    with caplog.at_level(logging.WARNING, "socketless"), serve(page, app) as serving:
        page.goto(HOME)
        for url in ("http://cdn.test/a.js", "https://testserver/", "http://testserver:8000/"):
            assert page.evaluate("url => fetch(url).catch(e => e.name)", url) == "TypeError"
        with pytest.raises(Exception, match="ERR_BLOCKED_BY_CLIENT"):
            page.goto("http://else.test/")
    assert serving.refused == [
        "http://cdn.test/a.js",
        "https://testserver/",
        "http://testserver:8000/",
        "http://else.test/",
    ]
    assert "GET http://cdn.test/a.js: refused; there are apps for http://testserver" in caplog.messages
    assert {each["host"] for each in app.seen} == {"testserver"}


def test_other_websockets_are_refused(page: Any) -> None:
    """A WebSocket to a host that is not named is closed."""
    with serve(page, Replying()) as serving:
        page.goto(HOME)
        script = "new Promise(ok => { new WebSocket('ws://else.test/').onclose = e => ok(e.code) })"
        assert page.evaluate(script) == 1006
    assert serving.refused == ["ws://else.test/"]


def test_others_pass(page: Any) -> None:
    """With others="pass", they go to the network."""
    with serve(page, Replying(), others="pass") as serving:
        page.goto(HOME)
        with pytest.raises(Exception, match="ERR_NAME_NOT_RESOLVED"):
            page.goto("http://else.invalid/")
    assert serving.refused == []


def test_apps_by_host(page: Any) -> None:
    """Each host has its app, as a name, with a port, by a pattern; an app that is named twice has one worker."""
    apps = {name: Replying() for name in ("shop", "api", "port", "below")}
    hosts = {"shop.test": apps["shop"], "http://api.test": apps["api"], "api.test:9000": apps["port"],
             "*.below.test": apps["below"], "also.test": apps["shop"]}  # fmt: skip
    with serve(page, hosts):
        for url in ("http://shop.test/start", "https://shop.test:8443/start", "http://api.test/start",
                    "http://api.test:9000/start", "http://a.below.test/start", "http://also.test/start"):  # fmt: skip
            page.goto(url)
    asked = {name: [each["host"] for each in app.seen] for name, app in apps.items()}
    assert asked == {
        "shop": ["shop.test", "shop.test:8443", "also.test"],
        "api": ["api.test"],
        "port": ["api.test:9000"],
        "below": ["a.below.test"],
    }


def test_secure_context(page: Any) -> None:
    """An https:// URL needs no certificate; its page has what needs a secure context, and Secure cookies."""
    with serve(page, Replying(), base_url="https://testserver"):
        page.goto("https://testserver/start")
        assert page.evaluate("isSecureContext")
        page.evaluate("fetch(at('', {h: ['Set-Cookie: a=1; Secure; SameSite=None']}))")
        assert page.context.cookies()[0]["secure"]


def test_popup_and_frames(page: Any) -> None:
    """Popups, frames and workers of the context are served from their first request on."""
    app = Replying()
    with serve(page, app):
        page.goto(HOME)
        with page.expect_popup() as popup:
            page.evaluate("void open(at('', {status: 302, h: ['Location: /r?body=popup']}))")
        popup.value.wait_for_load_state()
        assert popup.value.inner_text("body") == "popup"
        page.set_content("<iframe src='http://testserver/r?status=302&h=Location: /r?body=frame'></iframe>")
        assert page.frame_locator("iframe").locator("body").inner_text() == "frame"


SERVICE_WORKER = """
fetch("/r?from=it");
self.addEventListener("activate", event => event.waitUntil(clients.claim()));
self.addEventListener("fetch", event => event.request.url.endsWith("/mine") && event.respondWith(new Response("its")));
"""


def test_service_worker(page: Any) -> None:
    """A service worker is loaded, asks the app, and answers the page."""
    app = Replying()
    with serve(page, app, base_url="https://testserver"):
        page.goto("https://testserver/start")
        script = "at('', {h: ['Content-Type: text/javascript'], body: %r})" % SERVICE_WORKER  # noqa: UP031
        page.evaluate("void (self.controlled = new Promise(ok => { navigator.serviceWorker.oncontrollerchange = ok }))")
        page.evaluate(f"navigator.serviceWorker.register({script}).then(() => 0)")
        page.evaluate("controlled.then(() => 0)")
        assert page.evaluate("fetch('/mine').then(r => r.text())") == "its"
        until(page, lambda: app.seen[-1]["target"] == "/r?from=it")


def test_contexts_are_separate(new_context: Any) -> None:
    """Each context has its own apps, its frames and popups too; one that is not served has none."""
    contexts, apps = [new_context() for _ in range(2)], [Replying(), Replying()]
    pages = [context.new_page() for context in contexts]
    with serve(contexts[0], apps[0]), serve(contexts[1], apps[1]):
        for page, name in zip(pages, "ab", strict=True):
            page.goto(f"{HOME}?{name}")
            page.set_content(f"<iframe src='/r?body={name}'></iframe>")
            assert page.frame_locator("iframe").locator("body").inner_text() == name
            with page.expect_popup() as popup:
                page.evaluate(f"void open('/r?popup={name}')")
            popup.value.wait_for_load_state()
        alone = new_context().new_page()
        with pytest.raises(Exception, match="ERR_NAME_NOT_RESOLVED"):
            alone.goto(HOME)
    asked = [[each["target"] for each in app.seen] for app in apps]
    assert asked == [[f"/start?{name}", f"/r?body={name}", f"/r?popup={name}"] for name in "ab"]


def test_served_again(page: Any) -> None:
    """After the block the context is as before, and can be served again, also within another block."""
    outer, inner = Replying(), Replying()
    with serve(page, outer):
        page.goto(HOME)
        with serve(page, inner):
            page.goto(HOME + "?inner")
        page.goto(HOME + "?outer")
    with pytest.raises(Exception, match="ERR_NAME_NOT_RESOLVED"):
        page.context.new_page().goto(HOME)
    with serve(page, outer):
        page.goto(HOME + "?again")
    assert [each["target"] for each in outer.seen] == ["/start?", "/start?outer", "/start?again"]
    assert [each["target"] for each in inner.seen] == ["/start?inner"]


def test_own_route_comes_first(page: Any) -> None:
    """What a test has routed itself does not reach the app; what it lets go on does."""
    app = Replying()
    with serve(page, app):
        page.route("**/mine", lambda route: route.fulfill(body="mine"))
        page.route("**/r", lambda route: route.continue_())
        page.goto(HOME)
        assert page.evaluate("fetch('/mine').then(r => r.text())") == "mine"
        assert page.evaluate("fetch('/r').then(r => r.status)") == 200
    assert [each["target"] for each in app.seen] == ["/start?", "/r?"]


def test_app_hears_of_leaving(page: Any) -> None:
    """An app hears that its client has gone: by abort(), by another page, when the page or the block ends."""
    app = Replying()
    with serve(page, app):
        page.goto(HOME)
        page.evaluate("void (self.c = new AbortController(), fetch('/hang?abort', {signal: c.signal}).catch(e => 0))")
        until(page, lambda: len(app.seen) == 2)
        page.evaluate("c.abort()")
        until(page, lambda: app.gone == ["abort"])
        page.evaluate("void fetch('/hang?page').catch(e => 0)")
        until(page, lambda: len(app.seen) == 3)
        page.goto(HOME)
        until(page, lambda: app.gone[1:] == ["page"])
        other = page.context.new_page()
        other.goto(HOME)
        other.evaluate("void fetch('/hang?close')")
        until(page, lambda: len(app.seen) == 6)
        other.close()
        until(page, lambda: app.gone[2:] == ["close"])
        page.evaluate("void fetch('/hang?end')")
        until(page, lambda: len(app.seen) == 7)
    assert app.gone[3:] == ["end"]


def until(page: Any, condition: Any) -> None:
    """Let Playwright work until something has come about."""
    for _ in range(2000):
        if condition():
            return
        page.wait_for_timeout(10)
    raise AssertionError("it has not come about within 20 seconds")


def test_event_stream(page: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Events that are streamed reach the page when the response has ended, and the log says so."""
    with caplog.at_level(logging.WARNING, "socketless"), serve(page, Replying()):
        page.goto(HOME)
        text = page.evaluate("fetch('/stream?h=Content-Type: text/event-stream').then(r => r.text())")
    assert text == "chunk 0 chunk 1 chunk 2 "
    target = "GET /stream?h=Content-Type:%20text/event-stream"
    assert caplog.messages == [f"{target}: the page gets the events only when the response has ended"]


def test_side_by_side(page: Any) -> None:
    """A request that waits holds up no other."""
    app = Replying()
    with serve(page, app):
        page.goto(HOME)
        script = "(async () => { fetch('/hang').catch(e => 0); return (await fetch('/r?body=other')).text() })()"
        assert page.evaluate(script) == "other"


def test_websocket_exception(page: Any) -> None:
    """What an app raises in a WebSocket is raised; a handshake that fails is one that is denied."""
    with pytest.raises(RuntimeError, match="^as asked$"), serve(page, Replying()):
        page.goto(HOME)
        events = page.evaluate("chat('/ws', ['raise'], w => 0)")
        assert [each[1] for each in events if each[0] == "close"] == [1011]


def test_websocket_of_wsgi(page: Any) -> None:
    """A WSGI app has no WebSockets."""
    with serve(page, make_shop()):
        page.goto("http://testserver/login")
        script = "new Promise(ok => { new WebSocket('ws://testserver/').onclose = e => ok(e.code) })"
        assert page.evaluate(script) == 1006


def test_browser_that_closes(browser_type: Any, browser_type_launch_args: dict[str, Any]) -> None:
    """A page, a context or a browser may be closed within the block."""
    browser = browser_type.launch(**browser_type_launch_args)
    page = browser.new_page()
    with serve(page, Replying()):
        page.goto(HOME)
        page.evaluate("void fetch('/hang')")
        browser.close()


def test_end_that_fails(page: Any) -> None:
    """Where the end is cut short, workers end nevertheless, and the page has the network again."""

    async def cut_short(*args: Any) -> None:
        raise asyncio.CancelledError

    page.goto("about:blank")
    with nothing_leaks(), pytest.raises(asyncio.CancelledError):
        with serve(page, "browsers.test_serving:make_shop()") as serving:
            page.goto("http://testserver/login")
            serving._command = cut_short  # type: ignore[method-assign]
    with pytest.raises(Exception, match="ERR_NAME_NOT_RESOLVED"):
        page.goto(HOME)


def test_beginning_that_fails(page: Any) -> None:
    """Where the beginning fails, its session with the browser ends, too."""

    async def fail(*args: Any) -> None:
        raise LookupError

    serving = serve(page, Replying())
    serving._served.prepare = fail  # type: ignore[method-assign]
    with pytest.raises(LookupError):
        serving.__enter__()
    with pytest.raises(Exception, match="closed"):
        serving._cdp.send("Browser.getVersion")


def test_context_that_has_gone(page: Any) -> None:
    """A context that is closed, and what was uploaded in it, is kept by nothing."""
    context = page.context.browser.new_context()
    with serve(context, Replying()):
        context.new_page().goto(HOME)
    known = weakref.ref(served(context))
    context.close()
    del context
    page.goto("about:blank")  # what Playwright has to say of the end has come by then
    gc.collect()
    assert known() is None


def test_websocket_handshake_at_the_end(page: Any) -> None:
    """A handshake that is under way when the block ends is given up: the app hears it, and so does the page."""
    events = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "websocket":
            await Replying()(scope, receive, send)
            return
        events.append((await receive())["type"])
        try:
            events.append((await receive())["type"])
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    with serve(page, app):
        page.goto(HOME)
        page.evaluate("void (self.end = new Promise(ok => { new WebSocket('ws://testserver/').onclose = ok }))")
        until(page, lambda: events == ["websocket.connect"])
    assert page.evaluate("end.then(event => event.code)") == 1006
    assert len(events) == 2


def test_refuses(page: Any) -> None:
    """What cannot be served is an error that says why."""
    with pytest.raises(TypeError, match="^serve\\(\\) takes a page or a browser context of Playwright, not 'page'$"):
        serve("page", failing)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="^there is no app: write {'api.test': 'package.module:app'}$"):
        serve(page, {})
    with pytest.raises(ValueError, match="^'http://api.test/path' is not a host: write"):
        serve(page, {"http://api.test/path": failing})
    with pytest.raises(ValueError, match="^base_url must be a string that begins with http:// or https://, not 'x'$"):
        serve(page, failing, base_url="x")
    with pytest.raises(ValueError, match="^others must be one of 'pass', 'refuse', not 'go'$"):
        serve(page, failing, others="go")  # type: ignore[arg-type]

    async def enter() -> None:
        async with serve(page, failing):
            pass

    with pytest.raises(TypeError, match="^this is a page of Playwright's sync API: write `with serve\\(...\\)`$"):
        in_thread(enter())


def test_async_api(browser_type_launch_args: dict[str, Any]) -> None:
    """The async API: pages, WebSockets, side by side, exceptions, and the way out."""

    async def main() -> None:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(**browser_type_launch_args)
            page = await browser.new_page()
            with pytest.raises(TypeError, match="^this is a page of Playwright's async API: write `async with"):
                serve(page, failing).__enter__()
            app = Replying()
            async with serve(page, app):
                await page.goto("http://testserver/r?status=302&h=Location: /start")
                texts = await asyncio.gather(
                    *(page.evaluate(f"fetch('/r?body={n}').then(r => r.text())") for n in range(9))
                )
                assert texts == [str(number) for number in range(9)]
                assert (await page.evaluate("chat('/ws', ['x'])"))[1] == "x"
                await page.evaluate("void fetch('/hang?end')")
                while app.seen[-1].get("target") != "/hang?end":
                    await asyncio.sleep(0)
            assert app.gone[-1:] == ["end"]
            with pytest.raises(ZeroDivisionError):
                async with serve(page, failing):
                    await page.goto("http://testserver/")
            await browser.close()

    in_thread(main())
