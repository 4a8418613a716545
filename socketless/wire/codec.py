"""Messages to bytes and back, with cloudpickle.

A frame is a head (`!QB`: the length of the pickle, the number of buffers), the length of each buffer (`!Q`), the
pickle, and the buffers. The pickle is a tuple: which message it is, and its fields (as an object of its class it would
take cloudpickle three times as long). A large body is a buffer: pickle protocol 5 leaves it out of the pickle, so it is
never copied into one (a 4 MiB body crosses three times as fast beside the pickle as inside it).
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import replace
from typing import Any, get_args

from socketless.wire.debug import crossing_info
from socketless.wire.exceptions import pack
from socketless.wire.messages import Chunk, Failed, Message, Response, Result
from socketless.wire.pickling import dumps, dumps_object, loads

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

HEAD = struct.Struct("!QB")
LENGTH = struct.Struct("!Q")

_LARGE = 64 * 1024  # bytes; smaller bodies are cheaper inside the pickle

_TYPES: tuple[Any, ...] = get_args(Message)
_CODES = {message_type: code for code, message_type in enumerate(_TYPES)}


def encode(message: Message) -> list[memoryview]:
    """Return the frame of `message`, in pieces to be written one after the other.

    Raises:
        TransferError: something in it cannot be pickled.
    """
    fields = vars(_as_plain_values(message))
    body = fields.get("body", b"")
    buffers: list[memoryview] = []
    if len(body) < _LARGE:
        payload = dumps((_CODES[type(message)], *fields.values()))
    else:
        fields = {**fields, "body": pickle.PickleBuffer(body)}
        payload = dumps((_CODES[type(message)], *fields.values()), lambda buffer: buffers.append(buffer.raw()))
    lengths = b"".join(LENGTH.pack(buffer.nbytes) for buffer in buffers)
    return [memoryview(HEAD.pack(len(payload), len(buffers)) + lengths + payload), *buffers]


def _as_plain_values(message: Message) -> Message:
    # What the app has made must not break the frame: it is pickled by itself, or what cannot cross is left out.
    if isinstance(message, (Response, Chunk)):
        if "http.response.debug" in message.extensions:
            info = crossing_info(message.extensions["http.response.debug"])
            return replace(message, extensions={**message.extensions, "http.response.debug": info})
    elif isinstance(message, Failed):
        response = None if message.response is None else _as_plain_values(message.response)
        return replace(message, error=pack(message.error), response=response)  # type: ignore[arg-type]
    elif isinstance(message, Result):
        return Result(dumps_object(message.value))
    return message


def decode(payload: bytes, buffers: list[bytes]) -> Message:
    """Return the message of a frame's pickle and buffers."""
    code, *fields = loads(payload, buffers=buffers)
    message: Message = _TYPES[code](*fields)
    return message
