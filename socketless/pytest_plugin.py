"""The pytest plugin; pytest loads it by itself if socketless is installed.

pytest loads it in every project of the environment, so it imports what it needs when that is used, and does nothing to
tests that do not ask for it.
"""

from __future__ import annotations

import sys
import traceback
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from socketless._pytest import rescue

if TYPE_CHECKING:
    from typing import Literal

    from socketless._host.supervisor import Supervisor
    from socketless._host.worker import Worker
    from socketless.switch import Switch
    from socketless.testclient import TestClient

    _Scope = Literal["session", "package", "module", "class", "function"]

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["ipc_connection_fixture", "reset_between_tests_fixture"]

_LIVE_SERVER = ("thread", "spawn", "fork")

run_arguments: pytest.StashKey[Mapping[str, Any]] = pytest.StashKey()  # of the switch that `socketless run` has made
_workers_before = pytest.StashKey[list["Supervisor"]]()  # those that are not of this session's tests
_app_of_worker = pytest.StashKey[Any]()  # what `socketless_app` was when the worker was started

_is_renewed = pytest.StashKey[bool]()  # of a test: whether the worker was made ready for it
_errors_at_close = pytest.StashKey[list[tuple["Supervisor", Exception]]]()

_running: list[pytest.Config] = []  # pytest may run within a test of pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("socketless")
    group.addoption(
        "--socketless-app",
        metavar="[HOST=]APP",
        action="append",
        help="run 'package.module:app' or 'package.module:factory()' in a worker process, and send all requests of the "
        "tests' clients to it; with a host, only requests to that host. May be given several times",
    )
    parser.addini(
        "socketless_app", "the app, as with --socketless-app; several on a line each: 'api.test = package.module:app'"
    )
    parser.addini(
        "socketless_reset_hook",
        "the function to call in the worker before each test: 'package.module:function'; for several apps, on a line "
        "each, with the app's host: 'api.test = package.module:function'",
    )
    parser.addini(
        "socketless_others",
        "what happens to requests to hosts that no app has: pass (they are sent as without the switch) or refuse",
    )
    parser.addini("socketless_base_url", "the base of the clients' relative URLs", default="http://testserver")
    parser.addini(
        "socketless_eventloop",
        "make event loops wake by a pipe instead of a socket: auto (if this sandbox refuses sockets), on or off",
        default="auto",
    )
    parser.addini(
        "socketless_loopback",
        "let the tests' servers and clients on loopback, and at UNIX sockets, do without real sockets: auto (for the "
        "kinds that this sandbox refuses), on or off",
        default="auto",
    )
    parser.addini(
        "socketless_live_server",
        "where the fixture socketless_live_server (pytest-django) runs the app: thread, spawn (a process) or fork",
        default="thread",
    )


@pytest.hookimpl(tryfirst=True, hookwrapper=True)  # `wrapper` is unknown to pytest 7
def pytest_load_initial_conftests(early_config: pytest.Config) -> Generator[None, object, None]:
    # A wrapper is called before every other hook: a conftest.py, or Django's settings, may make a loop, or a switch.
    _begin(early_config)
    yield


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    _begin(config)  # where the plugin is registered later than usual, by a conftest.py
    if "socketless_run" in getattr(config, "workerinput", {}):
        config.stash[run_arguments] = config.workerinput["socketless_run"]  # type: ignore[attr-defined]
    if run_arguments in config.stash or _app_of(config):
        config.pluginmanager.import_plugin("socketless._pytest.switched")
    if run_arguments not in config.stash:
        _check_settings(config)
    _offer_live_server(config)
    _offer_page(config)


