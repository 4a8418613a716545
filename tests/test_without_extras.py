"""The main job with the required dependencies only: nothing here needs an extra."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from wsgiref.simple_server import demo_app

import httpcore
import httpx
import pytest

from socketless import IpcAsyncTransport, IpcProcess, IpcTransport, reset_ipc_state, switch_to_ipc_connection
from socketless.testclient import AsyncTestClient, TestClient


async def asgi(scope: dict[str, object], receive: object, send: object) -> None:
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})  # type: ignore[operator]
    await send({"type": "http.response.body", "body": b"Hello world!"})  # type: ignore[operator]


@pytest.mark.parametrize("app", [demo_app, asgi, "wsgiref.simple_server:demo_app"])
@pytest.mark.parametrize("start_method", ["spawn", "fork"])
def test_worker(app: object, start_method: str) -> None:
    """A WSGI or ASGI app, by name or as an object, answers an httpx client from a worker process."""
    with (
        IpcProcess(app, start_method=start_method) as worker,  # type: ignore[arg-type]
        httpx.Client(transport=IpcTransport(worker), base_url="http://testserver") as client,
    ):
        assert client.get("/").text.startswith("Hello world!")


def test_async_client() -> None:
    """An async client is answered as well."""
    import asyncio

    async def main(worker: IpcProcess) -> str:
        transport = IpcAsyncTransport(worker)
        async with httpx.AsyncClient(transport=transport, base_url="http://testserver") as client:
            return (await client.get("/")).text

    with IpcProcess(demo_app) as worker:
        assert asyncio.run(main(worker)).startswith("Hello world!")


def test_switch() -> None:
    """The switch works where httpx2 is not installed."""
    with switch_to_ipc_connection(demo_app):
        reset_ipc_state()
        assert httpx.get("/").status_code == 200


def test_clients_that_outlive_the_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under the switch a proxy of the environment does not matter; after it a client has its own way to the network."""
    monkeypatch.setitem(sys.modules, "socksio", None)
    monkeypatch.setenv("all_proxy", "socks5h://localhost:1080")
    with switch_to_ipc_connection(demo_app):
        client, direct = httpx.Client(), httpx.Client(trust_env=False)
        assert client.get("/").status_code == direct.get("/").status_code == 200
    with pytest.raises((ImportError, ValueError), match="(?i)proxy"):  # the latter from httpx 0.27
        client.get("http://testserver/")
    pool = direct._transport._pool  # type: ignore[attr-defined]
    pool._network_backend = httpcore.MockBackend([b"HTTP/1.1 204 No Content\r\n\r\n"])
    assert direct.get("http://testserver/").status_code == 204


@pytest.mark.parametrize(
    ("arguments", "stdin", "printed"),
    [
        (["request", "wsgiref.simple_server:demo_app", "/"], "", "Hello world!\n"),
        (["run", "wsgiref.simple_server:demo_app", "-m", "ask"], "", "200\n"),
        (["serve", "wsgiref.simple_server:demo_app", "--stdio"], "GET / HTTP/1.1\nHost: x\n\n", "HTTP/1.1 200 OK\n"),
        (["docs", "rescue"], "", "======\nrescue\n"),
        (["doctor", "--json"], "", "{\n"),
        (["doctor"], "", ""),
        (["--version"], "", "socketless "),
    ],
)
def test_command_line(arguments: list[str], stdin: str, printed: str, tmp_path: Path) -> None:
    """Each command works without rich."""
    (tmp_path / "ask.py").write_text("import httpx\nprint(httpx.get('/').status_code)\n")
    program = (
        "import sys; sys.modules['rich'] = sys.modules['pygments'] = None;"
        "from socketless.__main__ import main; sys.argv[0] = 'socketless'; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments], input=stdin, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.startswith(printed)
    assert (done.stderr, done.returncode in (0, *[1] * ("doctor" in arguments))) == ("", True)


@pytest.mark.parametrize(
    ("library", "statement"),
    [
        ("aiohttp", "from socketless.aiohttp import ASGIApplicationConnector"),
        ("requests", "from socketless.requests import Session"),
    ],
)
def test_library_that_is_missing(library: str, statement: str) -> None:
    """Where a client library is missing, its module says what to install."""
    hide = (
        "import sys; sys.meta_path.insert(0, type('Hide', (), dict(find_spec=lambda self, name, *rest: hide(name)))())"
    )
    program = (
        f"def hide(name):\n    if name == {library!r}: raise ModuleNotFoundError(name, name=name)\n{hide}\n{statement}"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    last = f"ModuleNotFoundError: socketless.{library} needs {library}: pip install 'socketless-testing[{library}]'"
    assert done.stderr.splitlines()[-1] == last


@pytest.mark.parametrize("app", [demo_app, asgi])
def test_test_client(app: object) -> None:
    """TestClient answers from threads where there is neither httpx2 nor Starlette."""
    client = TestClient(app)  # type: ignore[arg-type]
    assert client.get("/").text.startswith("Hello world!")
    assert client.worker.run(len, "four") == 4


@pytest.mark.parametrize("app", [demo_app, asgi])
def test_async_test_client(app: object) -> None:
    """So does AsyncTestClient, on the loop of the test if it can."""

    async def main() -> None:
        client = AsyncTestClient(app)  # type: ignore[arg-type]
        assert (await client.get("/")).text.startswith("Hello world!")
        await client.aclose()

    asyncio.run(main())
