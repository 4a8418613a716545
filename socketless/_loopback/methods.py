"""What `socket.socket` inherits from while loopback is virtual.

    class socket(_socket.socket)  becomes  class socket(Methods, _socket.socket)

Its `__bases__` are what changes, so the class stays the one that everybody has imported, subclassed and asks
`isinstance()` about, and the code of CPython's own `socket.py` goes on to run: `accept()`, `makefile()`, `dup()`,
`sendfile()`, `detach()`, `with`, `repr()`. A virtual socket is an object that C's own `__init__` was never called for.
What is virtual about it is in a table, since objects of the class have no room for more.
"""

from __future__ import annotations

import _socket
import errno
import stat
import sys
import warnings
from collections.abc import Callable
from operator import index
from threading import TIMEOUT_MAX
from typing import Any

from socketless._loopback import arguments, inherited, late_patches, real
from socketless._loopback import virtual as virtuals
from socketless._loopback.pipes import MARK, failure
from socketless._loopback.stream import Stream
from socketless._loopback.system import os
from socketless._loopback.virtual import Virtual
from socketless._loopback.waiting import ElsewhereError

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these

_virtuals: dict[int, Virtual] = {}  # by the id() of its socket object, which removes it when it dies


def is_any_open() -> bool:
    """Whether there is a virtual socket object that is not closed."""
    return any(not virtual.is_closed for virtual in list(_virtuals.values()))


def virtual_of(sock: object) -> Virtual | None:
    """Return what is virtual of a socket object; `None`: it is a real one."""
    return _virtuals.get(id(sock))


