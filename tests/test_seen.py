"""What a person reads of a test that asks a worker: output, logs, warnings and errors, as if the app ran in-process.

Small projects are run by pytest, as a person would, once for each place where the app can run. All but one line of
their text is the same: the one that makes the client.
"""

from __future__ import annotations

import os
import re
import sys
import textwrap
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import warm
from support import LIMIT, without_path

ROOT = Path(__file__).parent.parent

CLIENTS = {
    "in-process": "starlette.testclient.TestClient(load('shop').app) as client",  # what the others have to look like
    "threads": "socketless.testclient.TestClient(load('shop').app) as client",
    "process": "socketless.testclient.TestClient('shop:app') as client",
    "fork": "IpcProcess('shop:app', start_method='fork') as worker, socketless.testclient.TestClient(worker) as client",
    "flask": "load('shop').app.test_client() as client",
    "unswitched": "contextlib.nullcontext()",
    "switched": "switch_to_ipc_connection('shop:app')",
    "debugged thread": "socketless.IpcThread('shop:app', reset_hook_path='shop:reset', debug=True)",
    "debugged process": "socketless.IpcProcess('shop:app', reset_hook_path='shop:reset', debug=True)",
}
EVERYWHERE = pytest.mark.parametrize("kind", ["in-process", "threads", "process"])
COMMANDS = {"pytest": ["pytest", "-p", "no:cacheprovider", "--color=no"], "unittest": ["unittest"], "run": ["run"]}

HAS_NOTES_AND_GROUPS = pytest.mark.skipif(sys.version_info < (3, 11), reason="new in Python 3.11")

CONFTEST = """
    from importlib import import_module as load

    import pytest
    import socketless.testclient
    import starlette.testclient
    from socketless import IpcProcess, eventloop

    eventloop.install()  # for Starlette's own, where sockets are refused


    @pytest.fixture(scope="module")
    def client():
        with CLIENT:
            yield client
"""

PROJECTS: dict[str, dict[str, str]] = {}  # files by their names; CLIENT in them is replaced


class Seen(NamedTuple):
    """What a command has printed, without what differs from one run to the next."""

    text: str
    exit_code: int

    def report(self, name: str) -> str:
        """Return pytest's report of a test that has failed, without the frames of libraries."""
        found = re.search(
            rf"^_{{3,}} {re.escape(name)} _{{3,}}\n(.*?)(?=^(?:_{{3,}} .* _{{3,}}|={{3,}} .* ={{3,}})$)",
            self.text,
            re.M | re.S,
        )
        assert found is not None, self.text
        return without_libraries(found[1])

    def sections(self, name: str) -> list[tuple[str, list[str]]]:
        """Return the "Captured" sections of the report, in their order: what was captured, and its lines."""
        _, *parts = re.split(r"^-+ Captured (.*) -+\n", self.report(name), flags=re.M)
        return [(title, text.splitlines()) for title, text in zip(parts[::2], parts[1::2], strict=True)]

    def gist(self, name: str) -> list[str]:
        """Return the lines of the report that say where it failed, and of what."""
        report, _, _ = self.report(name).partition("- Captured ")
        found = re.findall(
            r"^(?:[>E] .*|\S+:\d+: in .*\n .*|\S+:\d+:.*|The above exception.*|During handling.*)$", report, re.M
        )
        return [" ".join(line.split()) for line in found]

    def summary(self, title: str) -> str:
        """Return one of the parts that follow the reports."""
        found = re.search(rf"^=+ {title} =+\n(.*?)(?=^=+ .* =+$)", self.text, re.M | re.S)
        return "" if found is None else found[1]


def without_libraries(text: str) -> str:
    """Drop the frames of a traceback that are not the project's, and the marks below its lines."""
    text = re.sub(r"^[ |]* [~^]+\n", "", text, flags=re.M)
    text = re.sub(r"^(?=\S*/)\S+:\d+: in .*\n(?:    .*\n)*", "", text, flags=re.M)
    return re.sub(r'^([E |]*)  File "(?:/|<frozen).*", line \d+, in .*\n(?:\1    .*\n)*', "", text, flags=re.M)


def place(files: dict[str, str], name: str, text: str) -> str:
    """Return the place of a line as pytest writes it: the file's name and the line's number."""
    [number] = [n for n, line in enumerate(dedent(files[name]).splitlines(), 1) if text in line]
    return f"{name}:{number}"


def dedent(text: str) -> str:
    return textwrap.dedent(text).lstrip()


See = Callable[..., Seen]


