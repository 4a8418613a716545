"""The two directions of an exchange, where one finds that the channel has ended while another is at work."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from socketless.host.directions import Directions
from socketless.host.exchange_states import Receiving, Sending
from socketless.wire.channel import Channel, make_channel
from socketless.wire.messages import Cancel, Chunk, Done, Message

Both = tuple[Directions, Channel]
ME = "who is at work"


@pytest.fixture
def lost() -> Iterator[Both]:
    """One who has written and read is about to say so, when another loses the channel."""
    directions, ends = Directions(), make_channel(0)
    directions.begin_writing(ME, ends.host, ends.host.frame_of(Cancel()))
    assert ends.host.write() is None
    directions.begin_reading(ME)
    directions.lose()
    yield directions, ends.host
    ends.host.close()
    ends.worker.close()


def test_written(lost: Both) -> None:
    """What has been written goes nowhere."""
    directions, channel = lost
    with pytest.raises(BrokenPipeError):
        directions.end_writing(channel)
    assert directions.sending is Sending.LOST


def test_cancelled_by_the_helper(lost: Both) -> None:
    """A worker that has gone need not be told that the client has."""
    directions, _ = lost
    directions.have_cancelled()
    assert directions.sending is Sending.LOST


def test_last_message(lost: Both) -> None:
    """The worker's last message is received."""
    directions, channel = lost
    assert directions.end_reading(Done(), channel)
    assert directions.receiving is Receiving.LOST
    directions.keep(Done(), channel)
    assert directions.inbox == [Done()]


@pytest.mark.parametrize("is_left", [False, True])
def test_message_before(lost: Both, is_left: bool) -> None:
    """After another message there is an end."""
    directions, channel = lost
    directions.is_left = is_left
    message: Message = Chunk(b"a part", more_body=True)
    with pytest.raises(EOFError):
        directions.end_reading(message, channel)
    with pytest.raises(EOFError):
        directions.keep(message, channel)
    assert directions.inbox == []


def test_last_message_that_nobody_wants(lost: Both) -> None:
    """It ends the exchange of a client that has gone."""
    directions, channel = lost
    directions.is_left = True
    assert directions.end_reading(Done(), channel)
