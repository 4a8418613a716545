"""Frames over pipes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from socketless._wire import codec
from socketless._wire.channel import ChannelEnds, make_channel
from socketless._wire.drivers import deadline_after, poll, run_blocking
from socketless._wire.messages import Chunk, Message, Request, Reset, Response, Start, Stop
from socketless._wire.pipes import make_pipe
from socketless._wire.steps import Wait, Woken, finish
from socketless.errors import TransferError
from support import LIMIT, nothing_leaks


@pytest.fixture
def ends() -> Iterator[ChannelEnds]:
    with nothing_leaks():
        ends = make_channel(1)
        yield ends
        ends.host.close()
        ends.worker.close()


def response(size: int) -> Response:
    return Response(200, "OK", [(b"a", b"b")], os.urandom(size))


@pytest.mark.parametrize("size", [0, 1, 65_535, 65_536, 65_537, 1_000_000, 5_000_000])
def test_both_ways(ends: ChannelEnds, size: int) -> None:
    """A message of any size arrives as it was, both ways."""
    message = response(size)
    thread = threading.Thread(target=lambda: finish(ends.worker.send(finish(ends.worker.receive()))))
    thread.start()
    run_blocking(ends.host.send(message))
    assert run_blocking(ends.host.receive()) == message
    thread.join(LIMIT)


class Name(str):
    """A class of somebody's."""


@pytest.mark.parametrize(
    "message",
    [
        Request(Name("GET"), "http", ("a", 80), b"/", [(b"a", b"b")], context=None),
        Request("GET", "http", (Name("a"), 80), b"/", []),
        Response(HTTPStatus.OK, "", [], b"body"),
        Response(200, "", [], extensions={"http.response.trailers": [(b"a", b"b")]}),
        Response(200, "", [], extensions={"http.response.debug": {"info": bytearray(b"as it was")}}),
        Chunk(b"", more_body=False),
    ],
)
def test_what_is_not_plain(ends: ChannelEnds, message: Message) -> None:
    """What is of a class of its own arrives as that, in a message that else is plain."""
    run_blocking(ends.host.send(message))
    got = finish(ends.worker.receive())
    assert repr(got) == repr(message)
    assert [type(value) for value in vars(got).values()] == [type(value) for value in vars(message).values()]


def test_messages_in_a_row(ends: ChannelEnds) -> None:
    """Messages that are read together are told apart."""
    messages: list[Message] = [response(10), Reset(), response(70_000), Stop(), response(0)]
    thread = threading.Thread(target=lambda: [finish(ends.worker.send(message)) for message in messages])
    thread.start()
    assert [run_blocking(ends.host.receive()) for _ in messages] == messages
    thread.join(LIMIT)


def test_never_blocks(ends: ChannelEnds) -> None:
    """The host's end yields instead of blocking, and says what it waits for."""
    read_fd, write_fd = ends.host.fileno()
    assert next(ends.host.receive()) == Wait(read_fd)
    assert next(ends.host.send(response(1_000_000))) == Wait(write_fd, for_writing=True)


def test_byte_by_byte(ends: ChannelEnds) -> None:
    """A message that arrives in single bytes is put together."""
    message = response(300)
    steps = ends.host.receive()
    next(steps)
    _, write = ends.worker.fileno()
    frame = b"".join(codec.encode(message))
    for index in range(len(frame) - 1):
        os.write(write, frame[index : index + 1])
        steps.send(Woken.READY)
    os.write(write, frame[-1:])
    with pytest.raises(StopIteration) as stop:
        steps.send(Woken.READY)
    assert stop.value.value == message


@pytest.mark.parametrize("cut", [0, 1, 9, 20, -1])
def test_end_in_the_middle(ends: ChannelEnds, cut: int) -> None:
    """A pipe that ends, at a message's end or within, is an EOFError."""
    os.write(ends.worker.fileno()[1], b"".join(codec.encode(response(100)))[:cut])
    ends.worker.close()
    with pytest.raises(EOFError):
        run_blocking(ends.host.receive())


def frame(magic: bytes = codec.MAGIC, size: int = 10, has_body: bool = False, rest: bytes = b"") -> bytes:
    return codec.HEAD.pack(magic, size, has_body) + rest


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b"print('the app has found our pipe')\n", "is not the beginning of a message"),
        (bytes(100), "is not the beginning of a message"),
        (frame(size=codec.MOST + 1), "is not the beginning of a message"),
        (frame(size=0, has_body=True, rest=codec.LENGTH.pack(codec.MOST + 1)), "is not the length of a body"),
        (frame(rest=b"no pickle!"), "a message cannot be read"),
        (frame(size=4, rest=b"\x80\x05N."), "a message cannot be read"),
    ],
)
def test_rubbish(ends: ChannelEnds, raw: bytes, said: str) -> None:
    """What is no message is an error at once, and not a wait for the rest of it."""
    os.write(ends.worker.fileno()[1], raw)
    with pytest.raises(codec.NotAFrame, match=said):
        run_blocking(ends.host.receive())


@settings(deadline=None)
@given(raw=st.binary(min_size=codec.HEAD.size, max_size=200))
def test_any_rubbish(raw: bytes) -> None:
    """Whatever bytes stand in a pipe, reading them comes to an end."""
    ends = make_channel(1)
    try:
        os.write(ends.worker.fileno()[1], raw)
        ends.worker.close()
        with pytest.raises(EOFError):
            run_blocking(ends.host.receive())
    finally:
        ends.host.close()


def test_other_side_gone(ends: ChannelEnds) -> None:
    """Writing to a pipe that nobody reads is a BrokenPipeError."""
    ends.worker.close()
    with pytest.raises(BrokenPipeError):
        run_blocking(ends.host.send(Stop()))


def test_cannot_be_pickled(ends: ChannelEnds) -> None:
    """What cannot be pickled is a TransferError, and nothing is written."""
    bad: Any = Start(threading.Lock(), "auto", None, [])  # type: ignore[arg-type]
    with pytest.raises(TransferError, match="cannot pickle"):
        run_blocking(ends.host.send(bad))
    assert poll(Wait(ends.worker.read_fd, deadline=0.0)) is Woken.LATE


@settings(deadline=None)
@given(
    status=st.integers(100, 999),
    headers=st.lists(st.tuples(st.binary(), st.binary())),
    body=st.binary(max_size=200_000) | st.integers(60_000, 70_000).map(bytes),
)
def test_codec(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Whatever is encoded is decoded to the same."""
    message = Response(status, "", headers, body)
    first, *buffers = codec.encode(message)
    size, has_body = codec.read_head(bytes(first[: codec.HEAD.size]))
    assert has_body == len(buffers)
    assert codec.decode(bytes(first[len(first) - size :]), [bytes(buffer) for buffer in buffers]) == message


def test_timeout_while_the_clock_stands_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """A time limit holds where a test has stopped the clock, as freezegun does."""
    reader, writer = make_pipe()
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    assert poll(Wait(reader.fileno(), deadline=deadline_after(0.001))) is Woken.LATE
    monkeypatch.undo()
    reader.close()
    writer.close()
