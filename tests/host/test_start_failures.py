"""A worker that cannot start: what the person reads, and that nothing is left."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from socketless import IpcProcess, IpcTransport
from socketless.errors import StateError, TransferError, WorkerStartError
from support import nothing_leaks

START_METHODS = ["spawn", "fork"]

# The module's source, the app to ask for, and the whole text of the error ({dir} is the module's folder).
FAILURES: dict[str, tuple[str, str, str]] = {
    "no such module": (
        "",
        "broken_app.nothing:app",
        "the worker could not start: "
        "cannot import 'broken_app.nothing:app': 'broken_app' is a module, and no package; did you mean "
        "'broken_app:nothing'?",
    ),
    "no such attribute": (
        "",
        "broken_app:app.inner",
        "the worker could not start: cannot import 'broken_app:app.inner': module 'broken_app' has no attribute 'app'",
    ),
    "not callable": (
        "app = {'an': 'app'}",
        "broken_app:app",
        "the worker could not start: 'broken_app:app' is not callable, so it is not a WSGI or ASGI app: "
        "{{'an': 'app'}}",
    ),
    "not an app": (
        "def app(one, two, three, four): pass",
        "broken_app:app",
        "the worker could not start: cannot tell whether 'broken_app:app' is a WSGI or an ASGI app, it takes (one, "
        "two, three, four); if it is a factory, write the call: 'package.module:factory(one, two, three, four)'",
    ),
    "either kind": (
        "def app(*args): pass",
        "broken_app:app",
        "the worker could not start: cannot tell whether 'broken_app:app' is a WSGI or an ASGI app, it may be "
        "either; give app_kind='wsgi' or 'asgi'",
    ),
    "a factory of nothing": (
        "def app(): return None",
        "broken_app:app",
        "the worker could not start: what 'broken_app:app' returned is not callable, so it is not a WSGI or ASGI app: "
        "None",
    ),
    "an async factory": (
        "async def app(): return None",
        "broken_app:app",
        "the worker could not start: 'broken_app:app' is an async factory; write a sync one, it may call asyncio.run()",
    ),
    "the import raises": (
        "print('importing')\nimport sys\nprint('soon', file=sys.stderr)\n1 / 0",
        "broken_app:app",
        "the worker could not start: ZeroDivisionError: division by zero\n"
        "Traceback (most recent call last):\n"
        '  File "{dir}/broken_app.py", line 4, in <module>\n'
        "    1 / 0\n"
        "ZeroDivisionError: division by zero\n"
        "It had printed:\nimporting\nsoon",
    ),
    "its own import is missing": (
        "import not_installed_anywhere",
        "broken_app:app",
        "the worker could not start: ModuleNotFoundError: No module named 'not_installed_anywhere'\n"
        "Traceback (most recent call last):\n"
        '  File "{dir}/broken_app.py", line 1, in <module>\n'
        "    import not_installed_anywhere\n"
        "ModuleNotFoundError: No module named 'not_installed_anywhere'",
    ),
    "the factory raises": (
        "def make(): raise RuntimeError('no config')",
        "broken_app:make()",
        "the worker could not start: RuntimeError: no config\n"
        "Traceback (most recent call last):\n"
        '  File "{dir}/broken_app.py", line 1, in make\n'
        "    def make(): raise RuntimeError('no config')\n"
        "RuntimeError: no config",
    ),
    "lifespan fails": (
        "async def app(scope, receive, send):\n"
        "    await receive()\n"
        "    await send({'type': 'lifespan.startup.failed', 'message': 'no database'})\n",
        "broken_app:app",
        "the worker could not start: the app's lifespan failed: no database",
    ),
    "lifespan raises after its answer": (
        "async def app(scope, receive, send):\n"
        "    await send({'type': 'lifespan.startup.complete'})\n"
        "    raise RuntimeError('no database')\n",
        "broken_app:app",
        "the worker could not start: the app's lifespan raised RuntimeError('no database')",
    ),
    "lifespan exits": (
        "import sys\nasync def app(scope, receive, send):\n    sys.exit('no licence')\n",
        "broken_app:app",
        "the worker could not start: the app's lifespan raised SystemExit('no licence')",
    ),
    "the import exits": (
        "import sys\nsys.exit('no licence')",
        "broken_app:app",
        "the worker could not start: SystemExit: no licence\n"
        "Traceback (most recent call last):\n"
        '  File "{dir}/broken_app.py", line 2, in <module>\n'
        "    sys.exit('no licence')\n"
        "SystemExit: no licence",
    ),
    "the import ends the process": (
        "import os, sys\nprint('last words', file=sys.stderr)\nsys.stderr.flush()\nos._exit(3)",
        "broken_app:app",
        "the worker exited with code 3 while it was starting\nIt had printed:\nlast words",
    ),
    "the import kills the process": (
        "import os\nos.kill(os.getpid(), 9)",
        "broken_app:app",
        "the worker was killed by SIGKILL while it was starting",
    ),
    "no such hook": (
        "def app(environ, start_response): pass",
        "broken_app:app",
        "the worker could not start: the reset hook is not usable: "
        "cannot import 'broken_app:no_hook': module 'broken_app' has no attribute 'no_hook'",
    ),
    "the hook is not callable": (
        "def app(environ, start_response): pass\nhook = 3",
        "broken_app:app",
        "the worker could not start: the reset hook 'broken_app:hook' is not callable: 3",
    ),
}
HOOKS = {"no such hook": "broken_app:no_hook", "the hook is not callable": "broken_app:hook"}

MARKS = re.compile(r"^ +[\^~]+\n", re.MULTILINE)  # under the failing part of a line, from Python 3.11 on


def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    (tmp_path / "broken_app.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize("start_method", START_METHODS)
@pytest.mark.parametrize("case", FAILURES)
def test_start_failure(case: str, start_method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that cannot start says why, with the app's own traceback, and leaves nothing behind."""
    source, app, text = FAILURES[case]
    module(tmp_path, monkeypatch, source)
    with nothing_leaks(), pytest.raises(WorkerStartError) as caught:
        IpcProcess(app, start_method=start_method, reset_hook=HOOKS.get(case))
    assert MARKS.sub("", str(caught.value)) == text.format(dir=tmp_path)


