"""The worker, from its first line to its last.

    main thread                 control thread                  threads socketless-channel-N
    loads the app
    says Ready
    WSGI: waits                 waits for the end of the        one for each channel in use
    ASGI: runs the loop         control channel, and for the    WSGI: read a request, call the app, write
                                first bytes of a new channel,   ASGI: run the sync code of the app, while the
                                then starts its thread          loop reads, awaits the app, and writes
    leaves  ◀────────────────── Stop, or the end of the pipe

The worker never needs the host's `__main__`, and it does not outlive the host: the end of the control channel stops it,
and if leaving takes too long then, it kills itself with all its children.
"""

from __future__ import annotations

import gc
import select
import signal
import sys
import threading
from contextlib import suppress
from typing import Any
from weakref import WeakSet

from socketless import eventloop
from socketless._genuine import is_green, original, os
from socketless._wire import apps
from socketless._wire.channel import Channel
from socketless._wire.drivers import readable
from socketless._wire.fifos import open_offered
from socketless._wire.messages import (
    Done,
    EndChannel,
    Failed,
    GetStack,
    Message,
    OpenChannel,
    Opening,
    Ready,
    SetLevels,
    Stack,
    Start,
    Stop,
)
from socketless._wire.pipes import PipeEnd
from socketless._wire.steps import finish
from socketless._worker import stacks
from socketless._worker.descendants import kill_descendants
from socketless._worker.failures import failed, last_frame
from socketless._worker.levels import HostLevels
from socketless._worker.output import flush_output, set_up_output
from socketless._worker.reports import set_up_reports
from socketless._worker.runners import Runner, make_runner
from socketless.errors import AppError

_ORPHAN_SECONDS = 1.5  # how long an orphan may take to leave by itself


def spawned(fds: str, reports_fd: str) -> None:
    """Be the worker of a fresh interpreter. `fds` is `read,write` of each channel, the control channel first."""
    gc.freeze()  # what is imported stays: no collection has to go through it, nor those at the end of the interpreter
    gc.enable()
    pairs = [[int(fd) for fd in pair.split(",")] for pair in fds.split(":")]
    for fd in (fd for pair in pairs for fd in pair):
        os.set_inheritable(fd, False)  # not for the children of the app
    control, *channels = [
        Channel(number, PipeEnd(read_fd, writable=False), PipeEnd(write_fd, readable=False))
        for number, (read_fd, write_fd) in enumerate(pairs)
    ]
    try:
        start = finish(control.receive())
    except EOFError:
        return  # the host was gone before it said what to do
    if not isinstance(start, Start):
        return  # it has changed its mind
    sys.argv[:] = start.argv
    run_worker(control, channels, start, int(reports_fd))