def _check_settings(config: pytest.Config) -> None:
    app, hook = _app_of(config), _hook_of(config)
    base_url, others = config.getini("socketless_base_url"), config.getini("socketless_others")
    if not str(base_url).startswith(("http://", "https://")):
        raise pytest.UsageError(f"socketless_base_url must begin with http:// or https://, not {base_url!r}")
    if others not in ("", "pass", "refuse"):
        raise pytest.UsageError(f"socketless_others must be pass or refuse, not {others!r}")
    if app and (isinstance(app, dict) or isinstance(hook, dict)):
        from socketless._switch.apps import check

        try:
            check(app, base_url, others or None, hook or None)
        except ValueError as error:
            raise pytest.UsageError(f"socketless_app: {error}") from None


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Say that the reset hook of the ini file is nobody's, where the app has been forgotten."""
    config = session.config
    if not config.getini("socketless_reset_hook") or _app_of(config) or run_arguments in config.stash:
        return
    if not session.items or any(_has_app(item) for item in session.items):
        return
    text = (
        "socketless_reset_hook is set, but no test has a worker to reset: write "
        "socketless_app = package.module:app as well"
    )
    try:
        warnings.warn(pytest.PytestConfigWarning(text), stacklevel=1)
    except pytest.PytestConfigWarning:  # where warnings are errors; a process of pytest-xdist cannot end so
        if not hasattr(config, "workerinput"):
            raise pytest.UsageError(text) from None


def _has_app(item: pytest.Item) -> bool:
    # A fixture of the person's own may be asked for when the test has begun, too.
    places = [getattr(item, "module", None), *item.config.pluginmanager.get_plugins()]
    is_overridden = any(hasattr(place, "socketless_app") for place in places if place is not sys.modules[__name__])
    return is_overridden or "socketless_worker" in getattr(item, "fixturenames", ())


def pytest_report_header(config: pytest.Config) -> list[str]:
    lines = rescue.header(config)
    if run_arguments in config.stash:
        lines.append(f"socketless: {_clients_go(config.stash[run_arguments]['app_import'])}")
        unused = {"socketless_app": _app_of(config), "socketless_reset_hook": _hook_of(config)}
        for name in filter(unused.get, unused):
            lines.append(f"socketless: {name} is not used, as pytest was started with a switch")
    elif _app_of(config):
        lines.append(f"socketless: {_clients_go(_app_of(config))}")
    return lines


def _clients_go(app: Any) -> str:
    if not isinstance(app, Mapping):
        return f"all clients go to {app}"
    return "clients go by host: " + ", ".join(f"{host} to {each}" for host, each in app.items())


def pytest_runtest_logstart() -> None:
    if "socketless._loopback.real" in sys.modules:
        from socketless._pytest import refusals

        refusals.forget()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(call: pytest.CallInfo[None]) -> Generator[None, object, None]:
    """Say in the report of a test that has failed for want of a socket what helps."""
    outcome: Any = yield
    report = outcome.get_result()
    if report.failed and call.excinfo is not None:
        from socketless._pytest import refusals

        hint = refusals.explain(call.excinfo.value)
        if hint is not None:
            report.sections.append(("socketless", hint))


@pytest.hookimpl(trylast=True, hookwrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, None]:
    """Close the workers that are left open: they save what coverage.py has counted, which pytest-cov reports next."""
    outcome: Any = yield
    if outcome.excinfo is None:  # else the fixtures of the session have yet to end: Ctrl-C, pytest.exit()
        _close_workers(session.config)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    _close_workers(session.config)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for worker, error in config.stash.get(_errors_at_close, []):
        terminalreporter.section(f"{worker!r} was left open, and raised when it was closed", red=True)
        terminalreporter.write("".join(traceback.format_exception(type(error), error, error.__traceback__)))


def _close_workers(config: pytest.Config) -> None:
    before = config.stash[_workers_before]  # of a pytest around this one, for example
    left = [worker for worker in _live_workers() if worker not in before]
    if left:
        from socketless._host.live import close_all

        config.stash.setdefault(_errors_at_close, []).extend(close_all(left))


def _live_workers() -> list[Supervisor]:
    module = sys.modules.get("socketless._host.live")
    return [] if module is None else module.live_workers()


def _app_of(config: pytest.Config) -> str | dict[str, str]:
    return _read("socketless_app", config.getoption("socketless_app") or _lines_of(config, "socketless_app"))


def _hook_of(config: pytest.Config) -> str | dict[str, str]:
    return _read("socketless_reset_hook", _lines_of(config, "socketless_reset_hook"))


def _lines_of(config: pytest.Config, name: str) -> list[str]:
    value = config.getini(name)
    if not isinstance(value, list):
        return str(value).splitlines()
    if not all(isinstance(line, str) for line in value):  # in pyproject.toml
        raise pytest.UsageError(f"{name}: must be a string, or a list of strings, not {value!r}")
    return value


