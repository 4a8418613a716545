"""The pytest plugin, in projects that pytest runs in a process of its own, as a person would."""

from __future__ import annotations

import re
import textwrap

import pytest

from projects import MORE, SHOP_INI, Project, everywhere_but, header

ALL_TO_SHOP = "socketless: all clients go to shop:app"


FAILURE_OF_SHOP = """
    ____________________________________________ test_seen _____________________________________________

        def test_seen():
            httpx.post("/items?name=coffee")
    >       assert False
    E       assert False

    test_shop.py:41: AssertionError
    --------------------------------------- Captured stdout call ---------------------------------------
    adding coffee
"""


@everywhere_but("codex")
def test_configured_app(project: Project, profile: str) -> None:
    """Where an app is configured, all clients of the tests go to one worker, which is reset before each test."""
    project.write("pytest.ini", SHOP_INI)
    project.write(
        "test_shop.py",
        """
        import asyncio
        import unittest
        import httpx
        import httpx2
        import pytest
        import shop
        from starlette.testclient import TestClient

        pids = set()


        @pytest.mark.parametrize("post", [httpx.post, httpx2.post, TestClient(shop.app).post])
        def test_sync(post):
            assert post("/items", params={"name": "tea"}).json() == ["tea"]
            pids.add(httpx.get("/pid").json())


        def test_async():
            async def main():
                async with httpx.AsyncClient() as client:
                    return [(await client.post("/items?name=tea")).json(), (await client.get("/items")).json()]

            assert asyncio.run(main()) == [["tea"], ["tea"]]


        def test_fixtures(socketless_client, socketless_worker, socketless_app):
            assert socketless_client.post("/items?name=tea").json() == ["tea"]
            assert socketless_worker.run(lambda: shop.items) == ["tea"]
            assert shop.items == []
            assert socketless_app == "shop:app"
            assert socketless_worker.pid in pids and len(pids) == 1


        class Old(unittest.TestCase):
            def test_unittest(self):
                self.assertEqual(httpx.get("http://elsewhere/items").json(), [])


        def test_seen():
            httpx.post("/items?name=coffee")
            assert False
        """,
    )
    seen = project.run(profile=profile)
    assert seen.header == [*header(profile), ALL_TO_SHOP]
    assert seen.part("FAILURES") == textwrap.dedent(FAILURE_OF_SHOP).lstrip()
    assert seen.summary == ["FAILED test_shop.py::test_seen - assert False"]
    assert (seen.end, seen.exit_code) == ("1 failed, 6 passed", 1)
    assert "adding tea" not in seen.text
    assert re.search(r" in [\d.]+s =+\n\Z", seen.text)  # nothing is printed as the worker ends


def test_option_and_base_url(project: Project) -> None:
    """--socketless-app goes before the ini file, and relative URLs are relative to socketless_base_url."""
    project.write(
        "pytest.ini", "[pytest]\nsocketless_app = no_such:app\nsocketless_base_url = https://shop.example/api\n"
    )
    project.write(
        "echo.py",
        "async def app(scope, receive, send):\n"
        "    host = dict(scope['headers'])[b'host']\n"
        "    await send({'type': 'http.response.start', 'status': 200})\n"
        "    await send({'type': 'http.response.body', 'body': host + scope['path'].encode()})\n",
    )
    project.write(
        "test_echo.py",
        """
        import httpx

        def test_echo(socketless_client):
            assert httpx.get("/x").text == "shop.example/api/x"
            assert socketless_client.get("/x").text == "shop.example/api/x"
        """,
    )
    seen = project.run("--socketless-app=echo:app")
    assert seen.header[-1] == "socketless: all clients go to echo:app"
    assert (seen.end, seen.exit_code) == ("1 passed", 0), seen.text


@pytest.mark.parametrize("profile", ["none", "strict"])
def test_xdist(project: Project, profile: str) -> None:
    """Each process of pytest-xdist has a worker of its own."""
    project.write("pytest.ini", SHOP_INI)
    project.write(
        "test_shop.py",
        """
        import httpx
        import pytest

        @pytest.mark.parametrize("number", range(4))
        def test_pid(number, worker_id):
            print("ran", worker_id, "with", httpx.get("/pid").json())
            assert httpx.post("/items?name=tea").json() == ["tea"]
        """,
    )
    seen = project.run("-p", "xdist", "-n2", "-rP", "--dist=each", profile=profile)
    assert seen.header == [*header(profile), ALL_TO_SHOP]
    ran = re.findall(
        r"^-+ Captured stdout call -+\nran (gw\d) with (\d+)\nadding tea\n", seen.part("PASSES"), re.MULTILINE
    )
    assert (seen.end, seen.exit_code, len(ran)) == ("8 passed", 0, 8), seen.text
    assert {name for name, _ in ran} == {"gw0", "gw1"}
    assert len(set(ran)) == len({pid for _, pid in ran}) == 2


