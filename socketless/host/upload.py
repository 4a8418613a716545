"""The body of a request that is streamed: the app asks for it chunk by chunk."""

from __future__ import annotations

from typing import Any

from socketless.errors import TransferError
from socketless.host.limits import check_body_size
from socketless.wire.channel import Pull, PullingSteps
from socketless.wire.messages import Chunk


class Upload:
    """Where the chunks come from, and how many bytes they may have. Without a `pull`, there are none."""

    def __init__(self, label: str, pull: Pull | None, max_body_bytes: int | None) -> None:
        self._label = label
        self._pull = pull
        self._max_body_bytes = max_body_bytes
        self._size = 0

    def next_chunk(self) -> PullingSteps[Chunk]:
        """Return the next chunk that has bytes; after the last one, one that has none.

        Raises:
            Exception: what the client's generator raises.
            TransferError: what it yields is not bytes.
            BodyTooLarge: it has yielded too many.
        """
        chunk: Any = b""
        while chunk is not None and not chunk:
            chunk = (yield from self._pull.take()) if self._pull is not None else None
            if not isinstance(chunk, (bytes, bytearray, memoryview, type(None))):
                what = type(chunk).__name__
                raise TransferError(f"{self._label}: the request's body holds {what}, which is not bytes")
        if chunk is None:
            return Chunk(b"", more_body=False)
        self._size += len(chunk)
        check_body_size(self._size, self._max_body_bytes, self._label)
        return Chunk(bytes(chunk), more_body=True)


NO_UPLOAD = Upload("", None, None)
