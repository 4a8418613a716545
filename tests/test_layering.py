"""Who may import whom, read from the code."""

from __future__ import annotations

import ast
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

import socketless

PACKAGE = Path(socketless.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in PACKAGE.rglob("*.py")
}

# The parts of the package, and which other parts each may import. `socketless` itself is for everybody.
MAY_IMPORT = {
    "errors": set[str](),
    "_genuine": set[str](),
    "_locks": set[str](),
    "_import_watch": set[str](),
    "_extras": set[str](),
    "_forking": {"_genuine"},
    "eventloop": {"_genuine", "_import_watch"},
    "_loopback": {"_genuine", "_import_watch"},
    "_wire": {"errors", "_forking", "_genuine"},
    "_worker": {"_wire", "eventloop", "errors", "_genuine", "_locks"},
    "_host": {"_forking", "_wire", "errors", "_genuine", "_locks"},
    "_clients": {"_extras", "_host", "_wire", "errors", "_locks"},
    "_http11": {"_clients", "_extras", "_forking", "_host", "_wire", "errors", "_genuine", "_locks"},
    "_inloop": {"_host", "_wire", "_worker", "errors"},  # the worker is in the loop, too
    "websocket": {"_clients", "_host", "_wire", "errors"},
    "_httpx": {"_clients", "_http11.upgrade", "_host", "_wire", "errors"},
    "unix_server": {"_forking", "_host", "_http11", "_wire", "_genuine"},
    "_requests": {"_clients", "_extras", "_host", "unix_server", "_wire", "errors", "_genuine"},
    "_lowlevel": {"_clients", "_http11", "_host", "errors"},
    "_aiohttp": {"_clients", "_extras", "_host", "_http11", "_inloop", "_wire", "_worker.loading", "errors"},
    "_playwright": {"_clients", "_extras", "_host", "_switch", "_wire", "errors"},
    "_testclient": {
        "_host",
        "_httpx",
        "_inloop",
        "websocket",
        "_wire",
        "_worker.lifespan",
        "_worker.loading",
        "errors",
        "_locks",
    },
    "_switch": {
        "_aiohttp",
        "_clients",
        "errors",
        "_genuine",
        "_host",
        "_http11",
        "_httpx",
        "_import_watch",
        "_requests",
        "_testclient",
        "testclient",
        "websocket",
        "_wire",
    },
    "sandbox": {"errors", "_forking"},
    "advice": {"sandbox"},
    "pytest_plugin": {"errors", "_host", "_pytest", "_switch", "switch", "testclient"},
    "_pytest": {"django", "eventloop", "loopback", "playwright", "pytest_plugin", "sandbox", "switch"},
    "fakes": set[str](),
    "testcase": {"_host", "_switch", "switch", "testclient"},
    "django": {
        "_host",
        "_switch",
        "switch",
        "_wire.pickling",
        "_worker.app_threads",  # which threads of this process are a worker's
        "_worker.django",  # what is sent to a worker, to run beside the app
        "_worker.django_connections",  # which this process needs as well
        "errors",
    },
    "ipc": {"_host", "_httpx"},
    "transport": {"_httpx"},
    "docs": set[str](),
    "_cli": {
        "advice",
        "_clients",
        "eventloop",
        "_host",
        "_http11",
        "_httpx",
        "loopback",
        "sandbox",
        "unix_server",
        "_switch",
        "switch",
        "_extras",
        "_wire",
        "errors",
    },
    "__main__": {"_cli"},
    # What is public of a folder beside it.
    "aiohttp": {"_aiohttp", "_extras"},
    "loopback": {"_loopback"},
    "lowlevel": {"_lowlevel", "errors"},
    "playwright": {"_playwright", "_switch"},
    "requests": {"_extras", "_genuine", "_host", "_requests", "unix_server"},
    "switch": {"_switch"},
    "testclient": {"_testclient", "websocket"},
}

EXCEPTIONS = {
    ("socketless._host.fork", "_worker.main"),  # the entry point of a worker process
    ("socketless._host.guard", "_worker.descendants"),  # a program that ends a worker from outside
    ("socketless._host.thread_run", "_worker.thread"),  # that of a thread worker
    ("socketless._loopback.site.sitecustomize", "loopback"),  # the start of a process that is to have it
    ("socketless._host.worker", "websocket"),  # Worker.websocket_connect(), which imports it when it is called
}


