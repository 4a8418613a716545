"""What a call sends: the bytes of one buffer or of several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Buffer = Any  # bytes, or whatever has the buffer interface: typing cannot say that before Python 3.12


def size_of(buffers: Sequence[Buffer]) -> int:
    """Return how many bytes they have."""
    if len(buffers) == 1:
        return memoryview(buffers[0]).nbytes
    return sum(memoryview(data).nbytes for data in buffers)


def rest_of(buffers: Sequence[Buffer], sent: int) -> memoryview:
    """Return what is left after so many bytes; of one buffer, without a copy."""
    whole = buffers[0] if len(buffers) == 1 else b"".join(buffers)
    return memoryview(whole).cast("B")[sent:]