@pytest.fixture(scope="module")
def see(tmp_path_factory: pytest.TempPathFactory) -> See:
    """Run a project once for each kind and command, and show what a person reads."""

    @cache
    def see(name: str, kind: str, *options: str, command: str = "pytest", typed: str = "") -> Seen:
        folder = tmp_path_factory.mktemp(kind)
        for file, text in {"conftest.py": CONFTEST, "pytest.ini": "[pytest]\n", **PROJECTS[name]}.items():
            (folder / file).write_text(dedent(text.replace("CLIENT", CLIENTS.get(kind, ""))))
        env = {**os.environ, "COLUMNS": "100", "PYTHONUNBUFFERED": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        for unwanted in ("PYTEST_ADDOPTS", "PYTHONWARNINGS", "FORCE_COLOR", "PY_COLORS", "CI", "BUILD_NUMBER"):
            env.pop(unwanted, None)
        env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        (folder / "stdin").write_text(typed)
        (folder / "stdout").touch()
        streams = [str(folder / name) for name in ("stdin", "stdout", "stdout")]
        exit_code = warm.start("tests").run(["-m", *COMMANDS[command], *options], None, streams, folder, env, 4 * LIMIT)
        text = (folder / "stdout").read_text()
        text = re.sub(rf'(?<=File "){re.escape(str(folder))}/', "", text).replace(str(folder), "FOLDER")
        text = re.sub(r"<[\w.]+\.TestClient object at 0x\w+>", "<TestClient>", text)
        return Seen(text, exit_code)

    return see


# Output, logs and warnings

PROJECTS["output"] = OUTPUT = {
    "shop.py": """
        import contextlib
        import logging
        import os
        import subprocess
        import sys
        import warnings

        from fastapi import FastAPI, WebSocket
        from fastapi.responses import StreamingResponse

        logger = logging.getLogger("shop")
        print("importing")
        logger.warning("importing")


        @contextlib.asynccontextmanager
        async def lifespan(app):
            print("opening")
            logger.warning("opening")
            warnings.warn("opening is slow", RuntimeWarning, stacklevel=1)
            yield
            print("closing")
            print("closing badly", file=sys.stderr)
            logger.warning("closing")


        app = FastAPI(lifespan=lifespan)


        @app.get("/say/{word}")
        def say(word: str):
            print("printed", word)
            print("complained of", word, file=sys.stderr)
            logger.debug("thought of %s", word)
            logger.info("did %s", word)
            logger.warning("logged %s", word)


        @app.get("/low")
        async def low():
            print("before")
            os.write(1, b"by os.write\\n")
            subprocess.run(["echo", "by a child"], check=True)
            print("after")
            print("before, too", file=sys.stderr)
            os.write(2, b"by os.write, too\\n")
            subprocess.run("echo by a child, too >&2", shell=True, check=True)
            print("after, too", file=sys.stderr)


        @app.get("/old")
        def old():
            print("about to warn")
            warnings.warn("this is old", DeprecationWarning, stacklevel=1)
            warnings.warn("this is odd", stacklevel=1)
            print("has warned")


        @app.get("/mixed")
        def mixed():
            print("one")
            logger.warning("two")
            print("three", file=sys.stderr)
            warnings.warn("four", stacklevel=1)
            print("five", end="")
            logger.warning("six")
            print(", after six", file=sys.stderr)


        @app.get("/fails")
        def fails():
            print("about to fail")
            logger.error("failing", exc_info=ValueError("logged"))
            raise ValueError("failed")


        @app.get("/streamed")
        def streamed():
            def parts():
                for word in ("one", "two"):
                    print("sending", word)
                    yield word

            return StreamingResponse(parts())


        @app.websocket("/chat")
        async def chat(socket: WebSocket):
            await socket.accept()
            print("heard", await socket.receive_text())
            logger.warning("heard it")
            await socket.send_text("yes")
            await socket.close()
    """,
    "test_output.py": """
        import logging

        import pytest


        def test_first(client):
            client.get("/say/tea")
            assert not "first"


        def test_second(client):
            client.get("/say/milk")
            assert not "second"


        def test_passes(client):
            client.get("/say/nothing")


        def test_low(client):
            client.get("/low")
            assert not "low"


        def test_fails(client):
            client.get("/fails")


        def test_streamed(client):
            with client.stream("GET", "/streamed") as response:
                assert response.read() == b"twoone"


        def test_chat(client):
            with client.websocket_connect("/chat") as session:
                session.send_text("hello")
                assert session.receive_text() == "no"


        def test_capsys(client, capsys):
            client.get("/say/tea")
            assert capsys.readouterr() == ("printed tea\\n", "complained of tea\\n")
            client.get("/say/milk")
            assert capsys.readouterr() == ("printed milk\\n", "complained of milk\\n")
            client.get("/mixed")
            assert capsys.readouterr() == ("one\\nfive", "three\\n, after six\\n")


        def test_capsysbinary(client, capsysbinary):
            client.get("/say/t%C3%A9")
            assert capsysbinary.readouterr().out.decode() == "printed t\\u00e9\\n"


        def test_capfd(client, capfd):
            client.get("/low")
            out, err = capfd.readouterr()
            assert out == "before\\nby os.write\\nby a child\\nafter\\n"
            assert err == "before, too\\nby os.write, too\\nby a child, too\\nafter, too\\n"


        def records(caplog):
            return [(record.levelname, record.getMessage()) for record in caplog.records if record.name == "shop"]


        def test_caplog(client, caplog):
            client.get("/say/tea")
            assert records(caplog) == [("WARNING", "logged tea")]
            caplog.clear()
            with caplog.at_level(logging.DEBUG):
                client.get("/say/tea")
            assert records(caplog) == [("DEBUG", "thought of tea"), ("INFO", "did tea"), ("WARNING", "logged tea")]
            caplog.clear()
            with caplog.at_level(logging.INFO, "shop"):
                client.get("/say/milk")
            client.get("/say/tea")
            assert records(caplog) == [("INFO", "did milk"), ("WARNING", "logged milk"), ("WARNING", "logged tea")]
            assert caplog.records[-1].args == ("tea",)


        def test_order(client, caplog):
            logging.captureWarnings(True)
            client.get("/mixed")
            logging.captureWarnings(False)
            assert [record.name for record in caplog.records] == ["shop", "py.warnings", "shop"]


        def test_recwarn(client, recwarn):
            client.get("/old")
            seen = [(each.category, str(each.message)) for each in recwarn]
            assert seen == [(DeprecationWarning, "this is old"), (UserWarning, "this is odd")]


        def test_warns(client):
            with pytest.warns(UserWarning, match="^this is odd$"), pytest.deprecated_call(match="^this is old$"):
                client.get("/old")


        def test_does_not_warn(client):
            with pytest.warns(RuntimeWarning):
                client.get("/say/more")


        def test_warned_of(client):
            client.get("/old")


        @pytest.mark.filterwarnings("ignore:this is old")
        def test_partly_warned_of(client):
            client.get("/old")


        @pytest.mark.filterwarnings("error")
        def test_error(client):
            client.get("/old")  # raises


        def test_last(client):
            client.get("/say/last")
            assert not "last"
    """,
}


def of_shop(text: str) -> str:
    return place(OUTPUT, "shop.py", text)


def log_line(text: str, message: str) -> str:
    return f"WARNING  shop:{of_shop(text)} {message}"


@EVERYWHERE
def test_what_fails(see: See, kind: str) -> None:
    """Of tests that print, log and warn, those fail that should, with the same words in the summary."""
    seen = see("output", kind)
    summary = seen.summary("short test summary info")
    assert re.sub(r"(?<=DID NOT WARN).*", "", summary).splitlines() == [
        "FAILED test_output.py::test_first - AssertionError: assert not 'first'",
        "FAILED test_output.py::test_second - AssertionError: assert not 'second'",
        "FAILED test_output.py::test_low - AssertionError: assert not 'low'",
        "FAILED test_output.py::test_fails - ValueError: failed",
        "FAILED test_output.py::test_streamed - AssertionError: assert b'onetwo' == b'twoone'",
        "FAILED test_output.py::test_chat - AssertionError: assert 'yes' == 'no'",
        "FAILED test_output.py::test_does_not_warn - Failed: DID NOT WARN",
        "FAILED test_output.py::test_error - DeprecationWarning: this is old",
        "FAILED test_output.py::test_last - AssertionError: assert not 'last'",
    ]
    assert re.search(r"^=+ 9 failed, 10 passed, 5 warnings in .*s =+$", seen.text, re.M)
    assert seen.exit_code == 1


@EVERYWHERE
def test_report_in_full(see: See, kind: str) -> None:
    """A failing test shows what its own request printed and logged, and nothing of another test."""
    expected = f"""
        client = <TestClient>

            def test_second(client):
                client.get("/say/milk")
        >       assert not "second"
        E       AssertionError: assert not 'second'

        {place(OUTPUT, "test_output.py", 'assert not "second"')}: AssertionError
        --------------------------------------- Captured stdout call ---------------------------------------
        printed milk
        --------------------------------------- Captured stderr call ---------------------------------------
        complained of milk
        ---------------------------------------- Captured log call -----------------------------------------
        WARNING  shop:{of_shop("logged %s")} logged milk
    """
    seen = see("output", kind)
    assert seen.report("test_second") == "\n" + dedent(expected)
    assert "nothing" not in seen.text.replace('"/say/nothing"', "")


@EVERYWHERE
def test_start(see: See, kind: str) -> None:
    """What the app prints and logs while it starts is under the set-up of the fixture that starts it."""
    assert see("output", kind).sections("test_first") == [
        ("stdout setup", ["importing", "opening"]),
        (
            "log setup",
            [
                log_line('warning("importing', "importing"),
                log_line('warning("opening', "opening"),
            ],
        ),
        ("stdout call", ["printed tea"]),
        ("stderr call", ["complained of tea"]),
        ("log call", [log_line("logged %s", "logged tea")]),
    ]


@EVERYWHERE
def test_end(see: See, kind: str) -> None:
    """What the app prints and logs while it is shut down is under the tear-down of the last test."""
    assert see("output", kind).sections("test_last") == [
        ("stdout call", ["printed last"]),
        ("stderr call", ["complained of last"]),
        ("log call", [log_line("logged %s", "logged last")]),
        ("stdout teardown", ["closing"]),
        ("stderr teardown", ["closing badly"]),
        ("log teardown", [log_line('warning("closing', "closing")]),
    ]


@EVERYWHERE
def test_output_below_python(see: See, kind: str) -> None:
    """What C code and child processes of the app write is captured, in order with what is printed."""
    assert see("output", kind).sections("test_low") == [
        ("stdout call", ["before", "by os.write", "by a child", "after"]),
        ("stderr call", ["before, too", "by os.write, too", "by a child, too", "after, too"]),
    ]


@EVERYWHERE
def test_output_of_a_request_that_raises(see: See, kind: str) -> None:
    """What a request prints and logs before it raises is there; a logged exception has its traceback."""
    place_of_log = of_shop("logger.error")
    assert see("output", kind).sections("test_fails") == [
        ("stdout call", ["about to fail"]),
        ("log call", [f"ERROR    shop:{place_of_log} failing", "ValueError: logged"]),
    ]


@EVERYWHERE
def test_output_of_streams_and_websockets(see: See, kind: str) -> None:
    """What is printed between the parts of a response, and behind a WebSocket, is under its test."""
    seen = see("output", kind)
    assert seen.sections("test_streamed") == [("stdout call", ["sending one", "sending two"])]
    assert seen.sections("test_chat") == [
        ("stdout call", ["heard hello"]),
        ("log call", [log_line("heard it", "heard it")]),
    ]


@EVERYWHERE
def test_warnings_summary(see: See, kind: str) -> None:
    """The summary names the test, the app's line and its text, for what is not ignored."""
    opening, old, odd = (
        of_shop(f'warnings.warn("{text}') for text in ("opening is slow", "this is old", "this is odd")
    )
    expected = f"""
        test_output.py::test_first
          FOLDER/{opening}: RuntimeWarning: opening is slow
            warnings.warn("opening is slow", RuntimeWarning, stacklevel=1)

        test_output.py::test_capsys
          FOLDER/{of_shop("four")}: UserWarning: four
            warnings.warn("four", stacklevel=1)

        test_output.py::test_warned_of
          FOLDER/{old}: DeprecationWarning: this is old
            warnings.warn("this is old", DeprecationWarning, stacklevel=1)

        test_output.py::test_warned_of
        test_output.py::test_partly_warned_of
          FOLDER/{odd}: UserWarning: this is odd
            warnings.warn("this is odd", stacklevel=1)

        -- Docs: https://docs.pytest.org/en/stable/how-to/capture-warnings.html
    """
    assert see("output", kind).summary("warnings summary") == dedent(expected)


@EVERYWHERE
def test_warning_as_error(see: See, kind: str) -> None:
    """Where a filter says "error", the report shows the line of the app that warned; in a process, the app went on."""
    seen = see("output", kind)
    assert seen.gist("test_error") == [
        '> client.get("/old") # raises',
        place(OUTPUT, "test_output.py", 'client.get("/old")  # raises') + ":",
        '> warnings.warn("this is old", DeprecationWarning, stacklevel=1)',
        "E DeprecationWarning: this is old",
        f"{of_shop('this is old')}: DeprecationWarning",
    ]
    printed = ["about to warn", "has warned"] if kind == "process" else ["about to warn"]
    assert seen.sections("test_error") == [("stdout call", printed)]


@EVERYWHERE
def test_order_on_the_terminal(see: See, kind: str) -> None:
    """With -s and log_cli, prints and logs are there in the order in which the app makes them."""
    expected = f"""
        test_output.py::test_first importing

        ------------------------------------------ live log setup ------------------------------------------
        {log_line('warning("importing', "importing")}
        opening
        {log_line('warning("opening', "opening")}
        printed tea
        complained of tea
        ------------------------------------------ live log call -------------------------------------------
        {log_line("logged %s", "logged tea")}
        FAILED
        test_output.py::test_second printed milk
        complained of milk

        ------------------------------------------ live log call -------------------------------------------
        {log_line("logged %s", "logged milk")}
        FAILEDclosing
        closing badly

        ---------------------------------------- live log teardown -----------------------------------------
        {log_line('warning("closing', "closing")}
    """
    options = ("-q", "-s", "-o", "log_cli=true", "--tb=no", "-k", "first or second", "-W", "ignore")
    shown, _, _ = see("output", kind, *options).text.partition("\n\n\n===")
    assert shown.strip() == dedent(expected).strip()


# Exceptions

PROJECTS["errors"] = ERRORS = {
    "prices.py": """
        import threading


        class PriceError(Exception):
            pass


        class LimitError(Exception):
            def __init__(self, item, *, limit):
                super().__init__(f"{item} costs too much")
                self.limit = limit
                self.lock = threading.Lock()


        def price_of(item):
            table = {"tea": 3}
            return table[item]
    """,
    "shop.py": """
        import prices
        from starlette.applications import Starlette
        from starlette.responses import StreamingResponse
        from starlette.routing import Route, WebSocketRoute

        routes = []


        def get(function):
            routes.append(Route(f"/{function.__name__}", function))
            return function


        class OwnError(Exception):
            def __init__(self, code, reason):
                super().__init__(code, reason)
                self.code = code
                self.reason = reason

            def __str__(self):
                return f"{self.reason} ({self.code})"


        @get
        async def own(request):
            print("looking for tea")
            raise OwnError(7, "out of tea")


        @get
        def sync(request):
            return 1 / 0


        @get
        async def deep(request):
            return prices.price_of("milk")


        @get
        async def noted(request):
            error = OwnError(7, "noted")
            error.add_note("ask for milk")
            error.add_note("or for\\nwater")
            raise error  # noted


        @get
        async def cause(request):
            try:
                prices.price_of("milk")
            except KeyError as error:
                raise OwnError(8, "because of it") from error


        @get
        async def context(request):
            try:
                prices.price_of("cocoa")
            except KeyError:
                raise OwnError(8, "while it was handled")


        @get
        async def from_none(request):
            try:
                prices.price_of("water")
            except KeyError:
                raise OwnError(8, "instead of it") from None


        @get
        async def group(request):
            try:
                prices.price_of("coffee")
            except KeyError as error:
                raise ExceptionGroup("prices", [error, OwnError(9, "of a group")])


        @get
        async def priced(request):
            error = prices.PriceError("too much")
            error.items = ["milk", 2]
            raise error


        @get
        async def limited(request):
            raise prices.LimitError("milk", limit=3)


        @get
        async def streamed(request):
            async def parts():
                yield "one"
                raise OwnError(5, "broken off")

            return StreamingResponse(parts())


        async def chat(socket):
            await socket.accept()
            text = await socket.receive_text()
            raise OwnError(5, text)


        app = Starlette(routes=[*routes, WebSocketRoute("/chat", chat)])
    """,
    "test_errors.py": """
        import unittest

        import prices
        import pytest
        import shop

        PATHS = "own sync deep noted cause context from_none group limited streamed".split()


        @pytest.mark.parametrize("path", PATHS)
        def test_get(client, path):
            client.get("/" + path)


        def test_chat(client):
            with client.websocket_connect("/chat") as session:
                session.send_text("of a chat")
                session.receive_text()


        def test_raises(client):
            with pytest.raises(shop.OwnError, match=r"^out of tea \\(7\\)$") as caught:
                client.get("/own")
            assert (caught.value.code, caught.value.reason) == (7, "out of tea")
            assert caught.value.args == (7, "out of tea")
            assert caught.traceback[-1].name == "own"


        def test_raises_with_attributes(client):
            with pytest.raises(prices.PriceError) as caught:
                client.get("/priced")
            assert caught.value.items == ["milk", 2]


        def test_raises_with_links(client):
            with pytest.raises(shop.OwnError) as caught:
                client.get("/cause")
            assert type(caught.value.__cause__) is KeyError
            with pytest.raises(shop.OwnError) as caught:
                client.get("/from_none")
            assert caught.value.__suppress_context__
            assert type(caught.value.__context__) is KeyError


        @pytest.mark.skipif("sys.version_info < (3, 11)")
        def test_raises_group(client):
            with pytest.raises(Exception) as caught:
                client.get("/group")
            assert str(caught.value) == "prices (2 sub-exceptions)"
            assert [type(error) for error in caught.value.exceptions] == [KeyError, shop.OwnError]


        def test_assert_raises(client):
            with unittest.TestCase().assertRaisesRegex(shop.OwnError, "^out of tea"):
                client.get("/own")


        def test_raises_another(client):
            with pytest.raises(KeyError):
                client.get("/own")  # no KeyError
    """,
    "unit.py": """
        import unittest

        import shop
        from conftest import *


        class ShopTest(unittest.TestCase):
            def test_own(self):
                with CLIENT:
                    client.get("/own")  # fails

            def test_raises(self):
                with CLIENT, self.assertRaises(shop.OwnError):
                    client.get("/own")
    """,
}


def in_shop(text: str) -> str:
    return place(ERRORS, "shop.py", text)


TEST_GET = ['> client.get("/" + path)', place(ERRORS, "test_errors.py", 'client.get("/" + path)') + ":"]
TABLE = ["> return table[item]", "E KeyError: 'milk'", place(ERRORS, "prices.py", "return table") + ": KeyError"]
OWN = [
    '> raise OwnError(7, "out of tea")',
    "E shop.OwnError: out of tea (7)",
    in_shop("raise OwnError(7") + ": OwnError",
]


BROKEN = ['> raise OwnError(5, "broken off")', "E shop.OwnError: broken off (5)", in_shop("broken off") + ": OwnError"]
EXCEPTIONS = {
    "own": OWN,
    "sync": ["> return 1 / 0", "E ZeroDivisionError: division by zero", in_shop("1 / 0") + ": ZeroDivisionError"],
    "deep": [in_shop("return prices") + ': in deep return prices.price_of("milk")', *TABLE],
    "streamed": BROKEN,
}


@EVERYWHERE
@pytest.mark.parametrize("name", EXCEPTIONS)
def test_exception(see: See, kind: str, name: str) -> None:
    """The report shows the test's line, below it the app's, and the exception with its own type and text."""
    assert see("errors", kind).gist(f"test_get[{name}]") == [*TEST_GET, *EXCEPTIONS[name]]


@EVERYWHERE
@HAS_NOTES_AND_GROUPS
def test_notes(see: See, kind: str) -> None:
    """Notes follow the text of the exception."""
    raised = ["> raise error # noted", "E shop.OwnError: noted (7)", "E ask for milk", "E or for", "E water"]
    assert see("errors", kind).gist("test_get[noted]") == [*TEST_GET, *raised, in_shop("# noted") + ": OwnError"]


@EVERYWHERE
def test_linked_exceptions(see: See, kind: str) -> None:
    """A cause and a context are shown first, with their own lines; what `from None` hides is not shown."""
    seen = see("errors", kind)
    assert seen.gist("test_get[cause]") == [
        '> prices.price_of("milk")',
        in_shop('    prices.price_of("milk")') + ":",
        *TABLE,
        "The above exception was the direct cause of the following exception:",
        *TEST_GET,
        '> raise OwnError(8, "because of it") from error',
        "E shop.OwnError: because of it (8)",
        in_shop("because of it") + ": OwnError",
    ]
    assert seen.gist("test_get[context]") == [
        '> prices.price_of("cocoa")',
        in_shop("cocoa") + ":",
        *[line.replace("milk", "cocoa") for line in TABLE],
        "During handling of the above exception, another exception occurred:",
        *TEST_GET,
        '> raise OwnError(8, "while it was handled")',
        "E shop.OwnError: while it was handled (8)",
        in_shop("while it was") + ": OwnError",
    ]
    assert seen.gist("test_get[from_none]") == [
        *TEST_GET,
        '> raise OwnError(8, "instead of it") from None',
        "E shop.OwnError: instead of it (8)",
        in_shop("instead of it") + ": OwnError",
    ]


@EVERYWHERE
@HAS_NOTES_AND_GROUPS
def test_group(see: See, kind: str) -> None:
    """A group shows its members, each with its own lines."""
    price = f"""
        Traceback (most recent call last):
          File "shop.py", line {in_shop("coffee")[8:]}, in group
            prices.price_of("coffee")
          File "prices.py", line {place(ERRORS, "prices.py", "return table")[10:]}, in price_of
            return table[item]
        KeyError: 'coffee'
    """
    expected = f"""
        During handling of the above exception, another exception occurred:

          + Exception Group Traceback (most recent call last):
          |   File "test_errors.py", line {TEST_GET[1].split(":")[1]}, in test_get
          |     client.get("/" + path)
          |   File "shop.py", line {in_shop("raise ExceptionGroup")[8:]}, in group
          |     raise ExceptionGroup("prices", [error, OwnError(9, "of a group")])
          | ExceptionGroup: prices (2 sub-exceptions)
          +-+---------------- 1 ----------------
    """
    members = """
            +---------------- 2 ----------------
            | shop.OwnError: of a group (9)
            +------------------------------------
    """
    report = see("errors", kind).report("test_get[group]")
    first = textwrap.indent(dedent(price), "    | ")
    assert report == f"{dedent(price)}\n{dedent(expected)}{first}{textwrap.indent(dedent(members), '    ')}"


@EVERYWHERE
def test_websocket(see: See, kind: str) -> None:
    """What the app raises behind a WebSocket is shown at the test's line; in-process, with what broke besides."""
    gist = see("errors", kind).gist("test_chat")
    raised = ["> raise OwnError(5, text)", "E shop.OwnError: of a chat (5)", in_shop("(5, text)") + ": OwnError"]
    if kind == "in-process":
        assert gist[-3:] == raised
    else:
        text = "session.receive_text()"
        assert gist == [f"> {text}", place(ERRORS, "test_errors.py", text) + ":", *raised]


@EVERYWHERE
def test_raises(see: See, kind: str) -> None:
    """pytest.raises and assertRaises get the exception with its type, attributes and links; another goes through."""
    seen = see("errors", kind)
    failed = re.findall("^FAILED .*::(test_(?:raises|assert).*?) - (.*)$", seen.text, re.M)
    assert failed == [("test_raises_another", "shop.OwnError: out of tea (7)")]
    call = place(ERRORS, "test_errors.py", 'client.get("/own")  # no KeyError')
    assert seen.gist("test_raises_another") == ['> client.get("/own") # no KeyError', f"{call}:", *OWN]


def test_exception_that_cannot_cross(see: See) -> None:
    """In a process, what cannot be pickled is an AppError, which shows the type, the text and the app's line."""
    lines = see("errors", "process").gist("test_get[limited]")
    assert lines[:2] == TEST_GET
    errors = [line for line in lines if line.startswith("E ") and "/" not in line]
    assert errors[:2] == [
        "E socketless.errors.AppError: prices.LimitError: milk costs too much",
        "E The worker's traceback:",
    ]
    assert errors[-2:] == ['E raise prices.LimitError("milk", limit=3)', "E prices.LimitError: milk costs too much"]


@EVERYWHERE
def test_short_and_native(see: See, kind: str) -> None:
    """So do `--tb=short` and `--tb=native`."""
    expected = f"""
        {TEST_GET[1]} in test_get
            client.get("/" + path)
        {in_shop("raise OwnError(7")}: in own
            raise OwnError(7, "out of tea")
        E   shop.OwnError: out of tea (7)
    """
    seen = see("errors", kind, "--tb=short", "-k", "own and get")
    assert seen.report("test_get[own]").partition("---")[0] == dedent(expected)
    expected = f"""
        Traceback (most recent call last):
          File "test_errors.py", line {TEST_GET[1].split(":")[1]}, in test_get
            client.get("/" + path)
          File "shop.py", line {in_shop("raise OwnError(7")[8:]}, in own
            raise OwnError(7, "out of tea")
        shop.OwnError: out of tea (7)
    """
    seen = see("errors", kind, "--tb=native", "-k", "own and get")
    assert seen.report("test_get[own]").partition("---")[0] == dedent(expected)


@EVERYWHERE
def test_unittest(see: See, kind: str) -> None:
    """So does unittest, with what the request has printed."""
    seen = see("errors", kind, "-b", "unit", command="unittest")
    expected = f"""
        ======================================================================
        ERROR: test_own (unit.ShopTest.test_own)
        ----------------------------------------------------------------------
        Traceback (most recent call last):
          File "unit.py", line {place(ERRORS, "unit.py", 'client.get("/own")  # fails')[8:]}, in test_own
            client.get("/own")  # fails
          File "shop.py", line {in_shop("raise OwnError(7")[8:]}, in own
            raise OwnError(7, "out of tea")
        shop.OwnError: out of tea (7)

        Stdout:
        looking for tea

        ----------------------------------------------------------------------
    """
    shown = without_libraries(seen.text).replace("(unit.ShopTest)", "(unit.ShopTest.test_own)")  # before Python 3.11
    assert dedent(expected) in shown


@pytest.mark.parametrize("kind", ["threads", "process"])
@pytest.mark.parametrize("options", [(), ("--tb=short", "-k", "own and get")], ids=["long", "short"])
def test_own_frames(see: See, kind: str, options: tuple[str, ...]) -> None:
    """The frames of this package are not shown."""
    assert re.findall(r"\S*socketless/\S+\.py", see("errors", kind, *options).text) == []


@EVERYWHERE
def test_function_of_the_app(see: See, kind: str) -> None:
    """The function of the app that raised is shown from its first line."""
    assert """
    @get
    async def own(request):
        print("looking for tea")
>       raise OwnError(7, "out of tea")
E       shop.OwnError: out of tea (7)
""" in see("errors", kind).report("test_get[own]")


# run() in the worker

PROJECTS["data"] = DATA = {
    "shop.py": """
        import asyncio
        import dataclasses
        import os
        import sqlite3

        from fastapi import Depends, FastAPI

        app = FastAPI()
        items = []
        stock = {"tea": 3}
        db = sqlite3.connect(":memory:", check_same_thread=False)
        db.execute("create table users (name text)")


        class OwnError(Exception):
            def __init__(self, code):
                super().__init__(code)
                self.code = code


        @dataclasses.dataclass
        class Item:
            name: str


        def get_user():
            return "nobody"


        def price_of(item):
            return stock[item]


        def fail(code):
            raise OwnError(code)


        @app.get("/")
        async def everything(user: str = Depends(get_user)):
            users = [name for (name,) in db.execute("select name from users")]
            return {"items": items, "users": users, "user": user, "price": price_of("tea")}


        @app.get("/place")
        async def place():
            return [os.getpid(), id(asyncio.get_running_loop())]
    """,
    "conftest.py": CONFTEST
    + """

    import shop


    def add_users(*names):
        shop.db.executemany("insert into users values (?)", [(name,) for name in names])


    def clear():
        shop.items.clear()
        shop.stock["tea"] = 3
        shop.db.execute("delete from users")
        shop.app.dependency_overrides.clear()


    @pytest.fixture
    def seen(client):
        yield lambda name: client.get("/").json()[name]
        client.worker.run(clear)
    """,
    "test_data.py": """
        import asyncio
        import functools
        import logging
        import os
        import sys
        import threading
        import warnings
        from unittest import mock

        import pytest
        import shop
        from conftest import add_users
        from socketless import errors

        IS_HERE = "load('shop')" in "CLIENT"


        class TheirError(Exception):
            pass


        def add(*items, **stock):
            shop.items.extend(items)
            shop.stock.update(stock)
            return len(shop.items)


        def check():
            assert shop.items == ["milk"]


        def test_function_of_the_module(client, seen):
            assert client.worker.run(add, "tea", "milk", tea=2) == 2
            assert seen("items") == ["tea", "milk"]
            assert seen("price") == 2


        def test_function_of_conftest(client, seen):
            client.worker.run(add_users, "ada", "bob")
            assert seen("users") == ["ada", "bob"]


        def test_lambda_and_closure(client, seen):
            client.worker.run(lambda: shop.items.append("tea"))
            more = ["milk", "water"]

            def add_more():
                shop.items.extend(more)

            client.worker.run(add_more)
            assert seen("items") == ["tea", "milk", "water"]


        def test_methods(client, seen):
            client.worker.run(shop.items.append, "tea")
            client.worker.run(functools.partial(shop.stock.__setitem__, "tea"), 9)
            client.worker.run(lambda items: items.append("milk"), shop.items)
            assert seen("items") == ["tea", "milk"]
            assert seen("price") == 9


        def test_coroutine_function(client):
            async def place():
                await asyncio.sleep(0)
                return [os.getpid(), id(asyncio.get_running_loop())]

            assert client.worker.run(place) == client.get("/place").json()
            assert client.worker.run(shop.place) == client.get("/place").json()


        def test_results(client):
            assert client.worker.run(shop.Item, "tea") == shop.Item("tea")
            assert client.worker.run(lambda: {"a": (1, {2}, None)}) == {"a": (1, {2}, None)}
            assert (client.worker.run(lambda: shop.items) is shop.items) == IS_HERE
            assert (client.worker.run(os.getpid) == os.getpid()) == IS_HERE


        def test_app(client, seen):
            for app in (client.app, client.worker.app):
                assert client.worker.run(lambda app: app.dependency_overrides, app) == {}
                client.worker.run(lambda app: app.dependency_overrides.update({shop.get_user: lambda: "ada"}), app)
                assert seen("user") == "ada"
                client.worker.run(lambda app: app.dependency_overrides.clear(), app)
                assert seen("user") == "nobody"


        @pytest.mark.parametrize("find", [mock.patch.object, lambda _, name, **new: mock.patch(f"shop.{name}", **new)])
        def test_mock(client, seen, find):
            client.worker.run(find(shop, "price_of", return_value=5).start)
            assert seen("price") == 5
            client.worker.run(lambda: shop.price_of.assert_called_once_with("tea"))
            with pytest.raises(AssertionError, match="Expected 'price_of' to not have been called"):
                client.worker.run(lambda: shop.price_of.assert_not_called())
            client.worker.run(mock.patch.stopall)
            assert seen("price") == 3


        def test_error_of_the_app(client):
            with pytest.raises(shop.OwnError) as caught:
                client.worker.run(shop.fail, 3)
            assert caught.value.code == 3


        def test_errors_of_the_test(client):
            class LocalError(Exception):
                def __str__(self):
                    return f"local, {self.args}"

            def fail(error):
                error.more = [1]
                raise error from TheirError("the cause", 4)

            with pytest.raises(LocalError, match="^local, .5,.$") as caught:
                client.worker.run(fail, LocalError(5))
            assert caught.value.more == [1]
            assert type(caught.value.__cause__) is TheirError
            assert caught.value.__cause__.args == ("the cause", 4)


        @pytest.mark.skipif(IS_HERE, reason="everything can be passed on")
        def test_what_cannot_be_pickled(client):
            lock = threading.Lock()
            with pytest.raises(errors.TransferError, match="cannot pickle '_thread.lock' object"):
                client.worker.run(lambda: lock)
            with pytest.raises(errors.TransferError, match="cannot pickle '_thread.lock' object"):
                client.worker.run(threading.Lock)


        def test_output(client, capsys, caplog, recwarn):
            def make_noise():
                print("out")
                print("err", file=sys.stderr)
                logging.getLogger("shop").warning("logged")
                warnings.warn("warned", stacklevel=1)

            client.worker.run(make_noise)
            assert capsys.readouterr() == ("out\\n", "err\\n")
            assert caplog.messages == ["logged"]
            assert [str(each.message) for each in recwarn] == ["warned"]


        def test_fails(client):
            def show(item):
                print("looking for", item)
                return shop.price_of(item)

            client.worker.run(show, "milk")


        def test_asserts(client, seen):
            client.worker.run(add, "tea")
            client.worker.run(check)
    """,
}

WHERE_RUN_IS = pytest.mark.parametrize("kind", ["threads", "process", "fork"])


@WHERE_RUN_IS
def test_run(see: See, kind: str) -> None:
    """Functions of tests set up data, patch and ask in the worker, wherever that is; what they raise comes back."""
    seen = see("data", kind)
    assert seen.summary("short test summary info").splitlines()[-2:] == [
        "FAILED test_data.py::test_fails - KeyError: 'milk'",
        "FAILED test_data.py::test_asserts - AssertionError: assert ['tea'] == ['milk']",
    ]
    passed = "12 passed, 1 skipped" if kind == "threads" else "13 passed"
    assert re.search(rf"^=+ 2 failed, {passed} in .*s =+$", seen.text, re.M), seen.text


@WHERE_RUN_IS
def test_report_of_run(see: See, kind: str) -> None:
    """The report of an exception shows the test's lines, those of the function, and the app's."""
    seen = see("data", kind)
    call, inner = 'client.worker.run(show, "milk")', "return shop.price_of(item)"
    assert seen.gist("test_fails") == [
        f"> {call}",
        f"{place(DATA, 'test_data.py', call)}:",
        f"{place(DATA, 'test_data.py', inner)}: in show {inner}",
        "> return stock[item]",
        "E KeyError: 'milk'",
        f"{place(DATA, 'shop.py', 'return stock[item]')}: KeyError",
    ]
    assert seen.sections("test_fails") == [("stdout call", ["looking for milk"])]


@WHERE_RUN_IS
def test_assert_in_run(see: See, kind: str) -> None:
    """An assert in the worker shows the values; how they differ, only a process that imports it does not say."""
    call, check = "client.worker.run(check)", 'assert shop.items == ["milk"]'
    more = ["At index 0 diff: 'tea' != 'milk'", "Use -v to get more diff"]
    assert [line for line in see("data", kind).gist("test_asserts") if line != "E"] == [
        f"> {call}",
        f"{place(DATA, 'test_data.py', call)}:",
        f"> {check}",
        "E AssertionError: assert ['tea'] == ['milk']",
        *(f"E {line}" for line in (more if kind != "process" else ["+ where ['tea'] = shop.items"])),
        f"{place(DATA, 'test_data.py', check)}: AssertionError",
    ]


# What a test shares with an app in its own process

PROJECTS["shared"] = SHARED = {
    "shop.py": """
        import contextvars
        import os
        import sqlite3

        from fastapi import Depends, FastAPI

        app = FastAPI()
        user = contextvars.ContextVar("user", default="nobody")
        stock = {"tea": 3}
        db = None


        def get_page():
            return 1


        def price_of(item):
            return stock[item]


        @app.get("/sync")
        def sync(page: int = Depends(get_page)):
            return [user.get(), page, price_of("tea"), os.environ.get("SHOP")]


        @app.get("/async")
        async def async_(page: int = Depends(get_page)):
            return [user.get(), page, price_of("tea"), os.environ.get("SHOP")]


        @app.get("/become/{name}")
        async def become(name: str):
            user.set(name)
            return user.get()


        @app.post("/users/{name}")
        def add(name: str):
            db.execute("insert into users values (?)", [name])


        @app.get("/users")
        async def users():
            return [name for (name,) in db.execute("select name from users")]


        @app.get("/stop/{word}")
        def stop(word: str):
            twice = word * 2
            breakpoint()
            return twice


        @app.get("/fails/{word}")
        async def fails(word: str):
            twice = word * 2
            raise ValueError(twice)
    """,
    "test_shared.py": """
        import sqlite3
        from contextlib import closing
        from unittest import mock

        import pytest
        import shop


        @pytest.fixture(params=["sync", "async"])
        def seen(client, request):
            return lambda: client.get("/" + request.param).json()


        def test_context_variables(client, seen):
            assert seen() == ["nobody", 1, 3, None]
            token = shop.user.set("ada")
            assert seen()[0] == "ada"
            assert client.get("/become/bob").json() == "bob"
            assert shop.user.get() == "ada"
            shop.user.reset(token)
            assert seen()[0] == "nobody"


        def test_monkeypatch(seen, monkeypatch):
            with monkeypatch.context() as patch:
                patch.setitem(shop.stock, "tea", 4)
                patch.setenv("SHOP", "open")
                assert seen() == ["nobody", 1, 4, "open"]
                patch.setattr(shop, "price_of", lambda item: f"dear {item}")
                assert seen() == ["nobody", 1, "dear tea", "open"]
            assert seen() == ["nobody", 1, 3, None]


        @mock.patch("shop.price_of", return_value=5)
        def test_mock(price_of, seen):
            assert seen()[2] == 5
            price_of.assert_called_once_with("tea")


        def test_dependency_overrides(client, seen):
            client.app.dependency_overrides[shop.get_page] = lambda: 7
            assert seen()[1] == 7
            shop.app.dependency_overrides.clear()
            assert seen()[1] == 1


        def test_database(client, monkeypatch):
            with closing(sqlite3.connect(":memory:", check_same_thread=False)) as db:
                monkeypatch.setattr(shop, "db", db)
                db.execute("create table users (name text)")
                db.execute("insert into users values ('ada')")
                client.post("/users/bob")
                assert client.get("/users").json() == ["ada", "bob"]
                assert db.execute("select count(*) from users").fetchone() == (2,)
                db.rollback()
                assert client.get("/users").json() == []
    """,
    "test_debugger.py": """
        def test_stops(client):
            assert client.get("/stop/tea").json() == "teatea"


        def test_fails(client):
            client.get("/fails/tea")
    """,
}

IN_THIS_PROCESS = pytest.mark.parametrize("kind", ["in-process", "threads"])


@IN_THIS_PROCESS
def test_shared_state(see: See, kind: str) -> None:
    """Context variables, patches, overrides and a database in memory are those of the test."""
    assert re.search(r"^9 passed in .*s$", see("shared", kind, "-q", "test_shared.py").text, re.M)


@IN_THIS_PROCESS
def test_breakpoint(see: See, kind: str) -> None:
    """A breakpoint of the app stops there, with its variables, and pytest gives it the terminal."""
    seen = see("shared", kind, "-q", "-k", "stops", "test_debugger.py", typed="p twice\nc\n")
    line = "breakpoint()" if sys.version_info >= (3, 13) else "return twice"
    assert f"\n> FOLDER/{place(SHARED, 'shop.py', line).replace(':', '(')})stop()\n-> {line}\n" in seen.text
    assert "(Pdb) 'teatea'\n" in seen.text
    assert re.search(r"^1 passed, 1 deselected in .*s$", seen.text, re.M)


@pytest.mark.parametrize("kind", ["in-process", "threads", "process"])
def test_post_mortem(see: See, kind: str) -> None:
    """`--pdb` comes to the line of the app that has raised; the variables there do not leave a process."""
    seen = see("shared", kind, "-q", "--tb=no", "--pdb", "-k", "fails", "test_debugger.py", typed="p twice\nq\n")
    line = place(SHARED, "shop.py", "raise ValueError").replace(":", "(")
    assert f"\n> FOLDER/{line})fails()\n-> raise ValueError(twice)\n" in seen.text
    assert ("(Pdb) 'teatea'\n" in seen.text) == (kind != "process")
    assert "socketless" not in seen.text


# Flask

PROJECTS["flask"] = FLASK = {
    "shop.py": """
        import sys

        from flask import Flask, current_app, request

        app = Flask(__name__)
        app.testing = True


        class OwnError(Exception):
            pass


        @app.get("/say/<word>")
        def say(word):
            print("printed", word)
            print("complained of", word, file=sys.stderr)
            print("to wsgi.errors", file=request.environ["wsgi.errors"])
            return word


        @app.get("/log/<word>")
        def log(word):
            app.logger.info("did %s", word)
            app.logger.warning("logged %s", word)
            return word


        @app.get("/own")
        def own():
            raise OwnError("out of tea")
    """,
    "test_flask.py": """
        def test_say(client):
            assert client.get("/say/tea").text == "milk"


        def test_log(client):
            assert client.get("/log/tea").text == "milk"


        def test_own(client):
            client.get("/own")
    """,
}

UNDER_FLASK = pytest.mark.parametrize("kind", ["flask", "threads", "process"])


@UNDER_FLASK
def test_flask(see: See, kind: str) -> None:
    """A Flask app is seen as through Flask's own client."""
    seen = see("flask", kind)
    assert seen.sections("test_say") == [
        ("stdout call", ["printed tea"]),
        ("stderr call", ["complained of tea", "to wsgi.errors"]),
    ]
    call, raised = 'client.get("/own")', 'raise OwnError("out of tea")'
    assert seen.gist("test_own") == [
        f"> {call}",
        f"{place(FLASK, 'test_flask.py', call)}:",
        f"> {raised}",
        "E shop.OwnError: out of tea",
        f"{place(FLASK, 'shop.py', raised)}: OwnError",
    ]


@UNDER_FLASK
def test_flask_logger(see: See, kind: str, request: pytest.FixtureRequest) -> None:
    """Flask's logger prints nothing beside, as pytest has a handler already."""
    line = f"WARNING  shop:{place(FLASK, 'shop.py', 'logged')} logged tea"
    assert see("flask", kind).sections("test_log") == [("log call", [line])]


# The switch

PROJECTS["switch"] = SWITCH = {
    "shop.py": """
        import logging
        import os

        from fastapi import FastAPI, WebSocket

        app = FastAPI()


        class OwnError(Exception):
            pass


        @app.get("/pid")
        def pid():
            print("asked")
            logging.getLogger("shop").warning("logged")
            return os.getpid()


        @app.get("/own")
        def own():
            raise OwnError("out of tea")


        @app.websocket("/chat")
        async def chat(socket: WebSocket):
            await socket.accept()
            text = await socket.receive_text()
            await socket.send_text(text + "!")
            raise OwnError("after a chat")
    """,
    "conftest.py": """
        import contextlib
        import os

        import fastapi.testclient
        import pytest
        import shop
        from socketless import eventloop, switch_to_ipc_connection

        eventloop.install()
        CLASSES = [
            fastapi.testclient.TestClient,
            *fastapi.testclient.TestClient.__mro__[1:-1],
            type(fastapi.testclient.TestClient(shop.app)._transport),
        ]
        BEFORE = [dict(vars(cls)) for cls in CLASSES]


        @pytest.fixture(scope="session", autouse=True)
        def switched():
            with CLIENT:
                yield
            assert [dict(vars(cls)) for cls in CLASSES] == BEFORE
            assert fastapi.testclient.TestClient(shop.app).get("/pid").json() == os.getpid()
            print("restored")
    """,
    "test_switch.py": """
        import os

        import fastapi.testclient
        import pytest
        import shop
        import starlette.testclient
        from fastapi.testclient import TestClient as ImportedBefore

        before = ImportedBefore(shop.app)


        class Subclass(ImportedBefore):
            pass


        @pytest.fixture(params=["before", "after", "imported_after", "subclass", "with"])
        def client(request):
            if request.param == "before":
                yield before
            elif request.param == "after":
                yield ImportedBefore(shop.app)
            elif request.param == "imported_after":
                from fastapi.testclient import TestClient

                yield TestClient(shop.app)
            elif request.param == "subclass":
                yield Subclass(shop.app)
            else:
                with before as client:
                    yield client


        def test_is_a_client(client):
            assert isinstance(client, (fastapi.testclient.TestClient, starlette.testclient.TestClient))
            assert type(client) in (ImportedBefore, Subclass)
            is_here = client.get("/pid").json() == os.getpid()
            assert is_here != ("switch" in "CLIENT")


        def test_raises(client):
            with pytest.raises(shop.OwnError, match="^out of tea$"):
                client.get("/own")


        def test_chats(client):
            with pytest.raises(shop.OwnError, match="^after a chat$"), client.websocket_connect("/chat") as session:
                session.send_text("hello")
                assert session.receive_text() == "hello!"
                session.receive_text()


        def test_answers_500():
            assert ImportedBefore(shop.app, raise_server_exceptions=False).get("/own").status_code == 500


        def test_shows():
            before.get("/pid")
            before.get("/own")


        def test_last():
            assert not "last"
    """,
}


@pytest.mark.parametrize("kind", ["unswitched", "switched"])
def test_switch(see: See, kind: str) -> None:
    """Under the switch Starlette's own clients reach the worker, are what they were, and are restored after it."""
    seen = see("switch", kind)
    assert re.findall(r"^FAILED \S+::(\S+) - (.*)$", seen.text, re.M) == [
        ("test_shows", "shop.OwnError: out of tea"),
        ("test_last", "AssertionError: assert not 'last'"),
    ]
    call, raised = 'before.get("/own")', 'raise OwnError("out of tea")'
    assert seen.gist("test_shows") == [
        f"> {call}",
        f"{place(SWITCH, 'test_switch.py', call)}:",
        f"> {raised}",
        "E shop.OwnError: out of tea",
        f"{place(SWITCH, 'shop.py', raised)}: OwnError",
    ]
    log = f"WARNING  shop:{place(SWITCH, 'shop.py', 'logged')} logged"
    assert seen.sections("test_shows") == [("stdout call", ["asked"]), ("log call", [log])]
    assert seen.sections("test_last")[0] == ("stdout teardown", ["asked", "restored"])


# What goes wrong with a worker

PROJECTS["troubles"] = TROUBLES = {
    "shop.py": """
        import asyncio
        import os
        import signal
        import sys

        from fastapi import FastAPI

        app = FastAPI()


        @app.get("/")
        async def hello():
            pass


        @app.get("/stuck")
        async def stuck():
            await asyncio.Event().wait()


        @app.get("/killed")
        async def killed():
            print("printed")
            print("last words", file=sys.stderr)
            os.kill(os.getpid(), signal.SIGKILL)
    """,
    "broken.py": """
        print("importing")
        import no_such_module
    """,
    "unready.py": """
        import contextlib

        from fastapi import FastAPI


        @contextlib.asynccontextmanager
        async def lifespan(app):
            print("opening")
            raise LookupError("no database")
            yield


        app = FastAPI(lifespan=lifespan)
    """,
    "test_troubles.py": """
        import threading

        import pytest
        import socketless.testclient


        def test_stuck(client):
            client.get("/")
            client.get("/stuck", timeout=0.5)


        def test_killed(client):
            client.get("/killed")


        def test_restarted(client):
            assert client.get("/").status_code == 404


        @pytest.mark.parametrize("app", ["missing:app", "broken:app", "unready:app"])
        def test_start(app):
            with socketless.testclient.TestClient(app):
                pass


        def test_run(client):
            client.worker.run(print, threading.Lock())
    """,
}


def in_troubles(text: str) -> str:
    return place(TROUBLES, "test_troubles.py", text)


@pytest.mark.parametrize("kind", ["threads", "process"])
def test_stuck_app(see: See, kind: str) -> None:
    """The report of a time-out shows where the app is stuck."""
    seen = see("troubles", kind, "-k", "stuck")
    report = [line for line in seen.gist("test_stuck") if line.startswith("E ")]
    line = place(TROUBLES, "shop.py", "asyncio.Event")[8:]
    assert report == [
        "E socketless.errors.ReadTimeout: GET /stuck: the app did not answer within 0.5 s",
        "E The app is at:",
        f'E File "shop.py", line {line}, in stuck',
        "E await asyncio.Event().wait()",
    ]
    assert f"{in_troubles('timeout=0.5')}: \n" in seen.report("test_stuck")


def test_killed_worker(see: See) -> None:
    """The report of a dead worker shows what has killed it and what it had printed; the next test has a new one."""
    seen = see("troubles", "process")
    text = [re.sub(r"(?<=pid )\d+", "N", line) for line in seen.gist("test_killed") if line.startswith("E ")]
    assert text == [
        "E socketless.errors.WorkerDied: GET /killed: the worker (pid N) was killed by SIGKILL; the end of its stderr:",
        "E last words",
    ]
    assert seen.sections("test_killed") == [("stdout call", ["printed"]), ("stderr call", ["last words"])]
    assert "E AssertionError: assert 200 == 404" in seen.gist("test_restarted")


def test_start_that_fails(see: See) -> None:
    """An app that cannot start is shown as what it raised, at its own line, with what it had printed."""
    seen = see("troubles", "process")
    call = ["> with socketless.testclient.TestClient(app):", in_troubles("TestClient(app)") + ":"]
    assert seen.gist("test_start[broken:app]") == [
        *call,
        "> import no_such_module",
        "E ModuleNotFoundError: No module named 'no_such_module'",
        "broken.py:2: ModuleNotFoundError",
    ]
    assert seen.sections("test_start[broken:app]") == [("stdout call", ["importing"])]
    assert seen.gist("test_start[unready:app]") == [
        *call,
        '> raise LookupError("no database")',
        "E LookupError: no database",
        place(TROUBLES, "unready.py", "raise LookupError") + ": LookupError",
    ]
    assert seen.sections("test_start[unready:app]") == [("stdout call", ["opening"])]
    assert [without_path(line) for line in seen.gist("test_start[missing:app]") if line[:2] in ("E ", "te")] == [
        "E socketless.errors.WorkerStartError: the worker could not start: cannot import 'missing:app': there is no "
        "module 'missing' on sys.path",
        call[1] + " WorkerStartError",
    ]


@pytest.mark.parametrize("name", ["test_start[missing:app]", "test_run"])
def test_own_frames_of_troubles(see: See, name: str) -> None:
    """The frames of this package are not shown where its own errors come from them, either."""
    report = see("troubles", "process").report(name)
    assert "socketless.errors." in report
    assert "\n    def " not in report.partition("\n    def test_")[2]


# debug=True

PROJECTS["debug"] = {
    "shop.py": """
        import os
        import sys


        def app(environ, start_response):
            if environ["PATH_INFO"] == "/boom":
                raise LookupError("boom")
            if environ["PATH_INFO"] == "/die":
                print("last words", file=sys.stderr)
                os._exit(3)
            body = environ["wsgi.input"].read()
            start_response("201 Created", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
            return [body]


        def reset():
            print("reset", file=sys.stderr)
    """,
    "run.py": """
        import contextlib

        import httpx
        import socketless

        with CLIENT as worker:
            with httpx.Client(transport=socketless.IpcTransport(worker), base_url="http://testserver") as client:
                client.post("/echo?a=1", content=b"four", headers={"X-One": "1"})
                client.post("/echo", content=iter([b"one", b"two"]))
                with contextlib.suppress(LookupError):
                    client.get("/boom")
                worker.reset()
                worker.run(len, "abc")
                if isinstance(worker, socketless.IpcProcess):
                    with contextlib.suppress(socketless.errors.WorkerDied):
                        client.get("/die")
                    client.get("/again")
    """,
}


@pytest.mark.parametrize("kind", ["debugged thread", "debugged process"])
def test_debug(see: See, kind: str) -> None:
    """With debug=True, standard error tells of the start, of each message on both sides, and of the end."""
    where = "threads" if kind == "debugged thread" else "spawn, pid N"
    expected = f"""
        started 'shop:app': {where}
        ready: wsgi app, after N s
        > POST http://testserver:80/echo?a=1 (7 headers, 4 bytes)
        the worker has received POST http://testserver:80/echo?a=1 (7 headers, 4 bytes)
        < POST /echo?a=1: 201 (2 headers, 4 bytes)
        > POST http://testserver:80/echo (6 headers, 0 bytes and more)
        the worker has received POST http://testserver:80/echo (6 headers, 0 bytes and more)
        < POST /echo: 201 (2 headers, 6 bytes)
        > GET http://testserver:80/boom (5 headers, 0 bytes)
        the worker has received GET http://testserver:80/boom (5 headers, 0 bytes)
        < GET /boom: raised LookupError: boom
        > the reset hook
        the worker has received the reset hook
        reset
        < the reset hook: Done
        > run(len)
        the worker has received run(len)
        < run(len): Result
    """
    text = see("debug", kind, command="run").text
    text = re.sub(r"(?<=pid )\d+|(?<=after )\d+\.\d+(?= s)", "N", text)
    shown = [line.removeprefix("[socketless] ") for line in text.splitlines()]
    lines = dedent(expected).splitlines()
    assert shown[: len(lines)] == lines
    assert shown[-1] == f"stopping {where}"
    if kind == "debugged thread":
        assert len(shown) == len(lines) + 1
        return
    death = shown[len(lines) :]
    assert death[:5] == [
        "> GET http://testserver:80/die (5 headers, 0 bytes)",
        "the worker has received GET http://testserver:80/die (5 headers, 0 bytes)",
        "last words",
        "< GET /die: WorkerDied",
        "> GET http://testserver:80/again (5 headers, 0 bytes)",
    ]
    assert death[5] == "restart: pid N exited with code 3"
    assert death[-6:-1] == [
        "    | last words",
        "started 'shop:app': spawn, pid N",
        "ready: wsgi app, after N s",
        "the worker has received GET http://testserver:80/again (5 headers, 0 bytes)",
        "< GET /again: 201 (2 headers, 0 bytes)",
    ]
