"""What state an exchange is in: its rules, the tables of its two directions, and what becomes of its channel.

An exchange is two half-duplex directions. Its rules:

 1. A channel carries one exchange at a time, and an exchange has one channel, from `begin()` until it gives it away.
 2. In each direction one thread or task is at work at a time. Another that wants to send meanwhile leaves its message
    to that one; another that wants to receive waits for its turn.
 3. What has been begun is finished: the rest of a message goes, or is read, before anything else. How much of one has
    crossed is known at any time (`socketless._wire.frames`), so who is at work may stop anywhere, for any reason.
 4. Nobody writes what the worker is not about to read, but for one `Cancel`, when the client has gone. To a worker that
    knows nothing of the exchange, none is written.
 5. For its clients, an exchange is over when the worker's last message has come, when they have gone, or when its
    channel is lost. From then on they can neither send nor receive.
 6. It is over for the channel when nobody is at work any more; then `fate_of()` says what becomes of that.
 7. Who finds that the channel has ended loses its own direction, and the other one if nobody is at work there. Who
    waits for a descriptor does not hear that it is closed, so it stays open until the other one has found it, too; the
    worker is told to end the channel, which wakes that one.

    sending                      ┌────── WITHDRAW ──────┐
                                 ▼                      │
                              UNUSED ──── BEGIN ───▶ WRITING ◀── BEGIN ──┐
                                                        └───── LEAVE ──▶ IDLE ── CANCEL ──▶ CANCELLED

    receiving                 IDLE ◀── LEAVE, BEGIN ──▶ READING ── LAST ──▶ DONE

    in both, from anywhere but UNUSED and DONE: LOSE ──▶ LOST
"""

from __future__ import annotations

from collections.abc import Mapping


class State:
    """One of those below, of which there is one each. (Enums have them looked up by a call, before Python 3.12.)"""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


class Sending:
    """The states of the direction from the host to the worker."""

    UNUSED = State("UNUSED")  # the worker knows nothing of the exchange
    IDLE = State("IDLE")  # nobody is writing; of what was given up, the rest is in the channel's outbox
    WRITING = State("WRITING")
    CANCELLED = State("CANCELLED")  # the `Cancel` was the last
    LOST = State("LOST")  # nobody reads it any more


class Receiving:
    """The states of the direction from the worker to the host."""

    IDLE = State("IDLE")  # nobody is reading; of what was given up, the beginning is in the channel's inbox
    READING = State("READING")
    DONE = State("DONE")  # the worker's last message is here
    LOST = State("LOST")  # there will be none


class Step:
    """What can happen to a direction."""

    BEGIN = "BEGIN"  # somebody is at work now
    LEAVE = "LEAVE"  # and is no more: a message has crossed, or was given up
    WITHDRAW = "WITHDRAW"  # was given up before its first byte was written; it was the first one
    CANCEL = "CANCEL"  # the client has gone, and the worker is told
    LAST = "LAST"  # the worker's last message has come
    LOSE = "LOSE"  # the channel has ended


class IllegalStep(AssertionError):
    """A direction was told of what cannot happen in its state. That is a defect of socketless."""


class Moves(dict[State, State]):
    """Where one step leads, from each state in which it can happen.

    Raises:
        IllegalStep: it cannot happen in that state.
    """

    def __init__(self, what: str, moves: Mapping[State, State]) -> None:
        super().__init__(moves)
        self._what = what

    def __missing__(self, state: State) -> State:
        raise IllegalStep(f"a defect of socketless: {self._what} is {state.name}")


def _table(direction: str, steps: Mapping[str, Mapping[State, State]]) -> dict[str, Moves]:
    return {step: Moves(f"{step} while {direction}", moves) for step, moves in steps.items()}


SENDING = _table(
    "sending",
    {
        Step.BEGIN: {Sending.UNUSED: Sending.WRITING, Sending.IDLE: Sending.WRITING},
        Step.LEAVE: {Sending.WRITING: Sending.IDLE},
        Step.WITHDRAW: {Sending.WRITING: Sending.UNUSED},
        Step.CANCEL: {Sending.IDLE: Sending.CANCELLED, Sending.WRITING: Sending.CANCELLED},
        Step.LOSE: {
            Sending.IDLE: Sending.LOST,
            Sending.WRITING: Sending.LOST,
            Sending.CANCELLED: Sending.LOST,
        },
    },
)

RECEIVING = _table(
    "receiving",
    {
        Step.BEGIN: {Receiving.IDLE: Receiving.READING},
        Step.LEAVE: {Receiving.READING: Receiving.IDLE},
        Step.LAST: {Receiving.READING: Receiving.DONE},
        Step.LOSE: {Receiving.IDLE: Receiving.LOST, Receiving.READING: Receiving.LOST},
    },
)


class Fate:
    """What becomes of the channel."""

    KEPT = State("KEPT")  # the exchange goes on
    FREE = State("FREE")  # another exchange may have it
    PARKED = State("PARKED")  # what is left of this one has to cross first, to the worker's last message
    CLOSED = State("CLOSED")


def fate_of(sending: State, receiving: State, *, is_left: bool, has_unsent: bool) -> State:
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
