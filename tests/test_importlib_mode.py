"""pytest's `--import-mode=importlib`: test modules have names by which no fresh interpreter can import them."""

from __future__ import annotations

from pathlib import Path

import pytest

from projects import run, write

TESTS = """
    import httpx

    from socketless import IpcProcess, IpcTransport

    items = []


    class OwnError(Exception):
        def __init__(self, text, code):
            super().__init__(text)
            self.code = code


    def app(environ, start_response):
        if environ["PATH_INFO"] == "/raise":
            raise OwnError("text", 3)
        items.append(1)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [f"hello {len(items)}".encode()]


    def make_app():
        return app


    def reset():
        items.clear()


    def ask(app, **options):
        with IpcProcess(app, **options) as worker:
            with httpx.Client(transport=IpcTransport(worker), base_url="http://x") as client:
                assert client.get("/").text == "hello 1"
                if options:
                    worker.reset()
                    assert client.get("/").text == "hello 1"
                try:
                    client.get("/raise")
                except OwnError as error:
                    assert error.code == 3
                else:
                    raise AssertionError
                assert worker.run(abs, -3) == worker.run(lambda number: number, 3) == 3


    def test_object():
        ask(app)


    def test_factory():
        ask(make_app)


    def test_lambda():
        ask(lambda: make_app())


    def test_fork():
        ask(lambda: make_app(), start_method="fork", reset_hook=reset)
"""
CONSOLE_SCRIPT = "import sys; del sys.path[0]; import pytest; raise SystemExit(pytest.main())"


@pytest.mark.parametrize("name", ["tests/test_local.py", "test_local.py", "tests/unit/api/test_local.py"])
def test_apps_of_a_test_module(tmp_path: Path, name: str) -> None:
    """Apps, factories and lambdas of such a module reach a worker all the same: by value."""
    write(tmp_path, {name: TESTS})
    seen = run(tmp_path, None, "-c", CONSOLE_SCRIPT, "--import-mode=importlib", "-p", "no:cacheprovider")
    assert (seen.end, seen.exit_code) == ("4 passed", 0), seen.text


def test_installed_package_of_the_same_name(tmp_path: Path) -> None:
    """Where another package is installed by that name, the worker does not take that one for it."""
    write(tmp_path, {"tests/test_local.py": TESTS, "installed/tests/__init__.py": ""})
    seen = run(
        *(tmp_path, None, "-c", CONSOLE_SCRIPT, "--import-mode=importlib", "-p", "no:cacheprovider", "tests"),
        PYTHONPATH=str(tmp_path / "installed"),
    )
    assert (seen.end, seen.exit_code) == ("4 passed", 0), seen.text
