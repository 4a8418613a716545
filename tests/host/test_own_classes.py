"""Classes without a name that a worker could import: what comes back is of the test's own class."""

from __future__ import annotations

import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from socketless import IpcProcess, IpcTransport
from support import LIMIT, nothing_leaks

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup  # comes with pytest


class Case:
    """What an app raises and warns, all of it of classes that are made here."""

    def __init__(self) -> None:
        class Local(Exception):
            def __init__(self, text: str, code: int) -> None:
                super().__init__(text)
                self.code = code

        class Locking(Exception):
            lock = threading.Lock()

        class LocalWarning(UserWarning):
            pass

        class Value:
            pass

        self.Local, self.Locking, self.LocalWarning, self.Value = Local, Locking, LocalWarning, Value

    def app(self, environ: Any, start_response: Any) -> list[bytes]:
        local, path = self.Local("x", 3), environ["PATH_INFO"]
        if path == "/local":
            raise local
        if path == "/locking":
            raise self.Locking
        if path == "/cause":
            raise ValueError("x") from local
        if path == "/group":
            raise ExceptionGroup("x", [local])
        if path == "/attribute":
            error: Any = ValueError("x")
            error.value = self.Value()
            raise error
        warnings.warn("x", self.LocalWarning, stacklevel=1)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [b""]


@pytest.fixture(scope="module")
def case() -> Case:
    return Case()


@pytest.fixture(scope="module")
def worker(case: Case) -> Iterator[IpcProcess]:
    with nothing_leaks(), IpcProcess(case.app, start_method="fork") as worker:
        yield worker


@pytest.fixture
def client(worker: IpcProcess) -> Iterator[httpx.Client]:
    with httpx.Client(transport=IpcTransport(worker), base_url="http://x") as client:
        yield client


def raised(client: httpx.Client, path: str) -> Any:
    with pytest.raises(Exception) as caught:
        client.get(path)
    return caught.value


def test_exceptions(client: httpx.Client, case: Case) -> None:
    """What a forked worker raises is of the test's own class, and so are causes, members of groups and attributes."""
    error = raised(client, "/local")
    assert (type(error), error.args, error.code) == (case.Local, ("x",), 3)
    assert type(raised(client, "/locking")) is case.Locking
    assert type(raised(client, "/cause").__cause__) is case.Local
    assert type(raised(client, "/group").exceptions[0]) is case.Local
    assert type(raised(client, "/attribute").value) is case.Value


def test_warnings(client: httpx.Client, case: Case) -> None:
    """So is what it warns."""
    with pytest.warns(case.LocalWarning):
        client.get("/warn")


def test_results(worker: IpcProcess, case: Case) -> None:
    """So is what `run()` returns; a class that the worker has made itself crosses by value."""
    assert type(worker.run(make_result)) is not case.Value
    assert worker.run(make_result).text == "made there"


def make_result() -> Any:
    """Return an object of a class that is made now."""

    class Made:
        text = "made there"

    return Made()


SCRIPT = """
from socketless import IpcProcess, IpcTransport
import httpx

class OfMain(Exception):
    pass

def app(environ, start_response):
    raise OfMain("x")

if __name__ == "__main__":
    for method in ("fork", "spawn"):
        with IpcProcess(app, start_method=method) as worker:
            with httpx.Client(transport=IpcTransport(worker), base_url="http://x") as client:
                try:
                    client.get("/")
                except OfMain:
                    print(method)
"""


def test_script(tmp_path: Path) -> None:
    """A script catches its own exceptions."""
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run([sys.executable, "script.py"], cwd=tmp_path, timeout=LIMIT, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("fork\nspawn\n", "")
