"""What state an exchange is in: its rules, the tables of its two directions, and what becomes of its channel.

An exchange is two half-duplex directions. Its rules:

 1. A channel carries one exchange at a time, and an exchange has one channel, from `begin()` until it gives it away.
 2. In each direction one thread or task is at work at a time. Another that wants to send meanwhile leaves its message
    to that one; another that wants to receive waits for its turn.
 3. What has been begun is finished: the rest of a message goes, or is read, before anything else. How much of one has
    crossed is known at any time (`socketless.wire.frames`), so who is at work may stop anywhere, for any reason.
 4. Nobody writes what the worker is not about to read, but for one `Cancel`, when the client has gone. To a worker that
    knows nothing of the exchange, none is written.
 5. For its clients, an exchange is over when the worker's last message has come, when they have gone, or when its
    channel is lost. From then on they can neither send nor receive.
 6. It is over for the channel when nobody is at work any more; then `fate_of()` says what becomes of that.

    sending                      ┌────── WITHDRAW ──────┐
                                 ▼                      │
                              UNUSED ──── BEGIN ───▶ WRITING ◀── BEGIN ──┐
                                                        └───── LEAVE ──▶ IDLE ── CANCEL ──▶ CANCELLED

    receiving                 IDLE ◀── LEAVE, BEGIN ──▶ READING ── LAST ──▶ DONE

    in both, from anywhere but DONE: LOSE ──▶ LOST
"""

from __future__ import annotations

import enum
from collections.abc import Mapping


class _Singleton(enum.Enum):
    __hash__ = object.__hash__  # there is one of each; Enum's own hashes its name, in Python


class Sending(_Singleton):
    """The direction from the host to the worker."""

    UNUSED = enum.auto()  # the worker knows nothing of the exchange
    IDLE = enum.auto()  # nobody is writing; of what was given up, the rest is in the channel's outbox
    WRITING = enum.auto()
    CANCELLED = enum.auto()  # the `Cancel` was the last
    LOST = enum.auto()  # nobody reads it any more


class Receiving(_Singleton):
    """The direction from the worker to the host."""

    IDLE = enum.auto()  # nobody is reading; of what was given up, the beginning is in the channel's inbox
    READING = enum.auto()
    DONE = enum.auto()  # the worker's last message is here
    LOST = enum.auto()  # there will be none


class Step(_Singleton):
    """What can happen to a direction."""

    BEGIN = enum.auto()  # somebody is at work now
    LEAVE = enum.auto()  # and is no more: a message has crossed, or was given up
    WITHDRAW = enum.auto()  # was given up before its first byte was written; it was the first one
    CANCEL = enum.auto()  # the client has gone, and the worker is told
    LAST = enum.auto()  # the worker's last message has come
    LOSE = enum.auto()  # the channel has ended


SENDING: Mapping[tuple[Sending, Step], Sending] = {
    (Sending.UNUSED, Step.BEGIN): Sending.WRITING,
    (Sending.UNUSED, Step.LOSE): Sending.LOST,
    (Sending.IDLE, Step.BEGIN): Sending.WRITING,
    (Sending.IDLE, Step.CANCEL): Sending.CANCELLED,
    (Sending.IDLE, Step.LOSE): Sending.LOST,
    (Sending.WRITING, Step.LEAVE): Sending.IDLE,
    (Sending.WRITING, Step.WITHDRAW): Sending.UNUSED,
    (Sending.WRITING, Step.CANCEL): Sending.CANCELLED,
    (Sending.WRITING, Step.LOSE): Sending.LOST,
    (Sending.CANCELLED, Step.LOSE): Sending.LOST,
}

RECEIVING: Mapping[tuple[Receiving, Step], Receiving] = {
    (Receiving.IDLE, Step.BEGIN): Receiving.READING,
    (Receiving.IDLE, Step.LOSE): Receiving.LOST,
    (Receiving.READING, Step.LEAVE): Receiving.IDLE,
    (Receiving.READING, Step.LAST): Receiving.DONE,
    (Receiving.READING, Step.LOSE): Receiving.LOST,
}


class IllegalStep(AssertionError):
    """A direction was told of what cannot happen in its state. That is a defect of socketless."""


def sending_after(state: Sending, step: Step) -> Sending:
    """Return the state after a step.

    Raises:
        IllegalStep: there is no such step from that state.
    """
    try:
        return SENDING[state, step]
    except KeyError:
        raise IllegalStep(f"a defect of socketless: {step.name} while sending is {state.name}") from None


def receiving_after(state: Receiving, step: Step) -> Receiving:
    """Return the state after a step.

    Raises:
        IllegalStep: there is no such step from that state.
    """
    try:
        return RECEIVING[state, step]
    except KeyError:
        raise IllegalStep(f"a defect of socketless: {step.name} while receiving is {state.name}") from None


class Fate(enum.Enum):
    """What becomes of the channel."""

    KEPT = enum.auto()  # the exchange goes on
    FREE = enum.auto()  # another exchange may have it
    PARKED = enum.auto()  # what is left of this one has to cross first, to the worker's last message
    CLOSED = enum.auto()


def fate_of(sending: Sending, receiving: Receiving, *, is_left: bool, has_unsent: bool) -> Fate:
    """Return what becomes of a channel whose exchange is in these states.

    Args:
        sending, receiving: the states.
        is_left: whether the client has gone.
        has_unsent: whether something in the channel's outbox has not been written to its end.
    """
    if sending is Sending.WRITING or receiving is Receiving.READING:
        return Fate.KEPT
    if Sending.LOST is sending or Receiving.LOST is receiving:
        return Fate.CLOSED
    if receiving is Receiving.DONE:
        return Fate.PARKED if has_unsent else Fate.FREE
    if not is_left:
        return Fate.KEPT
    return Fate.FREE if sending is Sending.UNUSED and not has_unsent else Fate.PARKED
