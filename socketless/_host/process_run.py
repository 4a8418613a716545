"""One life of a worker process: a `Run`.

host                                           worker process
launch ── makes the pipes, spawns or forks ──▶ loads the app
handshake ── Start ──────────────────────────▶
          ◀──────────── Ready or Failed ────── serves
watcher thread: waits for the process; when it has ended
  closes the sentinel, which wakes whoever waits for an answer
stop ── Stop, then SIGTERM, then SIGKILL ────▶ leaves
"""

from __future__ import annotations

import itertools
import logging
import signal
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace

from socketless._genuine import is_green, os
from socketless._host.arguments import Env
from socketless._host.exchange import Exchange
from socketless._host.failures import error_of_app, exception_of, start_error
from socketless._host.fork import Forked
from socketless._host.guard import Guard
from socketless._host.levels import Levels
from socketless._host.lifetime import Run
from socketless._host.limits import Timeouts
from socketless._host.output import WorkerOutput
from socketless._host.pool import ChannelPool
from socketless._host.sentinel import Sentinel
from socketless._host.spawn import Spawned
from socketless._host.trace import logger
from socketless._locks import make_lock
from socketless._wire.channel import Channel, make_channel
from socketless._wire.drivers import deadline_after, poll, remaining, run_blocking, until_readable
from socketless._wire.fifos import offered_channel
from socketless._wire.messages import (
    Done,
    EndChannel,
    Failed,
    GetStack,
    Message,
    OpenChannel,
    Ready,
    SetLevels,
    Stack,
    Start,
    Stop,
)
from socketless._wire.steps import Steps, Woken
from socketless.errors import ExchangeTimeout, WorkerDied, WorkerStartError, describe_exit

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

LAUNCHERS: Mapping[str, type[Spawned] | type[Forked]] = {"spawn": Spawned, "fork": Forked}

# How long a worker may take to answer on its control channel; one that is stopped takes all of it, once.
_CONTROL_SECONDS = 2.0
_TERM_SECONDS = 2.0  # between SIGTERM and SIGKILL
_LOOK_SECONDS = 0.02  # how often a greenlet looks whether the process has ended

_live: weakref.WeakSet[ProcessRun] = weakref.WeakSet()
_launching = make_lock()  # no worker is forked between the making of another's pipes and their entry in _live


