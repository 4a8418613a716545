"""The standard library's `http.client` under the switch, and what is built on it: `urllib.request`, urllib3.

`connect()` gives a connection a `WorkerSocket` instead of a socket. Proxies are not asked.
"""

from __future__ import annotations

import http.client
import importlib
import socket
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial, wraps
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from socketless._clients.error_mixins import as_theirs
from socketless._clients.response import traceback_in_worker
from socketless._http11.worker_socket import WorkerSocket
from socketless._switch import stand_ins
from socketless._switch.deferred import Deferred
from socketless._switch.hosts import Hosts
from socketless._switch.replacing import lowest, original_of
from socketless._switch.untouched import Socket, connection_classes, own_class, sockets_are_mocked
from socketless._wire.messages import port_of
from socketless.errors import (
    AppProtocolError,
    BodyTooLarge,
    ChannelClosed,
    ExchangeTimeout,
    IncompleteResponse,
    InvalidRequest,
    PoolTimeout,
    ReadTimeout,
    SocketlessError,
    UnknownHost,
    WorkerDied,
    WorkerStartError,
    WriteTimeout,
)

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

# What each error is called, in http.client and over a socket; TimeoutErrors they are already.
_NAMES: dict[type[SocketlessError], str] = {
    WorkerStartError: "builtins.ConnectionRefusedError",
    UnknownHost: "builtins.ConnectionRefusedError",
    WorkerDied: "builtins.ConnectionResetError",
    ChannelClosed: "builtins.ConnectionResetError",
    AppProtocolError: "http.client.HTTPException",
    InvalidRequest: "http.client.HTTPException",
    BodyTooLarge: "http.client.HTTPException",
    IncompleteResponse: "http.client.HTTPException",
}

_URLLIB3_NAMES: dict[type[SocketlessError], str] = {
    WorkerStartError: "urllib3.exceptions.NewConnectionError",
    UnknownHost: "urllib3.exceptions.NewConnectionError",
    WorkerDied: "urllib3.exceptions.ProtocolError",
    ChannelClosed: "urllib3.exceptions.ProtocolError",
    AppProtocolError: "urllib3.exceptions.ProtocolError",
    InvalidRequest: "urllib3.exceptions.ProtocolError",
    BodyTooLarge: "urllib3.exceptions.ProtocolError",
    IncompleteResponse: "urllib3.exceptions.ProtocolError",
    PoolTimeout: "urllib3.exceptions.ConnectTimeoutError",
    WriteTimeout: "urllib3.exceptions.ReadTimeoutError",  # it has none for writing
    ReadTimeout: "urllib3.exceptions.ReadTimeoutError",
}

Replacements = Iterator[tuple[Any, Callable[..., Any]]]


def _replacements(hosts: Hosts, options: Mapping[str, Any]) -> Replacements:
    """Return classes of `http.client`, and functions to replace their methods of the same name."""
    yield _without_context()
    http_connection, https_connection = connection_classes(http.client)
    yield http_connection, _connect_for(hosts, options, "http", http_connection)
    yield https_connection, _connect_for(hosts, options, "https", https_connection)
    original_putrequest = original_of(http_connection, "putrequest")

    def putrequest(self: Any, *args: Any, **kwargs: Any) -> None:
        # One that was kept from before the switch, or from another, goes elsewhere.
        kept, worker = self.sock, hosts.find(*_server_of(self))
        if isinstance(kept, WorkerSocket):
            leads_elsewhere = kept.worker is not worker
        else:
            leads_elsewhere = isinstance(kept, Socket) and worker is not None and _leads_to_worker(self)
        if leads_elsewhere:
            self.close()
        original_putrequest(self, *args, **kwargs)

    yield http_connection, putrequest
    # Of what is no ConnectionError, they take no notice: then they would refuse the next request.
    for name in ("send", "getresponse"):
        yield http_connection, _closing(original_of(http_connection, name))
    original = original_of(http.client.HTTPResponse, "_get_chunk_left")

    def _get_chunk_left(self: Any) -> Any:
        # It takes what the app raises, if that is a ValueError, for a chunk's size that is no number.
        try:
            return original(self)
        except http.client.IncompleteRead as error:
            cause = error.__context__
            if is_of_worker(cause):
                raise cause from cause.__cause__
            raise

    yield http.client.HTTPResponse, _get_chunk_left


