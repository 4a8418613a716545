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
from socketless.wire.messages import Message, size_of

_PAGE = select.PIPE_BUF  # bytes that a pipe takes as a whole or not at all
_BYTES_FOR_ONE = 16  # of a message; so a body of 64 KiB fills a pipe


class _Handover:
    """A message that is handed over, and what has been written for it."""

    def __init__(self, message: Message) -> None:
        self.message = message
        self.weight = min(_PAGE, 1 + size_of(message) // _BYTES_FOR_ONE)  # the number of bytes in the pipe
        self.written: list[int] = []

    @property
    def is_untouched(self) -> bool:
        return not self.written


_Queue = deque[_Handover]

_FILLER = bytes(_PAGE)


class LocalChannel(Channel):
    """One end of a channel between threads."""

    def __init__(self, number: int, reader: PipeEnd, writer: PipeEnd, inbox: _Queue, outbox: _Queue) -> None:
        super().__init__(number, reader, writer)
        self._ours = inbox  # what the other side has handed over
        self._theirs = outbox
        self._read: list[bytes] = []  # of the bytes of the first of `_ours`
        self._accepted: _Handover | None = None  # while it is being taken
        close_in_forks(self)

    def frame_of(self, message: Message) -> Frame:
        """Make a message ready to be handed over."""
        return _Handover(message)

    def flush(self) -> Steps[None]:
        """Hand over what has been put there. What was left in the middle, at any instruction, is gone on with.

        Raises:
            BrokenPipeError: the other side is gone, or this side was closed meanwhile.
        """
        while self._outbox:
            handover = self._outbox[0]
            while not handover.written:
                if not (self._theirs and self._theirs[-1] is handover):
                    self._theirs.append(handover)  # before its bytes: who has read them finds it
                fd = _fd_of(self._writer, BrokenPipeError)
                try:
                    # See `frames`: there is no instruction between the write and the note of it.
                    handover.written.extend(map(os.write, (fd,), (_FILLER[: handover.weight],)))
                except BlockingIOError:
                    self._theirs.pop()
                    yield Wait(_fd_of(self._writer, BrokenPipeError), for_writing=True)
                except OSError:
                    self._theirs.pop()
                    raise
            self._outbox.popleft()

    def withdraw(self) -> bool:
        """Take back what has been put there, if nothing of it has been handed over; return whether that is so."""
        for handover in self._outbox:
            if handover.is_untouched and self._theirs and self._theirs[-1] is handover:
                self._theirs.pop()
        return super().withdraw()

    @property
    def has_rest(self) -> bool:
        """Whether a message has been begun; a poll does not know of it."""
        return bool(self._read)

    def fetch(self) -> Steps[Message]:
        """Take one message over, and return the same one until `accept()`.

        What was left in the middle, at any instruction, is gone on with.

        Raises:
            EOFError: the other side is gone, or this side was closed meanwhile.
        """
        if self._accepted is not None:
            self.accept()  # which was left in the middle
        if not self._blocking and not self._read:
            yield Wait(_fd_of(self._reader, EOFError))  # the other side has yet to think: do not even try
        while missing := self._missing():
            fd = _fd_of(self._reader, EOFError)
            try:
                self._read.extend(map(os.read, (fd,), (missing,)))
            except BlockingIOError:
                yield Wait(fd)
                continue
            if not self._read[-1]:
                raise EOFError
        return self._ours[0].message

    def accept(self) -> None:
        """Take the message that has arrived, if one has. May be called twice."""
        if self._accepted is None and self._missing() == 0:
            self._accepted = self._ours[0]
        if self._accepted is not None:
            self._read = []
            if self._ours and self._ours[0] is self._accepted:
                self._ours.popleft()
            self._accepted = None

    def _missing(self) -> int:
        # How many bytes of the message are still to be read, as far as is known.
        count = sum(map(len, self._read))
        return self._ours[0].weight - count if count else 1


def _fd_of(end: PipeEnd, error: type[Exception]) -> int:
    # Asked each time, since it may have been closed meanwhile: in a forked child, or by the collector.
    try:
        return end.fileno()
    except OSError:
        raise error from None


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
    try:
        response_reader, response_writer = _small_pipe()
    except OSError:  # no descriptors are to be had; or the error would hold those of the first
        request_reader.close()
        request_writer.close()
        raise
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
