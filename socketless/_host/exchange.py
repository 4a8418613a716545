"""One exchange: a message to the worker, and what comes back until the worker's last message.

             ┌── the worker's last message ──▶ the channel is free again
checked out ─┼── cancelled, or given up ─────▶ the worker is told (`Cancel`); the channel is parked until it lets go
             └── the channel has ended ──────▶ it is closed; the worker lives on, if it says so

What may happen when is written in `socketless._host.exchange_states`, as rules and tables.

An exception may come at any instruction: a time limit, a cancelled task, Ctrl-C, pytest-timeout. So whoever is at work
has a token; `_give_up(token)` is right at any time, any number of times. It is called twice: if the first call is
interrupted, the second does it all.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from socketless._host.directions import Directions, Token
from socketless._host.exchange_states import Fate
from socketless._host.leftovers import drain
from socketless._host.lifetime import Run
from socketless._host.limits import NO_LIMITS, Timeouts
from socketless._host.pool import ChannelPool, Lease
from socketless._host.turns import Turn
from socketless._host.upload import NO_UPLOAD, Upload
from socketless._wire.channel import Channel
from socketless._wire.drivers import deadline_after, run_blocking
from socketless._wire.messages import Cancel, Chunk, Event, Failed, Message, WantBody
from socketless._wire.steps import ENDED, LATE, PullingSteps, Steps, Wait
from socketless.errors import (
    ChannelClosed,
    ReadTimeout,
    SocketlessError,
    StateError,
    WorkerDied,
    WriteTimeout,
)

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


class Exchange:
    """An exchange that is to `begin()`. Its channel is that of its `lease`, checked out for it.

    Several threads and tasks may use it at the same time. It holds the channel until the worker's last message: who
    does not wait for that must `cancel()` it.
    """

    answer: Message  # the first one that the worker has sent
    failed: Failed | None = None  # the last one, if the app has raised
    worker: object = None  # is not to be dropped before this exchange
    _death_is_unreported = False  # guarded by the lock of _directions; the worker's, when nobody sent or received
    _helper: threading.Thread | None = None
    _keeps_open = False

    def __init__(
        self,
        pool: ChannelPool[Run],
        label: str,
        timeouts: Timeouts,
        upload: Upload = NO_UPLOAD,
        *,
        is_internal: bool = False,
    ) -> None:
        self.label = label
        self.lease: Lease[Run] = Lease(label)
        self._pool = pool
        self._timeouts = timeouts
        self._upload = upload
        self._is_internal = is_internal  # no exchange of the test's
        self._owner_pid = os.getpid()
        self._directions = Directions()

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be sent or received."""
        return self._directions.is_over

    def keep_open(self) -> None:
        """From now on, a `receive()` that is given up does not end the exchange; the next one goes on with it."""
        self._keeps_open = True

    @property
    def _run(self) -> Run:
        assert self.lease.got is not None
        return self.lease.got[0]

    @property
    def _channel(self) -> Channel:
        assert self.lease.got is not None
        return self.lease.got[1]

    # What clients do

    def begin(self, message: Message) -> PullingSteps[bool]:
        """Send the first message, and wait for the `answer`. The lease must have a channel.

        Returns:
            Whether there is one; if not, the worker was gone before anything was sent: sending again does no harm.

        Raises:
            WriteTimeout, ReadTimeout: one of the time limits has passed. The channel is parked.
            WorkerDied, ChannelClosed: the worker, or the channel, ended before it had answered.
            TransferError: the message cannot be pickled; nothing was sent.
            Exception: see `WorkerOutput.forward()`.
        """
        assert self.lease.got is not None
        me, states = Token(), self._directions
        try:
            run, channel = self.lease.got
            if run.levels is not None and (levels := run.levels.changed()) is not None:
                yield from run.share_levels(levels, self._timeouts.read)
            frame = channel.frame_of(message)
            with states.lock:
                states.begin_writing(me, channel, frame)
                states.begin_reading(me)
            answer = yield from self._drive(me, self._timeouts, self._write, self._read)
            self._settle()
            self._forward()
            if isinstance(answer, WantBody):
                yield from self._send_chunk()
                answer = yield from self.receive()
        except (WorkerDied, ChannelClosed):
            if not states.nothing_was_sent:
                raise
            return False
        except BaseException:
            try:
                self._give_up(me, is_left=True)
            finally:
                self._give_up(me, is_left=True)
            self._show_output()
            raise
        self.answer = answer
        return True

    def send(self, message: Message, timeouts: Timeouts | None = None) -> Steps[None]:
        """Send a message; while another thread or task is sending, leave it to that one.

        `timeouts` are those of the exchange, if not given.

        Raises:
            WriteTimeout: the worker did not take it in time.
            WorkerDied: the worker has ended.
            ChannelClosed: the worker lives, and has closed the channel.
            TransferError: it cannot be pickled; nothing was sent.
            StateError: the exchange is over.
        """
        self._check_owner()
        me, states, timeouts = Token(), self._directions, timeouts or self._timeouts
        with states.lock:
            self._check_usable()
        frame = self._channel.frame_of(message)
        if isinstance(message, Event):
            yield from self._wait_for_room(message, timeouts)
        try:
            with states.lock:
                self._check_usable()
                is_mine = states.begin_writing(me, self._channel, frame)
            if is_mine:
                yield from self._drive(me, timeouts, self._write)
        except BaseException:
            try:
                self._give_up(me, is_left=True)
            finally:
                self._give_up(me, is_left=True)
            self._show_output()
            raise

    def _wait_for_room(self, message: Event, timeouts: Timeouts) -> Steps[None]:
        """Wait until the worker has room for an event of a WebSocket."""
        yield from ()

    def receive(self, timeouts: Timeouts | None = None) -> PullingSteps[Message]:
        """Return the next message; those that ask for the request's body are answered.

        Raises:
            ReadTimeout: it did not come in time.
            WriteTimeout, WorkerDied, ChannelClosed, TransferError, StateError: see `send()`.
            BodyTooLarge: the request's body is over the limit.
            Exception: see `WorkerOutput.forward()`; the exchange is cancelled.
        """
        while isinstance(message := (yield from self.receive_answer(timeouts)), WantBody):
            yield from self._send_chunk()
        return message

    def receive_or_end(self, timeouts: Timeouts | None = None) -> PullingSteps[Message | None]:
        """Return the next message as `receive()` does, or `None` if somebody else has got the last one."""
        try:
            return (yield from self.receive(timeouts))
        except StateError:
            return None

    def receive_answer(self, timeouts: Timeouts | None = None) -> Steps[Message]:
        """Return the next message, whatever it is; it raises as `receive()` does."""
        self._check_owner()
        me, timeouts = Token(), timeouts or self._timeouts
        try:
            while isinstance(got := self._begin_receiving(me), Turn):
                yield from self._wait_for(got, timeouts)
            message: Message = got or (yield from self._drive(me, timeouts, self._read))
            self._settle()
        except BaseException:
            try:
                self._give_up(me, is_left=not self._keeps_open)
            finally:
                self._give_up(me, is_left=not self._keeps_open)
            self._show_output()
            raise
        try:
            self._forward()
        except BaseException:
            self.cancel()
            raise
        if self._directions.is_left:  # meanwhile, by somebody else
            raise StateError(f"{self.label}: the response was closed while it was being received")
        return message

    def _begin_receiving(self, me: Token) -> Turn | Message | None:
        # Return what has come already, or a turn to wait for; without either, `me` is READING.
        states = self._directions
        with states.lock:
            if states.inbox and not states.is_left:
                message = states.inbox.pop(0)
                if isinstance(message, Failed):
                    self.failed = message
                return message
            self._check_usable()
            return states.begin_reading(me)

    def _send_chunk(self) -> PullingSteps[None]:
        try:
            chunk: Chunk = yield from self._upload.next_chunk()
            yield from self.send(chunk)
        except BaseException:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Tell the worker that nobody wants the answer any more. Never waits; any thread may call it, and twice."""
        me = Token()  # who is at work goes on, and comes to see it
        try:
            self._give_up(me, is_left=True)
        finally:
            self._give_up(me, is_left=True)

    def let_through(self) -> None:
        """The client is about to leave: let nothing that it sends wait for the app any more."""

    def finish(self) -> PullingSteps[None]:
        """Wait for nothing: the app ends in its own time."""
        yield from ()

    def abandon(self) -> None:
        """Let it be cancelled when there is time. For finalizers, which run wherever a thread is, in a lock as well."""
        if not self.is_over and os.getpid() == self._owner_pid:
            self._pool.abandoned.append(self)

    def on_stop(self) -> None:
        """Take notice that the worker was stopped; who is in the middle of something hears of it by the sentinel."""
        with self._directions.lock:
            if not self.is_over and self._directions.is_at_rest:
                self._death_is_unreported = True
                self._directions.lose()
        if self.lease.got is not None:
            self._settle()

    def _check_owner(self) -> None:
        # Before any lock is taken: in a fork, another thread may have had it.
        if os.getpid() != self._owner_pid:
            raise StateError(
                f"{self.label}: this response belongs to process {self._owner_pid}, and this is a fork of it "
                f"({os.getpid()})"
            )

    def _check_usable(self) -> None:
        # Must be called with the lock of _directions held.
        if self._death_is_unreported:
            self._death_is_unreported = False
            raise WorkerDied(self.label, self._run.pid, self._run.exitcode, self._run.output.tail())
        if self.is_over:
            raise StateError(f"{self.label}: the exchange is over")

    # Steps

    def _write(self) -> Wait | None:
        # Must be called by who is WRITING, and no more is when there is nothing to wait for.
        channel, states = self._channel, self._directions
        is_done = False
        while not is_done:
            wait = channel.write()
            if wait is not None:
                return wait
            with states.lock:
                is_done = states.end_writing(channel)
        if states.is_over:  # meanwhile: the client has left, or somebody else has got the last message
            self._settle()
        return None

    def _read(self) -> Wait | Message:
        # Must be called by who is READING, and no more is when there is a message.
        channel, states = self._channel, self._directions
        is_done = False
        while not is_done:
            message = channel.read()
            if isinstance(message, Wait):
                return message
            if isinstance(message, Failed):
                self.failed = message
            with states.lock:
                is_done = states.end_reading(message, channel)
        return message

    def _wait_for(self, turn: Turn, timeouts: Timeouts) -> Steps[None]:
        try:
            woken = yield Wait(turn.fd, deadline=deadline_after(timeouts.read))
            if woken is LATE and timeouts.read is not None:
                yield from self._be_late(timeouts.read, for_writing=False)
        finally:
            with self._directions.lock:
                self._directions.leave_queue(turn)
            turn.close()

    def _drive(self, me: Token, timeouts: Timeouts, *work: Callable[[], Any]) -> Steps[Any]:
        # Does one after the other, as often as it says what it has to wait for; returns what the last one does.
        result = None
        try:
            for do in work:
                while isinstance(result := do(), Wait):
                    fd, for_writing, _, _, spins = result
                    timeout = timeouts.write if for_writing else timeouts.read
                    woken = yield Wait(fd, for_writing, self._run.sentinel.fd, deadline_after(timeout), spins)
                    if woken is LATE:
                        timeout = timeouts.write if for_writing else timeouts.read  # the waiter may have set it
                        assert timeout is not None
                        yield from self._be_late(timeout, for_writing=for_writing)
                    if woken is ENDED:
                        raise EOFError
            return result
        except (EOFError, BrokenPipeError) as error:
            end = error
        yield from self._end(me, end)
        raise AssertionError("it has raised")

    def _be_late(self, timeout: float, *, for_writing: bool) -> Steps[None]:
        if for_writing:
            raise WriteTimeout(f"{self.label}: the worker did not take the request within {timeout:g} s")
        what = "go on with its answer" if hasattr(self, "answer") else "answer"
        stack = yield from self._run.stack_of(self._channel)
        raise ReadTimeout(f"{self.label}: the app did not {what} within {timeout:g} s", stack)

    def _end(self, me: Token, why: Exception) -> Steps[None]:
        """Take notice that the channel has ended, as far as `me` is at work with it.

        It is closed when nobody is: a thread, or a loop, that waits for a descriptor does not hear that another one has
        closed it. The worker ends the channel, too, so that whoever else waits for it comes here as well.

        Raises:
            WorkerDied: because the worker has.
            ChannelClosed: the worker has not, and serves the others.
        """
        run = self._run
        with self._directions.lock:
            self._directions.lose(me)
        self._settle()
        lives = not self._is_internal and (yield from run.end_channel(self._channel))
        if not lives:
            yield from run.wait_for_end()
        run.output.forward(quietly=True)
        if lives:
            raise ChannelClosed(self.label, run.pid, str(why))
        raise WorkerDied(self.label, run.pid, run.exitcode, run.output.tail())

    def _forward(self) -> None:
        # What the app has logged and warned may raise here, as it would have raised in the app.
        if not self._is_internal:
            self._run.output.forward()

    def _show_output(self) -> None:
        # What it has printed until an exchange was given up.
        if self.lease.got is not None and sys.exc_info()[0] is not GeneratorExit:
            self._run.output.forward(quietly=True)

    # What becomes of the channel

    def _give_up(self, me: Token, *, is_left: bool) -> None:
        """Let `me` be at work no more; with `is_left`, the client has gone. To be called twice, see above."""
        if self.lease.got is None or os.getpid() != self._owner_pid:
            return  # or forked in the middle of it: the pipes are the parent's
        with self._directions.lock:
            if is_left and not self.is_over:
                self._directions.is_left = True
                self._directions.wake()
            self._directions.leave(me, self._channel)
        if sys.exc_info()[0] is GeneratorExit:
            self._pool.abandoned.append(self)  # by the collector: this very thread may hold the pool's lock
        else:
            self._settle()

    def _settle(self) -> None:
        """Do what follows from the states: tell the worker that the client has gone, and give the channel away."""
        with self._directions.lock:
            fate = self._directions.settle(self._channel)
        if fate is Fate.FREE:
            self._pool.give_back(self.lease)
        elif fate is Fate.KEPT:
            if self._directions.needs_helper:
                self._start_helper()
        elif fate is Fate.CLOSED:
            self._pool.discard(self.lease)
        elif fate is Fate.PARKED:
            try:
                self._pool.park(
                    self.lease, partial(drain, self.label, self._directions, self._channel), self._run.sentinel.fd
                )
            except EOFError:  # the worker has been stopped
                self._pool.discard(self.lease)

    def _start_helper(self) -> None:
        if self._helper is None or not self._helper.is_alive():
            name = f"socketless-sending-{self._channel.number}"
            self._helper = threading.Thread(target=self._help, name=name, daemon=True)
            self._helper.start()

    def _help(self) -> None:
        # Runs in the thread socketless-sending-N, until the worker has taken it or has ended.
        me = Token()
        with self._directions.lock:
            if not self._directions.help(me):
                return
        try:
            with suppress(SocketlessError):
                channel = self._channel
                cancel = partial(channel.put, channel.frame_of(Cancel()))
                run_blocking(self._drive(me, NO_LIMITS, channel.write, cancel, channel.write))
                with self._directions.lock:
                    self._directions.have_cancelled()
        finally:
            self._give_up(me, is_left=True)

    def __del__(self) -> None:
        if hasattr(self, "_directions") and not self._directions.is_over and os.getpid() == self._owner_pid:
            self._pool.abandoned.append(self)  # this very thread may hold the pool's lock
            if hasattr(self, "answer"):
                warnings.warn(f"unclosed response of {self.label}", ResourceWarning, source=self, stacklevel=2)
