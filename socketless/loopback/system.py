"""The modules `os` and `fcntl` as they were when this was imported.

Tests put others in their place: pyfakefs has a file system of its own, blockbuster finds what blocks an event loop.
None of that is meant for what stands for the kernel here, which never waits and keeps its files in a folder of its own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import fcntl as fcntl
    import os as os
else:
    from types import SimpleNamespace

    def _copy(name):
        return SimpleNamespace(**vars(__import__(name)))

    fcntl, os = _copy("fcntl"), _copy("os")


def exists(path: str) -> bool:
    """Whether there is something at a path."""
    try:
        os.stat(path)
    except OSError:
        return False
    return True


def read_file(path: str) -> bytes:
    """Return what is in a file."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        pieces = []
        while piece := os.read(fd, 1 << 20):
            pieces.append(piece)
        return b"".join(pieces)
    finally:
        os.close(fd)


def write_file(path: str, data: bytes | bytearray) -> None:
    """Put it into a new file."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
    finally:
        os.close(fd)
