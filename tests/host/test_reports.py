"""What an app logs and warns is there when its response is, as if it ran in the test's process."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import traceback
import unittest
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from socketless import IpcProcess, IpcTransport, errors
from support import LIMIT, no_plugins, nothing_leaks, stopped

APP = "apps.logging_app"
APP_FILE = str(Path(__file__).parent.parent / "apps" / "logging_app.py")
START_METHODS = ["spawn", "fork"]
KINDS = ["wsgi", "asgi"]

Start = Callable[..., tuple[IpcProcess, httpx.Client]]


def client_of(worker: IpcProcess) -> httpx.Client:
    return httpx.Client(transport=IpcTransport(worker), base_url="http://testserver", timeout=LIMIT)


@pytest.fixture(scope="module", params=[(method, kind) for method in START_METHODS for kind in KINDS], ids=" ".join)
def worker(request: pytest.FixtureRequest) -> Iterator[IpcProcess]:
    method, kind = request.param
    with warnings.catch_warnings(), IpcProcess(f"{APP}:{kind}", start_method=method) as worker:
        yield worker
        warnings.simplefilter("ignore")  # what it warns at its end


@pytest.fixture
def client(worker: IpcProcess) -> httpx.Client:
    return client_of(worker)


@pytest.fixture(params=START_METHODS)
def start(request: pytest.FixtureRequest) -> Iterator[Start]:
    """Start a worker for one test."""
    with nothing_leaks(), ExitStack() as stack:

        def start(attribute: str, **options: Any) -> tuple[IpcProcess, httpx.Client]:
            worker = IpcProcess(f"{APP}:{attribute}", start_method=request.param, **options)
            return stack.enter_context(worker), client_of(worker)

        yield start


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the messages of the app; httpx logs, too."""
    return [record.getMessage() for record in caplog.records if record.name.startswith("apps.")]


class Noting:
    """A stream that notes what is written to it, with a mark."""

    def __init__(self, mark: str, notes: list[str]) -> None:
        self._mark, self._notes = mark, notes

    def write(self, text: str) -> int:
        self._notes.append(f"{self._mark} {text}")
        return len(text)

    def flush(self) -> None:
        pass


class Calling(logging.Handler):
    """A handler that calls a function."""

    def __init__(self, function: Callable[[logging.LogRecord], Any]) -> None:
        super().__init__()
        self.emit = function  # type: ignore[method-assign]


@pytest.fixture
def on_record(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[logging.LogRecord], Any]], None]:
    """Call a function with each record of the app, in place of all that pytest has."""

    def use(function: Callable[[logging.LogRecord], Any]) -> None:
        monkeypatch.setattr(logging.getLogger("apps"), "handlers", [Calling(function)])

    return use


