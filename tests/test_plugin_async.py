"""The pytest plugin beside those that run async tests, pytest-asyncio and anyio's, under each profile."""

from __future__ import annotations

import textwrap

import pytest
import pytest_asyncio

from projects import SHOP_INI, Project, everywhere, everywhere_but, header

ASYNCIO_INI = SHOP_INI + "    asyncio_mode = {mode}\n"
HAS_LOOP_SCOPES = not pytest_asyncio.__version__.startswith("0.23.")
if HAS_LOOP_SCOPES:  # some versions warn where it is not set
    ASYNCIO_INI += "    asyncio_default_fixture_loop_scope = function\n"

IMPORTS = """
import asyncio
import httpx
import pytest
import pytest_asyncio
import shop
"""

# What each plugin is told of an async test, and of an async fixture.
MARKS = {
    "auto": ("", "@pytest.fixture"),
    "strict": ("@pytest.mark.asyncio", "@pytest_asyncio.fixture"),
    "anyio": ("@pytest.mark.anyio", "@pytest.fixture"),
}

# Who has imported what the plugin is part of before pytest does, as what is forked here, is warned of it.
ANYIO = ("-p", "anyio", "-W", "ignore:Module already imported so cannot be rewritten")

TESTS = """
    FIXTURE
    async def client():
        async with httpx.AsyncClient() as client:
            yield client


    FIXTURE
    async def tea(client):
        await client.post("/items?name=tea")
        return await asyncio.to_thread(str.upper, "tea")


    TEST
    async def test_async_client():
        async with httpx.AsyncClient() as client:
            assert (await client.post("/items?name=tea")).json() == ["tea"]
            both = await asyncio.gather(client.get("/items"), client.get("/items"))
            assert [response.json() for response in both] == [["tea"], ["tea"]]


    TEST
    async def test_reset_before():
        async with httpx.AsyncClient(base_url="https://shop.example") as client:
            assert (await client.get("items")).json() == []


    TEST
    async def test_reset_before_fixtures(tea, client, socketless_worker):
        assert tea == "TEA"
        assert (await client.get("/items")).json() == ["tea"]
        assert socketless_worker.run(lambda: shop.items) == ["tea"]


    TEST
    async def test_socketless_client(socketless_client):
        assert socketless_client.get("/items").json() == []
        assert (await asyncio.to_thread(socketless_client.post, "/items?name=tea")).json() == ["tea"]


    def test_sync(socketless_client):
        assert socketless_client.get("/items").json() == []


    TEST
    async def test_fails(client):
        await client.post("/items?name=coffee")
        response = await client.get("/items")
        assert response.json() == []
"""


def write_tests(project: Project, mode: str, text: str = TESTS) -> None:
    test, fixture = MARKS[mode]
    text = textwrap.dedent(text).replace("TEST\n", f"{test}\n").replace("FIXTURE\n", f"{fixture}\n")
    project.write("test_shop.py", IMPORTS + text)


def assert_one_fails(project: Project, profile: str, *plugin: str) -> None:
    """Assert what a person sees of the tests above."""
    seen = project.run(*plugin, profile=profile)
    assert seen.header == [*header(profile), "socketless: all clients go to shop:app"]
    assert (seen.end, seen.exit_code) == ("1 failed, 5 passed", 1), seen.text
    assert seen.summary == ["FAILED test_shop.py::test_fails - AssertionError: assert ['coffee'] == []"]
    failure = seen.part("FAILURES")
    assert ">       assert response.json() == []\nE       AssertionError: assert ['coffee'] == []\n" in failure
    assert [line for line in failure.splitlines() if "Captured" in line or line.startswith("adding")] == [
        "--------------------------------------- Captured stdout call ---------------------------------------",
        "adding coffee",
    ]


@pytest.mark.parametrize(("mode", "profile"), [("auto", "none"), ("auto", "codex"), ("strict", "strict")])
def test_pytest_asyncio(project: Project, mode: str, profile: str) -> None:
    """Under pytest-asyncio, async tests and fixtures ask the worker, which is reset before them."""
    project.write("pytest.ini", ASYNCIO_INI.format(mode=mode))
    write_tests(project, mode)
    assert_one_fails(project, profile, "-p", "pytest_asyncio.plugin")


@everywhere_but("codex")
def test_anyio(project: Project, profile: str) -> None:
    """The same under anyio's plugin."""
    project.write("pytest.ini", SHOP_INI)
    project.write("conftest.py", "import pytest\n\n\n@pytest.fixture\ndef anyio_backend():\n    return 'asyncio'\n")
    write_tests(project, "anyio")
    assert_one_fails(project, profile, *ANYIO)


@everywhere_but("strict")
def test_anyio_on_trio(project: Project, profile: str) -> None:
    """On trio, the fixtures and sync clients in threads do, too."""
    project.write("pytest.ini", SHOP_INI)
    project.write("conftest.py", "import pytest\n\n\n@pytest.fixture\ndef anyio_backend():\n    return 'trio'\n")
    project.write(
        "test_shop.py",
        """
        import anyio
        import httpx
        import pytest


        @pytest.fixture
        async def tea():
            return (await anyio.to_thread.run_sync(httpx.post, "/items?name=tea")).json()


        @pytest.mark.anyio
        @pytest.mark.parametrize("number", range(2))
        async def test_get(tea, socketless_client, number):
            response = await anyio.to_thread.run_sync(socketless_client.get, "/items")
            assert response.json() == tea == ["tea"]
        """,
    )
    seen = project.run(*ANYIO, profile=profile)
    assert seen.header == [*header(profile), "socketless: all clients go to shop:app"]
    assert (seen.end, seen.exit_code) == ("2 passed", 0), seen.text


SESSION_LOOP = """
    @pytest.fixture(scope="session")
    def socketless_app():
        return shop.app


    @pytest_asyncio.fixture(loop_scope="session", scope="session")
    async def greeting():
        return await asyncio.to_thread(str.upper, "hello")


    @pytest.mark.asyncio(loop_scope="session")
    @pytest.mark.parametrize("number", range(2))
    async def test_on_threads(greeting, socketless_client, number):
        async with httpx.AsyncClient(transport=IpcAsyncTransport(socketless_client.worker)) as client:
            assert (await client.post("http://testserver/items?name=tea")).json() == ["tea"] == shop.items
        assert greeting == "HELLO"
"""


@everywhere
@pytest.mark.skipif(not HAS_LOOP_SCOPES, reason="asks for the loop of the session")
def test_session_loop(project: Project, profile: str) -> None:
    """One loop for all tests, that of an async fixture of the session, does as well; here the app runs on threads."""
    ini = ASYNCIO_INI.format(mode="strict").replace("socketless_app = shop:app", "")
    project.write("pytest.ini", ini)
    write_tests(project, "strict", "from socketless import IpcAsyncTransport\n" + textwrap.dedent(SESSION_LOOP))
    seen = project.run("-p", "pytest_asyncio.plugin", profile=profile)
    assert seen.header == header(profile)
    assert (seen.end, seen.exit_code) == ("2 passed", 0), seen.text
