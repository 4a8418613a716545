"""What this package asks of the file system, and where it takes `os`, `fcntl` and the clock from.

They are the system's own, whatever tests put in their place: pyfakefs has a file system of its own, blockbuster finds
what blocks an event loop, freezegun stops the clocks. None of that is meant for what stands for the kernel here.
"""

from __future__ import annotations

from socketless._genuine import fcntl, monotonic, os

__all__ = ["exists", "fcntl", "monotonic", "os", "read_file", "write_file"]


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
