"""What the switch replaces of httpx and httpx2: their transports' way to the network, and what a relative URL is."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from socketless.host.worker import Worker
from socketless.transport import IpcAsyncTransport, IpcTransport

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_FAMILIES = ("httpx", "httpx2")

Replacements = Iterator[tuple[type, Callable[..., Any]]]


def replacements(worker: Worker, base_url: str, options: Mapping[str, Any]) -> Replacements:
    """Return classes, and functions to replace their methods of the same name."""
    for name in _FAMILIES:
        if importlib.util.find_spec(name) is not None:
            family = importlib.import_module(name)  # also where nobody has yet: the tests may do so later
            yield from _of_sync_transport(family.HTTPTransport, worker, options)
            yield from _of_async_transport(family.AsyncHTTPTransport, worker, options)
            yield _of_client(family, base_url)


def _of_client(family: Any, base_url: str) -> tuple[type, Callable[..., Any]]:
    base = family.URL(base_url)
    owner = next(cls for cls in family.Client.__mro__ if "build_request" in vars(cls))
    original = vars(owner)["build_request"]

    def build_request(self: Any, method: str, url: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.base_url.scheme and not (isinstance(url, str) and url.startswith(("http://", "https://"))):
            relative = family.URL(url)
            if relative.is_relative_url:
                raw_path = base.raw_path.rstrip(b"/") + b"/" + relative.raw_path.lstrip(b"/")
                url = base.copy_with(raw_path=raw_path)
        return original(self, method, url, *args, **kwargs)

    return owner, build_request


def _of_sync_transport(owner: Any, worker: Worker, options: Mapping[str, Any]) -> Replacements:
    # Each transport of the library has one of ours, so that closing it ends its open responses, and no others.
    ours: WeakKeyDictionary[Any, IpcTransport] = WeakKeyDictionary()
    original_close, original_exit = owner.close, owner.__exit__

    def handle_request(self: Any, request: Any) -> Any:
        return (ours.get(self) or ours.setdefault(self, IpcTransport(worker, **options))).handle_request(request)

    def close(self: Any) -> None:
        if self in ours:
            ours[self].close()
        original_close(self)

    def __exit__(self: Any, *exc_info: Any) -> None:
        if self in ours:
            ours[self].close()
        original_exit(self, *exc_info)

    for replacement in (handle_request, close, __exit__):
        yield owner, replacement


def _of_async_transport(owner: Any, worker: Worker, options: Mapping[str, Any]) -> Replacements:
    # As `_of_sync_transport`.
    ours: WeakKeyDictionary[Any, IpcAsyncTransport] = WeakKeyDictionary()
    original_aclose, original_aexit = owner.aclose, owner.__aexit__

    async def handle_async_request(self: Any, request: Any) -> Any:
        transport = ours.get(self) or ours.setdefault(self, IpcAsyncTransport(worker, **options))
        return await transport.handle_async_request(request)

    async def aclose(self: Any) -> None:
        if self in ours:
            await ours[self].aclose()
        await original_aclose(self)

    async def __aexit__(self: Any, *exc_info: Any) -> None:
        if self in ours:
            await ours[self].aclose()
        await original_aexit(self, *exc_info)

    for replacement in (handle_async_request, aclose, __aexit__):
        yield owner, replacement