def _read(name: str, lines: list[str]) -> str | dict[str, str]:
    if not lines:
        return ""
    from socketless._host.app_source import read_by_host

    try:
        return read_by_host(lines)
    except ValueError as error:
        raise pytest.UsageError(f"{name}: {error}") from None


def _begin(config: pytest.Config) -> None:
    if config in _running:
        return
    rescue.rescue(config)
    config.stash[_workers_before] = _live_workers()
    switch = "socketless.switch" in sys.modules and sys.modules["socketless.switch"].active_switch()
    if switch and not _running:
        config.stash[run_arguments] = switch.arguments
    _running.append(config)
    config.add_cleanup(lambda: _running.remove(config))


@pytest.fixture(scope="session")
def socketless_app(pytestconfig: pytest.Config) -> Any:
    """The app of `socketless_worker`: `--socketless-app`, or `socketless_app` of the ini file. May be overridden.

    If there are several apps, the value is a dict of them by their hosts.
    """
    app = _app_of(pytestconfig)
    if not app:
        pytest.fail(
            "there is no app: give --socketless-app=package.module:app, write socketless_app = package.module:app in "
            "the ini file, or define a fixture socketless_app with scope='session' that returns one",
            pytrace=False,
        )
    return app


@pytest.fixture(scope="session")
def socketless_worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    """The worker that runs `socketless_app`: a process for an import string, threads for an app object.

    Before each test that uses this fixture or `socketless_client`, the worker is reset; if it has died, it is
    restarted. If there are several workers, the value is the one with the host of `socketless_base_url`.
    """
    from socketless import IpcProcess, IpcThread
    from socketless._switch.apps import hooks_of, worker_of
    from socketless.switch import active_switch

    switch = active_switch()
    if switch is not None and run_arguments in request.config.stash:
        yield switch.worker
        return
    app = request.config.stash[_app_of_worker] = request.getfixturevalue("socketless_app")
    if isinstance(app, Mapping):
        workers, base_url = request.getfixturevalue("socketless_workers"), request.config.getini("socketless_base_url")
        worker = worker_of(workers, base_url)
        if worker is None:
            pytest.fail(
                f"there are several apps, and none has the host of socketless_base_url = {base_url}: set that to the "
                "host of one, or take a worker from the fixture socketless_workers by its host",
                pytrace=False,
            )
        yield worker
        return
    kind = IpcProcess if isinstance(app, str) else IpcThread
    hook = hooks_of({"*": app}, _hook_of(request.config) or None).get("*")
    with kind(app, reset_hook=hook) as worker:
        yield worker


@pytest.fixture(scope="session")
def socketless_workers(request: pytest.FixtureRequest) -> Iterator[Mapping[str, Worker]]:
    """The workers that run the apps of `socketless_app`, by their hosts; a single app has the host ``"*"``.

    Before each test that uses this fixture, they are reset as `socketless_worker` is.
    """
    from socketless._switch.apps import hooks_of, start_workers
    from socketless.switch import active_switch

    switch = active_switch()
    if switch is not None and run_arguments in request.config.stash:
        yield switch.workers
        return
    apps = request.getfixturevalue("socketless_app")
    if not isinstance(apps, Mapping):
        yield {"*": request.getfixturevalue("socketless_worker")}
        return
    request.config.stash[_app_of_worker] = apps
    hooks = hooks_of(apps, _hook_of(request.config) or None)
    with ExitStack() as stack:
        yield start_workers(apps, hooks, {}, stack, objects_on_threads=True)


@pytest.fixture(autouse=True)
def _socketless_reset(request: pytest.FixtureRequest) -> None:
    # For every test, so that it comes before what the test's own fixtures set up, whatever the order of its arguments.
    if {"socketless_worker", "socketless_workers", "_socketless_switch"} & set(request.fixturenames):
        renew_workers(request)


def renew_workers(request: pytest.FixtureRequest) -> None:
    """Make the workers ready for a test, once: a fixture may ask for it when the test has begun."""
    if request.node.stash.setdefault(_is_renewed, False):
        return
    request.node.stash[_is_renewed] = True
    if _app_of_worker in request.config.stash:
        app, wanted = request.config.stash[_app_of_worker], request.getfixturevalue("socketless_app")
        if app is not wanted and app != wanted:
            pytest.fail(
                f"socketless_app is {wanted!r} here, but the worker of this session runs {app!r}; for several apps, "
                "make a fixture for each with ipc_connection_fixture()",
                pytrace=False,
            )
    from socketless._switch.apps import renew

    renew(request.getfixturevalue("socketless_workers"))


