"""`socketless run`, run for real: a module or a script runs as under Python itself, with the switch on."""

from __future__ import annotations

import os
import py_compile
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from commands import LIMIT, MODULE, TESTS, Outcome, environment, run, traceback_of, without_colours
from projects import under
from support import without_path

APP = "apps.shop_app:app"
FORK = ("--start-method", "fork")  # in no time; what follows may say otherwise
USAGE = """\
Usage: socketless run [OPTIONS] APP -m MODULE | SCRIPT [ARGS]...
Try 'socketless run --help' for help.

"""
PROFILES = ["none", "codex", "strict"]


def write(folder: Path, **files: str) -> Path:
    """Write files into a folder, by names without `.py`; `__` in a name is a slash."""
    for name, text in files.items():
        path = folder / (name.replace("__SLASH__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def socketless_run(*args: str, folder: Path, profile: str = "strict", env: dict[str, str] | None = None) -> Outcome:
    """Run `socketless run` in a folder, where the apps of the tests can be imported, too."""
    path = os.pathsep.join(filter(None, [str(TESTS), os.environ.get("PYTHONPATH", "")]))
    return run([*under(profile), *MODULE, "run", *FORK, *args], folder=folder, env={"PYTHONPATH": path, **(env or {})})


# With the tests of a project

TESTS_OF_A_PROJECT = """\
import asyncio, threading, httpx

def test_port_that_nobody_listens_on():
    assert httpx.get("http://127.0.0.1:8000/tea").text == "tea"

def test_loop_that_another_thread_wakes():
    async def main():
        return [await asyncio.to_thread(abs, -1) for _ in range(100)]
    assert sum(asyncio.run(main())) == 100
"""


@pytest.mark.parametrize("profile", PROFILES)
def test_pytest(tmp_path: Path, profile: str) -> None:
    """`run APP -m pytest` sends the tests' httpx to the app, and lets their event loops wake, under every profile."""
    write(tmp_path, test_shop=TESTS_OF_A_PROJECT)
    args = ["-q", "-p", "no:cacheprovider", "-W", "error", "-p", "no:asyncio"]
    code, stdout, stderr = socketless_run(APP, "-m", "pytest", *args, folder=tmp_path, profile=profile)
    assert (code, stderr) == (0, "")
    assert "2 passed" in without_colours(stdout)
    assert "warning" not in stdout


@pytest.mark.parametrize("profile", PROFILES)
def test_unittest(tmp_path: Path, profile: str) -> None:
    """`python -m unittest` finds the tests, and its loops wake without a line in the tests."""
    write(
        tmp_path,
        functions=TESTS_OF_A_PROJECT,
        test_shop="""\
import functions, unittest

def load_tests(*_):
    tests = (function for name, function in vars(functions).items() if name.startswith("test"))
    return unittest.TestSuite(map(unittest.FunctionTestCase, tests))
""",
    )
    code, stdout, stderr = socketless_run(APP, "-m", "unittest", folder=tmp_path, profile=profile)
    assert (code, stdout) == (0, "")
    assert stderr.endswith("\nOK\n")
    assert "Ran 2 tests" in stderr


def test_exit_code_and_output_of_pytest(tmp_path: Path) -> None:
    """A failing test has pytest's exit code and report; no test at all has another one."""
    write(tmp_path, test_x="def test():\n    print('said')\n    assert 1 == 2\n")
    code, stdout, _ = socketless_run(APP, "-m", "pytest", "-q", "-p", "no:cacheprovider", folder=tmp_path)
    assert code == 1
    assert "said" in stdout
    assert "assert 1 == 2" in stdout
    assert socketless_run(APP, "-m", "pytest", "-k", "nothing", folder=tmp_path).code == 5


# What the program sees

SHOW = """\
import os, sys
print(__name__, __package__, __spec__ and __spec__.name, os.path.relpath(__file__))
print(sys.argv[0] == __file__ or sys.argv[0], sys.argv[1:])
print([os.path.relpath(entry) for entry in sys.path[:1]])
print(sys.modules["__main__"].__dict__ is globals(), type(__loader__).__name__, __builtins__.__name__)
print(sorted({"__cached__", "__doc__"} & set(globals())))
"""


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(["show.py", "a", "--debug", "-m", "x", "-h"], id="script"),
        pytest.param(["./sub/show.py"], id="script in a folder"),
        pytest.param(["link.py"], id="link to a script"),
        pytest.param(["-m", "show", "--debug", "-h", "--", "b"], id="module"),
        pytest.param(["-mshow", "-m"], id="-mshow"),
        pytest.param(["-m", "pkg"], id="package"),
        pytest.param(["-m", "pkg.inner", "--", "x"], id="module in a package"),
        pytest.param(["-m", "space.inner"], id="module in a namespace package"),
        pytest.param(["sub", "a"], id="folder"),
        pytest.param(["show.zip", "a"], id="zip file"),
        pytest.param(["compiled.pyc", "a"], id="compiled"),
    ],
)
def test_program_sees_what_it_sees_under_python(
    tmp_path: Path, args: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Name, package, spec, file, argv, the path's first entry: all are as after `python`."""
    write(tmp_path, show=SHOW, sub__SLASH__show=SHOW, sub__SLASH____main__=SHOW, pkg__SLASH____init__="")
    write(tmp_path, pkg__SLASH____main__=SHOW, pkg__SLASH__inner=SHOW, space__SLASH__inner=SHOW)
    (tmp_path / "link.py").symlink_to("sub/show.py")
    with zipfile.ZipFile(tmp_path / "show.zip", "w") as archive:
        archive.writestr("__main__.py", SHOW)
    monkeypatch.chdir(tmp_path)  # the file's name is as it was given
    py_compile.compile("show.py", cfile="compiled.pyc")
    under_python = run([sys.executable, *args], folder=tmp_path, env={"PYTHONPATH": str(TESTS)})
    assert under_python.code == 0, under_python.stderr
    assert socketless_run(APP, *args, folder=tmp_path) == under_python


def test_script_finds_its_neighbours_and_the_app(tmp_path: Path) -> None:
    """A script in another folder imports what is beside it, and the app is found in the current folder."""
    write(tmp_path, mine="from apps.shop_app import app", sub__SLASH__beside="URL = '/tea'")
    write(tmp_path, sub__SLASH__script="import httpx, beside\nprint(httpx.get(beside.URL).text)\n")
    assert socketless_run("mine:app", "sub/script.py", folder=tmp_path) == (0, "tea\n", "")


def test_console_script(tmp_path: Path) -> None:
    """Started by the console script, the folder of that is not on the program's path."""
    write(
        tmp_path,
        show="import sys; print(sys.path[:2])",
        bin__SLASH__tool="""\
import sys
from socketless.__main__ import main
sys.exit(main())
""",
    )
    env = {"PYTHONPATH": str(TESTS)}
    command = [sys.executable, "bin/tool.py", "run", APP, "-m", "show"]
    assert run(command, folder=tmp_path, env=env) == (0, f"{[str(tmp_path), str(TESTS)]}\n", "")


def test_children_of_multiprocessing(tmp_path: Path) -> None:
    """A program's own processes, spawned, find its `__main__`, as a module and as a script."""
    write(
        tmp_path,
        prog="""\
import multiprocessing

def work(writer):
    writer.send(__name__)

if __name__ == "__main__":
    reader, writer = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=work, args=(writer,))
    process.start()
    print(reader.recv())
    process.join()
""",
    )
    for args in (["prog.py"], ["-m", "prog"]):
        assert socketless_run(APP, *args, folder=tmp_path) == (0, "__mp_main__\n", "")


# How it ends


# Of a fork beside other threads, as those that watch the worker, Python 3.12 warns.
QUIET = "import warnings; warnings.simplefilter('ignore')\n"


def ends(folder: Path, program: str, *args: str) -> Outcome:
    write(folder, prog=f"import os, sys, httpx\nprint(httpx.get('/pid').text, flush=True)\n{program}\n")
    outcome = socketless_run(APP, *(args or ["prog.py"]), folder=folder)
    pid, _, rest = outcome.stdout.partition("\n")
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)
    return outcome._replace(stdout=rest)


