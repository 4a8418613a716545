"""`SocketlessTestCase`, in projects that `python -m unittest` runs in a process of its own, as a person would."""

from __future__ import annotations

import re
import sys
import unittest
from pathlib import Path

from projects import everywhere_but, fork, write
from socketless.testcase import SocketlessTestCase
from support import nothing_leaks

SHOP = """
    import os
    import flask

    items = []


    def create_app():
        app = flask.Flask(__name__)
        app.testing = True  # lets exceptions through

        @app.post("/items/<name>")
        def add(name):
            print("adding", name)
            items.append(name)
            return items

        @app.get("/items")
        async def show():
            return items

        @app.get("/broken")
        def broken():
            raise RuntimeError("the shop is on fire")

        return app


    def reset():
        items.clear()
"""

TESTS = """
    from socketless import eventloop
    eventloop.install()

    import asyncio
    import unittest
    import httpx
    import shop
    from socketless import IpcAsyncTransport, IpcProcess, IpcThread, switch_to_ipc_connection
    from socketless.testcase import SocketlessTestCase


    class ShopTest(SocketlessTestCase):
        app = "shop:create_app()"
        reset_hook = "shop:reset"

        def test_first(self):
            self.assertEqual(self.client.post("/items/tea").json(), ["tea"])
            self.assertEqual(self.client.base_url, "http://testserver")
            self.assertEqual(shop.items, [])
            self.assertIsInstance(self.worker, IpcProcess)

        test_second = test_first

        def test_seen(self):
            self.client.post("/items/coffee")
            self.client.get("/broken")


    class OnThreads(SocketlessTestCase):
        app = shop.create_app
        reset_hook = shop.reset
        base_url = "https://shop.example/items/"
        worker_options = {"max_connections": 1}

        def test_shared(self):
            self.addCleanup(shop.reset)
            self.assertEqual(self.client.post("tea").json(), shop.items)
            self.assertEqual((type(self.worker), self.worker.max_connections), (IpcThread, 1))


    class Forked(OnThreads):
        worker_class = IpcProcess
        worker_options = {"start_method": "fork"}
        test_shared = None

        def test_not_shared(self):
            self.assertEqual(self.client.post("tea").json(), ["tea"])
            self.assertEqual(shop.items, [])


    class Async(SocketlessTestCase, unittest.IsolatedAsyncioTestCase):
        app = shop.create_app()

        async def test_async_client(self):
            async with httpx.AsyncClient(transport=IpcAsyncTransport(self.worker), base_url=self.base_url) as client:
                answers = await asyncio.gather(client.get("/items"), client.get("/items"))
            self.assertEqual([answer.status_code for answer in answers], [200, 200])


    class Switched(unittest.TestCase):
        @classmethod
        def setUpClass(cls):
            cls.addClassCleanup(switch_to_ipc_connection("shop:create_app()"))

        def test_get(self):
            self.assertEqual(httpx.get("/items").json(), [])


    class WithoutApp(SocketlessTestCase):
        def test_never_run(self):
            self.fail()


    class WithoutModule(SocketlessTestCase):
        app = "no_such_module:app"

        def test_never_run(self):
            self.fail()
"""


@everywhere_but("strict")
def test_project(profile: str, tmp_path: Path) -> None:
    """Each class has its worker, which is reset before each test; what goes wrong is said by unittest's report."""
    write(tmp_path, {"shop.py": SHOP, "test_shop.py": TESTS})
    text, exit_code = fork(tmp_path, profile, "-W", "error", "-m", "unittest", "--buffer")
    assert exit_code == 1
    assert re.findall(r"^(?:ERROR|FAIL): (.*)$", text, re.M) == [
        "test_seen (test_shop.ShopTest.test_seen)" if sys.version_info >= (3, 11) else "test_seen (test_shop.ShopTest)",
        "setUpClass (test_shop.WithoutApp)",
        "setUpClass (test_shop.WithoutModule)",
    ]
    assert re.search(r"^Ran 7 tests in .*\n\nFAILED \(errors=3\)$", text, re.M)
    # unittest shows the output of a failed test twice: as it fails, and in its report.
    assert text.count("\nStdout:\nadding coffee\n") == text.count("adding") == 2, text
    assert "\nRuntimeError: the shop is on fire\n\nStdout:\nadding coffee\n" in text
    assert "\nTypeError: WithoutApp has no app; write in the class: app = 'package.module:app'\n" in text
    assert "cannot import 'no_such_module:app': there is no module 'no_such_module' on sys.path" in text


def test_nothing_is_left() -> None:
    """When the tests of a class have run, nothing of it is left; also where one of them failed."""

    class Demo(SocketlessTestCase):
        app = "wsgiref.simple_server:demo_app"

        def test_good(self) -> None:
            assert "Hello world!" in self.client.get("/").text

        def test_bad(self) -> None:
            self.client.stream("GET", "/").__enter__()
            self.fail("on purpose")

    result = unittest.TestResult()
    with nothing_leaks():
        unittest.defaultTestLoader.loadTestsFromTestCase(Demo)(result)
        assert [test.id().rpartition(".")[2] for test, _ in result.failures] == ["test_bad"]
        assert (result.testsRun, result.errors) == (2, [])
        result.failures.clear()  # their tracebacks hold the frames
