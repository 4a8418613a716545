"""One name for one thing: the options of workers, wherever they can be given."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from contextlib import closing
from typing import Any

import click
import httpx
import pytest

from apps.failing_app import fails_to_start
from commands import MODULE, run
from socketless import IpcProcess, IpcThread, IpcTransport, switch_to_ipc_connection
from socketless._cli import cli
from socketless.errors import WorkerStartError
from socketless.testcase import SocketlessTestCase

KINDS = {"process": IpcProcess, "thread": IpcThread}
RESET = "apps.conformance_app:reset"


def options_of(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the keyword arguments of a function, with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}


def options_of_command(name: str) -> dict[str, Any]:
    """Return the options of a command, as Python names, with what they are if not given."""
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    arguments = {each.name for each in command.params if isinstance(each, click.Argument)}
    params = command.make_context(name, ["package.module:app", "/"][: len(arguments)]).params
    return {each: value for each, value in params.items() if each not in arguments}


PROCESS, THREAD, SWITCH = map(options_of, (IpcProcess, IpcThread, switch_to_ipc_connection))


def test_options_of_workers() -> None:
    """Both kinds of workers take the same, but for what only one can have."""
    assert set(PROCESS) - set(THREAD) == {"start_method", "env"}
    assert set(THREAD) - set(PROCESS) == {"state"}
    differing = {name for name in set(PROCESS) & set(THREAD) if PROCESS[name] != THREAD[name]}
    assert differing == {"max_connections"}  # a process makes its pipes before it starts


def test_options_of_the_switch() -> None:
    """The switch takes what a process takes, and what its requests need, with the same defaults."""
    shared = set(PROCESS) - {"reset_hook_path"}
    assert set(SWITCH) == shared | {"base_url", "others", "raise_app_exceptions", "root_path"}
    assert {name: SWITCH[name] for name in shared} == {name: PROCESS[name] for name in shared}


@pytest.mark.parametrize(
    ("name", "others", "left_out"),
    [
        ("run", set(), {"env", "shutdown_timeout", "backend_options"}),
        (
            "serve",
            {"uds", "stdio", "backlog", "head_timeout"},
            {"env", "backend_options", "reset_hook", "base_url", "others", "raise_app_exceptions"},
        ),
    ],
)
def test_options_of_commands(name: str, others: set[str], left_out: set[str]) -> None:
    """A command's options have the names and the defaults of Python's."""
    options = options_of_command(name)
    assert set(options) == (set(SWITCH) - left_out) | others
    shared = set(options) & set(SWITCH) - {"debug"}
    assert {each: options[each] for each in shared} == {each: SWITCH[each] for each in shared}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["reset_hook", "reset_hook_path"])
def test_reset_hook(kind: str, name: str) -> None:
    """A worker takes its reset hook by this name, and by the older one."""
    with KINDS[kind]("apps.conformance_app:wsgi", **{name: RESET}) as worker:
        worker.reset()


@pytest.mark.parametrize("kind", KINDS)
def test_reset_hook_by_both_names(kind: str) -> None:
    """Both names at once are an error."""
    with pytest.raises(TypeError) as caught:
        KINDS[kind]("apps.conformance_app:wsgi", reset_hook=RESET, reset_hook_path=RESET)
    assert str(caught.value) == (
        "reset_hook and reset_hook_path, its older name, are both given; leave out reset_hook_path"
    )


APP = "apps.failing_app:fails_to_start"


def _asked(worker: IpcProcess | IpcThread) -> str:
    with worker, httpx.Client(transport=IpcTransport(worker), base_url="http://testserver") as client:
        return client.get("/").text


def _by_the_switch(**options: Any) -> str:
    with switch_to_ipc_connection(APP, **options):
        return httpx.get("/").text


def _by_a_test_case(**options: Any) -> str:
    class Case(SocketlessTestCase):
        app = APP
        worker_options = options

        def runTest(self) -> None:
            assert self.client.get("/").text == "hello"

    try:
        Case.setUpClass()
        case = Case()
        case.setUp()
        with closing(case.client):
            case.runTest()
        return "hello"
    finally:
        Case.doClassCleanups()


ENTRY_POINTS: dict[str, Callable[..., str]] = {
    "process": lambda **options: _asked(IpcProcess(APP, **options)),
    "forked process": lambda **options: _asked(IpcProcess(fails_to_start, start_method="fork", **options)),
    "threads": lambda **options: _asked(IpcThread(fails_to_start, **options)),
    "switch": _by_the_switch,
    "test case": _by_a_test_case,
}


@pytest.mark.parametrize("where", ENTRY_POINTS)
def test_lifespan(where: str) -> None:
    """The lifespan of an app is run, and is not with `lifespan=False`."""
    entry_point = ENTRY_POINTS[where]
    with pytest.raises(WorkerStartError, match="the app's lifespan failed: no database$"):
        entry_point()
    assert entry_point(lifespan=False) == "hello"


@pytest.mark.parametrize(
    ("command", "stdin", "end"),
    [
        (["request", APP, "/"], b"", "hello"),
        (["serve", APP, "--stdio"], b"GET / HTTP/1.0\r\nHost: x\r\n\r\n", "hello"),
        (["run", APP, "-m", "this"], b"", "let's do more of those!\n"),
    ],
)
def test_no_lifespan_of_commands(command: list[str], stdin: bytes, end: str) -> None:
    """Each command has `--no-lifespan`."""
    name, *rest = command
    code, stdout, stderr = run([*MODULE, name, "--no-lifespan", *rest], stdin)
    assert (code, stdout[-len(end) :], stderr) == (0, end, "")