@pytest.mark.parametrize(
    ("setting", "error"),
    [
        ("socketless_app = shop.py:app", "socketless_app: 'shop.py:app' is not an import string; write 'shop:app'"),
        (
            "socketless_reset_hook = shop.reset",
            "socketless_reset_hook: 'shop.reset' is not an import string; write 'shop:reset'",
        ),
        ("socketless_base_url = shop", "socketless_base_url must begin with http:// or https://, not 'shop'"),
    ],
)
def test_wrong_settings(project: Project, setting: str, error: str) -> None:
    """A setting that cannot be right ends pytest before the first test."""
    project.write("pytest.ini", f"[pytest]\n{setting}\n")
    project.write("test_shop.py", "def test_nothing():\n    pass\n")
    seen = project.run()
    assert (seen.text.strip(), seen.exit_code) == (f"ERROR: {error}", 4)


def test_reset_hook_without_an_app(project: Project) -> None:
    """A reset hook of the ini file that no worker has is warned of, in one's own words where warnings are errors."""
    text = (
        "socketless_reset_hook is set, but no test has a worker to reset: write socketless_app = package.module:app "
        "as well"
    )
    project.write("pytest.ini", "[pytest]\nsocketless_reset_hook = shop:reset\n")
    project.write("test_shop.py", "def test_nothing():\n    pass\n")
    seen = project.run()
    assert f"PytestConfigWarning: {text}\n" in seen.part("warnings summary")
    assert (seen.end, seen.exit_code) == ("1 passed, 1 warning", 0)
    seen = project.run("-W", "error")
    assert (seen.text.splitlines()[-2:], seen.exit_code) == ([f"ERROR: {text}", ""], 4)
    assert "warning" not in project.run("--socketless-app=shop:app").text
    project.write("conftest.py", "import pytest\n@pytest.fixture(scope='session')\ndef socketless_app():\n    ...\n")
    assert "warning" not in project.run().text


@everywhere_but("strict")
def test_fixture_that_overrides(project: Project, profile: str) -> None:
    """A fixture socketless_app may return an app object, which runs on threads; nothing else is switched then."""
    project.write(
        "conftest.py",
        "import pytest, shop\n@pytest.fixture(scope='session')\ndef socketless_app():\n    return shop.app\n",
    )
    project.write("pytest.ini", "[pytest]\nsocketless_reset_hook = shop:reset\n")
    project.write(
        "test_shop.py",
        """
        import httpx
        import pytest
        import shop
        from socketless.switch import active_switch

        @pytest.mark.parametrize("number", range(2))
        def test_client(socketless_client, number):
            assert socketless_client.post("/items?name=tea").json() == ["tea"] == shop.items
            assert active_switch() is None
        """,
    )
    seen = project.run(profile=profile)
    assert seen.header == header(profile)
    assert (seen.end, seen.exit_code) == ("2 passed", 0), seen.text


def test_apps_of_two_folders(project: Project) -> None:
    """One worker cannot be for two apps: the tests of the second one say so, and ask nobody."""
    for name in ("one", "two"):
        project.write(
            f"{name}/conftest.py",
            f"""
            import pytest

            @pytest.fixture(scope="session")
            def socketless_app():
                return "shop:{"app" if name == "one" else "other"}"
            """,
        )
        project.write(
            f"{name}/test_{name}.py", "def test_get(socketless_client):\n    socketless_client.get('/items')\n"
        )
    seen = project.run()
    assert seen.part("ERRORS").splitlines()[1] == (
        "socketless_app is 'shop:other' here, but the worker of this session runs 'shop:app'; for several apps, make a "
        "fixture for each with ipc_connection_fixture()"
    )
    assert (seen.end, seen.exit_code) == ("1 passed, 1 error", 1)


def test_pytest_within_pytest(project: Project) -> None:
    """A switch of a session's own is none that pytest was started with, for a session within it."""
    project.write("pytest.ini", SHOP_INI)
    project.write("inner/test_inner.py", "def test_it(socketless_client):\n    socketless_client.get('/items')\n")
    project.write(
        "test_outer.py",
        """
        import pytest

        def test_inner():
            options = ["-p", "socketless.pytest_plugin", "-p", "no:cacheprovider", "-c", "inner/tox.ini", "inner"]
            assert pytest.main(options) == 1
            assert pytest.main([*options, "--socketless-app=shop:app"]) == 1
        """,
    )
    project.write("inner/tox.ini", "[pytest]\n")
    seen = project.run("-s", "test_outer.py")
    assert (seen.end, seen.exit_code) == ("1 passed", 0), seen.text
    assert "there is no app: give --socketless-app=" in seen.text
    assert "StateError: this process is switched to 'shop:app' already" in seen.text


