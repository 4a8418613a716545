"""What is being written to a pipe, and what is being read from one.

An exception may come at any instruction: out of a signal's handler (Ctrl-C, pytest-timeout), or because a task is
cancelled and its generator is dropped. What has crossed the pipe by then must be known all the same, or the channel is
of no use any more. So there is no instruction between a system call and the note of what it did: `list.extend()` calls
`map`, and that the system call, all in C. And what has come of it takes the place of what was there by one store.
"""

from __future__ import annotations

import io
from typing import NamedTuple

from socketless.genuine import os
from socketless.wire import codec
from socketless.wire.messages import Message

_READ_SIZE = 64 * 1024  # a pipe's usual capacity
_LONG_READ = 256 * 1024  # of a message that is known to be long


class Outgoing:
    """A frame that is being written. It may be left at any time, and gone on with."""

    def __init__(self, pieces: list[memoryview]) -> None:
        self._whole: tuple[list[memoryview], list[int]] = (pieces, [])
        self._state = self._whole  # what is left, and how many bytes of that have been written

    def left(self) -> list[memoryview]:
        """Return what is still to be written."""
        pieces, counts = self._state
        if counts:
            pieces = _without(pieces, counts[0])
            self._state = pieces, []
        return pieces

    @property
    def is_untouched(self) -> bool:
        """Whether nothing of it has been written."""
        return self._state is self._whole and not self._whole[1]

    @property
    def is_large(self) -> bool:
        return len(self._whole[0]) > 1

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


class _Beginning(NamedTuple):
    """All but the body is being read, in chunks; `needed` bytes of it, as far as is known."""

    chunks: list[bytes]
    needed: int = codec.HEAD.size


class _Body(NamedTuple):
    """The body is being read, into memory of its final size, which BytesIO then gives away as bytes without a copy."""

    payload: bytes
    memory: io.BytesIO
    size: int
    position: int
    counts: list[int]  # of the bytes that have been read from there on

    @property
    def filled(self) -> int:
        return self.position + sum(self.counts)


class _Arrived(NamedTuple):
    """A message is there, and perhaps the first bytes of the next one."""

    message: Message
    rest: bytes


class Incoming:
    """The messages that are being read from a pipe. It may be left at any time, and gone on with."""

    def __init__(self) -> None:
        self._state: _Beginning | _Body | _Arrived = _Beginning([])

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been read since the last message was taken."""
        return type(self._state) is _Beginning and not self._state.chunks

    def message(self) -> Message | None:
        """Return the message that has arrived, the same one until `accept()`; `None`: there is more to be read.

        Raises:
            NotAFrame: what has been read is no message.
        """
        state = self._state
        if type(state) is _Beginning:
            state = self._state = _taken_apart(state)
        if type(state) is _Body and state.filled == state.size:
            state = self._state = _Arrived(codec.decode(state.payload, [state.memory.getvalue()]), b"")
        return state.message if type(state) is _Arrived else None

    def accept(self) -> None:
        """Take the message that has arrived, if one has. May be called twice."""
        state = self._state
        if type(state) is _Arrived:
            self._state = _Beginning([state.rest] if state.rest else [])

    def read(self, fd: int) -> Message | None:
        """Read once, and return what `message()` does then.

        Raises:
            BlockingIOError: there is nothing.
            EOFError: nor will there be. Or (`NotAFrame`) it is no message.
        """
        state = self._state
        if type(state) is _Body:
            self._read_body(state, fd)
        elif type(state) is _Beginning:
            chunks, needed = state
            chunks.extend(map(os.read, (fd,), (_READ_SIZE if needed <= _READ_SIZE else _LONG_READ,)))
            if not chunks[-1]:
                raise EOFError
        return self.message()

    def _read_body(self, body: _Body, fd: int) -> None:
        with body.memory.getbuffer() as whole, whole[body.filled :] as rest:
            body.counts.extend(map(os.readv, (fd,), ([rest],)))
        if not body.counts[-1]:
            raise EOFError
        self._state = body._replace(position=body.filled, counts=[])


def _taken_apart(beginning: _Beginning) -> _Beginning | _Body | _Arrived:
    # What the bytes that have been read amount to.
    chunks, needed = beginning
    if sum(map(len, chunks)) < needed:
        return beginning
    data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    payload_size, has_body = codec.read_head(data)
    start = codec.HEAD.size + codec.LENGTH.size * has_body
    end = start + payload_size
    if len(data) < end:
        return _Beginning([data], end)
    payload = data[start:end]
    if not has_body:
        return _Arrived(codec.decode(payload, []), data[end:])
    return _with_body(payload, codec.read_length(data[codec.HEAD.size : start]), data[end:])


def _with_body(payload: bytes, size: int, data: bytes) -> _Body | _Arrived:
    body = data[:size]
    if len(body) == size:
        return _Arrived(codec.decode(payload, [body]), data[size:])
    memory = io.BytesIO(bytes(size))
    memory.write(body)
    return _Body(payload, memory, size, len(body), [])
