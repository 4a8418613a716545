"""Decodes compressed request bodies (Content-Encoding, RFC 9110, section 8.4) before the app gets them.

What comes out is never in one piece: half a megabyte may stand for half a gigabyte, which is counted as it comes.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from importlib import import_module
from typing import Any, Protocol

from socketless._clients.response import Answers, Exchanging
from socketless._host.limits import NO_LIMITS, Timeouts, check_body_size
from socketless._wire.messages import RawHeaders, Request
from socketless._wire.steps import Pull, PullingSteps
from socketless.errors import TransferError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_PIECE_SIZE = 64 * 1024  # bytes of what is decoded
_SIP = 64  # bytes that are given at once to a library that does not let its output be limited


class Decoding:
    """A worker whose app gets the bodies of requests decoded. A coding that is not known here is left to the app."""

    def __init__(self, worker: Answers) -> None:
        self._worker = worker

    @property
    def app_kind(self) -> str:
        """That of the worker."""
        return self._worker.app_kind

    @property
    def max_body_bytes(self) -> int | None:
        """That of the worker."""
        return self._worker.max_body_bytes

    def exchange(
        self, message: Request, timeouts: Timeouts = NO_LIMITS, body: Pull | None = None
    ) -> PullingSteps[Exchanging]:
        """Send a request to the worker; see `Worker.exchange`. The app sees no Content-Encoding.

        One that says its length has the right one afterwards; one that is chunked stays so.

        Raises:
            TransferError: the body is not what its Content-Encoding says.
            BodyTooLarge: decoded, it is larger than the worker's `max_body_bytes`.
        """
        decoders = _decoders_of(message.headers)
        if decoders:
            source = _Whole(message.body) if body is None else body
            decoded = _Decoded(source, decoders, message.label)
            headers = [(name, value) for name, value in message.headers if name.lower() != b"content-encoding"]
            if body is not None and any(name.lower() == b"transfer-encoding" for name, _ in headers):
                message, body = replace(message, headers=headers), decoded
            else:
                whole = yield from decoded.take_all(self._worker.max_body_bytes)
                headers = _with_length(headers, len(whole))
                message, body = replace(message, headers=headers, body=whole, more_body=False), None
        return (yield from self._worker.exchange(message, timeouts, body))


def _with_length(headers: RawHeaders, length: int) -> RawHeaders:
    kept = [(name, value) for name, value in headers if name.lower() not in (b"content-length", b"transfer-encoding")]
    return [*kept, (b"Content-Length", b"%d" % length)]


class _Whole(Pull):
    """A body that is there."""

    def __init__(self, body: bytes) -> None:
        super().__init__(iter(()))
        self._body = body

    def take(self) -> PullingSteps[bytes | None]:
        yield from ()
        body, self._body = self._body, b""
        return body or None


class _Decoded(Pull):
    """A body, decoded piece by piece."""

    def __init__(self, pull: Pull, decoders: list[_Decoder], label: str) -> None:
        super().__init__(pull.chunks)
        self._pull = pull
        self._decoders = decoders
        self._label = label
        self._pieces: Iterator[bytes] = iter(())  # of what has been pulled
        self._is_over = False

    def take(self) -> PullingSteps[bytes | None]:
        while True:
            piece = next(self._pieces, None)
            if piece is not None or self._is_over:
                return piece
            chunk = yield from self._pull.take()
            self._is_over = chunk is None
            self._pieces = self._decode(bytes(chunk or b""))

    def take_all(self, limit: int | None) -> PullingSteps[bytes]:
        """Return the whole body.

        Raises:
            BodyTooLarge: there is more of it.
        """
        pieces, size = [], 0
        while (piece := (yield from self.take())) is not None:
            size += len(piece)
            check_body_size(size, limit, self._label)
            pieces.append(piece)
        return b"".join(pieces)

    def _decode(self, chunk: bytes) -> Iterator[bytes]:
        pieces: Iterable[bytes] = [chunk]
        for decoder in self._decoders:
            pieces = self._said_of(decoder, decoder.decode(pieces, is_last=self._is_over))
        return iter(pieces)

    def _said_of(self, decoder: _Decoder, pieces: Iterator[bytes]) -> Iterator[bytes]:
        try:
            yield from pieces
        except TransferError:  # of one before it
            raise
        except Exception as error:
            raise TransferError(
                f"{self._label}: the request's body is not {decoder.name}, as its Content-Encoding says: {error}"
            ) from error


class _Library(Protocol):
    """A library's object that undoes a coding."""

    @property
    def eof(self) -> bool | None:
        """Whether a member (RFC 1952, section 2.2), or frame, is at its end; `None`: it does not say."""

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        """Return some of what is decoded, data that was not taken, and whether there is more without any."""