def test_order(client: httpx.Client, on_record: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prints, records and warnings arrive in the order in which the app has made them, before what follows them."""
    notes: list[str] = []
    on_record(lambda record: notes.append(f"log {record.getMessage()}"))
    monkeypatch.setattr(sys, "stdout", Noting("out", notes))
    monkeypatch.setattr(sys, "stderr", Noting("err", notes))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        monkeypatch.setattr(warnings, "showwarning", lambda message, *args: notes.append(f"warning {message}"))
        client.get("/in_order")
    before = ["out one\n", "log two", "err three\n", "warning four"]
    assert notes == [*before, "out fi", "log ve, in two parts", "out ve\n"]


def test_streamed(client: httpx.Client, caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """What the app logs between two chunks arrives with the second."""
    go = tmp_path / "go"
    os.mkfifo(go)
    with client.stream("GET", f"/streamed;{go}") as response:
        chunks = response.iter_raw()
        assert (next(chunks), logged(caplog)) == (b"first", [])
        with open(go, "w"):
            pass
        assert (next(chunks), logged(caplog)) == (b"second", ["between the chunks"])


def test_caplog(client: httpx.Client, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    """caplog has the records as the app has made them, and nothing is printed beside."""
    client.get("/say;hello")
    [record] = caplog.records
    assert caplog.record_tuples == [("apps.web", logging.WARNING, "hello")]
    line = Path(APP_FILE).read_text().splitlines()[record.lineno - 1]
    assert (record.pathname, record.funcName, line.strip()) == (APP_FILE, "say", 'logger.warning("%s", text)')
    assert record.process != os.getpid()
    assert caplog.text == f"WARNING  apps.web:logging_app.py:{record.lineno} hello\n"
    assert capsys.readouterr() == ("", "")


def test_levels(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """A level of the test's loggers is the app's, for as long as it is set."""
    seen = []
    for level, name in [(logging.INFO, None), (logging.DEBUG, "apps.web"), (logging.ERROR, "apps")]:
        with caplog.at_level(level, name):
            client.get("/at_levels")
        seen.append(logged(caplog))
        caplog.clear()
        client.get("/at_levels")
        assert logged(caplog) == ["odd"]
        caplog.clear()
    assert seen == [["as usual", "odd", "elsewhere"], ["fine", "as usual", "odd"], []]
    caplog.set_level(logging.INFO, "apps.other")
    client.get("/at_levels")
    assert logged(caplog) == ["odd", "elsewhere"]


def test_levels_are_there_for_all(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """Of requests that begin together after a level was set, none runs with another one."""
    with ThreadPoolExecutor(8) as threads:
        for _ in range(5):
            with caplog.at_level(logging.INFO, "apps.other"):
                list(threads.map(client.get, ["/at_levels"] * 8))
            assert logged(caplog).count("elsewhere") == 8
            caplog.clear()


def test_values(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """Arguments and extra attributes come as they are if they are plain, and no module of the app is imported."""
    client.get("/with_values")
    seen = [(record.msg, record.args, record.getMessage()) for record in caplog.records]
    assert seen == [
        ("%s of %r", (1, ["a", {"b": None}]), "1 of ['a', {'b': None}]"),
        ("%(n)d by name", {"n": 2}, "2 by name"),
        ("a thing and 3", None, "a thing and 3"),
        ("a thing", None, "a thing"),
        ({"event": "structured"}, (), "{'event': 'structured'}"),
    ]
    first = vars(caplog.records[0])
    assert (first["user"], first["sizes"], "thing" in first) == ("ada", [1, 2], False)
    assert APP not in sys.modules


def test_exceptions(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """A logged exception comes as itself where its class is known, with the app's traceback."""
    client.get("/with_errors")
    known, own, bad, none, where = caplog.records
    assert known.exc_info is not None
    assert own.exc_info is not None
    assert bad.exc_info is not None
    kinds = [(type(record.exc_info[1]), str(record.exc_info[1]).split("\n")[0]) for record in (known, own, bad)]
    assert kinds == [
        (KeyError, "'no such key'"),
        (errors.AppError, f"{APP}.OwnError: own"),
        (errors.AppError, f"{APP}.ApiError: 3"),
    ]
    assert known.exc_info[0] is KeyError
    assert traceback.extract_tb(known.exc_info[1].__traceback__)[0].filename == APP_FILE
    assert known.exc_text is not None
    first, place, *_, last = known.exc_text.splitlines()
    assert (first, last) == ("Traceback (most recent call last):", "KeyError: 'no such key'")
    assert place.startswith(f'  File "{APP_FILE}", line ')
    assert none.exc_info == (None, None, None)
    assert where.stack_info is not None
    assert "in with_errors" in where.stack_info
    assert f"{known.exc_text}\n" in caplog.text
    assert APP not in sys.modules


def test_record_that_cannot_be_formatted(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A message that its arguments do not fit is what logging says on stderr, and no reason to fail."""
    assert client.get("/badly").status_code == 200
    assert logged(caplog) == ["after it"]
    printed = capsys.readouterr().err
    assert printed.startswith("--- Logging error ---\n")
    assert printed.endswith("Message: '%d of them'\nArguments: (<apps.logging_app.Thing object at 0x" + printed[-16:])


def test_handlers_of_the_app(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """What a handler of the app has printed is not printed once more, and caplog has what its filters have added."""
    console = logging.StreamHandler(sys.stdout)
    logging.root.addHandler(console)
    try:
        client.get("/by_own_handlers")
    finally:
        logging.root.removeHandler(console)
    assert capsys.readouterr() == ("handled\nhushed\n", "")
    assert logged(caplog) == ["handled"]  # "hushed" does not propagate
    assert vars(caplog.records[0])["request_id"] == "r7"


def test_assert_logs(client: httpx.Client) -> None:
    """unittest's assertLogs has the records, those of a logger that does not propagate, too."""
    case = unittest.TestCase()
    with case.assertLogs("apps.web", "INFO") as web, case.assertLogs("apps.quiet") as quiet:
        client.get("/at_levels")
        client.get("/by_own_handlers")
    assert web.output == ["INFO:apps.web:as usual", "WARNING:apps.web:odd", "WARNING:apps.web:handled"]
    assert quiet.output == ["WARNING:apps.quiet:hushed"]
    with case.assertLogs() as everything:
        client.get("/at_levels")
    names = ["INFO:apps.web:as usual", "WARNING:apps.web:odd", "INFO:apps.other:elsewhere"]
    assert [line for line in everything.output if "httpx" not in line] == names
    with case.assertNoLogs("apps", "ERROR"):
        client.get("/at_levels")


def test_host_logging_decides(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """Loggers that are disabled here, filters, and logging.disable() hold for what the app logs."""
    logger = logging.getLogger("apps.web")
    logger.addFilter(lambda record: "hide" not in record.getMessage())
    client.get("/say;hide me")
    logger.filters.clear()
    logger.disabled = True
    client.get("/say;disabled")
    logger.disabled = False
    logging.disable(logging.WARNING)
    client.get("/say;too low")
    logging.disable(logging.NOTSET)
    client.get("/say;shown")
    assert logged(caplog) == ["shown"]


def test_warnings(client: httpx.Client, recwarn: pytest.WarningsRecorder) -> None:
    """recwarn and pytest.warns see the warnings, at the app's lines, each time; unknown classes as what they extend."""
    warnings.simplefilter("default")
    client.get("/with_warnings")
    seen = [(each.category, str(each.message), each.filename) for each in recwarn]
    assert seen == [(DeprecationWarning, "old", APP_FILE), (FutureWarning, "own", APP_FILE)]
    client.get("/with_warnings")
    assert len(recwarn) == 2  # "default" is once for each place
    with pytest.warns(FutureWarning, match="^own$"), pytest.warns(DeprecationWarning, match="^old$"):
        client.get("/with_warnings")
    assert APP not in sys.modules


@pytest.mark.parametrize("module", ["apps.logging_app", "apps"])
def test_warning_filters_by_module(client: httpx.Client, module: str, recwarn: pytest.WarningsRecorder) -> None:
    """A filter for a module of the app holds."""
    warnings.filterwarnings("ignore", module=f"{module}$")
    warnings.filterwarnings("default", category=DeprecationWarning, append=True)
    warnings.filterwarnings("ignore", category=FutureWarning)
    client.get("/with_warnings")
    assert len(recwarn) == (module == "apps")


def test_warnings_as_errors(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    """Where a filter says "error" the request raises the warning, says where, and loses nothing; the next one works."""
    for _ in range(2):
        with pytest.raises(DeprecationWarning) as caught:
            client.get("/with_warnings")
        assert str(caught.value) == "old"
        last = traceback.extract_tb(caught.value.__traceback__)[-1]
        assert (last.filename, last.line) == (APP_FILE, "warnings.warn(warning, stacklevel=1)")
    assert client.get("/say;still here").text == "firstsecond"
    assert logged(caplog) == ["after the warnings", "after the warnings", "still here"]


def test_finalizers_and_warnings_as_errors(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a finalizer warns is shown where a filter says "error": it may come with any request, and breaks none."""
    shown: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *args: shown.append(str(message)))
    assert client.get("/carelessly").status_code == 200
    assert shown == [
        f"unclosed file <_io.FileIO name={os.devnull!r} mode='rb' closefd=True>",
        "coroutine 'sleep' was never awaited",
    ]


@pytest.mark.filterwarnings("default")
def test_capture_warnings(
    client: httpx.Client,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    """logging.captureWarnings() and catch_warnings() work in the app."""
    client.get("/with_warnings_as_records")
    [record] = caplog.records
    assert record.name == "py.warnings"
    assert record.getMessage().endswith("UserWarning: to be logged\n  " + record.getMessage().split("\n  ")[1])
    assert capsys.readouterr().out == "['for the app itself']\n"
    assert len(recwarn) == 0


def test_handler_that_makes_a_request(client: httpx.Client, on_record: Any) -> None:
    """A handler may make a request to the same worker; each record comes once, and none too early."""
    notes = []

    def handle(record: logging.LogRecord) -> None:
        notes.append(record.getMessage())
        if record.getMessage() == "first":
            client.get("/say;asked by the handler")
            notes.append("answered")

    on_record(handle)
    client.get("/twice")
    assert notes == ["first", "second", "asked by the handler", "answered"]


def test_handler_that_raises(client: httpx.Client, on_record: Any) -> None:
    """What a handler raises is raised by the request, after everything has been handled; the next request works."""
    notes = []

    def handle(record: logging.LogRecord) -> None:
        notes.append(record.getMessage())
        raise ValueError(record.getMessage())

    on_record(handle)
    with pytest.raises(ValueError, match="^odd$"):
        client.get("/at_levels")
    on_record(lambda record: notes.append(record.getMessage()))
    client.get("/say;fine")
    assert notes == ["odd", "fine"]


def test_threads(client: httpx.Client, on_record: Any) -> None:
    """With many requests at a time, each record comes once, and before its own response."""
    notes: list[str] = []
    on_record(lambda record: notes.append(record.getMessage()))

    def request(number: int) -> bool:
        client.get(f"/say;{number}")
        return str(number) in notes

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(request, range(100)))
    assert sorted(map(int, notes)) == list(range(100))


def test_child_of_the_app(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that the app forks reports nothing: what it logs is printed, as in-process."""
    client.get("/in_a_child")
    assert logged(caplog) == []
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition("UserWarning")[2] or line for line in lines][:2] == ["of the child", ": of the child, too"]


@pytest.mark.parametrize("moment", ["next request", "close"])
def test_later(start: Start, moment: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What a thread logs after the response arrives with the next one, or when the worker is closed."""
    worker, client = start("wsgi")
    go, gone = tmp_path / "go", tmp_path / "gone"
    os.mkfifo(go)
    os.mkfifo(gone)
    client.get(f"/later;{go};{gone}")
    with open(go, "w"), open(gone):
        pass
    assert logged(caplog) == []
    if moment == "close":
        worker.close()
        assert logged(caplog) == ["at last"]
    else:
        client.get("/say;next")
        assert logged(caplog) == ["at last", "next"]


def test_killed(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """What a worker had logged when it was killed arrives, and so does what the next one logs."""
    _, client = start("wsgi")
    with pytest.raises(errors.WorkerDied) as caught:
        client.get("/and_die")
    assert caught.value.exitcode == -signal.SIGKILL
    client.get("/say;again")
    assert logged(caplog) == ["last words", "again"]


def test_start(
    start: Start,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    recwarn: pytest.WarningsRecorder,
) -> None:
    """What an app logs and warns while it is imported is there when the worker is."""
    warnings.simplefilter("default")
    start("at_import")
    assert logged(caplog) == ["loaded"]
    assert [str(each.message) for each in recwarn] == ["do not load it"]
    assert capsys.readouterr() == ("loading\n", "")


def test_start_with_warnings_as_errors(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A warning at the import is the start's error where a filter says so, and nothing is left."""
    with pytest.raises(DeprecationWarning, match="^do not load it$"):
        start("at_import")
    assert logged(caplog) == ["loaded"]


def test_restart_with_warnings_as_errors(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A warning at a restart fails the request that needed it; the worker that has started stays."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, client = start("at_import")
    with pytest.raises(errors.WorkerDied):
        client.get("/and_die")
    with pytest.raises(DeprecationWarning, match="^do not load it$"):
        client.get("/say;never")
    client.get("/say;works")
    assert logged(caplog) == ["loaded", "last words", "loaded", "works"]


def test_lifespan(start: Start, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the lifespan logs arrives; what it warns at its end is shown, not raised, where a filter says "error"."""
    shown: list[str] = []
    monkeypatch.setattr(warnings, "showwarning", lambda message, *args: shown.append(str(message)))
    worker, _ = start("asgi")
    assert logged(caplog) == ["starting"]
    worker.close()
    assert logged(caplog) == ["starting", "stopping"]
    assert shown == ["stopped"]


def test_levels_at_the_start(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A level that was set before the worker started holds, also for an app that configures logging itself."""
    caplog.set_level(logging.ERROR, "apps.other")
    caplog.set_level(logging.DEBUG, "apps.web")
    _, client = start("by_dict()")
    client.get("/at_levels")
    assert logged(caplog) == ["fine", "as usual", "odd"]


@pytest.mark.parametrize(
    ("attribute", "printed"),
    [
        ("by_dict()", "[INFO] as usual\n[WARNING] odd\n[INFO] elsewhere\n"),
        ("by_basic_config()", "INFO:apps.web:as usual\nWARNING:apps.web:odd\nINFO:apps.other:elsewhere\n"),
    ],
)
@pytest.mark.parametrize("pytests_own", [False, True])
def test_configuration_of_the_app(
    start: Start,
    attribute: str,
    printed: str,
    pytests_own: bool,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """An app that configures logging prints as it says, and caplog has the records all the same.

    But where the tests' root logger has handlers, as under pytest, `basicConfig()` does nothing, as in-process.
    """
    if not pytests_own:
        monkeypatch.setattr(logging.root, "handlers", [])
    _, client = start(attribute)
    monkeypatch.undo()
    client.get("/at_levels")
    if pytests_own and "basic" in attribute:
        assert (capsys.readouterr(), logged(caplog)) == (("", ""), ["odd"])
        return
    assert capsys.readouterr() == ("", printed)
    assert logged(caplog) == ["as usual", "odd", "elsewhere"]


@pytest.mark.parametrize("kind", KINDS)
def test_reset_hook(start: Start, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    """What the reset hook logs is there when reset() returns."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        worker, _ = start(kind, reset_hook_path=f"{APP}:reset")
        caplog.clear()
        worker.reset()
        assert logged(caplog) == ["reset"]
        worker.close()


def test_websocket(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """What the app behind a WebSocket logs is there when what it sends after that is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        worker, _ = start("asgi")
        caplog.clear()
        with worker.websocket_connect("/") as session:
            for word in ("one", "two"):
                session.send_text(word)
                assert session.receive_text() == "yes"
                assert logged(caplog)[-1] == f"heard {word}"
        worker.close()


@pytest.mark.parametrize("method", START_METHODS)
def test_without_handlers(method: str) -> None:
    """Where nobody has configured logging, a warning of the app is printed once, as in-process."""
    program = f"""
        import sys; sys.path[:0] = [{str(Path(APP_FILE).parent.parent)!r}]
        import httpx, socketless
        with socketless.IpcProcess("{APP}:wsgi", start_method="{method}") as worker:
            with httpx.Client(transport=socketless.IpcTransport(worker), base_url="http://t") as client:
                client.get("/at_levels")
                client.get("/with_warnings")
                client.get("/by_own_handlers")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True, timeout=LIMIT
    )
    assert done.stdout == "handled\nhushed\n"
    lines = done.stderr.splitlines()
    assert lines[0] == "odd"
    assert lines[1].endswith("FutureWarning: own")
    assert lines[2:] == ["  warnings.warn(warning, stacklevel=1)", "after the warnings"]


@pytest.mark.parametrize("method", START_METHODS)
def test_errors_of_the_command_line(method: str) -> None:
    """Where Python is told -W error, the app's own warn() raises, as in-process; all else it is told is obeyed here."""
    program = f"""
        import sys; sys.path[:0] = [{str(Path(APP_FILE).parent.parent)!r}]
        import httpx, socketless
        with socketless.IpcProcess("{APP}:wsgi", start_method="{method}") as worker:
            with httpx.Client(transport=socketless.IpcTransport(worker), base_url="http://t") as client:
                try:
                    client.get("/with_warnings")
                except FutureWarning as error:
                    print(error)
    """
    options = ["-W", "default", "-W", "error::FutureWarning", "-W", "ignore:old"]
    done = subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(program)],
        check=True, capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    assert "after the warnings" not in done.stderr
    assert "old" not in done.stderr
    assert done.stdout == "own\n"


def test_levels_of_a_stuck_worker(start: Start, caplog: pytest.LogCaptureFixture) -> None:
    """A worker that does not take a level is no reason to wait longer than the request may; it gets the level later."""
    worker, client = start("wsgi")
    with stopped(worker.pid):
        caplog.set_level(logging.INFO, "apps.web")
        for _ in range(2):
            with pytest.raises(errors.ReadTimeout):
                client.get("/at_levels", timeout=0.01)
    for thread in threading.enumerate():
        if thread.name.startswith("socketless-parked"):  # waits until the worker lets go of what was given up
            thread.join(LIMIT)
    with caplog.at_level(logging.DEBUG, "apps.web"):
        client.get("/at_levels")
    assert logged(caplog)[-3:] == ["fine", "as usual", "odd"]


@pytest.mark.parametrize("method", START_METHODS)
def test_sections_of_pytest(method: str, tmp_path: Path) -> None:
    """A failing test shows what the app has logged, at pytest's own level, and its warnings are in the summary."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nlog_level = INFO\n")
    program = f"""
        import httpx, pytest, socketless

        @pytest.fixture(scope="module")
        def client():
            with socketless.IpcProcess("{APP}:wsgi", start_method="{method}") as worker:
                yield httpx.Client(transport=socketless.IpcTransport(worker), base_url="http://t")

        def test_first(client):
            client.get("/at_levels")
            assert False

        def test_second(client):
            client.get("/with_warnings")
    """
    (tmp_path / "test_it.py").write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", f"pythonpath={Path(APP_FILE).parent.parent}"],
        cwd=tmp_path, env={**os.environ, "PYTEST_ADDOPTS": no_plugins()}, capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    _, _, section = done.stdout.partition("Captured log call")
    lines = section.splitlines()[1:4]
    assert [line.split(":")[0].split() + [line.split(" ")[-2:]] for line in lines] == [
        ["INFO", "apps.web", ["as", "usual"]],
        ["WARNING", "apps.web", [lines[1].split(" ")[-2], "odd"]],
        ["INFO", "apps.other", [lines[2].split(" ")[-2], "elsewhere"]],
    ]
    assert "DeprecationWarning: old" in done.stdout
    assert "1 failed, 1 passed, 2 warnings" in done.stdout
