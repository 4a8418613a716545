"""TLS on virtual sockets.

`ssl.SSLSocket` is Python code on top of what `_ssl` makes of a context and a socket. For a virtual socket, that is made
of the context and two buffers here, and what goes through these is carried to the pipes and from them.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from threading import Lock
from typing import Any, TypeVar
from weakref import ref

from socketless.loopback.methods import virtual_of
from socketless.loopback.patches import Patches
from socketless.loopback.pipes import READABLE, WRITABLE, deadline_after
from socketless.loopback.virtual import Virtual

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
        self._inner = context._wrap_bio(self._incoming, self._outgoing, **options)
        self._record = bytearray()  # of the record that is being read: its header, as far as it has come
        self._missing = 0  # bytes of its content
        self._unsent = b""  # guarded by _sending
        self._sending = Lock()  # what is encrypted must go in order, though one thread may read while another writes
        self._written: int | None = None  # what write() has taken, but not sent as a whole

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
        return self._run(lambda: self._inner.read(size, *buffer), "read")

    def write(self, data: Any) -> int:
        deadline = deadline_after(self._virtual.timeout)
        if self._written is None:  # else it is the same data once more, as after every SSLWantWriteError
            self._flush(deadline, "write")
            self._written = self._run(lambda: self._inner.write(data), "write", flushes=False)
        self._flush(deadline, "write")
        count, self._written = self._written, None
        return count

    def shutdown(self) -> Any:
        self._run(self._inner.shutdown, "read")
        return self._sock()

    def _run(self, attempt: Callable[[], T], operation: str, *, flushes: bool = True) -> T:
        deadline = deadline_after(self._virtual.timeout)
        while True:
            try:
                result = attempt()
            except ssl.SSLWantReadError:
                self._flush(deadline, operation)
                self._feed(deadline, operation)
            except ssl.SSLError:
                self._send_alert()
                raise
            else:
                if flushes:
                    self._flush(deadline, operation)
                return result

    def _send_alert(self) -> None:
        try:
            self._flush(deadline_after(1), "write")
        except OSError:
            pass  # what is wrong is said already

    # Writing

    def _flush(self, deadline: float | None, operation: str) -> None:
        """Send what is encrypted.

        Raises:
            SSLWantWriteError: the socket does not wait, and there is no room.
            TimeoutError: it waited for too long.
        """
        if not self._outgoing.pending and not self._unsent:
            return
        with self._sending:
            self._unsent += self._outgoing.read()
            while self._unsent:
                try:
                    self._unsent = self._unsent[self._virtual.file.state.write(self._unsent) :]
                except BlockingIOError:
                    if self._virtual.timeout == 0:
                        raise ssl.SSLWantWriteError(
                            ssl.SSL_ERROR_WANT_WRITE, "The operation did not complete (write)"
                        ) from None
                    self._wait(WRITABLE, deadline, operation)

    def _wait(self, events: int, deadline: float | None, operation: str) -> None:
        try:
            self._virtual._wait(events, deadline)
        except TimeoutError:
            raise TimeoutError(f"The {operation} operation timed out") from None

    # Reading

    def _feed(self, deadline: float | None, operation: str) -> None:
        """Read up to the end of a record.

        Raises:
            SSLWantReadError: the socket does not wait, and nothing is there.
            TimeoutError: it waited for too long.
        """
        while True:
            try:
                data = self._virtual.file.state.read(self._virtual.number, self._missing or _HEADER - len(self._record))
            except BlockingIOError:
                if self._virtual.timeout == 0:
                    raise ssl.SSLWantReadError(
                        ssl.SSL_ERROR_WANT_READ, "The operation did not complete (read)"
                    ) from None
                self._wait(READABLE, deadline, operation)
                continue
            if not data:
                self._incoming.write_eof()
                return
            self._incoming.write(data)
            if self._is_complete(data):
                return

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
