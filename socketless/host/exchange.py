"""One exchange: a message to the worker, and its answer back, on a channel that was checked out for it."""

from __future__ import annotations

import inspect
import signal
from typing import NamedTuple

from socketless.errors import ExchangeTimeout, ReadTimeout, TransferError, WorkerDied, WriteTimeout
from socketless.host.pool import ChannelPool
from socketless.host.run import Run
from socketless.wire.channel import Channel, Steps, Wait, Woken
from socketless.wire.drivers import deadline_after, remaining
from socketless.wire.messages import GetStack, Message, Stack


class Timeouts(NamedTuple):
    """The time limits of one exchange, in seconds; `None` means for ever.

    `pool` is for a free channel, `write` and `read` for each time that the pipe is waited for.
    """

    pool: float | None = None
    write: float | None = None
    read: float | None = None


NO_LIMITS = Timeouts()

_STACK_SECONDS = 2.0  # how long a worker may take to say where it is; one that is stopped takes all of it, once


def carry(
    pool: ChannelPool[Run], run: Run, channel: Channel, label: str, message: Message, timeouts: Timeouts
) -> Steps[Message | None]:
    """Send `message` and return the answer; give the channel back, whatever happens.

    Returns:
        The answer; `None` if the worker was gone before anything was sent: then sending again does no harm.

    Raises:
        WriteTimeout, ReadTimeout: one of the time limits has passed. The channel is parked.
        WorkerDied: the worker ended before it had answered.
        TransferError: the message cannot be pickled; nothing was sent.
    """
    steps = _send_and_receive(channel, message)
    wait: Wait | None = None
    try:
        wait = next(steps)
        while True:
            timeout = timeouts.write if wait.for_writing else timeouts.read
            wait = wait._replace(sentinel=run.sentinel, deadline=deadline_after(timeout))
            woken = yield wait
            if woken is Woken.LATE and wait.for_writing:
                raise WriteTimeout(f"{label}: the worker did not take the request within {timeout:g} s")
            if woken is Woken.LATE:
                stack = (yield from _stack_of(run, channel)) if pool is not run.control else ""
                raise ReadTimeout(f"{label}: the app did not answer within {timeout:g} s", stack)
            if woken is Woken.ENDED:
                raise EOFError
            wait = steps.send(woken)
    except StopIteration as stop:
        pool.give_back(channel)
        run.output.forward()
        answer: Message = stop.value
        return answer
    except TransferError:
        pool.give_back(channel)
        raise
    except (EOFError, BrokenPipeError) as error:
        pool.discard(channel)
        yield from run.wait_for_end()
        if wait is None and isinstance(error, BrokenPipeError):
            return None
        run.output.forward()
        raise WorkerDied(label, run.pid, run.exitcode, run.output.tail()) from None
    except BaseException:  # given up: a timeout, a cancelled task, Ctrl-C
        if wait is not None and inspect.getgeneratorstate(steps) == inspect.GEN_SUSPENDED:
            pool.park(channel, steps, wait)
        elif not pool.discard(channel):
            run.kill(signal.SIGKILL)  # that was its last channel; the next exchange starts another worker
        run.output.forward()
        raise


def _send_and_receive(channel: Channel, message: Message) -> Steps[Message]:
    yield from channel.send(message)
    return (yield from channel.receive())


def _stack_of(run: Run, channel: Channel) -> Steps[str]:
    """Ask the worker where the exchange on a channel is; the answer is empty where it does not say."""
    if run.control.is_stuck:
        return ""  # it has been asked, and does not answer
    label, deadline = "asking for a stack", deadline_after(_STACK_SECONDS)
    try:
        got = yield from run.control.check_out(label, deadline)
        if got is None:
            return ""
        left = remaining(deadline)
        answer = yield from carry(run.control, run, got[1], label, GetStack(channel.number), Timeouts(0, left, left))
    except (ExchangeTimeout, WorkerDied, OSError):  # OSError: no descriptor is to be had for it
        return ""
    return answer.text if isinstance(answer, Stack) else ""
