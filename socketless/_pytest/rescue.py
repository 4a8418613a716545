"""The pytest plugin's part that makes event loops, and what meets on loopback, work without sockets."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Mapping

import pytest

from socketless import sandbox

_SETTINGS = ("auto", "on", "off")
_rescued = pytest.StashKey[list[str]]()  # what is rescued, and why
_if_blocked = pytest.StashKey[bool]()  # whether loops wake by a pipe where tests block sockets

_KINDS = {"inet": "TCP and UDP on loopback are", "unix": "UNIX sockets are"}


def rescue(config: pytest.Config) -> None:
    """Do what the settings say, as far as the sandbox makes it needed.

    Raises:
        UsageError: a setting has a value that it cannot have, or that cannot be had here.
    """
    loops, loopback = _setting(config, "socketless_eventloop"), _setting(config, "socketless_loopback")
    if loopback == "auto" and (sys.platform != "linux" or _sockets_are_replaced()):
        loopback = "off"
    is_virtual = loopback != "off" and _is_virtual()
    wakeup, sockets = _refusals(loops=loops != "off", loopback=loopback != "off" and not is_virtual)
    rescued = [*_rescue_loops(config, loops, wakeup)]
    if is_virtual:
        rescued.append("loopback is virtual (it was when pytest began)")
    else:
        rescued += _rescue_loopback(config, loopback, sockets)
    config.stash[_rescued] = rescued


def _is_virtual() -> bool:
    return "socketless.loopback" in sys.modules and sys.modules["socketless.loopback"].is_installed()


def _refusals(*, loops: bool, loopback: bool) -> tuple[str | None, dict[str, str]]:
    if loops and loopback:
        return sandbox.refusals()
    return (sandbox.wakeup_refusal() if loops else None), (sandbox.loopback_refusals() if loopback else {})


def header(config: pytest.Config) -> list[str]:
    """Return the lines of the header that say so."""
    lines = [f"socketless: {rescued}" for rescued in config.stash[_rescued]]
    if config.stash.get(_if_blocked, False) and _disables_socket(config):
        lines.insert(0, "socketless: event loops wake by a pipe (pytest --disable-socket)")
    return [*lines, "socketless: for more, run 'socketless docs rescue'"] if lines else []


def _rescue_loops(config: pytest.Config, wanted: str, refusal: str | None) -> Iterator[str]:
    if wanted == "off":
        return
    from socketless import eventloop

    if wanted == "on" or refusal is not None:
        yield f"event loops wake by a pipe ({_reason('socketless_eventloop', refusal)})"
        before = eventloop.wake_by_pipe("always")
    elif eventloop.is_installed():
        yield "event loops wake by a pipe (they did when pytest began)"
        return
    else:
        config.stash[_if_blocked] = True
        before = eventloop.wake_by_pipe("blocked")

    def put_back() -> None:
        eventloop.wake_by_pipe(before)

    config.add_cleanup(put_back)


def _disables_socket(config: pytest.Config) -> bool:
    # By the options of pytest-socket. It leaves the sockets of the hosts that are allowed.
    options = vars(config.option)
    exceptions = ("force_enable_socket", "allow_hosts")
    return bool(options.get("disable_socket") and not any(map(options.get, exceptions)))


def _rescue_loopback(config: pytest.Config, wanted: str, refusals: Mapping[str, str]) -> Iterator[str]:
    if wanted == "off" or (wanted == "auto" and not refusals):
        return
    from socketless import loopback

    for family in _KINDS if wanted == "on" else refusals:
        yield f"{_KINDS[family]} virtual ({_reason('socketless_loopback', refusals.get(family))})"
    try:
        loopback.install(None if wanted == "on" else refusals, alone=sandbox.is_fatal(refusals))
    except OSError as error:
        raise pytest.UsageError(f"socketless_loopback = {wanted}: {error}") from None
    config.add_cleanup(loopback.uninstall)


def _sockets_are_replaced() -> bool:
    # By gevent, or by a plugin that lets no test have one: that is not for us to undo.
    return socket.socket.__module__ != "socket"


def _setting(config: pytest.Config, name: str) -> str:
    wanted = str(config.getini(name))
    if wanted not in _SETTINGS:
        raise pytest.UsageError(f"{name} must be auto, on or off, not {wanted!r}")
    return wanted


def _reason(name: str, refusal: str | None) -> str:
    return f"{name} = on" if refusal is None else f"this sandbox refuses {refusal}"
