"""Django's app in a worker that uses the databases of the tests, and never those that the settings name.

What prepares a worker for that runs before anything of the project does: its settings, `AppConfig.ready()` and its URLs
may all query a database.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from contextvars import ContextVar
from typing import Any

from django.core.signals import got_request_exception
from django.db import connections

from socketless._wire.messages import AppSource
from socketless._wire.pickling import loads
from socketless._worker.django_connections import Connections
from socketless._worker.loading import load_app

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

Prepare = Callable[[], object]

_inherited: list[Any] = []  # of a forked worker: connections of its parent, which dropping might close


class DjangoApp:
    """A factory: it prepares the worker, and returns the app.

    Args:
        prepare: called before anything of the project is imported.
        source: an app of the person's own; `None`: Django's, with static and media files.
        app_kind: that of the person's own.
        load_handler: returns the class that serves static files; it may be one of the project's.
        raises: raise what a view raises, once the app has answered 500 for it.
    """

    def __init__(
        self, prepare: Prepare, source: AppSource | None, app_kind: str, load_handler: Callable[[], Any], raises: bool
    ) -> None:
        self._prepare = prepare
        self._source = source
        self._app_kind = app_kind
        self._load_handler = load_handler
        self._raises = raises

    def __call__(self) -> Callable[..., Any]:
        self._prepare()
        if self._source is None:
            app: Callable[..., Any] = _app_of_django(self._load_handler())
            kind = "wsgi"
        else:
            app, kind = load_app(self._source, self._app_kind)
        if not self._raises:
            return app
        got_request_exception.connect(_take_exception)
        if kind == "wsgi":
            return _raising_wsgi(app)
        from socketless._worker.asgi import as_asgi3

        return _raising_asgi(as_asgi3(app) if kind == "asgi2" else app)


class Unpickle:
    """A callable that returns what was pickled, and does not show it."""

    def __init__(self, pickled: bytes) -> None:
        self._pickled = pickled

    def __call__(self) -> Any:
        return loads(self._pickled)


def _app_of_django(static_handler: Any) -> Any:
    # As LiveServerThread.run() does, whose handler of static files needs STATIC_URL for every request.
    from django.conf import settings
    from django.core.handlers.wsgi import WSGIHandler
    from django.test.testcases import _MediaFilesHandler

    app = _MediaFilesHandler(WSGIHandler())
    if settings.STATIC_URL is None and "django.contrib.staticfiles" not in settings.INSTALLED_APPS:
        return app
    return static_handler(app)


class Forked:
    """Prepares a forked worker, which has the settings, but also the open connections of its parent."""

    def __init__(self, allowed: Collection[str], where: str) -> None:
        self._connections = Connections(allowed, where)

    def __call__(self) -> None:
        for connection in connections.all(initialized_only=True):
            _inherited.append(connection)
            del connections[connection.alias]
            pools = getattr(type(connection), "_connection_pools", None)  # PostgreSQL's
            if pools:
                _inherited.append(pools.copy())
                pools.clear()
        self._connections.install()


class Spawned:
    """Prepares a spawned worker, which has nothing yet.

    Args:
        settings_module: of the project; `None`: the settings were made by `settings.configure()`.
        pickled_databases, pickled_changes: what the settings are in the tests. Neither is shown: there are passwords.
    """

    def __init__(
        self,
        settings_module: str | None,
        pickled_databases: bytes,
        pickled_changes: bytes,
        allowed: Collection[str],
        where: str,
    ) -> None:
        self._settings_module = settings_module
        self._databases = Unpickle(pickled_databases)
        self._changes = Unpickle(pickled_changes)
        self._allowed = frozenset(allowed)
        self._where = where

    def __call__(self) -> None:
        import django
        from django.conf import ENVIRONMENT_VARIABLE, settings
        from django.core import mail

        databases = self._databases()
        connections._settings = databases  # first: the settings module, as all of the project, may query a database
        Connections(self._allowed, self._where).install()
        if self._settings_module is None:
            settings.configure()
        else:
            os.environ[ENVIRONMENT_VARIABLE] = self._settings_module
            settings._setup()
        holder = settings._wrapped  # past what warns of deprecated settings, once more
        vars(holder).update(self._changes(), DATABASES=databases)
        settings._wrapped = holder  # which forgets what has been read until now
        mail.outbox = []
        django.setup()


_caught: ContextVar[list[BaseException] | None] = ContextVar("socketless.django", default=None)


def _take_exception(**kwargs: object) -> None:
    # Runs where Django handles the exception of a view, as its own test client does.
    caught, error = _caught.get(), sys.exc_info()[1]
    if caught is not None and error is not None:
        caught[:] = [error]


def _raising_wsgi(app: Any) -> Callable[..., Any]:
    def raising_app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        caught: list[BaseException] = []
        token = _caught.set(caught)
        try:
            response = app(environ, start_response)
        finally:
            _caught.reset(token)
        if caught:
            if hasattr(response, "close"):
                response.close()
            raise caught.pop()
        return response

    return raising_app


def _raising_asgi(app: Any) -> Callable[..., Any]:
    async def raising_app(scope: Any, receive: Any, send: Any) -> None:
        caught: list[BaseException] = []

        async def send_unless_caught(event: Any) -> None:
            if not caught:
                await send(event)

        token = _caught.set(caught)
        try:
            await app(scope, receive, send_unless_caught)
        finally:
            _caught.reset(token)
        if caught:
            raise caught.pop()

    return raising_app
