"""Messages to bytes and back, with cloudpickle. Nothing else in the package pickles.

A frame is a head (`!QB`: the length of the pickle, the number of buffers), the length of each buffer (`!Q`), the pickle,
and the buffers. A large body is such a buffer: pickle protocol 5 leaves it out of the pickle, so it is never copied
into one (a 4 MiB body crosses three times as fast beside the pickle as inside it).
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import replace
from typing import Any

import cloudpickle

from socketless.errors import TransferError
from socketless.wire.messages import Message

HEAD = struct.Struct("!QB")
LENGTH = struct.Struct("!Q")

_LARGE = 64 * 1024  # bytes; smaller bodies are cheaper inside the pickle


def encode(message: Message) -> list[memoryview]:
    """Return the frame of `message`, in pieces to be written one after the other.

    Raises:
        TransferError: something in it cannot be pickled.
    """
    body = getattr(message, "body", b"")
    if len(body) >= _LARGE:
        message = replace(message, body=pickle.PickleBuffer(body))  # type: ignore[call-arg]
    buffers: list[memoryview] = []
    payload = dumps(message, buffers)
    lengths = b"".join(LENGTH.pack(buffer.nbytes) for buffer in buffers)
    return [memoryview(HEAD.pack(len(payload), len(buffers)) + lengths + payload), *buffers]


def decode(payload: bytes | memoryview, buffers: list[bytes]) -> Message:
    """Return the message of a frame's pickle and buffers."""
    message: Message = pickle.loads(payload, buffers=buffers)
    return message


def dumps(value: Any, buffers: list[memoryview] | None = None) -> bytes:
    """Pickle anything; `buffers` receives what protocol 5 leaves out.

    Raises:
        TransferError: it cannot be pickled.
    """

    def leave_out(buffer: pickle.PickleBuffer) -> None:
        assert buffers is not None
        buffers.append(buffer.raw())

    try:
        pickled: bytes = cloudpickle.dumps(value, protocol=5, buffer_callback=None if buffers is None else leave_out)
    except Exception as error:
        raise TransferError(f"cannot pickle {type(value).__name__} object: {error}") from error
    return pickled


loads = pickle.loads
