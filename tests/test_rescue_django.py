"""Django's tests where sockets are refused: with pytest as they are, with `manage.py test` and unittest by one line."""

from __future__ import annotations

import multiprocessing
import re
import sys
from pathlib import Path

import pytest

from projects import Seen, everywhere_but, header, run, run_pytest, where_refused, write, write_example
from support import no_plugins

SITE = {
    "site_settings.py": """
        SECRET_KEY = "test"
        ROOT_URLCONF = "site_urls"
        INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth"]
        DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
    """,
    "site_urls.py": """
        import asyncio

        from django.contrib.auth.models import User
        from django.http import HttpResponse, StreamingHttpResponse
        from django.urls import path


        def names(request):
            print("in the sync view")
            return HttpResponse(",".join(User.objects.order_by("username").values_list("username", flat=True)))


        async def count(request):
            await asyncio.to_thread(print, "in the async view")
            return HttpResponse(str(await User.objects.acount()))


        def stream(request):
            async def pieces():
                for number in range(3):
                    yield await asyncio.to_thread(str, number)

            return StreamingHttpResponse(pieces() if request.GET else map(str, range(3)))


        urlpatterns = [path("names", names), path("count", count), path("stream", stream)]
    """,
}

TEST_CASES = """
    import asyncio

    from django.contrib.auth.models import User
    from django.test import AsyncClient, Client, RequestFactory, SimpleTestCase, TestCase, TransactionTestCase
    from site_urls import count, names


    class ViewsTest(TestCase):
        @classmethod
        def setUpTestData(cls):
            User.objects.create(username="ada")

        async def test_async_client(self):
            response = await self.async_client.get("/names")
            self.assertEqual(response.content, b"ada")
            response = await AsyncClient().get("/count")
            self.assertEqual(response.content, b"1")

        def test_client(self):
            self.assertEqual(Client().get("/names").content, b"ada")
            self.assertEqual(self.client.get("/count").content, b"1")

        async def test_orm(self):
            await User.objects.acreate(username="grace")
            self.assertEqual([user.username async for user in User.objects.order_by("username")], ["ada", "grace"])


    class TransactionTest(TransactionTestCase):
        async def test_names(self):
            await User.objects.acreate(username="grace")
            response = await self.async_client.get("/names")
            self.assertEqual(response.content, b"grace")


    class StreamTest(SimpleTestCase):
        async def test_stream(self):
            response = await self.async_client.get("/stream", {"async": "1"})
            self.assertEqual([piece async for piece in response], [b"0", b"1", b"2"])

        async def test_fails(self):
            print("in the test")
            self.assertEqual(await asyncio.to_thread(str, 1), "2")
"""
PYTEST = {
    **SITE,
    "site_settings.py": f"""
        import asyncio
        import atexit

        atexit.register(asyncio.new_event_loop().close)  # before any conftest.py
        {SITE["site_settings.py"].strip()}
    """,
    "pytest.ini": """
        [pytest]
        DJANGO_SETTINGS_MODULE = site_settings
        asyncio_mode = auto
        asyncio_default_fixture_loop_scope = function
    """,
    "test_fixtures.py": """
        import pytest
        from django.contrib.auth.models import User


        @pytest.mark.django_db(transaction=True)
        async def test_async_client(async_client):
            await User.objects.acreate(username="ada")
            assert (await async_client.get("/names")).content == b"ada"
            assert (await async_client.get("/count")).content == b"1"


        @pytest.mark.django_db
        def test_client(client):
            User.objects.create(username="ada")
            assert client.get("/names").content == b"ada"
            assert client.get("/count").content == b"1"


        @pytest.mark.django_db(transaction=True)
        async def test_fails(async_client):
            await User.objects.acreate(username="grace")
            assert (await async_client.get("/names")).content == b"ada"
    """,
    "test_cases.py": TEST_CASES,
}


@everywhere_but("codex")
def test_pytest_django(tmp_path: Path, profile: str) -> None:
    """With pytest-django and pytest-asyncio, clients, ORM and test cases work, and failures show what was printed."""
    write(tmp_path, PYTEST)
    seen = run_pytest(tmp_path, profile, PYTEST_ADDOPTS=no_plugins("asyncio", "django"))
    assert seen.header == header(profile)
    assert re.sub(r" - .*", "", seen.part("short test summary info")).splitlines() == [
        "FAILED test_fixtures.py::test_fails",
        "FAILED test_cases.py::StreamTest::test_fails",
    ]
    assert re.findall(r"- Captured (.*) -+\n(.*)\n", seen.text) == [
        ("stdout call", "in the sync view"),
        ("stdout call", "in the test"),
    ]
    assert (seen.end, seen.exit_code) == ("2 failed, 7 passed", 1), seen.text


CONFIGURED = """
    import django
    import pytest
    from django.conf import settings
    from django.http import HttpResponse
    from django.test import AsyncClient
    from django.urls import path


    def sync_view(request):
        return HttpResponse("sync")


    async def async_view(request):
        return HttpResponse("async")


    urlpatterns = [path("sync", sync_view), path("async", async_view)]
    settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="test")
    django.setup()


    @pytest.mark.parametrize("number", range(10))
    @pytest.mark.asyncio
    async def test_views(number):
        assert (await AsyncClient().get("/sync")).content == b"sync"
        assert (await AsyncClient().get("/async")).content == b"async"
"""


SCOPE = "asyncio_default_fixture_loop_scope=function"  # or pytest-asyncio warns that it is not set


