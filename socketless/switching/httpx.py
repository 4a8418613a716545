"""What the switch replaces of httpx and httpx2: their transports' way to the network, and what a relative URL is.

A transport that is made under the switch has its connection pool only when somebody wants that: after the switch, as a
rule. So it has no TLS context before, and the proxies of the environment do not matter, even those that httpx refuses.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import wraps
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from socketless.host.worker import Worker
from socketless.switching.deferred import Deferred
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
            yield family.HTTPTransport, _init_of(family.HTTPTransport, family, _IDLE)
            yield family.AsyncHTTPTransport, _init_of(family.AsyncHTTPTransport, family, _IDLE_ASYNC)
            yield from _of_client(family, base_url)


def _of_client(family: Any, base_url: str) -> Replacements:
    base = family.URL(base_url)
    owner = next(cls for cls in family.Client.__mro__ if "build_request" in vars(cls))
    original, original_proxies = owner.build_request, owner._get_proxy_map

    def build_request(self: Any, method: str, url: Any, *args: Any, **kwargs: Any) -> Any:
        if not self.base_url.scheme and not (isinstance(url, str) and url.startswith(("http://", "https://"))):
            relative = family.URL(url)
            if relative.is_relative_url:
                raw_path = base.raw_path.rstrip(b"/") + b"/" + relative.raw_path.lstrip(b"/")
                url = base.copy_with(raw_path=raw_path)
        return original(self, method, url, *args, **kwargs)

    yield owner, build_request

    def _get_proxy_map(self: Any, proxy: Any, allow_env_proxies: bool) -> Any:
        try:
            found = original_proxies(self, proxy, allow_env_proxies)
            for pattern in found:
                family.URL(pattern)  # which the client does next
            return found
        except Exception as error:
            if proxy is not None:
                raise
            return {"all://": _Refused(error)}  # for a transport's `proxy`

    yield owner, _get_proxy_map


class _Refused(NamedTuple):
    """Proxies of the environment that the library cannot take."""

    error: Exception


def _idle(*args: object) -> None:
    """Do nothing: a pool that was never used has nothing open."""


async def _async_idle(*args: object) -> None:
    """Do nothing, as `_idle`."""


_IDLE = dict.fromkeys(("__enter__", "__exit__", "close"), _idle)
_IDLE_ASYNC = dict.fromkeys(("__aenter__", "__aexit__", "aclose"), _async_idle)


def _init_of(owner: Any, family: Any, idle: Mapping[str, Callable[..., Any]]) -> Callable[..., None]:
    original = owner.__init__
    signature = inspect.signature(original)

    @wraps(original)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        _, *names = given.arguments
        options = {name: given.arguments[name] for name in names}
        # What the caller says is looked at here, so that what is wrong with it is said here: as without the switch.
        if options["cert"] or not isinstance(options["verify"], bool):
            certificates = {name: options[name] for name in ("verify", "cert", "trust_env")}
            options.update(verify=family.create_ssl_context(**certificates), cert=None)
        if isinstance(options["proxy"], (str, family.URL)):
            options["proxy"] = family.Proxy(options["proxy"])

        def make_pool() -> Any:
            if isinstance(options["proxy"], _Refused):
                raise options["proxy"].error.with_traceback(None)
            other = owner.__new__(owner)
            original(other, **options)
            return other._pool

        self._pool = Deferred(make_pool, idle)

    return __init__


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
