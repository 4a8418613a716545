"""Several apps by host, wherever the switch is offered: pytest, `socketless run`, unittest, Django; and the network."""

from __future__ import annotations

import sys
import unittest
from pathlib import Path
from typing import Any

import httpx
import pytest
from asking import WAYS

from library import IN_MEMORY, PYTEST, Library
from projects import fork, run, write
from socketless.errors import UnknownHost
from socketless.testcase import SocketlessTestCase
from support import nothing_leaks

TESTS = str(Path(__file__).parent)

# A shop that asks a bank, and the bank.
APPS = {
    "shop.py": """
        import httpx

        visits = []


        def app(environ, start_response):
            visits.append(environ["HTTP_HOST"])
            start_response("200 OK", [("Content-Type", "text/plain")])
            if environ["PATH_INFO"] == "/bank":
                return [httpx.get("http://localhost:9000/").content]
            return [f"shop {len(visits)}".encode()]


        def reset():
            visits.clear()
    """,
    "bank.py": """
        import shop

        async def app(scope, receive, send):
            if scope["type"] == "lifespan":
                raise ImportError
            await send({"type": "http.response.start", "status": 200})
            await send({"type": "http.response.body", "body": b"bank"})
    """,
}

TESTS_OF_SHOP = """
    import httpx
    import pytest
    import requests
    import shop
    from socketless import IpcProcess
    from socketless.errors import UnknownHost


    @pytest.mark.parametrize("number", range(2))
    def test_hosts(number):
        assert httpx.get("/").text == "shop 1"
        assert requests.get("http://shop.test/").text == "shop 2"
        assert httpx.get("http://localhost:9000/").text == httpx.get("/bank").text == "bank"
        with pytest.raises(UnknownHost):
            httpx.get("http://localhost:9001/")


    def test_fixtures(socketless_worker, socketless_workers, socketless_client):
        assert list(socketless_workers) == ["shop.test", "http://localhost:9000"]
        assert socketless_worker is socketless_workers["shop.test"]
        assert socketless_client.get("/").text == "shop 1"
        assert socketless_worker.run(lambda: len(shop.visits)) == 1
"""

INI = """
    [pytest]
    socketless_app =
        shop.test = shop:app
        # the other one
        http://localhost:9000 = bank:app
    socketless_reset_hook = shop.test = shop:reset
    socketless_base_url = http://shop.test
    socketless_others = refuse
"""
GO_BY_HOST = "socketless: clients go by host: shop.test to shop:app, http://localhost:9000 to bank:app"


def test_ini_file(project: Any) -> None:
    """The ini file names apps by host, one in a line, and their reset hooks; other hosts are refused."""
    write(project.folder, APPS | {"pytest.ini": INI, "test_shop.py": TESTS_OF_SHOP})
    seen = project.run(profile="strict")
    assert seen.header[-1] == GO_BY_HOST
    assert (seen.end, seen.exit_code) == ("3 passed", 0), seen.text


def test_toml_file(project: Any) -> None:
    """In pyproject.toml, they may be a list."""
    toml = """
        [tool.pytest.ini_options]
        socketless_app = ["shop.test = shop:app", "http://localhost:9000 = bank:app"]
        socketless_reset_hook = ["shop.test = shop:reset"]
        socketless_base_url = "http://shop.test"
        socketless_others = "refuse"
    """
    write(project.folder, APPS | {"pyproject.toml": toml, "test_shop.py": TESTS_OF_SHOP})
    seen = project.run()
    assert seen.header[-1] == GO_BY_HOST
    assert (seen.end, seen.exit_code) == ("3 passed", 0), seen.text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("socketless_app = [1]", "socketless_app: must be a string, or a list of strings, not [1]"),
        ("socketless_base_url = [1]", "socketless_base_url must begin with http:// or https://, not [1]"),
    ],
)
def test_wrong_toml_file(project: Any, line: str, expected: str) -> None:
    """What is of another type is said, too."""
    toml = f"[tool.pytest.ini_options]\n{line}\n"
    write(project.folder, {"pyproject.toml": toml, "test_nothing.py": "def test(): pass\n"})
    seen = fork(project.folder, None, "-m", "pytest", "-p", "no:cacheprovider")
    assert (f"ERROR: {expected}" in seen.text, seen.exit_code) == (True, 4), seen.text


def test_option(project: Any) -> None:
    """So does the command line, where the option may be given several times."""
    ini = INI.replace("shop.test = shop:app", "nobody:app").replace("http://localhost:9000 = bank:app", "")
    write(project.folder, APPS | {"pytest.ini": ini, "test_shop.py": TESTS_OF_SHOP})
    apps = ["--socketless-app=shop.test=shop:app", "--socketless-app", "http://localhost:9000 = bank:app"]
    seen = project.run("--collect-only", *apps)
    assert (seen.header[-1], seen.exit_code) == (GO_BY_HOST, 0), seen.text


