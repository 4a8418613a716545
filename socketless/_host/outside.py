"""What stands, in a worker process, for the other workers of the switch: see `socketless._host.upstreams`.

The *parent* is the process in which the switch is on.
"""

from __future__ import annotations

import time
from contextlib import suppress

from socketless._genuine import os
from socketless._host.exchange import Exchange
from socketless._host.lifetime import Run
from socketless._host.limits import NO_LIMITS, Timeouts
from socketless._host.sentinel import Sentinel
from socketless._host.worker import Worker
from socketless._wire.channel import Channel
from socketless._wire.drivers import deadline_after, poll
from socketless._wire.fifos import offered_channel
from socketless._wire.messages import InheritedSource, Message, Request, Start
from socketless._wire.steps import Pull, PullingSteps, Steps, Wait, Woken
from socketless.errors import UnknownHost, WorkerStartError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_SECONDS = 10.0  # for the parent to open a channel, which takes it milliseconds
_LOOK_SECONDS = 0.002  # how often it is looked for, where a FIFO without a writer cannot be waited for


class OutsideWorker(Worker):
    """Answers requests by handing them to the parent, which sends them to the worker that has their host.

    Args:
        path: of the FIFO on which the parent listens.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        source = InheritedSource(None, "the apps of the switch")
        super().__init__(
            Start(source, "asgi", None, []),
            startup_timeout=None,
            shutdown_timeout=0.0,
            max_connections=None,
            max_restarts=0,
            debug=False,
        )

    def _launch(self) -> Run:
        return _OutsideRun(self._path)

    def exchange(
        self, message: Message, timeouts: Timeouts = NO_LIMITS, body: Pull | None = None
    ) -> PullingSteps[Exchange]:
        if isinstance(message, Request) and message.is_websocket:
            raise self.websocket_error(message.label)
        return super().exchange(message, timeouts, body)

    def websocket_error(self, what: str) -> UnknownHost:
        """Return the error for a WebSocket."""
        return UnknownHost(
            f"{what}: a WebSocket out of an app in a worker process is not carried to other apps; run that app on "
            "threads"
        )

    def _describe(self, run: Run | None) -> str:
        return "in other workers"


class _NoOutput:
    def forward(self, *, quietly: bool = False) -> None:
        """Do nothing: the parent shows what its workers print."""

    def tail(self) -> str:
        """Return nothing, for the same reason."""
        return ""


class _OutsideRun:
    """The `Run` of one life of this process."""

    pid = exitcode = error = None
    levels = None  # of logging, which the parent shares with its workers itself
    has_ended = is_here = False

    def __init__(self, path: str) -> None:
        self._path = path
        self.sentinel = Sentinel()  # which never says anything: when the parent ends, so does this process
        self.output = _NoOutput()
        self.channels: list[Channel] = []  # they are made as needed

    def open_channel(self, number: int) -> Channel:
        """Make a channel, and wait until the parent has opened it.

        Raises:
            WorkerStartError: it has not.
            OSError: no descriptors are to be had.
        """
        with offered_channel(number) as (channel, requests, responses):
            try:
                self._announce(f"{number}\t{requests}\t{responses}\n")
                _await_greeting(channel.read_fd)
            except OSError as error:
                channel.close()
                raise WorkerStartError(
                    f"the other apps of the switch cannot be reached; perhaps the switch has ended: {error}"
                ) from error
            except BaseException:
                channel.close()
                raise
        return channel

    def _announce(self, line: str) -> None:
        fd = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK)
        try:
            os.write(fd, line.encode())  # as a whole, as it is that short
        finally:
            os.close(fd)

    def another_channel(self) -> Steps[Channel | None]:
        """Return `None`: they are made as needed."""
        yield from ()
        return None

    def handshake(self, start: Start, timeout: float | None) -> Steps[str]:
        """Return the kind of app that is also asked for WebSockets, which are refused in words of their own."""
        yield from ()
        return "asgi"

    def share_levels(self, levels: dict[str, int], timeout: float | None) -> Steps[None]:
        """Do nothing."""
        yield from ()

    def stack_of(self, channel: Channel) -> Steps[str]:
        """Return nothing: the app is in another process."""
        yield from ()
        return ""

    def kill(self, number: int) -> None:
        """Do nothing: there is no process of its own."""

    def end_channel(self, channel: Channel) -> Steps[bool]:
        """Return that the parent lives on, though its switch may be over."""
        yield from ()
        return True

    def wait_for_end(self) -> Steps[None]:
        """Do nothing."""
        yield from ()

    def stop(self, timeout: float | None) -> None:
        """Let nobody wait any more."""
        self.sentinel.writer.close()
        self.sentinel.close()


def _await_greeting(fd: int) -> None:
    wait = Wait(fd, deadline=deadline_after(_SECONDS))
    while poll(wait) is Woken.READY:
        with suppress(BlockingIOError):
            if os.read(fd, 1):
                return
            time.sleep(_LOOK_SECONDS)
    raise TimeoutError("nobody has opened the channel")
