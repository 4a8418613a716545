"""The table of README.rst that says what works where: each of its cells is tested."""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import os
import re
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import starlette.testclient
from fastapi import FastAPI

import socketless.testclient
import warm
from apps import where_app
from socketless import IpcProcess, errors
from support import LIMIT

ROOT = Path(__file__).parent.parent
COLUMNS = ("in-process", "thread", "process")
CLIENTS: dict[str, Callable[[], Any]] = {
    "in-process": lambda: starlette.testclient.TestClient(where_app.app),
    "thread": lambda: socketless.testclient.TestClient(where_app.app),
    "process": lambda: socketless.testclient.TestClient("apps.where_app:app"),
}
# The same in a script of its own, for what may end the process or needs a terminal.
SCRIPTS = {
    "in-process": "from starlette.testclient import TestClient\nfrom apps.where_app import app\n",
    "thread": "from socketless.testclient import TestClient\nfrom apps.where_app import app\n",
    "process": "from socketless.testclient import TestClient\napp = 'apps.where_app:app'\n",
}


# So that the scripts work in-process, too, where sockets are refused.
PIPES = "from socketless import eventloop\neventloop.install()\n"


def read_table() -> dict[str, dict[str, str]]:
    """Return the cells of the table, by what it is about and by the column."""
    text = (ROOT / "README.rst").read_text()
    section = text[text.index("\nWhich worker?\n") :]
    table = re.search(r"^=+(?: +=+){3}\n.*?^=+(?: +=+){3}\n(.*?)^=+", section, re.DOTALL | re.MULTILINE)
    assert table is not None
    rows = [re.split(r" {2,}", line.strip()) for line in table.group(1).splitlines()]
    return {row[0]: dict(zip(COLUMNS, row[1:], strict=True)) for row in rows}


def run_script(column: str, script: str, stdin: str = "") -> str:
    """Run a script in a process of its own, and return what it prints."""
    path = f"{ROOT}{os.pathsep}{ROOT / 'tests'}"
    environment = {**os.environ, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "script.py").write_text(SCRIPTS[column] + script)
        args = ["-W", "ignore", "script.py"]
        _, stdout, _ = warm.start("tests").capture(args, None, Path(folder), environment, LIMIT, stdin.encode())
    return stdout.decode()


