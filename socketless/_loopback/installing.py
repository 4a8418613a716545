"""What `install()` does."""

from __future__ import annotations

import atexit
import errno
import socket
from collections.abc import Collection

from socketless._loopback import (
    children,
    executing,
    families,
    folder,
    handover,
    methods,
    openfile,
    places,
    polling,
    socket_module,
    wakeups,
)
from socketless._loopback.late_patches import LatePatches
from socketless._loopback.patches import Patches
from socketless._loopback.state import count_fork
from socketless._loopback.stream import not_forking
from socketless._loopback.system import os

_is_watching = False


def switch_on(names: Collection[str] | None, *, alone: bool) -> None:
    """Make new sockets virtual."""
    if socket.socket.__module__ != "socket":
        who = socket.socket.__module__
        raise OSError(errno.ENOTSUP, f"sockets cannot be virtual: {who} has replaced socket.socket")
    families.choose(names)
    if alone:
        families.forbid_real()
    folder.open_folder()
    children.add_to_environment()
    _watch()


def switch_off() -> None:
    """Make new sockets real."""
    families.choose_none()
    children.remove_from_environment()


def is_anything_open() -> bool:
    """Whether there is a virtual socket still."""
    return methods.is_any_open() or openfile.is_any_open()


def patch(patches: Patches) -> LatePatches:
    """Let everything know of virtual sockets; return what has to be closed before the patches are undone."""
    for module in (socket_module, polling, wakeups, executing):
        module.patch(patches)
    return LatePatches(patches)


def restore(patches: Patches, late: LatePatches) -> None:
    """Put everything back."""
    late.close()
    patches.undo()


def _watch() -> None:
    global _is_watching
    if not _is_watching:
        _is_watching = True
        atexit.register(handover.finish_all)
        os.register_at_fork(before=_before_fork, after_in_parent=not_forking.release, after_in_child=_in_child)


def _before_fork() -> None:
    not_forking.acquire()
    places.share_all()
    count_fork()


def _in_child() -> None:
    not_forking.release()
    openfile.after_fork_in_child()
    handover.forget_all()
