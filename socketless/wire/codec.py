"""Messages to bytes and back, with cloudpickle. Nothing else in the package pickles.

A frame is a head (`!QB`: the length of the pickle, the number of buffers), the length of each buffer (`!Q`), the
pickle, and the buffers. The pickle is a tuple: which message it is, and its fields (as an object of its class it would
take cloudpickle three times as long). A large body is a buffer: pickle protocol 5 leaves it out of the pickle, so it is
never copied into one (a 4 MiB body crosses three times as fast beside the pickle as inside it).
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
from collections.abc import Callable
from typing import Any, get_args

import cloudpickle

from socketless.errors import TransferError
from socketless.wire.messages import Message

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
    fields = vars(message)
    body = fields.get("body", b"")
    buffers: list[memoryview] = []
    if len(body) < _LARGE:
        payload = dumps((_CODES[type(message)], *fields.values()))
    else:
        fields = {**fields, "body": pickle.PickleBuffer(body)}
        payload = dumps((_CODES[type(message)], *fields.values()), lambda buffer: buffers.append(buffer.raw()))
    lengths = b"".join(LENGTH.pack(buffer.nbytes) for buffer in buffers)
    return [memoryview(HEAD.pack(len(payload), len(buffers)) + lengths + payload), *buffers]


def decode(payload: bytes, buffers: list[bytes]) -> Message:
    """Return the message of a frame's pickle and buffers."""
    code, *fields = pickle.loads(payload, buffers=buffers)
    message: Message = _TYPES[code](*fields)
    return message


def dumps(value: Any, leave_out: Callable[[pickle.PickleBuffer], None] | None = None) -> bytes:
    """Pickle anything; `leave_out` receives the buffers that protocol 5 leaves out.

    Raises:
        TransferError: it cannot be pickled.
    """
    try:
        pickled: bytes = cloudpickle.dumps(value, protocol=5, buffer_callback=leave_out)
    except Exception as error:
        raise TransferError(f"cannot pickle {type(value).__name__} object: {error}") from error
    return pickled


loads = pickle.loads


def loads_known(pickled: bytes) -> Any:
    """Unpickle what is made of modules that this process has imported already; it imports none for it.

    Raises:
        UnpicklingError: a module has not been imported.
        Exception: whatever rebuilding it raises.
    """
    return _KnownUnpickler(io.BytesIO(pickled)).load()


class _KnownUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str, /) -> Any:
        if module not in sys.modules:
            raise pickle.UnpicklingError(f"module {module!r} has not been imported")
        return super().find_class(module, name)
