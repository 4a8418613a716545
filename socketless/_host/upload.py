"""The body of a request that is streamed: the app asks for it chunk by chunk."""

from __future__ import annotations

from typing import Any

from socketless._host.limits import check_body_size
from socketless._wire import heads
from socketless._wire.messages import Chunk, Message, Request
from socketless._wire.steps import Pull, PullingSteps
from socketless.errors import InvalidRequest, TransferError


class Upload:
    """Where the chunks come from, and how many bytes they may have. Without a `pull`, there are none.

    `length` is how many they have by the request's head; `None`: it does not say.
    """

    def __init__(self, label: str, pull: Pull | None, max_body_bytes: int | None, length: int | None = None) -> None:
        self._label = label
        self._pull = pull
        self._max_body_bytes = max_body_bytes
        self._length = length
        self._size = 0

    def next_chunk(self) -> PullingSteps[Chunk]:
        """Return the next chunk that has bytes; after the last one, one that has none.

        Raises:
            Exception: what the client's generator raises.
            TransferError: what it yields is not bytes.
            BodyTooLarge: it has yielded too many.
            InvalidRequest: it has yielded more, or fewer, than the request's head says.
        """
        chunk: Any = b""
        while chunk is not None and not chunk:
            chunk = (yield from self._pull.take()) if self._pull is not None else None
            if not isinstance(chunk, (bytes, bytearray, memoryview, type(None))):
                what = type(chunk).__name__
                raise TransferError(f"{self._label}: the request's body holds {what}, which is not bytes")
        self._size += len(chunk or b"")
        self._check_length(is_complete=chunk is None)
        if chunk is None:
            return Chunk(b"", more_body=False)
        check_body_size(self._size, self._max_body_bytes, self._label)
        return Chunk(bytes(chunk), more_body=True)

    def _check_length(self, *, is_complete: bool) -> None:
        try:
            heads.check_length(self._size, self._length, is_complete=is_complete)
        except heads.IllegalHead as error:
            raise InvalidRequest(f"{self._label}: {error}") from None


NO_UPLOAD = Upload("", None, None)


def check_message(message: Message, label: str, body: Pull | None, max_body_bytes: int | None) -> Upload:
    """Check what is about to be sent, to an app in a worker or on the client's loop; return where the chunks come from.

    Raises:
        InvalidRequest: it is a request that HTTP cannot carry.
        BodyTooLarge: its body is larger than `max_body_bytes`.
    """
    length = heads.check_request(message) if isinstance(message, Request) else None
    check_body_size(len(getattr(message, "body", b"")), max_body_bytes, label)
    return NO_UPLOAD if body is None else Upload(label, body, max_body_bytes, length)
