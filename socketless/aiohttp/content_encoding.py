"""Decodes compressed request bodies (Content-Encoding, RFC 9110, section 8.4) before the app gets them."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import replace
from importlib import import_module
from typing import Any

from socketless.clients.answer import Answers, Exchanging
from socketless.errors import TransferError
from socketless.host.limits import NO_LIMITS, Timeouts
from socketless.wire.channel import Pull, PullingSteps
from socketless.wire.messages import RawHeaders, Request

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


class Decoding:
    """A worker whose app gets the bodies of requests decoded. A coding that is not known here is left to the app."""

    def __init__(self, worker: Answers) -> None:
        self._worker = worker

    @property
    def app_kind(self) -> str:
        """That of the worker."""
        return self._worker.app_kind

    def exchange(
        self, message: Request, timeouts: Timeouts = NO_LIMITS, body: Pull | None = None
    ) -> PullingSteps[Exchanging]:
        """Send a request to the worker; see `Worker.exchange`. The app sees no Content-Encoding.

        One that says its length has the right one afterwards; one that is chunked stays so.

        Raises:
            TransferError: the body is not what its Content-Encoding says.
        """
        decoders = _decoders_of(message.headers)
        if decoders:
            source = _Whole(message.body) if body is None else body
            decoded = _Decoded(source, decoders, message.label)
            headers = [(name, value) for name, value in message.headers if name.lower() != b"content-encoding"]
            if body is not None and any(name.lower() == b"transfer-encoding" for name, _ in headers):
                message, body = replace(message, headers=headers), decoded
            else:
                whole = yield from decoded.take_all()
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
        self._is_over = False

    def take(self) -> PullingSteps[bytes | None]:
        while not self._is_over:
            chunk = yield from self._pull.take()
            self._is_over = chunk is None
            data = self._decode(chunk)
            if data:
                return data
        return None

    def take_all(self) -> PullingSteps[bytes]:
        """Return the whole body."""
        pieces = []
        while (piece := (yield from self.take())) is not None:
            pieces.append(piece)
        return b"".join(pieces)

    def _decode(self, chunk: bytes | None) -> bytes:
        data = bytes(chunk or b"")
        for decoder in self._decoders:
            try:
                data = decoder.decode(data) if data else b""
                if chunk is None:
                    data += decoder.finish()
            except Exception as error:
                raise TransferError(
                    f"{self._label}: the request's body is not {decoder.name}, as its Content-Encoding says: {error}"
                ) from error
        return data


class _Decoder:
    """One coding, undone; `make` makes an object of its library, and `decode` is that object's method."""

    def __init__(self, name: str, make: Callable[[], Any], decode: str = "decompress") -> None:
        self.name = name
        self._make = make
        self._object = make()
        self._method = decode
        self._has_begun = False

    def decode(self, data: bytes) -> bytes:
        decoded = b""
        while data:
            self._has_begun = True
            if getattr(self._object, "eof", False):
                self._object = self._make()
            decoded += getattr(self._object, self._method)(data)
            data = getattr(self._object, "unused_data", b"")  # another member (RFC 1952, section 2.2), or frame
        return decoded

    def finish(self) -> bytes:
        """Return what is left.

        Raises:
            ValueError: the end is missing.
        """
        if self._has_begun and not getattr(self._object, "eof", True):
            raise ValueError("it is cut off")
        return b""


class _Deflate:
    """The coding "deflate": zlib's format (RFC 1950); some send it raw (RFC 1951)."""

    def __init__(self) -> None:
        self._object: Any = None

    def decompress(self, data: bytes) -> bytes:
        if self._object is None:
            self._object = zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0x0F == 8 else -zlib.MAX_WBITS)
        decoded: bytes = self._object.decompress(data)
        return decoded

    @property
    def eof(self) -> bool:
        return self._object is not None and bool(self._object.eof)


def _gzip() -> _Decoder:
    return _Decoder("gzip", lambda: zlib.decompressobj(zlib.MAX_WBITS | 16))


def _brotli() -> _Decoder | None:
    for name, method in (("brotli", "process"), ("brotlicffi", "decompress")):
        module = _module(name)
        if module is not None:
            return _Decoder("br", module.Decompressor, method)
    return None


def _zstd() -> _Decoder | None:
    for name, maker in (("compression.zstd", "ZstdDecompressor"), ("backports.zstd", "ZstdDecompressor")):
        module = _module(name)
        if module is not None:
            return _Decoder("zstd", getattr(module, maker))
    module = _module("zstandard")
    return None if module is None else _Decoder("zstd", lambda: module.ZstdDecompressor().decompressobj())


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None


_MAKERS: dict[str, Callable[[], _Decoder | None]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": lambda: _Decoder("deflate", _Deflate),
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
