"""What goes by value keeps what Python, pytest and coverage.py look its lines up by."""

from __future__ import annotations

import builtins
import copyreg
import sys
import threading
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType
from typing import Any

import pytest

from socketless._wire.pickling import dumps, dumps_object, loads

# Of a script, which goes by value.
SCRIPT = """
def function():
    def inner():
        return [number for number in range(3)]
    return inner

async def coroutine_function():
    yield lambda: 1

class Shop:
    open = property(lambda self: True)

    def sell(self, item):
        class Sale(Exception):
            def undo(self):
                raise self
        return Sale(item)

    @staticmethod
    def close():
        pass

closure = (lambda number: lambda: number)(1)
sale = Shop().sell("tea")
"""
NAMES = ("function", "coroutine_function", "Shop", "closure", "sale")


@pytest.fixture
def script() -> dict[str, Any]:
    values: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(SCRIPT, "/shop/script.py", "exec"), values)
    return values


def codes(value: Any) -> Iterator[CodeType]:
    """Yield the code of a function, of a class or object's methods, and of what is inside of it."""
    if isinstance(value, CodeType):
        yield value
        for constant in value.co_consts:
            yield from codes(constant)
    elif isinstance(value, FunctionType):
        yield from codes(value.__code__)
    elif isinstance(value, type):
        for _, member in sorted(vars(value).items()):
            yield from codes(getattr(member, "fget", None) or getattr(member, "__func__", None) or member)
    elif isinstance(value, Exception):
        yield from codes(type(value))


def places(value: Any) -> list[Any]:
    return [(code.co_name, code.co_filename, list(code.co_lines())) for code in codes(value)]


@pytest.mark.parametrize("to_bytes", [dumps, dumps_object])
@pytest.mark.parametrize("name", NAMES)
def test_files_and_lines(script: dict[str, Any], name: str, to_bytes: Callable[[Any], bytes]) -> None:
    """Code that goes by value is still of its file, and of its lines there: functions, methods, what is inside them."""
    expected = places(script[name])
    assert {file for _, file, _ in expected} == {"/shop/script.py"}
    assert places(loads(to_bytes(script[name]))) == expected


class Settings:
    """An object that looks its attributes up in one of its own, as Starlette's `State` does."""

    __slots__ = ("__dict__", "kind")

    def __init__(self, **values: Any) -> None:
        self._values, self.kind = values, "settings"

    def __getattr__(self, name: str) -> Any:
        try:
            return self._values[name]
        except KeyError:
            raise AttributeError(name) from None


@pytest.mark.parametrize("to_bytes", [dumps, dumps_object])
def test_object_that_looks_for_its_attributes(to_bytes: Callable[[Any], bytes]) -> None:
    """An object whose `__getattr__` needs what it does not have yet is rebuilt; so is one that holds itself."""
    settings = Settings(shop="tea")
    settings.itself = settings
    there = loads(to_bytes(settings))
    assert (there.shop, there.kind, there.itself is there) == ("tea", "settings", True)
    assert not hasattr(there, "other")


class Registered(Settings):
    """One of a class that somebody has told `copyreg` of."""


copyreg.pickle(Registered, lambda settings: (Registered, ()))


def test_what_copyreg_knows() -> None:
    """Who has told `copyreg` how an object is pickled is asked, whatever else it has."""
    settings = Registered()
    settings.lock = threading.Lock()
    assert type(loads(dumps(settings))) is Registered


def test_code_that_no_compiler_makes(script: dict[str, Any]) -> None:
    """A function whose code holds an object among its constants goes by value, too."""
    function = script["function"]
    constants = tuple(object if isinstance(each, CodeType) else each for each in function.__code__.co_consts)
    function.__code__ = function.__code__.replace(co_consts=(*constants, len))
    there = loads(dumps(function))
    assert there.__code__.co_consts[-1] is builtins.len


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations that wait came with Python 3.14")
def test_annotations_for_type_checkers(script: dict[str, Any]) -> None:
    """A function whose annotations name what is not there goes by value, with their text."""
    exec(
        "def function(item: Item, *, number: int = 1) -> list[Item]:\n"
        "    'Say what it is.'\n"
        "    return function.tag, item, number\n"
        "function.tag = 'tea'",
        script,
    )
    there = loads(dumps(script["function"]))
    assert there.__annotations__ == {"item": "Item", "number": "int", "return": "list[Item]"}
    assert (there.__name__, there.__qualname__, there.__module__) == ("function", "function", "__main__")
    assert there.__doc__ == "Say what it is."
    assert there(2) == ("tea", 2, 1)
