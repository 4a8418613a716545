"""A worker starts wherever the test code runs: scripts, notebooks, unittest, pytest, threads, event loops.

Each test writes a small project and runs it in a process of its own where sockets are refused; the usual ways of
starting one, also as it is.
"""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import nosock
from support import without_path

GENEROUS = 60  # seconds; only a hang takes as long
PYTEST = str(Path(sys.executable).with_name("pytest"))

# The apps say which process they are, so that no answer can come from this side by mistake.
SHOP = '''
import json, os, sys

print_header = ("Content-Type", "text/plain")


def app(environ, start_response):
    """A WSGI app: says in which module it is, or what it is asked for."""
    start_response("200 OK", [print_header, ("X-Pid", str(os.getpid()))])
    answers = {
        "/": __name__,
        "/sys.path": json.dumps(sys.path),
        "/cwd": os.getcwd(),
        "/env": os.environ.get("SHOP_NAME", "no name"),
    }
    return [answers[environ["PATH_INFO"]].encode()]
'''

# Of httpx without its command line, which takes nearly as long to import as all the rest.
ASKING = '''
import os, sys

sys.modules["httpx._main"] = None
import httpx
from socketless import IpcAsyncTransport, IpcTransport


def ask(worker, path="/"):
    """Return what the app answers, once it is sure that another process did."""
    with httpx.Client(transport=IpcTransport(worker), base_url="http://testserver") as client:
        return _text(worker, client.get(path))


async def ask_async(worker, path="/"):
    async with httpx.AsyncClient(transport=IpcAsyncTransport(worker), base_url="http://testserver") as client:
        return _text(worker, await client.get(path))


def _text(worker, response):
    assert response.status_code == 200
    assert response.headers["X-Pid"] == str(worker.pid) != str(os.getpid())
    return response.text
'''


class Done(NamedTuple):
    """How a process ended, and what it printed; durations are replaced by `N`."""

    exitcode: int
    stdout: str
    stderr: str = ""


class Project:
    """A directory with `shop.py`, `asking.py` and whatever the test adds, and a way to run commands in it."""

    def __init__(self, directory: Path, prefix: list[str]) -> None:
        self.directory = directory
        self._prefix = prefix
        self.write("shop.py", SHOP)
        self.write("asking.py", ASKING)

    def write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(self, *command: str, script: str = "", env: Mapping[str, str] | None = None, cwd: str = ".") -> Done:
        """Run a command; `script` is its standard input."""
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        done = subprocess.run(
            [*self._prefix, *command],
            cwd=self.directory / cwd,
            env={**ours, "COLUMNS": "80", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **(env or {})},
            input=script,
            capture_output=True,
            text=True,
            timeout=GENEROUS,
        )
        return Done(done.returncode, *(re.sub(r"in [\d.]+s", "in N s", text) for text in (done.stdout, done.stderr)))

    def python(self, *args: str, script: str = "", env: Mapping[str, str] | None = None, cwd: str = ".") -> Done:
        """Run the interpreter of this test."""
        return self.run(sys.executable, *args, script=script, env=env, cwd=cwd)


PLAIN: list[str] = []
REFUSED = [sys.executable, nosock.__file__, "strict"]
CAN_REFUSE = platform.system() == "Linux"


@pytest.fixture
def project(request: pytest.FixtureRequest, tmp_path: Path) -> Project:
    return Project(tmp_path, getattr(request, "param", REFUSED if CAN_REFUSE else PLAIN))


no_filter_here = pytest.mark.skipif(not CAN_REFUSE, reason="nosock.py is for Linux")
everywhere = pytest.mark.parametrize(
    "project",
    [pytest.param(PLAIN, id="plain"), pytest.param(REFUSED, id="strict", marks=no_filter_here)],
    indirect=True,
)
BOTH = '("spawn", "fork")'  # the start methods, one after the other in one process: each costs a test half as much


# Scripts

ASK_SHOP = """
from asking import ask
from socketless import IpcProcess

with IpcProcess("shop:app") as worker:
    print(ask(worker))
"""


