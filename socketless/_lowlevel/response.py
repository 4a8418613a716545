"""A response of HTTP/1.1 (RFC 9112) out of bytes that come in any pieces. No I/O.

    status line ── next_field() ... None ── next_piece() ... None ── done
                   header fields            body, trailers

The methods are generators: each yields where it needs more bytes, is sent them (`b""`: there are no more), and returns
what it is for. What they have not used is `unconsumed`. One that was left in the middle, say by a timeout, may be
called again. They take what the grammar allows and, where the RFC leaves the choice to refuse what is doubtful, refuse
it: a bare LF at the end of a line, two lengths, a length beside chunks.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import TypeVar

from socketless.errors import RemoteProtocolError

T = TypeVar("T")
Parsing = Generator[None, bytes, T]
Field = tuple[bytes, bytes]

# Bytes that the status line and the header fields may have, or the trailers, or a chunk's first line.
MAX_HEAD = 64 * 1024

_TEXT = rb"[\t\x20-\x7e\x80-\xff]*"
_STATUS_LINE = re.compile(rb"(HTTP/1\.[0-9]) ([1-9][0-9][0-9])(?: (" + _TEXT + rb"))?")
_FIELD = re.compile(rb"([-!#$%&'*+.^_`|~0-9A-Za-z]+):(" + _TEXT + rb")")
_FOLD = re.compile(rb"[ \t]*\r\n[ \t]+")
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;" + _TEXT + rb")?")
_LENGTH = re.compile(rb"[0-9]{1,18}")

_UNTIL_END = -1  # the length of a body that ends with the connection


class Cursor:
    """The position of the reader in a response.

    `code`, `reason` and `version` (``b"HTTP/1.1"``) are from the status line; `trailers` are the fields after a chunked
    body. `unconsumed` has the bytes that were received and not used yet. If `is_complete`, the response was received to
    its end, and unconsumed bytes belong to the next one; if `keeps_alive`, the connection can carry another one.
    """

    def __init__(self, unconsumed: bytes = b"", chunk_bytes: int = 64 * 1024) -> None:
        self.unconsumed: bytearray = bytearray(unconsumed)
        self.code: int = 0
        self.reason: bytes = b""
        self.version: bytes = b""
        self.trailers: list[Field] = []
        self.is_complete: bool = False
        self.keeps_alive: bool = True
        self._chunk_bytes = chunk_bytes
        self._budget = MAX_HEAD
        self._lengths: list[bytes] = []
        self._codings: list[bytes] = []
        self._has_fields = False  # all of them have been read
        self._is_chunked = False
        self._is_at_chunk_end = False  # what comes next is the line break after a chunk
        self._is_in_trailers = False
        self._left = 0  # bytes of the body, or of the chunk that is being read

    @property
    def is_interim(self) -> bool:
        """Whether another response follows (RFC 9110, section 15.2)."""
        return self.code < 200 and self.code != 101

    def status_line(self) -> Parsing[int]:
        """Return the status code.

        Raises:
            ConnectionResetError: the connection has ended before the first byte of a response.
            RemoteProtocolError: this is no status line.
        """
        if not self.unconsumed:
            self.unconsumed += yield
            if not self.unconsumed:
                raise ConnectionResetError("the peer closed the connection before it sent a response")
        line = yield from self._head_line("the status line")
        match = _STATUS_LINE.fullmatch(line)
        if match is None:
            raise RemoteProtocolError(f"not a status line of HTTP/1.1: {_shown(line)}")
        self.version, self.reason, self.code = match[1], match[3] or b"", int(match[2])
        self.keeps_alive = self.version != b"HTTP/1.0"
        return self.code

    def next_field(self) -> Parsing[Field | None]:
        """Return name and value of the next header field; `None` after the last.

        Raises:
            RemoteProtocolError: a field breaks the grammar, they are too large, or the body's length is not clear.
        """
        if self._has_fields:
            return None
        field = yield from self._field("the headers")
        if field is None:
            self._has_fields = True
            self._frame()
        else:
            self._note(*field)
        return field

    def _field(self, what: str) -> Parsing[Field | None]:
        line = yield from self._head_line(what, may_fold=True)
        if not line:
            return None
        match = _FIELD.fullmatch(_FOLD.sub(b" ", line))
        if match is None:
            raise RemoteProtocolError(f"not a header field: {_shown(line)}")
        return match[1], match[2].strip(b" \t")

    def _note(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-length":
            self._lengths.append(value)
        elif name == b"transfer-encoding":
            self._codings.append(value.lower())
        elif name == b"connection" and b"close" in [option.strip(b" \t").lower() for option in value.split(b",")]:
            self.keeps_alive = False

    def _frame(self) -> None:
        """Decide how long the body is (RFC 9112, section 6.3)."""
        if self._codings and self._lengths:
            raise RemoteProtocolError("a response with both Transfer-Encoding and Content-Length")
        if self._codings and self.version == b"HTTP/1.0":
            raise RemoteProtocolError("a response of HTTP/1.0 with Transfer-Encoding")
        if self._codings not in ([], [b"chunked"]):
            raise RemoteProtocolError(f"Transfer-Encoding other than chunked: {_shown(b', '.join(self._codings))}")
        if len(self._lengths) > 1:
            raise RemoteProtocolError(f"more than one Content-Length: {_shown(b', '.join(self._lengths))}")
        if self._lengths and not _LENGTH.fullmatch(self._lengths[0]):
            raise RemoteProtocolError(f"not a Content-Length: {_shown(self._lengths[0])}")
        if self.is_interim or self.code in (204, 304):
            self.is_complete = True
        elif self._codings:
            self._is_chunked = True
        elif self._lengths and self.code != 101:
            self._left = int(self._lengths[0])
            self.is_complete = not self._left
        else:
            self._left = _UNTIL_END

    def next_piece(self) -> Parsing[bytes | None]:
        """Return the next bytes of the body, at most `chunk_bytes`; `None` at its end. Header fields are read over.

        Raises:
            RemoteProtocolError: a chunk breaks the grammar, or the connection has ended before the body has.
        """
        while not self._has_fields:
            yield from self.next_field()
        if self._is_chunked and not self.is_complete and not self._left:
            yield from self._begin_chunk()
        if self.is_complete:
            return None
        if not self.unconsumed:
            more = yield
            if not more and self._left == _UNTIL_END:
                self.is_complete, self.keeps_alive = True, False
                return None
            self._add(more, "the body")
        return self._take()

    def skip_body(self) -> Parsing[None]:
        """Take notice that there is none: the request was HEAD."""
        while not self._has_fields:
            yield from self.next_field()
        self.is_complete = True

    def _take(self) -> bytes:
        size = self._chunk_bytes if self._left == _UNTIL_END else min(self._chunk_bytes, self._left)
        piece = bytes(self.unconsumed[:size])
        del self.unconsumed[:size]
        if self._left != _UNTIL_END:
            self._left -= len(piece)
            self.is_complete = not self._left and not self._is_chunked
        return piece

    def _begin_chunk(self) -> Parsing[None]:
        # Must be called where no chunk is left; at the last one, it reads the trailers.
        if self._is_at_chunk_end:
            while len(self.unconsumed) < 2:
                self._add((yield), "the body")
            if self.unconsumed[:2] != b"\r\n":
                raise RemoteProtocolError("a chunk is longer than it says")
            del self.unconsumed[:2]
            self._is_at_chunk_end = False
        if not self._is_in_trailers:
            line = yield from self._line("a chunk's size")
            match = _CHUNK.fullmatch(line)
            if match is None:
                raise RemoteProtocolError(f"not a chunk size: {_shown(line)}")
            self._left = int(match[1], 16)
            self._is_at_chunk_end = self._left > 0
            self._is_in_trailers = not self._left
            self._budget = MAX_HEAD
        if self._is_in_trailers:
            while (field := (yield from self._field("the trailers"))) is not None:
                self.trailers.append(field)
            self.is_complete = True

    def _head_line(self, what: str, *, may_fold: bool = False) -> Parsing[bytes]:
        line = yield from self._line(what, self._budget, may_fold=may_fold)
        self._budget -= len(line) + 2
        return line

    def _line(self, what: str, budget: int = MAX_HEAD, *, may_fold: bool = False) -> Parsing[bytes]:
        """Take the next line off, without its end; with `may_fold`, together with those that go on with it."""
        start = 0
        while True:
            end = self.unconsumed.find(b"\n", start, budget) + 1
            if not end:
                if len(self.unconsumed) >= budget:
                    raise RemoteProtocolError(f"too long: {what}; the limit is {MAX_HEAD} bytes")
                start = len(self.unconsumed)
                self._add((yield), what)
            elif self.unconsumed[end - 2 : end - 1] != b"\r" or end == 1:
                raise RemoteProtocolError(f"{what}: a line ends with LF instead of CRLF")
            elif may_fold and end > 2 and len(self.unconsumed) == end:
                self._add((yield), what)
                start = end - 1
            elif may_fold and end > 2 and self.unconsumed[end] in b" \t":
                start = end
            else:
                line = bytes(self.unconsumed[: end - 2])
                del self.unconsumed[:end]
                return line

    def _add(self, more: bytes, what: str) -> None:
        if not more:
            raise RemoteProtocolError(f"the peer closed the connection in the middle of {what}")
        self.unconsumed += more


def _shown(line: bytes) -> str:
    return repr(line[:100])[1:] + "..." * (len(line) > 100)
