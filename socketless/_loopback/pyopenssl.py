"""pyOpenSSL lets C read from and write to a socket's descriptor: with a virtual one, that cannot be."""

from __future__ import annotations

import errno
from typing import Any

from socketless._loopback.methods import virtual_of
from socketless._loopback.patches import Patches

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


def patch(module: Any, patches: Patches) -> None:
    """Let `OpenSSL.SSL.Connection` say so."""
    original = module.Connection.__init__

    def __init__(self: Any, context: Any, socket: Any = None) -> None:
        if virtual_of(socket) is not None:
            self._socket = None  # or else its __getattr__() finds no end
            raise OSError(
                errno.EOPNOTSUPP,
                "pyOpenSSL cannot use a virtual socket, as C would read from it and write to it; use the module ssl, "
                "or pass None instead of the socket and carry the bytes by bio_read() and bio_write()",
            )
        original(self, context, socket)

    patches.set(module.Connection, "__init__", __init__)