@everywhere
def test_python_c(project: Project) -> None:
    """`python -c` can start a worker."""
    assert project.python("-c", ASK_SHOP) == Done(0, "shop\n")


@everywhere
def test_script_without_main_guard(project: Project) -> None:
    """A script needs no `if __name__ == "__main__":`, for the worker never runs it."""
    project.write("script.py", "print('once')\n" + ASK_SHOP)
    assert project.python("script.py") == Done(0, "once\nshop\n")


def test_module_as_a_script(project: Project) -> None:
    """`python -m package` can start a worker for an app of the package."""
    project.write("store/__init__.py", "")
    project.write("store/shop.py", SHOP)
    project.write("store/__main__.py", "print('once')\n" + ASK_SHOP.replace("shop:app", "store.shop:app"))
    assert project.python("-m", "store") == Done(0, "once\nstore.shop\n")


@everywhere
def test_standard_input(project: Project) -> None:
    """`python - < script` can start a worker."""
    assert project.python("-", script=ASK_SHOP) == Done(0, "shop\n")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_streams(project: Project, closed: str) -> None:
    """A process whose standard streams are closed, as that of a daemon, can start a worker."""
    script = f"""
from asking import ask
from socketless import IpcProcess

with open("answer", "w") as answer:
    for start_method in {BOTH}:
        with IpcProcess("shop:app", start_method=start_method) as worker:
            answer.write(ask(worker))
"""
    project.write("script.py", script)
    assert project.run("sh", "-c", f"{sys.executable} script.py {closed}") == Done(0, "")
    assert (project.directory / "answer").read_text() == "shopshop"


def test_warnings_as_errors(project: Project) -> None:
    """Neither side warns of anything under `python -W error`."""
    assert project.python("-W", "error", "-c", ASK_SHOP) == Done(0, "shop\n")


@pytest.mark.parametrize("flag", ["-B -O -s -bb", "-X dev"])
def test_interpreter_flags(project: Project, flag: str) -> None:
    """The usual flags of the interpreter change nothing."""
    assert project.python(*flag.split(), "-c", ASK_SHOP) == Done(0, "shop\n")


@pytest.mark.parametrize("flag", ["-I", "-E"])
def test_isolated_mode(project: Project, flag: str) -> None:
    """Under `python -I`, which leaves the script's directory out of `sys.path`, what is put there is the worker's."""
    if project.python(flag, "-c", "import socketless").exitcode != 0:
        pytest.skip(f"socketless is only on PYTHONPATH here, which {flag} ignores")
    insert = "import os, sys; sys.path.insert(0, os.getcwd())\n"
    assert project.python(flag, "-c", insert + ASK_SHOP) == Done(0, "shop\n")


# Apps that are defined where the worker is started

MAIN_FUNCTION = f"""
{SHOP}
from asking import ask
from socketless import IpcProcess

print("once")
with IpcProcess(app) as worker:
    print(ask(worker))
"""

RUNNERS: dict[str, tuple[str, ...]] = {
    "script": ("script.py",),
    "-c": ("-c", MAIN_FUNCTION),
    "stdin": ("-",),
    "runpy": ("-c", "import runpy; runpy.run_path('script.py', run_name='__main__')"),
    "exec": ("-c", "exec(compile(open('script.py').read(), '<cell 1>', 'exec'), {'__name__': '__main__'})"),
}
runners = pytest.mark.parametrize("command", RUNNERS.values(), ids=RUNNERS.keys())


@runners
def test_function_of_main(project: Project, command: tuple[str, ...]) -> None:
    """An app that is a function of the script, or of a notebook's cell, goes to the worker by value."""
    project.write("script.py", MAIN_FUNCTION)
    stdin = MAIN_FUNCTION if command == ("-",) else ""
    assert project.python(*command, script=stdin) == Done(0, "once\n__main__\n")


