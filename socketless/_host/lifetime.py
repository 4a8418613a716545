"""What a host knows of one life of a worker: launched, ready, ended. A worker that is restarted has a new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from socketless._host.levels import Levels
from socketless._host.sentinel import Sentinel
from socketless._wire.channel import Channel
from socketless._wire.messages import Start
from socketless._wire.steps import Steps


class Output(Protocol):
    """What a worker has printed, logged and warned of."""

    def forward(self, *, quietly: bool = False) -> None:
        """Let it be seen here, if it was not yet.

        Raises:
            Exception: a warning that is an error here, or what a handler of a log raises; `quietly`, none.
        """

    def tail(self) -> str:
        """Return the last lines of standard error."""


class Run(Protocol):
    """One life of a worker."""

    @property
    def pid(self) -> int | None:
        """Of the process, if it has one of its own."""

    @property
    def exitcode(self) -> int | None: ...

    @property
    def error(self) -> BaseException | None:
        """What the app has raised when it was shut down, if that is to be raised here."""

    @property
    def output(self) -> Output: ...

    @property
    def channels(self) -> list[Channel]:
        """Those that are there from the beginning."""

    @property
    def sentinel(self) -> Sentinel:
        """What says that the worker has ended. Its `fd` raises an EOFError once `stop()` has been called."""

    @property
    def has_ended(self) -> bool: ...

    @property
    def is_here(self) -> bool:
        """Whether the calling thread is the one that has to answer, and so must not wait for the answer."""

    @property
    def open_channel(self) -> Callable[[int], Channel] | None:
        """What makes one more channel, of a worker that gets them as needed."""

    def another_channel(self) -> Steps[Channel | None]:
        """Return a new channel, in the place of one that has ended; `None`: none is to be had."""

    def handshake(self, start: Start, timeout: float | None) -> Steps[str]:
        """Wait until the worker is ready and return the kind of its app.

        Raises:
            WorkerStartError: it is not going to be ready; it may still be there.
        """

    @property
    def levels(self) -> Levels | None:
        """Those of loggers that the worker has been told; `None`: it has the same loggers."""

    def share_levels(self, levels: dict[str, int], timeout: float | None) -> Steps[None]:
        """Give the worker levels that have `changed()`."""

    def stack_of(self, channel: Channel) -> Steps[str]:
        """Return where the exchange on a channel is; empty where the worker does not say."""

    def kill(self, number: int) -> None:
        """Send a signal to the worker's process, if it has one of its own."""

    def end_channel(self, channel: Channel) -> Steps[bool]:
        """Let a channel end at the worker, too; return whether the worker goes on without it."""

    def wait_for_end(self) -> Steps[None]:
        """Wait for a worker that has closed its pipes."""

    def stop(self, timeout: float | None) -> None:
        """End the worker, kindly for `timeout` seconds (`None`: for ever). May be called twice."""
