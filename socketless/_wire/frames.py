"""What is being written to a pipe, and what is being read from one.

An exception may come at any instruction: out of a signal's handler (Ctrl-C, pytest-timeout), or because a task is
cancelled and its generator is dropped. What has crossed the pipe by then must be known all the same, or the channel is
of no use any more. So there is no instruction between a system call and the note of what it did: `list.extend()` calls
`map`, and that the system call, all in C. And what has come of it takes the place of what was there by one store.
"""

from __future__ import annotations

import io
from typing import NamedTuple

from socketless._genuine import os
from socketless._wire import codec
from socketless._wire.messages import Message

_READ_SIZE = 64 * 1024  # a pipe's usual capacity
_LONG_READ = 256 * 1024  # of a message that is known to be long


class Outgoing:
    """A frame that is being written. It may be left at any time, and gone on with."""

    def __init__(self, pieces: list[memoryview]) -> None:
        self.is_large = len(pieces) > 1
        self._whole: tuple[list[memoryview], list[int]] = (pieces, [])
        self._state = self._whole  # what is left, and how many bytes of that have been written

    def left(self) -> list[memoryview]:
        """Return what is still to be written."""
        pieces, counts = self._state
        if counts:
            is_all = len(pieces) == 1 and pieces[0].nbytes == counts[0]
            pieces = [] if is_all else _without(pieces, counts[0])
            self._state = pieces, []
        return pieces

    @property
    def is_untouched(self) -> bool:
        """Whether nothing of it has been written."""
        return self._state is self._whole and not self._whole[1]

    def write(self, fd: int) -> None:
        """Write as much as the pipe takes at once. Must be called while something is `left()`.

        Raises:
            BlockingIOError: that is nothing.
            BrokenPipeError: nobody reads it.
        """
        pieces, counts = self._state
        counts.extend(map(os.writev, (fd,), (pieces,)))


def _without(pieces: list[memoryview], count: int) -> list[memoryview]:
    # The pieces after the first `count` bytes.
    for index, piece in enumerate(pieces):
        if count < piece.nbytes:
            return [piece[count:], *pieces[index + 1 :]]
        count -= piece.nbytes
    return []


class _Body(NamedTuple):
    """A body that is being read into memory of its final size; BytesIO gives that away as bytes without a copy."""

    payload: bytes
    memory: io.BytesIO
    size: int
    position: int
    counts: list[int]  # of the bytes that have been read from there on

    @property
    def filled(self) -> int:
        return self.position + sum(self.counts)


class Incoming:
    """The messages that are being read from a pipe. It may be left at any time, and gone on with.

    Of a message, the first of these that is there is what counts: `_arrived`, `_body`, `_chunks`.
    """

    def __init__(self) -> None:
        self._chunks: list[bytes] = []  # all that has been read
        self._needed = codec.HEAD.size  # how many bytes of them, as far as is known
        self._body: _Body | None = None
        self._arrived: tuple[Message, bytes] | None = None  # with the first bytes of the next one, perhaps

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been read since the last message was taken."""
        return not self._chunks

    def message(self) -> Message | None:
        """Return the message that has arrived, the same one until `accept()`; `None`: there is more to be read.

        Raises:
            NotAFrame: what has been read is no message.
        """
        return self._look() if self._arrived is None else self._arrived[0]

    def accept(self) -> None:
        """Take the message that has arrived, if one has. May be called twice."""
        if self._arrived is not None:
            rest = self._arrived[1]
            self._chunks = [rest] if rest else []
            self._needed = codec.HEAD.size
            self._body = None
            self._arrived = None  # the last: who is interrupted here does it all once more

    def read(self, fd: int) -> Message | None:
        """Read once, and return what `message()` does then.

        Raises:
            BlockingIOError: there is nothing.
            EOFError: nor will there be. Or (`NotAFrame`) it is no message.
        """
        if self._arrived is not None:
            return self._arrived[0]
        if self._body is not None:
            self._read_body(self._body, fd)
        else:
            size = _READ_SIZE if self._needed <= _READ_SIZE else _LONG_READ
            self._chunks.extend(map(os.read, (fd,), (size,)))
            if not self._chunks[-1]:
                raise EOFError
        return self._look()

    def _read_body(self, body: _Body, fd: int) -> None:
        with body.memory.getbuffer() as whole, whole[body.filled :] as rest:
            body.counts.extend(map(os.readv, (fd,), ([rest],)))
        if not body.counts[-1]:
            raise EOFError
        self._body = body._replace(position=body.filled, counts=[])

    def _look(self) -> Message | None:
        # Take apart what has been read, and return the message that it is, if all of it is there.
        if self._body is not None:
            return self._look_at_body(self._body)
        chunks = self._chunks
        if len(chunks) != 1 and sum(map(len, chunks)) < self._needed:
            return None
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if len(data) < self._needed:
            return None
        payload_size, has_body = codec.read_head(data)
        start = codec.HEAD.size + codec.LENGTH.size * has_body
        self._needed = end = start + payload_size
        if len(data) < end:
            self._chunks = [data]
            return None
        if has_body:
            return self._begin_body(data[start:end], codec.read_length(data[codec.HEAD.size : start]), data[end:])
        return self._arrive(codec.decode(data[start:end], []), data[end:])

    def _arrive(self, message: Message, rest: bytes) -> Message:
        self._arrived = message, rest
        return message

    def _begin_body(self, payload: bytes, size: int, data: bytes) -> Message | None:
        body = data[:size]
        if len(body) == size:
            return self._arrive(codec.decode(payload, [body]), data[size:])
        memory = io.BytesIO(bytes(size))
        memory.write(body)
        self._body = _Body(payload, memory, size, len(body), [])
        return None

    def _look_at_body(self, body: _Body) -> Message | None:
        if body.filled < body.size:
            return None
        return self._arrive(codec.decode(body.payload, [body.memory.getvalue()]), b"")
