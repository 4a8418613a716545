"""A stream whose other end is a worker: nothing of it leaves this process, but for the worker's pipes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any

from socketless._clients.error_mixins import as_theirs
from socketless._host.limits import Timeouts
from socketless._host.worker import Worker
from socketless._http11.asyncio_transport import BridgeTransport
from socketless._lowlevel.streams import LIMIT, Data, Stream, TransportStream
from socketless.errors import ChannelClosed, SocketlessError, WorkerDied, WorkerStartError, WriteTimeout

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


@dataclass(frozen=True)
class WorkerPeer:
    """A worker, and how requests are made of what is sent."""

    worker: Worker
    options: tuple[tuple[str, Any], ...]  # of `Bridge`

    @classmethod
    def of(
        cls,
        worker: Worker,
        *,
        scheme: str = "http",
        server: tuple[str, int] = ("testserver", 80),
        client: tuple[str, int] = ("127.0.0.1", 123),
        root_path: str = "",
        raise_app_exceptions: bool = True,
    ) -> WorkerPeer:
        options = {
            "scheme": scheme,
            "server": server,
            "client": client,
            "root_path": root_path,
            "raise_app_exceptions": raise_app_exceptions,
        }
        return cls(worker, tuple(options.items()))

    def __str__(self) -> str:
        return repr(self.worker)

    async def open(self, timeouts: Timeouts) -> Stream:
        stream = WorkerStream(str(self))
        transport = BridgeTransport(stream, self.worker, as_theirs=_as_broken, **dict(self.options))
        transport.set_write_buffer_limits(LIMIT)
        transport.bridge.timeouts = timeouts
        return stream


# What breaks is a ConnectionError, as with a socket.
_NAMES: dict[type[SocketlessError], str] = {
    WorkerStartError: "builtins.ConnectionRefusedError",
    WorkerDied: "builtins.ConnectionResetError",
    ChannelClosed: "builtins.ConnectionResetError",
}
_as_broken = partial(as_theirs, names=_NAMES)


class WorkerStream(TransportStream):
    """A stream to a bridge of its own."""

    _transport: BridgeTransport

    async def send(self, data: Data, limit: float | None) -> None:
        try:
            await super().send(data, limit)
        except TimeoutError:
            raise WriteTimeout(f"{self._name}: the worker did not take what was sent within {limit:g} s") from None

    async def receive(self, size: int, limit: float | None) -> bytes:
        while True:
            try:
                return await super().receive(size, limit)
            except TimeoutError as error:
                # The exchange has the same limit, and says where the app is.
                has_news = self._received or self._has_ended
                if error is self._error or (self._transport.is_resting and not has_news):
                    raise

    def fail(self, error: BaseException, *, is_answered: bool) -> None:
        """Take notice of what has ended the connection."""
        self._end(error)

    def _raise_error(self) -> None:
        if self._error is not None:
            raise self._error

    async def settle(self) -> None:
        await self._transport.rest()
        self._raise_error()

    def is_quiet(self) -> bool:
        return super().is_quiet() and not self._transport.tasks and not self._transport.get_write_buffer_size()

    async def close(self, *, politely: bool = False) -> None:
        tasks = self._transport.tasks
        await super().close()
        if tasks:
            await asyncio.wait(tasks)
