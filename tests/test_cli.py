"""`socketless request`, run for real: what a person sees in a pipe and on a terminal, and the exit codes."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from commands import (
    LIMIT,
    MODULE,
    TESTS,
    Outcome,
    environment,
    read_to_end,
    run,
    run_on_terminal,
    traceback_of,
    without_colours,
)
from socketless import __version__
from socketless._cli import cli
from support import without_path

APP = "apps.cli_app:app"
FORK = ("--start-method", "fork")  # in no time; what follows may say otherwise

# Leave out of a verbose request what depends on the versions of httpx and of its codecs.
PLAIN_HEADERS = ["-h", "User-Agent", "test", "-h", "Accept-Encoding", "identity"]
VERBOSE_HEAD = """\
{} HTTP/1.1
Host: testserver
Accept: */*
Connection: keep-alive
User-Agent: test
Accept-Encoding: identity
"""
USAGE = """\
Usage: socketless request [OPTIONS] APP URL
Try 'socketless request --help' for help.

"""


def request(*args: str, stdin: bytes = b"", app: str = APP) -> Outcome:
    """Run `socketless request` with its streams in pipes."""
    return run([*MODULE, "request", app, *FORK, *args], stdin)


def request_to(stdout: int, *args: str) -> tuple[int, str]:
    """Run `socketless request` with stdout in a file; return the code and what it writes to stderr."""
    command = [*MODULE, "request", APP, *args]
    done = subprocess.run(
        command, check=False, stdout=stdout, stderr=subprocess.PIPE, cwd=TESTS, env=environment(), timeout=LIMIT
    )
    return done.returncode, done.stderr.decode()


def on_terminal(*args: str, stderr: bool = False, app: str = APP, env: dict[str, str] | None = None) -> tuple[int, str]:
    """Run `socketless request` with stdout, or stderr, on a terminal of 80 columns; return the code and its text."""
    return run_on_terminal([*MODULE, "request", app, *FORK, *args], stderr=stderr, env=env)


def usage_error(text: str) -> Outcome:
    return Outcome(2, "", f"{USAGE}Error: {text}\n")


BOOM = f"""\
Traceback (most recent call last):
  File "{TESTS}/apps/cli_app.py", line N, in app
    return page(environ, start_response)
  File "{TESTS}/apps/cli_app.py", line N, in boom
    raise LookupError("no such user: 7")
LookupError: no such user: 7
"""


# The program


def test_module_runs_the_demo_app() -> None:
    """The demo app of the standard library answers `python -m socketless request`."""
    code, stdout, stderr = request("/", app="wsgiref.simple_server:demo_app")
    assert (code, stderr) == (0, "")
    assert stdout.startswith("Hello world!\n\n")
    assert "PATH_INFO = '/'\n" in stdout


def test_script_imports_app_from_the_current_directory(tmp_path: Path) -> None:
    """The console script finds an app in the current directory, although its own directory is another one."""
    script = Path(sys.executable).with_name("socketless")
    if not script.exists():  # not installed here: write what an installer writes
        script = tmp_path / "socketless"
        script.write_text("import sys\nfrom socketless.__main__ import main\nsys.exit(main())\n")
    assert run([sys.executable, str(script), "request", APP, "/echo"]) == (0, "GET |/echo\nHTTP_HOST: testserver\n", "")


def test_version() -> None:
    """`--version` prints the name and the version."""
    assert run([*MODULE, "--version"]) == (0, f"socketless {__version__}\n", "")


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_of_the_group(option: str) -> None:
    """`-h` and `--help` list the commands."""
    assert run([*MODULE, option]) == (
        0,
        """\
Usage: socketless [OPTIONS] COMMAND [ARGS]...

  HTTP without sockets: a WSGI or ASGI app runs in a worker process, and
  requests reach it over pipes.

Options:
  --version   Show the version and exit.
  -h, --help  Show this message and exit.

Commands:
  docs     Print a page of the documentation, or list the topics.
  doctor   Say what this sandbox refuses, what breaks, and what to write.
  request  Send one request to APP and print the response.
  rescue   Run a command where sockets are refused: servers and clients...
  run      Run a module or a script whose HTTP clients all reach APP, or...
  serve    Serve APP over HTTP/1.1, on a UNIX socket or on standard input...
""",
        "",
    )


@pytest.mark.parametrize("name", cli.list_commands(click.Context(cli)))
def test_list_of_commands(name: str) -> None:
    """What the list of commands says of each, for which none is imported, is how the help of that begins."""
    listed = cli.get_help(click.Context(cli, max_content_width=400, terminal_width=400)).split(f"\n  {name} ")[1]
    command = cli.get_command(click.Context(cli), name)
    assert command is not None
    assert listed.splitlines()[0].strip() == (command.help or "").split("\n\n")[0]


def test_help_imports_no_command() -> None:
    """The list of the commands is there before what they need."""
    program = (
        "import atexit, sys; sys.argv[1:] = ['--help']\n"
        "atexit.register(lambda: print({'asyncio', 'httpx', 'socketless._host'} & set(sys.modules)))\n"
        "from socketless.__main__ import main; main()"
    )
    code, stdout, stderr = run([sys.executable, "-c", program])
    assert (code, stdout.splitlines()[-1], stderr) == (0, "set()", "")


def test_help_of_request_names_every_option() -> None:
    """`request --help` names httpx's options by httpx's names, and the worker's."""
    code, stdout, stderr = run([*MODULE, "request", "--help"])
    assert (code, stderr) == (0, "")
    assert stdout.startswith("Usage: socketless request [OPTIONS] APP URL\n\n  Send one request to APP and print the")
    assert re.findall(r"^  ((?:-\w, )?--[a-z-]+)", stdout, re.MULTILINE) == [
        *("-m, --method", "-p, --params", "-c, --content", "-d, --data", "-f, --files", "-j, --json", "-h, --headers"),
        *("--cookies", "--auth", "--timeout", "--follow-redirects", "--download", "-v, --verbose"),
        *("--app-kind", "--start-method", "--startup-timeout", "--root-path", "--lifespan", "--backend", "--debug"),
        "--help",
    ]


def test_missing_dependency() -> None:
    """Without httpx, which is required, Python's own error is shown."""
    program = (
        "import runpy, sys; sys.modules['httpx'] = None; sys.argv[1:] = ['request', 'a:b', '/']\n"
        "runpy.run_module('socketless', run_name='__main__')"
    )
    code, stdout, stderr = run([sys.executable, "-c", program])
    assert (code, stdout) == (1, "")
    assert "\nModuleNotFoundError: import of httpx halted; None in sys.modules" in stderr  # and more from 3.15 on


# The request


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        pytest.param(["/echo"], "GET |/echo\nHTTP_HOST: testserver\n", id="a path"),
        pytest.param(["echo?a=1"], "GET |/echo?a=1\nHTTP_HOST: testserver\n", id="a path without its slash"),
        pytest.param(
            ["https://example.org:8000/echo?a=1"], "GET |/echo?a=1\nHTTP_HOST: example.org:8000\n", id="a whole URL"
        ),
        pytest.param(["/echo", "-m", "put"], "PUT |/echo\nHTTP_HOST: testserver\n", id="-m"),
        pytest.param(["/echo", "--method", "DELETE"], "DELETE |/echo\nHTTP_HOST: testserver\n", id="--method"),
        pytest.param(
            ["/echo?a=1", "-p", "b", "2", "--params", "b", "ä &"],
            "GET |/echo?a=1&b=2&b=%C3%A4+%26\nHTTP_HOST: testserver\n",
            id="-p adds to the query",
        ),
        pytest.param(["/echo", "-c", "häh"], "POST |/echo\nHTTP_HOST: testserver\nhäh", id="-c"),
        pytest.param(["/echo", "-c", ""], "POST |/echo\nHTTP_HOST: testserver\n", id="-c with nothing"),
        pytest.param(
            ["/echo", "--content", "x", "-m", "PATCH"], "PATCH |/echo\nHTTP_HOST: testserver\nx", id="-c and -m"
        ),
        pytest.param(
            ["/echo", "-d", "a", "1", "-d", "b", "&", "--data", "a", "2"],
            "POST |/echo\nHTTP_HOST: testserver\nCONTENT_TYPE: application/x-www-form-urlencoded\na=1&a=2&b=%26",
            id="-d",
        ),
        pytest.param(
            ["/echo", "-j", '{"a": [1, null, "ä"]}'],
            'POST |/echo\nHTTP_HOST: testserver\nCONTENT_TYPE: application/json\n{"a":[1,null,"ä"]}',
            id="-j",
        ),
        pytest.param(
            ["/echo", "--json", "null", "-h", "content-type", "text/json"],
            "POST |/echo\nHTTP_HOST: testserver\nCONTENT_TYPE: text/json\nnull",
            id="-j with null and its own type",
        ),
        pytest.param(
            ["/echo", "-h", "X-Tag", "a", "--headers", "x-tag", "b"],
            "GET |/echo\nHTTP_HOST: testserver\nHTTP_X_TAG: a,b\n",
            id="-h",
        ),
        pytest.param(["/echo", "-h", "Host", "example.org"], "GET |/echo\nHTTP_HOST: example.org\n", id="-h Host"),
        pytest.param(
            ["/echo", "--cookies", "a", "1", "--cookies", "b", "2"],
            "GET |/echo\nHTTP_HOST: testserver\nHTTP_COOKIE: a=1; b=2\n",
            id="--cookies",
        ),
        pytest.param(
            ["/echo", "--auth", "user", "pass"],
            "GET |/echo\nHTTP_HOST: testserver\nHTTP_AUTHORIZATION: Basic dXNlcjpwYXNz\n",
            id="--auth",
        ),
        pytest.param(["/echo", "--root-path", "/shop"], "GET /shop|/echo\nHTTP_HOST: testserver\n", id="--root-path"),
    ],
)
def test_what_the_app_gets(args: list[str], expected: str) -> None:
    """Each option reaches the app, and the body of its response is all that is printed."""
    assert request(*args) == (0, expected, "")


def test_files_are_sent_as_a_multipart_form(tmp_path: Path) -> None:
    """`-f` sends files and standard input, and `-d` their form's other fields."""
    path = tmp_path / "notes.txt"
    path.write_bytes(b"\xff\n")
    content_type = "multipart/form-data; boundary=cut"
    args = [
        "/echo",
        "-f",
        "one",
        str(path),
        "--files",
        "two",
        "-",
        "-d",
        "three",
        "3",
        "-h",
        "Content-Type",
        content_type,
    ]
    code, stdout, stderr = request(*args, stdin=b"typed")
    assert (code, stderr) == (0, "")
    assert stdout.encode("utf-8", "surrogateescape") == (
        f"POST |/echo\nHTTP_HOST: testserver\nCONTENT_TYPE: {content_type}\n".encode()
        + b'--cut\r\nContent-Disposition: form-data; name="three"\r\n\r\n3\r\n'
        + b'--cut\r\nContent-Disposition: form-data; name="one"; filename="notes.txt"\r\n'
        + b"Content-Type: text/plain\r\n\r\n\xff\n\r\n"
        + b'--cut\r\nContent-Disposition: form-data; name="two"; filename="<stdin>"\r\n'
        + b"Content-Type: application/octet-stream\r\n\r\ntyped\r\n--cut--\r\n"
    )


def test_bytes_that_are_no_utf8_arrive_as_they_were_typed() -> None:
    """A body and a header value in another encoding reach the app byte by byte."""
    code, stdout, stderr = request("/echo", "-c", os.fsdecode(b"\xff\xfe"), "-h", "X-Tag", os.fsdecode(b"J\xf6rg"))
    assert (code, stdout, stderr) == (0, "POST |/echo\nHTTP_HOST: testserver\nHTTP_X_TAG: J\udcf6rg\n\udcff\udcfe", "")


def test_password_is_asked_for_on_the_terminal() -> None:
    """`--auth USER -` asks for the password on the terminal and does not show it."""
    program = (  # a new session's first terminal is its own, as a login shell's is
        "import os, runpy; os.close(os.open(os.ttyname(0), os.O_RDWR));"
        "runpy.run_module('socketless', run_name='__main__')"
    )
    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", program, "request", APP, "/echo", "--auth", "user", "-"],
        stdin=slave,
        stdout=subprocess.PIPE,
        stderr=slave,
        cwd=TESTS,
        env=environment(),
        start_new_session=True,
    ) as process:
        os.close(slave)
        seen = b""
        while not seen.endswith(b"Password: "):
            seen += os.read(master, 1024)
        os.write(master, b"pass\n")
        stdout, _ = process.communicate(timeout=LIMIT)
        rest = read_to_end(master)
        os.close(master)
    assert stdout == b"GET |/echo\nHTTP_HOST: testserver\nHTTP_AUTHORIZATION: Basic dXNlcjpwYXNz\n"
    assert (process.returncode, seen, rest) == (0, b"Password: ", "\n")


# The worker


@pytest.mark.parametrize("path", ["apps.cli_app:make_app", "apps.cli_app:make_app()"])
def test_factory(path: str) -> None:
    """A factory makes the app, called by its name or by the import string."""
    assert request("/echo", app=path) == (0, "GET |/echo\nHTTP_HOST: testserver\n", "")


@pytest.mark.parametrize("kind", ["auto", "asgi"])
def test_asgi_app(kind: str) -> None:
    """An ASGI app runs with its lifespan, whose prints go to stderr, too."""
    assert request("/a", "--root-path", "/r", "--app-kind", kind, app="apps.cli_app:asgi_app") == (
        0,
        "/r|/r/a",
        "lifespan: startup\nlifespan: shutdown\n",
    )


def test_app_kind_decides_where_the_app_does_not_tell() -> None:
    """A callable that could be either runs with `--app-kind`, and without it says that it is needed."""
    assert request("/echo", "--app-kind", "wsgi", app="apps.cli_app:either").stdout.startswith("GET |/echo\n")
    assert request("/echo", app="apps.cli_app:either") == (
        1,
        "",
        (
            "WorkerStartError: the worker could not start: "
            "cannot tell whether 'apps.cli_app:either' is a WSGI or an ASGI app, it may be either; "
            "give app_kind='wsgi' or 'asgi'\n"
        ),
    )


@pytest.mark.parametrize(("method", "answer"), [("spawn", "no"), ("fork", "yes")])
def test_start_method(method: str, answer: str) -> None:
    """A spawned worker is a fresh interpreter, a forked one a copy of the command line's."""
    assert request("/has-click", "--start-method", method) == (0, answer, "")


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_prints_of_the_app_do_not_mix_into_the_body(method: str) -> None:
    """What the app prints, to either stream, goes to stderr."""
    assert request("/talk", "--start-method", method) == (0, "the body", "on stdout\non stderr\n")


def test_debug() -> None:
    """`--debug` tells on stderr what happens to the worker and to the request."""
    code, stdout, stderr = run([*MODULE, "request", APP, "/nothing", "--debug"])
    assert (code, stdout) == (0, "")
    assert re.sub(r"[\d.]+", "N", stderr) == (
        "[socketless] started 'appsNcli_app:app': spawn, pid N\n"
        "[socketless] ready: wsgi app, after N s\n"
        "[socketless] > GET http://testserver:N/nothing (N headers, N bytes)\n"
        "[socketless] the worker has received GET http://testserver:N/nothing (N headers, N bytes)\n"
        "[socketless] < GET /nothing: N (N headers, N bytes)\n"
        "[socketless] stopping spawn, pid N\n"
    )


# The response in a pipe


def test_body_in_a_pipe_is_unchanged() -> None:
    """Bytes that are no text reach a pipe as they are."""
    assert request("/binary").stdout.encode("utf-8", "surrogateescape") == b"\x89PNG\r\n\x1a\n\0"


def test_verbose_in_a_pipe() -> None:
    """With `-v` the plain heads of the request and of the response precede the unchanged body."""
    assert request("/json", "-v", *PLAIN_HEADERS) == (
        0,
        VERBOSE_HEAD.format("GET /json")
        + '\nHTTP/1.1 200 OK\nContent-Type: application/json\n\n{"name":"Jörg","ids":[1,2]}',
        "",
    )


@pytest.mark.parametrize(("path", "body"), [("/not-found", "nothing here\n"), ("/problem", '{"title":"taken"}')])
def test_status_that_is_no_success_exits_with_1(path: str, body: str) -> None:
    """A response outside 2xx exits with 1 and is printed all the same."""
    assert request(path) == (1, body, "")


def test_redirect_is_not_followed_unasked() -> None:
    """A redirect is a response outside 2xx, too."""
    assert request("/redirect") == (1, "", "")


def test_redirect_is_followed() -> None:
    """`--follow-redirects` prints the last response, and sends it the cookies that were given and set."""
    assert request("/redirect", "--follow-redirects", "--cookies", "a", "1") == (
        0,
        "GET |/echo\nHTTP_HOST: testserver\nHTTP_COOKIE: a=1; seen=1\n",
        "",
    )


def test_verbose_shows_each_step_of_a_redirect() -> None:
    """With `-v` every request and response on the way is shown."""
    code, stdout, stderr = request("/redirect", "--follow-redirects", "--verbose", *PLAIN_HEADERS)
    assert (code, stderr) == (0, "")
    assert stdout == (
        VERBOSE_HEAD.format("GET /redirect")
        + "\nHTTP/1.1 302 Found\nLocation: /echo\nSet-Cookie: seen=1\n\n"
        + VERBOSE_HEAD.format("GET /echo")
        + "Cookie: seen=1\n"
        + "\nHTTP/1.1 200 OK\nContent-Type: text/plain; charset=utf-8\n\n"
        + "GET |/echo\nHTTP_HOST: testserver\nHTTP_COOKIE: seen=1\n"
    )


def test_download(tmp_path: Path) -> None:
    """`--download` saves the body and prints nothing; with `-v` the heads are still printed."""
    path = tmp_path / "image.png"
    assert request("/binary", "--download", str(path)) == (0, "", "")
    assert path.read_bytes() == b"\x89PNG\r\n\x1a\n\0"
    assert request("/nothing", "--download", str(path), "-v", *PLAIN_HEADERS) == (
        0,
        VERBOSE_HEAD.format("GET /nothing") + "\nHTTP/1.1 204 No Content\nX-Name: J\udcf6rg\n\n",
        "",
    )
    assert path.read_bytes() == b""


def test_download_that_cannot_be_written(tmp_path: Path) -> None:
    """A file that cannot be opened is named, and exits with 1."""
    path = tmp_path / "nowhere" / "file"
    assert request("/json", "--download", str(path)) == (
        1,
        "",
        f"Error: Could not open file '{path}': No such file or directory\n",
    )


def test_failed_request_leaves_the_download_as_it_was(tmp_path: Path) -> None:
    """Without a response, the file to save it to is not touched."""
    path = tmp_path / "file"
    path.write_bytes(b"before")
    assert request("/boom", "--download", str(path)).code == 1
    assert path.read_bytes() == b"before"


def test_closed_pipe_is_silent() -> None:
    """A reader that has seen enough (`| head`) leads to no message, and to the response's exit code."""
    reader, writer = os.pipe()
    os.close(reader)
    outcome = request_to(writer, "/echo", "-v")
    os.close(writer)
    assert outcome == (0, "")


@pytest.mark.parametrize("on_a_terminal", [False, True])
def test_body_is_printed_as_it_comes(tmp_path: Path, on_a_terminal: bool) -> None:
    """The first event is printed before the app has the second."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader, writer = pty.openpty() if on_a_terminal else os.pipe()
    command = [*MODULE, "request", APP, f"/stream?{fifo}", "--timeout", str(LIMIT)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=writer, cwd=TESTS, env=environment()) as process:
        os.close(writer)
        text = ""
        while "one" not in text:
            text += os.read(reader, 65536).decode()
        fifo.write_text("")  # waits until the app has opened it
        text += read_to_end(reader)
        assert process.wait(LIMIT) == 0
    os.close(reader)
    body = without_colours(text).replace("\r\n", "\n").removeprefix(EVENT_STREAM_HEAD * on_a_terminal)
    assert body == "data: one\n\ndata: two\n\n"


EVENT_STREAM_HEAD = "HTTP/1.1 200 OK\nContent-Type: text/event-stream\n\n"


def test_reader_that_has_seen_enough_of_an_endless_body() -> None:
    """When its reader leaves, an endless response ends, without a message."""
    command = [*MODULE, "request", APP, "/for-ever"]
    with subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=TESTS, env=environment()
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"again\n"
        process.stdout.close()
        assert (process.wait(LIMIT), process.stderr.read()) == (0, b"")


def test_app_that_raises_in_the_middle() -> None:
    """What came before the exception is printed, then the traceback, and the exit code is 1."""
    code, stdout, stderr = request("/half")
    assert (code, stdout, stderr.splitlines()[-1]) == (1, "the first half\n", "LookupError: no second half")


def test_full_disk() -> None:
    """Output that cannot be written exits with 1, and with the reason."""
    with open("/dev/full", "wb") as full:
        assert request_to(full.fileno(), "/echo") == (1, "OSError: [Errno 28] No space left on device\n")


# The response on a terminal


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param(
            "/json",
            'HTTP/1.1 200 OK\nContent-Type: application/json\n\n{\n    "name": "Jörg",\n    "ids": [\n        1,\n'
            "        2\n    ]\n}\n",
            id="JSON is indented",
        ),
        pytest.param(
            "/problem",
            'HTTP/1.1 409 Conflict\nContent-Type: application/problem+json\n\n{\n    "title": "taken"\n}\n',
            id="problem+json is JSON",
        ),
        pytest.param(
            "/bad-json", 'HTTP/1.1 200 OK\nContent-Type: application/json\n\n{"name":\n', id="bad JSON is as it is"
        ),
        pytest.param(
            "/surrogate",
            'HTTP/1.1 200 OK\nContent-Type: application/json\n\n"\\ud800"\n',
            id="what the terminal's encoding lacks is escaped",
        ),
        pytest.param(
            "/not-found",
            "HTTP/1.1 404 Not Found\nContent-Type: text/plain; charset=utf-8\n\nnothing here\n",
            id="text is as it is",
        ),
        pytest.param(
            "/long-line",
            "HTTP/1.1 200 OK\nContent-Type: text/plain; charset=utf-8\n\n" + "x" * 200 + "\n",
            id="long lines are not broken",
        ),
        pytest.param(
            "/binary", "HTTP/1.1 200 OK\nContent-Type: image/png\n\n<9 bytes of binary data>\n", id="binary data"
        ),
        pytest.param("/untyped", "HTTP/1.1 200 OK\n\nplain [red]text[/red]\n", id="text without a type"),
        pytest.param("/untyped?binary", "HTTP/1.1 200 OK\n\n<2 bytes of binary data>\n", id="bytes without a type"),
        pytest.param("/nothing", "HTTP/1.1 204 No Content\nX-Name: Jörg\n", id="no body"),
    ],
)
def test_terminal_shows(path: str, expected: str) -> None:
    """A terminal gets the status line, the headers, and the body in the form that people read it."""
    code, text = on_terminal(path)
    assert without_colours(text) == expected
    assert code == (0 if expected.startswith("HTTP/1.1 20") else 1)


def test_terminal_has_colours() -> None:
    """Heads and JSON have colours on a terminal."""
    _, text = on_terminal("/json")
    head, _, body = text.partition("\n\n")
    assert re.search(r"\x1b\[\d*;?9\dm200\x1b\[0m", head)
    assert re.search(r'\x1b\[\d*;?3\dm"Jörg"\x1b\[0m', body)


@pytest.mark.parametrize("env", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_terminal_without_colours(env: dict[str, str]) -> None:
    """NO_COLOR and a dumb terminal switch the colours off."""
    _, text = on_terminal("/json", env=env)
    assert re.findall(r"\x1b\[[0-9;]*[39]\dm", text) == []
    assert without_colours(text).startswith("HTTP/1.1 200 OK\n")


def test_terminal_without_rich() -> None:
    """Without rich, a terminal shows the same, only without colours; an error's first line is red all the same."""
    hide = "import runpy, sys; sys.modules['rich'] = None; runpy.run_module('socketless', run_name='__main__')"
    for path in ("/json", "/not-found", "/binary", "/nothing"):
        code, text = on_terminal(path)
        plain = run_on_terminal([sys.executable, "-c", hide, "request", APP, path])
        assert plain == (code, without_colours(text)) != (code, text)
    code, text = run_on_terminal([sys.executable, "-c", hide, "request", APP, "/break-rule"], stderr=True)
    assert (code, text[:21]) == (1, "\x1b[31mAppProtocolError")
    code, text = run_on_terminal([sys.executable, "-c", hide, "request", APP, "/boom"], stderr=True)
    assert (code, traceback_of(text)) == (1, BOOM)


def test_verbose_on_a_terminal() -> None:
    """With `-v` a terminal shows the request's head, too."""
    code, text = on_terminal("/echo", "-v", "-c", "x", *PLAIN_HEADERS)
    assert code == 0
    assert without_colours(text) == (
        VERBOSE_HEAD.format("POST /echo")
        + "Content-Length: 1\n"
        + "\nHTTP/1.1 200 OK\nContent-Type: text/plain; charset=utf-8\n\nPOST |/echo\nHTTP_HOST: testserver\nx\n"
    )


def test_terminal_shows_each_response_of_a_redirect() -> None:
    """A followed redirect is shown on a terminal before what it led to."""
    code, text = on_terminal("/redirect", "--follow-redirects")
    assert code == 0
    assert without_colours(text).startswith(
        "HTTP/1.1 302 Found\nLocation: /echo\nSet-Cookie: seen=1\n\nHTTP/1.1 200 OK\n"
    )


def test_download_on_a_terminal(tmp_path: Path) -> None:
    """`--download` on a terminal says what was saved where."""
    path = tmp_path / "image [1].png"
    code, text = on_terminal("/binary", "--download", str(path))
    assert (code, path.read_bytes()) == (0, b"\x89PNG\r\n\x1a\n\0")
    assert without_colours(text) == f"HTTP/1.1 200 OK\nContent-Type: image/png\n\n<9 bytes saved as {path}>\n"


# What goes wrong


def test_exception_of_the_app() -> None:
    """An app that raises shows its own traceback, without a frame of this package, and exits with 1."""
    code, stdout, stderr = request("/boom")
    assert (code, stdout, traceback_of(stderr)) == (1, "", BOOM)


def test_exception_of_the_app_on_a_terminal() -> None:
    """On a terminal the app's traceback has colours."""
    code, text = on_terminal("/boom", stderr=True)
    assert (code, traceback_of(without_colours(text))) == (1, BOOM)
    assert re.search(r"\x1b\[\d*;?[39]\dmLookupError\x1b\[0m: no such user: 7", text)


def test_app_that_raises_system_exit() -> None:
    """An app that calls sys.exit() does not end the command line."""
    code, stdout, stderr = request("/leave")
    assert (code, stdout, stderr.splitlines()[-1]) == (1, "", "SystemExit: the app leaves")


@pytest.mark.parametrize(
    ("app", "args", "expected"),
    [
        pytest.param(
            "nowhere:app",
            ["/"],
            "WorkerStartError: the worker could not start: "
            "cannot import 'nowhere:app': there is no module 'nowhere' on sys.path\n",
            id="no such module",
        ),
        pytest.param(
            "apps.cli_app:nothing",
            ["/"],
            "WorkerStartError: the worker could not start: "
            "cannot import 'apps.cli_app:nothing': module 'apps.cli_app' has no attribute 'nothing'. "
            "Did you mean: 'show_nothing'?\n",
            id="no such attribute",
        ),
        pytest.param(
            "apps.cli_app:fail",
            ["/"],
            "WorkerStartError: the worker could not start: OSError: the database is away\n"
            "Traceback (most recent call last):\n"
            f'  File "{TESTS}/apps/cli_app.py", line N, in fail\n    raise OSError("the database is away")\n'
            "OSError: the database is away\n",
            id="factory that raises",
        ),
        pytest.param(
            APP,
            ["/break-rule"],
            "AppProtocolError: the WSGI app returned without calling start_response() (PEP 3333)\n",
            id="broken protocol",
        ),
        pytest.param(
            APP, ["/loop", "--follow-redirects"], "TooManyRedirects: Exceeded maximum allowed redirects.\n", id="loop"
        ),
        pytest.param(
            APP,
            ["/bad-gzip"],
            "DecodingError: Error -3 while decompressing data: incorrect header check\n",
            id="bad encoding",
        ),
    ],
)
def test_error(app: str, args: list[str], expected: str) -> None:
    """An error of socketless or of httpx is its name and its text, without a traceback, and exits with 1."""
    code, stdout, stderr = request(*args, app=app)
    assert (code, stdout, traceback_of(without_path(stderr))) == (1, "", expected)


def test_timeout() -> None:
    """An app that takes longer than `--timeout` to answer is given up, and where it is then is shown."""
    code, stdout, stderr = request("/hang", "--timeout", "0.3")
    assert (code, stdout) == (1, "")
    first, second, *stack = stderr.splitlines()
    assert [first, second] == ["ReadTimeout: GET /hang: the app did not answer within 0.3 s", "The app is at:"]
    assert "    threading.Event().wait()" in stack


def test_error_on_a_terminal_is_red() -> None:
    """The first line of an error is red on a terminal, and is not broken."""
    code, text = on_terminal("/", stderr=True, app="nowhere:app")
    assert (code, without_path(text)) == (
        1,
        "\x1b[31mWorkerStartError: the worker could not start: cannot import 'nowhere:app': there is no module "
        "'nowhere' on sys.path\x1b[0m\n",
    )


def test_startup_timeout() -> None:
    """An app that takes longer than `--startup-timeout` to start is given up."""
    code, stdout, stderr = request("/", "--startup-timeout", "0.5", app="apps.cli_app:never")
    assert (code, stdout) == (1, "")
    assert stderr.startswith("WorkerStartError: the worker was not ready after 0.5 s; it is at:\n")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        pytest.param(
            ["/", "-c", "x", "-j", "1"],
            "-c/--content and -j/--json cannot be used together: a request has one body.",
            id="-c -j",
        ),
        pytest.param(
            ["/", "-d", "a", "1", "--json", "1"],
            "-j/--json and -d/--data cannot be used together: a request has one body.",
            id="-j -d",
        ),
        pytest.param(
            ["/", "-f", "a", "conftest.py", "-c", ""],
            "-c/--content and -f/--files cannot be used together: a request has one body.",
            id="-c -f",
        ),
        pytest.param(
            ["/", "-j", "{a}"],
            "Invalid value for '-j' / '--json': not valid JSON: "
            "Expecting property name enclosed in double quotes: line 1 column 2 (char 1).",
            id="-j {a}",
        ),
        pytest.param(
            ["/", "-j", "NaN"],
            "Invalid value for '-j' / '--json': not valid JSON.",
            id="-j NaN",
        ),
        pytest.param(
            ["/", "-f", "a", "no-file"],
            "Invalid value for '-f' / '--files': 'no-file': No such file or directory",
            id="-f, no file",
        ),
        pytest.param(
            ["/", "-f", "a", "apps"], "Invalid value for '-f' / '--files': 'apps': Is a directory", id="-f, directory"
        ),
        pytest.param(
            ["/", "-m", "GET /"], "Invalid value for '-m' / '--method': 'GET /' is not an HTTP method.", id="-m"
        ),
        pytest.param(
            ["/", "-h", "a b", "c"], "Invalid value for '-h' / '--headers': 'a b' is not a header name.", id="-h, name"
        ),
        pytest.param(
            ["/", "-h", "a", "b\nc: d"],
            "Invalid value for '-h' / '--headers': the value of 'a' has a line break or a NUL in it.",
            id="-h, value",
        ),
        pytest.param(
            ["/", "--timeout", "0"],
            "Invalid value for '--timeout': 0 is not a number of seconds above 0.",
            id="--timeout 0",
        ),
        pytest.param(
            ["/", "--startup-timeout", "nan"],
            "Invalid value for '--startup-timeout': nan is not a number of seconds above 0.",
            id="--startup-timeout nan",
        ),
        pytest.param(
            ["ftp://testserver/"],
            "Invalid value for 'URL': 'ftp://testserver/' is neither a path, like '/users?page=2', "
            "nor an http:// or https:// URL.",
            id="ftp",
        ),
        pytest.param(["http://h:port/"], "Invalid value for 'URL': Invalid port: 'port'.", id="bad URL"),
        pytest.param([], "Missing argument 'URL'.", id="no URL"),
    ],
)
def test_usage_error(args: list[str], expected: str) -> None:
    """Wrong usage says what is wrong, starts no worker, and exits with 2."""
    assert request(*args, app="must.not.be:imported") == usage_error(expected)


def test_argument_that_is_no_utf8() -> None:
    """A query parameter that is no UTF-8 is wrong usage, since a URL is UTF-8."""
    code, stdout, stderr = request("/echo", "-p", "a", os.fsdecode(b"\xff"))
    assert (code, stdout) == (2, "")
    assert stderr.startswith(f"{USAGE}Error: an argument is not valid UTF-8: ")
