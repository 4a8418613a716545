"""The connector, and aiohttp's end of its connections."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.streams import StreamReader

from socketless._aiohttp.content_encoding import Decoding
from socketless._clients.error_mixins import as_theirs
from socketless._clients.response import Answers
from socketless._host.app_source import local_source_of
from socketless._host.arguments import AppKind
from socketless._host.limits import Timeouts
from socketless._host.process import IpcProcess
from socketless._host.thread import IpcThread
from socketless._host.trace import logger
from socketless._host.worker import Worker, owned
from socketless._http11.asyncio_transport import BridgeTransport
from socketless._inloop.app import InLoop
from socketless._inloop.exchange import LEAVE_SECONDS
from socketless._wire.import_strings import LoadError
from socketless._wire.messages import port_of
from socketless._worker.loading import load_app
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
    TransferError,
    UnknownHost,
    WorkerDied,
    WorkerStartError,
)

if TYPE_CHECKING:
    from aiohttp import ClientRequest, ClientTimeout
    from aiohttp.connector import Connection
    from aiohttp.tracing import Trace
    from typing_extensions import Self

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["ASGIApplicationConnector"]

# What each error is called in aiohttp, see `socketless._clients.error_mixins`. A dead worker is no
# ServerDisconnectedError: that, and a ClientOSError, makes aiohttp send the request again.
_NAMES: dict[type[SocketlessError], str] = {
    WorkerStartError: "aiohttp.ClientConnectionError",
    UnknownHost: "aiohttp.ClientConnectionError",
    WorkerDied: "aiohttp.ServerConnectionError",
    ChannelClosed: "aiohttp.ServerConnectionError",
    TransferError: "aiohttp.ClientError",
    AppProtocolError: "aiohttp.ServerConnectionError",
    InvalidRequest: "aiohttp.ClientError",
    BodyTooLarge: "aiohttp.ClientPayloadError",
    IncompleteResponse: "aiohttp.ClientPayloadError",
}
if hasattr(aiohttp, "SocketTimeoutError"):  # since 3.10
    _NAMES |= {PoolTimeout: "aiohttp.ConnectionTimeoutError", ReadTimeout: "aiohttp.SocketTimeoutError"}
_NAMES |= {ExchangeTimeout: "aiohttp.ServerTimeoutError"}
_SCHEMES = {"ws": "http", "wss": "https"}


class ASGIApplicationConnector(aiohttp.BaseConnector):
    """Sends the requests of a `ClientSession` to an app, whatever host they name; the app sees that host.

    An ASGI app object runs on the session's own event loop, a WSGI app object in a thread worker, and the app of an
    import string in a worker process. The connector ends these workers, but not one that it is given.

    `async with` runs the lifespan of an ASGI app object from the entry until the connector is closed; without it, the
    lifespan does not run. A worker runs the lifespan itself. A session closes its connector, unless it has
    `connector_owner=False`.

    Args:
        application: an ASGI or WSGI app, or a callable without arguments that returns one; an import string
            (``"package.module:attribute"``); or an `IpcProcess` or `IpcThread`.
        root_path: the path that the app is mounted at.
        loop: the event loop; `None`: the running one.
        propagate_exceptions: whether the client raises the app's exceptions, as their own types; otherwise, it gets a
            500.
        client: the client's address and port, as the app sees them.
        app_kind: ``"wsgi"`` or ``"asgi"``, if the app's signature does not tell.
        decompress: whether to decode the body of a request that has a Content-Encoding before the app gets it.
        options: those of `aiohttp.BaseConnector`: `limit`, `limit_per_host`, `force_close`, `keepalive_timeout`.

    Raises:
        TypeError: `application` is none of these.
        WorkerStartError: the worker could not start.
    """

    def __init__(
        self,
        application: Callable[..., Any] | str | Worker,
        root_path: str = "",
        loop: asyncio.AbstractEventLoop | None = None,
        *,
        propagate_exceptions: bool = True,
        client: tuple[str, int] = ("127.0.0.1", 123),
        app_kind: AppKind = "auto",
        decompress: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(loop=loop, **options)
        self._owned: Worker | None = None
        self._in_loop: InLoop | None = None
        self._open: WeakSet[BridgeTransport] = WeakSet()
        try:
            answering = self._answering(application, app_kind)
        except BaseException:
            self._close()
            raise
        self._answers: Answers = Decoding(answering) if decompress else answering
        self._options = {"client": client, "root_path": root_path, "raise_app_exceptions": propagate_exceptions}

    def _answering(self, application: Callable[..., Any] | str | Worker, app_kind: AppKind) -> Answers:
        if isinstance(application, Worker):
            return application
        if isinstance(application, str):
            self._owned = owned(IpcProcess(application, app_kind=app_kind))
            return self._owned
        try:
            app, kind = load_app(local_source_of(application, what="app"), app_kind)
        except LoadError as error:
            raise TypeError(str(error)) from None
        if kind == "wsgi":
            self._owned = owned(IpcThread(app, app_kind="wsgi"))
            return self._owned
        self._in_loop = InLoop(app, kind)
        return self._in_loop

    async def connect(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> Connection:
        """Get a connection from the pool, or make one; aiohttp calls this."""
        connection = await super().connect(req, traces, timeout)
        if isinstance(connection.protocol, _Protocol):
            connection.protocol.pool_timeout = timeout.connect
        return connection

    async def _create_connection(self, req: ClientRequest, traces: list[Trace], timeout: ClientTimeout) -> _Protocol:
        protocol = _connected(self._answers, req, **self._options)
        self._open.add(protocol.bridge_transport)
        return protocol

    async def close(self, *, abort_ssl: bool = False) -> None:  # as TCPConnector's
        """Close the connections, and what belongs to this connector: the app's lifespan is shut down.

        Raises:
            Exception: what the app has raised while it was shut down.
        """
        if self.closed:
            return
        open_transports = list(self._open)
        await super().close()
        tasks = [task for transport in open_transports for task in transport.tasks]
        if tasks:
            await asyncio.wait(tasks, timeout=LEAVE_SECONDS)
        if self._in_loop is not None:
            await self._in_loop.shut_down(LEAVE_SECONDS)
        if self._owned is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._owned.close)

    async def __aenter__(self) -> Self:
        try:
            if self._in_loop is not None:
                await self._in_loop.start_up()
        except BaseException:
            self._close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        await self.close()


def _connected(worker: Answers, request: ClientRequest, **options: Any) -> _Protocol:
    """Make a connection to a worker, for the scheme and the host of a request."""
    url = request.url
    scheme = _SCHEMES.get(url.scheme, url.scheme)
    protocol = _Protocol(asyncio.get_running_loop())
    server = url.host or "", port_of(url.port, scheme)
    protocol.bridge_transport = BridgeTransport(
        protocol, worker, scheme=scheme, server=server, as_theirs=partial(as_theirs, names=_NAMES), **options
    )
    return protocol


def connected_to_worker(worker: Worker, request: ClientRequest, timeout: ClientTimeout, **options: Any) -> _Protocol:
    """Make a connection for a connector of aiohttp's own; compressed bodies are decoded there, too."""
    protocol = _connected(Decoding(worker), request, **options)
    protocol.pool_timeout = timeout.connect
    return protocol