def test_where_functions_of_main_are(project: Project) -> None:
    """What the script's own app, reset hook and functions raise, warn of and wait in is shown at the script's lines."""
    project.write(
        "script.py",
        """
import threading, traceback, warnings
import httpx
from socketless import IpcProcess, IpcTransport

class Sold(Exception):
    def check(self):
        raise self

def app(environ, start_response):
    if environ["PATH_INFO"] == "/warns":
        warnings.warn("odd")
    if environ["PATH_INFO"] == "/raises":
        Sold("tea").check()
    if environ["PATH_INFO"] == "/waits":
        threading.Event().wait()
    start_response("200 OK", [])
    return [b""]

def hook():
    raise LookupError("of the hook")

def show(frames):
    print(*(f"{frame.name}: {frame.line}" for frame in frames if frame.filename == __file__), sep="; ")

def fail(call):
    try:
        call()
    except Exception as error:
        return error

with IpcProcess(app, reset_hook_path=hook) as worker:
    client = httpx.Client(transport=IpcTransport(worker), base_url="http://testserver")
    with warnings.catch_warnings(record=True) as seen:
        client.get("/warns")
    assert seen[0].filename == __file__
    print(open(__file__).readlines()[seen[0].lineno - 1].strip())
    for call in (lambda: client.get("/raises"), worker.reset, lambda: worker.run(Sold("out").check)):
        show(traceback.extract_tb(fail(call).__traceback__)[-2:])
    stack = ""
    while "Event().wait()" not in stack:  # how long it takes to come there is not to matter
        stack = fail(lambda: client.get("/waits", timeout=httpx.Timeout(60, read=0.1))).stack
    print(*stack.splitlines()[:2], sep="\\n")
""",
    )
    script = project.directory / "script.py"
    line = script.read_text().splitlines().index("        threading.Event().wait()") + 1
    assert project.python(str(script)) == Done(
        0,
        'warnings.warn("odd")\n'
        'app: Sold("tea").check(); check: raise self\n'
        'hook: raise LookupError("of the hook")\n'
        "check: raise self\n"
        f'  File "{script}", line {line}, in app\n'
        "    threading.Event().wait()\n",
    )


def test_async_function_of_main(project: Project) -> None:
    """An ASGI app that is a function of the script goes to the worker by value."""
    project.write(
        "script.py",
        """
import os
from asking import ask
from socketless import IpcProcess

async def app(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-pid", str(os.getpid()).encode())]})
    await send({"type": "http.response.body", "body": __name__.encode()})

with IpcProcess(app) as worker:
    print(worker.app_kind, ask(worker))
""",
    )
    assert project.python("script.py") == Done(0, "asgi __main__\n")


def test_fastapi_app_of_main(project: Project) -> None:
    """So does an app of FastAPI, with its routes, models and what they depend on."""
    project.write(
        "script.py",
        """
import os
from asking import ask
from fastapi import Depends, FastAPI, Response
from pydantic import BaseModel
from socketless import IpcProcess

class Item(BaseModel):
    name: str

def pid():
    return str(os.getpid())

app = FastAPI()
app.state.shop = "tea"

@app.get("/")
def home(response: Response, pid: str = Depends(pid)) -> Item:
    response.headers["x-pid"] = pid
    return Item(name=app.state.shop)

with IpcProcess(app) as worker:
    print(worker.app_kind, ask(worker))
""",
    )
    assert project.python("script.py") == Done(0, 'asgi {"name":"tea"}\n')


FLASK_MAIN = """
import os
from asking import ask
from flask import Flask
from socketless import IpcProcess, errors

app = Flask(__name__)

@app.get("/")
def home():
    return __name__, {"X-Pid": str(os.getpid())}

try:
    with IpcProcess(app, start_method=START_METHOD) as worker:
        print(ask(worker))
except errors.TransferError as error:
    print(error)
"""

CANNOT_PICKLE_FLASK = """\
the app <Flask '{name}'> cannot be sent to a spawned worker: it is not an attribute of a module that the worker can \
import, and it cannot be pickled: cannot pickle Flask object: REASON.
Give an import string ('package.module:app'), or a factory that makes it, or use start_method='fork', which takes any \
object.
"""


