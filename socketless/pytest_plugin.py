"""The pytest plugin, which pytest finds by itself where socketless is installed.

It imports nothing until it is used: pytest loads it in every project of the environment.
"""

from __future__ import annotations

import pytest

__all__: list[str] = []

_EVENTLOOP = ("auto", "on", "off")
_LIVE_SERVER = ("thread", "spawn", "fork")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "socketless_eventloop",
        "let the event loops of the tests wake by a pipe: auto (where this sandbox refuses sockets), on, off",
        default="auto",
    )
    parser.addini(
        "socketless_live_server",
        "where the app of the fixture of that name runs, with pytest-django: thread, spawn (a process) or fork",
        default="thread",
    )


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    _rescue(early_config)  # a conftest.py may make a loop


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    _rescue(config)  # again, where the plugin is registered later than usual
    _offer_live_server(config)


def pytest_report_header(config: pytest.Config) -> list[str]:
    reason = config.stash.get(_rescued, None)
    return [f"socketless: event loops wake by a pipe ({reason})"] if reason else []


_rescued = pytest.StashKey[str]()  # why the loops wake by a pipe


def _rescue(config: pytest.Config) -> None:
    """Make the event loops of this process work, if the sandbox breaks them."""
    wanted = config.getini("socketless_eventloop")
    if wanted not in _EVENTLOOP:
        raise pytest.UsageError(f"socketless_eventloop must be auto, on or off, not {wanted!r}")
    if wanted == "off" or _rescued in config.stash:
        return
    from socketless import sandbox

    refusal = sandbox.wakeup_refusal()
    if wanted == "on" or refusal is not None:
        from socketless import eventloop

        config.stash[_rescued] = "socketless_eventloop = on" if refusal is None else f"this sandbox refuses {refusal}"
        if not eventloop.is_installed():
            eventloop.install()
            config.add_cleanup(eventloop.uninstall)


def _offer_live_server(config: pytest.Config) -> None:
    wanted = config.getini("socketless_live_server")
    if wanted not in _LIVE_SERVER:
        raise pytest.UsageError(f"socketless_live_server must be thread, spawn or fork, not {wanted!r}")
    plugins = config.pluginmanager.get_plugins()
    if any(getattr(plugin, "__name__", None) == "pytest_django.plugin" for plugin in plugins):
        from socketless import django_fixtures

        config.pluginmanager.register(django_fixtures)
    else:
        config.pluginmanager.register(_WithoutDjango())


class _WithoutDjango:
    @pytest.fixture
    def socketless_live_server(self) -> None:
        """Send the clients of a test to the Django project, in a worker; it needs pytest-django."""
        pytest.fail("the fixture socketless_live_server needs pytest-django: pip install pytest-django", pytrace=False)
