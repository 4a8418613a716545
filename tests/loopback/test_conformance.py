"""Runs `loopback/conformance.py` on the sockets of the kernel, and on virtual ones."""

from __future__ import annotations

import gc
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import resource_tracker
from typing import Any

import pytest

from loopback.checks import Net, limited
from loopback.conformance import CHECKS
from loopback.lacks import BEYOND, why_not
from loopback.probe import why_not_real
from socketless import loopback
from support import nothing_leaks

if sys.platform != "linux":
    pytest.skip("what is asserted here is what Linux does", allow_module_level=True)

A_WHILE = 0.5  # seconds, for a check that hangs since it cannot pass


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


@pytest.fixture(scope="module", params=[pytest.param("real", marks=pytest.mark.slow), "virtual"])
def sockets(request: pytest.FixtureRequest) -> Iterator[str]:
    """The sockets that this process makes for the tests of this module."""
    with virtual() if request.param == "virtual" else real():
        resource_tracker.ensure_running()  # so that it is not taken for a leak of the first check that needs it
        gc.freeze()  # what is there already is not looked at after each check
        yield request.param
        gc.unfreeze()


# Which differ in how an address is written.
ALIKE = (("tcp4", "tcp6"), ("path", "abstract"))


def in_turn() -> Iterator[Any]:
    """Yield the names of the checks; of two kinds that are alike, a check meets one, the next check the other.

    What is left out is for `tox -e slow`.
    """
    turns = {check: turn for turn, check in enumerate(dict.fromkeys(name.rpartition("-")[0] for name in CHECKS))}
    for name in CHECKS:
        check, _, kind = name.rpartition("-")
        alike = [each for each in ALIKE if kind in each and {f"{check}-{one}" for one in each} <= {*CHECKS}]
        is_usual = not alike or alike[0][turns[check] % 2] == kind
        yield pytest.param(name, marks=[] if is_usual else pytest.mark.slow)


@pytest.mark.parametrize("name", [*in_turn()])
def test_conformance(sockets: str, name: str) -> None:
    """Sockets do what `loopback.conformance` says, and leave no descriptor, thread or child behind.

    What virtual ones lack, they lack: see `loopback.lacks`.
    """
    check, kind = CHECKS[name]
    refused = why_not_real()
    if refused and name.rpartition("-")[0] in BEYOND:
        pytest.skip(refused)
    if sockets == "virtual" and why_not(name, real_too=not refused):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it leaves what it has opened
            with pytest.raises(BaseException), limited(A_WHILE), Net(kind) as net:  # noqa: B017
                check(net)
            gc.collect()
    else:
        with limited(), nothing_leaks(), Net(kind) as net:
            check(net)
