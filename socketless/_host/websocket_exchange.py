"""An exchange that is a WebSocket: its client has to wait while the app has much to receive.

It waits for `Received` of the worker, and so it reads: what else comes is kept for who receives next. An app that sends
much while its client does gets on in that way, though nobody receives.
"""

from __future__ import annotations

from socketless._host.directions import Token
from socketless._host.exchange import Exchange
from socketless._host.limits import Timeouts
from socketless._wire.drivers import deadline_after, remaining
from socketless._wire.messages import Event, room_of
from socketless._wire.steps import Steps, Wait
from socketless.errors import ReadTimeout, WriteTimeout

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


class WebSocketExchange(Exchange):
    """An `Exchange` whose `send()` may have to wait for the app."""

    _waiter: Token | None = None  # who is READING only because it waits for room

    def _wait_for_room(self, message: Event, timeouts: Timeouts) -> Steps[None]:
        """Wait until there is room for an event, and take that up.

        Raises:
            WriteTimeout: the app did not receive what was sent before, in time. It may be tried again.
        """
        room = room_of(message.event)
        if not room:
            return
        me, states = Token(), self._directions
        deadline = deadline_after(timeouts.write)
        try:
            while True:
                with states.lock:
                    self._check_usable()
                    if states.reserve(room):
                        return
                    turn = states.begin_reading(me)
                    if turn is None:
                        self._waiter = me
                limits = Timeouts(read=remaining(deadline))
                if turn is None:
                    yield from self._drive(me, limits, self._read_for_others)
                    self._settle()
                else:
                    yield from self._wait_for(turn, limits)
        except BaseException as error:
            try:
                self._give_up(me, is_left=not self._keeps_open)
            finally:
                self._give_up(me, is_left=not self._keeps_open)
            self._show_output()
            if isinstance(error, ReadTimeout):
                raise WriteTimeout(
                    f"{self.label}: the app did not receive what was sent to it within {timeouts.write:g} s"
                ) from None
            raise
        finally:
            if self._waiter is me:
                self._waiter = None

    def _read_for_others(self) -> Wait | None:
        # Must be called by who is READING, and no more is when there is nothing to wait for.
        message = self._channel.read()
        if isinstance(message, Wait):
            return message
        with self._directions.lock:
            self._directions.keep(message, self._channel)
            self._waiter = None
        return None

    def let_through(self) -> None:
        """Let nothing wait for room any more: the client is about to leave.

        Who waits for room and is reading does not hear of it. Then the exchange is cancelled, which the app does.
        """
        with self._directions.lock:
            is_deaf = self._waiter is not None
            self._directions.let_through()
        if is_deaf:
            self.cancel()
