"""`Response.raw` for a response that comes from a worker.

urllib3 reads from what `http.client` has made of a connection. `_Reader` is that object here: it looks as if the app's
server had sent a Content-Length if the app has, and `Transfer-Encoding: chunked` if not (RFC 9112, section 7.1). So all
that urllib3 and requests do with a response is their own code, with its own behaviour.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

from urllib3 import HTTPResponse
from urllib3._collections import HTTPHeaderDict

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_CRLF = b"\r\n"


class _Reader:
    """The body's bytes, by the methods of `http.client.HTTPResponse` that urllib3 calls."""

    version = 11

    def __init__(
        self, method: str, headers: HTTPHeaderDict, chunks: Iterator[bytes], close: Callable[[], None]
    ) -> None:
        self.msg = self.headers = headers  # what a cookie jar reads
        self._method = method
        self._chunks = chunks
        self._close = close
        self._rest = memoryview(b"")  # of the chunk that has come
        self._is_complete = False
        self.closed = False

    @property
    def fp(self) -> _Reader:
        return self

    def isclosed(self) -> bool:
        return self.closed

    def close(self) -> None:
        """Leave; the app is told, if it is still there."""
        self.closed = True
        self._close()

    def _fill(self) -> bool:
        # Waits for the next chunk, if there is nothing left of the one before. If the response was closed before its
        # end, that raises: what has come does not look like a whole body.
        if not self._rest:
            self._rest = memoryview(next(self._chunks, b""))
            if not self._rest:
                self._is_complete = True
                self.close()
        return bool(self._rest)

    def _take(self, size: int | None) -> bytes:
        taken, self._rest = (self._rest, memoryview(b"")) if size is None else (self._rest[:size], self._rest[size:])
        return bytes(taken)

    def read(self, size: int | None = None) -> bytes:
        pieces: list[bytes] = []
        while (size is None or size > 0) and self._fill():
            pieces.append(self._take(size))
            if size is not None:
                size -= len(pieces[-1])
        return b"".join(pieces)

    def read1(self, size: int | None = None) -> bytes:
        return self._take(size) if size != 0 and self._fill() else b""

    # As chunks on the wire, each with its size before it.

    def readline(self, limit: int = -1) -> bytes:
        if self._is_complete:
            return _CRLF  # there are no trailers
        return b"%x\r\n" % len(self._rest) if self._fill() else b"0\r\n"

    def _safe_read(self, size: int) -> bytes:
        return self._take(size) if self._rest else _CRLF  # which is behind each chunk


class RawResponse(HTTPResponse):
    """A response of urllib3 whose bytes come from a worker.

    `extensions` holds what the app has sent by an extension of ASGI, by its name: "http.response.debug" and
    "http.response.trailers".
    """

    def __init__(
        self,
        *,
        method: str,
        url: str,
        status: int,
        reason: str,
        headers: HTTPHeaderDict,
        chunks: Iterator[bytes],
        close: Callable[[], None],
        abandon: Callable[[], None],
        is_streamed: bool,
        extensions: dict[str, Any],
    ) -> None:
        self._abandon = abandon
        reader: Any = _Reader(method, headers, chunks, close)
        super().__init__(
            body=reader,
            headers=headers,
            status=status,
            version=reader.version,
            reason=reason,
            preload_content=False,
            decode_content=False,
            original_response=reader,
            enforce_content_length=False,  # the worker does
            request_method=method,
            request_url=url,
        )
        self.version_string = "HTTP/1.1"
        self._is_streamed = is_streamed
        self.chunked = is_streamed and "content-length" not in headers
        self.extensions = extensions

    def stream(self, amt: int | None = 65536, decode_content: bool | None = None) -> Generator[bytes]:
        """Yield the body in pieces of `amt` bytes; for `None`, as it comes, as the docs of `iter_content` say."""
        if amt is None:
            self.chunked = self._is_streamed
        return super().stream(amt, decode_content)

    def __del__(self) -> None:
        # As over a connection, a response that is dropped ends without a word.
        self._abandon()

    @contextmanager
    def _error_catcher(self) -> Iterator[None]:
        # Without it, urllib3 takes every OSError for one of the connection: ours, and what the app or the source of the
        # request's body raises.
        try:
            yield
        except BaseException:
            self.close()
            raise