@pytest.mark.parametrize("hook", ["", "shop:reset"])
def test_worker_that_dies(project: Project, hook: str) -> None:
    """A test that kills the worker, as often as it likes, is no matter of the others."""
    project.write("pytest.ini", f"[pytest]\nsocketless_app = shop:app\nsocketless_reset_hook = {hook}\n")
    project.write(
        "test_shop.py",
        """
        import os
        import signal
        import httpx
        import pytest

        @pytest.mark.parametrize("number", range(6))  # one more than a worker's max_restarts
        def test_killer(socketless_worker, number):
            assert httpx.get("/items").json() == []
            socketless_worker.run(os._exit, 1)

        @pytest.mark.parametrize("number", range(6))
        def test_killer_at_its_end(socketless_worker, number):
            assert httpx.get("/items").json() == []
            os.kill(socketless_worker.pid, signal.SIGKILL)  # the next test comes before it is dead

        def test_innocent():
            assert httpx.get("/items").json() == []
        """,
    )
    seen = project.run()
    assert (seen.end, seen.exit_code) == ("6 failed, 7 passed", 1), seen.text
    assert len(re.findall(r"^FAILED test_shop.py::test_killer\[\d\] ", seen.text, re.MULTILINE)) == 6


def test_fixture_that_asks_in_its_turn(project: Project) -> None:
    """A worker is reset also for a test whose fixture asks for it by name."""
    project.write("pytest.ini", "[pytest]\nsocketless_app =\nsocketless_reset_hook = shop:reset\n")
    project.write(
        "test_shop.py",
        """
        import pytest

        @pytest.fixture(scope="session")
        def socketless_app():
            return "shop:app"

        @pytest.fixture
        def lazy(request):
            return request.getfixturevalue("socketless_client")

        @pytest.mark.parametrize("number", range(2))
        def test_shop(lazy, number):
            assert lazy.post("/items?name=tea").json() == ["tea"]
        """,
    )
    seen = project.run()
    assert (seen.end, seen.exit_code) == ("2 passed", 0), seen.text


@pytest.mark.parametrize("how", ["os.kill(os.getpid(), signal.SIGINT)", "pytest.exit('enough')"])
def test_session_that_is_broken_off(project: Project, how: str) -> None:
    """The fixtures of a session that is broken off can still ask the app when they end."""
    project.write("pytest.ini", SHOP_INI)
    project.write(
        "test_shop.py",
        f"""
        import os
        import signal
        import httpx
        import pytest

        @pytest.fixture(scope="session")
        def tidy():
            yield
            print("left:", httpx.get("/items").json())

        def test_shop(tidy):
            httpx.post("/items?name=tea")
            {how}
        """,
    )
    seen = project.run("-s")
    assert seen.exit_code == pytest.ExitCode.INTERRUPTED
    assert "left: ['tea']\n" in seen.text
    assert "StateError" not in seen.text


def test_worker_that_is_left_open(project: Project) -> None:
    """What an app raises when its worker, which nobody has closed, is closed at the end, is shown."""
    project.write(
        "test_shop.py",
        """
        from contextlib import asynccontextmanager
        from fastapi import FastAPI
        from socketless import IpcThread

        @asynccontextmanager
        async def lifespan(app):
            yield
            raise RuntimeError("the shop is on fire")

        worker = IpcThread(FastAPI(lifespan=lifespan))

        def test_run():
            worker.run(int)
        """,
    )
    seen = project.run()
    assert (seen.end, seen.exit_code) == ("1 passed", 0)
    assert re.search(
        r"^=+ <IpcThread the app object, .*> was left open, and raised when it was closed =+$", seen.text, re.M
    )
    assert "\nRuntimeError: the shop is on fire\n" in seen.text


def test_order_of_fixtures(project: Project) -> None:
    """The worker is reset before a test's own fixtures set it up, whatever the order of the test's arguments."""
    project.write("pytest.ini", "[pytest]\nsocketless_reset_hook = shop:reset\n")
    project.write(
        "test_shop.py",
        """
        import pytest
        import shop

        @pytest.fixture(scope="session")
        def socketless_app():
            return "shop:app"

        @pytest.fixture
        def tea(socketless_worker):
            socketless_worker.run(shop.items.append, "tea")

        def test_first(tea, socketless_client):
            assert socketless_client.get("/items").json() == ["tea"]

        def test_last(socketless_client, tea):
            assert socketless_client.get("/items").json() == ["tea"]

        def test_worker_alone(socketless_worker):
            assert socketless_worker.run(lambda: shop.items) == []
        """,
    )
    seen = project.run()
    assert (seen.end, seen.exit_code) == ("3 passed", 0), seen.text