@pytest.mark.parametrize(
    ("program", "expected"),
    [
        pytest.param("", (0, "", ""), id="its end"),
        pytest.param("sys.exit()", (0, "", ""), id="exit"),
        pytest.param("sys.exit(77)", (77, "", ""), id="exit with a code"),
        pytest.param("sys.exit('no luck')", (1, "", "no luck\n"), id="exit with a text"),
        pytest.param("raise SystemExit(None)", (0, "", ""), id="SystemExit"),
        pytest.param(f"{QUIET}if os.fork() == 0: sys.exit(3)\nprint(os.wait()[1] >> 8, httpx.get('/tea').text)",
                     (0, "3 tea\n", ""), id="a child that exits"),
        pytest.param(
            "import threading\nthreading.Thread(target=lambda: "
            "(threading.main_thread().join(), print(httpx.get('/tea').text))).start()",
            (0, "tea\n", ""), id="a thread that goes on"
        ),
        pytest.param("import atexit; atexit.register(lambda: print(httpx.get('/tea').text))", (0, "tea\n", ""),
                     id="an exit handler"),
    ],
)  # fmt: skip
def test_end_of_the_program(tmp_path: Path, program: str, expected: tuple[int, str, str]) -> None:
    """Exit code and output are the program's, its threads and exit handlers reach the app, and the worker ends."""
    assert ends(tmp_path, program) == expected


