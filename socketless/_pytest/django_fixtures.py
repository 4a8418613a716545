"""The fixture `socketless_live_server` for pytest-django; the pytest plugin registers this module where that is there.

    def test_front_page(socketless_live_server):
        Item.objects.create(name="tea")
        assert "tea" in httpx.get(socketless_live_server.url + "/").text

It imports Django when the fixture is first used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from socketless.django import LiveApp

__all__ = ["LiveServer", "socketless_live_apps", "socketless_live_server"]


class LiveServer:
    """The value of the fixture: `url`, the app's URL, and `worker`. `str()` and `+` use the URL."""

    def __init__(self, live: LiveApp) -> None:
        self.url = live.url
        self.worker = live.worker

    def __str__(self) -> str:
        return self.url

    def __add__(self, path: str) -> str:
        return self.url + path

    def __repr__(self) -> str:
        return f"<LiveServer {self.url}, {self.worker!r}>"


@pytest.fixture(scope="session")
def socketless_live_apps() -> Mapping[str, Any]:
    """Further apps beside that of `socketless_live_server`, by their hosts. None by default; may be overridden."""
    return {}


@pytest.fixture(scope="session")
def _socketless_live_app(
    request: pytest.FixtureRequest,
    django_db_setup: None,
    django_db_blocker: Any,
    socketless_live_apps: Mapping[str, Any],
) -> Iterator[LiveApp]:
    """The app in its worker, one for the session."""
    kind = request.config.getini("socketless_live_server")
    from django.conf import settings

    from socketless import IpcProcess, IpcThread
    from socketless.django import LiveApp, LiveServerTestCase, StaticLiveServerTestCase

    is_static = "django.contrib.staticfiles" in settings.INSTALLED_APPS
    base = StaticLiveServerTestCase if is_static else LiveServerTestCase
    with django_db_blocker.unblock():
        live = LiveApp(
            IpcThread if kind == "thread" else IpcProcess,
            {} if kind == "thread" else {"start_method": kind},
            static_handler=base.static_handler,
            url=base.live_server_url,
            allowed_host=base.allowed_host,
            databases=_databases_of(request.session.items),
            where="the databases of pytest.mark.django_db",
            raises=base.raise_request_exception,
            apps=socketless_live_apps,
            others=request.config.getini("socketless_others") or None,
        )
    yield live
    with django_db_blocker.unblock():
        live.close()


def _databases_of(items: Collection[pytest.Item]) -> Collection[str]:
    """Return the aliases that any of the tests may use: pytest-django has made test databases for these."""
    from django.db import connections

    aliases = {"default"}
    for item in items:
        marker = item.get_closest_marker("django_db")
        named = [getattr(getattr(item, "cls", None), "databases", None)]
        if marker is not None:
            named += [marker.kwargs.get("databases"), *marker.args[2:3]]
        for databases in named:
            aliases.update(connections if databases == "__all__" else databases or ())
    return aliases


@pytest.fixture
def socketless_live_server(transactional_db: None, _socketless_live_app: LiveApp) -> Iterator[LiveServer]:
    """Send the clients of a test to the Django project, which runs in a worker that uses the test databases.

    This is pytest-django's `live_server` without a socket: one worker serves all tests of the session, and a test that
    uses the fixture gets a `transactional_db`. The ini option `socketless_live_server` chooses the worker: ``thread``
    (the default), or a process by ``spawn`` or ``fork``; with a process, no database may be in memory.
    """
    with _socketless_live_app.switched():
        _socketless_live_app.renew()
        yield LiveServer(_socketless_live_app)
        _socketless_live_app.end_leftovers()  # before the databases are flushed
