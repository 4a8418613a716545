"""Exceptions cross with all that belongs to them."""

from __future__ import annotations

import sys
import threading
import traceback
from dataclasses import dataclass

import pytest

from socketless._host.failures import exception_of
from socketless._wire.exceptions import pack, unpack
from socketless._wire.messages import Failed
from socketless.errors import AppError

if sys.version_info < (3, 11):
    from exceptiongroup import ExceptionGroup  # comes with pytest
else:
    from builtins import ExceptionGroup


class Own(Exception):
    """An exception with attributes."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.detail = {"of": text}


class Reduced(Exception):
    """One that says itself how it is pickled, without its notes."""

    def __reduce__(self) -> tuple[type[Reduced], tuple[object, ...]]:
        return Reduced, self.args


class Sum(Exception):
    """One whose `__init__` makes something else of its arguments."""

    def __init__(self, one: int, *, two: int) -> None:
        super().__init__(f"the sum is {one + two}")


class Odd(Exception):
    """One that pickles and cannot be rebuilt."""

    def __reduce__(self) -> tuple[type[int], tuple[str]]:
        return int, ("no number",)


class TwoOfTheSystem(OSError):
    """One of Python's own with other arguments, which becomes another if it is called with those that it has."""

    def __init__(self, number: int, what: str = "") -> None:
        super().__init__(f"{number}: {what}")
        self.number = number


class Slotted(Exception):
    """One that keeps something in slots, also a private one."""

    __slots__ = ("__secret", "code")

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code, self.__secret = code, code + 1

    @property
    def secret(self) -> int:
        return self.__secret


class New(Exception):
    """One whose `__new__` wants more than there is."""

    def __new__(cls, text: str, *, code: int) -> New:
        error = super().__new__(cls, text)
        error.code = code
        return error

    def __init__(self, text: str, *, code: int) -> None:
        super().__init__(text)


class Undecodable(UnicodeDecodeError):
    """One of Python's own that wants many arguments."""

    def __init__(self, data: bytes) -> None:
        super().__init__("utf-8", data, 0, 1, "bad")


@dataclass(frozen=True)
class Frozen(Exception):
    """One whose attributes cannot be set."""

    code: int


def crossed(error: BaseException) -> BaseException:
    there = unpack(pack(error))
    assert there is not None
    return there


def chained() -> Exception:
    """Return an exception with a cause and, behind that, a context."""
    try:
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise ValueError("second")  # noqa: B904
        except ValueError as error:
            raise Own("third") from error
    except Own as error:
        return error


def test_links() -> None:
    """Attributes, causes and contexts are there, and Python prints the same of both."""
    error = chained()
    there = crossed(error)
    assert type(there) is Own
    assert there.detail == {"of": "third"}
    assert isinstance(there.__cause__, ValueError)
    assert isinstance(there.__cause__.__context__, KeyError)
    printed = ["".join(traceback.format_exception(each)).splitlines() for each in (there, error)]
    # Which part of a line was running, Python marks of the original only.
    assert printed[0] == [line for line in printed[1] if line.strip(" ^~") or not line]


def test_suppressed_context() -> None:
    """What `from None` hides stays hidden, and is there."""
    try:
        try:
            raise KeyError("inner")
        except KeyError:
            raise ValueError("outer") from None
    except ValueError as error:
        there = crossed(error)
    assert there.__suppress_context__
    assert isinstance(there.__context__, KeyError)


def test_init() -> None:
    """An exception is rebuilt without its `__init__`, alone and in a group."""
    for error in (crossed(Sum(1, two=2)), crossed(ExceptionGroup("group", [Sum(1, two=2)])).exceptions[0]):
        assert type(error) is Sum
        assert str(error) == "the sum is 3"


@pytest.mark.parametrize(
    ("error", "names"),
    [
        (TwoOfTheSystem(404, "gone"), ["number", "errno"]),
        (Slotted(3), ["code", "secret"]),
        (New("text", code=3), ["code"]),
        (Undecodable(b"\xff"), ["object", "reason"]),
        (Frozen(3), ["code"]),
        (Odd("odd"), []),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_does_not_come_back_by_itself(error: Exception, names: list[str]) -> None:
    """An exception keeps its type, and says and has the same, whatever its class makes of its arguments."""
    for there in (crossed(error), crossed(ExceptionGroup("group", [error])).exceptions[0]):  # type: ignore[attr-defined]
        assert type(there) is type(error)
        assert [getattr(there, name) for name in names] == [getattr(error, name) for name in names]
        assert (str(there), there.args) == (str(error), error.args)


def test_built_in() -> None:
    """Exceptions that Python itself knows keep what they have beside their arguments."""
    gone = crossed(FileNotFoundError(2, "gone", "name"))
    assert isinstance(gone, FileNotFoundError)
    assert (gone.errno, gone.filename) == (2, "name")
    undecodable = crossed(UnicodeDecodeError("utf-8", b"a\xff", 1, 2, "bad"))
    assert isinstance(undecodable, UnicodeDecodeError)
    assert undecodable.object == b"a\xff"
    stopped = crossed(SystemExit(3))
    assert isinstance(stopped, SystemExit)
    assert stopped.code == 3


def test_cycle() -> None:
    """Exceptions that are each other's causes cross, too."""
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    there = crossed(one)
    assert there.__cause__ is not None
    assert there.__cause__.__cause__ is there


@pytest.mark.skipif(sys.version_info < (3, 11), reason="notes came with Python 3.11")
@pytest.mark.parametrize("error", [Own("text"), Reduced("text")], ids=["own", "reduced"])
def test_notes(error: Exception) -> None:
    """Notes cross, also of an exception that pickles without them."""
    error.add_note("a note")
    assert crossed(error).__notes__ == ["a note"]


def test_groups() -> None:
    """Members of groups in groups have their causes and tracebacks, also those that are in two groups."""
    member = chained()
    inner = ExceptionGroup("inner", [member, OSError(2, "gone")])
    outer = ExceptionGroup("outer", [inner, member])
    there = crossed(outer)
    assert isinstance(there, ExceptionGroup)
    for each in (there.exceptions[0].exceptions[0], there.exceptions[1]):
        assert isinstance(each, Own)
        assert isinstance(each.__cause__, ValueError)
        assert traceback.extract_tb(each.__traceback__)[-1].line == 'raise Own("third") from error'


def test_what_cannot_cross() -> None:
    """What cannot be rebuilt is an AppError with the traceback's text; as a cause of something it is left out."""

    class Unknown(Exception):
        lock = threading.Lock()

    odd = Unknown()
    assert unpack(pack(odd)) is None
    assert isinstance(exception_of(Failed(pack(odd), "Odd", "the traceback")), AppError)
    error = ValueError("outer")
    error.__cause__ = odd
    assert crossed(error).__cause__ is None


def test_long_traceback() -> None:
    """A traceback of a thousand entries crosses."""

    def recurse() -> None:
        recurse()

    with pytest.raises(RecursionError) as caught:
        recurse()
    there = crossed(caught.value)
    assert len(traceback.extract_tb(there.__traceback__)) == len(traceback.extract_tb(caught.value.__traceback__))


@pytest.mark.parametrize("exceptions", [("no", "group"), 3, None])
def test_no_group(exceptions: object) -> None:
    """An exception that calls something else `exceptions` is no group."""
    error = Own("text")
    error.exceptions = exceptions  # type: ignore[attr-defined]
    assert crossed(error).exceptions == exceptions  # type: ignore[attr-defined]
