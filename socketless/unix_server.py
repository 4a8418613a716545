"""A worker's app on a UNIX socket: for `curl --unix-socket`, and for tools that are not Python."""

from __future__ import annotations

import errno
import select
import socket
import stat
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from socketless._forking import close_in_forks
from socketless._genuine import fcntl, os
from socketless._host.arguments import check_worker
from socketless._host.worker import Worker
from socketless._http11.service import Service
from socketless._wire.drivers import deadline_after, poll, remaining
from socketless._wire.pipes import PipeEnd, make_pipe
from socketless._wire.steps import Wait

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["UnixServer"]

BACKLOG = 2048
_MODE = 0o600
_PAUSE = 1.0  # seconds


class UnixServer:
    """Listens on a UNIX socket, and answers each connection in a thread.

    It listens as soon as it is created; as a context manager, it closes at the end of the block. The socket's file has
    the mode 0600: only this user may connect. A socket file that another server has left behind is replaced. While the
    server starts, there is a lock file: the path with ``.lock`` appended.

    Args:
        worker: the worker that answers; it is left running.
        path: the path of the socket, at most about 100 bytes.
        on_error: is called with an exception that ended a connection and is not the client's fault.
        backlog: how many clients may wait to be accepted; the system may allow fewer.
        options: `head_timeout`, the seconds that the head of a request may take once it has begun (default: 10; `None`:
            no limit); and `root_path`, `client` and `raise_app_exceptions` (default: false), see `IpcTransport`.

    Raises:
        TypeError: `worker` is not a worker.
        ValueError: the path is the name of an abstract socket.
        OSError: another server listens or starts at the path, there is another kind of file, the path is too long, or
            sockets are refused.
    """

    _is_open = False  # guarded by _lock

    def __init__(
        self,
        worker: Worker,
        path: str | os.PathLike[str],
        on_error: Callable[[BaseException], object] = lambda error: None,
        *,
        backlog: int = BACKLOG,
        **options: Any,
    ) -> None:
        check_worker(worker, "UnixServer({}, ...)")
        self.path: str = os.fspath(path)
        if "\0" in self.path:
            raise ValueError(f"{self.path!r} is not the path of a file: an abstract socket would let every user in")
        self._owner_pid = os.getpid()
        self._lock = threading.Lock()
        wake_reader, self._wake_writer = make_pipe()
        options = {"server": ("localhost", 80), "raise_app_exceptions": False, **options}
        try:
            listener = _listen(self.path, backlog)
        except BaseException:
            wake_reader.close()
            self._wake_writer.close()
            raise
        # It knows nothing of this object, which ends it when it is dropped.
        self._acceptor = _Acceptor(worker, listener, self.path, wake_reader, on_error, options)
        for end in (wake_reader, self._wake_writer):
            close_in_forks(end)  # a worker that is started again may be one
        self._thread = threading.Thread(target=self._acceptor.run, name="socketless-unix-server", daemon=True)
        try:
            self._thread.start()
        except BaseException:
            self._acceptor.stop_listening()
            raise
        self._is_open = True

    def close(self, timeout: float | None = 5.0) -> None:
        """Stop listening, and wait until the requests that have begun are answered. May be called twice.

        In a fork of the process that created the server, do nothing.

        Args:
            timeout: seconds to wait; after that, the clients are disconnected. `None`: no limit.
        """
        if os.getpid() != self._owner_pid:
            return
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
        self._wake_writer.close()
        self._thread.join()
        deadline = deadline_after(timeout)
        self._acceptor.stop()
        self._acceptor.join(deadline)
        self._acceptor.cut_off()
        self._acceptor.join(None)

    def __repr__(self) -> str:
        return f"<UnixServer {self.path!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if self._is_open and os.getpid() == self._owner_pid:
            try:
                warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            finally:  # it may be any thread that drops it: this waits for none
                self._acceptor.is_dropped = True
                self._wake_writer.close()


