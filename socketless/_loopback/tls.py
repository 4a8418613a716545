"""TLS on virtual sockets.

`ssl.SSLSocket` is Python code on top of what `_ssl` makes of a context and a socket. For a virtual socket, that is made
of the context and two buffers here, and what goes through these is carried to the pipes and from them.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from contextlib import suppress
from threading import RLock
from typing import Any, TypeVar
from weakref import ref

from socketless._loopback.methods import virtual_of
from socketless._loopback.patches import Patches
from socketless._loopback.pipes import READABLE, WRITABLE, add_byte, deadline_after, wait
from socketless._loopback.virtual import Virtual

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

T = TypeVar("T")

_HEADER = 5  # bytes before the content of a record (RFC 8446, section 5.1): type, version, length
_TYPES = range(20, 25)


class _Connection:
    """What `ssl.SSLSocket` has as its `_sslobj`. What is not here is the business of the TLS object inside.

    It reads record by record, as OpenSSL does from a socket: a record that nobody has asked for stays in the pipe,
    where `select` sees it.
    """

    def __init__(self, context: Any, sock: Any, virtual: Virtual, **options: Any) -> None:
        self._sock = ref(sock)  # which has us
        self._virtual = virtual
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._inner: Any = None  # while there is none; the next line may fail
        self._inner = context._wrap_bio(self._incoming, self._outgoing, **options)
        self._record = bytearray()  # of the record that is being read: its header, as far as it has come
        self._missing = 0  # bytes of its content
        self._unsent = b""  # guarded by _lock
        # Two threads may use it, one that reads and one that writes. OpenSSL's object is not made for that, and what is
        # encrypted must go in order. It is never held while somebody waits.
        self._lock = RLock()
        self._written: int | None = None  # what write() has taken, but not sent as a whole
        self._is_unwrapped = False  # what comes is the socket's

    def __del__(self) -> None:
        # The socket is closed now. A client that has nothing to read does not read the tickets either that a server
        # sends after the handshake (RFC 8446, section 4.6.1). Without this, they would be data that he has left unread,
        # and the server be told of a reset: by TCP, they nearly always come too late for that.
        is_client = self._inner is not None and not self._inner.server_side
        if not is_client or self._is_unwrapped or self._inner.version() != "TLSv1.3":
            return
        with suppress(OSError):
            has_data = False
            while not has_data:
                self._feed_record()
                with suppress(ssl.SSLWantReadError):
                    has_data = bool(self._inner.read(1))
            add_byte(self._virtual.number)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def context(self) -> Any:
        return self._inner.context

    @context.setter
    def context(self, context: Any) -> None:
        self._inner.context = context

    @property
    def session(self) -> Any:
        return self._inner.session

    @session.setter
    def session(self, session: Any) -> None:
        self._inner.session = session

    def do_handshake(self) -> None:
        self._run(self._inner.do_handshake, "handshake")

    def read(self, size: int = 1024, *buffer: Any) -> Any:
        return self._run(lambda: self._inner.read(size, *buffer), "read", sends=False)

    def write(self, data: Any) -> int:
        count, self._written = self._written, None
        if count is None:  # else it is the same data once more, as after every SSLWantWriteError
            self._run(lambda: None, "write")
            count = self._run(lambda: self._inner.write(data), "write", sends=False)
        try:
            self._run(lambda: None, "write")
        except ssl.SSLWantWriteError:
            self._written = count
            raise
        return count

    def shutdown(self) -> Any:
        self._run(self._inner.shutdown, "read")
        self._is_unwrapped = True
        return self._sock()

    def _run(self, attempt: Callable[[], T], operation: str, *, sends: bool = True) -> T:
        """Do something with the TLS object inside, and what it needs to have received, and sent, for that.

        Args:
            attempt: what to do.
            operation: what an error calls it.
            sends: whether it has only succeeded once all is sent; otherwise, that may be left to another thread.
        """
        with self._virtual.using():
            deadline = deadline_after(self._virtual.timeout)
            while True:
                try:
                    result = self._attempt(attempt)
                except ssl.SSLWantReadError:
                    self._flush(deadline, operation, waits=sends)
                    self._feed(deadline, operation)
                except ssl.SSLError:
                    self._send_alert()
                    raise
                else:
                    self._flush(deadline, operation, waits=sends)
                    return result

    def _attempt(self, attempt: Callable[[], T]) -> T:
        with self._lock:
            try:
                return attempt()
            finally:
                self._unsent += self._outgoing.read()

    def _send_alert(self) -> None:
        try:
            self._flush(deadline_after(1), "write", waits=True)
        except OSError:
            pass  # what is wrong is said already

    # Writing

    def _flush(self, deadline: float | None, operation: str, *, waits: bool) -> None:
        """Send what is encrypted, or what there is room for.

        Raises:
            SSLWantWriteError: the socket does not wait, and there is no room.
            TimeoutError: it waited for too long.
        """
        while self._unsent and not self._send() and waits:
            if self._virtual.timeout == 0:
                raise ssl.SSLWantWriteError(ssl.SSL_ERROR_WANT_WRITE, "The operation did not complete (write)")
            self._wait(WRITABLE, deadline, operation)

    def _send(self) -> bool:
        with self._lock:
            while self._unsent:
                try:
                    self._unsent = self._unsent[self._virtual.file.state.write(self._unsent) :]
                except BlockingIOError:
                    return False
                except OSError:
                    self._unsent = b""  # nobody reads it; what they have sent can be read still, such as an alert
                    raise
            return True

    def _wait(self, events: int, deadline: float | None, operation: str) -> None:
        file, number = self._virtual.file, self._virtual.number
        try:
            wait(file.state.watches(number, events), deadline)
        except TimeoutError:
            raise TimeoutError(f"The {operation} operation timed out") from None

    # Reading

    def _feed(self, deadline: float | None, operation: str) -> None:
        """Read up to the end of a record, or wait until there is more of it.

        Raises:
            SSLWantReadError: the socket does not wait, and nothing is there.
            TimeoutError: it waited for too long.
        """
        try:
            with self._lock:
                self._feed_record()
        except BlockingIOError:
            if self._virtual.timeout == 0:
                raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "The operation did not complete (read)") from None
            self._wait(READABLE, deadline, operation)

    def _feed_record(self) -> None:
        is_complete = bool(self._incoming.pending)  # another thread has just read one
        while not is_complete:
            data = self._virtual.file.state.read(self._virtual.number, self._missing or _HEADER - len(self._record))
            if not data:
                self._incoming.write_eof()
                return
            self._incoming.write(data)
            is_complete = self._is_complete(data)

    def _is_complete(self, data: bytes) -> bool:
        """Take notice of bytes that have been read; return whether they are the last ones of a record."""
        if self._missing:
            self._missing -= len(data)
            return not self._missing
        self._record += data
        if self._record[0] not in _TYPES:
            self._record.clear()
            return True  # that is no TLS: for the object inside to say
        if len(self._record) < _HEADER:
            return False
        self._missing = int.from_bytes(self._record[3:], "big")
        self._record.clear()
        return not self._missing


def _wrap_socket(
    self: Any,
    sock: Any,
    server_side: bool,
    server_hostname: str | None = None,
    *,
    owner: Any = None,
    session: Any = None,
) -> Any:
    # Replaces ssl.SSLContext._wrap_socket, which is _ssl's own.
    virtual = virtual_of(sock)
    if virtual is None:
        return super(ssl.SSLContext, self)._wrap_socket(
            sock, server_side, server_hostname, owner=owner, session=session
        )
    options = {"server_side": server_side, "server_hostname": server_hostname, "owner": owner, "session": session}
    return _Connection(self, sock, virtual, **options)


def patch(module: Any, patches: Patches) -> None:
    """Let contexts wrap virtual sockets, too."""
    patches.set(module.SSLContext, "_wrap_socket", _wrap_socket)
