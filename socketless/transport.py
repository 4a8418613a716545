"""Transports for httpx and httpx2: `IpcTransport` for `Client`, `IpcAsyncTransport` for `AsyncClient`.

One class serves both families. It answers with the `Response` and the error classes of the family that the request came
from, so it imports httpx2 never, and works with it as soon as a request of its comes.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module
from typing import Any
from weakref import WeakKeyDictionary

import httpx
from anyio import Semaphore, WouldBlock, move_on_after
from anyio.lowlevel import RunVar

from socketless import errors
from socketless.errors import (
    AppProtocolError,
    PoolTimeout,
    ReadTimeout,
    SocketlessError,
    TransferError,
    WorkerDied,
    WorkerStartError,
    WriteTimeout,
)
from socketless.host.exchange import Timeouts
from socketless.host.failures import exception_of
from socketless.host.process import IpcProcess
from socketless.wire.drivers import deadline_after, remaining, run_async, run_blocking
from socketless.wire.messages import Failed, Message, Request, Response

__all__ = ["IpcAsyncTransport", "IpcTransport"]

_PORTS = {"http": 80, "https": 443}

# What each error is called in the client library. StateError stays as it is: httpx, too, raises RuntimeError then. And
# AppError does: what the app raises is not the library's.
_HTTPX_NAMES: dict[type[SocketlessError], str] = {
    WorkerStartError: "ConnectError",
    WorkerDied: "ReadError",
    TransferError: "LocalProtocolError",
    AppProtocolError: "RemoteProtocolError",
    PoolTimeout: "PoolTimeout",
    WriteTimeout: "WriteTimeout",
    ReadTimeout: "ReadTimeout",
}


_OURS = {getattr(errors, name) for name in errors.__all__}


class _Transport:
    # What the sync and the async transport share: everything but the waiting.

    def __init__(
        self,
        worker: IpcProcess,
        *,
        raise_app_exceptions: bool = True,
        root_path: str = "",
        client: tuple[str, int] = ("127.0.0.1", 123),
    ) -> None:
        if not hasattr(worker, "exchange"):
            name = type(self).__name__
            raise TypeError(f"{name} takes a worker, {name}(IpcProcess({worker!r})), not {worker!r}")
        self.worker = worker
        self.raise_app_exceptions = raise_app_exceptions
        self.root_path = root_path
        self.client = client

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.worker!r}>"

    def _message(self, request: Any) -> Request:
        url = request.url
        scheme = url.scheme
        if scheme not in _PORTS:
            family = _family(request)
            raise family.UnsupportedProtocol(
                f"Request URL {str(url)!r} has no 'http://' or 'https://'; give the client a base_url", request=request
            )
        return Request(
            method=request.method,
            scheme=scheme,
            server=(url.raw_host.decode("ascii"), url.port or _PORTS[scheme]),
            raw_target=request.extensions.get("target") or url.raw_path,
            headers=request.headers.raw,
            body=request.content,
            root_path=self.root_path,
            client=self.client,
        )

    def _response(self, request: Any, answer: Message) -> Any:
        family = _family(request)
        if isinstance(answer, Failed):
            if self.raise_app_exceptions:
                error = exception_of(answer)
                if isinstance(error, SocketlessError):
                    raise _client_error(error, request) from error.__cause__
                raise error
            answer = answer.response or _INTERNAL_SERVER_ERROR
        assert isinstance(answer, Response)
        extensions: dict[str, Any] = {"http_version": b"HTTP/1.1"}
        if answer.reason:
            extensions["reason_phrase"] = answer.reason.encode("latin-1")
        return family.Response(
            answer.status, headers=answer.headers, stream=family.ByteStream(answer.body), extensions=extensions
        )


_INTERNAL_SERVER_ERROR = Response(
    500,
    "Internal Server Error",
    [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"21")],
    b"Internal Server Error",
)


class IpcTransport(_Transport, httpx.BaseTransport):
    """Sends the requests of an `httpx.Client` or `httpx2.Client` to a worker.

        with IpcProcess("myapp:app") as worker, httpx.Client(
            transport=IpcTransport(worker), base_url="http://testserver"
        ) as client:
            client.get("/")

    Any thread may use it. Closing the client leaves the worker as it is: others may share it.

    Args:
        worker: where to send them.
        raise_app_exceptions: raise what the app raises, as its own type; else answer 500.
        root_path: the path that the app is mounted at: `SCRIPT_NAME` (PEP 3333) or `root_path` (ASGI).
        client: the address that the app sees as the client's.
    """

    def handle_request(self, request: Any) -> Any:
        """Carry a request to the worker and return the app's response.

        The request's `timeout` extension counts: `pool`, `write` and `read`.

        Raises:
            Exception: what the app raised.
            AppError: what the app raised cannot cross.
            httpx.TransportError: the other errors of `socketless.errors`, as that and as the error that httpx has for
                it, for example `WorkerDied` and `httpx.ReadError`.
            StateError: the worker is closed.
        """
        request.read()
        try:
            answer = run_blocking(self.worker.exchange(self._message(request), _timeouts(request)))
        except SocketlessError as error:
            raise _client_error(error, request) from error.__cause__
        return self._response(request, answer)


class IpcAsyncTransport(_Transport, httpx.AsyncBaseTransport):
    """Sends the requests of an `httpx.AsyncClient` or `httpx2.AsyncClient` to a worker, under asyncio or trio.

    It takes the arguments of `IpcTransport`. It waits for the pipe on the loop that is running, without a thread.
    """

    async def handle_async_request(self, request: Any) -> Any:
        """Carry a request to the worker and return the app's response; see `IpcTransport.handle_request`."""
        await request.aread()
        message, timeouts = self._message(request), _timeouts(request)
        deadline = deadline_after(timeouts.pool)
        async with _turn(self.worker, timeouts.pool):
            try:
                timeouts = timeouts._replace(pool=remaining(deadline))
                answer = await run_async(self.worker.exchange(message, timeouts))
            except SocketlessError as error:
                raise _client_error(error, request) from error.__cause__
        return self._response(request, answer)