@pytest.mark.parametrize(("command", "name"), [("script.py", "script"), ("-", "<stdin>")], ids=["script", "stdin"])
def test_flask_app_of_main(project: Project, command: str, name: str) -> None:
    """A Flask app of the script, which cannot be pickled, is a TransferError that names import string and fork."""
    script = FLASK_MAIN.replace("START_METHOD", "'spawn'")
    project.write("script.py", script)
    done = project.python(command, script=script)
    # What of it cannot be pickled first is Flask's and Python's affair.
    said = re.sub(r"(Flask object: )cannot pickle .+\.\n", r"\1REASON.\n", done.stdout)
    assert done._replace(stdout=said) == Done(0, CANNOT_PICKLE_FLASK.format(name=name))


def test_flask_app_of_main_by_fork(project: Project) -> None:
    """A Flask app of the script goes to a forked worker."""
    assert project.python("-", script=FLASK_MAIN.replace("START_METHOD", "'fork'")) == Done(0, "__main__\n")


def test_closure_by_fork(project: Project) -> None:
    """A forked worker takes an app that holds what cannot be pickled."""
    script = """
import os, threading
from asking import ask
from socketless import IpcProcess

def make_app():
    lock, count = threading.Lock(), [0]
    def app(environ, start_response):
        with lock:
            count[0] += 1
        start_response("200 OK", [("X-Pid", str(os.getpid()))])
        return [f"request {count[0]}".encode()]
    return app, count

app, count = make_app()
with IpcProcess(app, start_method="fork") as worker:
    print(ask(worker))
    print(ask(worker))
print(count)
"""
    assert project.python("-", script=script) == Done(0, "request 1\nrequest 2\n[0]\n")


def test_object_of_an_imported_module(project: Project) -> None:
    """An app object of an importable module is imported by the worker, by its name: it need not be picklable."""
    project.write("store.py", FLASK_APP)
    script = """
from asking import ask
from socketless import IpcProcess
from store import app as renamed

with IpcProcess(renamed) as worker:
    print(ask(worker), worker)
"""
    done = project.python("-", script=script)
    assert done._replace(stdout=re.sub(r"\d+", "1", done.stdout)) == Done(
        0, "store <IpcProcess 'store:app', spawn, pid 1>\n"
    )


FLASK_APP = """
import os
from flask import Flask

app = Flask(__name__)

@app.get("/")
def home():
    return __name__, {"X-Pid": str(os.getpid())}
"""


# The module that defines the app starts the worker

SELF_STARTING = """
import os
from pathlib import Path

with open("imports.txt", "a") as file:
    file.write("imported\\n")

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"hello"]

from socketless import switch_to_ipc_connection
START
"""

START_REFUSED = """\
WorkerStartError the worker could not start: socketless.errors.StateError: a worker is importing this module to find \
its app, and the module starts a worker itself; start it in a function (a fixture, setUpModule) or under \
`if __name__ == '__main__':`
Traceback (most recent call last):
  File "{file}", line 13, in <module>
    switch = switch_to_ipc_connection({app}{options})
socketless.errors.StateError: a worker is importing this module to find its app, and the module starts a worker \
itself; start it in a function (a fixture, setUpModule) or under `if __name__ == '__main__':`
"""


@pytest.mark.parametrize("app", ["app", "'selfish:app'"])
def test_module_that_starts_a_worker_for_itself(project: Project, app: str) -> None:
    """A module that starts a worker for its own app at import time gets the reason, and one worker is all there is."""
    file = project.write("selfish.py", SELF_STARTING.replace("START", f"switch = switch_to_ipc_connection({app})"))
    script = """
from socketless import errors
try:
    import selfish
except errors.WorkerStartError as error:
    print(type(error).__name__, error)
    print(type(error.__cause__).__name__)
"""
    done = project.python("-", script=script)
    expected = START_REFUSED.format(file=file, app=app, options="")
    # Python 3.11 and 3.13 mark the spot in the line above; 3.10 does not.
    assert done._replace(stdout=re.sub(r"^ +[~^]+\n", "", done.stdout, flags=re.MULTILINE)) == Done(
        0, expected + "StateError\n"
    )
    assert (project.directory / "imports.txt").read_text() == "imported\n" * 2