@pytest.fixture
def socketless_client(request: pytest.FixtureRequest, socketless_worker: Worker) -> Iterator[TestClient]:
    """A `socketless.testclient.TestClient` for `socketless_worker`."""
    from socketless.testclient import TestClient

    renew_workers(request)
    with TestClient(socketless_worker, base_url=request.config.getini("socketless_base_url")) as client:
        yield client


def ipc_connection_fixture(
    app_import: str | Callable[..., Any] | Worker | Mapping[str, Any],
    *,
    reset_hook: str | Callable[[], Any] | Mapping[str, Any] | None = None,
    base_url: str = "http://testserver",
    scope: _Scope = "session",
    autouse: bool = False,
    **options: Any,
) -> Any:
    """Return a fixture that holds the switch: it sends clients to a worker for an app, or for each of several.

    Assign it to a name in a ``conftest.py`` or a test module. The value of the fixture is the `Switch`, which has the
    attributes `worker` and `workers`.

    Args:
        app_import, reset_hook, base_url, options: see `switch_to_ipc_connection`.
        scope, autouse: see `pytest.fixture`.
    """

    @pytest.fixture(scope=scope, autouse=autouse)
    def ipc_connection() -> Iterator[Switch]:
        from socketless.errors import StateError
        from socketless.switch import switch_to_ipc_connection

        try:
            switch = switch_to_ipc_connection(app_import, reset_hook=reset_hook, base_url=base_url, **options)
        except StateError as error:
            raise StateError(
                f"{error}. A fixture of ipc_connection_fixture() keeps its switch until its scope ends, here "
                f"{scope!r}; for several apps, use the scope 'module', or 'package' in folders with an __init__.py"
            ) from None
        with switch:
            yield switch

    return ipc_connection


def reset_between_tests_fixture(*, autouse: bool = True) -> Any:
    """Return a fixture that, before each test, restarts workers of the switch that have died, and calls reset hooks.

    Without a switch, it does nothing. Assign it to a name in a ``conftest.py`` or a test module.
    """

    @pytest.fixture(autouse=autouse)
    def reset_between_tests() -> None:
        from socketless.switch import active_switch

        switch = active_switch()
        if switch is not None:
            switch.renew()

    return reset_between_tests


def _offer_live_server(config: pytest.Config) -> None:
    wanted = config.getini("socketless_live_server")
    if wanted not in _LIVE_SERVER:
        raise pytest.UsageError(f"socketless_live_server must be thread, spawn or fork, not {wanted!r}")
    if _has_plugin(config, "pytest_django.plugin"):
        from socketless._pytest import django_fixtures

        config.pluginmanager.register(django_fixtures)
    else:
        config.pluginmanager.register(_WithoutDjango())


class _WithoutDjango:
    @pytest.fixture
    def socketless_live_server(self) -> None:
        """Send the clients of a test to the Django project, which runs in a worker; this needs pytest-django."""
        pytest.fail("the fixture socketless_live_server needs pytest-django: pip install pytest-django", pytrace=False)


def _offer_page(config: pytest.Config) -> None:
    if not _has_plugin(config, "pytest_playwright.pytest_playwright"):
        config.pluginmanager.register(_WithoutPlaywright())
        return
    config.pluginmanager.import_plugin("socketless._pytest.playwright_fixtures")
    if _app_of(config) and not (config.getoption("base_url", None) or config.getini("base_url")):
        config.option.base_url = config.getini("socketless_base_url")  # what a page's relative URLs are relative to


class _WithoutPlaywright:
    @pytest.fixture
    def socketless_page(self) -> None:
        """A page of Playwright whose requests `socketless_worker` answers; this needs pytest-playwright."""
        pytest.fail("the fixture socketless_page needs pytest-playwright: pip install pytest-playwright", pytrace=False)


def _has_plugin(config: pytest.Config, name: str) -> bool:
    return any(getattr(plugin, "__name__", None) == name for plugin in config.pluginmanager.get_plugins())