@where_refused
def test_without_pytest_django(tmp_path: Path, profile: str) -> None:
    """Django's AsyncClient needs no more than pytest-asyncio."""
    write(tmp_path, {"test_views.py": CONFIGURED})
    seen = run_pytest(tmp_path, profile, "-o", SCOPE, PYTEST_ADDOPTS=no_plugins("asyncio"))
    assert (seen.header, seen.end, seen.exit_code) == (header(profile), "10 passed", 0), seen.text


MANAGED = {
    **SITE,
    "manage.py": """
        import os
        import sys

        from socketless import eventloop

        eventloop.install()

        if __name__ == "__main__":
            os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
            from django.core.management import execute_from_command_line

            execute_from_command_line(sys.argv)
    """,
    "tests/__init__.py": "",
    "tests/test_cases.py": TEST_CASES,
}
# The default from Python 3.14 on, forkserver, needs UNIX sockets; what to write instead, `socketless doctor` says.
SET_START_METHOD = """
        if __name__ == "__main__":
            import multiprocessing

            multiprocessing.set_start_method("spawn")
"""
SPAWNED = {
    **MANAGED,
    "manage.py": MANAGED["manage.py"].replace('\n        if __name__ == "__main__":\n', SET_START_METHOD),
}
WITHOUT_LINE = {**MANAGED, "manage.py": MANAGED["manage.py"].replace("eventloop.install()", "")}


def last_line(seen: Seen) -> str:
    *_, last = re.findall(r"^(?:OK|FAILED).*$", seen.text, re.M) or [seen.text]
    return str(last)


@everywhere_but("strict")
def test_manage_py(tmp_path: Path, profile: str) -> None:
    """`manage.py test` runs async test cases and the async client with one line in manage.py."""
    write(tmp_path, MANAGED)
    assert_one_fails(run(tmp_path, profile, "manage.py", "test"))


@where_refused
def test_manage_py_parallel(tmp_path: Path, profile: str) -> None:
    """The same line is enough for the processes of `--parallel`, where those are spawned or forked."""
    write(tmp_path, MANAGED if multiprocessing.get_all_start_methods()[0] != "forkserver" else SPAWNED)
    assert_one_fails(run(tmp_path, profile, "manage.py", "test", "--parallel", "2"))


def assert_one_fails(seen: Seen) -> None:
    assert seen.text.count("\nFAIL: test_fails (tests.test_cases.StreamTest") == 1, seen.text
    assert "AssertionError: '1' != '2'\n" in seen.text
    assert (last_line(seen), seen.exit_code) == ("FAILED (failures=1)", 1)
    assert "Ran 6 tests in" in seen.text


@pytest.mark.parametrize("profile", ["strict"])
def test_manage_py_without(tmp_path: Path, profile: str) -> None:
    """Without the line, all that is async fails where socketpair() is refused."""
    write(tmp_path, WITHOUT_LINE)
    seen = run(tmp_path, profile, "manage.py", "test")
    assert seen.text.count("\nPermissionError: [Errno 1] Operation not permitted\n") >= 6
    assert (last_line(seen), seen.exit_code) == ("FAILED (errors=6)", 1)


KIOSK = """
    import asyncio
    import unittest

    import django
    from django.conf import settings
    from django.http import HttpResponse
    from django.test import AsyncClient
    from django.urls import path
    from fastapi import FastAPI
    from starlette.testclient import TestClient

    app = FastAPI()


    @app.get("/")
    def hello():
        print("in the route")
        return "hello"


    urlpatterns = [path("", lambda request: HttpResponse("hello"))]
    settings.configure(ROOT_URLCONF=__name__, SECRET_KEY="test")
    django.setup()


    class HelloTest(unittest.IsolatedAsyncioTestCase):
        async def asyncSetUp(self):
            self.answer = await asyncio.to_thread(str, 42)

        async def test_threads(self):
            self.assertEqual(self.answer, "42")

        async def test_django(self):
            response = await AsyncClient().get("/")
            self.assertEqual(response.content, b"hello")

        def test_client(self):
            with TestClient(app) as client:
                self.assertEqual(client.get("/").json(), "hello")

        async def test_fails(self):
            self.assertEqual(await asyncio.to_thread(str, 1), "2")
"""


@everywhere_but("codex")
def test_unittest(tmp_path: Path, profile: str) -> None:
    """`python -m unittest` runs async test cases and clients with the two lines of `socketless docs rescue`."""
    write_example(tmp_path, "kiosk")
    write(tmp_path, {"tests/test_hello.py": KIOSK})
    seen = run(tmp_path, profile, "-m", "unittest", "--buffer")
    assert seen.text.count("\nFAIL: test_fails (tests.test_hello.HelloTest") == 1, seen.text
    assert (last_line(seen), seen.exit_code) == ("FAILED (failures=1)", 1)
    assert "Ran 6 tests in" in seen.text


@pytest.mark.parametrize("profile", ["strict"])
def test_unittest_without(tmp_path: Path, profile: str) -> None:
    """Without the lines, the same tests fail where socketpair() is refused."""
    write_example(tmp_path, "kiosk")
    write(tmp_path, {"tests/test_hello.py": KIOSK, "tests/__init__.py": ""})
    seen = run(tmp_path, profile, "-m", "unittest", "--buffer")
    assert "\nPermissionError: [Errno 1] Operation not permitted\n" in seen.text
    # Python 3.10's unittest ends at the first test that can make no loop, and counts nothing.
    if sys.version_info >= (3, 11):
        assert last_line(seen) == "FAILED (errors=6)"
    assert seen.exit_code == 1
