"""The fixtures for pytest-playwright, as a project has them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pytest_playwright", reason="needs pytest-playwright: tox -e browsers")

from browsers.conftest import CHROMIUM

CONFTEST = f"""
import pytest

@pytest.fixture(scope="session")
def browser_type_launch_args():
    return {{"executable_path": {CHROMIUM!r}, "args": ["--no-sandbox"]}}
"""
SHOP = """
from flask import Flask, request

app = Flask(__name__)
app.testing = True
visits = []

def reset():
    visits.clear()

@app.get("/")
def home():
    visits.append(request.path)
    return f"<h1>visit {len(visits)} of {request.host}</h1>"

@app.get("/fails")
def fails():
    raise LookupError("no such tea")

@app.get("/favicon.ico")
def favicon():
    return "", 204
"""
TESTS = """
import pytest

@pytest.mark.parametrize("number", range(2))
def test_home(socketless_page, number):
    socketless_page.goto("/")
    assert socketless_page.inner_text("h1") == "visit 1 of shop.test"

def test_with_a_client(socketless_page, socketless_client):
    assert "visit 1" in socketless_client.get("/").text
    socketless_page.goto("/")
    assert "visit 2" in socketless_page.inner_text("h1")

def test_raises(socketless_page):
    socketless_page.goto("/fails")

def test_fails_because_of_it(socketless_page):
    socketless_page.goto("/fails")
    assert socketless_page.inner_text("body") == "a page"

def test_expects_it(socketless_page, socketless_serving):
    assert socketless_page.goto("/fails").status == 500
    [error] = socketless_serving.exceptions
    assert isinstance(error, LookupError)
    socketless_serving.exceptions.clear()

def test_blocked(socketless_page, socketless_serving):
    socketless_page.goto("/")
    socketless_page.set_content("<img src=http://cdn.test/a.png>")
    assert socketless_serving.refused == ["http://cdn.test/a.png"]

def test_other_page(page):
    with pytest.raises(Exception, match="ERR_NAME_NOT_RESOLVED"):
        page.goto("http://shop.invalid/")
"""
INI = (
    "[pytest]\nsocketless_app = shop:app\nsocketless_reset_hook = shop:reset\nsocketless_base_url = http://shop.test\n"
)


def run(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-q", "--tb=short", "-p", "no:cacheprovider", *args]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize("args", [(), ("-n", "2")], ids=["one", "xdist"])
def test_fixtures(tmp_path: Path, args: tuple[str, ...]) -> None:
    """A page is served by the session's worker, which is reset before each test; relative URLs are the app's."""
    for name, text in {"conftest.py": CONFTEST, "shop.py": SHOP, "test_shop.py": TESTS, "pytest.ini": INI}.items():
        (tmp_path / name).write_text(text)
    done = run(tmp_path, *args)
    assert "2 failed, 6 passed" in done.stdout, done.stdout + done.stderr
    for name in ("test_raises", "test_fails_because_of_it"):
        assert f"FAILED test_shop.py::{name}[chromium] - LookupError" in done.stdout
    assert "in fails" in done.stdout


def test_without_pytest_playwright(tmp_path: Path) -> None:
    """Without pytest-playwright the fixture says what it needs."""
    (tmp_path / "test_x.py").write_text("def test(socketless_page): pass")
    done = run(tmp_path, "-p", "no:playwright")
    assert "the fixture socketless_page needs pytest-playwright: pip install pytest-playwright" in done.stdout
