"""Where is the worker stuck, and what of a traceback concerns the person?"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from types import FrameType

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# What stands between this package's frames and the app's.
_CARRIERS = tuple(
    os.path.join(os.sep, *parts)
    for parts in [("importlib", "__init__.py"), ("asgiref", "sync.py"), ("asyncio", "base_events.py")]
)


def main_thread_stack() -> str:
    """Return the stack of the main thread as text, innermost call last."""
    frame = sys._current_frames().get(threading.main_thread().ident or 0)
    return format_stack(frame) if frame is not None else ""


def format_stack(frame: FrameType) -> str:
    """Format a thread's stack as a traceback does, innermost call last, without the frames of this package."""
    return "".join(traceback.StackSummary.from_list(_without_ours(traceback.extract_stack(frame))).format())


def format_exception(error: BaseException) -> str:
    """Format an exception with its causes as Python does, without the frames of this package around the app's."""
    whole = traceback.TracebackException.from_exception(error)
    todo, seen = [whole], set()
    while todo:
        part = todo.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        part.stack = traceback.StackSummary.from_list(_without_ours(part.stack))
        todo += [linked for linked in (part.__cause__, part.__context__) if linked is not None]
    return "".join(whole.format())


def _without_ours(stack: list[traceback.FrameSummary]) -> list[traceback.FrameSummary]:
    # What is outside of this package's first frame started the worker: the interpreter, or the host that forked.
    first = next((index for index, frame in enumerate(stack) if frame.filename.startswith(_PACKAGE)), 0)
    return [frame for frame in stack[first:] if not _is_ours(frame.filename)]


def _is_ours(filename: str) -> bool:
    return filename.startswith((_PACKAGE, "<frozen importlib")) or filename.endswith(_CARRIERS)