def imports(path: Path, *, for_types: bool) -> set[str]:
    """Return the modules of the package that a file imports, in functions as well; for type checkers, if asked."""
    found = set()
    tree = ast.parse(path.read_text())
    if not for_types:
        tree.body = [node for node in tree.body if not ast.unparse(node).startswith("if TYPE_CHECKING:")]
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("socketless"):
            found |= {
                f"{node.module}.{alias.name}" if f"{node.module}.{alias.name}" in MODULES else node.module
                for alias in node.names
            }
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.startswith("socketless")}
    return found - {"socketless"}


@pytest.mark.parametrize("module", sorted(set(MODULES) - {"socketless"}))
def test_layers(module: str) -> None:
    """Each part of the package imports what it may import, and nothing else of it."""
    part = module.split(".")[1]
    for name in imports(MODULES[module], for_types=True):
        inner = name.removeprefix("socketless.")
        allowed = {part, *MAY_IMPORT[part]}
        if (module, inner) in EXCEPTIONS:
            continue
        assert any(inner == one or inner.startswith(one + ".") for one in allowed), f"{module} imports {name}"


def test_no_cycle() -> None:
    """No module imports itself by way of others, not even once a function is called."""
    graph = {module: imports(path, for_types=False) - {module} for module, path in MODULES.items()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"cycle: {' -> '.join([*trail, module])}"
        if module not in done:
            for other in graph[module]:
                visit(other, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize(
    ("program", "absent"),
    [
        ("import socketless", {"httpx", "werkzeug", "asgiref", "cloudpickle", "multiprocessing", "asyncio"}),
        ("import socketless._worker.main", {"httpx", "httpx2", "werkzeug", "asgiref", "click", "http.client"}),
        ("import socketless._worker.wsgi, socketless._worker.main", {"asgiref"}),
        ("import socketless._worker.asgi", {"httpx", "httpx2", "werkzeug", "click"}),
        ("import socketless._host.process", {"httpx", "httpx2", "werkzeug", "asgiref", "click"}),
        ("from socketless import IpcTransport", {"httpx2", "werkzeug", "asgiref", "trio"}),
        ("from socketless import IpcThread", {"httpx", "httpx2", "werkzeug", "asgiref", "trio"}),
        ("import socketless.switch", {"aiohttp"}),
        ("from socketless.testclient import TestClient", {"starlette", "werkzeug", "asgiref", "trio"}),
        ("import socketless.requests", {"requests", "urllib3", "httpx", "multiprocessing"}),
        pytest.param(
            *(
                "from socketless.requests import Session, UnixAdapter",
                {"httpx", "httpx2", "werkzeug", "asgiref", "h11"},
            ),
            marks=pytest.mark.skipif(importlib.util.find_spec("requests") is None, reason="it needs requests"),
        ),
        ("import socketless.switch", {"requests", "werkzeug", "asgiref", "trio"}),
    ],
)
def test_imports_nothing_heavy(program: str, absent: set[str]) -> None:
    """A part of the package loads nothing that it can do without."""
    code = f"import sys; before = set(sys.modules); {program}; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert set(loaded) & absent == set()


def test_public_names() -> None:
    """Every public name can be imported, and `dir()` shows it."""
    assert all(getattr(socketless, name) for name in socketless.__all__)
    assert set(socketless.__all__) <= set(dir(socketless))
    code = "import socketless; socketless.errors.WorkerDied, socketless.eventloop.install"
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="^module 'socketless' has no attribute 'IpcServer'$"):
        _ = socketless.IpcServer


# What opens a socket, or has asyncio open one. `socketless docs cli` says the same.
OPENS_SOCKETS = {
    "_loopback.processes",  # virtual ones
    "_loopback.real",  # for what is not on loopback
    "_loopback.socket_module",
    "_lowlevel.streams",
    "_requests.unix",
    "sandbox",
    "_switch.websockets",  # a client that asks for a UNIX socket gets one, as without the switch
    "unix_server",
}


def opens_sockets(path: Path) -> bool:
    calls = {"socket.socket", "socket.socketpair", "socket.create_connection", "socket.create_server", "socket.fromfd"}
    calls |= {"_socket.socket", "_socket.socketpair"}
    methods = {"create_unix_connection", "create_unix_server", "start_unix_server", "open_unix_connection"}
    return any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and (ast.unparse(node.func) in calls or node.func.attr in methods)
        for node in ast.walk(ast.parse(path.read_text()))
    )


def test_what_opens_sockets() -> None:
    """A few modules open sockets: a server, the clients of sockets, and what tries whether they are refused."""
    found = {module.removeprefix("socketless.") for module, path in MODULES.items() if opens_sockets(path)}
    assert found == OPENS_SOCKETS
