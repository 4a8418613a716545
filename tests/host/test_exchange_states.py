"""The tables of an exchange's two directions: all of them, and nothing else."""

from __future__ import annotations

from itertools import product

import pytest

from socketless._host.exchange_states import (
    RECEIVING,
    SENDING,
    Fate,
    IllegalStep,
    Moves,
    Receiving,
    Sending,
    State,
    Step,
    fate_of,
)


def values(names: type) -> list[object]:
    """Return what a class has names for."""
    return [value for name, value in vars(names).items() if name.isupper()]


SENDING_STATES, RECEIVING_STATES, STEPS = values(Sending), values(Receiving), values(Step)
BOTH = [("sending", SENDING, SENDING_STATES), ("receiving", RECEIVING, RECEIVING_STATES)]


@pytest.mark.parametrize(("what", "table", "states"), BOTH, ids=["sending", "receiving"])
def test_steps(what: str, table: dict[str, Moves], states: list[State]) -> None:
    """What stands in the table happens, and what does not is called a defect, with its state."""
    assert set(table) < set(STEPS)
    for (step, moves), state in product(table.items(), states):
        if state in dict(moves):
            assert moves[state] in states
        else:
            with pytest.raises(IllegalStep) as caught:
                moves[state]
            assert str(caught.value) == f"a defect of socketless: {step} while {what} is {state.name}"


def reachable(table: dict[str, Moves], start: State) -> set[State]:
    """Return the states that can be come to."""
    found, todo = {start}, [start]
    while todo:
        state = todo.pop()
        new = {moves[state] for moves in table.values() if state in moves} - found
        found |= new
        todo += new
    return found


def test_every_state_can_be_reached() -> None:
    """No state stands there for nothing, and each but the last ones has a way out."""
    assert reachable(SENDING, Sending.UNUSED) == set(SENDING_STATES)
    assert reachable(RECEIVING, Receiving.IDLE) == set(RECEIVING_STATES)
    assert {state for moves in SENDING.values() for state in moves} == set(SENDING_STATES) - {Sending.LOST}
    assert {state for moves in RECEIVING.values() for state in moves} == {Receiving.IDLE, Receiving.READING}


@pytest.mark.parametrize(("sending", "receiving"), list(product(SENDING_STATES, RECEIVING_STATES)), ids=repr)
def test_what_becomes_of_the_channel(sending: State, receiving: State) -> None:
    """A channel is free after the last message, or where none was sent; parked in between; closed if it is lost."""
    fates = {
        (is_left, has_unsent): fate_of(sending, receiving, is_left=is_left, has_unsent=has_unsent)
        for is_left, has_unsent in product((False, True), repeat=2)
    }
    at_work = sending is Sending.WRITING or receiving is Receiving.READING
    is_lost = sending is Sending.LOST or receiving is Receiving.LOST
    for (is_left, has_unsent), fate in fates.items():
        if at_work:
            assert fate is Fate.KEPT
        elif is_lost:
            assert fate is Fate.CLOSED
        elif receiving is Receiving.DONE:
            assert fate is (Fate.PARKED if has_unsent else Fate.FREE)
        elif not is_left:
            assert fate is Fate.KEPT
        else:
            assert fate is (Fate.FREE if sending is Sending.UNUSED and not has_unsent else Fate.PARKED)
