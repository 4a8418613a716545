"""A channel inside one process: the objects themselves cross, and the pipes say when.

A queue holds the messages; for each, a few bytes go through the pipe, so that a host waits for a thread as it waits for
a process: by a poll, on asyncio, on trio, without a socket. The larger a message's body, the more bytes: the pipe's
capacity limits what is in flight, as where the body itself is in the pipe.
"""

from __future__ import annotations

import select
import sys
import weakref
from collections import deque
from contextlib import suppress
from typing import Protocol

from socketless.genuine import fcntl, os
from socketless.wire.channel import Channel, ChannelEnds, Frame, PipeEnd, Steps, Wait, make_pipe
from socketless.wire.messages import Event, Message

_PAGE = select.PIPE_BUF  # bytes that a pipe takes as a whole or not at all
_BYTES_FOR_ONE = 16  # of a message; so a body of 64 KiB fills a pipe

_Queue = deque[tuple[int, Message]]  # with the number of bytes in the pipe

_FILLER = bytes(_PAGE)


class LocalChannel(Channel):
    """One end of a channel between threads."""

    def __init__(self, number: int, reader: PipeEnd, writer: PipeEnd, inbox: _Queue, outbox: _Queue) -> None:
        super().__init__(number, reader, writer)
        self._inbox = inbox
        self._outbox = outbox
        close_in_forks(self)

    def frame_of(self, message: Message) -> Frame:
        """Make a message ready to be handed over."""
        return min(_PAGE, 1 + _size(message) // _BYTES_FOR_ONE), message

    def write(self, frame: Frame) -> Steps[None]:
        """Hand over what `frame_of()` has made.

        Raises:
            BrokenPipeError: the other side is gone, or this side was closed meanwhile.
        """
        weight, _ = frame
        while True:
            self._outbox.append(frame)  # before its bytes: who has read them finds it
            try:
                os.write(_fd_of(self._writer, BrokenPipeError), _FILLER[:weight])
            except BlockingIOError:
                self._outbox.pop()
                yield Wait(_fd_of(self._writer, BrokenPipeError), for_writing=True)
            except OSError:
                self._outbox.pop()
                raise
            else:
                return

    def receive(self) -> Steps[Message]:
        """Take one message over.

        Raises:
            EOFError: the other side is gone, or this side was closed meanwhile.
        """
        if not self._blocking:
            yield Wait(_fd_of(self._reader, EOFError))  # the other side has yet to think: do not even try
        while True:
            fd = _fd_of(self._reader, EOFError)
            try:
                first = os.read(fd, 1)
            except BlockingIOError:
                yield Wait(fd)
                continue
            if not first:
                raise EOFError
            weight, message = self._inbox.popleft()
            if weight > 1:
                os.read(fd, weight - 1)
            return message


def _fd_of(end: PipeEnd, error: type[Exception]) -> int:
    # Asked each time, since it may have been closed meanwhile: in a forked child, or by the collector.
    try:
        return end.fileno()
    except OSError:
        raise error from None


def _size(message: Message) -> int:
    if isinstance(message, Event):
        data = message.event.get("bytes") or message.event.get("text")
        return len(data) if isinstance(data, (bytes, str)) else 0  # a client may send anything
    return len(getattr(message, "body", b""))


class Closable(Protocol):
    """What holds a descriptor."""

    def close(self) -> None:
        """Give it back."""


_live: weakref.WeakSet[Closable] = weakref.WeakSet()


def close_in_forks(what: Closable) -> None:
    """Close it in every process that this one forks: a copy keeps the other side from seeing that this has ended it."""
    _live.add(what)


def make_local_channel(number: int) -> ChannelEnds:
    """Make a channel between two threads. The host's end does not block, the worker's does."""
    requests: _Queue = deque()
    responses: _Queue = deque()
    request_reader, request_writer = _small_pipe()
    response_reader, response_writer = _small_pipe()
    host = LocalChannel(number, response_reader, request_writer, responses, requests)
    host.set_blocking(False)
    return ChannelEnds(host, LocalChannel(number, request_reader, response_writer, requests, responses))


def _small_pipe() -> tuple[PipeEnd, PipeEnd]:
    reader, writer = make_pipe()
    if sys.platform == "linux":
        with suppress(OSError):
            fcntl.fcntl(writer.fileno(), fcntl.F_SETPIPE_SZ, _PAGE)
    return reader, writer


def _close_all() -> None:
    # Runs in every forked child.
    for each in list(_live):
        each.close()


os.register_at_fork(after_in_child=_close_all)
