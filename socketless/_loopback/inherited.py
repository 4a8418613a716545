"""Numbers of virtual sockets that this process has from its parent by exec: their FIFOs say what they are."""

from __future__ import annotations

import stat
from _socket import AF_INET, AF_INET6, AF_UNIX, SOCK_DGRAM, SOCK_SEQPACKET, SOCK_STREAM
from contextlib import suppress

from socketless._loopback import folder, openfile, places
from socketless._loopback.addresses import Place
from socketless._loopback.datagram import Datagram
from socketless._loopback.idle import Idle
from socketless._loopback.openfile import OpenFile
from socketless._loopback.places import Bound
from socketless._loopback.system import os

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_KINDS = {
    "tcp": SOCK_STREAM,
    "udp": SOCK_DGRAM,
    "unix-stream": SOCK_STREAM,
    "unix-dgram": SOCK_DGRAM,
    "unix-seqpacket": SOCK_SEQPACKET,
}


def find(number: int) -> OpenFile | None:
    """Return which virtual socket a number stands for, of this process or bound by another one; `None`: none."""
    return openfile.find(number) or _restore(number)


def _restore(number: int) -> OpenFile | None:
    path = _path_of(number)
    if path is None:
        return None
    transport, port, text = path.split(os.sep)[-3:]
    name = places.Name.parse(transport, text)
    if transport.startswith("unix"):
        family = AF_UNIX
    else:
        family = AF_INET6 if ":" in name.host else AF_INET
    # An abstract name is what it is filed under.
    path_or_name = bytes.fromhex(port[1:]) if port.startswith("@") else name.path
    place = Place(transport, port, name.host, family, path_or_name)
    bound = Bound(place, name, path)
    bound.is_shared = True
    return _file(number, family, _KINDS[transport], bound)


def _path_of(number: int) -> str | None:
    with suppress(OSError):
        path = os.readlink(f"/proc/self/fd/{number}")
        if path.count(",") == 2 and stat.S_ISFIFO(os.fstat(number).st_mode):
            return path if path.startswith(folder.open_folder() + os.sep) else None
    return None


def _file(number: int, family: int, kind: int, bound: Bound) -> OpenFile:
    file = OpenFile(family, kind, 0)
    file.bound = bound
    if isinstance(file.state, Datagram):
        for made in list(file.numbers):
            file.numbers.discard(made)
            os.close(made)
        os.close(file.state.bind(bound))
        file.adopt(number)
        return file
    assert isinstance(file.state, Idle)
    file.state.bound = bound
    if bound.is_listening:
        became = file.state.listen(bound.backlog)
        os.close(became.read_fd)
        file.adopt(number, became.state)
    else:
        file.adopt(number)
    return file
