"""Tests that hang or fail where sockets are refused pass there once socketless is installed, with no line changed.

Small projects are run by pytest, which finds the plugin by its entry point, as in a person's environment.
"""

from __future__ import annotations

import re
import resource
import signal
import textwrap
from functools import cache
from pathlib import Path

import pytest

from documents import DOCUMENTS
from projects import Seen, everywhere, header, run_pytest, start, where_refused, write, write_example
from support import LIMIT, hangs, no_plugins

SHOP = {
    "pytest.ini": """
        [pytest]
        asyncio_default_fixture_loop_scope = function
        filterwarnings = error
    """,
    "shop.py": """
        import asyncio
        import contextlib

        import anyio
        from fastapi import BackgroundTasks, FastAPI, WebSocket
        from fastapi.responses import StreamingResponse

        opened = []


        @contextlib.asynccontextmanager
        async def lifespan(app):
            opened.append(await anyio.to_thread.run_sync(str, "opened"))
            yield
            opened.append(await anyio.to_thread.run_sync(str, "closed"))


        app = FastAPI(lifespan=lifespan)


        @app.get("/sync")
        def sync_route(tasks: BackgroundTasks):
            tasks.add_task(print, "after the sync route")
            print("in the sync route")
            return "sync"


        @app.get("/async")
        async def async_route():
            return await asyncio.to_thread(str, "async")


        @app.get("/stream")
        def stream():
            return StreamingResponse(str(number) for number in range(3))


        @app.websocket("/echo")
        async def echo(socket: WebSocket):
            await socket.accept()
            await socket.send_text(await asyncio.to_thread(str, await socket.receive_text()))
            await socket.close()
    """,
    "conftest.py": """
        import asyncio

        import pytest

        made_at_import = asyncio.new_event_loop()  # before any test, and before pytest is configured


        @pytest.fixture(scope="session")
        def early_loop():
            yield made_at_import
            made_at_import.close()
    """,
    "test_client.py": """
        from fastapi.testclient import TestClient
        from shop import app, opened


        def test_routes():
            client = TestClient(app)
            assert [client.get(path).text for path in ("/sync", "/async", "/stream")] == ['"sync"', '"async"', "012"]


        def test_within_with():
            with TestClient(app) as client:
                assert client.get("/sync").json() == "sync"
                assert client.get("/async").json() == "async"
            assert opened == ["opened", "closed"]


        def test_on_trio():
            with TestClient(app, backend="trio", raise_server_exceptions=False) as client:
                assert client.get("/sync").json() == "sync"


        def test_websocket():
            with TestClient(app).websocket_connect("/echo") as session:
                session.send_text("hello")
                assert session.receive_text() == "hello"


        def test_fails():
            response = TestClient(app).get("/sync")
            assert response.status_code == 201
    """,
    "test_asgi_transport.py": """
        import asyncio

        import httpx
        import pytest
        import trio
        from shop import app


        async def get(path):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://testserver") as client:
                return (await client.get(path)).json()


        def test_asyncio_run():
            assert asyncio.run(get("/sync")) == "sync"
            assert asyncio.run(get("/async")) == "async"


        @pytest.mark.asyncio
        async def test_pytest_asyncio():
            assert await asyncio.gather(get("/sync"), get("/async")) == ["sync", "async"]


        @pytest.mark.anyio
        @pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
        async def test_anyio(anyio_backend):
            assert await get("/sync") == "sync"


        def test_trio_run():
            assert trio.run(get, "/sync") == "sync"
            assert trio.run(trio.to_thread.run_sync, str, "from a thread") == "from a thread"
    """,
    "test_loops.py": """
        import asyncio
        import os
        import signal
        import sys
        import threading

        import pytest
        import trio


        def test_made_by_conftest(early_loop):
            assert early_loop.run_until_complete(early_loop.run_in_executor(None, str, "early")) == "early"
            early_loop.run_until_complete(early_loop.shutdown_default_executor())


        def test_subclass():
            class Loop(asyncio.SelectorEventLoop):
                pass

            loop = Loop()
            assert loop.run_until_complete(loop.run_in_executor(None, str, "own class")) == "own class"
            loop.run_until_complete(loop.shutdown_default_executor())
            loop.close()


        def test_thread_that_stops_a_loop():
            loop = asyncio.new_event_loop()
            thread = threading.Thread(target=loop.run_forever)
            thread.start()
            assert asyncio.run_coroutine_threadsafe(asyncio.sleep(0, "slept"), loop).result() == "slept"
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


        @pytest.mark.parametrize("run", [asyncio.run, trio.run])
        def test_keyboard_interrupt(run):
            async def main():
                threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
                await (trio.sleep_forever() if run is trio.run else asyncio.get_running_loop().create_future())

            with pytest.raises(KeyboardInterrupt):
                run(main if run is trio.run else main())


        def test_signal_handler():
            async def main():
                got = asyncio.Event()
                asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, got.set)
                os.kill(os.getpid(), signal.SIGUSR1)
                await got.wait()

            asyncio.run(main())


        def test_child_processes():
            async def main():
                echo = [sys.executable, "-c", "print(input())"]
                pipe = asyncio.subprocess.PIPE
                child = await asyncio.create_subprocess_exec(*echo, stdin=pipe, stdout=pipe)
                assert await child.communicate(b"hello\\n") == (b"hello\\n", None)
                assert child.returncode == 0

            asyncio.run(main())


        def test_child_process_of_trio():
            async def main():
                echo = [sys.executable, "-c", "print(input())"]
                done = await trio.run_process(echo, stdin=b"hi", capture_stdout=True)
                assert done.stdout == b"hi\\n"

            trio.run(main)
    """,
    "test_flask.py": """
        import asyncio

        import flask

        app = flask.Flask(__name__)


        @app.get("/")
        async def hello():
            return await asyncio.to_thread(str, "hello")


        def test_async_view():
            assert app.test_client().get("/").text == "hello"
    """,
}
PASSED = 18


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    write(folder, SHOP)
    return folder


