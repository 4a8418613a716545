"""What is written into a FIFO: records of one size, so that the kernel keeps them apart.

A write of so few bytes is atomic, and so is a read of what has been written like that. So several processes may write
into one FIFO, and several may read from it, as the children of a pre-forking server do.
"""

from __future__ import annotations

import marshal
from typing import Any

from socketless._loopback.system import os

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

SIZE = 512  # the least PIPE_BUF that POSIX knows
_ROOM = SIZE - 2


def pack(values: tuple[Any, ...]) -> bytes | None:
    """Return the record of some plain values; `None`: there is no room for them."""
    data = marshal.dumps(values)
    return None if len(data) > _ROOM else len(data).to_bytes(2, "big") + data.ljust(_ROOM, b"\0")


def unpack(record: bytes) -> Any:
    """Return the values of a record."""
    return marshal.loads(record[2 : 2 + int.from_bytes(record[:2], "big")])


def read(fd: int) -> Any:
    """Take the next record out of a FIFO; `None`: its last writer has gone.

    Raises:
        BlockingIOError: there is none.
    """
    record = os.read(fd, SIZE)
    return unpack(record) if record else None
