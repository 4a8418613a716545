"""Responses out of bytes: any split of them gives the same, h11 reads the same, and what is bad is refused."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import h11
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from socketless._lowlevel.response import MAX_HEAD, Cursor, Parsing
from socketless.errors import RemoteProtocolError


class Reading(NamedTuple):
    """What was read of bytes: responses, until an error or the end."""

    responses: list[Any]  # status code, reason, header fields, body, trailers, whether the connection goes on
    error: str
    rest: bytes


def read(pieces: list[bytes], chunk_bytes: int = 100, *, has_body: bool = True, begins_again: bool = False) -> Reading:
    """Read responses out of pieces, until one that is not interim has ended.

    `begins_again`: call each method again for each piece that it needs, as after a timeout.
    """
    source = iter([piece for piece in pieces if piece])
    unconsumed, responses = b"", []

    def finish(method: Callable[[], Parsing[Any]]) -> Any:
        steps = method()
        try:
            next(steps)
            while True:
                if begins_again:
                    steps.close()
                    steps = method()
                    next(steps)
                steps.send(next(source, b""))
        except StopIteration as stop:
            return stop.value

    while True:
        cursor = Cursor(unconsumed, chunk_bytes)
        fields, body = [], b""
        try:
            finish(cursor.status_line)
            while (field := finish(cursor.next_field)) is not None:
                fields.append(field)
            if not has_body:
                finish(cursor.skip_body)
            while (piece := finish(cursor.next_piece)) is not None:
                assert 0 < len(piece) <= chunk_bytes
                body += piece
        except ConnectionError as error:
            responses.append((cursor.code, cursor.reason, fields, body))
            return Reading(responses, f"{type(error).__name__}: {error}", b"")
        assert cursor.is_complete
        responses.append((cursor.code, cursor.reason, fields, body, cursor.trailers, cursor.keeps_alive))
        unconsumed = bytes(cursor.unconsumed)
        if not cursor.is_interim:
            return Reading(responses, "", unconsumed + b"".join(source))


def read_by_h11(data: bytes, *, has_body: bool = True) -> list[Any] | None:
    """Return the same of h11; `None` if it refuses them."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=2 * MAX_HEAD)
    request = h11.Request(method="GET" if has_body else "HEAD", target="/", headers=[("Host", "x")])
    connection.send(request)
    connection.send(h11.EndOfMessage())
    responses: list[Any] = []
    body = b""
    try:
        connection.receive_data(data)
        connection.receive_data(b"")
        while True:
            event = connection.next_event()
            if isinstance(event, (h11.Response, h11.InformationalResponse)):
                fields = list(event.headers.raw_items())
                responses.append([event.status_code, bytes(event.reason), fields, b"", []])
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                responses[-1][3:] = body, list(event.headers.raw_items())
                return responses
            else:
                return None
    except h11.RemoteProtocolError:
        return None


