"""A channel: two one-way `multiprocessing` pipes, one in each direction.

`write()` and `read()` do as much as they can, and return a `Wait` where a pipe is not ready. Who calls them waits for
it as it likes (a blocking poll, asyncio, trio), and calls them again, or never. What has crossed by then is the
channel's: the next call goes on where the one before was left, wherever that was.
"""

from __future__ import annotations

import sys
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from socketless._genuine import fcntl, os
from socketless._wire import codec
from socketless._wire.frames import Incoming, Outgoing
from socketless._wire.messages import Message
from socketless._wire.pipes import PipeEnd, fd_of, make_pipe
from socketless._wire.steps import Steps, Wait

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_WIDE = 256 * 1024  # of a pipe that has carried a large message

Frame = Any  # a message that is ready to be written; each kind of channel has its own


@dataclass(frozen=True)
class ChannelEnds:
    """The two ends of a new channel."""

    host: Channel
    worker: Channel


class Channel:
    """One end of a channel. It carries one exchange at a time.

    One thread at a time may write, and one, which may be another, read.
    """

    spins = False  # see `may_spin()`

    def __init__(self, number: int, reader: PipeEnd, writer: PipeEnd) -> None:
        self.number = number
        self._reader = reader
        self._writer = writer
        self._incoming = Incoming()
        self._outbox: deque[Any] = deque()  # frames
        self._blocking = True
        self._has_waited = False  # since the last message was taken
        self._wide = False

    def __repr__(self) -> str:
        return f"<Channel {self.number}>"

    @property
    def read_fd(self) -> int:
        return self._reader.fileno()

    def fileno(self) -> tuple[int, int]:
        """The descriptors to read from and to write to."""
        return self._reader.fileno(), self._writer.fileno()

    @property
    def has_rest(self) -> bool:
        """Whether bytes beyond the last message have been read; a poll does not know of them."""
        return not self._incoming.is_empty

    def set_blocking(self, blocking: bool) -> None:
        """Choose whether the methods block, or yield a `Wait` instead. They block at first."""
        self._blocking = blocking
        for fd in self.fileno():
            os.set_blocking(fd, blocking)

    def send(self, message: Message) -> Steps[None]:
        """Write one message.

        Raises:
            TransferError: it cannot be pickled; nothing was written.
            BrokenPipeError: the other side is gone.
        """
        self.put(self.frame_of(message))
        return self.flush()

    def flush(self) -> Steps[None]:
        """Write what has been put there, to its end; it raises as `write()` does."""
        while (wait := self.write()) is not None:
            yield wait

    def frame_of(self, message: Message) -> Frame:
        """Make a message ready to be written.

        Raises:
            TransferError: it cannot be pickled.
        """
        return Outgoing(codec.encode(message))

    def put(self, frame: Frame) -> None:
        """Let a message be written by the next `write()`, or by the one that is under way."""
        self._outbox.append(frame)

    def write(self) -> Wait | None:
        """Write what has been put there; return what to wait for, `None` when all of it is written.

        Raises:
            BrokenPipeError: the other side is gone, or this side was closed meanwhile.
        """
        while self._outbox:
            frame = self._outbox[0]
            if not self._wide and frame.is_large:
                self._widen()
            while frame.left():
                fd = fd_of(self._writer, BrokenPipeError)
                try:
                    frame.write(fd)
                except BlockingIOError:
                    return Wait(fd, for_writing=True)
            self._outbox.popleft()
        return None

    @property
    def has_unsent(self) -> bool:
        """Whether something that was put there has not been written to its end."""
        return bool(self._outbox)

    def withdraw(self) -> bool:
        """Take back what has been put there, if nothing of it has been written; return whether that is so."""
        if self._outbox and self._outbox[0].is_untouched:
            self._outbox.clear()
        return not self._outbox

    def _widen(self) -> None:
        # For the first large message: fewer turns of the two processes halve the time of a 4 MiB body.
        self._wide = True
        if sys.platform == "linux":
            with suppress(OSError):  # the user's share of pipe memory is used up
                fcntl.fcntl(self._writer.fileno(), fcntl.F_SETPIPE_SZ, _WIDE)

    def receive(self) -> Steps[Message]:
        """Read one message, and take it; it raises as `read()` does."""
        while isinstance(message := self.read(), Wait):
            yield message
        self.accept()
        return message

    def read(self) -> Message | Wait:
        """Return the message that comes next, the same one until `accept()`; or what to wait for.

        Raises:
            EOFError: the other side is gone, or (`NotAFrame`) it has written what is no message; or this side was
                closed meanwhile.
        """
        incoming = self._incoming
        message = None
        if not incoming.is_empty:
            message = incoming.message()
        elif not (self._blocking or self._has_waited):
            self._has_waited = True  # the other side has yet to think: the first time, do not even try
            return Wait(fd_of(self._reader, EOFError), spins=self.spins)
        while message is None:
            fd = fd_of(self._reader, EOFError)
            try:
                message = incoming.read(fd)
            except BlockingIOError:
                return Wait(fd)
        return message

    def accept(self) -> None:
        """Take the message that has arrived, if one has. May be called twice."""
        self._incoming.accept()
        self._has_waited = False

    def break_off(self) -> None:
        """Let both pipes end for both sides. Any thread may call it, whatever another one is in the middle of.

        Raises:
            OSError: no descriptors are to be had for it.
        """
        self._writer.break_off()
        self._reader.break_off()

    def close(self) -> None:
        """Close both pipes. May be called twice, and by two threads at once."""
        self._reader.close()
        self._writer.close()


def make_channel(number: int) -> ChannelEnds:
    """Make a channel. The host's end does not block, the worker's does."""
    request_reader, request_writer = make_pipe()
    try:
        response_reader, response_writer = make_pipe()
    except OSError:  # no descriptors are to be had; or the error would hold those of the first
        request_reader.close()
        request_writer.close()
        raise
    host = Channel(number, response_reader, request_writer)
    host.set_blocking(False)
    return ChannelEnds(host, Channel(number, request_reader, response_writer))
