"""`UnixSocketServerThread`: an app behind a real UNIX socket, for tests of what asks one."""

from __future__ import annotations

import os
import select
import socket
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from socketless.host.thread import IpcThread
from socketless.host.worker import Worker
from socketless.serving import Service

if TYPE_CHECKING:
    from typing_extensions import Self

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["UnixSocketServerThread"]


class UnixSocketServerThread(threading.Thread):
    """A thread that answers HTTP on a UNIX socket, whose path is `usock`.

        with UnixSocketServerThread() as thread:
            url = f"http+unix://{quote(thread.usock, safe='')}/path"
            assert Session().get(url).text == "Hello world!"

    It listens from `start()` on, or from the beginning of a `with` block, until `stop()`, or the block's end: then its
    threads have ended, and the socket is removed. A connection has a thread of its own.

    Args:
        app: a WSGI or ASGI app, or a worker, which is left as it is. Without one, every request is answered with
            ``Hello world!`` and with what was asked for, in headers: ``X-Transport``, ``X-Socket-Path``,
            ``X-Requested-Path`` and ``X-Requested-Query-String``.
        options: of `threading.Thread`.
    """

    def __init__(self, app: Callable[..., Any] | Worker | None = None, **options: Any) -> None:
        super().__init__(**{"name": "socketless-unix", "daemon": True, **options})
        self.usock = os.path.join(tempfile.gettempdir(), f"socketless-{os.getpid()}-{uuid.uuid4().hex[:8]}.sock")
        self._app = self._hello if app is None else app
        self._resources = ExitStack()
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, socket.socket] = {}  # guarded by _lock

    def _hello(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        headers = [
            ("X-Transport", "unix domain socket"),
            ("X-Socket-Path", self.usock),
            ("X-Requested-Query-String", environ["QUERY_STRING"]),
            ("X-Requested-Path", environ["PATH_INFO"]),
            ("Content-Type", "text/plain"),
            ("Content-Length", "12"),
        ]
        start_response("200 OK", headers)
        return [b"Hello world!"]

    def start(self) -> None:
        """Listen, and begin to answer.

        Raises:
            RuntimeError: it was started before.
            OSError: the socket cannot be made, for example where sockets are refused.
        """
        if self.ident is not None:
            raise RuntimeError("threads can only be started once")
        with ExitStack() as on_error:
            self._listener = on_error.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            self._listener.bind(self.usock)
            on_error.callback(os.unlink, self.usock)
            self._listener.listen()
            self._listener.setblocking(False)  # a client may have gone before it is accepted
            self._woken, self._waker = os.pipe()
            on_error.callback(os.close, self._woken)
            on_error.callback(os.close, self._waker)
            app = self._app
            self._worker = app if isinstance(app, Worker) else on_error.enter_context(IpcThread(app))
            super().start()
            self._resources = on_error.pop_all()

    def run(self) -> None:
        # Runs in the thread socketless-unix, until stop().
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        poller.register(self._woken, select.POLLIN)
        while self._woken not in {fd for fd, _ in poller.poll()}:
            with suppress(BlockingIOError):
                connection, _ = self._listener.accept()
                connection.setblocking(True)
                thread = threading.Thread(target=self._serve, args=(connection,), name=f"{self.name}-connection")
                thread.daemon = True
                with self._lock:
                    self._connections[thread] = connection
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        # Runs in the thread socketless-unix-connection, until one of both ends it.
        try:
            fd = connection.fileno()
            Service(self._worker, fd, fd, server=("localhost", 80), raise_app_exceptions=False).run()
        finally:
            with self._lock:
                del self._connections[threading.current_thread()]
                connection.close()

    def stop(self) -> None:
        """End all connections, and wait for the threads. May be called twice, and before `start()`."""
        resources, self._resources = self._resources, ExitStack()
        with resources:
            if not self.is_alive():
                return
            os.write(self._waker, b"x")
            self.join()
            with self._lock:
                threads = list(self._connections)
                for connection in self._connections.values():
                    with suppress(OSError):  # the client has gone
                        connection.shutdown(socket.SHUT_RDWR)
            for thread in threads:
                thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
