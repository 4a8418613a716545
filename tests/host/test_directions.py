"""The two directions of an exchange, where one finds that the channel has ended while another is at work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from socketless.host.directions import Directions
from socketless.host.exchange_states import Fate, Receiving, Sending
from socketless.wire.channel import Channel, make_channel
from socketless.wire.messages import Chunk, Done, Event

Both = tuple[Directions, Channel]
SENDER, RECEIVER = "who sends", "who receives"


@pytest.fixture
def at_work() -> Iterator[Both]:
    """Two are at work: one has written, and is about to say so."""
    directions, ends = Directions(), make_channel(0)
    directions.begin_writing(SENDER, ends.host, ends.host.frame_of(Event({"type": "websocket.receive"})))
    assert ends.host.write() is None
    directions.begin_reading(RECEIVER)
    yield directions, ends.host
    ends.host.close()
    ends.worker.close()


def test_lost_by_who_receives(at_work: Both) -> None:
    """Who sends comes to its own end first; then the channel is closed."""
    directions, channel = at_work
    directions.lose(RECEIVER)
    assert (directions.sending, directions.receiving) == (Sending.WRITING, Receiving.LOST)
    assert directions.is_over
    assert directions.settle(channel) is Fate.KEPT
    assert directions.end_writing(channel)
    assert directions.settle(channel) is Fate.CLOSED


def test_lost_by_who_sends(at_work: Both) -> None:
    """Who receives gets what has come by then."""
    directions, channel = at_work
    directions.lose(SENDER)
    assert (directions.sending, directions.receiving) == (Sending.LOST, Receiving.READING)
    assert directions.is_over
    assert directions.settle(channel) is Fate.KEPT
    assert directions.end_reading(Chunk(b"a part", more_body=True), channel)
    assert directions.settle(channel) is Fate.CLOSED


def test_lost_by_both(at_work: Both) -> None:
    """The second one that finds it closes the channel."""
    directions, channel = at_work
    directions.lose(SENDER)
    directions.lose(RECEIVER)
    assert (directions.sending, directions.receiving) == (Sending.LOST, Receiving.LOST)
    assert directions.settle(channel) is Fate.CLOSED


def test_last_message(at_work: Both) -> None:
    """The worker's last message is received; the channel is closed all the same."""
    directions, channel = at_work
    directions.lose(SENDER)
    assert directions.end_reading(Done(), channel)
    assert directions.receiving is Receiving.DONE
    assert directions.settle(channel) is Fate.CLOSED


def test_lost_at_rest(at_work: Both) -> None:
    """Where nobody else is at work, both directions are lost at once."""
    directions, channel = at_work
    assert directions.end_writing(channel)
    directions.lose(RECEIVER)
    assert (directions.sending, directions.receiving) == (Sending.LOST, Receiving.LOST)
    assert directions.settle(channel) is Fate.CLOSED