@cache
def seen_of_shop(shop: Path, profile: str) -> Seen:
    return run_pytest(shop, profile, PYTEST_ADDOPTS=no_plugins("anyio", "asyncio"))


@everywhere
def test_header(shop: Path, profile: str) -> None:
    """pytest's header says that the loops wake by a pipe and why; where sockets are allowed, it says nothing."""
    assert seen_of_shop(shop, profile).header == header(profile)


@everywhere
def test_passes(shop: Path, profile: str) -> None:
    """FastAPI, Flask, asyncio, anyio, pytest-asyncio and trio: tests pass and fail as where sockets are allowed."""
    seen = seen_of_shop(shop, profile)
    summary = "FAILED test_client.py::test_fails - assert 200 == 201\n"
    assert re.sub(r"  \+.*", "", seen.part("short test summary info")) == summary, seen.text
    assert (seen.end, seen.exit_code) == (f"1 failed, {PASSED} passed", 1)


@everywhere
def test_report(shop: Path, profile: str) -> None:
    """A test that fails is reported in full, with what the app has printed in its threads."""
    expected = """
        ____________________________________________ test_fails ____________________________________________

            def test_fails():
                response = TestClient(app).get("/sync")
        >       assert response.status_code == 201
        E       assert 200 == 201
        E        +  where 200 = <Response [200 OK]>.status_code

        test_client.py:30: AssertionError
        --------------------------------------- Captured stdout call ---------------------------------------
        in the sync route
        after the sync route
    """
    assert seen_of_shop(shop, profile).part("FAILURES") == textwrap.dedent(expected).lstrip()


@pytest.mark.parametrize("profile", ["codex"])
def test_xdist(shop: Path, profile: str) -> None:
    """The workers of pytest-xdist are rescued, too."""
    needed = no_plugins("anyio", "asyncio", "xdist")
    seen = run_pytest(shop, profile, "-n", "2", "--deselect", "test_client.py::test_fails", PYTEST_ADDOPTS=needed)
    assert (seen.header, seen.end, seen.exit_code) == (header(profile), f"{PASSED} passed", 0), seen.text


# The example of `socketless docs rescue`, and what happens without the plugin


@pytest.fixture(scope="module")
def cafe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_example(tmp_path_factory.mktemp("cafe"), "cafe")


@where_refused
def test_readme(cafe: Path, profile: str) -> None:
    """The example of the page passes where sockets are refused, with the header that is shown there, and in README.rst.

    It does so beside all the plugins that are installed here.
    """
    seen = run_pytest(cafe, profile, PYTEST_ADDOPTS=None)
    assert (seen.header, seen.end, seen.exit_code) == (header(profile), "1 passed", 0), seen.text
    for name in ("README.rst", "rescue.rst"):
        assert re.findall("^   (socketless: .*)$", DOCUMENTS[name].text, re.M) == header("codex")


@pytest.mark.parametrize("profile", ["codex"])
def test_hangs_without(cafe: Path, profile: str) -> None:
    """Without the plugin the same test hangs: its threads wait without a time limit, and none is left to wake one."""
    options = ["-p", "no:cacheprovider", "-p", "no:socketless", "-p", "no:rerunfailures", "--color=no"]
    with start(cafe, profile, "-m", "pytest", *options) as process:
        resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
        hangs(process, 4 * LIMIT)  # and if not, it has ended, and the text tells why
        process.send_signal(signal.SIGABRT)  # pytest has told faulthandler to show where it stands
        assert process.stdout is not None
        text = process.stdout.read()
    assert process.returncode == -signal.SIGABRT, text
    loop, main = re.findall(r"^(?:Current t|T)hread .*\n((?:  File .*\n)+)", text, re.M)
    assert re.match(r'  File ".*/selectors.py", line \d+ in select\n', loop), text
    assert '/test_cafe.py", line 10 in test_menu\n' in main, text


@pytest.mark.parametrize("profile", ["strict"])
def test_fails_without(cafe: Path, profile: str) -> None:
    """Where socketpair() is refused, the same test fails without the plugin."""
    seen = run_pytest(cafe, profile, "-p", "no:socketless", "-p", "no:rerunfailures", "--tb=native")
    assert "PermissionError: [Errno 1] Operation not permitted" in seen.part("FAILURES")
    assert (seen.header, seen.end, seen.exit_code) == ([], "1 failed", 1), seen.text
