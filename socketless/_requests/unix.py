"""HTTP over UNIX sockets, which are real ones: `UnixAdapter` for a `requests.Session`."""

from __future__ import annotations

import socket
import struct
from contextlib import ExitStack
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit, uses_netloc, uses_relative

from requests.adapters import HTTPAdapter
from requests.exceptions import InvalidURL
from requests.models import PreparedRequest, Response
from urllib3._collections import RecentlyUsedContainer
from urllib3.connection import HTTPConnection
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

__all__ = ["DEFAULT_SCHEME", "UnixAdapter"]

DEFAULT_SCHEME = "http+unix://"


class _Connection(HTTPConnection):
    def __init__(self, *args: Any, raw_path: bytes, **options: Any) -> None:
        super().__init__(*args, **options)
        self._raw_path = raw_path

    def _new_conn(self) -> socket.socket:
        timeout = self.timeout if isinstance(self.timeout, (int, float)) else None
        where = f"the UNIX socket {self._raw_path.decode('utf-8', 'backslashreplace')!r}"
        try:
            return _connect(self._raw_path, timeout)
        except BlockingIOError as error:
            raise ConnectTimeoutError(self, f"{where} took no connection within {timeout} s") from error
        except OSError as error:
            raise NewConnectionError(self, f"no connection to {where}: {error}") from error


def _connect(raw_path: bytes, timeout: float | None) -> socket.socket:
    # A socket of Python's that has a timeout does not block. Then Linux does not wait for room in the queue of a UNIX
    # socket, nor does any event tell of it. For a blocking socket it waits, as long as that may take to send.
    with ExitStack() as on_error:
        sock = on_error.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
        if timeout is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(max(timeout, 1e-6)))
        sock.connect(raw_path)
        if timeout is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, _timeval(0))
            sock.settimeout(timeout)
        on_error.pop_all()
    return sock


def _timeval(seconds: float) -> bytes:
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1_000_000))


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class UnixAdapter(HTTPAdapter):
    """Sends the requests of a `requests.Session` over UNIX sockets: `session.mount("http+unix://", UnixAdapter())`.

    The host of a URL is the percent-encoded path of the socket: `urllib.parse.quote(path, safe="")`. If it begins with
    ``%00``, it is the name of a Linux abstract socket. Connections are kept open, and later requests to the same socket
    use them again. Any thread may use the adapter.

    Args:
        timeout: seconds, or what else a request takes, for requests that give none; `None`: no limit.
        pool_connections: the number of sockets that connections are kept for.
        args, options: further arguments of `requests.adapters.HTTPAdapter`, from `pool_maxsize` on.
    """

    __attrs__ = [*HTTPAdapter.__attrs__, "timeout"]  # what is pickled

    def __init__(self, timeout: Any = 60, pool_connections: int = 25, *args: Any, **options: Any) -> None:
        self.timeout = timeout
        super().__init__(pool_connections, *args, **options)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **options: Any) -> None:
        """Make the pools: one for each socket, by its path."""
        super().init_poolmanager(connections, maxsize, block, **options)
        self._options: dict[str, Any] = {"maxsize": maxsize, "block": block}
        self.pools: RecentlyUsedContainer[bytes, HTTPConnectionPool] = RecentlyUsedContainer(
            connections, dispose_func=lambda pool: pool.close()
        )

    def send(
        self,
        request: PreparedRequest,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> Response:
        """Send a request to its socket.

        Raises:
            requests.RequestException: see `HTTPAdapter`; for example a `ConnectionError` if there is no such socket.
            requests.exceptions.InvalidURL: the URL names no socket.
            ValueError: a proxy is given for this scheme.
        """
        if timeout is None:
            timeout = self.timeout
        scheme = urlsplit(str(request.url)).scheme
        for known in (uses_relative, uses_netloc):  # or a redirect to a path alone would not be joined with the URL
            if scheme not in known:
                known.append(scheme)
        return super().send(request, stream, timeout, verify, cert, proxies)

    def get_connection_with_tls_context(
        self, request: PreparedRequest, verify: Any, proxies: Any = None, cert: Any = None
    ) -> HTTPConnectionPool:
        """Return the pool for a request; requests calls it from 2.32.2 on."""
        return self.get_connection(str(request.url), proxies)

    def get_connection(self, url: Any, proxies: Any = None) -> HTTPConnectionPool:
        """Return the pool for a URL; requests before 2.32 calls it."""
        parts = urlsplit(url)
        if any((proxies or {}).get(key) for key in (parts.scheme, f"{parts.scheme}://{parts.netloc}")):
            raise ValueError(
                f"{type(self).__name__} does not support specifying proxies: a UNIX socket is on this host"
            )
        raw_path = unquote_to_bytes(parts.netloc)
        if not raw_path:
            example = f"{parts.scheme}://%2Fpath%2Fof%2Fsocket/path"
            raise InvalidURL(f"{url!r} names no UNIX socket; write its path percent-encoded, as in {example}")
        with self.pools.lock:
            pool = self.pools.get(raw_path)
            if pool is None:
                pool = self.pools[raw_path] = _Pool("localhost", raw_path=raw_path, **self._options)
        return pool

    def request_url(self, request: PreparedRequest, proxies: Any) -> str:
        """Return what the request's first line asks for: the path and the query."""
        return request.path_url

    def close(self) -> None:
        """Close the connections that are not in use."""
        super().close()
        self.pools.clear()