STATUS_LINES = [
    b"HTTP/1.1 200 OK",
    b"HTTP/1.1 200",
    b"HTTP/1.1 404 ",
    b"HTTP/1.0 200 OK",
    b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified",
    b"HTTP/1.1 599 caf\xe9 \t!",
]
INTERIM = [b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"]
FIELDS = [
    b"X-One: a",
    b"x-two:b",
    b"X-Empty:",
    b"X-Space: \t a  b \t ",
    b"X-Latin: caf\xe9",
    b"X-Folded: a \r\n\t b",
    b"Connection: keep-alive, Close",
    b"Connection: keep-alive",
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"content-length:12",
    b"Content-Length: 5, 5",
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: gzip, chunked",
]
CHUNKS = st.lists(st.binary(min_size=1, max_size=20), max_size=4)


@st.composite
def responses(draw: st.DrawFn) -> bytes:
    """Draw the bytes of a response that is whole, or nearly so."""
    head = [draw(st.sampled_from(STATUS_LINES)), *draw(st.lists(st.sampled_from(FIELDS[:8]), max_size=3))]
    chunks = draw(CHUNKS)
    framing = draw(st.sampled_from(["chunked", "length", "end", "any"]))
    body = b"".join(chunks)
    if framing == "chunked":
        extension = draw(st.sampled_from([b"", b";a=b", b' ; c="d"']))
        head.append(b"Transfer-Encoding: chunked")
        trailers = draw(st.sampled_from([b"", b"X-Sum: 1\r\n", b"A: b\r\n c\r\nD: e\r\n"]))
        body = b"".join(b"%X%s\r\n%s\r\n" % (len(chunk), extension, chunk) for chunk in chunks)
        body += b"0%s\r\n%s\r\n" % (extension, trailers)
    elif framing == "length":
        head.append(b"Content-Length: %d" % len(body))
    elif framing == "any":
        head += draw(st.lists(st.sampled_from(FIELDS[8:]), max_size=2))
    whole = draw(st.sampled_from(INTERIM)) + b"\r\n".join([*head, b"", b""]) + body
    return whole + draw(st.sampled_from([b"", b"", b"HTTP/1.1 200 OK\r\n"]))


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw a response some of whose bytes are lost, others, or more."""
    data = draw(responses())
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        lost = draw(st.integers(0, 2))
        new = draw(
            st.sampled_from([b"", b"\r", b"\n", b"\r\n", b" ", b"\t", b"0", b"f", b":", b"\0", b"\xff", b"\x0b"])
        )
        data = data[:at] + new + data[at + lost :]
    return data[: draw(st.integers(0, len(data)))] if draw(st.booleans()) else data


ANY = st.one_of(responses(), damaged())


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@settings(max_examples=500, deadline=None)
@given(data=ANY, cuts=st.lists(st.integers(0, 500)), chunk_bytes=st.integers(1, 30), has_body=st.booleans())
def test_any_split_gives_the_same(data: bytes, cuts: list[int], chunk_bytes: int, has_body: bool) -> None:
    """In whichever pieces the bytes come, and however often the reader begins again: the same is read."""
    at_once = read([data], has_body=has_body)
    assert read(pieces_of(data, cuts), chunk_bytes, has_body=has_body) == at_once
    byte_by_byte = [bytes([byte]) for byte in data]
    assert read(byte_by_byte, chunk_bytes, has_body=has_body) == at_once
    assert read(byte_by_byte, chunk_bytes, has_body=has_body, begins_again=True) == at_once


def unspaced(responses: list[Any]) -> list[Any]:
    """Without the white space that stands for a fold (RFC 9112, section 5.2), which may be any."""

    def of(fields: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        return [(name, b" ".join(value.split())) for name, value in fields]

    return [(code, reason, of(fields), body, of(trailers)) for code, reason, fields, body, trailers, *_ in responses]


@settings(max_examples=1000, deadline=None)
@given(data=ANY, has_body=st.booleans())
@example(data=b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n12345", has_body=True)
def test_h11_reads_the_same(data: bytes, has_body: bool) -> None:
    """What is taken, h11 takes as well, and reads the same in it.

    Save white space before a chunk's extension, which has to be taken (RFC 9112, section 7.1.1): h11 refuses it.
    """
    data = re.sub(rb"[ \t]+;", b";", data)
    reading = read([data], has_body=has_body)
    if not reading.error:
        theirs = read_by_h11(data, has_body=has_body)
        assert theirs is not None
        assert unspaced(theirs) == unspaced(reading.responses)


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "body", "keeps_alive", "rest"),
    [
        (OK + b"Content-Length: 5\r\n\r\n12345678", b"12345", True, b"678"),
        (OK + b"Content-Length: 0\r\n\r\n1", b"", True, b"1"),
        (OK + b"transfer-encoding:CHUNKED\r\n\r\n1\r\n1\r\n0\r\n\r\n", b"1", True, b""),
        (CHUNKED + b"3\r\n123\r\n02 ;x\r\n45\r\n0\r\n\r\n678", b"12345", True, b"678"),
        (OK + b"\r\n12345", b"12345", False, b""),
        (OK + b"Connection: x , Close\r\nContent-Length: 1\r\n\r\n1", b"1", False, b""),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\nConnection: keep-alive\r\n\r\n1", b"1", False, b""),
        (b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n12", b"", True, b"12"),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n12", b"", True, b"12"),
        (b"HTTP/1.1 101 Switching\r\nContent-Length: 1\r\n\r\n\x81\x00", b"\x81\x00", False, b""),
    ],
)
def test_where_a_response_ends(data: bytes, body: bytes, keeps_alive: bool, rest: bytes) -> None:
    """Length, chunks, status and the connection's end say where a response ends, and whether another can follow."""
    reading = read([data])
    assert reading.error == ""
    assert (reading.responses[-1][3], reading.responses[-1][5], reading.rest) == (body, keeps_alive, rest)


def test_head() -> None:
    """The response to a HEAD has no body, whatever it says, and another can follow."""
    for framing in (b"Content-Length: 5\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n", b"\r\n"):
        reading = read([OK + framing + b"HTTP"], has_body=False)
        assert (reading.responses[-1][3], reading.responses[-1][5], reading.rest) == (b"", True, b"HTTP")


def test_trailers() -> None:
    """Trailers are kept apart from the headers."""
    reading = read([CHUNKED + b"1\r\nx\r\n0\r\nX-Sum:  1 \r\nX-Sum: 2\r\n\r\n"])
    assert reading.responses[-1][4] == [(b"X-Sum", b"1"), (b"X-Sum", b"2")]


LONG = b"x" * MAX_HEAD


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"HTTP/2 200 OK\r\n\r\n", "not a status line of HTTP/1.1: 'HTTP/2 200 OK'"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not a status line of HTTP/1.1: 'SSH-2.0-OpenSSH_9.2'"),
        (b"HTTP/1.1 20 OK\r\n\r\n", "not a status line of HTTP/1.1: 'HTTP/1.1 20 OK'"),
        (b"HTTP/1.1 200 O\0K\r\n\r\n", r"not a status line of HTTP/1.1: 'HTTP/1.1 200 O\x00K'"),
        (b"HTTP/1.1 200 OK\n\n", "the status line: a line ends with LF instead of CRLF"),
        (b"HTTP/1.1 200", "the peer closed the connection in the middle of the status line"),
        (LONG, "too long: the status line; the limit is 65536 bytes"),
        (OK + b"a: b\n\r\n", "the headers: a line ends with LF instead of CRLF"),
        (OK + b"a: b\r\n", "the peer closed the connection in the middle of the headers"),
        (OK + b"a : b\r\n\r\n", "not a header field: 'a : b'"),
        (OK + b" a: b\r\n\r\n", "not a header field: ' a: b'"),
        (OK + b"a\r\n\r\n", "not a header field: 'a'"),
        (OK + b"a: b\rc\r\n\r\n", r"not a header field: 'a: b\rc'"),
        (OK + b"a: " + LONG, "too long: the headers; the limit is 65536 bytes"),
        (OK + b"a: b\r\n" * 20_000, "too long: the headers; the limit is 65536 bytes"),
        (OK + b"y" * 200 + b"\r\n\r\n", f"not a header field: '{'y' * 100}'..."),
        (OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n", "more than one Content-Length: '5, 6'"),
        (OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n", "more than one Content-Length: '5, 5'"),
        (OK + b"Content-Length: 5, 5\r\n\r\n", "not a Content-Length: '5, 5'"),
        (OK + b"Content-Length: -5\r\n\r\n", "not a Content-Length: '-5'"),
        (OK + b"Content-Length: +5\r\n\r\n", "not a Content-Length: '+5'"),
        (OK + b"Content-Length: 0x5\r\n\r\n", "not a Content-Length: '0x5'"),
        (OK + b"Content-Length:\r\n\r\n", "not a Content-Length: ''"),
        (OK + b"Content-Length: " + b"9" * 19 + b"\r\n\r\n", f"not a Content-Length: '{'9' * 19}'"),
        (CHUNKED[:-2] + b"Content-Length: 5\r\n\r\n", "a response with both Transfer-Encoding and Content-Length"),
        (b"HTTP/1.0" + CHUNKED[8:], "a response of HTTP/1.0 with Transfer-Encoding"),
        (OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n", "Transfer-Encoding other than chunked: 'gzip, chunked'"),
        (
            CHUNKED[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
            "Transfer-Encoding other than chunked: 'chunked, chunked'",
        ),
        (OK + b"Content-Length: 5\r\n\r\n1234", "the peer closed the connection in the middle of the body"),
        (CHUNKED, "the peer closed the connection in the middle of a chunk's size"),
        (CHUNKED + b"5\r\n123", "the peer closed the connection in the middle of the body"),
        (CHUNKED + b"5\r\n12345", "the peer closed the connection in the middle of the body"),
        (CHUNKED + b"5\r\n12345\r\n", "the peer closed the connection in the middle of a chunk's size"),
        (CHUNKED + b"0\r\n", "the peer closed the connection in the middle of the trailers"),
        (CHUNKED + b"5\r\n123456\r\n", "a chunk is longer than it says"),
        (CHUNKED + b"5\n12345", "a chunk's size: a line ends with LF instead of CRLF"),
        (CHUNKED + b"0x5\r\n", "not a chunk size: '0x5'"),
        (CHUNKED + b"-5\r\n", "not a chunk size: '-5'"),
        (CHUNKED + b" 5\r\n", "not a chunk size: ' 5'"),
        (CHUNKED + b"\r\n", "not a chunk size: ''"),
        (CHUNKED + b"f" * 17 + b"\r\n", f"not a chunk size: '{'f' * 17}'"),
        (CHUNKED + b"5;" + LONG, "too long: a chunk's size; the limit is 65536 bytes"),
        (CHUNKED + b"0\r\na: " + LONG, "too long: the trailers; the limit is 65536 bytes"),
        (CHUNKED + b"0\r\na\r\n\r\n", "not a header field: 'a'"),
    ],
)
def test_bad_bytes(data: bytes, error: str) -> None:
    """What is no HTTP/1.1, too large or not clear is refused, and the text says why."""
    assert read([data]).error == f"RemoteProtocolError: {error}"
    assert read(pieces_of(data, list(range(0, len(data), 1000)))).error == f"RemoteProtocolError: {error}"


def test_no_response() -> None:
    """A connection that ends before the first byte has not answered: that is no matter of the protocol."""
    assert read([]).error == "ConnectionResetError: the peer closed the connection before it sent a response"
    assert not issubclass(ConnectionResetError, RemoteProtocolError)
