"""Messages that stay apart: datagrams, and the packets of SOCK_SEQPACKET.

Each is a record in a FIFO. What is too large for one lies in a file of its own, which who reads the record removes.
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Any

from socketless._loopback import folder, records
from socketless._loopback.buffers import Buffer
from socketless._loopback.pipes import close_all, failure
from socketless._loopback.state import Message
from socketless._loopback.stream import Stream
from socketless._loopback.system import os, read_file, write_file

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_INLINE, _FILE, _NUDGE = range(3)
_MSG_TRUNC = 0x20
LARGEST_OF_UNIX = 212960


def pack(data: Buffer, source: Any) -> bytes:
    """Return the record of a message."""
    raw = bytes(data)
    record = records.pack((_INLINE, raw, source)) if len(raw) < records.SIZE else None
    return record or _spooled(raw, source)


def _spooled(raw: bytes, source: Any) -> bytes:
    name = folder.unique()
    write_file(os.path.join(folder.open_folder(), "d", name), raw)
    record = records.pack((_FILE, name, source))
    assert record is not None, "names are short"
    return record


def discard(record: bytes) -> None:
    """Take notice that nobody will read a record."""
    kind, name, _ = records.unpack(record)
    if kind == _FILE:
        _take_file(name)


def _take_file(name: str, *, peek: bool = False) -> bytes:
    path = os.path.join(folder.open_folder(), "d", name)
    raw = read_file(path)
    if not peek:
        with suppress(OSError):
            os.unlink(path)
    return raw


def nudge() -> bytes:
    """Return a record that is no message: it wakes who waits for one."""
    record = records.pack((_NUDGE, None, None))
    assert record is not None, "nothing is short"
    return record


def is_nudge(record: bytes) -> bool:
    """Whether it is such a one."""
    return bool(records.unpack(record)[0] == _NUDGE)


def unpack(record: bytes, size: int, *, peek: bool = False) -> Message:
    """Return the message of a record, cut to a size."""
    kind, content, source = records.unpack(record)
    raw = _take_file(content, peek=peek) if kind == _FILE else content
    return Message(raw[:size], source, _MSG_TRUNC if len(raw) > size else 0, len(raw))


class PacketStream(Stream):
    """A connection of SOCK_SEQPACKET."""

    def receive(self, fd: int, size: int, *, peek: bool = False) -> Message:
        record = super().receive(fd, records.SIZE, peek=True).data if peek else super().read(fd, records.SIZE)
        return unpack(record, size, peek=peek) if record else Message(b"")

    def _grow(self) -> bool:
        return False  # so few packets of a UNIX socket wait that there is room for them

    def read(self, fd: int, size: int) -> bytes:
        record = super().read(fd, records.SIZE)
        return unpack(record, size).data if record else b""

    def read_into(self, fd: int, view: memoryview) -> int:
        data = self.read(fd, view.nbytes)
        view[: len(data)] = data
        return len(data)

    def write_all_of(self, buffers: Any) -> int:
        raw = b"".join(bytes(data) for data in buffers)
        if len(raw) > LARGEST_OF_UNIX:
            raise failure(errno.EMSGSIZE)
        record = pack(raw, None)
        try:
            super().write_all_of([record])
        except OSError:
            discard(record)
            raise
        return len(raw)


class PairedDatagram(PacketStream):
    """One of a pair of datagram sockets. It has no end: to read, it waits for ever; to write, nobody is there."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.keeps = -1  # a writing end of the pipe that it reads from

    def _stop_writing(self) -> None:
        pass  # the other one is not told

    def _write_to_nobody(self, size: int) -> int:
        is_first, self._has_written_to_nobody = not self._has_written_to_nobody, True
        raise failure(errno.ECONNREFUSED if is_first else errno.ENOTCONN)

    def close(self) -> None:
        super().close()
        close_all(self.keeps)
        self.keeps = -1
