"""What does this sandbox refuse?"""

from __future__ import annotations

import socket
from contextlib import suppress

__all__ = ["wakeup_refusal"]


def wakeup_refusal() -> str | None:
    """Say which of the calls by which asyncio and trio wake a loop is refused here, and how; `None`: none is."""
    step = "socketpair()"
    try:
        reader, writer = socket.socketpair()
        with reader, writer:
            step = "send()"
            writer.setblocking(False)
            writer.send(b"\0")
            step = "recv()"
            reader.setblocking(False)
            with suppress(BlockingIOError):  # it has yet to arrive, where such a pair is made of TCP
                reader.recv(1)
            step = "setsockopt()"  # of trio
            writer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    except OSError as error:
        return f"{step}: {error.strerror or error}"
    return None
