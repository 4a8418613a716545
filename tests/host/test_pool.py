"""Whose a channel is, when its worker ends."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from socketless._host.pool import ChannelPool, Lease
from socketless._wire.channel import Channel, make_channel
from socketless._wire.drivers import deadline_after, poll, run_blocking
from socketless._wire.pipes import make_pipe
from socketless._wire.steps import Steps, Woken
from socketless.errors import WorkerStartError
from support import LIMIT, nothing_leaks

Pool = ChannelPool[str]


@pytest.fixture
def pool() -> Iterator[Pool]:
    """A pool with one channel, of a worker that does nothing."""
    with nothing_leaks():
        pool, ends = Pool(), make_channel(1)
        pool.expect()
        pool.fill("the worker", [ends.host])
        yield pool
        pool.clear()
        ends.worker.close()


def leased(pool: Pool, label: str) -> tuple[Lease[str], Channel]:
    lease: Lease[str] = Lease(label)
    assert run_blocking(pool.check_out(lease, deadline=None))
    assert lease.got is not None
    return lease, lease.got[1]


def returned(pool: Pool) -> Callable[[], None]:
    lease, _ = leased(pool, "one")
    pool.give_back(lease)
    return lambda: pool.give_back(lease)


def parked(pool: Pool) -> Callable[[], None]:
    def nothing_left() -> Steps[None]:
        yield from ()

    lease, _ = leased(pool, "one")
    sentinel, writer = make_pipe()

    def park() -> None:
        pool.park(lease, nothing_left, sentinel.fileno())

    park()
    for thread in threading.enumerate():
        if thread.name == "socketless-parked-1":
            thread.join(LIMIT)
    sentinel.close()
    writer.close()
    return lambda: pool.park(lease, nothing_left, -1)


@pytest.mark.parametrize("end", [returned, parked])
def test_end_of_a_lease_that_is_over(end: Callable[[Pool], Callable[[], None]], pool: Pool) -> None:
    """To end a lease once more leaves the channel alone, which is another one's, also when the worker has ended."""
    end_once_more = end(pool)
    other, channel = leased(pool, "other")
    pool.clear()
    end_once_more()
    assert min(channel.fileno()) > 2
    pool.give_back(other)
    with pytest.raises(OSError, match="closed"):
        channel.fileno()


def test_waiting_for_what_cannot_be_opened() -> None:
    """Who waits for a channel is woken when the last one has ended and none can be opened, and is told why."""

    def open_channel(number: int) -> Channel:
        if number > 1:
            raise WorkerStartError("there is nobody")
        return ends.host

    with nothing_leaks():
        pool, ends = Pool(), make_channel(1)
        pool.expect()
        pool.fill("the worker", [], open_channel)
        first, _ = leased(pool, "first")
        second: Lease[str] = Lease("second")
        steps = pool.check_out(second, deadline=None)
        wait = next(steps)
        pool.discard(first)
        woken = poll(wait._replace(deadline=deadline_after(LIMIT)))
        assert woken is Woken.READY
        with pytest.raises(StopIteration):
            steps.send(woken)
        with pytest.raises(WorkerStartError, match="there is nobody"):
            pool.take(second)
        pool.clear()
        ends.worker.close()