def test_what_goes_wrong(project: Project) -> None:
    """No app, an app that does not start, and a reset hook that raises: each is said at the tests that it concerns."""
    project.write(
        "test_shop.py",
        "import httpx\n\ndef test_a(socketless_client):\n    httpx.post('/items?name=broken')\n\n"
        "def test_b(socketless_client):\n    pass\n\ndef test_c(socketless_client):\n    pass\n",
    )
    seen = project.run()
    said = (
        "there is no app: give --socketless-app=package.module:app, write socketless_app = package.module:app in the "
        "ini file, or define a fixture socketless_app with scope='session' that returns one"
    )
    assert seen.part("ERRORS").splitlines().count(said) == 3
    assert (seen.end, seen.exit_code) == ("3 errors", 1)

    seen = project.run("--socketless-app=shop:nothing")
    assert "cannot import 'shop:nothing': module 'shop' has no attribute 'nothing'\n" in seen.part("ERRORS")
    assert (seen.end, seen.exit_code) == ("3 errors", 1)

    seen = project.run("--socketless-app=shop:app", "-o", "socketless_reset_hook=shop:broken_reset")
    [title] = re.findall("^_+ (.*) _+$", seen.part("ERRORS"), re.MULTILINE)
    assert title == "ERROR at setup of test_b"
    assert re.search(r"^E +(\w+\.)*RuntimeError: the shop is on fire$", seen.part("ERRORS"), re.MULTILINE)
    assert (seen.end, seen.exit_code) == ("2 passed, 1 error", 1)


@everywhere_but("codex")
def test_factories(project: Project, profile: str) -> None:
    """The two factories make fixtures, which need no configuration, and no plugin either."""
    project.write(
        "conftest.py",
        """
        from socketless.pytest_plugin import ipc_connection_fixture, reset_between_tests_fixture

        shop = ipc_connection_fixture("shop:app", reset_hook="shop:reset", base_url="http://shop", scope="module")
        reset = reset_between_tests_fixture()
        """,
    )
    project.write(
        "test_shop.py",
        """
        import httpx
        import pytest

        @pytest.mark.parametrize("number", range(2))
        def test_client(shop, number):
            assert httpx.post("/items?name=tea").json() == ["tea"]
            assert shop.worker.run(lambda: 7) == 7
        """,
    )
    project.write(
        "test_unswitched.py",
        "from socketless.switch import active_switch\n\ndef test_off():\n    assert active_switch() is None\n",
    )
    options = ["-p", "no:socketless.pytest_plugin"] if profile == "codex" else []
    seen = project.run(*options, profile=profile)
    assert (seen.end, seen.exit_code) == ("3 passed", 0), seen.text


RUN = ("-m", "socketless", "run", "--reset-hook=shop:reset", "shop:app", "-m", "pytest")
SCRIPT = ("run.py", "shop:app")


def test_two_factories_at_once(project: Project) -> None:
    """The second of two fixtures whose scopes overlap says what to do."""
    project.write(
        "test_shop.py",
        """
        import httpx
        import pytest
        from socketless.pytest_plugin import ipc_connection_fixture

        shop = ipc_connection_fixture("shop:app")
        other = ipc_connection_fixture("shop:app")

        def test_one(shop):
            httpx.get("/items")

        def test_other(other):
            httpx.get("/items")
        """,
    )
    seen = project.run()
    assert (seen.end, seen.exit_code) == ("1 passed, 1 error", 1)
    assert (
        "A fixture of ipc_connection_fixture() keeps its switch until its scope ends, here 'session'; for several "
        "apps, use the scope 'module', or 'package' in folders with an __init__.py\n"
    ) in seen.part("ERRORS")


