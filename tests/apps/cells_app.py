"""Apps of `tests/cells`: at one moment of an exchange, they do what the query says.

A query names the `moment`, the `deed`, the `nonce` that the answer repeats, and a `fifo`: who holds says so in the FIFO
of that name and "-arrived", and goes on after a byte from the one with "-release".
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from types import FunctionType, ModuleType
from typing import Any
from urllib.parse import parse_qsl

from socketless._wire.channel import Channel

PIECE = 5  # bytes of a request's body that are read before "upload"


class Asked(LookupError):
    """What the apps raise."""


class AskedAndHeld(Asked):
    """What cannot be pickled."""

    def __init__(self) -> None:
        super().__init__("as asked")
        self.lock = threading.Lock()


def leave() -> None:
    sys.stderr.write("leaving now")
    sys.stderr.flush()
    os._exit(7)


def fail() -> None:
    raise Asked("as asked")


def fail_and_hold() -> None:
    raise AskedAndHeld


def channel_of(way_out: Any) -> Channel:
    """Return the channel that something of the server's leads to, in the fewest steps."""
    seen: set[int] = set()
    todo = deque([way_out])
    while not isinstance(thing := todo.popleft(), Channel):
        if id(thing) not in seen and not isinstance(thing, (type, ModuleType)):
            seen.add(id(thing))
            is_function = isinstance(thing, FunctionType)  # which leads to all of its module
            todo += gc.get_referents(thing.__closure__ if is_function else thing)
    return thing


class Cell:
    """What an app is to do for one request."""

    def __init__(self, query: str, way_out: Any) -> None:
        """`way_out` is something of the server's, from which its channel can be found."""
        known = {"moment": "", "deed": "", **dict(parse_qsl(query))}
        self.nonce = known["nonce"].encode()
        self._moment, self._deed, self._fifo = known["moment"], known["deed"], known.get("fifo", "")
        self._way_out = way_out

    def come_to(self, moment: str) -> None:
        """Do what is to be done there."""
        if moment == self._moment:
            if self._deed == "hold":
                self._hold()
            else:
                DEEDS[self._deed](self)

    async def come_to_async(self, moment: str) -> None:
        """The same on an event loop."""
        if moment == self._moment and self._deed == "hold":
            await self._hold_async()
        else:
            self.come_to(moment)

    def _arrive(self) -> int:
        arrived = os.open(f"{self._fifo}-arrived", os.O_WRONLY)
        os.write(arrived, b".")
        os.close(arrived)
        return os.open(f"{self._fifo}-release", os.O_RDONLY | os.O_NONBLOCK)

    def _hold(self) -> None:
        fd = self._arrive()
        os.set_blocking(fd, True)
        os.read(fd, 1)
        os.close(fd)

    async def _hold_async(self) -> None:
        fd, loop = self._arrive(), asyncio.get_running_loop()
        is_released = asyncio.Event()
        loop.add_reader(fd, is_released.set)
        try:
            await is_released.wait()
        finally:
            loop.remove_reader(fd)
            os.close(fd)

    def close_channel(self) -> None:
        os.dup2(os.open(os.devnull, os.O_RDWR), channel_of(self._way_out).fileno()[1])

    def write_rubbish(self) -> None:
        os.write(channel_of(self._way_out).fileno()[1], b"this is no message, and the app should not have written it\n")


DEEDS: dict[str, Callable[[Cell], None]] = {
    "raise": lambda cell: fail(),
    "raise-unpicklable": lambda cell: fail_and_hold(),
    "sys.exit": lambda cell: sys.exit(3),
    "os._exit": lambda cell: leave(),
    "close-channel": Cell.close_channel,
    "write-rubbish": Cell.write_rubbish,
}


def wsgi(environ: dict[str, Any], start_response: Any) -> Any:
    cell = Cell(environ["QUERY_STRING"], start_response)
    body = environ["wsgi.input"]
    first = body.read(PIECE)
    cell.come_to("upload")
    rest = body.read()
    cell.come_to("asked")
    start_response("200 OK", [])
    cell.come_to("head")
    return Answer(cell, first + rest)


class Answer:
    def __init__(self, cell: Cell, body: bytes) -> None:
        self._cell, self._body = cell, body

    def __iter__(self) -> Iterator[bytes]:
        yield self._cell.nonce
        self._cell.come_to("body")
        yield self._body

    def close(self) -> None:
        self._cell.come_to("end")


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    cell = Cell(scope["query_string"].decode(), send)
    await (answer_messages if scope["type"] == "websocket" else answer)(cell, receive, send)


async def answer(cell: Cell, receive: Any, send: Any) -> None:
    event = await receive()
    body = event.get("body", b"")
    await cell.come_to_async("upload")
    while event.get("more_body"):
        event = await receive()
        body += event.get("body", b"")
    await cell.come_to_async("asked")
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await cell.come_to_async("head")
    await send({"type": "http.response.body", "body": cell.nonce, "more_body": True})
    await cell.come_to_async("body")
    await send({"type": "http.response.body", "body": body})
    await cell.come_to_async("end")


async def answer_messages(cell: Cell, receive: Any, send: Any) -> None:
    await receive()
    await cell.come_to_async("connect")
    await send({"type": "websocket.accept"})
    await cell.come_to_async("accepted")
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": cell.nonce.decode()})
        await cell.come_to_async("open")
        await send({"type": "websocket.send", "text": event["text"]})
    await cell.come_to_async("closing")


def state() -> tuple[int, list[str]]:
    """Return what there is in the worker's process."""
    gc.collect()
    names = sorted(thread.name for thread in threading.enumerate())
    return len(os.listdir("/dev/fd")), [name for name in names if not name.startswith("Dummy-")]
