"""Modules that put methods of `socket.socket` back which they have taken before there were ours."""

from __future__ import annotations

from typing import Any

from socketless.loopback.methods import Methods
from socketless.loopback.patches import Patches


def patch(pytest_socket: Any, patches: Patches) -> None:
    """Let pytest-socket, which does so after each test, put back ours."""
    patches.set(pytest_socket, "_true_connect", Methods.connect)
