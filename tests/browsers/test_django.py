"""Django's pages, with their static files, in a browser; and what it draws of them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("pytest_playwright", reason="needs pytest-playwright: tox -e browsers")
Image = pytest.importorskip("PIL.Image")

from browsers.conftest import CHROMIUM  # noqa: E402

FILES = {
    "settings.py": """
import os
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
SECRET_KEY = "test"
ROOT_URLCONF = "urls"
STATIC_URL = "static/"
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "django.contrib.staticfiles", "front"]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
ENGINE = "django.db.backends.sqlite3"
DATABASES = {"default": {"ENGINE": ENGINE, "NAME": "real.sqlite3", "TEST": {"NAME": "test.sqlite3"}}}
""",
    "urls.py": """
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import path

def users(request):
    return render(request, "front.html", {"users": User.objects.all()})

urlpatterns = [path("", users)]
""",
    "front/__init__.py": "",
    "front/templates/front.html": """{% load static %}<!doctype html>
<link rel=stylesheet href="{% static 'front.css' %}">
<link rel=icon href=data:,><div id=box></div><img src="{% static 'dot.svg' %}">
<ul>{% for user in users %}<li>{{ user }}</li>{% endfor %}</ul><script src="{% static 'front.js' %}"></script>""",
    "front/static/front.css": "body { margin: 0; background: #204080; color: white; font: 40px sans-serif }"
    " #box { width: 100px; height: 50px; background: #ff8000 } img { display: block }",
    "front/static/dot.svg": '<svg xmlns="http://www.w3.org/2000/svg" width="100" height="50">'
    '<rect width="100" height="50" fill="#00c040"/></svg>',
    "front/static/front.js": "document.querySelector('li').style.background = '#800000'",
    "tests.py": """
import os
from django.contrib.auth.models import User
from playwright.sync_api import sync_playwright
from socketless import IpcProcess
from socketless.django import StaticLiveServerTestCase
from socketless.playwright import serve

class ThreadTest(StaticLiveServerTestCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        manager = sync_playwright()
        cls.browser = manager.start().chromium.launch(executable_path=os.environ["CHROMIUM"], args=["--no-sandbox"])
        cls.addClassCleanup(manager.__exit__)
        cls.addClassCleanup(cls.browser.close)

    def test_page(self):
        User.objects.create(username="ada")
        page = self.browser.new_page(viewport={"width": 400, "height": 300})
        with serve(page, self.worker, base_url=self.live_server_url) as serving:
            page.goto(self.live_server_url)
            page.screenshot(path=f"{type(self).__name__}.png")
            self.assertEqual(page.inner_text("ul"), "ada")
        self.assertEqual(serving.refused, [])

class ProcessTest(ThreadTest):
    worker_class = IpcProcess
""",
    "test_pages.py": """
import pytest
from django.contrib.auth.models import User

@pytest.fixture(scope="session")
def browser_type_launch_args():
    import os
    return {"executable_path": os.environ["CHROMIUM"], "args": ["--no-sandbox"]}

def test_page(socketless_live_server, socketless_page, socketless_serving):
    User.objects.create(username="ada")
    socketless_page.set_viewport_size({"width": 400, "height": 300})
    socketless_page.goto(socketless_live_server.url)
    socketless_page.screenshot(path="fixture.png")
    assert socketless_page.inner_text("ul") == "ada"

def test_flushed(socketless_live_server, socketless_page):
    assert socketless_page.goto(socketless_live_server.url + "/nowhere").status == 404
    assert User.objects.count() == 0
""",
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def run(project: Path, *args: str) -> str:
    env = {**os.environ, "CHROMIUM": str(CHROMIUM), "PYTHONPATH": str(project), "PYTEST_ADDOPTS": ""}
    done = subprocess.run([sys.executable, *args], cwd=project, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def check_picture(path: Path) -> None:
    """The page is drawn with its style sheet, its picture and its script, and there is text on it."""
    picture = Image.open(io.BytesIO(path.read_bytes())).convert("RGB")
    assert picture.size == (400, 300)
    assert picture.getpixel((50, 25)) == (0xFF, 0x80, 0x00)  # the box of the style sheet
    assert picture.getpixel((50, 75)) == (0x00, 0xC0, 0x40)  # the picture
    assert picture.getpixel((390, 25)) == (0x20, 0x40, 0x80)  # the background
    assert picture.getpixel((390, 160)) == (0x80, 0x00, 0x00)  # what the script has done to the first user
    assert (255, 255, 255) in {colour for _, colour in picture.getcolors(1 << 16)}  # text


def test_live_server_test_case(project: Path) -> None:
    """The test cases of `socketless.django` show their pages, on threads and from a process."""
    run(project, "-m", "django", "test", "--settings", "settings", "--pattern", "tests.py")
    for name in ("ThreadTest", "ProcessTest"):
        check_picture(project / f"{name}.png")


@pytest.mark.parametrize("kind", ["thread", "fork"])
def test_fixtures(project: Path, kind: str) -> None:
    """`socketless_page` goes to the worker of `socketless_live_server`."""
    args = ("--ds", "settings", "-o", f"socketless_live_server={kind}", "-p", "no:cacheprovider")
    assert "2 passed" in run(project, "-m", "pytest", *args)
    check_picture(project / "fixture.png")
