"""The tables of an exchange's two directions: all of them, and nothing else."""

from __future__ import annotations

from itertools import product

import pytest

from socketless.host.exchange_states import (
    RECEIVING,
    SENDING,
    Fate,
    IllegalStep,
    Receiving,
    Sending,
    Step,
    fate_of,
    receiving_after,
    sending_after,
)


@pytest.mark.parametrize(("state", "step"), list(product(Sending, Step)))
def test_sending(state: Sending, step: Step) -> None:
    """What stands in the table happens, and what does not is called a defect, with its state."""
    if (state, step) in SENDING:
        assert sending_after(state, step) is SENDING[state, step]
    else:
        with pytest.raises(IllegalStep) as caught:
            sending_after(state, step)
        assert str(caught.value) == f"a defect of socketless: {step.name} while sending is {state.name}"


@pytest.mark.parametrize(("state", "step"), list(product(Receiving, Step)))
def test_receiving(state: Receiving, step: Step) -> None:
    """What stands in the table happens, and what does not is called a defect, with its state."""
    if (state, step) in RECEIVING:
        assert receiving_after(state, step) is RECEIVING[state, step]
    else:
        with pytest.raises(IllegalStep) as caught:
            receiving_after(state, step)
        assert str(caught.value) == f"a defect of socketless: {step.name} while receiving is {state.name}"


def reachable(table: dict[tuple[object, Step], object], start: object) -> set[object]:
    """Return the states that can be come to."""
    found, todo = {start}, [start]
    while todo:
        state = todo.pop()
        new = {after for (before, _), after in table.items() if before is state} - found
        found |= new
        todo += new
    return found


def test_every_state_can_be_reached() -> None:
    """No state stands there for nothing, and each but the last ones has a way out."""
    assert reachable(dict(SENDING), Sending.UNUSED) == set(Sending)
    assert reachable(dict(RECEIVING), Receiving.IDLE) == set(Receiving)
    assert {state for state, _ in SENDING} == set(Sending) - {Sending.LOST}
    assert {state for state, _ in RECEIVING} == {Receiving.IDLE, Receiving.READING}


@pytest.mark.parametrize(("sending", "receiving"), list(product(Sending, Receiving)))
def test_what_becomes_of_the_channel(sending: Sending, receiving: Receiving) -> None:
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
