"""Steps: work that is done as far as it goes, and then says what it has to wait for.

They are generators that yield a `Wait`; `socketless._wire.drivers` drives them, however the caller waits: by a blocking
poll, asyncio or trio. Steps that carry a streamed body yield a `Pull` as well, and those of a `Bridge` yield other
needs. Where the pipes block, as a worker's control channel does, they never yield, and `finish()` drives them.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any, NamedTuple, TypeVar

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

T = TypeVar("T")


class Wait(NamedTuple):
    """What a driver should wait for: `fd` to be ready, the worker's end, or the deadline."""

    fd: int
    for_writing: bool = False
    sentinel: int | None = None  # a descriptor that is readable once the worker has ended; many may wait for it
    deadline: float | None = None  # a value of genuine.monotonic()
    spins: bool = False  # `fd` may be ready in a moment: a blocking driver should `spin()` first


class Woken(enum.Enum):
    """Why a driver has stopped waiting; it is sent into the steps."""

    READY = enum.auto()  # `fd` is ready; the worker may have ended as well
    ENDED = enum.auto()  # the worker has ended, and `fd` is not ready
    LATE = enum.auto()  # the deadline has passed


# Before Python 3.12, looking a member up costs a call.
READY, ENDED, LATE = Woken


class Need:
    """What steps need other than a `Wait`. A driver knows `Pull`; whoever drives steps that have others meets those."""


class Pull(Need):
    """What a driver should get: the next item of `chunks`, or `None` at their end; it is sent into the steps."""

    def __init__(self, chunks: Iterator[bytes] | AsyncIterator[bytes]) -> None:
        self.chunks = chunks  # whichever the driver can wait for

    def take(self) -> PullingSteps[bytes | None]:
        """Return the next item, or `None` at the end. A subclass may make it of several."""
        chunk: bytes | None = yield self
        return chunk


Steps = Generator[Wait, Woken, T]
PullingSteps = Generator[Wait | Need, Any, T]


def finish(steps: Steps[T]) -> T:
    """Drive steps that cannot wait, because their pipes block."""
    try:
        wait = next(steps)
    except StopIteration as stop:
        value: T = stop.value
        return value
    raise AssertionError(f"a blocking pipe asked to wait: {wait}")
