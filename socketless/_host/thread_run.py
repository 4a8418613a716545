"""One life of a thread worker: a `Run`."""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from typing import Any

from socketless._forking import close_in_forks
from socketless._host.failures import error_of_app, start_error
from socketless._host.sentinel import Sentinel
from socketless._wire.channel import Channel
from socketless._wire.drivers import deadline_after, remaining, until_readable
from socketless._wire.local import make_local_channel
from socketless._wire.messages import Failed, Message, Ready, Start
from socketless._wire.steps import Steps, Woken
from socketless._worker.thread import WorkerThread
from socketless.errors import WorkerStartError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


_END_SECONDS = 2.0  # how long a thread may take to end after it has closed its pipes


class ThreadOutput:
    """What a thread prints, logs and warns of is seen without us."""

    def __init__(self, thread: WorkerThread) -> None:
        self._thread = thread

    def forward(self, *, quietly: bool = False) -> None:
        """Do nothing."""

    def tail(self) -> str:
        """Return what has ended the thread, if something has."""
        return self._thread.death


class ThreadRun:
    """A worker on threads of this process, with its channels. It starts at once; `handshake()` comes next."""

    pid = None
    exitcode = None
    levels = None  # it has the same loggers

    def __init__(self, start: Start) -> None:
        self._owner_pid = os.getpid()
        self.channels: list[Channel] = []  # they are made as needed
        self._end_is_announced = False
        self.sentinel = Sentinel()
        try:
            ends = make_local_channel(0)
        except OSError:
            self.sentinel.close()
            raise
        self._control = ends.host
        close_in_forks(self.sentinel.writer)
        self._thread = WorkerThread(ends.worker, start, self.sentinel.writer.close)
        self.output = ThreadOutput(self._thread)
        try:
            self._thread.start()
        except BaseException as error:
            self._thread.stop()
            if isinstance(error, RuntimeError):  # no thread is to be had; else Ctrl-C, and then it may have started
                for each in (ends.worker, ends.host, self.sentinel):
                    each.close()
            raise

    @property
    def has_ended(self) -> bool:
        return not self._thread.is_alive()

    @property
    def error(self) -> BaseException | None:
        """What the app has raised when it was shut down."""
        error = self._thread.error
        return None if error is None else error_of_app(error)

    def open_channel(self, number: int) -> Channel:
        """Make a channel, and have it served."""
        ends = make_local_channel(number)
        try:
            self._thread.serve(ends.worker)
        except RuntimeError:
            ends.worker.close()
            if not self._thread.is_ending:  # or who sends something will see that
                ends.host.close()
                raise  # no thread is to be had
        return ends.host

    def another_channel(self) -> Steps[Channel | None]:
        """Return `None`: they are made as needed."""
        yield from ()
        return None

    def handshake(self, start: Start, timeout: float | None) -> Steps[str]:
        """Wait until the worker is ready and return the kind of its app.

        Raises:
            WorkerStartError: it is not going to be ready. A thread that hangs stays where it is: it cannot be killed.
        """
        answer = yield from self._first_message(timeout)
        self._control.close()
        if isinstance(answer, Ready):
            return answer.app_kind
        assert isinstance(answer, Failed)
        raise start_error(answer, "")

    def _first_message(self, timeout: float | None) -> Steps[Message]:
        deadline = deadline_after(timeout)
        steps = self._control.receive()
        try:
            wait = next(steps)
            while True:
                woken = yield wait._replace(deadline=deadline)
                if woken is Woken.LATE:
                    stack = self._thread.stack_of(None).rstrip()
                    raise WorkerStartError(f"the worker was not ready after {timeout:g} s; it is at:\n{stack}")
                wait = steps.send(woken)
        except StopIteration as stop:
            message: Message = stop.value
            return message

    def share_levels(self, levels: dict[str, int], timeout: float | None) -> Steps[None]:
        """Do nothing."""
        yield from ()

    def stack_of(self, channel: Channel) -> Steps[str]:
        """Return where the exchange on a channel is."""
        yield from ()
        return self._thread.stack_of(channel.number)

    def kill(self, number: int) -> None:
        """Do nothing: there is no process of its own."""

    def announce_end(self) -> None:
        """Wake everybody who waits for an answer: there will be none."""
        self._end_is_announced = True
        self.sentinel.writer.close()

    def end_channel(self, channel: Channel) -> Steps[bool]:
        """Let a channel end at the worker, too; return whether the worker goes on without it."""
        yield from ()
        if self._end_is_announced or self._thread.is_ending:
            return False
        with suppress(OSError):  # no descriptors are to be had for it
            self._thread.end_channel(channel.number)
        return True

    def wait_for_end(self) -> Steps[None]:
        """Wait for a worker that has closed its pipes."""
        with suppress(EOFError):  # it was stopped just now
            yield from until_readable(self.sentinel.fd, _END_SECONDS)

    @property
    def app(self) -> Any:
        """The app as it was loaded. Must be called after `handshake()`."""
        return self._thread.app

    @property
    def is_here(self) -> bool:
        """Whether this is the thread of the app's event loop."""
        return self._thread.is_on_loop

    def __del__(self) -> None:
        # The garbage collector may have come here in any thread, in one of the worker's, too: wait for nothing. In a
        # forked child the threads are not there, and their lock may be locked for ever.
        if hasattr(self, "_thread") and os.getpid() == self._owner_pid:
            self._thread.stop()

    def stop(self, timeout: float | None) -> None:
        """End it, and wait for that for `timeout` seconds (`None`: for ever). May be called twice."""
        deadline = deadline_after(timeout)
        self._thread.stop()
        if self._thread is not threading.current_thread():
            self._thread.join(remaining(deadline))
        self._thread.mark_late()
        self._control.close()
        self.announce_end()
        self.sentinel.close()