class _Acceptor:
    """What a server's threads know: its listener, which is closed when the pipe ends, and its connections."""

    def __init__(
        self,
        worker: Worker,
        listener: socket.socket,
        path: str,
        wake_reader: PipeEnd,
        on_error: Callable[[BaseException], object],
        options: dict[str, Any],
    ) -> None:
        self.is_dropped = False  # set before the pipe ends
        self._worker = worker
        self._listener = listener
        self._path = path
        self._inode = os.stat(path).st_ino
        self._wake_reader = wake_reader
        self._on_error = on_error
        self._options = options
        self._lock = threading.Lock()
        self._connections: dict[threading.Thread, tuple[socket.socket, Service]] = {}  # guarded by _lock
        close_in_forks(listener)

    def run(self) -> None:
        # Runs in the thread socketless-unix-server, until the pipe ends.
        try:
            self._accept()
        finally:
            self.stop_listening()
            if self.is_dropped:
                self.cut_off()

    def stop_listening(self) -> None:
        """Remove the socket's file, and close the socket."""
        with suppress(OSError):  # the file has gone, or may not be removed
            if os.stat(self._path).st_ino == self._inode:  # or another has replaced it
                os.unlink(self._path)
        self._listener.close()  # after that: who starts now would find the file stale, and replace it
        self._wake_reader.close()

    def stop(self) -> None:
        """Begin no more requests, and end the connections that wait for one."""
        with self._lock:
            for connection, service in self._connections.values():
                service.stop()
                if service.may_end:
                    _shut_down(connection, socket.SHUT_RD)  # it reads, and hears that there is nothing more

    def cut_off(self) -> None:
        """End all connections."""
        with self._lock:
            for connection, _ in self._connections.values():
                _shut_down(connection, socket.SHUT_RDWR)

    def join(self, deadline: float | None) -> None:
        """Wait until the connections have ended."""
        with self._lock:
            threads = list(self._connections)
        for thread in threads:
            thread.join(remaining(deadline))

    def _accept(self) -> None:
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        poller.register(self._wake_reader, select.POLLIN)
        number = 0
        while all(fd != self._wake_reader.fileno() for fd, _ in poller.poll()):
            try:
                connection, _ = self._listener.accept()
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.ECONNABORTED):
                    self._on_error(error)
                    poll(Wait(self._wake_reader.fileno(), deadline=deadline_after(_PAUSE)))  # until some are given back
                continue
            close_in_forks(connection)
            number += 1
            try:
                self._start(connection, f"socketless-connection-{number}")
            except Exception as error:  # no thread is to be had
                _shut_down(connection, socket.SHUT_RDWR)
                connection.close()
                self._on_error(error)

    def _start(self, connection: socket.socket, name: str) -> None:
        connection.setblocking(True)
        service = Service(self._worker, connection.fileno(), connection.fileno(), **self._options)
        thread = threading.Thread(target=self._serve, args=(connection, service), name=name, daemon=True)
        with self._lock:
            self._connections[thread] = connection, service
        try:
            thread.start()
        except BaseException:
            with self._lock:
                del self._connections[thread]
            raise

    def _serve(self, connection: socket.socket, service: Service) -> None:
        # Runs in the thread socketless-connection-N, until one side ends the connection.
        try:
            with connection:
                try:
                    service.run()
                finally:
                    _shut_down(connection, socket.SHUT_RDWR)  # should a fork hold it all the same
                with self._lock:  # close() must not shut down what has this number next
                    del self._connections[threading.current_thread()]
        except BaseException as error:
            self._on_error(error)
        finally:
            with self._lock:
                self._connections.pop(threading.current_thread(), None)


def _shut_down(connection: socket.socket, how: int) -> None:
    with suppress(OSError):  # its client has gone
        connection.shutdown(how)


def _listen(path: str, backlog: int) -> socket.socket:
    with _lock(path):
        _remove_stale(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            with suppress(OSError):  # of sockets, Linux alone can do this
                os.fchmod(listener.fileno(), _MODE)  # it is the mode of the file that bind() makes, less the umask
            listener.bind(path)
            if stat.S_IMODE(os.lstat(path).st_mode) != _MODE:
                os.chmod(path, _MODE)  # nobody can connect yet; a umask would be the whole process's
            listener.listen(backlog)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        return listener


@contextmanager
def _lock(path: str) -> Iterator[None]:
    # A server that starts meanwhile would find the same file stale, and remove the socket that has replaced it.
    name = f"{path}.lock"
    try:
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", os.path.dirname(path) or ".") from None
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not os.path.samestat(os.fstat(fd), os.stat(name)):  # it was locked, and is another's by now
                raise BlockingIOError
            if os.fstat(fd).st_size:
                raise FileExistsError(errno.EEXIST, "there is a file already, which is not a lock", name)
        except (BlockingIOError, FileNotFoundError):
            raise OSError(errno.EADDRINUSE, "another server is starting there", path) from None
        try:
            yield
        finally:
            os.unlink(name)
    finally:
        os.close(fd)


def _remove_stale(path: str) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(mode):
        raise FileExistsError(errno.EEXIST, "there is a file already, which is not a socket", path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        code = probe.connect_ex(path)
    if code == errno.ECONNREFUSED:
        os.unlink(path)
    elif code in (0, errno.EAGAIN, errno.EINPROGRESS):  # not yet: too many others want to be accepted
        raise OSError(errno.EADDRINUSE, "another server listens there", path)
    elif code != errno.ENOENT:  # it has gone just now
        raise OSError(code, os.strerror(code), path)