def test_fixture_that_names_apps(project: Any) -> None:
    """A fixture `socketless_app` may return a dict; an app object in it runs on threads."""
    conftest = """
        import bank, pytest

        @pytest.fixture(scope="session")
        def socketless_app():
            return {"shop.test": "shop:app", "http://localhost:9000": bank.app}
    """
    test = """
        from socketless import IpcProcess, IpcThread

        def test_types(socketless_workers, socketless_worker):
            assert [type(each) for each in socketless_workers.values()] == [IpcProcess, IpcThread]
            assert socketless_worker is socketless_workers["shop.test"]
    """
    ini = INI.replace("shop.test = shop:app", "").replace("http://localhost:9000 = bank:app", "")
    write(project.folder, APPS | {"pytest.ini": ini, "conftest.py": conftest, "test_shop.py": test})
    seen = project.run()
    assert (seen.end, seen.exit_code) == ("1 passed", 0), seen.text


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("socketless_app = a/b = shop:app", "socketless_app: 'a/b' is not a host: "),
        (
            "socketless_app = shop:app\nsocketless_reset_hook = a = b:c",
            "socketless_app: reset_hook: no app has the host",
        ),
        ("socketless_app = shop:app\nsocketless_others = no", "socketless_others must be pass or refuse, not 'no'"),
    ],
)
def test_wrong_ini_file(project: Any, line: str, expected: str) -> None:
    """What is wrong in the ini file is said before anything is started."""
    write(project.folder, {"pytest.ini": f"[pytest]\n{line}\n", "test_nothing.py": "def test(): pass\n"})
    seen = fork(project.folder, None, "-m", "pytest", "-p", "no:cacheprovider")
    assert (f"ERROR: {expected}" in seen.text, seen.exit_code) == (True, 4), seen.text


def test_run_command(project: Any) -> None:
    """`socketless run` takes several apps with their hosts, and what to run after them."""
    write(project.folder, APPS | {"test_shop.py": TESTS_OF_SHOP})
    options = ["--others", "refuse", "--base-url", "http://shop.test", "--reset-hook", "shop.test=shop:reset"]
    apps = ["shop.test=shop:app", "http://localhost:9000=bank:app"]
    words = ["-m", "socketless", "run", *options, *apps, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--color=no"]
    seen = fork(project.folder, None, *words)
    assert ("3 passed" in seen.text, seen.exit_code) == (True, 0), seen.text


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["shop:app", "a=shop", "x.py"], "cannot run 'a=shop'"),
        (["a=shop:app", "a=bank:app", "x.py"], "'a' is given twice."),
        (["--reset-hook", "b=shop:reset", "a=shop:app", "x.py"], "reset_hook: no app has the host 'b'"),
    ],
)
def test_wrong_words(project: Any, words: list[str], expected: str) -> None:
    """What is wrong with them is said, and nothing is run."""
    seen = fork(project.folder, None, "-m", "socketless", "run", *words)
    assert (expected in seen.text, seen.exit_code) == (True, 2), seen.text


def _app(name: str) -> Any:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [name.encode()]

    return app


def test_test_case() -> None:
    """A `SocketlessTestCase` may name other apps, which its own and the tests reach by their hosts."""
    results = []

    class Shop(SocketlessTestCase):
        app = _app("shop")
        apps = {"bank.test": _app("bank")}
        others = "refuse"
        base_url = "http://shop.test/api"

        def runTest(self) -> None:
            with pytest.raises(UnknownHost):
                httpx.get("http://elsewhere.test/")
            results.extend(httpx.get(url).text for url in ("/", "http://shop.test/", "http://bank.test/"))
            results.append(self.client.get("/").text)
            results.extend(self.workers)

    result = unittest.TestResult()
    with nothing_leaks():
        unittest.TestSuite([Shop()]).run(result)
    assert (result.errors, result.failures) == ([], [])
    assert results == ["shop", "shop", "bank", "shop", "http://shop.test", "bank.test"]


TESTS_OF_LIBRARY = """
    import pytest
    from socketless.errors import UnknownHost


    def bank(environ, start_response):
        start_response("200 OK", [])
        return [b"bank"]


    @pytest.fixture(scope="session")
    def socketless_live_apps():
        return {"bank.test": bank}


    def test_fixture(socketless_live_server):
        assert httpx.get("/books").json() == []
        assert httpx.get("http://bank.test/").text == "bank"
        with pytest.raises(UnknownHost):
            httpx.get("http://elsewhere.test/")


    class LibraryTest(LiveServerTestCase):
        apps = {"bank.test": bank}
        others = "refuse"

        def test_hosts(self):
            self.assertEqual(httpx.get(self.live_server_url + "/books").json(), [])
            self.assertEqual(httpx.get("http://bank.test/").text, "bank")
            with self.assertRaises(UnknownHost):
                httpx.get("http://elsewhere.test/")
"""


def test_django(tmp_path: Path) -> None:
    """Django's live server test case, and the fixture for pytest-django, name other apps beside Django's."""
    library = Library(tmp_path, IN_MEMORY)
    library.write_tests(TESTS_OF_LIBRARY)
    library.passes(2, *PYTEST, "-o", "socketless_others=refuse", profile="free")


SCRIPT = """
    import http.server
    import threading

    import socketless
    from asking import WAYS


    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"the network")

        def log_message(self, *args):
            pass


    def app(environ, start_response):
        start_response("200 OK", [])
        return [b"the app"]


    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        other = f"http://127.0.0.1:{server.server_port}/"
        with socketless.switch_to_ipc_connection({"api.test": app}):
            for name, ask in WAYS.items():
                print(name, "|", ask("http://api.test/"), "|", ask(other), "|", ask("http://api.test/"))
        server.shutdown()
        thread.join()
"""


@pytest.mark.parametrize("profile", [pytest.param("none", marks=pytest.mark.slow), "strict"])
def test_network(project: Any, profile: str) -> None:
    """A host that no app has is asked over the network, here a server on virtual loopback, by every client library."""
    write(project.folder, {"script.py": SCRIPT})
    words = ["-W", "ignore", "-m", "socketless", "rescue", sys.executable, "script.py"]
    seen = run(project.folder, profile, *words, PYTHONPATH=TESTS)
    by_network = {name: "the client's own" if name == "TestClient" else "the network" for name in WAYS}
    expected = [f"{name} | the app | {other} | the app" for name, other in by_network.items()]
    assert (seen.text.splitlines(), seen.exit_code) == (expected, 0), seen.text
