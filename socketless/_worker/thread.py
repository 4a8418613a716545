"""The worker of a thread: the same runners as in a process, with the app object that everybody here shares.

    thread socketless-worker-N                       threads socketless-channel-N
    loads the app
    says Ready
    runs, as the main thread of a worker process     one for each channel in use, as there
    leaves  ◀── stop()

It knows nothing of the host's objects, so that a worker that is dropped can be collected while its threads run: what
the host drops, it tells to `stop()`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from socketless import eventloop
from socketless._locks import make_lock
from socketless._wire.channel import Channel
from socketless._wire.messages import Ready, Start
from socketless._wire.steps import finish
from socketless._worker import stacks
from socketless._worker.app_threads import AppThread
from socketless._worker.failures import failed
from socketless._worker.runners import Runner, make_runner

_numbers = itertools.count(1)


class WorkerThread(AppThread):
    """Loads an app and runs it; `on_end` is called when all has ended."""

    def __init__(self, control: Channel, start: Start, on_end: Callable[[], None]) -> None:
        super().__init__(f"socketless-worker-{next(_numbers)}")
        self._control = control
        self._start_message = start
        self._on_end = on_end
        self._runner: Runner | None = None
        self._lock = make_lock()  # the garbage collector may call stop() wherever a thread is
        self._is_stopped = False  # guarded by _lock
        self._has_run = False  # guarded by _lock
        self.error: BaseException | None = None  # what the app raised when it was shut down
        self.death = ""  # the traceback of what has ended it before

    def run(self) -> None:
        # Runs in the thread socketless-worker-N, until stop().
        is_ready = False
        try:
            eventloop.install()  # the app may make loops of its own, as Flask does for an async view
            runner = make_runner(self._start_message, outlives_its_worker=True)
            with self._lock:
                if self._is_stopped:
                    return
                self._runner = runner

            def on_ready() -> None:
                nonlocal is_ready
                is_ready = True
                with suppress(OSError):  # the host has not waited for it, and has called stop()
                    finish(self._control.send(Ready(runner.kind)))

            runner.run(on_ready)
        except BaseException as error:
            with self._lock:
                is_stopped = self._is_stopped
            if not is_ready:
                with suppress(OSError):
                    finish(self._control.send(failed(error)))
            elif is_stopped:
                stacks.hide_our_frames(error)
                self.error = error
            else:
                self.death = failed(error).traceback
        finally:
            with self._lock:
                self._has_run = True
            self._control.close()
            self._on_end()
            del self._on_end, self._start_message

    def serve(self, channel: Channel) -> None:
        """Answer what comes over a channel from now on. Must be called after it has said Ready."""
        assert self._runner is not None
        self._runner.serve(channel)

    def end_channel(self, number: int) -> None:
        """Let a channel end that has ended at the host, though its pipe may not say so; see `Runner`."""
        assert self._runner is not None
        self._runner.end_channel(number)

    @property
    def is_ending(self) -> bool:
        """Whether its runner has come to its end, or was told to."""
        with self._lock:
            return self._is_stopped or self._has_run or (self._runner is not None and self._runner.is_ending)

    @property
    def app(self) -> Any:
        """The app as it was loaded. Must be called after it has said Ready."""
        assert self._runner is not None
        return self._runner.app

    @property
    def is_on_loop(self) -> bool:
        """Whether this is called in the thread of the app's event loop."""
        return self._runner is not None and self._runner.is_on_loop

    def stop(self) -> None:
        """Let it leave, without waiting for that."""
        with self._lock:
            self._is_stopped = True
            runner = self._runner
        if runner is not None:
            runner.stop()

    def mark_late(self) -> None:
        """Wait for nothing any more: what is left has outlived this worker. Must be called after stop()."""
        with self._lock:
            runner = self._runner
        for thread in [self, *([] if runner is None else runner.threads)]:
            thread.is_late = True

    def stack_of(self, number: int | None) -> str:
        """Return where the exchange on a channel is, as in a traceback; without a number, where the start is."""
        try:
            runner = self._runner
            return stacks.of_thread(self) if runner is None else runner.stack_of(number)
        except Exception:
            return ""  # it has moved on while it was looked at
