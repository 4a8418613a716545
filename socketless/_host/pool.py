"""Which channel is whose.

The channels of a process are there from its start; those of a thread worker are made when they are needed. A channel is
free, busy with an exchange, or *parked*: its exchange was given up (a timeout, a cancelled task, Ctrl-C)
before the worker had answered. A parked channel has a thread that drives the steps of its exchange on, until the answer
has come and gone; then the channel is free again.

A client that finds no free channel waits in a queue, on a pipe of its own, which any thread can write to and any loop
can wait for. A channel that comes free is handed to the first in the queue.

Whoever has a channel, or waits for one, has a *lease*. An exception out of a signal's handler may come at any
instruction, so whose a channel is hangs on one store, `_busy[channel] = lease`; what belongs to that before and after
may be left out, or be done twice. Giving back is right at any time, and any number of times.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, NamedTuple, Protocol, TypeVar
from weakref import WeakSet

from socketless._genuine import monotonic
from socketless._host.turns import Turn
from socketless._locks import make_lock
from socketless._wire.channel import Channel
from socketless._wire.drivers import poll, remaining
from socketless._wire.steps import Steps, Wait, Woken
from socketless.errors import PoolTimeout

Owner = TypeVar("Owner")


_LOOK_SECONDS = 0.5  # how often who waits looks for exchanges that were dropped


class Cancellable(Protocol):
    """What the pool knows of an exchange."""

    def cancel(self) -> None: ...


class _Parked(NamedTuple):
    label: str
    since: float
    thread: threading.Thread


class Lease(Generic[Owner]):
    """What the pool knows of one who has a channel, or waits for one.

    `got` is the channel, and the worker whose it is, once `check_out()` has said so.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self.since: float = 0.0  # when it got one, as a time.monotonic() value
        self.got: tuple[Owner, Channel] | None = None
        self.turn: Turn | None = None  # while it waits
        self.is_over = False  # the channel may be another one's since


