"""A pipe that says by its end that a worker has ended."""

from __future__ import annotations

from socketless._wire.pipes import fd_of, make_pipe


class Sentinel:
    """Any number of threads and tasks may wait for it. Any thread may call it."""

    def __init__(self) -> None:
        self._reader, self.writer = make_pipe()

    @property
    def fd(self) -> int:
        """A descriptor that is readable once the worker has ended.

        Raises:
            EOFError: nobody is to wait for it any more.
        """
        return fd_of(self._reader, EOFError)

    def close(self) -> None:
        """Let go of it. May be called twice."""
        self._reader.close()
        self.writer.close()