def _either(name: str) -> Callable[..., Any]:
    """Return a method that is the virtual one for virtual sockets, and `_socket.socket`'s for the others."""
    of_virtual, of_real = getattr(Virtual, name), getattr(_socket.socket, name)

    def method(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        virtual = _virtuals.get(id(self))
        if virtual is None:
            return of_real(self, *args, **kwargs)
        return of_virtual(virtual, *args, **kwargs)

    return _named(method, name)


def _using(name: str) -> Callable[..., Any]:
    """Return such a method for what uses descriptors: no other thread closes them meanwhile."""
    of_virtual, of_real = getattr(Virtual, name), getattr(_socket.socket, name)

    def method(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        virtual = _virtuals.get(id(self))
        if virtual is None:
            return of_real(self, *args, **kwargs)
        file = virtual.file
        users = file.users
        users.append(None)  # as file.enter() and leave() do, which would cost a call each
        try:
            return of_virtual(virtual, *args, **kwargs)
        except ElsewhereError as elsewhere:
            try:
                return _go_elsewhere(self, virtual, name, args, elsewhere)
            except OSError as error:
                real.remember_refusal(name, args, error)
                raise
        finally:
            if users:
                users.pop()
            if file.closing and not users:
                file.finish_closing()

    return _named(method, name)


def _audited(name: str, address: Callable[..., Any]) -> Callable[..., Any]:
    """Return a method that uses descriptors and raises its audit event, whose argument is an address."""
    plain = _using(name)

    def method(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        if id(self) in _virtuals and args:
            sys.audit(f"socket.{name}", self, address(*args))
        return plain(self, *args, **kwargs)

    return _named(method, name)


def _named(method: Any, name: str) -> Callable[..., Any]:
    method.__name__ = name
    method.__qualname__ = f"socket.{name}"
    method.__doc__ = getattr(_socket.socket, name).__doc__
    return method  # type: ignore[no-any-return]


def _go_elsewhere(sock: Any, virtual: Virtual, name: str, args: tuple[Any, ...], elsewhere: ElsewhereError) -> Any:
    if elsewhere.nobody_there:
        other, error = real.connect(virtual, *args)
    else:
        other, error = real.create(virtual), None
    real.adopt(sock, virtual, other)
    del _virtuals[id(sock)]
    if error is not None:
        raise error
    return None if elsewhere.nobody_there else getattr(_socket.socket, name)(sock, *args)


def _attribute(name: str) -> property:
    of_real = getattr(_socket.socket, name)

    def get(self: Any) -> Any:
        virtual = _virtuals.get(id(self))
        return of_real.__get__(self) if virtual is None else getattr(virtual, name)

    return property(get, doc=of_real.__doc__)


_recv_into = _using("recv_into")


class Methods:
    """The methods of `_socket.socket`, for virtual sockets and for real ones."""

    __slots__ = ()

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: int | None = None) -> None:
        late_patches.finish()
        _virtuals.pop(id(self), None)
        virtual = _new(family, type, proto) if fileno is None else _existing(fileno, proto)
        if virtual is None:
            if fileno is None:
                real.check_allowed()
            _socket.socket.__init__(self, family, type, proto, fileno)  # type: ignore[arg-type]
        else:
            _virtuals[id(self)] = virtual
            sys.audit("socket.__new__", self, int(family), int(type), proto)

    def __del__(self) -> None:
        virtual = _virtuals.pop(id(self), None) if _virtuals else None  # which is gone once the interpreter ends
        if virtual is None:
            super().__del__()  # type: ignore[misc]
        elif not virtual.is_closed:
            _virtuals[id(self)] = virtual  # its repr() needs it
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            del _virtuals[id(self)]
            virtual.close()

    def fileno(self) -> int:
        virtual = _virtuals.get(id(self))
        if virtual is None:
            return _socket.socket.fileno(self)  # type: ignore[arg-type]
        return virtual.number if virtual.number >= 0 else virtual.fileno()

    def settimeout(self, timeout: float | None, /) -> None:
        virtual = _virtuals.get(id(self))
        if virtual is None:
            _socket.socket.settimeout(self, timeout)  # type: ignore[arg-type]
        elif (timeout is None or (type(timeout) is float and 0 <= timeout <= TIMEOUT_MAX)) and virtual.file.numbers:
            virtual.timeout, virtual.file.blocks = timeout, timeout is None  # as it nearly always is
        else:
            virtual.settimeout(timeout)

    def recv_into(self, buffer: Any, nbytes: int = 0, flags: int = 0) -> int:
        # In one call, unless anything is special: a file by `makefile()` reads a large body by thousands of them.
        virtual = _virtuals.get(id(self))
        if virtual is None or nbytes or flags or type(buffer) is not memoryview or buffer.format != "B":
            return _recv_into(self, buffer, nbytes, flags)  # type: ignore[no-any-return]
        file, number = virtual.file, virtual.number
        calls = file.users  # by another name than in `_using()`: this is none that waits, see `OpenFile.close()`
        calls.append(None)
        try:
            state = file.state
            if type(state) is Stream and not (state.expects_answer or state.reads_no_more) and buffer.strides == (1,):
                count = os.readv(number, [buffer])
                return count if count and buffer[count - 1] != MARK else state.after_reading(number, buffer, count)
        except (BlockingIOError, TypeError):  # it has to wait; or nothing can be put there
            pass
        finally:
            if calls:
                calls.pop()
            if file.closing and not calls:
                file.finish_closing()
        return _recv_into(self, buffer, nbytes, flags)  # type: ignore[no-any-return]

    def connect_ex(self, address: Any, /) -> int:
        if id(self) not in _virtuals:
            return _socket.socket.connect_ex(self, address)  # type: ignore[arg-type]
        try:
            Methods.connect(self, address)  # not a subclass's: SSLSocket's calls this one
        except _socket.gaierror:
            raise
        except TimeoutError as error:
            return error.errno or errno.EWOULDBLOCK
        except OSError as error:
            if error.errno is None:
                raise
            return error.errno
        except (OverflowError, TypeError) as error:
            raise type(error)(str(error).replace("connect(", "connect_ex(", 1)) from None
        return 0

    _accept = _using("_accept")
    bind = _audited("bind", lambda address, *_: address)
    close = _either("close")
    connect = _audited("connect", lambda address, *_: address)
    detach = _either("detach")
    getblocking = _either("getblocking")
    getpeername = _either("getpeername")
    getsockname = _either("getsockname")
    getsockopt = _using("getsockopt")
    gettimeout = _either("gettimeout")
    listen = _using("listen")
    recv = _using("recv")
    recvfrom = _using("recvfrom")
    recvfrom_into = _using("recvfrom_into")
    recvmsg = _using("recvmsg")
    recvmsg_into = _using("recvmsg_into")
    send = _using("send")
    sendall = _using("sendall")
    sendmsg = _audited("sendmsg", lambda buffers, ancdata=(), flags=0, address=None, *_: address)
    sendto = _audited("sendto", lambda *args: args[-1])
    setblocking = _either("setblocking")
    setsockopt = _using("setsockopt")
    shutdown = _using("shutdown")
    family = _attribute("family")
    proto = _attribute("proto")
    timeout = _attribute("timeout")
    type = _attribute("type")


def _new(family: int, kind: int, protocol: int) -> Virtual | None:
    family = _socket.AF_INET if family == -1 else arguments.number(family)
    kind = _socket.SOCK_STREAM if kind == -1 else arguments.number(kind)
    return virtuals.make(family, kind, max(0, arguments.number(protocol)))


def _existing(number: int, protocol: int) -> Virtual | None:
    if hasattr(number, "__index__"):
        number = index(number)
    if not isinstance(number, int) or number < 0:
        return None
    file = inherited.find(number)
    if file is None and not stat.S_ISSOCK(os.fstat(number).st_mode):
        raise failure(errno.ENOTSOCK)  # the kernel might not be asked: sandboxes refuse it before they look
    if file is None:
        return None
    virtual = Virtual(file, number, _socket.getdefaulttimeout())
    if protocol == -1:  # CPython asks the kernel
        virtual.proto = virtual.proto or file.options.protocol
    return virtual