@asynccontextmanager
async def _turn(worker: IpcProcess, timeout: float | None) -> AsyncIterator[None]:
    # Lets only as many tasks of a loop at the worker as it has channels: those that wait there need a pipe each, and a
    # thousand tasks would use up the descriptors. Who is late here tries the exchange all the same, with no time left:
    # it says what holds the channels. (anyio comes with httpx.)
    turns = _turns.get(WeakKeyDictionary())
    _turns.set(turns)
    semaphore = turns.setdefault(worker, Semaphore(worker.max_connections))
    try:
        semaphore.acquire_nowait()
        got = True
    except WouldBlock:
        with move_on_after(timeout) as scope:
            await semaphore.acquire()
        got = not scope.cancelled_caught
    try:
        yield
    finally:
        if got:
            semaphore.release()


_turns: RunVar[WeakKeyDictionary[IpcProcess, Semaphore]] = RunVar("socketless-turns")


def _timeouts(request: Any) -> Timeouts:
    limits = request.extensions.get("timeout") or {}
    return Timeouts(limits.get("pool"), limits.get("write"), limits.get("read"))


def _family(request: Any) -> Any:
    """Return httpx or httpx2, whichever a request comes from."""
    request_type = type(request)
    family = _families.get(request_type)
    if family is None:
        names = [base.__module__.partition(".")[0] for base in request_type.__mro__]
        name = next((name for name in names if name in ("httpx", "httpx2")), None)
        if name is None:
            raise TypeError(f"{request_type.__qualname__} is no request of httpx or httpx2")
        family = _families[request_type] = sys.modules[name]
    return family


_families: dict[type, Any] = {}


def _client_error(error: SocketlessError, request: Any) -> SocketlessError:
    """Return the same error as one that is the client library's, too."""
    name = next((name for base, name in _HTTPX_NAMES.items() if isinstance(error, base)), None)
    if name is None:
        return error
    ours = next(cls for cls in type(error).__mro__ if cls in _OURS)  # an app may use a transport of ours itself
    both = _rebuild(ours, _family(request).__name__, name, error.args)
    both._request = request  # type: ignore[attr-defined]
    return both


def _rebuild(ours: type[SocketlessError], family: str, name: str, args: tuple[Any, ...]) -> SocketlessError:
    key = ours, family, name
    if key not in _both:
        _both[key] = _make_both(ours, getattr(import_module(family), name), key)
    return _both[key](*args)


_both: dict[tuple[type, str, str], type[SocketlessError]] = {}


def _make_both(ours: type[SocketlessError], theirs: type[Exception], key: tuple[Any, ...]) -> type[SocketlessError]:
    """Return a class that is one of our errors and one of the client library's."""

    def __init__(self: Any, *args: Any) -> None:
        ours.__init__(self, *args)
        self._request = None

    def __reduce__(self: Any) -> Any:
        return _rebuild, (*key, self.args)

    members = {"__init__": __init__, "__reduce__": __reduce__, "__module__": ours.__module__, "__doc__": ours.__doc__}
    return type(ours.__name__, (ours, theirs), members)
