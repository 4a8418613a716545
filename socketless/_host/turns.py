"""Places in a queue: for a channel, or for the messages of an exchange."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain, starmap

from socketless._genuine import os


class Turn:
    """A place in a queue: a pipe, which any thread can write to and any loop can wait for."""

    def __init__(self) -> None:
        self._fds: list[int] = []
        self._fds.extend(chain.from_iterable(starmap(os.pipe, [()])))  # without an instruction in between

    @property
    def fd(self) -> int:
        return self._fds[0]

    def come(self) -> None:
        # Must be called with the queue's lock held, or by who cannot know whether it was called already.
        with suppress(IndexError):  # nobody waits any more
            os.write(self._fds[1], b"\0")

    def close(self) -> None:
        with suppress(IndexError):
            while True:
                os.close(self._fds.pop())

    def __del__(self) -> None:
        self.close()