def _without_context() -> tuple[Any, Callable[..., Any]]:
    """Let connections have the default context only when somebody wants it."""
    module: Any = http.client
    if hasattr(module, "_create_https_context"):  # since Python 3.12; HTTPSHandler calls it, too
        create = module._create_https_context

        def _create_https_context(*args: Any) -> Any:
            return Deferred(partial(create, *args))

        return module, _create_https_context

    owner: Any = http.client.HTTPSConnection
    original, standing_in = owner.__init__, ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    @wraps(original)
    def __init__(
        self: Any,
        host: Any,
        port: Any = None,
        key_file: Any = None,
        cert_file: Any = None,
        *args: Any,
        context: Any = None,
        check_hostname: Any = None,
        **options: Any,
    ) -> None:
        is_default = context is key_file is cert_file is check_hostname is None
        options |= {"context": standing_in if is_default else context, "check_hostname": check_hostname}
        original(self, host, port, key_file, cert_file, *args, **options)

        def make_context() -> Any:
            other = owner.__new__(type(self))
            original(other, host)
            return other._context

        if is_default:
            self._context = Deferred(make_context)

    return owner, __init__


def _closing(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def closing(self: Any, *args: Any, **options: Any) -> Any:
        try:
            return method(self, *args, **options)
        except BaseException as error:
            if is_of_worker(error):
                self.close()
            raise

    return closing


def _urllib_handlers(hosts: Hosts, options: Mapping[str, Any]) -> Replacements:
    handler: Any = importlib.import_module("urllib.request").AbstractHTTPHandler
    original = handler.do_open

    def do_open(self: Any, *args: Any, **options: Any) -> Any:
        # While it sends a request, it takes what the app raises, if that is an OSError, for the connection's.
        try:
            return original(self, *args, **options)
        except OSError as error:
            reason = getattr(error, "reason", None)
            if is_of_worker(reason) and not isinstance(reason, SocketlessError):
                raise reason from reason.__cause__
            raise

    yield handler, do_open

    module: Any = importlib.import_module("urllib.request")
    original_bypass = original_of(module, "proxy_bypass")

    def proxy_bypass(host: str, *args: Any) -> bool:
        # A ProxyHandler asks it, also one that was made before.
        parts = urlsplit(f"//{host}")
        port = parts.port
        found = hosts.find_any(parts.hostname) if port is None else hosts.find(parts.hostname, port)
        return found is not None or original_bypass(host, *args)

    yield module, proxy_bypass


def _urllib3_connections(hosts: Hosts, options: Mapping[str, Any]) -> Replacements:
    """Return the same of urllib3. A class with a way of its own, to a UNIX socket for example, keeps that."""
    connection: Any = importlib.import_module("urllib3.connection")
    for owner, scheme in zip(connection_classes(connection), ("http", "https"), strict=True):
        yield owner, _urllib3_connect_for(hosts, options, scheme, owner)


def _urllib3_proxies(hosts: Hosts, options: Mapping[str, Any]) -> Replacements:
    """Let a manager that was given a proxy ask as one that was given none."""
    module: Any = importlib.import_module("urllib3.poolmanager")
    directly = dict.fromkeys(("_proxy", "_proxy_headers", "_proxy_config"))
    original_connection = original_of(module.ProxyManager, "connection_from_host")
    original_form = original_of(module.PoolManager, "_proxy_requires_url_absolute_form")

    def connection_from_host(
        self: Any, host: Any, port: Any = None, scheme: Any = "http", pool_kwargs: Any = None
    ) -> Any:
        if host is None or hosts.find(host, port_of(port, scheme or "http")) is None:
            return original_connection(self, host, port, scheme, pool_kwargs=pool_kwargs)
        kwargs = {**(pool_kwargs or {}), **directly}
        return module.PoolManager.connection_from_host(self, host, port, scheme, pool_kwargs=kwargs)

    def _proxy_requires_url_absolute_form(self: Any, url: Any) -> bool:
        is_ours = url.host is not None and hosts.find(url.host, port_of(url.port, url.scheme or "http")) is not None
        return not is_ours and bool(original_form(self, url))

    yield module.ProxyManager, connection_from_host
    yield module.PoolManager, _proxy_requires_url_absolute_form


def _urllib3_retries(hosts: Hosts, options: Mapping[str, Any]) -> Replacements:
    retry: Any = importlib.import_module("urllib3.util.retry").Retry
    original = retry.increment

    def increment(self: Any, *args: Any, error: Any = None, **kwargs: Any) -> Any:
        # It takes what the app raises, if that is an OSError, for the connection's, and would ask the app again.
        said = _said_by_worker(error)
        if said is not None and not isinstance(said, ExchangeTimeout):
            raise said from said.__cause__
        return original(self, *args, error=said or error, **kwargs)

    yield retry, increment


def _urllib3_responses(hosts: Hosts, options: Mapping[str, Any]) -> Replacements:
    response: Any = importlib.import_module("urllib3.response").HTTPResponse
    original_catcher = response._error_catcher

    @contextmanager
    def _error_catcher(self: Any) -> Iterator[None]:
        try:
            with original_catcher(self):
                yield
        except Exception as error:
            said = _said_by_worker(error)
            if said is None or said is error:
                raise
            raise said from said.__cause__

    yield response, _error_catcher


def is_of_worker(error: Any) -> TypeGuard[BaseException]:
    """Return whether the app has raised an error, or we have."""
    return isinstance(error, SocketlessError) or (
        isinstance(error, BaseException) and traceback_in_worker(error) is not None
    )


def _said_by_worker(error: BaseException | None) -> Any:
    """Return what the app has raised, or our error as urllib3's, of an error that urllib3 has made of it; or `None`."""
    if error is None:
        return None
    said = next((each for each in (error, error.__cause__, *error.args) if is_of_worker(each)), None)
    if not isinstance(said, SocketlessError) or hasattr(said, "url"):
        return said
    both: Any = as_theirs(said, _URLLIB3_NAMES)
    if both is said:
        return said
    both = both.with_traceback(said.__traceback__)
    both.url, known = getattr(error, "url", None), vars(error)
    if isinstance(getattr(type(both), "pool", None), property):  # of a NewConnectionError
        both.conn = known.get("conn")
    else:
        both.pool = known.get("pool")
    return both


def _httplib2_connections(hosts: Hosts, options: Mapping[str, Any]) -> Replacements:
    """Return the same of httplib2, which connects by itself."""
    httplib2: Any = importlib.import_module("httplib2")
    for name, scheme in (("HTTPConnectionWithTimeout", "http"), ("HTTPSConnectionWithTimeout", "https")):
        owner = own_class(httplib2, name)
        yield owner, _connect_for(hosts, options, scheme, owner)


# By the module that they are for: when it is imported, they are due.
REPLACEMENTS = {
    "http.client": _replacements,
    "urllib.request": _urllib_handlers,
    "httplib2": _httplib2_connections,
    "urllib3.connection": _urllib3_connections,
    "urllib3.poolmanager": _urllib3_proxies,
    "urllib3.util.retry": _urllib3_retries,
    "urllib3.response": _urllib3_responses,
}


as_of_sockets = partial(as_theirs, names=_NAMES)


def _connect_for(hosts: Hosts, options: Mapping[str, Any], scheme: str, owner: Any) -> Callable[[Any], None]:
    original = original_of(owner, "connect")

    @lowest
    def connect(self: Any) -> None:
        server = _server_of(self)
        worker = hosts.find(*server)
        if worker is None:
            original(self)
            return
        if sockets_are_mocked():
            with stand_ins.stand_ins(partial(_connected, worker, options)):
                original(self)
            return
        default: Any = socket._GLOBAL_DEFAULT_TIMEOUT  # type: ignore[attr-defined]
        timeout = socket.getdefaulttimeout() if self.timeout is default else self.timeout
        self.sock = _connected(worker, options, server, scheme, timeout)

    connect.leads_to_worker = lambda connection: True  # type: ignore[attr-defined]
    return connect


def _server_of(connection: Any) -> tuple[str, int]:
    """Return whom a connection is for; its own address is a proxy's, where it has a tunnel."""
    tunnel = getattr(connection, "_tunnel_host", None)
    host, port = (tunnel, connection._tunnel_port) if tunnel else (connection.host, connection.port)
    return host, connection.default_port if port is None else port


def _connected(
    worker: Any, options: Mapping[str, Any], server: tuple[str, int], scheme: str, timeout: float | None
) -> WorkerSocket:
    return WorkerSocket(worker, timeout, scheme=scheme, server=server, as_theirs=as_of_sockets, **options)


def _urllib3_connect_for(hosts: Hosts, options: Mapping[str, Any], scheme: str, owner: Any) -> Callable[[Any], None]:
    original, its_way = original_of(owner, "connect"), owner._new_conn
    ours = _connect_for(hosts, options, scheme, owner)

    @lowest
    def connect(self: Any) -> None:
        if type(self)._new_conn is not its_way or hosts.find(*_server_of(self)) is None:
            original(self)
            return
        ours(self)
        self.is_verified = True  # or it would warn

    connect.leads_to_worker = lambda connection: type(connection)._new_conn is its_way  # type: ignore[attr-defined]
    return connect


def _leads_to_worker(connection: Any) -> bool:
    """Return whether `connect()` does: a subclass may have a way of its own, to a UNIX socket for example."""
    leads_to_worker = getattr(type(connection).connect, "leads_to_worker", None)
    return leads_to_worker is not None and leads_to_worker(connection)