def test_module_that_forks_a_worker_for_itself(project: Project) -> None:
    """With `fork` the worker imports nothing, so a module can start one for its own app object at import time."""
    start = 'with switch_to_ipc_connection(app, start_method="fork"): print(__import__("httpx").get("http://a/").text)'
    project.write("selfish.py", SELF_STARTING.replace("START", start))
    assert project.python("-c", "import selfish") == Done(0, "hello\n")
    assert (project.directory / "imports.txt").read_text() == "imported\n"


def test_script_that_starts_a_worker_for_itself(project: Project) -> None:
    """A script can start a worker for its own app at import time: the worker does not run the script."""
    start = 'with switch_to_ipc_connection(app): print(__import__("httpx").get("http://testserver/").text)'
    project.write("selfish.py", SELF_STARTING.replace("START", start))
    assert project.python("selfish.py") == Done(0, "hello\n")
    assert (project.directory / "imports.txt").read_text() == "imported\n"


# unittest and pytest

UNITTEST = """
import unittest
from asking import ask
from socketless import IpcProcess

def setUpModule():
    global worker
    worker = IpcProcess("shop:app")

def tearDownModule():
    worker.close()

class ShopTest(unittest.TestCase):
    def test_shop(self):
        self.assertEqual(ask(worker), "shop")

if __name__ == "__main__":
    unittest.main()
"""

UNITTEST_OK = """\
.
----------------------------------------------------------------------
Ran 1 test in N s

OK
"""

UNITTEST_COMMANDS: dict[str, tuple[str, ...]] = {
    "named": ("-m", "unittest", "test_shop"),
    "named-test": ("-m", "unittest", "test_shop.ShopTest.test_shop"),
    "file": ("-m", "unittest", "test_shop.py"),
    "discovered": ("-m", "unittest"),
    "discover": ("-m", "unittest", "discover", "-s", "."),
    "script": ("test_shop.py",),
    "warnings": ("-W", "error", "-m", "unittest"),
}


@pytest.mark.parametrize("command", UNITTEST_COMMANDS.values(), ids=UNITTEST_COMMANDS.keys())
def test_unittest(project: Project, command: tuple[str, ...]) -> None:
    """unittest can start a worker in setUpModule, however its tests are found."""
    project.write("test_shop.py", UNITTEST)
    assert project.python(*command) == Done(0, "", UNITTEST_OK)


def test_unittest_with_its_own_app(project: Project) -> None:
    """An app of a unittest module itself is imported by the worker, which does not run unittest again."""
    own = FLASK_APP + UNITTEST.replace('"shop:app"', "app").replace('"shop")', '"test_shop")')
    project.write("test_shop.py", own)
    assert project.python("-m", "unittest", "test_shop") == Done(0, "", UNITTEST_OK)


CONFTEST = """
import pytest
from socketless import IpcProcess

@pytest.fixture(scope="session")
def worker():
    with IpcProcess("shop:app") as worker:
        yield worker
"""

TEST_SHOP = """
from asking import ask

def test_shop(worker):
    assert ask(worker) == "shop"
"""

PYTEST_OPTIONS = ("-q", "-p", "no:cacheprovider", "-W", "error")
PYTEST_OK = f"{'.':<73}[100%]\n1 passed in N s\n"

pytests = pytest.mark.parametrize("command", [(PYTEST,), (sys.executable, "-m", "pytest")], ids=["script", "-m"])


@pytests
def test_pytest(project: Project, command: tuple[str, ...]) -> None:
    """The `pytest` script and `python -m pytest` can start a worker, in a fixture of conftest.py."""
    project.write("conftest.py", CONFTEST)
    project.write("test_shop.py", TEST_SHOP)
    assert project.run(*command, *PYTEST_OPTIONS) == Done(0, PYTEST_OK)


@pytest.mark.parametrize("mode", ["prepend", "append", "importlib"])
def test_pytest_finds_the_app_of_the_root(project: Project, mode: str) -> None:
    """Tests in a directory of their own reach the app of the project, in every import mode of pytest."""
    project.write("pytest.ini", "[pytest]\npythonpath = .\n")
    project.write("tests/conftest.py", CONFTEST)
    project.write("tests/test_shop.py", TEST_SHOP)
    done = project.run(PYTEST, *PYTEST_OPTIONS, f"--import-mode={mode}")
    assert done == Done(0, PYTEST_OK)


