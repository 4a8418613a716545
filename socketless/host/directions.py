"""Who is at work in an exchange's two directions, and who waits to be."""

from __future__ import annotations

from contextlib import suppress

from socketless.host.exchange_states import RECEIVING, SENDING, Fate, Receiving, Sending, State, Step, fate_of
from socketless.host.turns import Turn
from socketless.locks import make_lock
from socketless.wire.channel import Channel, Frame
from socketless.wire.messages import MOST_AHEAD, Cancel, Message, Received, is_last

Token = object  # of one who is at work


class Directions:
    """The states of one exchange. Its methods must be called with `lock` held.

    An exception may come out of a signal's handler between any two instructions, so each method leaves what `leave()`
    can go on from, and `leave()` can be called again.
    """

    sending = Sending.UNUSED  # guarded by lock, like all below
    receiving = Receiving.IDLE
    is_left = False  # the client has gone
    _fate = Fate.KEPT
    _first: Frame | None = None  # the frame of the first message
    _writer: Token | None = None  # who is WRITING
    _reader: Token | None = None  # who is READING
    _ahead = 0  # the room that is taken up by what the app has yet to receive
    _is_unlimited = False

    def __init__(self) -> None:
        self.lock = make_lock()  # the garbage collector may end steps wherever this thread is
        self._turns: list[Turn] = []  # guarded by lock; of those who want to receive, too, or wait for room
        self.inbox: list[Message] = []  # guarded by lock; has come to who waits for room, and has yet to be received

    @property
    def is_over(self) -> bool:
        """Whether the clients can neither send nor receive any more."""
        is_done = self.receiving is Receiving.DONE or self.receiving is Receiving.LOST
        return is_done or self.is_left or self.sending is Sending.LOST

    @property
    def is_at_rest(self) -> bool:
        """Whether nobody is at work."""
        return self._writer is None and self._reader is None

    @property
    def nothing_was_sent(self) -> bool:
        """Whether the worker knows nothing of the exchange."""
        return self._first is None or self._first.is_untouched

    def settle(self, channel: Channel) -> State:
        """Return what becomes of the channel, once and for all; as long as it is kept, see to the `Cancel`.

        A channel that is not kept must not be touched any more: it may be another exchange's soon.
        """
        if self._fate is Fate.KEPT:
            if self.is_left:
                self._cancel(channel)
            if self.is_at_rest:
                has_unsent = channel.has_unsent
                self._fate = fate_of(self.sending, self.receiving, is_left=self.is_left, has_unsent=has_unsent)
        return self._fate

    # To the worker

    def begin_writing(self, me: Token, channel: Channel, frame: Frame) -> bool:
        """Put a frame into the outbox; return whether `me` is to flush that, and not somebody else."""
        if self._first is None:
            self._first = frame
        channel.put(frame)
        if self._writer is not None:
            return False
        self._writer = me
        self.sending = SENDING[Step.BEGIN][self.sending]
        return True

    def end_writing(self, channel: Channel) -> bool:
        """Take notice that the outbox has been flushed; return false if more has been put there meanwhile."""
        if channel.has_unsent:
            return False
        self.sending = SENDING[Step.LEAVE][self.sending]
        self._writer = None
        return True

    def _cancel(self, channel: Channel) -> None:
        # The client has gone: write `Cancel` if nobody writes, and the pipe has room for those few bytes.
        is_wanted = self.sending is Sending.IDLE and self.receiving is not Receiving.DONE
        if not is_wanted or channel.has_unsent:
            return
        channel.put(channel.frame_of(Cancel()))
        with suppress(OSError):  # the worker has gone, too
            if channel.write() is None:
                self.sending = SENDING[Step.CANCEL][self.sending]
            else:
                channel.withdraw()  # it is written as a whole, or not at all

    @property
    def needs_helper(self) -> bool:
        """Whether one receives, for whom something has to be sent first that nobody is sending any more."""
        is_unsent = self.is_left and self.sending is Sending.IDLE and self._writer is None
        return is_unsent and self._reader is not None and self.receiving is not Receiving.DONE

    def help(self, me: Token) -> bool:
        """Begin to send what `needs_helper`; return whether that is still so."""
        if not self.needs_helper:
            return False
        self._writer = me
        self.sending = SENDING[Step.BEGIN][self.sending]
        return True

    def have_cancelled(self) -> None:
        """Take notice that the helper has sent the rest, and `Cancel`."""
        self.sending = SENDING[Step.CANCEL][self.sending]
        self._writer = None

    def reserve(self, room: int) -> bool:
        """Take up room for a message; return whether there is any. One that is larger than all of it has room, too."""
        if self._ahead >= MOST_AHEAD and not self._is_unlimited:
            return False
        self._ahead += room
        return True

    def let_through(self) -> None:
        """Let there be room for everything from now on."""
        self._is_unlimited = True
        self.wake()

    # From the worker

    def begin_reading(self, me: Token) -> Turn | None:
        """Let `me` receive; where another one does, return a place in the queue instead."""
        if self._reader is not None:
            turn = Turn()
            self._turns.append(turn)
            return turn
        self._reader = me
        self.receiving = RECEIVING[Step.BEGIN][self.receiving]
        return None

    def leave_queue(self, turn: Turn) -> None:
        """Give a place in the queue up."""
        if turn in self._turns:
            self._turns.remove(turn)

    def end_reading(self, message: Message, channel: Channel) -> bool:
        """Take a message; return false if nobody wants it, and there will be another one."""
        self._take(message, channel)
        if (self.is_left or isinstance(message, Received)) and self.receiving is not Receiving.DONE:
            self.receiving = RECEIVING[Step.BEGIN][self.receiving]
            self.wake()
            return False
        self._let_others_read()
        return True

    def keep(self, message: Message, channel: Channel) -> None:
        """Take a message for who receives next: it has come to who waits for room."""
        self._take(message, channel)
        if not isinstance(message, Received):
            self.inbox.append(message)
        self._let_others_read()

    def _take(self, message: Message, channel: Channel) -> None:
        self.receiving = RECEIVING[Step.LAST if is_last(message) else Step.LEAVE][self.receiving]
        channel.accept()
        if isinstance(message, Received):
            self._ahead -= message.room

    def wake(self) -> None:
        """Let those who wait look at how things are."""
        for turn in self._turns:
            turn.come()

    def _let_others_read(self) -> None:
        self.wake()
        self._reader = None  # the last: who is interrupted here does it all once more

    # Both

    def leave(self, me: Token, channel: Channel) -> None:
        """Let `me` be at work no more, wherever it was. May be called twice."""
        if self._writer is me:
            if self.sending is Sending.WRITING:
                if self.nothing_was_sent:
                    channel.withdraw()
                    self.sending = SENDING[Step.WITHDRAW][self.sending]
                else:
                    self.sending = SENDING[Step.LEAVE][self.sending]
            self._writer = None
        if self._reader is me:
            if self.receiving is Receiving.READING:
                self.receiving = RECEIVING[Step.LEAVE][self.receiving]
            elif self.receiving is Receiving.DONE:
                channel.accept()
            self._let_others_read()

    def lose(self, me: Token | None = None) -> None:
        """Take notice that the channel has ended; whoever else is at work has yet to. May be called twice."""
        if self._writer in (None, me):
            if self.sending is not Sending.LOST:
                self.sending = SENDING[Step.LOSE][self.sending]
            self._writer = None
        if self._reader in (None, me):
            if self.receiving not in (Receiving.DONE, Receiving.LOST):
                self.receiving = RECEIVING[Step.LOSE][self.receiving]
            self._let_others_read()
