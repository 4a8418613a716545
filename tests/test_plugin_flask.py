"""The pytest plugin with a Flask app, in a worker process and in one of threads, under each profile."""

from __future__ import annotations

from pathlib import Path

from projects import Seen, everywhere_but, fork, header, write

SHOP = {
    "pytest.ini": """
        [pytest]
        socketless_reset_hook = shop:reset
        filterwarnings = error
    """,
    "shop.py": """
        import asyncio

        import flask

        app = flask.Flask(__name__)
        items = []


        @app.post("/items/<name>")
        def add(name):
            print("adding", name)
            items.append(name)
            return items, 201


        @app.get("/items")
        async def show():
            return await asyncio.to_thread(list, items)


        @app.get("/stream")
        def stream():
            return flask.Response((f"{name};" for name in items), mimetype="text/plain")


        @app.post("/login/<name>")
        def login(name):
            response = flask.redirect("/me")
            response.set_cookie("name", name)
            return response


        @app.get("/me")
        def me():
            return flask.request.cookies["name"]


        @app.get("/broken")
        def broken():
            raise RuntimeError("the shop is on fire")


        def reset():
            items.clear()
    """,
    "test_shop.py": """
        import shop


        def test_add(socketless_client):
            response = socketless_client.post("/items/tea")
            assert (response.status_code, response.json()) == (201, ["tea"])
            assert socketless_client.get("/stream").text == "tea;"


        def test_async_view(socketless_client):
            assert socketless_client.get("/items").json() == []


        def test_cookie(socketless_client):
            assert socketless_client.post("/login/ada").text == "ada"


        def test_worker(socketless_worker, socketless_client):
            socketless_worker.run(shop.items.append, "tea")
            assert socketless_client.get("/items").json() == ["tea"]


        def test_broken(socketless_client):
            socketless_client.post("/items/coffee")
            assert socketless_client.get("/broken").status_code == 200
    """,
}

# An app's name runs in a process, and all clients go there; an app object runs on threads of the tests' process.
PROCESS = {
    "test_where.py": """
        import os

        import httpx
        import shop


        def test_where(socketless_worker):
            assert socketless_worker.pid != os.getpid()
            assert httpx.post("/items/tea").json() == ["tea"]
            assert shop.items == []
    """,
}
THREADS = {
    "conftest.py": """
        import pytest
        import shop


        @pytest.fixture(scope="session")
        def socketless_app():
            return shop.app
    """,
    "test_where.py": """
        import shop
        from socketless import IpcThread


        def test_where(socketless_worker, socketless_client):
            assert isinstance(socketless_worker, IpcThread)
            assert socketless_client.post("/items/tea").json() == ["tea"] == shop.items
    """,
}


def run_tests(folder: Path, profile: str, *options: str) -> Seen:
    options = ("-p", "socketless.pytest_plugin", "-p", "no:cacheprovider", "--color=no", *options)
    return fork(folder, profile, "-m", "pytest", *options, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")


def assert_one_fails(seen: Seen) -> None:
    """Assert what a person sees of the tests above: the view's error is answered with 500, as Flask does."""
    assert (seen.end, seen.exit_code) == ("1 failed, 5 passed", 1), seen.text
    assert seen.summary == ["FAILED test_shop.py::test_broken - AssertionError: assert 500 == 200"]
    failure = seen.part("FAILURES")
    assert "\nadding coffee\n" in failure
    assert "\nRuntimeError: the shop is on fire\n" in failure
    assert "adding tea" not in failure


@everywhere_but("codex")
def test_process(tmp_path: Path, profile: str) -> None:
    """An app that the ini file names runs in a process."""
    write(tmp_path, {**SHOP, **PROCESS})
    seen = run_tests(tmp_path, profile, "-o", "socketless_app=shop:app")
    assert seen.header == [*header(profile), "socketless: all clients go to shop:app"]
    assert_one_fails(seen)


@everywhere_but("strict")
def test_threads(tmp_path: Path, profile: str) -> None:
    """An app object of the fixture socketless_app runs on threads."""
    write(tmp_path, {**SHOP, **THREADS})
    seen = run_tests(tmp_path, profile)
    assert seen.header == header(profile)
    assert_one_fails(seen)