TEST_OWN_APP = """
from asking import ask
from socketless import IpcProcess

def test_app():
    with IpcProcess(app) as worker:
        assert ask(worker) == "test_own"
        assert "'test_own:app'" in repr(worker)
"""


@pytests
def test_pytest_with_its_own_app(project: Project, command: tuple[str, ...]) -> None:
    """An app object of the test module itself is imported by the worker."""
    project.write("test_own.py", FLASK_APP + TEST_OWN_APP)
    assert project.run(*command, *PYTEST_OPTIONS) == Done(0, PYTEST_OK)


def test_pytest_of_a_package_with_its_own_app(project: Project) -> None:
    """So is one of a test module in a package."""
    project.write("tests/__init__.py", "")
    own = FLASK_APP + TEST_OWN_APP.replace("test_own", "tests.test_own")
    project.write("tests/test_own.py", own)
    project.write("conftest.py", "")
    assert project.run(PYTEST, *PYTEST_OPTIONS) == Done(0, PYTEST_OK)


@pytest.mark.parametrize("start_method", ["spawn", "fork"])
def test_pytest_main_in_a_script(project: Project, start_method: str) -> None:
    """`pytest.main()` in a script without a guard runs once."""
    project.write("conftest.py", CONFTEST.replace('"shop:app"', f'"shop:app", start_method="{start_method}"'))
    project.write("test_shop.py", TEST_SHOP)
    script = f"import pytest, sys; sys.exit(pytest.main({[*PYTEST_OPTIONS]!r}))"
    project.write("script.py", script)
    assert project.python("script.py") == Done(0, PYTEST_OK)


# Threads and event loops


@everywhere
def test_from_a_thread(project: Project) -> None:
    """A thread can start a worker while others run, and another thread can use and close it."""
    script = f"""
import threading
from asking import ask
from socketless import IpcProcess

workers = []
leave = threading.Event()
bystander = threading.Thread(target=leave.wait)
bystander.start()
for start_method in {BOTH}:
    starter = threading.Thread(target=lambda: workers.append(IpcProcess("shop:app", start_method=start_method)))
    starter.start()
    starter.join()
    print(ask(workers[-1]))
    workers[-1].close()
leave.set()
bystander.join()
"""
    assert project.python("-", script=script) == Done(0, "shop\nshop\n")


def test_from_many_threads(project: Project) -> None:
    """Threads can start workers at the same time, by both start methods; none holds on to another's pipes."""
    script = """
from concurrent.futures import ThreadPoolExecutor
from asking import ask
from socketless import IpcProcess

def start_and_ask(start_method):
    with IpcProcess("shop:app", start_method=start_method) as worker:
        return ask(worker)

with ThreadPoolExecutor(6) as threads:
    print(*threads.map(start_and_ask, ["spawn", "fork"] * 3))
"""
    assert project.python("-", script=script) == Done(0, "shop shop shop shop shop shop\n")


IN_A_LOOP = """
import asyncio
from asking import ask, ask_async
from socketless import IpcProcess, eventloop

eventloop.install()

async def app(scope, receive, send):
    import os
    assert scope["type"] == "http"
    await asyncio.sleep(0)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x-pid", str(os.getpid()).encode())]})
    await send({"type": "http.response.body", "body": b"asgi"})

async def main():
    ticks = asyncio.create_task(asyncio.sleep(0, "the loop goes on"))
    for start_method in BOTH:
        for path in APPS:
            with IpcProcess(path, start_method=start_method) as worker:
                print(await ask_async(worker), ask(worker))
    print(await ticks)

asyncio.run(main())
"""


@everywhere
def test_from_a_running_event_loop(project: Project) -> None:
    """A coroutine can start a worker, whose ASGI app then has a loop of its own."""
    script = IN_A_LOOP.replace("APPS", "('shop:app', app)").replace("BOTH", BOTH)
    asked = "shop shop\nasgi asgi\n"
    assert project.python("-", script=script) == Done(0, f"{asked}{asked}the loop goes on\n")


