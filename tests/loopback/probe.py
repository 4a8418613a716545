"""Can real sockets be tried here?"""

from __future__ import annotations

import _socket
from functools import cache

_ADDRESSES = ((_socket.AF_INET, ("127.0.0.1", 0)), (_socket.AF_INET6, ("::1", 0)), (_socket.AF_UNIX, ""))


@cache
def why_not_real() -> str:
    """Why real sockets cannot be tried here, or nothing."""
    for family, address in _ADDRESSES:
        try:
            _try(family, address)
        except OSError as error:
            return f"sockets are refused here: family {family}: {error}"
    return ""


def _try(family: int, address: object) -> None:
    listener = _socket.socket(family)
    try:
        client = _socket.socket(family)
        try:
            listener.bind(address)
            listener.listen()
            client.connect(listener.getsockname())
        finally:
            client.close()
    finally:
        listener.close()