def overrides(column: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """`dependency_overrides` of the test's own app object, or of the worker's by run()."""
    changes = {where_app.user: lambda: "ada"}
    monkeypatch.setattr(where_app.app, "dependency_overrides", changes)
    if client.get("/user").json() == "ada":
        return "yes"
    client.worker.run(lambda app: app.dependency_overrides.update(changes), client.app)
    return "``run()``" if client.get("/user").json() == "ada" else "no"


def patches(column: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the test patches in the app's modules."""
    monkeypatch.setattr(os, "cpu_count", lambda: -1)
    if client.get("/cores").json() == -1:
        return "yes"

    def patch() -> None:
        os.cpu_count = lambda: -1

    client.worker.run(patch)
    return "``run()``" if client.get("/cores").json() == -1 else "no"


def memory(column: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Rows that the test has written into SQLite in memory."""

    def insert() -> None:
        importlib.import_module("apps.where_app").database.execute("INSERT INTO names VALUES ('ada')")

    insert()
    try:
        if client.get("/names").json() == ["ada"]:
            return "yes"
    finally:
        where_app.database.execute("DELETE FROM names")
    client.worker.run(insert)
    return "``run()``" if client.get("/names").json() == ["ada"] else "no"


def context(column: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """Context variables that the test has set."""

    def get() -> Any:
        where_app.variable.set("set")
        return client.get("/variable").json()

    return "yes" if contextvars.copy_context().run(get) == "set" else "no"


def objects(column: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """An app that is made in the test and holds what cannot be pickled."""
    app, lock = FastAPI(), threading.Lock()
    app.get("/locked")(lambda: lock.locked())
    with lock:
        if column == "in-process":
            return "yes" if starlette.testclient.TestClient(app).get("/locked").json() else "no"
        if column == "thread":
            return "yes" if socketless.testclient.TestClient(app).get("/locked").json() else "no"
        with pytest.raises(errors.TransferError), IpcProcess(app):
            pass
        with IpcProcess(app, start_method="fork") as worker:
            return "``fork``" if socketless.testclient.TestClient(worker).get("/locked").json() else "no"


def output(column: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the app prints, logs and warns, seen by pytest's fixtures."""
    test = """
def test_it(capsys, caplog, recwarn):
    TestClient(app).get("/say")
    assert capsys.readouterr().out == "printed\\n"
    assert caplog.messages == ["logged"]
    assert [str(each.message) for each in recwarn] == ["warned"]
"""
    script = f"""
import pathlib, sys, tempfile, pytest
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, "test_it.py")
    path.write_text({PIPES + SCRIPTS[column] + test!r})
    print(int(pytest.main([str(path), "-q", "-p", "no:cacheprovider"])))
"""
    return "yes" if run_script(column, script).endswith("\n0\n") else "no"


def exceptions(column: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the app raises, with the line that has raised it."""
    with pytest.raises(where_app.NoSuchName, match="^bob$") as caught:
        client.get("/boom")
    last = caught.traceback[-1]
    return "yes" if (str(last.path), last.name) == (where_app.__file__, "boom") else "no"


def debugger(column: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """A debugger at a terminal."""
    script = PIPES + "print(TestClient(app, raise_server_exceptions=False).get('/stop-here').text)"
    return "yes" if run_script(column, script, stdin="continue\n").endswith('"went on"\n') else "no"


def where_it_hangs(column: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """The line that a request hangs at, when it has had its time."""
    if column == "in-process":
        where_app.released.set()  # Starlette's client waits for it, whatever the timeout
    try:
        for seconds in (0.05, 0.5, 5):  # the app has to have come there
            with contextlib.suppress(starlette.testclient.StarletteDeprecationWarning):  # it ignores timeouts
                try:
                    client.get("/hang", timeout=seconds)
                except httpx2.ReadTimeout as error:
                    if "released.wait()" in error.stack:
                        return "yes"
        return "no"
    finally:
        if column != "in-process":
            client.worker.run(where_app.released.set)
        where_app.released.clear()


def exits(column: str, client: Any, monkeypatch: pytest.MonkeyPatch) -> str:
    """An app that ends its process."""
    script = """
client = TestClient(app)
try:
    client.get("/exit")
except Exception:
    print(client.get("/user").json())
"""
    return "yes" if run_script(column, script) == "nobody\n" else "no"


CHECKS: dict[str, Callable[[str, Any, pytest.MonkeyPatch], str]] = {
    "``dependency_overrides``": overrides,
    "``monkeypatch`` of the app's modules": patches,
    "SQLite in memory": memory,
    "context variables of the test": context,
    "an app object that cannot be pickled": objects,
    "``capsys``, ``caplog``, ``recwarn``": output,
    "the app's exceptions and their lines": exceptions,
    "``breakpoint()``": debugger,
    "a timeout says where the app hangs": where_it_hangs,
    "an app that ends its process": exits,
}


def test_rows() -> None:
    """There is a check for each row of the table."""
    assert list(read_table()) == list(CHECKS)


@pytest.fixture(scope="module")
def clients() -> Iterator[dict[str, Any]]:
    """A client of each column. No row is about what another has changed in a worker."""
    clients = {column: make() for column, make in CLIENTS.items()}
    yield clients
    for client in clients.values():
        client.close()


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("row", CHECKS)
def test_cell(row: str, column: str, clients: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What a cell of the table says is so."""
    assert CHECKS[row](column, clients[column], monkeypatch) == read_table()[row][column]
