"""Exceptions across a process boundary: with attributes and notes, causes and contexts, groups and tracebacks.

An exception pickles without what it is linked to, and many a one pickles and cannot be rebuilt (its `__init__` wants
other arguments). So each goes by itself, as a node of a graph, and is tried where it comes from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import Any, NamedTuple

from tblib import Traceback

from socketless._wire.pickling import dumps_bare, dumps_object, loads

_MOST = 100  # exceptions in one graph; what is linked beyond is left out


class _Frame(NamedTuple):
    filename: str
    module: str
    name: str  # of the function
    first_lineno: int  # of the function
    lineno: int


class _Node(NamedTuple):
    pickled: bytes | None  # None: it cannot be pickled, or not be rebuilt
    frames: list[_Frame]  # the traceback
    cause: int | None
    context: int | None
    suppress_context: bool
    notes: list[str] | None
    members: list[int]  # of a group


class Packed(NamedTuple):
    """An exception, and what it is linked to, as plain values."""

    nodes: list[_Node]  # the first one is the exception itself; the members of a group come after it


# What stands for an exception of which only the text can cross.
UNKNOWN = Packed([_Node(None, [], None, None, False, None, [])])


def pack(error: BaseException) -> Packed:
    """Turn an exception into plain values.

    Raises:
        BaseException: whatever an attribute of it raises that every exception has.
    """
    errors = [error]
    places = {id(error): 0}

    def place_of(other: BaseException | None) -> int | None:
        if other is None or (id(other) not in places and len(errors) >= _MOST):
            return None
        if id(other) not in places:
            places[id(other)] = len(errors)
            errors.append(other)
        return places[id(other)]

    nodes = []
    for each in errors:  # which grows meanwhile
        members = [place for member in members_of(each) if (place := place_of(member)) is not None]
        nodes.append(
            _Node(
                pickled(each),
                list(_frames(each.__traceback__)),
                place_of(each.__cause__),
                place_of(each.__context__),
                each.__suppress_context__,
                _notes_of(each),
                members,
            )
        )
    return Packed(nodes)


def members_of(error: BaseException) -> tuple[BaseException, ...]:
    """Return the members of a group; of any other exception, there are none, whatever it calls `exceptions`."""
    try:
        found = getattr(error, "exceptions", ())  # Python 3.10 has groups from a package
    except Exception:
        return ()
    is_group = isinstance(found, (tuple, list)) and all(isinstance(each, BaseException) for each in found)
    return tuple(found) if is_group else ()


def _notes_of(error: BaseException) -> list[str] | None:
    try:
        notes = getattr(error, "__notes__", None)
        return None if notes is None else [str.__str__(note) for note in notes if isinstance(note, str)]
    except Exception:  # it is a property, and that raises
        return None


def pickled(error: BaseException) -> bytes | None:
    """Pickle an exception without what it is linked to; `None` if it cannot be rebuilt. For use in a worker.

    One that would come back as another is rebuilt of its type, its arguments and its attributes.
    """
    of_same_type = None
    for dump in (dumps_object, dumps_bare):
        try:
            data = dump(error)
            rebuilt = loads(data)
            if type(rebuilt) is type(error):
                if _words_of(rebuilt) == _words_of(error):
                    return data
                of_same_type = of_same_type or data
        except BaseException:  # a __reduce__ may raise CancelledError or SystemExit, which means nothing here
            continue
    return of_same_type


def _words_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as failure:
        return type(failure).__name__


def unpack(packed: Packed, loads: Callable[[bytes], Any] = loads) -> BaseException | None:
    """Turn it back; `None` if `loads` does not find its class. What it is linked to may be missing then as well."""
    found: list[list[BaseException]] = [[] for _ in packed.nodes]  # a member of two groups is there twice

    def add(place: int, error: BaseException) -> None:
        if not any(each is error for each in found[place]):
            found[place].append(error)
            for inner, member in zip(packed.nodes[place].members, members_of(error), strict=False):
                add(inner, member)  # it has come with its group

    for place, node in enumerate(packed.nodes):
        if not found[place] and (error := _unpickle(node.pickled, loads)) is not None:
            add(place, error)

    def link(place: int | None) -> BaseException | None:
        return found[place][0] if place is not None and found[place] else None

    for node, copies in zip(packed.nodes, found, strict=True):
        for error in copies:
            set_attribute = partial(object.__setattr__, error)  # its own refuses that, if it is frozen
            set_attribute("__cause__", link(node.cause))
            set_attribute("__context__", link(node.context))
            set_attribute("__suppress_context__", node.suppress_context)
            set_attribute("__traceback__", _rebuild_traceback(node.frames))
            if node.notes:
                set_attribute("__notes__", node.notes)
    return link(0)


def traceback_at(filename: str, lineno: int) -> TracebackType | None:
    """Return a traceback that leads to a line of another process."""
    return _rebuild_traceback([_Frame(filename, "<unknown>", "<unknown>", lineno, lineno)])


def _frames(entry: TracebackType | None) -> Iterator[_Frame]:
    while entry is not None:
        code, module = entry.tb_frame.f_code, entry.tb_frame.f_globals.get("__name__", "")
        yield _Frame(code.co_filename, module, code.co_name, code.co_firstlineno, entry.tb_lineno)
        entry = entry.tb_next


def _rebuild_traceback(frames: list[_Frame]) -> TracebackType | None:
    # One entry at a time: tblib's own way to a chain of them recurses, and a RecursionError has a thousand.
    rebuilt = None
    for each in reversed(frames):
        code = {"co_filename": each.filename, "co_name": each.name}
        frame = {"f_globals": {"__name__": each.module}, "f_code": code, "f_lineno": each.lineno}
        # pytest shows a function from its first line on, which tblib takes from here.
        entry = Traceback.from_dict({"tb_frame": frame, "tb_lineno": each.first_lineno, "tb_next": None}).as_traceback()
        # Of tblib's own code, Python would show which part of the line was running: -1 is for "not known".
        rebuilt = TracebackType(rebuilt, entry.tb_frame, -1, each.lineno)
    return rebuilt


def _unpickle(data: bytes | None, loads: Callable[[bytes], Any]) -> BaseException | None:
    try:
        error = None if data is None else loads(data)
    except Exception:  # its class is not importable here, or its module fails here
        return None
    return error if isinstance(error, BaseException) else None
