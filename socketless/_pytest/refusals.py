"""What to say of a test that fails because its sandbox refuses a socket, also where a library has hidden that."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from functools import cache

from socketless import sandbox

__all__ = ["explain", "forget"]

_REFUSED = {errno.EPERM, errno.EACCES, errno.ENOSYS, errno.EAFNOSUPPORT, errno.ENETUNREACH, errno.EADDRNOTAVAIL}
_MODULES = ("asyncio.", "socket", "ssl", "trio.")  # where a socket is asked for; by the names of modules

_ELSEWHERE = """\
This sandbox refuses sockets to anything but Python processes on this machine:
    {calls}
The app under test needs no socket with: socketless_app = package.module:app
In place of other servers, use mocks, such as httpx.MockTransport or responses.
More: socketless docs rescue"""
_LOOPBACK = """\
This sandbox refuses {refusal}, {what}.
Servers and clients on this machine work without sockets with: socketless_loopback = auto
or, from outside pytest, with: socketless rescue python -m pytest
More: socketless docs rescue"""
_NO_LINUX = """\
This sandbox refuses {refusal}, {what}.
The app under test needs no socket with: socketless_app = package.module:app"""
_WHAT = {"inet": "for TCP over 127.0.0.1", "unix": "for UNIX sockets"}


def forget() -> None:
    """Begin a test where loopback is virtual: what was refused before is none of its business."""
    sys.modules["socketless._loopback.real"].refused.clear()


def explain(error: BaseException) -> str | None:
    """Return what to do about the refused socket that may be why a test has failed; `None`: there is none."""
    real = sys.modules.get("socketless._loopback.real")
    if real is not None and real.refused:
        return _ELSEWHERE.format(calls="\n    ".join(dict.fromkeys(real.refused)))
    if not any(map(_is_about_sockets, _with_causes(error))):
        return None
    for family, refusal in _refusals().items():
        text = _LOOPBACK if sys.platform == "linux" else _NO_LINUX
        return text.format(refusal=refusal, what=_WHAT[family])
    return None


@cache
def _refusals() -> dict[str, str]:
    # Where loopback is virtual, nothing is found.
    return sandbox.loopback_refusals()


def _with_causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    left = [error]
    while left:
        one = left.pop()
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            others = [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
            left += [other for other in others if isinstance(other, BaseException)]


def _is_about_sockets(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in _REFUSED | {errno.ECONNREFUSED}:
        return True
    traceback = error.__traceback__
    while (
        traceback is not None
    ):  # as the IndexError of who takes the first socket of a server of asyncio, which has none
        if f"{traceback.tb_frame.f_globals.get('__name__')}.".startswith(_MODULES):
            return True
        traceback = traceback.tb_next
    return False
