"""The names by which code that was written for the package socketless-http reaches this one.

Its own tests pass with `socketless_http` replaced by `socketless`; this is what they, and its document, rely on.
"""

from __future__ import annotations

import inspect
import signal
from importlib import import_module
from typing import Any
from wsgiref.simple_server import demo_app

import httpx
import pytest

import socketless
from socketless import pytest_plugin
from socketless.ipc import IpcProcess, IpcTransport

APP, HOOK, URL = "tests.sample_app:app", "tests.sample_app:reset_state", "http://testserver"


@pytest.mark.parametrize(
    ("home", "names"),
    [
        ("ipc", {"IpcAsyncTransport", "IpcProcess", "IpcTransport"}),
        ("transport", {"IpcAsyncTransport", "IpcTransport"}),
        ("switch", {"reset_ipc_state", "switch_to_ipc_connection"}),
    ],
)
def test_modules(home: str, names: set[str]) -> None:
    """Its modules are here, with what is public in the whole package."""
    module = import_module(f"socketless.{home}")
    assert {name for name in names if getattr(module, name) is getattr(socketless, name)} == names
    assert names <= {*module.__all__}


@pytest.mark.parametrize(
    ("function", "args", "options"),
    [
        (IpcProcess, (APP,), {"startup_timeout": 5.0, "reset_hook_path": HOOK, "app_kind": "wsgi", "debug": True}),
        (
            *(socketless.switch_to_ipc_connection, (APP,)),
            {"reset_hook": HOOK, "base_url": URL, "startup_timeout": 5.0, "app_kind": "auto", "debug": True},
        ),
        (socketless.switch_to_ipc_connection, (), {"app_import": APP}),
        (socketless.reset_ipc_state, (), {}),
        (IpcProcess.reset, (None,), {}),
        (IpcProcess.close, (None,), {}),
        (IpcTransport, (None,), {}),
        (socketless.IpcAsyncTransport, (None,), {}),
        (pytest_plugin.ipc_connection_fixture, (APP,), {"reset_hook": HOOK, "base_url": URL}),
        (pytest_plugin.reset_between_tests_fixture, (), {}),
    ],
)
def test_signatures(function: Any, args: tuple[Any, ...], options: dict[str, Any]) -> None:
    """What it can be called with, this can be called with."""
    inspect.signature(function).bind(*args, **options)


@pytest.mark.parametrize("start_method", ["spawn", "fork"])
def test_process_is_killed(start_method: str) -> None:
    """Tests kill a worker by `_proc`, and wait for it: the next request has another one, and the one after none."""
    worker = IpcProcess(demo_app, start_method=start_method)
    with worker, httpx.Client(transport=IpcTransport(worker), base_url=URL) as client:
        first = worker._proc
        assert first is not None
        assert (first.pid, first.poll()) == (worker.pid, None)
        first.kill()
        assert (first.wait(), first.poll()) == (-signal.SIGKILL, -signal.SIGKILL)
        assert client.get("/").status_code == 200
        second = worker._proc
        assert second is not None
        assert (second.pid, second.wait(0)) == (worker.pid, None)
        second.kill()
        second.wait()
        with pytest.raises(RuntimeError):
            client.get("/")
    assert worker._proc is None