class ProcessRun:
    """A worker process with its channels. `launch()` makes one."""

    open_channel = None  # it takes the worker to open one more
    is_here = False

    def __init__(self, max_connections: int, *, spins: bool) -> None:
        with ExitStack() as undo:  # or the error would hold what has been opened
            ends = []
            for number in range(max_connections + 1):
                ends.append(make_channel(number))
                undo.callback(ends[-1].host.close)
                undo.callback(ends[-1].worker.close)
            self.sentinel = Sentinel()
            undo.callback(self.sentinel.close)
            self.output = WorkerOutput()
            undo.pop_all()
        self._numbers = itertools.count(len(ends))  # of further channels
        self._further: weakref.WeakSet[Channel] = weakref.WeakSet()
        self._worker_ends = [end.worker for end in ends]
        self._control, *self.channels = [end.host for end in ends]
        self._spins = spins
        for channel in self.channels:
            channel.spins = spins
        # Once the worker is ready, the control channel is its pool's: closed by clear(), or by who has checked it out.
        self.control: ChannelPool[Run] = ChannelPool()
        self._is_ready = False
        self._ended = threading.Event()
        self.levels = Levels()
        self.exitcode: int | None = None  # set before _ended
        self.error: BaseException | None = None  # what the app has raised when it was shut down
        self._stopping = make_lock()  # held while stop() runs: a second caller waits for the first
        self._stopped = False  # guarded by _stopping
        self._child: Spawned | Forked | None = None
        self._guard: Guard | None = None
        self._watcher: threading.Thread | None = None
        self._is_in_fork = False  # in a forked child of the host

    @classmethod
    def launch(cls, start_method: str, start: Start, max_connections: int, env: Env | None) -> ProcessRun:
        """Start a process. `watch()` and `handshake()` come next.

        Raises:
            OSError: there is no process, or no file descriptor, to be had.
        """
        with _launching:
            run = cls(max_connections, spins=start.spins)
            _live.add(run)
            try:
                start = run._with_logging(start)
                run._child = LAUNCHERS[start_method](run._worker_ends, start, run.output, env)
                run._guard = Guard(run._child.pid)
            except BaseException:
                run._close()
                for channel in run.channels:
                    channel.close()
                raise
            finally:
                for end in run._worker_ends:
                    end.close()  # or the worker's death would give no EOF
        return run

    def _with_logging(self, start: Start) -> Start:
        return replace(start, levels=self.levels.current(), has_log_handlers=bool(logging.root.handlers))

    @property
    def pid(self) -> int:
        assert self._child is not None
        return self._child.pid

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    def watch(self, on_end: Callable[[], None]) -> None:
        """Call `on_end` in a thread of its own when the process has ended."""
        self._watcher = threading.Thread(
            target=self._wait_for_end, args=(on_end,), name=f"socketless-watch-{self.pid}", daemon=True
        )
        try:
            self._watcher.start()
        except BaseException:  # no thread is to be had
            self._watcher = None
            self.kill(signal.SIGKILL)
            self._wait_for_end(lambda: None)
            raise

    def _wait_for_end(self, on_end: Callable[[], None]) -> None:
        # Runs in the thread socketless-watch-PID, until the process has ended.
        assert self._child is not None
        if self._can_wait_without_reaping():
            self._kill_group()
            self.exitcode = self._reap()
        else:
            self.exitcode = self._reap()
            self._kill_group()
        self._child.forget()
        self._ended.set()
        self.sentinel.writer.close()
        on_end()

    def _can_wait_without_reaping(self) -> bool:
        # Waits, if it can. As long as the process is a zombie, nobody else can have its number.
        if not hasattr(os, "waitid"):  # on macOS before Python 3.13
            return False
        try:
            while os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | _options()) is None:
                self._let_others_run()
        except OSError:  # it is refused, or somebody else has reaped the process
            return False
        return True

    def _reap(self) -> int | None:
        # The exit code, minus the signal if one killed it; None if somebody else has reaped it.
        try:
            while (ended := os.waitpid(self.pid, _options()))[0] == 0:
                self._let_others_run()
        except ChildProcessError:
            return None
        return os.waitstatus_to_exitcode(ended[1])

    def _let_others_run(self) -> None:
        time.sleep(_LOOK_SECONDS)
        if self._is_in_fork:  # a forked child has its parent's greenlets, as it does not have its threads
            threading.Event().wait()

    def _kill_group(self) -> None:
        if self._guard is not None:
            self._guard.close()
        with suppress(OSError):  # there are none
            os.killpg(self.pid, signal.SIGKILL)

    def handshake(self, start: Start, timeout: float | None) -> Steps[str]:
        """Wait until the worker is ready and return the kind of its app.

        Raises:
            WorkerStartError: it is not going to be ready; the process may still be there.
        """
        assert self._child is not None
        deadline = deadline_after(timeout)
        if self._child.needs_start_message:
            start = self._with_logging(start)
            yield from self._watched(self._control.send(start), deadline)
        answer = yield from self._watched(self._control.receive(), deadline)
        if answer is None:
            answer = yield from self._ask_where(timeout)
        if isinstance(answer, Ready):
            self._is_ready = True
            self.control.expect()
            self.control.fill(self, [self._control])
            return answer.app_kind
        assert isinstance(answer, Failed)
        raise start_error(answer, self._printed())

    def _ask_where(self, timeout: float | None) -> Steps[Message | None]:
        deadline = deadline_after(_CONTROL_SECONDS)
        yield from self._watched(self._control.send(GetStack()), deadline)
        answer = yield from self._watched(self._control.receive(), deadline)
        if isinstance(answer, Ready):  # just now; its Stack is still to come
            if (yield from self._watched(self._control.receive(), deadline_after(_CONTROL_SECONDS))) is None:
                answer = None
        if isinstance(answer, (Ready, Failed)):
            return answer
        stack = answer.text.rstrip() if isinstance(answer, Stack) else "  (it does not say; C code may hold the GIL)"
        raise WorkerStartError(f"the worker was not ready after {timeout:g} s; it is at:\n{stack}{self._printed()}")

    def stack_of(self, channel: Channel) -> Steps[str]:
        """Ask the worker where the exchange on a channel is; the answer is empty where it does not say."""
        if channel is self._control:
            return ""
        answer = yield from self._ask("asking for a stack", GetStack(channel.number), _CONTROL_SECONDS)
        return answer.text if isinstance(answer, Stack) else ""

    def share_levels(self, levels: dict[str, int], timeout: float | None) -> Steps[None]:
        """Give the worker levels that have `changed()`."""
        seconds = _CONTROL_SECONDS if timeout is None else min(timeout, _CONTROL_SECONDS)
        answer = yield from self._ask("setting the levels of loggers", SetLevels(levels), seconds)
        if answer is not None:  # or the app runs with those it had: no reason to fail a request
            self.levels.tell(levels)

    def another_channel(self) -> Steps[Channel | None]:
        """Return a new channel, in the place of one that has ended; `None`: none is to be had."""
        if self.has_ended or self._stopped:
            return None
        number, answer, channel = next(self._numbers), None, None
        try:
            with offered_channel(number) as (channel, requests, responses):
                self._further.add(channel)
                channel.spins = self._spins
                message = OpenChannel(number, requests, responses)
                answer = yield from self._ask("opening a channel", message, _CONTROL_SECONDS)
        except OSError as error:
            self._say_that_it_is_not_replaced(error)
        finally:
            if channel is not None and not isinstance(answer, Done):
                channel.close()
        if isinstance(answer, Failed):
            self._say_that_it_is_not_replaced(exception_of(answer))
        return channel if isinstance(answer, Done) else None

    def _say_that_it_is_not_replaced(self, why: BaseException) -> None:
        logger.warning("worker %d: a channel has ended that cannot be replaced: %s", self.pid, why)

    def _ask(self, label: str, message: Message, seconds: float) -> Steps[Message | None]:
        # Over the control channel; `None` if there is no answer within `seconds`.
        if self.control.is_stuck:
            return None  # it has been asked, and does not answer
        deadline = deadline_after(seconds)
        timeouts = Timeouts(0, seconds, seconds)
        exchange = Exchange(self.control, label, timeouts, is_internal=True)
        try:
            if not (yield from self.control.check_out(exchange.lease, deadline)):
                return None
            timeouts.write = timeouts.read = remaining(deadline)
            yield from exchange.send(message)
            return (yield from exchange.receive_answer())
        except (ExchangeTimeout, WorkerDied, OSError):  # OSError: no descriptor is to be had for it
            return None
        finally:
            try:
                exchange.cancel()
            finally:
                exchange.cancel()  # once more, if the first was interrupted

    def _watched(self, steps: Steps[Message] | Steps[None], deadline: float | None) -> Steps[Message | None]:
        # Drives steps of the control channel; None at the deadline.
        try:
            wait = next(steps)
            while True:
                woken = yield wait._replace(sentinel=self.sentinel.fd, deadline=deadline)
                if woken is Woken.LATE:
                    return None
                if woken is Woken.ENDED:
                    raise EOFError
                wait = steps.send(woken)
        except StopIteration as stop:
            message: Message | None = stop.value
            return message
        except (EOFError, OSError):
            yield from self.wait_for_end()
            raise WorkerStartError(
                f"the worker {describe_exit(self.exitcode)} while it was starting{self._printed()}"
            ) from None

    def _printed(self) -> str:
        text = self.output.tail(with_stdout=True)
        return f"\nIt had printed:\n{text.rstrip()}" if text.strip() else ""

    def stop(self, timeout: float | None) -> None:
        """End the process, kindly for `timeout` seconds (`None`: for ever), and wait for it. May be called twice."""
        with self._stopping:
            if not self._stopped:
                self._stopped = True
                self._stop(timeout)

    def _stop(self, timeout: float | None) -> None:
        try:
            self._end(timeout)
        except BaseException:  # Ctrl-C: somebody is in a hurry
            self.kill(signal.SIGKILL)
            raise
        finally:
            self._clean_up()

    def _end(self, timeout: float | None) -> None:
        try:
            run_blocking(self._watched(self._control.send(Stop()), deadline_after(timeout)))
        except (WorkerStartError, OSError):
            pass  # it has ended, or is ending
        for number, seconds in ((None, timeout), (signal.SIGTERM, _TERM_SECONDS), (signal.SIGKILL, None)):
            if number is not None:
                self.kill(number)
            if self._ended.wait(seconds):
                break

    def _clean_up(self) -> None:
        try:
            if self._watcher not in (None, threading.current_thread()):
                self._watcher.join()
            if self._is_ready:
                self._take_last_words()
            self.control.clear()
            self.output.forward(quietly=True)
        finally:
            self._close()

    def _take_last_words(self) -> None:
        steps = self._control.receive()
        with suppress(EOFError, OSError):  # there are none
            wait = next(steps)
            while poll(wait._replace(deadline=0.0)) is Woken.READY:
                try:
                    wait = steps.send(Woken.READY)
                except StopIteration as stop:
                    if isinstance(stop.value, Failed):
                        self.error = error_of_app(exception_of(stop.value))
                    return

    def kill(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the process, if it is still there."""
        if not self.has_ended:
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    def poll(self) -> int | None:
        """Return the exit code, minus the signal if one killed the process; `None` as long as it is there."""
        return self.exitcode if self.has_ended else None

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the process has ended, and return its exit code; `None` after `timeout` seconds."""
        self._ended.wait(timeout)
        return self.poll()

    def end_channel(self, channel: Channel) -> Steps[bool]:
        """Let a channel end at the worker, too; return whether the worker goes on without it: whether it answers."""
        if self.has_ended or self._stopped:
            return False
        answer = yield from self._ask("ending a channel", EndChannel(channel.number), _CONTROL_SECONDS)
        return answer is not None

    def wait_for_end(self) -> Steps[None]:
        """Wait for a process that has closed its pipes; one that then stays is of no use, and is killed."""
        if self.has_ended:
            return
        with suppress(EOFError):  # just now
            if not (yield from until_readable(self.sentinel.fd, _TERM_SECONDS)):
                self.kill(signal.SIGKILL)
                yield from until_readable(self.sentinel.fd, None)

    def _close(self) -> None:
        if not self._is_ready:
            self._control.close()
        self.sentinel.close()
        self.output.close()
        _live.discard(self)

    def _close_in_fork(self) -> None:
        # Runs in a forked child of the host, where other threads are gone: it may take no lock.
        self._is_in_fork = True
        for channel in (self._control, *self.channels, *self._further, *self._worker_ends):
            if self._keeps(channel):
                channel.close()
        self.sentinel.close()
        if self._child is not None:
            self._child.forget()
        if self._guard is not None:
            self._guard.forget()

    def _keeps(self, channel: Channel) -> bool:
        # The forked worker itself needs its own ends; it is the one whose launch is not over.
        return self._child is not None or channel not in self._worker_ends


def _options() -> int:
    # A greenlet that waits for the end of a process would block all others.
    return os.WNOHANG if is_green() else 0


def _close_all_in_fork() -> None:
    # Runs in every forked child of the host. A lock that another thread held would stay locked in it for ever.
    global _launching
    _launching = make_lock()
    for run in list(_live):
        run._close_in_fork()
    _live.clear()


os.register_at_fork(after_in_child=_close_all_in_fork)
