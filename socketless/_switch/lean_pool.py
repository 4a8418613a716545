"""What a transport of httpx has under the switch in the place of its pool: one without TLS and proxies."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from socketless._switch.deferred import Deferred, object_of
from socketless._switch.replacing import is_replaced

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


class _Lean:
    # What the sync and the async pool share. `deferred` is what stands for the pool that the transport has else.

    deferred: Callable[[], Deferred | None]
    _kind: str

    def __init__(self, core_name: str, options: Mapping[str, Any]) -> None:
        self._core_name = core_name  # httpx imports it with its first pool, and so does this
        self._options = options  # of the transport
        self._made: Any = None  # when it is first used

    @property
    def methods(self) -> dict[str, Callable[..., Any]]:
        """What `Deferred` answers with, as long as there is no other pool."""
        raise NotImplementedError

    @property
    def idle_methods(self) -> dict[str, Callable[..., Any]]:
        """The same without the requests, where those may be for the network: they want the other pool."""
        return {name: method for name, method in self.methods.items() if not name.startswith("handle_")}

    @property
    def limit(self) -> int | None:
        """How many connections there may be at once."""
        limit: int | None = self._options["limits"].max_connections
        return limit

    def _pool(self) -> Any:
        core = import_module(self._core_name)
        if not is_replaced(core.SyncBackend, "connect_tcp"):
            deferred = self.deferred()
            assert deferred is not None
            return object_of(deferred)
        if self._made is None:
            limits = self._options["limits"]
            names = ("http1", "http2", "uds", "local_address", "retries", "socket_options")
            self._made = getattr(core, self._kind)(
                ssl_context=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                max_connections=limits.max_connections,
                max_keepalive_connections=limits.max_keepalive_connections,
                keepalive_expiry=limits.keepalive_expiry,
                **{name: self._options[name] for name in names},
            )
        return self._made


class LeanPool(_Lean):
    """The pool of an `HTTPTransport`."""

    _kind = "ConnectionPool"

    @property
    def methods(self) -> dict[str, Callable[..., Any]]:
        return {
            "handle_request": lambda request: self._pool().handle_request(request),
            "lean_pool": lambda: self,
            "__enter__": lambda: None,
            "__exit__": self._close,
            "close": self._close,
        }

    def _close(self, *exc_info: object) -> None:
        if self._made is not None:
            self._made.close()


class AsyncLeanPool(_Lean):
    """The pool of an `AsyncHTTPTransport`."""

    _kind = "AsyncConnectionPool"

    @property
    def methods(self) -> dict[str, Callable[..., Any]]:
        return {
            "handle_async_request": self._handle,
            "lean_pool": lambda: self,
            "__aenter__": self._enter,
            "__aexit__": self._close,
            "aclose": self._close,
        }

    async def _handle(self, request: Any) -> Any:
        return await self._pool().handle_async_request(request)

    async def _enter(self) -> None:
        """Do nothing: a pool that was never used has nothing open."""

    async def _close(self, *exc_info: object) -> None:
        if self._made is not None:
            await self._made.aclose()
