"""A channel to a worker process that is running already.

Pipes can be inherited, or go through a socket. So this one is made of two FIFOs, which have names only until the worker
has opened them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

from socketless._genuine import os
from socketless._wire.channel import Channel
from socketless._wire.pipes import PipeEnd, above_stdio

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


@contextmanager
def offered_channel(number: int) -> Iterator[tuple[Channel, str, str]]:
    """Make a channel, and the names by which the worker can open what it reads and what it writes, while this lasts.

    Raises:
        OSError: no descriptor is to be had, or there is no folder where FIFOs can be made.
    """
    name = os.path.join(tempfile.gettempdir(), f"socketless-{os.urandom(8).hex()}")
    requests, responses = f"{name}-requests", f"{name}-responses"
    with ExitStack() as undo:
        for path in (requests, responses):
            _make(path)
            undo.callback(_unlink, path)
        undo.callback(os.close, _open(requests, os.O_RDONLY))  # without a reader, nobody could open it for writing
        channel = _channel(number, responses, requests)
        channel.set_blocking(False)
        yield channel, requests, responses


def open_offered(number: int, requests: str, responses: str) -> Channel:
    """Open the worker's end of a channel. It blocks.

    Raises:
        OSError: it cannot be opened from here.
    """
    channel = _channel(number, requests, responses)
    channel.set_blocking(True)
    return channel


def _channel(number: int, to_read: str, to_write: str) -> Channel:
    reader = PipeEnd(above_stdio(_open(to_read, os.O_RDONLY)), writable=False)
    try:
        writer = PipeEnd(above_stdio(_open(to_write, os.O_WRONLY)), readable=False)
    except OSError:  # or the error would hold the first
        reader.close()
        raise
    return Channel(number, reader, writer)


def _make(path: str) -> None:
    try:
        os.mkfifo(path, 0o600)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None  # it does not say which


def _open(path: str, way: int) -> int:
    fd: int = os.open(path, way | os.O_NONBLOCK)  # which waits for nobody
    return fd


def _unlink(path: str) -> None:
    with suppress(OSError):  # somebody has tidied up
        os.unlink(path)