def test_warnings_as_errors_beside_threads(project: Project) -> None:
    """A worker starts under `python -W error` while another one, and with it a thread that watches it, is there."""
    script = f"""
from asking import ask
from socketless import IpcProcess

for start_method in {BOTH}:
    with IpcProcess("shop:app", start_method=start_method) as first:
        with IpcProcess("shop:app", start_method=start_method) as second:
            print(ask(first), ask(second))
"""
    assert project.python("-W", "error", "-", script=script) == Done(0, "shop shop\nshop shop\n")


# What the worker sees of its surroundings


def test_sys_path_is_the_same(project: Project) -> None:
    """The worker has the `sys.path` of this process, whatever was done to it."""
    script = """
import json, sys
from asking import ask
from socketless import IpcProcess

sys.path[1:1] = ["relative/lib", "/no/such/directory", "with space:and colon"]
with IpcProcess("shop:app") as worker:
    print(json.loads(ask(worker, "/sys.path")) == sys.path)
"""
    assert project.python("-", script=script) == Done(0, "True\n")


@pytest.mark.parametrize("app", ["'stock:app'", "__import__('stock').app"])
def test_relative_sys_path_entry(project: Project, app: str) -> None:
    """An app that is found by a relative entry of `sys.path` is found by the worker."""
    project.write("lib/stock.py", SHOP)
    script = f"""
import sys
sys.path.append("lib")
from asking import ask
from socketless import IpcProcess

for start_method in {BOTH}:
    with IpcProcess({app}, start_method=start_method) as worker:
        print(ask(worker))
"""
    assert project.python("-", script=script) == Done(0, "stock\nstock\n")


def test_relative_sys_path_entry_in_another_directory(project: Project) -> None:
    """An app module is looked for from where the worker starts, and where it is not found the error says so."""
    project.write("lib/stock.py", SHOP)
    project.write("elsewhere/empty.txt", "")
    script = """
import os, sys
sys.path.append("lib")
import stock
from socketless import IpcProcess, errors

os.chdir("elsewhere")
try:
    IpcProcess("stock:app")
except errors.WorkerStartError as error:
    print(error)
"""
    expected = "the worker could not start: cannot import 'stock:app': there is no module 'stock' on sys.path\n"
    done = project.python("-", script=script)
    assert (done.exitcode, without_path(done.stdout)) == (0, expected)


def test_current_directory(project: Project) -> None:
    """The worker runs in the current directory of this process at the start."""
    project.write("elsewhere/empty.txt", "")
    script = f"""
import os, sys
from asking import ask
from socketless import IpcProcess

sys.path.append(os.getcwd())
for start_method in {BOTH}:
    os.chdir("elsewhere")
    with IpcProcess("shop:app", start_method=start_method) as worker:
        os.chdir("..")
        print(os.path.relpath(ask(worker, "/cwd")))
"""
    assert project.python("-", script=script) == Done(0, "elsewhere\nelsewhere\n")


def test_pythonpath(project: Project) -> None:
    """An app that is found by PYTHONPATH is found by the worker."""
    project.write("elsewhere/empty.txt", "")
    paths = [str(project.directory), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = project.python("-c", ASK_SHOP, env={"PYTHONPATH": os.pathsep.join(paths)}, cwd="elsewhere")
    assert done == Done(0, "shop\n")


def test_environment(project: Project) -> None:
    """The worker has this process's environment of this moment with what `env` adds, and this process keeps its own."""
    script = f"""
import os
from asking import ask
from socketless import IpcProcess

for start_method in {BOTH}:
    for env in (None, {{}}, {{"SHOP_NAME": "worker's"}}):
        with IpcProcess("shop:app", start_method=start_method, env=env) as worker:
            print(ask(worker, "/env"))
os.environ["SHOP_NAME"] = "set just now"
for start_method in {BOTH}:
    with IpcProcess("shop:app", start_method=start_method) as worker:
        print(ask(worker, "/env"))
print(os.environ["SHOP_NAME"])
"""
    seen = ["host's", "host's", "worker's"] * 2 + ["set just now"] * 3
    assert project.python("-", script=script, env={"SHOP_NAME": "host's"}) == Done(0, "\n".join([*seen, ""]))