class _Decoder:
    """One coding, undone; `make` makes an object of its library."""

    def __init__(self, name: str, make: Callable[[], _Library]) -> None:
        self.name = name
        self._make = make
        self._object = make()
        self._has_begun = False

    def decode(self, pieces: Iterable[bytes], *, is_last: bool) -> Iterator[bytes]:
        """Yield what pieces of a body stand for.

        Raises:
            ValueError: the end is missing.
        """
        for data in pieces:
            has_more = bool(data)
            self._has_begun |= has_more
            while has_more:
                if self._object.eof:
                    self._object = self._make()
                decoded, data, has_more = self._object.step(data)
                has_more |= bool(data)
                if decoded:
                    yield decoded
        if is_last and self._has_begun and self._object.eof is False:
            raise ValueError("it is cut off")


class _Zlib:
    def __init__(self, wbits: int | None) -> None:
        self._wbits = wbits
        self._object: Any = None

    @property
    def eof(self) -> bool:
        return self._object is not None and bool(self._object.eof)

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        if self._object is None:
            self._object = zlib.decompressobj(self._wbits or _wbits_of_deflate(data))
        decoded = self._object.decompress(data, _PIECE_SIZE)
        has_more = len(decoded) == _PIECE_SIZE and not self._object.eof
        return decoded, self._object.unconsumed_tail or self._object.unused_data, has_more


def _wbits_of_deflate(data: bytes) -> int:
    # It is zlib's format (RFC 1950); some send it raw (RFC 1951).
    return zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS


class _Brotli:
    eof = None

    def __init__(self, module: Any, method: str) -> None:
        self._object = module.Decompressor()
        self._process = getattr(self._object, method)

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        if not hasattr(self._object, "can_accept_more_data"):  # before 1.2
            return self._process(data[:_SIP]), data[_SIP:], False
        decoded = self._process(data, output_buffer_limit=_PIECE_SIZE)
        # It may have taken all of the data, and hold more than it was allowed to give.
        return decoded, b"", bool(decoded) or not self._object.can_accept_more_data()


class _Zstd:
    """The decompressor of Python 3.14, and of `backports.zstd`."""

    def __init__(self, module: Any) -> None:
        self._object = module.ZstdDecompressor()

    @property
    def eof(self) -> bool:
        return bool(self._object.eof)

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        decoded = self._object.decompress(data, _PIECE_SIZE)
        return decoded, self._object.unused_data, not (self._object.eof or self._object.needs_input)


class _Zstandard:
    def __init__(self, module: Any) -> None:
        self._object = module.ZstdDecompressor().decompressobj()

    @property
    def eof(self) -> bool:
        return bool(self._object.eof)

    def step(self, data: bytes) -> tuple[bytes, bytes, bool]:
        decoded = self._object.decompress(data[:_SIP])
        return decoded, self._object.unused_data + data[_SIP:], False


def _gzip() -> _Decoder:
    return _Decoder("gzip", lambda: _Zlib(zlib.MAX_WBITS | 16))


def _brotli() -> _Decoder | None:
    for name, method in (("brotli", "process"), ("brotlicffi", "decompress")):
        module = _module(name)
        if module is not None:
            return _Decoder("br", partial(_Brotli, module, method))
    return None


def _zstd() -> _Decoder | None:
    for name, make in (("compression.zstd", _Zstd), ("backports.zstd", _Zstd), ("zstandard", _Zstandard)):
        module = _module(name)
        if module is not None:
            return _Decoder("zstd", partial(make, module))
    return None


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None


_MAKERS: dict[str, Callable[[], _Decoder | None]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": lambda: _Decoder("deflate", lambda: _Zlib(None)),
    "br": _brotli,
    "zstd": _zstd,
}


def _decoders_of(headers: RawHeaders) -> list[_Decoder]:
    """Return what undoes the codings of a body, the last one first; nothing, if one of them is not known."""
    value = b",".join(value for name, value in headers if name.lower() == b"content-encoding").decode("latin-1")
    names = [name.strip().lower() for name in value.split(",")]
    decoders = [_MAKERS[name]() for name in names if name in _MAKERS]
    if len(decoders) != len([name for name in names if name not in ("", "identity")]):
        return []
    known = [decoder for decoder in decoders if decoder is not None]
    return known[::-1] if len(known) == len(decoders) else []
