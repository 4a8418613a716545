"""Runs `loopback/conformance.py` on the sockets of the kernel, and on virtual ones."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker

import pytest

from loopback.checks import Net, limited
from loopback.conformance import CHECKS
from loopback.probe import why_not_real
from socketless import loopback
from support import nothing_leaks

if sys.platform != "linux":
    pytest.skip("what is asserted here is what Linux does", allow_module_level=True)


@contextmanager
def real() -> Iterator[None]:
    if loopback.is_installed():
        pytest.skip("virtual sockets are installed: real ones are refused here")
    if reason := why_not_real():
        pytest.skip(reason)
    yield


@contextmanager
def virtual() -> Iterator[None]:
    # Within this process, so that a debugger and a traceback see both ends. Where sockets are refused, the plugin has
    # installed it already.
    was_installed = loopback.is_installed()
    loopback.install()
    try:
        with Net("tcp4") as net:
            net.pair()  # what is made once, and stays, is not a leak of the first check
        yield
    finally:
        if not was_installed:
            loopback.uninstall()


@pytest.fixture(scope="module", params=["real", "virtual"])
def sockets(request: pytest.FixtureRequest) -> Iterator[None]:
    """The sockets that this process makes for the tests of this module."""
    with virtual() if request.param == "virtual" else real():
        resource_tracker.ensure_running()  # so that it is not taken for a leak of the first check that needs it
        gc.freeze()  # what is there already is not looked at after each check
        yield
        gc.unfreeze()


@pytest.mark.usefixtures("sockets")
@pytest.mark.parametrize("name", CHECKS)
def test_conformance(name: str) -> None:
    """Sockets do what `loopback.conformance` says, and leave no descriptor, thread or child behind."""
    check, kind = CHECKS[name]
    with limited(), nothing_leaks(), Net(kind) as net:
        check(net)
