"""multiprocessing on virtual sockets: its connections know a bare number, and pass numbers on to other processes.

`Pipe()`, `Listener`, `Client` and `Manager` work as they are, once a `Connection` knows that it writes at another
descriptor than the one that it reads from, and once that one, too, goes to a child that is spawned. A fork server is
sent descriptors through a socket, which pipes cannot do: processes of that start method are spawned.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from multiprocessing import reduction
from typing import Any

from socketless._loopback import openfile
from socketless._loopback.methods import virtual_of
from socketless._loopback.openfile import OpenFile
from socketless._loopback.patches import Patches
from socketless._loopback.stream import Stream
from socketless._loopback.system import os
from socketless._loopback.virtual import Virtual

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_ATTRIBUTE = "_socketless_virtual"  # of a Connection, where what is found out once is kept


def patch_connection(module: Any, patches: Patches) -> None:
    """Change multiprocessing.connection."""
    owner = module.Connection
    patches.set(owner, "_send", _send_with(owner._send))
    patches.set(owner, "_recv", _recv_with(owner._recv))
    patches.set(owner, "_close", _close_with(owner._close))
    reducers = reduction.ForkingPickler._extra_reducers  # type: ignore[attr-defined]
    patches.set_item(reducers, owner, _reduce_connection_with(reducers[owner]))


def patch_reduction(module: Any, patches: Patches) -> None:
    """Change multiprocessing.reduction."""
    reducers = module.ForkingPickler._extra_reducers
    patches.set_item(reducers, socket.socket, _reduce_socket_with(reducers[socket.socket]))


def patch_fork_server(module: Any, patches: Patches) -> None:
    """Change multiprocessing.popen_forkserver."""
    from multiprocessing.popen_spawn_posix import Popen

    patches.set(module, "Popen", Popen)


def _virtual(connection: Any) -> Virtual | None:
    """Return the virtual socket of a Connection; `None`: it has a pipe, or a real socket."""
    if _ATTRIBUTE not in vars(connection):
        number = connection.fileno()
        file = openfile.find(number)
        setattr(connection, _ATTRIBUTE, None if file is None else Virtual(file, number))
    virtual: Virtual | None = getattr(connection, _ATTRIBUTE)
    return virtual


def _send_with(original: Callable[..., None]) -> Callable[..., None]:
    def _send(self: Any, buf: Any, *write: Any) -> None:
        virtual = _virtual(self)
        if virtual is None:
            original(self, buf, *write)
        else:
            with virtual.using():
                virtual.sendall(buf)

    return _send


def _recv_with(original: Callable[..., Any]) -> Callable[..., Any]:
    def _recv(self: Any, size: int, *read: Any) -> Any:
        virtual = _virtual(self)
        if virtual is None:
            return original(self, size, *read)
        with virtual.using():
            return original(self, size, lambda _, count: virtual.recv(count))

    return _recv


def _close_with(original: Callable[..., None]) -> Callable[..., None]:
    def _close(self: Any, *close: Any) -> None:
        virtual = _virtual(self)
        if virtual is None:
            original(self, *close)
        else:
            virtual.close()

    return _close


# What a child that is spawned needs of a socket

_Reduced = tuple[Callable[..., Any], tuple[Any, ...]]


def _reduce_connection_with(original: Callable[[Any], _Reduced]) -> Callable[[Any], _Reduced]:
    def reduce(connection: Any) -> _Reduced:
        virtual = _virtual(connection)
        if virtual is None:
            return original(connection)
        return _rebuild_connection, (_packed(virtual), connection.readable, connection.writable)

    return reduce


def _reduce_socket_with(original: Callable[[Any], _Reduced]) -> Callable[[Any], _Reduced]:
    def reduce(sock: Any) -> _Reduced:
        virtual = virtual_of(sock)
        if virtual is None:
            return original(sock)
        if not isinstance(virtual.file.state, Stream):
            virtual.file.is_passed_on()
            return original(sock)  # a listener's number is enough, see inherited.py
        return _rebuild_socket, (_packed(virtual),)

    return reduce


def _packed(virtual: Virtual) -> tuple[Any, ...]:
    file, state = virtual.file, virtual.file.state
    assert isinstance(state, Stream)
    state.share()
    ends = reduction.DupFd(virtual.number), reduction.DupFd(state.write_fd)
    return (*ends, file.family, file.kind, file.protocol, state.local, state.peer)


def _unpacked(packed: tuple[Any, ...]) -> tuple[OpenFile, int]:
    reads, writes, family, kind, protocol, local, peer = packed
    number, write_fd = reads.detach(), writes.detach()
    for fd in (number, write_fd):
        os.set_inheritable(fd, False)
    file = OpenFile(family, kind, protocol, Stream(family, write_fd, local, peer))
    file.state.share()
    return file, file.adopt(number)


def _rebuild_connection(packed: tuple[Any, ...], readable: bool, writable: bool) -> Any:
    from multiprocessing.connection import Connection

    return Connection(_unpacked(packed)[1], readable, writable)


def _rebuild_socket(packed: tuple[Any, ...]) -> Any:
    file, number = _unpacked(packed)
    return socket.socket(file.family, file.kind, file.protocol, fileno=number)