@pytest.mark.parametrize("args", [["prog.py"], ["-m", "prog"]])
def test_exception(tmp_path: Path, args: list[str]) -> None:
    """The traceback of an exception begins in the program, and the exit code is 1."""
    code, stdout, stderr = ends(tmp_path, "def f():\n    raise LookupError('boom')\nf()", *args)
    assert (code, stdout) == (1, "")
    assert traceback_of(stderr) == (
        "Traceback (most recent call last):\n"
        f'  File "{tmp_path}/prog.py", line N, in <module>\n    f()\n'
        f"  File \"{tmp_path}/prog.py\", line N, in f\n    raise LookupError('boom')\n"
        "LookupError: boom\n"
    )


def test_exception_hook_of_the_program(tmp_path: Path) -> None:
    """A program's own `sys.excepthook` gets its exception, with a traceback that begins in the program."""
    program = "sys.excepthook = lambda kind, value, tb: print(kind, value, tb.tb_frame.f_code.co_filename)\n1 / 0"
    assert ends(tmp_path, program) == (1, f"<class 'ZeroDivisionError'> division by zero {tmp_path}/prog.py\n", "")


def test_syntax_error(tmp_path: Path) -> None:
    """A script that is no Python is shown as Python shows it."""
    write(tmp_path, bad="print(\n")
    python = run([sys.executable, "bad.py"], folder=tmp_path)
    assert python.code == 1
    code, stdout, stderr = socketless_run(APP, "bad.py", folder=tmp_path)
    assert (code, stdout) == (1, "")
    assert stderr.replace(f"{tmp_path}/", "") == python.stderr.replace(f"{tmp_path}/", "")


def test_package_that_raises(tmp_path: Path) -> None:
    """The exception of the package that a module is in is shown without our lines, too."""
    write(tmp_path, pkg__SLASH____init__="import nowhere", pkg__SLASH__prog="")
    code, stdout, stderr = socketless_run(APP, "-m", "pkg.prog", folder=tmp_path)
    assert (code, stdout, traceback_of(stderr)) == (
        1,
        "",
        "Traceback (most recent call last):\n"
        f'  File "{tmp_path}/pkg/__init__.py", line N, in <module>\n    import nowhere\n'
        "ModuleNotFoundError: No module named 'nowhere'\n",
    )


