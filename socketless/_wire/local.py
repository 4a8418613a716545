"""A channel inside one process: the objects themselves cross, and the pipes say when.

A queue holds the messages; for each, a few bytes go through the pipe, so that a host waits for a thread as it waits for
a process: by a poll, on asyncio, on trio, without a socket. The larger a message's body, the more bytes: the pipe's
capacity limits what is in flight, as where the body itself is in the pipe.
"""

from __future__ import annotations

import select
import sys
from collections import deque
from contextlib import suppress
from contextvars import Context, copy_context

from socketless._forking import close_in_forks
from socketless._genuine import fcntl, os
from socketless._wire.channel import Channel, ChannelEnds, Frame
from socketless._wire.messages import Message, Opening, size_of
from socketless._wire.pipes import PipeEnd, fd_of, make_pipe
from socketless._wire.steps import Wait

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
        self._arrived: _Handover | None = None  # the first of `_ours`, once all of its bytes have been read
        close_in_forks(self)

    def frame_of(self, message: Message) -> Frame:
        """Make a message ready to be handed over. One that begins an exchange takes a copy of the context along."""
        if isinstance(message, Opening):
            # As dataclasses.replace(), which takes twice as long.
            message = type(message)(**vars(message) | {"context": _copy_context()})
        return _Handover(message)

    def write(self) -> Wait | None:
        """Hand over what has been put there; return what to wait for, `None` when all of it is handed over.

        Raises:
            BrokenPipeError: the other side is gone, or this side was closed meanwhile.
        """
        while self._outbox:
            handover = self._outbox[0]
            if not handover.written:
                if not (self._theirs and self._theirs[-1] is handover):
                    self._theirs.append(handover)  # before its bytes: who has read them finds it
                fd = fd_of(self._writer, BrokenPipeError)
                try:
                    # See `frames`: there is no instruction between the write and the note of it.
                    handover.written.extend(map(os.write, (fd,), (_FILLER[: handover.weight],)))
                except BlockingIOError:
                    self._theirs.pop()
                    return Wait(fd, for_writing=True)
                except OSError:
                    self._theirs.pop()
                    raise
            self._outbox.popleft()
        return None

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

    def read(self) -> Message | Wait:
        """Return the message that comes next, the same one until `accept()`; or what to wait for.

        Raises:
            EOFError: the other side is gone, or this side was closed meanwhile.
        """
        if self._arrived is None:
            if not (self._read or self._blocking or self._has_waited):
                self._has_waited = True  # see `Channel.read()`
                return Wait(fd_of(self._reader, EOFError))
            while missing := self._missing():
                fd = fd_of(self._reader, EOFError)
                try:
                    self._read.extend(map(os.read, (fd,), (missing,)))
                except BlockingIOError:
                    return Wait(fd)
                if not self._read[-1]:
                    raise EOFError
            self._arrived = self._ours[0]
        return self._arrived.message

    def accept(self) -> None:
        """Take the message that has arrived, if one has. May be called twice."""
        if self._arrived is not None:
            if self._ours and self._ours[0] is self._arrived:
                self._ours.popleft()
            self._read = []
            self._has_waited = False
            self._arrived = None

    def _missing(self) -> int:
        # How many bytes of the message are still to be read, as far as is known.
        count = sum(map(len, self._read))
        return self._ours[0].weight - count if count else 1


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


def _copy_context() -> Context:
    # Without what it says of the event loop that the test itself may run on: the app runs on another.
    context = copy_context()
    sniffio = sys.modules.get("sniffio")
    if sniffio is not None:
        context.run(sniffio.current_async_library_cvar.set, None)
    return context


def _small_pipe() -> tuple[PipeEnd, PipeEnd]:
    reader, writer = make_pipe()
    if sys.platform == "linux":
        with suppress(OSError):
            fcntl.fcntl(writer.fileno(), fcntl.F_SETPIPE_SZ, _PAGE)
    return reader, writer
