"""`UnixSocketServerThread`: an app behind a real UNIX socket, for tests of a client."""

from __future__ import annotations

import tempfile
import traceback
import weakref
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any

from socketless._genuine import os
from socketless._host.thread import IpcThread
from socketless._host.worker import Worker
from socketless.unix_server import UnixServer

if TYPE_CHECKING:
    from typing_extensions import Self

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

__all__ = ["UnixSocketServerThread"]


class UnixSocketServerThread:
    """Answers HTTP on a UNIX socket, in threads of its own. The socket's path is the attribute `usock`.

        with UnixSocketServerThread() as thread:
            url = f"http+unix://{quote(thread.usock, safe='')}/path"
            assert Session().get(url).text == "Hello world!"

    It listens from `start()` to `stop()`, or during a `with` block. After that, its threads have ended, and the socket
    is removed together with the folder made for it. Only this user may connect.

    Args:
        app: a WSGI or ASGI app, or a worker, which is left running. Without an app, the response to every request is
            ``Hello world!``, and its headers describe the request: ``X-Transport``, ``X-Socket-Path``,
            ``X-Requested-Path`` and ``X-Requested-Query-String``.
    """

    def __init__(self, app: Callable[..., Any] | Worker | None = None) -> None:
        folder = os.path.join(tempfile.gettempdir(), f"socketless-{os.urandom(8).hex()}")
        os.mkdir(folder, 0o700)  # not by tempfile.mkdtemp(): under pyfakefs, no socket can be there
        self._remove_folder = weakref.finalize(self, _remove, folder, os.getpid())
        self.usock: str = os.path.join(folder, "sock")
        # What is served knows nothing of this object, which ends it when it is dropped.
        self._app = partial(_hello, self.usock) if app is None else app
        self._is_started = False
        self._resources = ExitStack()

    def start(self) -> None:
        """Start to listen and to answer.

        Raises:
            RuntimeError: the server was started before.
            OSError: the socket cannot be made, for example where sockets are refused.
        """
        if self._is_started:
            raise RuntimeError("threads can only be started once")
        with ExitStack() as on_error:
            app = self._app
            worker = app if isinstance(app, Worker) else on_error.enter_context(IpcThread(app))
            on_error.callback(UnixServer(worker, self.usock, traceback.print_exception).close, 0)
            self._resources.callback(self._remove_folder)
            self._resources.push(on_error.pop_all())
        self._is_started = True

    def stop(self) -> None:
        """End all connections, and wait for the threads. May be called twice, and before `start()`."""
        resources, self._resources = self._resources, ExitStack()
        resources.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()


def _hello(path: str, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    headers = [
        ("X-Transport", "unix domain socket"),
        ("X-Socket-Path", path),
        ("X-Requested-Query-String", environ["QUERY_STRING"]),
        ("X-Requested-Path", environ["PATH_INFO"]),
        ("Content-Type", "text/plain"),
        ("Content-Length", "12"),
    ]
    start_response("200 OK", headers)
    return [b"Hello world!"]


def _remove(folder: str, owner_pid: int) -> None:
    if os.getpid() == owner_pid:  # a fork may drop its copy
        with suppress(OSError):  # somebody has put a folder into it
            for name in os.listdir(folder):
                os.unlink(os.path.join(folder, name))
            os.rmdir(folder)