def test_exception_of_click_is_the_programs(tmp_path: Path) -> None:
    """What the command line's own library would take for its own is shown as any exception."""
    code, _, stderr = ends(tmp_path, "import click\nraise click.UsageError('mine')")
    assert (code, stderr.splitlines()[-1]) == (1, "click.exceptions.UsageError: mine")


def test_ctrl_c(tmp_path: Path) -> None:
    """Ctrl-C ends the program as it does under Python: by the signal, after the traceback, and the worker ends, too."""
    ask = "import httpx, threading\nprint(httpx.get('/pid').text, flush=True)\n"
    write(tmp_path, prog=f"{ask}threading.Event().wait()\n")
    command = [*under("strict"), *MODULE, "run", APP, "prog.py"]
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment({"PYTHONPATH": str(TESTS)}),
    ) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=LIMIT)
    assert process.returncode == -signal.SIGINT
    assert stderr.splitlines()[-1] == "KeyboardInterrupt"
    assert "socketless" not in stderr
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_worker_that_dies_is_restarted(tmp_path: Path) -> None:
    """The app of a script in another folder is found again when its worker is replaced."""
    write(
        tmp_path,
        mine="from apps.shop_app import app",
        sub__SLASH__prog="""\
import httpx
try:
    httpx.get("/die")
except httpx.ReadError as error:
    print(type(error).__name__)
print(httpx.get("/tea").text)
""",
    )
    assert socketless_run("mine:app", "sub/prog.py", folder=tmp_path) == (0, "WorkerDied\ntea\n", "")


# Options

ASK = "import httpx, socketless\nprint(httpx.get('/tea').text)\nsocketless.reset_ipc_state()\n" + (
    "print(httpx.get('/where').text)\nprint(httpx.get('/cake').text)\n"
)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        pytest.param([], "tea\ntestserver  ['x']\ntea cake\n", id="none"),
        pytest.param(["--reset-hook", "apps.shop_app:reset"], "tea\ntestserver  ['x']\ncake\n", id="--reset-hook"),
        pytest.param(["--base-url", "https://a:81"], "tea\na:81  ['x']\ntea cake\n", id="--base-url"),
        pytest.param(["--root-path", "/r"], "tea\ntestserver /r ['x']\ntea cake\n", id="--root-path"),
        pytest.param(["--start-method", "fork", "--app-kind", "wsgi", "--startup-timeout", "20",
                      "--max-connections", "2"], "tea\ntestserver  ['x']\ntea cake\n", id="of the worker"),
    ],
)  # fmt: skip
def test_options(tmp_path: Path, options: list[str], expected: str) -> None:
    """Options before APP are those of the switch; what follows the script is the script's."""
    write(tmp_path, prog=ASK)
    assert socketless_run(*options, APP, "prog.py", "x", folder=tmp_path) == (0, expected, "")


def test_exceptions_of_the_app(tmp_path: Path) -> None:
    """What the app raises is raised in the program; with `--no-raise-app-exceptions` it is a 500."""
    write(tmp_path, prog="import httpx\nprint(httpx.get('/boom').status_code)\n")
    code, stdout, stderr = socketless_run(APP, "prog.py", folder=tmp_path)
    assert (code, stdout, stderr.splitlines()[-1]) == (1, "", "LookupError: no such item")
    code, stdout, _ = socketless_run("--no-raise-app-exceptions", APP, "prog.py", folder=tmp_path)
    assert (code, stdout) == (0, "500\n")


def test_debug(tmp_path: Path) -> None:
    """`--debug` before APP is ours, and behind the module it is not."""
    write(tmp_path, prog="import sys; print(sys.argv[1:])")
    for words in (["-m", "prog"], ["--", "-m", "prog"]):
        assert socketless_run(APP, *words, "--debug", folder=tmp_path) == (0, "['--debug']\n", "")
    path = f"{tmp_path}{os.pathsep}{TESTS}"
    command = [*MODULE, "run", "--debug", APP, "-m", "prog"]
    code, stdout, stderr = run(command, folder=tmp_path, env={"PYTHONPATH": path})
    assert (code, stdout) == (0, "[]\n")
    assert stderr.startswith("[socketless] started 'apps.shop_app:app': spawn, pid ")


