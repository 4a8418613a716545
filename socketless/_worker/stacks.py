"""Where is the worker stuck, and what of a traceback concerns the person?"""

from __future__ import annotations

import gc
import os
import queue
import sys
import threading
import traceback
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from socketless._genuine import is_green, original
from socketless._wire.exceptions import members_of

if TYPE_CHECKING:
    import asyncio

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# What stands between this package's frames and the app's.
_CARRIERS = tuple(
    os.path.join(os.sep, *parts)
    for parts in [
        ("importlib", "__init__.py"),
        ("asgiref", "sync.py"),
        ("asgiref", "current_thread_executor.py"),
        ("asyncio", "base_events.py"),
        ("asyncio", "events.py"),
    ]
)
_main = 0  # the system's number of the main thread, in a worker process
_KINDS = (("cr_frame", "cr_await"), ("gi_frame", "gi_yieldfrom"), ("ag_frame", "ag_await"))
_WRAPPERS = ("async_generator_asend", "async_generator_athrow", "coroutine_wrapper", "anext_awaitable")
# Through which an ASGI app waits for a thread.
_TO_THREADS = tuple(
    os.path.join(os.sep, *parts)
    for parts in [
        ("anyio", "to_thread.py"),
        ("asgiref", "sync.py"),
        ("asyncio", "threads.py"),
        ("trio", "_threads.py"),
    ]
)


def be_in_main_thread() -> None:
    """Say that the calling thread is the main one of a worker process."""
    global _main
    _main = original("_thread", "get_ident")()


def main_thread() -> str:
    """Return the stack of the main thread as text, innermost call last."""
    return of_thread(threading.main_thread())


def of_thread(thread: threading.Thread) -> str:
    """Return the stack of a thread as text, without the frames of this package."""
    return _format(_stack(thread))


def _frame_of(thread: threading.Thread) -> FrameType | None:
    frames = sys._current_frames()
    if thread.ident in frames or not is_green():
        return frames.get(thread.ident or 0)
    # It is a greenlet, whose number this is; one without a frame of its own is what the main thread is at.
    own = (each.gr_frame for each in gc.get_objects() if id(each) == thread.ident and hasattr(each, "gr_frame"))
    return next(own, None) or frames.get(_main)


def _stack(thread: threading.Thread) -> list[traceback.FrameSummary]:
    frame = _frame_of(thread)
    stack = list(traceback.extract_stack(frame)) if frame is not None else []
    while stack and stack[0].filename == threading.__file__:
        del stack[0]  # how every thread begins
    return _without_ours(stack)


def of_task(task: asyncio.Task[Any], loop_thread: threading.Thread) -> str:
    """Return where a task is: the coroutines that it awaits, and the threads that it may be waiting for.

    asyncio's `Task.get_stack()` knows only the outermost coroutine of a task that is suspended.
    """
    import asyncio  # not for WSGI apps, which have no tasks

    if asyncio.current_task(task.get_loop()) is task:
        return of_thread(loop_thread)  # not suspended: it is what the loop's thread does
    return of_coroutine(task.get_coro(), loop_thread)


def of_coroutine(coroutine: Any, loop_thread: threading.Thread) -> str:
    """Return where a coroutine that is suspended is, and the threads that it may be waiting for."""
    frames = list(_frames(coroutine))
    text = _format(traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames))
    if any(frame.f_code.co_filename.endswith(_TO_THREADS) for frame in frames):
        for thread in set(threading.enumerate()) - {loop_thread, threading.main_thread(), threading.current_thread()}:
            stack = _stack(thread)
            if not _is_idle(stack):
                text += f"In thread {thread.name}:\n{_format(stack)}"
    return text


def _is_idle(stack: list[traceback.FrameSummary]) -> bool:
    # A thread of a pool that waits for work, as those of anyio and concurrent.futures do.
    stack = [frame for frame in stack if frame.filename not in (threading.__file__, queue.__file__)]
    return not stack or "queue.get(" in (stack[-1].line or "")


def _frames(awaitable: Any) -> Iterator[FrameType]:
    # Coroutines, generators and async generators, each with the one that it waits for.
    while awaitable is not None:
        kind = next((kind for kind in _KINDS if hasattr(awaitable, kind[0])), None)
        if kind is not None:
            frame = getattr(awaitable, kind[0])
            if frame is not None:
                yield frame
            awaitable = getattr(awaitable, kind[1])
        else:
            # `async for` awaits an object that does not tell its generator; only the garbage collector knows.
            referents = gc.get_referents(awaitable) if type(awaitable).__name__ in _WRAPPERS else []
            awaitable = next((each for each in referents if any(hasattr(each, kind[0]) for kind in _KINDS)), None)


def _format(stack: list[traceback.FrameSummary]) -> str:
    return "".join(traceback.StackSummary.from_list(_without_ours(stack)).format())


def hide_our_frames(error: BaseException) -> None:
    """Take the frames of this package, which are around the app's, from the tracebacks of an exception."""
    todo: list[BaseException | None] = [error]
    seen = set()
    while todo:
        each = todo.pop()
        if each is None or id(each) in seen:
            continue
        seen.add(id(each))
        entries = [entry for entry in _entries(each.__traceback__) if not _is_ours(entry.tb_frame.f_code.co_filename)]
        each.__traceback__ = None
        for entry in reversed(entries):
            each.__traceback__ = TracebackType(each.__traceback__, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
        todo += [each.__cause__, each.__context__, *members_of(each)]


def _entries(entry: TracebackType | None) -> Iterator[TracebackType]:
    while entry is not None:
        yield entry
        entry = entry.tb_next


def _without_ours(stack: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    # What is outside of this package's first frame started the worker: the interpreter, or the host that forked.
    first = next((index for index, frame in enumerate(stack) if frame.filename.startswith(_PACKAGE)), 0)
    return [frame for frame in stack[first:] if not _is_ours(frame.filename)]


def _is_ours(filename: str) -> bool:
    return filename.startswith((_PACKAGE, "<frozen importlib")) or filename.endswith(_CARRIERS)
