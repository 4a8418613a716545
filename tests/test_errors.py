"""The error classes."""

from __future__ import annotations

import inspect
import pickle
import re

import httpx
import pytest

from socketless import errors
from socketless._clients import error_mixins
from socketless._httpx import families

CLASSES = [getattr(errors, name) for name in errors.__all__]


def test_all_is_complete() -> None:
    """`__all__` names every error class of the module."""
    defined = {name for name, value in vars(errors).items() if inspect.isclass(value)}
    assert defined == set(errors.__all__)


def test_tree_is_complete() -> None:
    """The tree in the docstring shows every class, under its real base."""
    shown = re.findall(r"(?:├──|└──) (\w+)", errors.__doc__ or "")
    assert sorted([*shown, "SocketlessError"]) == sorted(errors.__all__)
    for line in (errors.__doc__ or "").splitlines():
        match = re.search(r"── (\w+) +(\w+Error) ", line)
        if match:
            assert match[2] in [base.__name__ for base in getattr(errors, match[1]).__mro__]


@pytest.mark.parametrize("cls", CLASSES)
def test_errors_survive_pickling(cls: type[errors.SocketlessError]) -> None:
    """Every error can be pickled, and says the same afterwards."""
    args = {errors.WorkerDied: ("GET /", 5, -9, "end"), errors.AppError: ("KeyError: 1", "trace")}.get(cls, ("text",))
    error = cls(*args)
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (cls, str(error), vars(error))


class Theirs(Exception):
    """An error of a client library, which wants what ours do not have, as those of httpx do."""

    def __init__(self, *, request: object) -> None:
        super().__init__("theirs")


@pytest.mark.parametrize("cls", CLASSES)
def test_errors_of_ours_and_theirs(cls: type[errors.SocketlessError]) -> None:
    """An error that is a client library's, too, is made with ours' arguments alone, and says what ours says."""
    args = {errors.WorkerDied: ("GET /", 5, -9, "end")}.get(cls, ("text",))
    error = cls(*args)
    both = error_mixins.mixed(error, f"{__name__}.Theirs")
    assert isinstance(both, cls)
    assert isinstance(both, Theirs)
    assert (str(both), both.args) == (str(error), error.args)


def test_every_error_of_an_exchange_is_one_of_httpx() -> None:
    """Each error that a transport may raise has a counterpart in httpx, which is a TransportError."""
    own = {errors.SocketlessError, errors.ExchangeTimeout, errors.StateError, errors.AppError}
    not_of_a_transport = {errors.ClientDisconnected, errors.RemoteProtocolError, errors.WebSocketDisconnect}
    assert set(families._NAMES) == set(CLASSES) - own - not_of_a_transport
    for name in families._NAMES.values():
        assert issubclass(getattr(httpx, name), httpx.TransportError)


def test_exit_in_words() -> None:
    """How a process ended is said in words."""
    assert errors.describe_exit(0) == "exited with code 0"
    assert errors.describe_exit(-15) == "was killed by SIGTERM"
    assert errors.describe_exit(-99) == "was killed by signal 99"
    assert errors.describe_exit(None) == "has ended"