class ChannelPool(Generic[Owner]):
    """The channels of one worker, and the queue for them. Any thread may call it.

    A worker that is restarted has new channels; its *owner* tells a channel of the new ones from one of the old.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit  # of the channels that are made as needed; None: as many as are needed
        self._lock = make_lock()  # the garbage collector may end steps wherever this thread is
        self._open = False  # guarded by _lock, like all below; false while there is no worker, nor one about to be
        self._owner: Owner | None = None
        self._open_channel: Callable[[int], Channel] | None = None
        self._opened = 0  # how many have been made as needed
        self._lost = 0  # how many have ended, and may be replaced
        self._all: set[Channel] = set()
        self._free: list[Channel] = []  # the most recently used one last; what is in _busy as well is not free
        self._busy: dict[Channel, Lease[Owner]] = {}
        self._parked: dict[Channel, _Parked] = {}
        self._threads: WeakSet[threading.Thread] = WeakSet()  # of those that are parked, or just were
        self._waiters: deque[Lease[Owner]] = deque()
        self.abandoned: deque[Cancellable] = deque()  # exchanges that were dropped, to be cancelled when there is time

    def expect(self) -> None:
        """Let everybody wait who wants a channel: a worker is being started."""
        with self._lock:
            self._open = True

    def fill(self, owner: Owner, channels: list[Channel], open_channel: Callable[[int], Channel] | None = None) -> None:
        """Take the channels of a new worker; `open_channel` makes more, given a number for it."""
        with self._lock:
            self._owner = owner
            self._open_channel = open_channel
            self._lost = 0
            self._all = set(channels)
            self._free = list(reversed(channels))
            self._serve_waiters()

    def retire(self) -> None:
        """Give no channel away any more: close the free ones, and wake everybody who waits for one."""
        with self._lock:
            closing = [channel for channel in self._free if channel not in self._busy]
            self._open, self._owner, self._open_channel = False, None, None
            self._all -= set(closing)
            self._free = []
            while self._waiters:
                self._wake(self._waiters.popleft())
        for channel in closing:
            channel.close()

    def clear(self) -> None:
        """Forget the channels of a worker that has ended, and wake everybody who waits for one.

        Free and parked channels are closed; a busy one is closed when its exchange gives it back.
        """
        with self._lock:
            self.retire()
            threads, self._threads = list(self._threads), WeakSet()
            self._all, self._busy, self._parked = set(), {}, {}
        self._cancel_abandoned()
        for thread in threads:
            if thread is not threading.current_thread():  # in which the garbage collector may have come to this
                with suppress(RuntimeError):  # it is about to be started
                    thread.join()  # the worker's end has woken it

    def take(self, lease: Lease[Owner]) -> bool:
        """Give a lease a channel that is free; return whether it has one.

        Whatever it raises, the lease may have got a channel by then: it is to be given back.

        Raises:
            OSError, RuntimeError: no descriptors or threads are to be had for the first channel, or it has nobody at
                its other end.
        """
        if self.abandoned:
            self._cancel_abandoned()
        with self._lock:
            try:
                return self._open and self._hand_over(lease)
            except (OSError, RuntimeError):
                if not self._all:
                    raise
                return False

    def check_out(self, lease: Lease[Owner], deadline: float | None) -> Steps[bool]:
        """Wait for a free channel; false: the worker ended before there was one.

        Raises:
            PoolTimeout: none was free before the deadline.
            OSError, RuntimeError: see `take()`, as is what the lease has then.
        """
        if self.take(lease):
            return True
        with self._lock:
            if not self._open:
                return False
        if deadline is not None and deadline <= monotonic():  # who is late needs no place in the queue
            raise PoolTimeout(self.describe_busy(lease.label))
        try:
            return (yield from self._wait(lease, deadline))
        finally:
            self._leave_queue(lease)

    def _wait(self, lease: Lease[Owner], deadline: float | None) -> Steps[bool]:
        with self._lock:
            if not self._open:
                return False
            lease.turn = Turn()
            self._waiters.append(lease)
            self._serve_waiters()  # one may have come free just now
        woken = Woken.LATE
        while woken is Woken.LATE and (deadline is None or deadline > monotonic()):
            look = monotonic() + _LOOK_SECONDS
            woken = yield Wait(lease.turn.fd, deadline=look if deadline is None else min(look, deadline))
            self._cancel_abandoned()  # which frees a channel, perhaps for this one
            with self._lock:
                self._serve_waiters()  # who was to do it may have been interrupted
        if self._has(lease):
            return True
        self.give_back(lease)  # it may have got one of a worker that has ended since
        if woken is Woken.LATE:
            raise PoolTimeout(self.describe_busy(lease.label))
        return False

    def _leave_queue(self, lease: Lease[Owner]) -> None:
        with self._lock:
            with suppress(ValueError):
                self._waiters.remove(lease)
            turn, lease.turn = lease.turn, None
        if turn is not None:
            turn.close()

    def claim_replacement(self) -> Owner | None:
        """Return whose channel is to be replaced, if one is; `replace()` or `unclaim()` comes next."""
        with self._lock:
            is_full = self._limit is None or len(self._all) >= self._limit
            if is_full or not self._lost or self._owner is None:
                return None
            self._lost -= 1
            return self._owner

    def unclaim(self) -> None:
        """Let the next one replace it."""
        with self._lock:
            self._lost += 1
            self._serve_waiters()

    def replace(self, owner: Owner, channel: Channel | None) -> None:
        """Take a channel in the place of one that has ended, or do without (`None`)."""
        with self._lock:
            if channel is not None and owner is self._owner:
                self._all.add(channel)
                self._free.append(channel)
                channel = None
            self._serve_waiters()
        if channel is not None:  # its worker has ended
            channel.close()

    def _lose(self, channel: Channel) -> None:
        # Must be called with _lock held. May be interrupted, and called twice; so it may be counted twice.
        if channel in self._all:
            self._lost += 1
            self._all.discard(channel)

    def _cancel_abandoned(self) -> None:
        while self.abandoned:
            with suppress(IndexError):  # another thread was faster
                self.abandoned.popleft().cancel()

    def _has(self, lease: Lease[Owner]) -> bool:
        return lease.got is not None and self._busy.get(lease.got[1]) is lease

    def give_back(self, lease: Lease[Owner]) -> None:
        """Take back the channel of a lease, if it has one: its exchange is over. May be called twice."""
        if lease.got is None:
            return
        channel = lease.got[1]
        with self._lock:
            is_known = channel in self._all and self._owner is not None
            is_unused = not is_known and not lease.is_over
            if self._has(lease):
                if is_known:
                    lease.is_over = True
                    if channel not in self._free:
                        self._free.append(channel)
                del self._busy[channel]
                if self._waiters:
                    self._serve_waiters()
        if is_unused:
            channel.close()

    def discard(self, lease: Lease[Owner]) -> None:
        """Close the channel of a lease, which cannot be used again. May be called twice."""
        if lease.got is not None:
            channel = lease.got[1]
            with self._lock:
                if self._has(lease):
                    self._lose(channel)
            self.give_back(lease)

    def park(self, lease: Lease[Owner], steps: Callable[[], Steps[None]], sentinel: int) -> None:
        """Take back the channel of an exchange that was given up; `steps()` lead to its end. May be called twice."""
        if lease.got is None:
            return
        channel = lease.got[1]
        name = f"socketless-parked-{channel.number}"
        thread = threading.Thread(target=self._finish, args=(lease, channel, steps, sentinel), name=name, daemon=True)
        with self._lock:
            is_known = channel in self._all
            parked = self._parked.get(channel)
            if is_known and (not self._has(lease) or (parked is not None and parked.thread.is_alive())):
                return
            if is_known:
                self._parked[channel] = _Parked(lease.label, lease.since, thread)
                self._threads.add(thread)
        if not is_known:
            self.give_back(lease)
            return
        try:
            thread.start()  # without the lock: the garbage collector may come to an exchange in the new thread
        except RuntimeError:  # no thread is to be had: do without the channel
            self.discard(lease)

    def _finish(self, lease: Lease[Owner], channel: Channel, steps: Callable[[], Steps[None]], sentinel: int) -> None:
        # Runs in the thread socketless-parked-N, until the app lets go or the worker ends. Where starting it was
        # interrupted, there may be two of them: the first one takes the channel over.
        with self._lock:
            is_ours = self._has(lease)
            if is_ours:
                self._parked[channel] = _Parked(lease.label, lease.since, threading.current_thread())
                lease.is_over = True
                del self._busy[channel]
        if not is_ours:
            self.give_back(lease)  # which closes it, if the worker has ended
            return
        is_usable = _drive(steps(), sentinel)
        with self._lock:
            self._parked.pop(channel, None)
            if not is_usable:
                self._lose(channel)
            is_usable = channel in self._all and self._owner is not None
            if is_usable:
                self._free.append(channel)
            self._serve_waiters()  # there may be one more now, if it is made
        if not is_usable:
            channel.close()

    def join_parked(self, deadline: float | None) -> bool:
        """Wait until the app has let go of the exchanges that were given up by now; return whether it has."""
        self._cancel_abandoned()
        with self._lock:
            threads = [parked.thread for parked in self._parked.values()]
        for thread in threads:
            with suppress(RuntimeError):  # it could not be started
                thread.join(remaining(deadline))
        return not any(thread.is_alive() for thread in threads)

    @property
    def has_channels(self) -> bool:
        """Whether there is one at all, or one may be had."""
        with self._lock:
            return bool(self._all or self._lost) or self._open_channel is not None

    @property
    def in_flight(self) -> int:
        """How many exchanges have a channel, or wait for one."""
        with self._lock:
            return len(self._busy.keys() | self._parked.keys()) + len(self._waiters)

    @property
    def is_stuck(self) -> bool:
        """Whether all that there is has been given up, and the worker has not let go."""
        with self._lock:
            return 0 < len(self._all) == len(self._parked)

    def _hand_over(self, lease: Lease[Owner]) -> bool:
        # Must be called with _lock held. Give it a channel, unless it has one; return whether it has.
        if self._has(lease):
            return True
        while self._free and self._free[-1] in self._busy:
            self._free.pop()  # who took it was interrupted
        if self._owner is None:
            return False
        lease.since = monotonic()
        if self._free:
            lease.got = self._owner, self._free[-1]
            self._busy[self._free[-1]] = lease
            self._free.pop()
            return True
        if self._open_channel is None or (self._limit is not None and len(self._all) >= self._limit):
            return False
        self._opened += 1
        channel = self._open_channel(self._opened)  # which waits for nobody who might want the lock
        lease.got = self._owner, channel
        self._busy[channel] = lease
        self._all.add(channel)
        return True

    def _serve_waiters(self) -> None:
        # Must be called with _lock held.
        try:
            while self._waiters and self._hand_over(self._waiters[0]):
                self._wake(self._waiters.popleft())
        except (OSError, RuntimeError):  # no descriptors or threads are to be had: it has to wait for another one
            while self._waiters and not self._all:  # there is none: each is to try by itself, and to hear why not
                self._wake(self._waiters.popleft())
        if self._lost and self._waiters and self._open_channel is None:
            self._wake(self._waiters.popleft())  # to have one replaced

    def _wake(self, lease: Lease[Owner]) -> None:
        # Must be called with _lock held.
        if lease.turn is not None:
            lease.turn.come()

    def describe_busy(self, label: str) -> str:
        """Say what keeps the channels busy."""
        now = monotonic()
        with self._lock:
            busy = [(each.label, each.since) for channel, each in self._busy.items() if channel not in self._parked]
            parked = list(self._parked.values())
            starting = self._open and self._owner is None
        if starting:
            return f"{label}: the worker is still being started"
        # What comes after the path may be a secret of another test, or of another client's.
        busy = [(_without_query(label), since) for label, since in busy]
        busy += [(f"{_without_query(each.label)} (given up, but the app still runs)", each.since) for each in parked]
        lines = [f"  {what}, for {now - since:.1f} s" for what, since in sorted(busy, key=lambda item: item[1])]
        return "\n".join([f"{label}: all {len(lines)} channels of the worker stayed busy (max_connections):", *lines])


def _drive(steps: Steps[None], sentinel: int) -> bool:
    # Return whether they have come to their end; it is false where the worker has.
    try:
        wait = next(steps)
        while poll(wait._replace(sentinel=sentinel, deadline=None)) is Woken.READY:
            wait = steps.send(Woken.READY)
    except StopIteration:
        return True
    except (EOFError, OSError):
        pass
    return False


def _without_query(label: str) -> str:
    return label.partition("?")[0]