@pytest.mark.parametrize("start_method", START_METHODS)
def test_start_failure_has_the_exception_as_its_cause(
    start_method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the app's module raised is the cause of the error, as its own type."""
    module(tmp_path, monkeypatch, "{}['key']")
    with pytest.raises(WorkerStartError) as caught:
        IpcProcess("broken_app:app", start_method=start_method)
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("start_method", START_METHODS)
def test_slow_start(start_method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A start that takes too long says where it is stuck, and leaves nothing behind."""
    module(tmp_path, monkeypatch, "import threading\nprint('connecting')\nthreading.Event().wait()")
    with nothing_leaks(), pytest.raises(WorkerStartError) as caught:
        IpcProcess("broken_app:app", start_method=start_method, startup_timeout=1.5)
    lines = str(caught.value).splitlines()
    assert lines[0] == "the worker was not ready after 1.5 s; it is at:"
    assert lines[1:3] == [
        f'  File "{tmp_path}/broken_app.py", line 3, in <module>',
        "    threading.Event().wait()",
    ]
    assert lines[-2:] == ["It had printed:", "connecting"]


def test_slow_lifespan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lifespan that never starts is a start that takes too long."""
    module(
        tmp_path,
        monkeypatch,
        "import asyncio\nasync def app(scope, receive, send):\n    await asyncio.Event().wait()",
    )
    with nothing_leaks(), pytest.raises(WorkerStartError, match="the worker was not ready after 1 s; it is at:"):
        IpcProcess("broken_app:app", startup_timeout=1)


@pytest.mark.parametrize("path", ["app", "broken_app", "broken_app:", "broken app:app", "broken_app:app[0]", ":app"])
def test_malformed_import_string(path: str) -> None:
    """A string that is no import string is refused before anything is started."""
    with nothing_leaks(), pytest.raises(WorkerStartError, match="^the app is not usable: ") as caught:
        IpcProcess(path)
    assert repr(path) in str(caught.value)


def test_factory_arguments_must_be_literals() -> None:
    """The call at the end of an import string takes literals only."""
    with pytest.raises(WorkerStartError) as caught:
        IpcProcess("broken_app:make(os.environ)")
    assert str(caught.value) == (
        "the app is not usable: 'broken_app:make(os.environ)': what follows the colon must be a name, a dotted name, "
        "or a call of one with literal arguments; write 'package.module:attribute' or 'package.module:factory()'"
    )


def test_app_that_cannot_cross() -> None:
    """An app object that a spawned worker can neither import nor unpickle is refused, with the ways out."""
    lock = __import__("threading").Lock()

    def app(environ: Any, start_response: Any) -> list[bytes]:
        return [str(lock).encode()]

    with nothing_leaks(), pytest.raises(TransferError) as caught:
        IpcProcess(app)
    text = str(caught.value)
    assert text.startswith("the app <function test_app_that_cannot_cross.<locals>.app at 0x")
    assert "cannot pickle '_thread.lock' object" in text
    assert text.endswith(
        "Give an import string ('package.module:app'), or a factory that makes it, or use start_method='fork', "
        "which takes any object."
    )


class Fragile:
    """An app that can be pickled, and not be unpickled."""

    def __reduce__(self) -> Any:
        return int, ("no number",)

    def __call__(self, environ: Any, start_response: Any) -> list[bytes]:
        return []


def test_app_that_cannot_be_rebuilt() -> None:
    """An app object that pickles, but does not unpickle in the worker, is refused with the ways out."""
    with nothing_leaks(), pytest.raises(WorkerStartError) as caught:
        IpcProcess(Fragile())
    assert str(caught.value) == (
        "the worker could not start: the app object was sent by value, and cannot be rebuilt: ValueError: invalid "
        "literal for int() with base 10: 'no number'.\nGive an import string ('package.module:app'), or a factory "
        "that makes it, or use start_method='fork', which takes any object."
    )


@pytest.mark.parametrize("options", [{"app": None}, {"app": 3}, {"reset_hook": 3}, {"reset_hok": "a:b"}])
def test_wrong_types(options: dict[str, Any]) -> None:
    """What is neither a string nor a callable is refused, and so is an argument that does not exist."""
    with nothing_leaks(), pytest.raises(TypeError):
        IpcProcess(**{"app": "apps.conformance_app:wsgi", **options})


def test_transport_wants_a_worker() -> None:
    """A transport that is given an import string says what it wants."""
    with pytest.raises(TypeError) as caught:
        IpcTransport("shop:app")  # type: ignore[arg-type]
    assert str(caught.value) == "IpcTransport takes a worker, IpcTransport(IpcProcess('shop:app')), not 'shop:app'"


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"app_kind": "cgi"}, "app_kind must be one of 'auto', 'wsgi', 'asgi', not 'cgi'"),
        ({"start_method": "forkserver"}, "start_method must be one of 'spawn', 'fork', not 'forkserver'"),
        ({"max_connections": 0}, "max_connections must be a number, at least 1, not 0"),
        ({"max_connections": "5"}, "max_connections must be a number, at least 1, not '5'"),
        ({"max_restarts": -1}, "max_restarts must be a number, at least 0, not -1"),
        ({"max_body_bytes": 1.5}, "max_body_bytes must be a number, at least 0, not 1.5"),
        ({"lifespan": "no"}, "lifespan must be True, False, 'auto', 'on' or 'off', not 'no'"),
        ({"backend": "curio"}, "backend must be one of 'asyncio', 'trio', not 'curio'"),
        ({"backend_options": ["debug"]}, "backend_options must be a dict, not ['debug']"),
        ({"startup_timeout": "5"}, "startup_timeout must be a number of seconds, or None for no limit, not '5'"),
        ({"shutdown_timeout": -1}, "shutdown_timeout must be a number of seconds, or None for no limit, not -1"),
    ],
)
def test_bad_arguments(options: dict[str, Any], text: str) -> None:
    """An argument that is none of its possible values is refused before anything is started."""
    with nothing_leaks(), pytest.raises(ValueError) as caught:
        IpcProcess("apps.conformance_app:wsgi", **options)
    assert str(caught.value) == text


def test_starting_a_worker_while_a_worker_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A module that starts a worker when it is imported does not start workers without end."""
    module(tmp_path, monkeypatch, "from socketless import IpcProcess\nIpcProcess('broken_app:app')")
    with nothing_leaks(), pytest.raises(WorkerStartError) as caught:
        IpcProcess("broken_app:app")
    assert isinstance(caught.value.__cause__, StateError)
    assert str(caught.value.__cause__) == (
        "a worker is importing this module to find its app, and the module starts a worker itself; start it in a "
        "function (a fixture, setUpModule) or under `if __name__ == '__main__':`"
    )


def test_no_descriptor_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that cannot be started for want of descriptors is a WorkerStartError, and leaves none open."""
    import resource

    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/dev/fd")) + 20, limits[1]))
    try:
        with nothing_leaks(), pytest.raises(WorkerStartError, match="could not be started: .*Too many open files"):
            IpcProcess("apps.conformance_app:wsgi")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
