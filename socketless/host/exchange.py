"""One exchange: a message to the worker, and what comes back until the worker's last message.

             ┌── the worker's last message ──▶ the channel is free again
checked out ─┼── cancelled, or given up ─────▶ the worker is told (`Cancel`); the channel is parked until it lets go
             └── the worker has ended ───────▶ the channel is closed
"""

from __future__ import annotations

import inspect
import os
import signal
import threading
import warnings
from collections import deque
from contextlib import suppress
from typing import Any, TypeVar

from socketless.errors import (
    ReadTimeout,
    SocketlessError,
    StateError,
    TransferError,
    WorkerDied,
    WriteTimeout,
)
from socketless.host.limits import NO_LIMITS, Timeouts
from socketless.host.pool import ChannelPool, Turn
from socketless.host.runs import Run
from socketless.host.trace import logger
from socketless.host.upload import NO_UPLOAD, Upload
from socketless.wire import codec
from socketless.wire.channel import Channel, PullingSteps, Steps, Wait, Woken, resumed
from socketless.wire.drivers import deadline_after, run_blocking
from socketless.wire.messages import Cancel, Chunk, Failed, Message, WantBody, is_last

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

T = TypeVar("T")


class Exchange:
    """An exchange that has begun; its channel was checked out for it. `begin()` makes one.

    Several threads and tasks may use it at the same time. It holds a channel until the worker's last message: who does
    not wait for that must `cancel()` it.
    """

    answer: Message  # the first one that the worker has sent
    failed: Failed | None = None  # the last one, if the app has raised
    worker: object = None  # is not to be dropped before this exchange

    def __init__(
        self,
        pool: ChannelPool[Run],
        run: Run,
        channel: Channel,
        label: str,
        timeouts: Timeouts,
        upload: Upload = NO_UPLOAD,
        *,
        is_internal: bool = False,
    ) -> None:
        self.label = label
        self._pool = pool
        self._run = run
        self._channel = channel
        self._timeouts = timeouts
        self._upload = upload
        self._is_internal = is_internal  # no exchange of the test's
        self._owner_pid = os.getpid()
        self.nothing_was_sent = True
        self._lock = threading.RLock()  # the garbage collector may end steps wherever this thread is
        self._active = 0  # guarded by _lock, like all below; steps that are under way
        self._is_sending = False  # true while a message may be half written
        self._outbox: deque[Message] = deque()  # to be sent by who is sending
        self._is_receiving = False
        self._turns: deque[Turn] = deque()  # of those who want to receive, too
        self._torn: list[tuple[Steps[Message] | Steps[None], Wait]] = []  # steps that were given up; a send comes first
        self._is_over = False  # the worker's last message is here
        self._is_cancelled = False
        self._cancel_is_sent = False
        self._is_lost = False  # the channel cannot be used again
        self._is_orphan = False  # because the worker has been stopped
        self._is_broken = False  # nor has the worker ended: nobody knows how much of a message was written or read
        self._is_released = False
        self._keeps_open = False
        self._pending: tuple[Steps[Message], Wait] | None = None  # what the next receive() goes on with

    @property
    def is_over(self) -> bool:
        """Whether nothing more can be sent or received."""
        return self._is_over or self._is_cancelled or self._is_lost

    def keep_open(self) -> None:
        """From now on, a `receive()` that is given up does not end the exchange; the next one goes on with it."""
        self._keeps_open = True

    def send(self, message: Message, timeouts: Timeouts | None = None) -> Steps[None]:
        """Send a message; while another thread or task is sending, leave it to that one.

        `timeouts` are those of the exchange, if not given.

        Raises:
            WriteTimeout: the worker did not take it in time.
            WorkerDied: the worker has ended.
            TransferError: it cannot be pickled; nothing was sent.
            StateError: the exchange is over.
        """
        self._check_owner()
        with self._lock:
            self._check_usable()
            if self._is_sending:
                codec.encode(message)  # or who sends it would get the TransferError
                self._outbox.append(message)
                return
            self._is_sending = True
            self._active += 1
        yield from self._drive(self._send(message), timeouts or self._timeouts, sending=True)

    def _send(self, message: Message) -> Steps[None]:
        while True:
            yield from self._channel.send(message)
            self.nothing_was_sent = False
            with self._lock:
                if not self._outbox:
                    self._is_sending = False
                    return
                message = self._outbox.popleft()

    def share_levels(self) -> Steps[None]:
        """Give the worker the levels of this process's loggers, if they have changed. Must be called before `ask()`."""
        return self._run.share_levels(self._timeouts.read)

    def ask(self, message: Message) -> PullingSteps[Message]:
        """Send the first message, and receive one; it raises as `send()` and `receive()` do."""
        self._is_sending = self._is_receiving = True  # nobody else knows this exchange yet
        self._active = 1
        answer = yield from self._drive(self._send_and_receive(message), self._timeouts, sending=False)
        self._forward()
        if isinstance(answer, WantBody):
            chunk = yield from self._pull()
            yield from self.send(chunk)
            return (yield from self.receive())
        return answer

    def _send_and_receive(self, message: Message) -> Steps[Message]:
        yield from self._send(message)
        if self._is_cancelled:  # in the middle of the message, which had to be finished first
            yield from self._channel.send(Cancel())
            self._cancel_is_sent = True
        return (yield from self._receive())

    def receive(self, timeouts: Timeouts | None = None) -> PullingSteps[Message]:
        """Return the next message; those that ask for the request's body are answered.

        Raises:
            ReadTimeout: it did not come in time.
            WriteTimeout, WorkerDied, TransferError, StateError: as of `send()`.
            BodyTooLarge: the request's body is over the limit.
            Exception: as of `WorkerOutput.forward()`; the exchange is cancelled.
        """
        while isinstance(message := (yield from self.receive_answer(timeouts)), WantBody):
            chunk = yield from self._pull()
            yield from self.send(chunk)
        return message

    def receive_or_end(self, timeouts: Timeouts | None = None) -> PullingSteps[Message | None]:
        """Return the next message as `receive()` does, or `None` if somebody else has got the last one."""
        try:
            return (yield from self.receive(timeouts))
        except StateError:
            return None

    def receive_answer(self, timeouts: Timeouts | None = None) -> Steps[Message]:
        """Return the next message, whatever it is; it raises as `receive()` does."""
        yield from self._take_turn(timeouts or self._timeouts)
        pending, self._pending = self._pending, None
        steps = self._receive() if pending is None else resumed(*pending)
        message = yield from self._drive(steps, timeouts or self._timeouts, sending=False)
        self._forward()
        if self._is_cancelled:  # meanwhile, by somebody else
            raise StateError(f"{self.label}: the response was closed while it was being received")
        return message

    def _forward(self) -> None:
        # What the app has logged and warned may raise here, as it would have raised in the app.
        if self._is_internal:
            return
        try:
            self._run.output.forward()
        except BaseException:
            self.cancel()
            raise

    def _take_turn(self, timeouts: Timeouts) -> Steps[None]:
        # One receives at a time; who comes later waits until the other has left.
        self._check_owner()
        while True:
            with self._lock:
                self._check_usable()
                if not self._is_receiving:
                    self._is_receiving = True
                    self._active += 1
                    return
                turn = Turn()
                self._turns.append(turn)
            try:
                woken = yield Wait(turn.fd, deadline=deadline_after(timeouts.read))
                if woken is Woken.LATE and timeouts.read is not None:
                    yield from self._be_late(timeouts.read, for_writing=False)
            finally:
                with self._lock:
                    if turn in self._turns:
                        self._turns.remove(turn)
                turn.close()

    def _receive(self) -> Steps[Message]:
        while True:
            message = yield from self._channel.receive()
            if isinstance(message, Failed):
                self.failed = message
            self._is_over = is_last(message)
            if self._is_over or not self._is_cancelled:  # by another thread or task, meanwhile
                return message

    def _pull(self) -> PullingSteps[Chunk]:
        try:
            return (yield from self._upload.next_chunk())
        except BaseException:
            self.cancel()
            raise

    def _drive(self, steps: Steps[T], timeouts: Timeouts, *, sending: bool) -> Steps[T]:
        # Must be called after `_active` has been raised.
        wait: Wait | None = None
        try:
            wait = next(steps)
            while True:
                timeout = timeouts.write if wait.for_writing else timeouts.read
                wait = wait._replace(sentinel=self._run.sentinel, deadline=deadline_after(timeout))
                woken = yield wait
                if woken is Woken.LATE:
                    timeout = timeouts.write if wait.for_writing else timeouts.read  # the waiter may have set it
                    assert timeout is not None
                    yield from self._be_late(timeout, for_writing=wait.for_writing)
                if woken is Woken.ENDED:
                    raise EOFError
                wait = steps.send(woken)
        except StopIteration as stop:
            self._leave(sending)
            value: T = stop.value
            return value
        except TransferError:
            self._is_sending = False
            self._leave(sending)
            raise
        except (EOFError, BrokenPipeError) as error:
            self.nothing_was_sent &= wait is None and isinstance(error, BrokenPipeError)
            self._is_lost = True
            self._leave(sending)
            yield from self._run.wait_for_end()
            self._run.output.forward(quietly=True)
            raise WorkerDied(self.label, self._run.pid, self._run.exitcode, self._run.output.tail()) from None
        except BaseException as error:  # given up: a timeout, a cancelled task, Ctrl-C
            by_collector = isinstance(error, GeneratorExit)
            if wait is not None and inspect.getgeneratorstate(steps) == inspect.GEN_SUSPENDED:
                self._leave(sending, (steps, wait), by_collector=by_collector)
            else:
                self._is_lost = self._is_broken = True
                self._leave(sending, by_collector=by_collector)
            if not by_collector:
                self._run.output.forward(quietly=True)
            raise

    def _be_late(self, timeout: float, *, for_writing: bool) -> Steps[None]:
        if for_writing:
            raise WriteTimeout(f"{self.label}: the worker did not take the request within {timeout:g} s")
        what = "go on with its answer" if hasattr(self, "answer") else "answer"
        stack = yield from self._run.stack_of(self._channel)
        raise ReadTimeout(f"{self.label}: the app did not {what} within {timeout:g} s", stack)

    def _check_owner(self) -> None:
        # Before any lock is taken: in a fork, another thread may have had it.
        if os.getpid() != self._owner_pid:
            raise StateError(
                f"{self.label}: this response belongs to process {self._owner_pid}, and this is a fork of it "
                f"({os.getpid()})"
            )

    def _check_usable(self) -> None:
        # Must be called with _lock held.
        if self._is_orphan:
            self._is_orphan = False  # it has been said then
            raise WorkerDied(self.label, self._run.pid, self._run.exitcode, self._run.output.tail())
        if self.is_over:
            raise StateError(f"{self.label}: the exchange is over")

    def _leave(self, sending: bool, torn: Any = None, *, by_collector: bool = False) -> None:
        if os.getpid() != self._owner_pid:
            return  # forked in the middle of it: the pipes are the parent's
        with self._lock:
            self._active -= 1
            if not sending:
                self._is_receiving = False
                for turn in self._turns:
                    turn.come()
                self._turns.clear()
            if torn is not None and self._keeps_open and not sending:
                self._pending = torn
            elif torn is not None and sending and self._active:
                # Who receives waits for an answer to something that has to be sent first.
                self._is_cancelled = True
                self._active += 1
                name = f"socketless-sending-{self._channel.number}"
                threading.Thread(target=self._finish_sending, args=torn, name=name, daemon=True).start()
            elif torn is not None:
                self._is_cancelled = True
                self._torn.insert(0 if sending else len(self._torn), torn)
            if by_collector:
                self._pool.abandoned.append(self)  # this very thread may hold the pool's lock
            else:
                self._release()

    def _finish_sending(self, steps: Steps[None], wait: Wait) -> None:
        # Runs in the thread socketless-sending-N, until the worker has taken it or has ended.
        with suppress(SocketlessError):
            run_blocking(self._drive(resumed(steps, wait), NO_LIMITS, sending=True))

    def lose(self) -> None:
        """Take notice that the worker was stopped; who is in the middle of something hears of it by the sentinel."""
        with self._lock:
            if not self.is_over and not self._active:
                self._is_lost = self._is_orphan = True
                self._release()

    def cancel(self) -> None:
        """Tell the worker that nobody wants the answer any more. Never waits; any thread may call it, and twice."""
        if os.getpid() != self._owner_pid:
            return  # forked: the pipes are the parent's
        with self._lock:
            if not self.is_over:
                self._is_cancelled = True
            self._release()

    def abandon(self) -> None:
        """Let it be cancelled when there is time. For finalizers, which run wherever a thread is, in a lock as well."""
        if not self.is_over and os.getpid() == self._owner_pid:
            self._pool.abandoned.append(self)

    def _release(self) -> None:
        # Must be called with _lock held. The last one out gives the channel away.
        if self._is_cancelled and not self._is_over and not self._is_lost:
            if self.nothing_was_sent and not self._is_sending:
                self._is_over = True  # the worker knows nothing of it
            else:
                self._send_cancel()
        if self._active or self._is_released or not self.is_over:
            return
        self._is_released = True
        if self._is_lost:
            self._lose()
        elif self._is_over and not self._torn:
            self._pool.give_back(self._channel)
        else:
            try:
                self._pool.park(self._channel, self._drain(), self._run.sentinel)
            except EOFError:  # the worker has been stopped
                self._pool.discard(self._channel)

    def _lose(self) -> None:
        if self._is_broken and self._pool.is_last(self._channel):
            self._run.kill(signal.SIGKILL)  # the next exchange starts another worker
        self._pool.discard(self._channel)

    def _send_cancel(self) -> None:
        # Must be called with _lock held. The frame is smaller than what a pipe takes as a whole or not at all.
        if self._is_sending or self._cancel_is_sent:
            return
        with suppress(OSError):
            try:
                next(self._channel.send(Cancel()))
            except StopIteration:
                self._cancel_is_sent = True

    def _drain(self) -> Steps[None]:
        # Finishes what was given up.
        message: Message | None = None
        torn = self._torn if self._pending is None else [*self._torn, self._pending]
        if any(inspect.getgeneratorstate(steps) != inspect.GEN_SUSPENDED for steps, _ in torn):
            self._is_broken = True  # the garbage collector has ended them: nobody knows where they were
            self._lose()
            raise EOFError
        if self._is_sending:
            (steps, wait), *torn = torn
            message = yield from resumed(steps, wait)
        if not self._is_over and not self._cancel_is_sent:
            yield from self._channel.send(Cancel())
        for steps, wait in torn:
            message = yield from resumed(steps, wait)
        while not self._is_over:
            message = yield from self._receive()
        if isinstance(message, Failed):
            logger.error("%s: the app raised after its client had gone:\n%s", self.label, message.traceback.rstrip())

    def __del__(self) -> None:
        if hasattr(self, "_is_released") and not self.is_over and os.getpid() == self._owner_pid:
            self._pool.abandoned.append(self)  # this very thread may hold the pool's lock
            warnings.warn(f"unclosed response of {self.label}", ResourceWarning, source=self, stacklevel=2)


def begin(exchange: Exchange, message: Message) -> PullingSteps[Exchange | None]:
    """Send the first message of an exchange and wait for its `answer`.

    Returns:
        The exchange; `None` if the worker was gone before anything was sent: then sending again does no harm.

    Raises:
        WriteTimeout, ReadTimeout: one of the time limits has passed. The channel is parked.
        WorkerDied: the worker ended before it had answered.
        TransferError: the message cannot be pickled; nothing was sent.
        Exception: as of `WorkerOutput.forward()`.
    """
    try:
        yield from exchange.share_levels()
        exchange.answer = yield from exchange.ask(message)
    except WorkerDied:
        if exchange.nothing_was_sent:
            return None
        raise
    except GeneratorExit:  # dropped
        exchange.abandon()
        raise
    except BaseException:  # nothing was sent, or Ctrl-C has come between two steps
        exchange.cancel()
        raise
    return exchange
