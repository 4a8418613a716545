"""Messages to bytes and back, with cloudpickle.

A frame is a head (`!4sQ?`: `MAGIC`, the length of the pickle, whether a body is beside it), the length of that body
(`!Q`), the pickle, and the body. What does not begin with `MAGIC`, or is longer than `MOST`, is no frame: whoever reads
it is told so at once, and does not wait for what will never come.

The pickle is a tuple: which message it is, and its fields (as an object of its class it would take cloudpickle three
times as long). A large body is a buffer: pickle protocol 5 leaves it out of the pickle, so it is never copied into one
(a 4 MiB body crosses three times as fast beside the pickle as inside it).
"""

from __future__ import annotations

import pickle
import struct
from dataclasses import fields, replace
from typing import Any, get_args

from socketless._wire.debug import crossing_info
from socketless._wire.exceptions import UNKNOWN, Packed, pack
from socketless._wire.messages import Chunk, Failed, Message, Response, Result
from socketless._wire.pickling import dumps, dumps_object, loads

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

MAGIC = b"slss"
MOST = 1 << 40  # bytes in a pickle, or in a body

HEAD = struct.Struct("!4sQ?")
LENGTH = struct.Struct("!Q")

_LARGE = 64 * 1024  # bytes; smaller bodies are cheaper inside the pickle

_TYPES: list[tuple[Any, list[str]]] = [(each, [field.name for field in fields(each)]) for each in get_args(Message)]
_CODES = {message_type: code for code, (message_type, _) in enumerate(_TYPES)}
_READY: dict[int, bytes] = {}  # the frames of messages that are made beforehand, by their identity


class NotAFrame(EOFError):
    """What stands in a pipe is no message: the pipe has come to its end, as far as anybody can tell."""


def encode(message: Message) -> list[memoryview]:
    """Return the frame of `message`, in pieces to be written one after the other.

    Raises:
        TransferError: something in it cannot be pickled.
    """
    ready = _READY.get(id(message))
    if ready is not None:
        return [memoryview(ready)]
    values = vars(_as_plain_values(message))
    if len(values.get("body", b"")) >= _LARGE:
        return _with_body_beside(message, values)
    payload = dumps((_CODES[type(message)], *values.values()))
    return [memoryview(HEAD.pack(MAGIC, len(payload), False) + payload)]


def _with_body_beside(message: Message, values: dict[str, Any]) -> list[memoryview]:
    values = {**values, "body": pickle.PickleBuffer(values["body"])}
    buffers: list[memoryview] = []
    payload = dumps((_CODES[type(message)], *values.values()), lambda buffer: buffers.append(buffer.raw()))
    lengths = b"".join(LENGTH.pack(buffer.nbytes) for buffer in buffers)
    return [memoryview(HEAD.pack(MAGIC, len(payload), bool(buffers)) + lengths + payload), *buffers]


def _as_plain_values(message: Message) -> Message:
    # What the app has made must not break the frame: it is pickled by itself, or what cannot cross is left out.
    if isinstance(message, (Response, Chunk)):
        if "http.response.debug" in message.extensions:
            info = crossing_info(message.extensions["http.response.debug"])
            return replace(message, extensions={**message.extensions, "http.response.debug": info})
    elif isinstance(message, Failed):
        response = None if message.response is None else _as_plain_values(message.response)
        return replace(message, error=_packed(message.error), response=response)  # type: ignore[arg-type]
    elif isinstance(message, Result):
        return Result(dumps_object(message.value))
    return message


def _packed(error: BaseException | Packed) -> Packed:
    # Runs in a worker. What is asked of an exception may raise anything; then its text crosses, and no object.
    if isinstance(error, Packed):
        return error
    try:
        return pack(error)
    except BaseException:
        return UNKNOWN


def read_head(data: bytes) -> tuple[int, bool]:
    """Return the length of the pickle, and whether there is a body beside it, from the first bytes of a frame.

    Raises:
        NotAFrame: these bytes are not the beginning of a frame.
    """
    magic, size, has_body = HEAD.unpack_from(data)
    if magic != MAGIC or size > MOST:
        raise NotAFrame(f"{data[: HEAD.size].hex(' ')} is not the beginning of a message")
    return size, has_body


def read_length(length: bytes) -> int:
    """Return the length of the body.

    Raises:
        NotAFrame: it is longer than there can be.
    """
    size: int = LENGTH.unpack(length)[0]
    if size > MOST:
        raise NotAFrame(f"{length.hex(' ')} is not the length of a body")
    return size


def decode(payload: bytes, buffers: list[bytes]) -> Message:
    """Return the message of a frame's pickle and buffers.

    Raises:
        NotAFrame: it holds none.
    """
    try:
        code, *values = loads(payload, buffers=buffers)
        message_type, names = _TYPES[code]
        message: Message = object.__new__(message_type)
        vars(message).update(zip(names, values, strict=True))  # as its __init__ would, in a third of the time
    except Exception as error:
        raise NotAFrame(f"a message cannot be read: {type(error).__name__}: {error}") from error
    return message


# The last messages of an exchange for which no other could be made. They are made here and now, with all that they
# need: later, there may be no memory, and what the app has raised may refuse to be looked at.
UNSPEAKABLE = Failed(
    UNKNOWN, "the app raised, and what it raised cannot be told: neither its text nor its traceback could be made", ""
)
NO_MEMORY = Failed(pack(MemoryError()), "MemoryError", "MemoryError: no memory was left to say where\n")

_READY.update({id(message): encode(message)[0].tobytes() for message in (UNSPEAKABLE, NO_MEMORY)})