# What goes wrong before it


def test_script_beside_a_namesake_of_the_app(tmp_path: Path) -> None:
    """Where the script's folder has another module of the app's name, nothing is run: it would be taken for the app."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "shop.py").write_text("app = None\n")
    (tmp_path / "scripts" / "shop.py").write_text("print('begun')\n")
    code, stdout, stderr = socketless_run("shop:app", "scripts/shop.py", folder=tmp_path)
    assert (code, stdout) == (2, "")
    assert stderr.endswith(
        "Error: APP 'shop:app' would be found in the folder of the script, not in the current one; rename one of the "
        "two.\n"
    )


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        pytest.param(
            ["nowhere:app"], "cannot import 'nowhere:app': there is no module 'nowhere' on sys.path\n", id="no module"
        ),
        pytest.param(
            ["apps.shop_app:fail"],
            "OSError: the database is away\nTraceback (most recent call last):\n"
            f'  File "{TESTS}/apps/shop_app.py", line N, in fail\n    raise OSError("the database is away")\n'
            "OSError: the database is away\nIt had printed:\nabout to fail\n",
            id="app that fails",
        ),
        pytest.param(
            ["--reset-hook", "apps.shop_app:nothing", APP],
            "the reset hook is not usable: cannot import 'apps.shop_app:nothing': module 'apps.shop_app' has no "
            "attribute 'nothing'\n",
            id="no reset hook",
        ),
    ],
)
def test_app_that_cannot_start(tmp_path: Path, args: list[str], expected: str) -> None:
    """Where the app cannot start, its error is shown, the exit code is 1, and the program does not begin."""
    write(tmp_path, prog="print('begun')")
    code, stdout, stderr = socketless_run(*args, "prog.py", folder=tmp_path)
    assert (code, stdout) == (1, "about to fail\n" if "apps.shop_app:fail" in args else "")
    assert traceback_of(without_path(stderr)) == f"WorkerStartError: the worker could not start: {expected}"


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], "Nothing to run: write '-m MODULE' or a script."),
        (["-m"], "-m needs the name of a module."),
        (
            ["--debug", "-m", "x"],
            "cannot run '--debug': after APP comes '-m MODULE' or a script; options of socketless come before APP.",
        ),
        (["nowhere.py"], "cannot run 'nowhere.py': No such file or directory."),
        (["pytest"], "cannot run 'pytest': No such file or directory. Did you mean '-m pytest'?"),
        (
            ["python", "-m", "pytest"],
            "cannot run 'python': No such file or directory. Leave out 'python': write after APP what you would write "
            "after it.",
        ),
        (["empty"], "cannot run 'empty': there is no '__main__' module in 'empty'."),
    ],
)
def test_usage_error(tmp_path: Path, args: list[str], expected: str) -> None:
    """Wrong usage says what is wrong, starts no worker, and exits with 2."""
    (tmp_path / "empty").mkdir()
    assert socketless_run("must.not.be:imported", *args, folder=tmp_path) == (2, "", f"{USAGE}Error: {expected}\n")


@pytest.mark.parametrize(
    ("name", "missing"), [("nowhere", "nowhere"), ("nowhere.x", "nowhere"), ("pkg.x", "pkg.x"), ("pkg", "pkg.__main__")]
)
def test_no_such_module(tmp_path: Path, name: str, missing: str) -> None:
    """A module that there is not is named in Python's words, with its exit code."""
    write(tmp_path, pkg__SLASH____init__="")
    assert socketless_run(APP, "-m", name, folder=tmp_path) == (
        1,
        "",
        f"{sys.executable}: No module named {missing!r}\n",
    )
