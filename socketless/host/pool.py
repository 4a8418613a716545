"""Which channel is whose.

The channels of a process are there from its start; those of a thread worker are made when they are needed. A channel is
free, busy with an exchange, or *parked*: its exchange was given up (a timeout, a cancelled task, Ctrl-C)
before the worker had answered. A parked channel has a thread that drives the steps of its exchange on, until the answer
has come and gone; then the channel is free again.

Who finds no free channel waits in a queue, on a pipe of its own, which any thread can write to and any loop can wait
for. A channel that comes free is handed to the first in the queue.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, NamedTuple, Protocol, TypeVar

from socketless.errors import PoolTimeout
from socketless.genuine import monotonic, os
from socketless.wire.channel import Channel, Steps, Wait, Woken
from socketless.wire.drivers import poll

Owner = TypeVar("Owner")


_LOOK_SECONDS = 0.5  # how often who waits looks for exchanges that were dropped


class Cancellable(Protocol):
    """What the pool knows of an exchange."""

    def cancel(self) -> None: ...


class _Parked(NamedTuple):
    label: str
    since: float
    thread: threading.Thread


class Turn:
    """A place in a queue: a pipe, which any thread can write to and any loop can wait for."""

    def __init__(self) -> None:
        self.fd, self._write_fd = os.pipe()

    def come(self) -> None:
        # Must be called with the queue's lock held, and once only: the turn is taken from the queue with it.
        os.write(self._write_fd, b"\0")

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._write_fd)


class _Waiter(Turn, Generic[Owner]):
    """A place in the queue for a channel."""

    def __init__(self, label: str) -> None:
        super().__init__()
        self.label = label
        self.got: tuple[Owner, Channel] | None = None


class ChannelPool(Generic[Owner]):
    """The channels of one worker, and the queue for them. Any thread may call it.

    A worker that is restarted has new channels; its *owner* tells a channel of the new ones from one of the old.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit  # of the channels that are made as needed; None: as many as are needed
        self._lock = threading.RLock()  # the garbage collector may end steps wherever this thread is
        self._open = False  # guarded by _lock, like all below; false while there is no worker, nor one about to be
        self._owner: Owner | None = None
        self._open_channel: Callable[[int], Channel] | None = None
        self._opened = 0  # how many have been made as needed
        self._all: set[Channel] = set()
        self._free: list[Channel] = []  # the most recently used one last
        self._busy: dict[Channel, tuple[str, float]] = {}
        self._parked: dict[Channel, _Parked] = {}
        self._waiters: deque[_Waiter[Owner]] = deque()
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
            self._all = set(channels)
            self._free = list(reversed(channels))
            self._serve_waiters()

    def retire(self) -> None:
        """Give no channel away any more: close the free ones, and wake everybody who waits for one."""
        with self._lock:
            closing = self._free
            self._open, self._owner, self._open_channel = False, None, None
            self._all -= set(closing)
            self._free = []
            while self._waiters:
                self._waiters.popleft().come()
        for channel in closing:
            channel.close()

    def drain(self) -> None:
        """Forget the channels of a worker that has ended, and wake everybody who waits for one.

        Free and parked channels are closed; a busy one is closed when its exchange gives it back.
        """
        with self._lock:
            self.retire()
            parked, self._parked = [each.thread for each in self._parked.values()], {}
            self._all, self._busy = set(), {}
        self._cancel_abandoned()
        for thread in parked:
            if thread is not threading.current_thread():  # in which the garbage collector may have come to this
                with suppress(RuntimeError):  # it is about to be started
                    thread.join()  # the worker's end has woken it

    def check_out(self, label: str, deadline: float | None) -> Steps[tuple[Owner, Channel] | None]:
        """Return a free channel and its owner, or `None` when the worker ended before there was one.

        Raises:
            PoolTimeout: none was free before the deadline.
        """
        self._cancel_abandoned()
        waiter: _Waiter[Owner] | None = None
        try:
            with self._lock:
                if not self._open:
                    return None
                if self._free:
                    return self._take_free(label)
                if self._may_open():
                    try:
                        return self._take_new(label)
                    except (OSError, RuntimeError):  # no descriptors or threads are to be had
                        if not self._all:
                            raise
                if deadline is None or deadline > monotonic():  # who is late needs no place in the queue
                    waiter = _Waiter(label)
                    self._waiters.append(waiter)
            if waiter is None:
                raise PoolTimeout(self.describe_busy(label))
            woken = Woken.LATE
            while woken is Woken.LATE and (deadline is None or deadline > monotonic()):
                look = monotonic() + _LOOK_SECONDS
                woken = yield Wait(waiter.fd, deadline=look if deadline is None else min(look, deadline))
                self._cancel_abandoned()  # which frees a channel, perhaps for this one
        except BaseException:  # cancelled, or Ctrl-C
            if waiter is not None and (got := self._leave_queue(waiter)) is not None:
                self.give_back(got[1])
            raise
        got = self._leave_queue(waiter)
        if got is None and woken is Woken.LATE:
            raise PoolTimeout(self.describe_busy(label))
        return got

    def _cancel_abandoned(self) -> None:
        with suppress(IndexError):  # there are no more
            while True:
                self.abandoned.popleft().cancel()

    def _leave_queue(self, waiter: _Waiter[Owner]) -> tuple[Owner, Channel] | None:
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
        waiter.close()
        return waiter.got

    def give_back(self, channel: Channel) -> None:
        """Take back a channel whose exchange is over."""
        with self._lock:
            self._busy.pop(channel, None)
            is_wanted = channel in self._all and self._owner is not None
            if is_wanted:
                self._free.append(channel)
                self._serve_waiters()
        if not is_wanted:
            channel.close()

    def discard(self, channel: Channel) -> None:
        """Close a channel that cannot be used again."""
        channel.close()
        with self._lock:
            self._busy.pop(channel, None)
            self._parked.pop(channel, None)
            self._all.discard(channel)
            self._serve_waiters()  # there may be one more now, if it is made

    def park(self, channel: Channel, steps: Steps[None], sentinel: int) -> None:
        """Take back a channel whose exchange was given up; `steps` lead to its end."""
        name = f"socketless-parked-{channel.number}"
        thread = threading.Thread(target=self._finish, args=(channel, steps, sentinel), name=name, daemon=True)
        with self._lock:
            label, since = self._busy.pop(channel, ("", monotonic()))
            known = channel in self._all
            if known:
                self._parked[channel] = _Parked(label, since, thread)
        if not known:
            channel.close()
            return
        try:
            thread.start()  # without the lock: the garbage collector may come to an exchange in the new thread
        except RuntimeError:  # no thread is to be had: do without the channel
            self.discard(channel)

    def _finish(self, channel: Channel, steps: Steps[None], sentinel: int) -> None:
        # Runs in the thread socketless-parked-N, until the app lets go or the worker ends.
        try:
            wait = next(steps)
            while poll(wait._replace(sentinel=sentinel, deadline=None)) is Woken.READY:
                wait = steps.send(Woken.READY)
        except StopIteration:
            with self._lock:
                self._parked.pop(channel, None)
            self.give_back(channel)
            return
        except (EOFError, OSError):
            pass
        self.discard(channel)  # the worker has ended: drain() waits for this thread

    def is_last(self, channel: Channel) -> bool:
        """Return whether there would be none without this channel."""
        with self._lock:
            return self._all <= {channel}

    @property
    def is_stuck(self) -> bool:
        """Whether all that there is has been given up, and the worker has not let go."""
        with self._lock:
            return 0 < len(self._all) == len(self._parked)

    def _take_free(self, label: str) -> tuple[Owner, Channel]:
        # Must be called with _lock held.
        assert self._owner is not None
        channel = self._free.pop()
        self._busy[channel] = label, monotonic()
        return self._owner, channel

    def _may_open(self) -> bool:
        # Must be called with _lock held.
        return self._open_channel is not None and (self._limit is None or len(self._all) < self._limit)

    def _take_new(self, label: str) -> tuple[Owner, Channel]:
        # Must be called with _lock held: making a channel waits for nobody.
        assert self._owner is not None
        assert self._open_channel is not None
        self._opened += 1
        channel = self._open_channel(self._opened)
        self._all.add(channel)
        self._busy[channel] = label, monotonic()
        return self._owner, channel

    def _serve_waiters(self) -> None:
        # Must be called with _lock held.
        while self._waiters and (self._free or self._may_open()):
            label = self._waiters[0].label
            try:
                got = self._take_free(label) if self._free else self._take_new(label)
            except (OSError, RuntimeError):  # no descriptors or threads are to be had: it has to wait for another one
                return
            waiter = self._waiters.popleft()
            waiter.got = got
            waiter.come()

    def describe_busy(self, label: str) -> str:
        """Say what keeps the channels busy."""
        now = monotonic()
        with self._lock:
            busy = list(self._busy.values())
            parked = list(self._parked.values())
            starting = self._open and self._owner is None
        if starting:
            return f"{label}: the worker is still being started"
        # What comes after the path may be a secret of another test, or of another client's.
        busy = [(_without_query(label), since) for label, since in busy]
        busy += [(f"{_without_query(each.label)} (given up, the app has not let go)", each.since) for each in parked]
        lines = [f"  {what}, for {now - since:.1f} s" for what, since in sorted(busy, key=lambda item: item[1])]
        return "\n".join([f"{label}: all {len(lines)} channels of the worker stayed busy (max_connections):", *lines])


def _without_query(label: str) -> str:
    return label.partition("?")[0]
