"""From an exception in the worker to a message that the host can raise again.

An exchange ends with its last message, whatever the app has raised, and whatever that does while it is looked at. Each
step of making that message may raise, so each has something to fall back on, down to what was made beforehand:

    what the app meant      ──▶  frame_of()     else  what that has failed with
    the exception itself    ──▶  pack()         else  its text and its traceback's, as an `AppError`
    its text, its traceback ──▶  failed()       else  the name of its class
    no memory for that      ──▶                 else  `codec.NO_MEMORY`, `codec.UNSPEAKABLE`
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from itertools import dropwhile

from socketless._wire import codec
from socketless._wire.channel import Channel, Frame
from socketless._wire.exceptions import UNKNOWN, members_of
from socketless._wire.messages import Chunk, Failed, Message, Response
from socketless._worker.stacks import hide_our_frames
from socketless.errors import ClientDisconnected, TransferError


def failed(error: BaseException, response: Response | Chunk | None = None) -> Failed:
    """Describe an exception; `response` is the end of the app's response, if that was complete before it raised.

    From then on, its traceback has no frame of this package. It raises nothing.
    """
    try:
        summary = _try(_summary, error) or _class_name(error)
        _try(hide_our_frames, error)
        text = _try(_traceback, error) or _try(_frames_alone, error) or summary
        return Failed(error, summary, text, response)
    except BaseException:
        return last_resort(error)


def _try(make: Callable[[BaseException], str | None], error: BaseException) -> str | None:
    # What the exception's own methods raise, a CancelledError as well, is of no interest to anybody.
    try:
        return make(error)
    except BaseException:
        return None


def _summary(error: BaseException) -> str:
    lines = traceback.format_exception_only(type(error), error)
    return "".join(dropwhile(_is_of_the_code, lines)).rstrip()


def _is_of_the_code(line: str) -> bool:
    return line.startswith("  ")  # where a SyntaxError is; its traceback says it, too


def _class_name(error: BaseException) -> str:
    return f"{type.__dict__['__qualname__'].__get__(type(error))} (it cannot be shown)"


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def _frames_alone(error: BaseException) -> str:
    return "".join(["Traceback (most recent call last):\n", *traceback.format_tb(error.__traceback__)])


def last_resort(error: BaseException) -> Failed:
    """Return a last message that needs nothing: it was made when this module was imported."""
    return codec.NO_MEMORY if type(error) is MemoryError else codec.UNSPEAKABLE


def last_message(describe: Callable[[], Message], error: BaseException) -> Message:
    """Return what `describe()` makes of an exception; if that raises, the last resort. It raises nothing."""
    try:
        return describe()
    except BaseException:
        return last_resort(error)
    finally:
        if type(error) is MemoryError:
            error.__traceback__ = None  # the app's functions, which may have all memory in their hands


def last_frame(channel: Channel, message: Message) -> Frame:
    """Make the last message of an exchange ready to be written, or another that says why it cannot be.

    It raises nothing.
    """
    try:
        return channel.frame_of(message)
    except BaseException as error:
        instead = _instead_of(message, error)
    try:
        return channel.frame_of(instead)
    except BaseException:
        return channel.frame_of(codec.UNSPEAKABLE)


def _instead_of(message: Message, error: BaseException) -> Failed:
    if isinstance(message, Failed):
        return Failed(UNKNOWN, message.summary, message.traceback)
    if isinstance(error, TransferError):
        return failed(error)
    return failed(TransferError(f"a {type(message).__name__} cannot be sent: {failed(error).summary}"))


def is_disconnection(error: BaseException) -> bool:
    """Return whether an app raised only because it was told that its client has gone."""
    members = members_of(error)
    if members:
        return all(is_disconnection(each) for each in members)
    cancelled = getattr(sys.modules.get("asyncio.exceptions"), "CancelledError", ())  # a WSGI app may do without
    if isinstance(error, ClientDisconnected) or isinstance(error, cancelled):
        return True
    name = type(error).__name__
    if name == "WebSocketDisconnect":  # of Starlette, which raises it for other reasons, too
        return isinstance(error.__context__, ClientDisconnected)
    return name in ("ClientDisconnect", "ClientDisconnected", "Cancelled")  # of Starlette, werkzeug and trio
