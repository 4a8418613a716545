"""Where the tests and the apps leave each other events and notes, by topic.

A sender follows the events of its topic, which a test publishes by another request; what becomes of the sender is
noted, and the test reads that, or waits for it, by another request again. So nobody needs a clock.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import threading
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator
from io import BytesIO
from typing import IO, Any

LIMIT = 30.0  # seconds for what takes milliseconds; only a defect reaches it
END = "end"  # the event that ends a stream


class Topic:
    """Events and notes of one test."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # reentrant: the garbage collector may note
        self._published = asyncio.Event()  # for those who wait in the loop that publish() is called in
        self._events: list[str] = []  # guarded by _changed, like the next
        self._notes: list[str] = []

    def publish(self, data: str) -> None:
        with self._changed:
            self._events.append(data)
            self._changed.notify_all()
        self._published.set()

    def note(self, text: str) -> None:
        with self._changed:
            self._notes.append(text)
            self._changed.notify_all()

    @property
    def notes(self) -> list[str]:
        with self._changed:
            return list(self._notes)

    def wait_for_note(self, text: str, times: int = 1) -> None:
        # Django and FastAPI leave some of the generators that their clients leave to the garbage collector.
        deadline = time.monotonic() + LIMIT
        with self._changed:
            while not self._changed.wait_for(lambda: self._notes.count(text) >= times, 0.05):
                if time.monotonic() > deadline:
                    raise TimeoutError(f"nobody noted {text!r} {times} times; there is {self._notes}")
                gc.collect()

    def noting(self) -> Noting:
        return Noting(self)

    def follow(self, after: int = 0) -> Iterator[tuple[int, str]]:
        """Yield the number and the data of each event as it is published."""
        with self.noting():
            while (data := self._wait_for_event(after)) != END:
                after += 1
                yield after, data

    def _wait_for_event(self, place: int) -> str:
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._events) > place, LIMIT):
                raise TimeoutError(f"nobody published event {place + 1}")
            return self._events[place]

    def follow_with_pings(self, after: int = 0) -> Iterator[tuple[int, str] | None]:
        """Yield as `follow()` does, and `None` where there is nothing for a while."""
        with self.noting():
            while True:
                with self._changed:
                    if len(self._events) == after:
                        self._changed.wait(0.01)
                    new = self._events[after:]
                if END in new:
                    return
                after += len(new)
                yield (after, new[-1]) if new else None

    async def follow_async(self, after: int = 0) -> AsyncIterator[tuple[int, str]]:
        """Yield as `follow()` does, in the event loop that the events are published in."""
        with self.noting():
            while (data := await self._wait_for_event_async(after)) != END:
                after += 1
                yield after, data

    async def _wait_for_event_async(self, place: int) -> str:
        while len(self._events) <= place:
            self._published.clear()
            await asyncio.wait_for(self._published.wait(), LIMIT)
        return self._events[place]

    def count(self) -> Iterator[int]:
        """Yield numbers for ever."""
        with self.noting():
            number = 0
            while True:
                yield (number := number + 1)

    async def count_async(self) -> AsyncIterator[int]:
        """Yield numbers for ever, without ever waiting."""
        with self.noting():
            number = 0
            while True:
                yield (number := number + 1)

    def fail(self) -> Iterator[int]:
        """Yield one number, wait for an event, and raise."""
        with self.noting():
            yield 1
            self._wait_for_event(0)
            raise LookupError("in the middle", 42)

    async def fail_async(self) -> AsyncIterator[int]:
        """Yield one number, wait for an event, and raise."""
        with self.noting():
            yield 1
            await self._wait_for_event_async(0)
            raise LookupError("in the middle", 42)


class Noting:
    """Notes how a block begins, and how it ends: by itself, because its client has left, or by an error."""

    # No @contextmanager: the garbage collector would end its generator before the one that is in the block.

    def __init__(self, topic: Topic) -> None:
        self._topic = topic

    def __enter__(self) -> None:
        self._topic.note("begun")

    def __exit__(self, error_type: type[BaseException] | None, *others: object) -> None:
        if error_type is None:
            self._topic.note("ended")
        elif issubclass(error_type, (GeneratorExit, asyncio.CancelledError)):
            self._topic.note("left")
        else:
            self._topic.note(error_type.__name__)


topics: defaultdict[str, Topic] = defaultdict(Topic)


def reset() -> None:
    """Let everything be said that is said when garbage is collected, such as "Task exception was never retrieved"."""
    gc.collect()
    if not gc.get_freeze_count():
        gc.freeze()  # What is there after the first test is what the app is made of, which is long to go through.


def as_event(number: int, data: str | None = None) -> str:
    """Write an event as a server sends it."""
    return f"id: {number}\ndata: {data or number}\n\n"


def describe_file(file: IO[bytes]) -> dict[str, Any]:
    """Return the size and the digest of a file, and whether it is on the disk."""
    digest = hashlib.sha256()
    while piece := file.read(64 * 1024):
        digest.update(piece)
    on_disk = not isinstance(file, BytesIO) and getattr(file, "_rolled", True)  # of a SpooledTemporaryFile
    return {"size": file.tell(), "digest": digest.hexdigest(), "on_disk": on_disk}


# Text in pieces that split lines, line ends and a character of four bytes.
ODD_PIECES = [b"one\ntw", b"o\r", b"\nthr", b"ee \xf0\x9f", b"\x90", b"\x8d\n\nfi", b"ve", b"\r\nsix"]
ODD_TEXT = "one\ntwo\r\nthree \N{SNAKE}\n\nfive\r\nsix"
