"""Which channel is whose.

A channel is free, busy with an exchange, or *parked*: its exchange was given up (a timeout, a cancelled task, Ctrl-C)
before the worker had answered. A parked channel keeps the steps of its exchange; they are driven on, a look at a time,
until the answer has come and gone, and then the channel is free again.

Who finds no free channel waits in a queue, on a pipe of its own, which any thread can write to and any loop can wait
for.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from socketless.errors import PoolTimeout
from socketless.wire.channel import Channel, Steps, Wait
from socketless.wire.drivers import poll
from socketless.wire.messages import Message

Owner = TypeVar("Owner")


@dataclass
class _Parked:
    channel: Channel
    steps: Steps[Message]
    wait: Wait
    label: str
    since: float


class _Waiter(Generic[Owner]):
    """A place in the queue."""

    def __init__(self) -> None:
        self.got: tuple[Owner, Channel] | None = None
        self.woken = False
        self.fd, self._write_fd = os.pipe()

    def wake(self) -> None:
        if not self.woken:
            self.woken = True
            os.write(self._write_fd, b"\0")

    def close(self) -> None:
        os.close(self.fd)
        os.close(self._write_fd)


class ChannelPool(Generic[Owner]):
    """The channels of one worker, and the queue for them. Any thread may call it.

    A worker that is restarted has new channels; its *owner* tells a channel of the new ones from one of the old.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open = False  # guarded by _lock, like all below; false while there is no worker, nor one about to be
        self._owner: Owner | None = None
        self._all: set[Channel] = set()
        self._free: list[Channel] = []  # the most recently used one last
        self._busy: dict[Channel, tuple[str, float]] = {}
        self._parked: list[_Parked] = []
        self._waiters: deque[_Waiter[Owner]] = deque()

    def expect(self) -> None:
        """Let everybody wait who wants a channel: a worker is being started."""
        with self._lock:
            self._open = True

    def fill(self, owner: Owner, channels: list[Channel]) -> None:
        """Take the channels of a new worker."""
        with self._lock:
            self._owner = owner
            self._all = set(channels)
            self._free = list(reversed(channels))
            self._serve_waiters()

    def drain(self) -> None:
        """Forget the channels of a worker that has ended, and wake everybody who waits for one.

        Free and parked channels are closed; a busy one is closed when its exchange gives it back.
        """
        with self._lock:
            closing = [*self._free, *(parked.channel for parked in self._parked)]
            self._open = False
            self._all.clear()
            self._free.clear()
            self._parked.clear()
            for waiter in self._waiters:
                waiter.wake()
        for channel in closing:
            channel.close()

    def check_out(self, label: str, deadline: float | None) -> Steps[tuple[Owner, Channel] | None]:
        """Return a free channel and its owner, or `None` when the worker ended before there was one.

        Raises:
            PoolTimeout: none was free before the deadline.
        """
        while True:
            with self._lock:
                if not self._open:
                    return None
                self._look_at_parked()
                if self._free and not self._waiters:
                    owner, channel = self._pop_free()
                    self._busy[channel] = label, time.monotonic()
                    return owner, channel
                waiter: _Waiter[Owner] = _Waiter()
                self._waiters.append(waiter)
                parked_reads = [fd for parked in self._parked for fd in parked.wait.reads]
                parked_writes = [fd for parked in self._parked for fd in parked.wait.writes]
            try:
                ready = yield Wait((waiter.fd, *parked_reads), tuple(parked_writes), deadline)
            except BaseException:  # cancelled, or Ctrl-C
                got = self._leave_queue(waiter, label)
                if got is not None:
                    self.give_back(got[1])
                raise
            got = self._leave_queue(waiter, label)
            if got is not None:
                return got
            if not ready:
                raise PoolTimeout(self._describe_busy(label))

    def _leave_queue(self, waiter: _Waiter[Owner], label: str) -> tuple[Owner, Channel] | None:
        with self._lock:
            if waiter in self._waiters:
                self._waiters.remove(waiter)
            waiter.close()
            if waiter.got is not None:
                self._busy[waiter.got[1]] = label, time.monotonic()
            return waiter.got

    def give_back(self, channel: Channel) -> None:
        """Take back a channel whose exchange is over."""
        with self._lock:
            self._busy.pop(channel, None)
            known = channel in self._all
            if known:
                self._free.append(channel)
                self._serve_waiters()
        if not known:
            channel.close()

    def discard(self, channel: Channel) -> bool:
        """Close a channel that cannot be used again; return whether others are left."""
        channel.close()
        with self._lock:
            self._busy.pop(channel, None)
            self._all.discard(channel)
            return bool(self._all)

    def park(self, channel: Channel, steps: Steps[Message], wait: Wait) -> None:
        """Take back a channel whose exchange was given up while its steps wait for `wait`."""
        with self._lock:
            label, since = self._busy.pop(channel, ("", time.monotonic()))
            known = channel in self._all
            if known:
                self._parked.append(_Parked(channel, steps, wait, label, since))
                if self._waiters:  # let it look at this one too
                    self._waiters[0].wake()
        if not known:
            channel.close()

    def _serve_waiters(self) -> None:
        # Must be called with _lock held.
        while self._free and self._waiters:
            waiter = self._waiters.popleft()
            waiter.got = self._pop_free()
            waiter.wake()

    def _pop_free(self) -> tuple[Owner, Channel]:
        # Must be called with _lock held.
        assert self._owner is not None
        return self._owner, self._free.pop()

    def _look_at_parked(self) -> None:
        # Must be called with _lock held. Nothing here blocks: the pipes do not, and the poll does not wait.
        for parked in list(self._parked):
            try:
                while poll(parked.wait._replace(deadline=0.0)):
                    parked.wait = parked.steps.send([])
            except StopIteration:
                self._parked.remove(parked)
                self._free.insert(0, parked.channel)
                self._serve_waiters()
            except (EOFError, OSError):  # the worker has ended; drain() will follow
                self._parked.remove(parked)
                self._all.discard(parked.channel)
                parked.channel.close()

    def _describe_busy(self, label: str) -> str:
        now = time.monotonic()
        with self._lock:
            busy = list(self._busy.values())
            hung = [(f"{parked.label} (given up, the app has not let go)", parked.since) for parked in self._parked]
        lines = [f"  {what}, for {now - since:.1f} s" for what, since in sorted(busy + hung, key=lambda item: item[1])]
        return "\n".join([f"{label}: all {len(lines)} channels of the worker stayed busy (max_connections):", *lines])
