"""What the switch replaces of httpx and httpx2: their transports' way to the network, and what a relative URL is.

A transport that is made under the switch has its connection pool only when somebody wants that: after the switch, as a
rule. So it has no TLS context before, and the proxies of the environment do not matter, even those that httpx refuses.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from functools import cache, wraps
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

from socketless._httpx.families import client_error
from socketless._httpx.transport import IpcAsyncTransport, IpcTransport
from socketless._switch.deferred import Deferred, found_in
from socketless._switch.hosts import Hosts
from socketless._switch.lean_pool import AsyncLeanPool, LeanPool
from socketless._switch.replacing import original_of
from socketless._switch.untouched import Pieces, sockets_are_mocked, unmocked_sockets
from socketless.errors import SocketlessError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_FAMILIES = {"httpx": "httpcore", "httpx2": "httpcore2"}
_MOST = 100  # connections at once, if a client does not say less
_PACKAGES = (*_FAMILIES, *_FAMILIES.values())

Replacements = Iterator[tuple[type, Callable[..., Any]]]


def replacements(hosts: Hosts, base_url: str | None, options: Mapping[str, Any]) -> Replacements:
    """Return classes, and functions to replace their methods of the same name."""
    for name, core_name in _FAMILIES.items():
        if importlib.util.find_spec(name) is not None:
            family = importlib.import_module(name)  # also where nobody has yet: the tests may do so later
            yield from _of_sync_transport(family, core_name, hosts, options)
            yield from _of_async_transport(family, core_name, hosts, options)
            yield family.HTTPTransport, _init_of(family.HTTPTransport, family, core_name, hosts, LeanPool)
            yield (
                family.AsyncHTTPTransport,
                _init_of(family.AsyncHTTPTransport, family, core_name, hosts, AsyncLeanPool),
            )
            yield from _of_client(family, base_url)


def _of_client(family: Any, base_url: str | None) -> Replacements:
    base = family.URL(base_url or "")
    owner = next(cls for cls in family.Client.__mro__ if "build_request" in vars(cls))
    original, original_proxies = owner.build_request, owner._get_proxy_map

    def build_request(self: Any, method: str, url: Any, *args: Any, **kwargs: Any) -> Any:
        if (
            base.scheme
            and not self.base_url.scheme
            and not (isinstance(url, str) and url.startswith(("http://", "https://")))
        ):
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


def _init_of(
    owner: Any, family: Any, core_name: str, hosts: Hosts, lean_pool: type[LeanPool] | type[AsyncLeanPool]
) -> Callable[..., None]:
    original = original_of(owner, "__init__")
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
            _import_core(core_name)
            other = owner.__new__(owner)
            original(other, **options)
            return other._pool

        lean = lean_pool(core_name, options)
        self._pool = Deferred(make_pool, lean.idle_methods if hosts.passes else lean.methods)
        lean.deferred = weakref.ref(self._pool)

    return __init__


def _import_core(name: str) -> None:
    # httpx does it itself, but perhaps while a mock has replaced the class of sockets, on which trio builds.
    if name not in sys.modules:
        with unmocked_sockets():
            importlib.import_module(name)


def _of_sync_transport(family: Any, core_name: str, hosts: Hosts, options: Mapping[str, Any]) -> Replacements:
    # Each transport of the library has one of ours for each worker, so that closing it ends its open responses, and no
    # others.
    owner = family.HTTPTransport
    ours: WeakKeyDictionary[Any, dict[Any, IpcTransport]] = WeakKeyDictionary()
    original, original_close, original_exit = (
        original_of(owner, name) for name in ("handle_request", "close", "__exit__")
    )
    is_plain = _is_plain_for(owner, core_name, "")

    def handle_request(self: Any, request: Any) -> Any:
        worker = hosts.find_url(request.url)
        if worker is not None and is_plain(self, request, worker):
            own = ours.setdefault(self, {})
            return (own.get(worker) or own.setdefault(worker, IpcTransport(worker, **options))).handle_request(request)
        _import_core(core_name)
        try:
            return original(self, request)
        except family.TransportError as error:
            raise _said(error, request) from error.__cause__

    def close(self: Any) -> None:
        for transport in list(ours.get(self, {}).values()):
            transport.close()
        original_close(self)

    def __exit__(self: Any, *exc_info: Any) -> None:
        for transport in list(ours.get(self, {}).values()):
            transport.close()
        if core_name in sys.modules:  # or it has no pool, and httpx would import httpcore for nothing
            original_exit(self, *exc_info)

    for replacement in (handle_request, close, __exit__):
        yield owner, replacement


def _of_async_transport(family: Any, core_name: str, hosts: Hosts, options: Mapping[str, Any]) -> Replacements:
    # As `_of_sync_transport`.
    owner = family.AsyncHTTPTransport
    ours: WeakKeyDictionary[Any, dict[Any, IpcAsyncTransport]] = WeakKeyDictionary()
    original, original_aclose, original_aexit = (
        original_of(owner, name) for name in ("handle_async_request", "aclose", "__aexit__")
    )
    is_plain = _is_plain_for(owner, core_name, "Async")

    async def handle_async_request(self: Any, request: Any) -> Any:
        worker = hosts.find_url(request.url)
        if worker is not None and is_plain(self, request, worker):
            own = ours.setdefault(self, {})
            transport = own.get(worker) or own.setdefault(worker, IpcAsyncTransport(worker, **options))
            return await transport.handle_async_request(request)
        _import_core(core_name)
        try:
            return await original(self, request)
        except family.TransportError as error:
            raise _said(error, request) from error.__cause__

    async def aclose(self: Any) -> None:
        for transport in list(ours.get(self, {}).values()):
            await transport.aclose()
        await original_aclose(self)

    async def __aexit__(self: Any, *exc_info: Any) -> None:
        for transport in list(ours.get(self, {}).values()):
            await transport.aclose()
        if core_name in sys.modules:  # as above
            await original_aexit(self, *exc_info)

    for replacement in (handle_async_request, aclose, __aexit__):
        yield owner, replacement


def _is_plain_for(owner: type, core_name: str, prefix: str) -> Callable[[Any, Any, Any], bool]:
    """Return a function that says whether nobody can tell if a transport's request goes through its pool."""
    own = Pieces([owner], _PACKAGES)
    limits: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
    handle = "handle_async_request" if prefix else "handle_request"

    @cache
    def beneath() -> Pieces:
        core = sys.modules[core_name]
        names = ("HTTPProxy", "ConnectionPool", "HTTPConnection", "HTTP11Connection")
        backends = [core.AnyIOBackend, _auto_backend(core)] if prefix else [core.SyncBackend]
        return Pieces([*backends, *(getattr(core, prefix + name) for name in names)], _PACKAGES)

    def has_own_way(pool: Any) -> bool:
        if pool is None:
            return False
        core = sys.modules[core_name]
        backends = {type(None), core.SyncBackend, core.AnyIOBackend, core.TrioBackend, _auto_backend(core)}
        contents = getattr(pool, "__dict__", {})
        return handle in contents or type(contents.get("_network_backend")) not in backends

    def are_untouched() -> bool:
        # httpx imports httpcore with its first pool; before that, nobody has put anything there.
        return own.are_untouched() and (not _is_imported(core_name) or beneath().are_untouched())

    def is_plain(transport: Any, request: Any, worker: Any) -> bool:
        limit = limits.get(transport)
        if limit is None:
            limit = limits[transport] = _limit_of(transport._pool)
        return not (
            limit < min(worker.max_connections or _MOST, _MOST)
            or "trace" in request.extensions
            or has_own_way(found_in(transport._pool))
            or sockets_are_mocked()
            or not are_untouched()
        )

    return is_plain


def _is_imported(name: str) -> bool:
    # Another thread may be in the middle of it.
    return name in sys.modules and not getattr(sys.modules[name].__spec__, "_initializing", False)


def _auto_backend(core: Any) -> Any:
    return importlib.import_module(f"{core.__name__}._backends.auto").AutoBackend


def _limit_of(pool: Any) -> int:
    lean = getattr(pool, "lean_pool", None) if type(pool) is Deferred and found_in(pool) is None else None
    limit: int | None = lean().limit if lean is not None else getattr(pool, "_max_connections", None)
    return _MOST if limit is None else limit


def _said(error: Any, request: Any) -> BaseException:
    """Return what the client library's error is made of: ours, as that error, too."""
    cause = error.__cause__
    return client_error(cause, request) if isinstance(cause, SocketlessError) else error
