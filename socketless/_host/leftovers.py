"""What is left of an exchange that was given up, and has to cross before its channel is another one's."""

from __future__ import annotations

from socketless._host.directions import Directions, Token
from socketless._host.exchange_states import Receiving, Sending
from socketless._host.trace import logger
from socketless._wire.channel import Channel
from socketless._wire.messages import Cancel, Failed, Message
from socketless._wire.steps import Steps, Wait


def drain(label: str, states: Directions, channel: Channel) -> Steps[None]:
    """Send and receive what is left, to the worker's last message. Nobody else may be at work."""
    me = Token()
    message: Message | Wait | None = None
    if states.receiving is not Receiving.DONE and states.sending is not Sending.CANCELLED:
        yield from channel.flush()
        channel.put(channel.frame_of(Cancel()))
    yield from channel.flush()
    while states.receiving is not Receiving.DONE:
        while isinstance(message := channel.read(), Wait):
            yield message
        with states.lock:
            states.begin_reading(me)
            states.end_reading(message, channel)
            states.leave(me, channel)
    _log(label, message)


def _log(label: str, message: object) -> None:
    if isinstance(message, Failed):
        logger.error("%s: the app raised after its client had gone:\n%s", label, message.traceback.rstrip())