def run_worker(control: Channel, channels: list[Channel], start: Start, reports_fd: int) -> None:
    """Load the app, serve it, and return when the host says so."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the host, which then stops the worker
    set_up_output()
    set_up_reports(reports_fd, has_log_handlers=start.has_log_handlers)
    eventloop.install()
    apps.be_worker_process()
    watch = _Control(control, channels)
    os.register_at_fork(after_in_child=watch.close)
    try:
        watch.start()
        watch.levels.apply(start.levels)
        if start.prepare is not None:
            start.prepare()
        runner = make_runner(start, outlives_its_worker=False)
        watch.levels.apply(start.levels)  # those that the app's configuration has changed
        apps.have_app(runner.app)
        watch.have_runner(runner)

        def on_ready() -> None:
            watch.is_ready = True  # first: the host may say Stop as soon as it knows
            watch.say(Ready(runner.kind))
            watch.open_channels()

        runner.run(on_ready)
    except BaseException as error:
        watch.is_leaving = True
        flush_output()
        watch.say(failed(error))
        raise SystemExit(1) from None
    finally:
        if watch.is_orphan:
            flush_output()
            _kill_group()


class _Control:
    """Listens to the host, and starts the thread of a channel when the first request comes over it.

    It does so in a thread of its own, of which `threading` does not know: an app may call gevent's `patch_all()` while
    it is loaded, which then finds one thread, as it must, and leaves the other one as it is.
    """

    runner: Runner | None = None  # set by the main thread once the app is loaded
    _is_green = False  # set with it
    levels: HostLevels  # used by the main thread until then

    def __init__(self, control: Channel, channels: list[Channel]) -> None:
        self.levels = HostLevels()
        self._control = control
        self._saying = original("_thread", "allocate_lock")()  # the main thread says Ready, the control thread all else
        self._channels = {channel.read_fd: channel for channel in channels}  # that have had no request
        self._all = WeakSet([control, *channels])
        self._poll = original("select", "poll")()
        self._poll.register(control.read_fd, select.POLLIN)
        self.is_ready = False
        self.is_leaving = False
        self.is_orphan = False
        self._wake_read, self._wake_write = os.pipe()
        self._poll.register(self._wake_read, select.POLLIN)

    def start(self) -> None:
        """Start listening. Must be called in the main thread."""
        stacks.be_in_main_thread()
        original("_thread", "start_new_thread")(self._run, (threading.gettrace(),))

    def close(self) -> None:
        """Close all channels. Runs in a process that the app has forked: it must not serve what is its parent's."""
        for channel in self._all:
            channel.close()

    def say(self, message: Message) -> None:
        """Send a message to the host, if it is still there."""
        frame = last_frame(self._control, message)
        try:
            with self._saying:
                self._control.put(frame)
                finish(self._control.flush())
        except OSError:
            self.is_orphan = True

    def have_runner(self, runner: Runner) -> None:
        """Take what serves the channels, and what knows where the app is."""
        self._is_green = is_green()
        self.runner = runner

    def open_channels(self) -> None:
        """Serve the channels from now on."""
        if self._is_green:
            threading.Thread(target=self._serve_greenlets, daemon=True).start()
        else:
            self._wake()

    def _wake(self) -> None:
        os.write(self._wake_write, b"\0")

    def _serve_greenlets(self) -> None:
        # Runs in a greenlet of the main thread, like all of an app that gevent has patched, until _stop().
        assert self.runner is not None
        while True:
            for fd in readable([self._wake_read, *self._channels]):
                if fd == self._wake_read:
                    self.runner.stop()
                    return
                channel = self._channels.pop(fd, None)
                if channel is not None:
                    self.runner.serve(channel)

    def _run(self, trace: Any) -> None:
        # Runs in the control thread, until the control channel ends.
        sys.settrace(trace)  # as `threading` does it, for coverage.py
        while True:
            for fd, _ in self._poll.poll():
                if fd == self._control.read_fd:
                    try:
                        self._listen()
                        while self._control.has_rest:
                            self._listen()
                    except (EOFError, OSError):
                        self._be_orphan()
                        return
                elif fd == self._wake_read:
                    self._poll.unregister(fd)
                    for channel_fd in self._channels:
                        self._poll.register(channel_fd, select.POLLIN)
                elif fd in self._channels:
                    self._poll.unregister(fd)
                    self._serve(fd)

    def _serve(self, fd: int) -> None:
        assert self.runner is not None
        channel = self._channels[fd]
        try:
            self.runner.serve(channel)
        except RuntimeError as error:  # no thread is to be had; for the next request, there may be one
            if _refuse(channel, error):
                self._poll.register(fd, select.POLLIN)
                return
        del self._channels[fd]

    def _listen(self) -> None:
        message = finish(self._control.receive())
        if isinstance(message, GetStack):
            if not self._is_ending:
                self.say(Stack(self._stack_of(message.channel)))
        elif isinstance(message, EndChannel):
            self._end_channel(message.number)
        elif isinstance(message, SetLevels):
            self.levels.apply(message.levels)
            self.say(Done())
        elif isinstance(message, OpenChannel):
            if self.is_ready and not self.is_leaving:
                self.say(self._open(message))
        elif isinstance(message, Stop):
            self._stop()

    @property
    def _is_ending(self) -> bool:
        # Then nothing is answered: that would say that the worker lives on.
        return self.is_leaving or (self.runner is not None and self.runner.is_ending)

    def _end_channel(self, number: int) -> None:
        if self.runner is not None and not self._is_ending:
            with suppress(OSError):  # no descriptors are to be had: no answer, and the host ends the worker
                self.runner.end_channel(number)
                self.say(Done())

    def _open(self, message: OpenChannel) -> Done | Failed:
        try:
            if self._is_green:
                raise AppError("the worker waits for its channels with greenlets, and for no others")
            channel = open_offered(message.number, message.requests, message.responses)
        except Exception as error:
            return failed(error)
        self._all.add(channel)
        self._channels[channel.read_fd] = channel
        self._poll.register(channel.read_fd, select.POLLIN)
        return Done()

    def _stack_of(self, number: int | None) -> str:
        try:
            return stacks.main_thread() if self.runner is None else self.runner.stack_of(number)
        except Exception:
            return ""  # it has moved on while it was looked at

    def _stop(self) -> None:
        while self._channels:  # they are served no more; when the host leaves, they end, too
            fd, _ = self._channels.popitem()
            with suppress(KeyError):  # it was not served yet
                self._poll.unregister(fd)
        if self.is_ready and self.runner is not None:
            if self._is_green:
                self._wake()
            else:
                self.runner.stop()
        elif not self.is_leaving:
            _kill_group()  # the app is not ready, and may never be: nothing is worth saving

    def _be_orphan(self) -> None:
        # The host has closed the pipe without a Stop, so it was killed: leave, one way or the other.
        self.is_orphan = True
        self._stop()
        original("time", "sleep")(_ORPHAN_SECONDS)
        _kill_group()


def _refuse(channel: Channel, error: Exception) -> bool:
    """Answer a request that cannot be served; return whether the channel can still be used."""
    try:
        if isinstance(finish(channel.receive()), Opening):
            said = failed(AppError(f"the worker has no thread for this request: {error}"))
            channel.put(last_frame(channel, said))
            finish(channel.flush())
    except (EOFError, OSError):
        channel.close()
        return False
    return True


def _kill_group() -> None:
    """Kill this worker and what it has started: those in sessions of their own; and its group, if it leads one."""
    with suppress(Exception):  # nobody knows what the app has left
        kill_descendants(os.getpid())
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)
