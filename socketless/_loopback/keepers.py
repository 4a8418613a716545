"""Modules that keep what sockets were before there were ours: their methods, or whether there is IPv6."""

from __future__ import annotations

import _socket
from collections.abc import Awaitable, Callable
from typing import Any

from socketless._loopback.methods import Methods
from socketless._loopback.patches import Patches

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


def patch_pytest_socket(pytest_socket: Any, patches: Patches) -> None:
    """Let pytest-socket, which puts them back after each test, put back ours."""
    patches.set(pytest_socket, "_true_connect", Methods.connect)


def patch_urllib3(connection: Any, patches: Patches) -> None:
    """Let urllib3, which may have found no IPv6 when it was imported, try once more."""
    patches.set(connection, "HAS_IPV6", connection._has_ipv6("::1"))


def patch_trio(module: Any, patches: Patches) -> None:
    """Let trio.socket, which has taken them for good, call ours."""
    owner, name = module._SocketType, "_nonblocking_helper"
    if hasattr(owner, name):  # else it is a trio that does it in some other way
        patches.set(owner, name, _helper_with(getattr(owner, name)))


def _helper_with(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    def _nonblocking_helper(self: Any, wait: Any, method: Any, *args: Any, **kwargs: Any) -> Awaitable[Any]:
        if getattr(method, "__objclass__", None) is _socket.socket:
            method = getattr(Methods, method.__name__)
        return original(self, wait, method, *args, **kwargs)

    return _nonblocking_helper