@pytest.mark.parametrize(
    ("command", "profile", "processes"),
    [(RUN, "none", 0), (RUN, "codex", 1), (SCRIPT, "strict", 0), (SCRIPT, "strict", 1)],
    ids=["run", "run codex xdist", "script strict", "script strict xdist"],
)
def test_under_a_switch(project: Project, command: tuple[str, ...], profile: str, processes: int) -> None:
    """A switch that is on when pytest starts is that of the tests: reset before each, in xdist's processes as well."""
    project.write(
        "run.py",
        """
        import sys
        import pytest
        from socketless import switch_to_ipc_connection

        with switch_to_ipc_connection(sys.argv.pop(1), reset_hook="shop:reset"):
            sys.exit(pytest.main(sys.argv[1:]))
        """,
    )
    project.write(
        "test_shop.py",
        """
        import httpx
        import pytest

        @pytest.mark.parametrize("number", range(2))
        def test_client(number, socketless_client):
            assert httpx.post("/items?name=tea").json() == ["tea"]
            assert socketless_client.get("/items").json() == ["tea"]
        """,
    )
    rescued = header(profile)
    if rescued and "socketless" in command:  # which has done it before pytest could say why
        rescued = [
            "socketless: event loops wake by a pipe (they did when pytest began)",
            "socketless: loopback is virtual (it was when pytest began)",
            MORE,
        ]
    why = "is not used, as pytest was started with a switch"
    unused = [f"socketless: socketless_app {why}", f"socketless: socketless_reset_hook {why}"]
    if processes:
        project.write("pytest.ini", SHOP_INI)
        seen = project.run("-p", "xdist", f"-n{processes}", profile=profile, command=command)
        assert seen.header == [*rescued, ALL_TO_SHOP, *unused]
    else:
        seen = project.run("--socketless-app=other:app", profile=profile, command=command)
        assert seen.header == [*rescued, ALL_TO_SHOP, unused[0]]
    assert (seen.end, seen.exit_code) == ("2 passed", 0), seen.text


def test_plugin_of_a_conftest_under_a_switch(project: Project) -> None:
    """It is the same where the plugin is registered by a conftest.py."""
    project.loading = []
    project.write("conftest.py", "pytest_plugins = ['socketless.pytest_plugin']\n")
    project.write(
        "test_shop.py",
        """
        import httpx
        import pytest

        @pytest.mark.parametrize("number", range(2))
        def test_client(number):
            assert httpx.post("/items?name=tea").json() == ["tea"]
        """,
    )
    for options in ([], ["-p", "xdist", "-n1"]):
        seen = project.run(*options, command=RUN)
        assert seen.header[-1:] == [ALL_TO_SHOP]
        assert (seen.end, seen.exit_code) == ("2 passed", 0), seen.text


def test_switch_that_cannot_be_repeated(project: Project) -> None:
    """A switch to an app object cannot be had in the processes of pytest-xdist, which is said."""
    project.write(
        "run.py",
        """
        import sys
        import pytest
        import shop
        from socketless import switch_to_ipc_connection

        with switch_to_ipc_connection(shop.app):
            sys.exit(pytest.main(sys.argv[1:]))
        """,
    )
    project.write("test_shop.py", "import httpx\n\ndef test_get():\n    assert httpx.get('/items').json() == []\n")
    seen = project.run(command=("run.py",))
    assert (seen.end, seen.exit_code) == ("1 passed", 0), seen.text
    seen = project.run("-p", "xdist", "-n1", command=("run.py",))
    said = "the switch of this process cannot be repeated by pytest-xdist: can't serialize <class 'function'>"
    assert re.search(f"^ERROR: {said}$", seen.text, re.MULTILINE), seen.text
    assert seen.exit_code == pytest.ExitCode.USAGE_ERROR


@pytest.mark.unmeasured
def test_nothing_is_imported(project: Project) -> None:
    """The plugin imports next to nothing where nobody uses it."""
    project.write(
        "test_plain.py",
        """
        import sys

        def test_modules():
            ours = {name for name in sys.modules if name.startswith("socketless")}
            parts = ("_forking", "_genuine", "_import_watch", "_pytest", "_pytest.rescue")
            parts += ("eventloop", "pytest_plugin", "sandbox")
            assert ours == {"socketless", *(f"socketless.{part}" for part in parts)}
            heavy = {"httpx", "httpx2", "anyio", "werkzeug", "asgiref", "cloudpickle", "multiprocessing"}
            if sys.version_info < (3, 14):  # from then on, pdb imports it for pytest
                heavy.add("asyncio")
            assert not heavy & set(sys.modules)
        """,
    )
    seen = project.run(profile="none", afresh=True)
    assert (seen.header, seen.end, seen.exit_code) == ([], "1 passed", 0), seen.text


def test_wrong_value(project: Project) -> None:
    """A value that socketless_eventloop cannot have is wrong usage."""
    seen = project.run("-o", "socketless_eventloop=maybe")
    assert seen.text == "ERROR: socketless_eventloop must be auto, on or off, not 'maybe'\n\n"
    assert seen.exit_code == pytest.ExitCode.USAGE_ERROR
