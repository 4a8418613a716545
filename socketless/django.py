"""Django's live server test cases without a socket: the app runs in a worker that uses the databases of the tests.

    from socketless.django import StaticLiveServerTestCase

    class ShopTest(StaticLiveServerTestCase):
        def test_front_page(self):
            Item.objects.create(name="tea")
            assert "tea" in httpx.get(self.live_server_url + "/").text

For pytest-django, there is the fixture `socketless_live_server`.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

from django.conf import Settings, UserSettingsHolder, global_settings, settings
from django.contrib.staticfiles.handlers import StaticFilesHandler
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.test import TransactionTestCase, modify_settings
from django.test.testcases import _StaticFilesHandler
from django.utils.functional import classproperty

from socketless._host import app_source
from socketless._host.process import IpcProcess
from socketless._host.thread import IpcThread
from socketless._host.worker import Worker, check_worker_class
from socketless._switch.apps import renew, start_workers
from socketless._switch.hosts import ALL, Others
from socketless._wire.pickling import dumps, loads
from socketless._worker.app_threads import is_app_thread, is_late_thread
from socketless._worker.django import DjangoApp, Forked, Prepare, Spawned, Unpickle
from socketless._worker.django_connections import Connections
from socketless.errors import TransferError
from socketless.switch import switch_to_ipc_connection

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["LiveServerTestCase", "StaticLiveServerTestCase"]


class LiveApp:
    """Django's app, or an app of the project, in a worker that uses the databases of the tests.

    It must be created while the test databases exist, and closed before they are destroyed. A test runs within
    `switched()`.

    Args:
        worker_class: `IpcThread` or `IpcProcess`, or a subclass of one.
        worker_options: further arguments of that class.
        app: see that class; `None`: Django's WSGI app.
        static_handler: the handler that serves static files for Django's app.
        url: the URL at which the tests reach the app.
        allowed_host: the entry that `ALLOWED_HOSTS` needs for that URL.
        databases: the aliases that tests may use.
        where: the name of the setting that lists them, for the error if another one is used.
        raises: whether a request raises the exception of a view.
        apps, others: further apps by their hosts, and what happens to requests to hosts that none of them has; see
            `switch_to_ipc_connection`. `None`: Django answers them.

    Raises:
        ImproperlyConfigured: a database is in memory, or a setting cannot be pickled, and the worker is a process.
        WorkerStartError, TransferError, TypeError, ValueError: see `worker_class`.
    """

    def __init__(
        self,
        worker_class: type[IpcThread] | type[IpcProcess],
        worker_options: Mapping[str, Any],
        *,
        app: Any = None,
        static_handler: Any = _StaticFilesHandler,
        url: str,
        allowed_host: str,
        databases: Collection[str],
        where: str,
        raises: bool,
        apps: Mapping[str, Any],
        others: Others | None,
    ) -> None:
        self.url = url
        self._others = others
        self._allowed_host = allowed_host
        in_memory = {
            connection.alias: connection
            for connection in connections.all()
            if connection.vendor == "sqlite" and connection.is_in_memory_db()
        }
        start_method = None
        self._shared: dict[str, Any] = {}
        self._stack = ExitStack()  # what else is to be closed
        check_worker_class(worker_class)
        if issubclass(worker_class, IpcProcess):
            start_method = worker_options.get("start_method", "spawn")
            _refuse_memory(connection for alias, connection in in_memory.items() if alias in databases)
        else:
            self._shared = in_memory
        self._connections = Connections(databases, where, self._shared, is_app_thread, is_late_thread)
        with self._serving():
            factory = DjangoApp(
                _preparation(start_method, databases, where),
                None if app is None else app_source.source_of(app, what="app", forked=start_method != "spawn"),
                worker_options.get("app_kind", "auto"),
                Unpickle(dumps(static_handler)) if start_method == "spawn" else lambda: static_handler,
                raises,
            )
            self.worker: IpcThread | IpcProcess = worker_class(factory, **worker_options)
        with ExitStack() as on_error:
            on_error.callback(self.close)
            self.workers: dict[str, Worker] = {ALL if others is None else url: self.worker}
            self.workers |= start_workers(apps, {}, {}, self._stack, objects_on_threads=True)
            on_error.pop_all()

    def close(self) -> None:
        """Stop the workers. May be called twice.

        Raises:
            Exception: the app raised it while it was shut down.
        """
        with self._stack, self._serving():
            self.worker.close()
            self._connections.end_transactions()

    def renew(self) -> None:
        """Make the workers ready for a test; see `Worker.renew`."""
        renew(self.workers)

    def end_leftovers(self) -> None:
        """End views that still run after their test. Must be called within `switched()`.

        Raises:
            WorkerStartError: the worker had to be restarted, and could not.
        """
        if self.worker.end_leftovers():
            self._connections.uninstall()  # which takes theirs from those that have outlived it
            self._connections.end_transactions()
            self._connections.install()

    @contextmanager
    def switched(self) -> Iterator[None]:
        """Send the clients of this process to the workers, for a test or several."""
        apps = self.worker if list(self.workers) == [ALL] else self.workers
        with self._serving(), switch_to_ipc_connection(apps, base_url=self.url, others=self._others):
            yield

    @contextmanager
    def _serving(self) -> Iterator[None]:
        # What the app needs of this process while it runs in it; connections that it has opened are closed at the end.
        with modify_settings(ALLOWED_HOSTS={"append": self._allowed_host}), ExitStack() as at_end:
            for connection in self._shared.values():
                connection.inc_thread_sharing()
                at_end.callback(connection.dec_thread_sharing)
            self._connections.install()
            at_end.callback(self._connections.uninstall)
            yield


def _refuse_memory(in_memory: Iterator[Any]) -> None:
    for connection in in_memory:
        alias, name = connection.alias, connection.settings_dict["TEST"]["NAME"]
        if name and not connection.creation.is_in_memory_db(name):
            way_out = (
                "--parallel has copied it there from its file, as it does where multiprocessing does not fork. Call "
                'multiprocessing.set_start_method("fork") in manage.py, or leave out --parallel'
            )
        else:
            way_out = f'Give it a file, DATABASES["{alias}"]["TEST"] = {{"NAME": BASE_DIR / "test_{alias}.sqlite3"}}'
        raise ImproperlyConfigured(
            f"the test database of {alias!r} is SQLite in memory, which no other process can use. {way_out}, or let "
            "the app run on threads of this process: worker_class = IpcThread (pytest-django: "
            "socketless_live_server = thread)"
        )


def _preparation(start_method: str | None, databases: Collection[str], where: str) -> Prepare:
    if start_method is None:
        return _nothing
    if start_method == "fork":
        return Forked(databases, where)
    settings_module, changes = _settings_of_tests()
    for name, value in {"DATABASES": connections.settings, **changes}.items():
        try:
            dumps(value)
        except TransferError as error:
            raise ImproperlyConfigured(
                f"the setting {name} cannot be sent to a spawned worker: {error}. Fork the worker, worker_options = "
                '{"start_method": "fork"}, or run it on threads, worker_class = IpcThread'
            ) from None
    return Spawned(settings_module, dumps(dict(connections.settings)), dumps(changes), databases, where)


def _nothing() -> None:
    pass


def _settings_of_tests() -> tuple[str | None, dict[str, Any]]:
    """Return the settings module, if there is one, and what is, or may be, otherwise now.

    That is what the test runner and overrides have replaced; and every list, dict and set, since nobody can tell
    whether it was changed in place, as by `settings.MIDDLEWARE.append(...)`.
    """
    changes: dict[str, Any] = {}
    holder = settings._wrapped
    while isinstance(holder, UserSettingsHolder):
        changes = {**{name: value for name, value in vars(holder).items() if name.isupper()}, **changes}
        holder = holder.default_settings
    settings_module = holder.SETTINGS_MODULE if isinstance(holder, Settings) else None
    module = sys.modules.get(settings_module or "", global_settings)
    for name, value in vars(holder).items():  # of Settings, or of the module global_settings
        if name.isupper() and name not in changes:
            is_as_ever = value is getattr(module, name, getattr(global_settings, name, None))
            if not is_as_ever or (isinstance(value, (list, dict, set)) and _survives_pickling(value)):
                changes[name] = value
    for name in ("SETTINGS_MODULE", "DATABASES"):
        changes.pop(name, None)
    return settings_module, changes


def _survives_pickling(value: Any) -> bool:
    try:
        loads(dumps(value))
    except Exception:
        return False
    return True


class LiveServerTestCase(TransactionTestCase):  # type: ignore[misc]
    """A drop-in for `django.test.LiveServerTestCase`; only the import changes.

    While the tests of the class run, the clients of this process reach the app (see `switch_to_ipc_connection`), except
    `self.client`, which stays Django's own. As with Django's class, the tests are not wrapped in transactions, since
    the app has database connections of its own: the databases are flushed after each test.

    Attributes:
        worker_class: `IpcThread`, which shares everything with the tests, even SQLite in memory; or `IpcProcess`, which
            uses the same test databases, so that these must be files or on a server.
        worker_options: further arguments of that class, for example `{"start_method": "fork"}`.
        app: an app of the project, WSGI or ASGI, or its import string (``"mysite.asgi:application"``); it has to serve
            static files itself. `None`: Django's WSGI app, with static and media files.
        static_handler, host: see Django's class.
        port: the port in the URL, or 0 for none; nothing listens there.
        raise_request_exception: whether the client raises the exceptions of views, as `self.client` does; otherwise, it
            gets a 500, as with Django's `LiveServerTestCase`.
        apps: further apps, by their hosts, for example ``{"payments.test": "fakes:payments"}``; see
            `switch_to_ipc_connection`. They run while the tests of the class do.
        others: what happens to requests to hosts that neither `apps` nor `live_server_url` name, ``"pass"`` or
            ``"refuse"``; `None`: Django answers them.
        live_server_url: the URL of the app, by default ``http://localhost``.
        worker: the worker of the app, from `setUpClass()` on.

    Raises, in `setUpClass()`:
        ImproperlyConfigured: `worker_class` is a process, and a database is in memory or a setting cannot be pickled.
        StateError: this process is switched to another worker already.
        WorkerStartError: the app could not start.
    """

    host = "localhost"
    port = 0
    static_handler = _StaticFilesHandler
    worker_class: type[IpcThread] | type[IpcProcess] = IpcThread
    worker_options: Mapping[str, Any] = {}
    app: Any = None
    raise_request_exception = True
    apps: Mapping[str, Any] = {}
    others: Others | None = None
    worker: IpcThread | IpcProcess
    _live: LiveApp

    @classproperty  # type: ignore[untyped-decorator]
    def live_server_url(cls) -> str:
        return f"http://{cls.host}:{cls.port}" if cls.port else f"http://{cls.host}"

    @classproperty  # type: ignore[untyped-decorator]
    def allowed_host(cls) -> str:
        return cls.host

    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        stack = ExitStack()
        cls.addClassCleanup(stack.close)
        live = LiveApp(
            cls.worker_class,
            cls.worker_options,
            app=cls.app,
            static_handler=cls.static_handler,
            url=cls.live_server_url,
            allowed_host=cls.allowed_host,
            databases=cls.databases,
            where=f"{cls.__module__}.{cls.__qualname__}.databases",
            raises=cls.raise_request_exception,
            apps=cls.apps,
            others=cls.others,
        )
        stack.callback(live.close)
        cls.worker = live.worker
        cls._live = live
        stack.enter_context(live.switched())

    def setUp(self) -> None:
        super().setUp()
        self.addCleanup(self._live.end_leftovers)  # the last, before the databases are flushed
        self._live.renew()


class StaticLiveServerTestCase(LiveServerTestCase):
    """A drop-in for `django.contrib.staticfiles.testing.StaticLiveServerTestCase`.

    It serves the static files of the installed apps; ``collectstatic`` is not needed.
    """

    static_handler = StaticFilesHandler