class _Protocol(ResponseHandler):
    """aiohttp's end of a connection, which can be told what the app has raised."""

    bridge_transport: BridgeTransport
    pool_timeout: float | None = None  # seconds that the next request may wait for a free channel
    _error: BaseException | None = None  # for who reads the response, once what has come before is read

    @property
    def should_close(self) -> bool:
        """Whether there can be no other request: not before the head of the response has come, either.

        aiohttp 3.9.0 gives such a connection back to its pool when the request is cancelled.
        """
        return bool(super().should_close) or self._payload is None

    def set_response_params(self, *, read_timeout: float | None = None, **params: Any) -> None:
        """Expect a response. The time limit is the exchange's: that knows where the app is."""
        self._payload = None
        self.bridge_transport.bridge.timeouts = Timeouts(self.pool_timeout, None, read_timeout or None)
        super().set_response_params(**params)

    def fail(self, error: BaseException, *, is_answered: bool) -> None:
        """Let the client have an error: where it waits for the response, or where the rest of the body would be."""
        payload = self._payload
        if not is_answered or payload is None:
            self.set_exception(_through_aiohttp(error))
        elif self.upgraded or not payload.is_eof():
            self._error = error
            self._deliver()
        else:
            logger.error("the app raised after its response was complete", exc_info=error)

    def set_exception(self, exc: Any, *args: Any) -> None:
        """Fail. aiohttp itself tells only who waits for the head of the response, say if the request's body raises."""
        super().set_exception(exc, *args)
        payload = self._payload
        if isinstance(payload, StreamReader) and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(exc, *args)

    def _deliver(self) -> None:
        error, payload = self._error, self._payload
        if error is None or payload is None or (self.upgraded and self._payload_parser is None):
            return
        if isinstance(payload, StreamReader) and payload._size:
            self._reading_paused = True  # so that resume_reading() is called when it is read
            return
        self._error = None
        self._should_close = True
        payload.set_exception(_caught_by_aiohttp(error) if self.upgraded else error)

    def resume_reading(self, *args: Any, **kwargs: Any) -> None:
        """Go on with reading, or with what the app has raised."""
        super().resume_reading(*args, **kwargs)
        self._deliver()

    def set_parser(self, *args: Any, **kwargs: Any) -> None:
        """Be a WebSocket from now on."""
        super().set_parser(*args, **kwargs)
        self._deliver()

    def close(self) -> None:
        """Close the connection; who is reading the response gets an error."""
        payload = self._payload
        if isinstance(payload, StreamReader) and not payload.is_eof() and payload.exception() is None:
            payload.set_exception(self._error or aiohttp.ClientConnectionError("Connection closed"))
        super().close()


def _through_aiohttp(error: BaseException) -> BaseException:
    """Return an error that aiohttp lets through: of every other OSError, it makes a ClientOSError."""
    is_taken = isinstance(error, OSError) and not isinstance(error, aiohttp.ClientError)
    return _also(aiohttp.ClientError, error) if is_taken else error


def _caught_by_aiohttp(error: BaseException) -> BaseException:
    """Return an error after which aiohttp closes its WebSocket: after a SystemExit, for one, it does not."""
    is_caught = isinstance(error, (Exception, asyncio.CancelledError))
    return error if is_caught else _also(Exception, error)


def _also(theirs: type[Exception], error: BaseException) -> BaseException:
    # The same error, which is one of theirs as well.
    cls = type(error)
    try:
        both: type[BaseException] = type(cls.__name__, (cls, theirs), {"__module__": cls.__module__})
        same = both(*error.__reduce__()[1])  # with the names of the files, which are not in its args
    except Exception:
        return error
    same.__dict__.update(error.__dict__)
    same.__cause__, same.__context__ = error.__cause__, error.__context__
    same.__suppress_context__ = error.__suppress_context__
    return same.with_traceback(error.__traceback__)
