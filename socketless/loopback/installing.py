"""What `install()` does."""

from __future__ import annotations

import os

from socketless.loopback import folder, handover, places, polling, socket_module
from socketless.loopback.patches import Patches

_is_watching_forks = False


def install(patches: Patches) -> None:
    """Make sockets virtual."""
    folder.open_folder()
    _watch_forks()
    socket_module.patch(patches)
    polling.patch(patches)


def _watch_forks() -> None:
    global _is_watching_forks
    if not _is_watching_forks:
        _is_watching_forks = True
        os.register_at_fork(after_in_parent=places.share_all, after_in_child=_in_child)


def _in_child() -> None:
    places.share_all()
    handover.forget_all()
