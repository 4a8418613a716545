"""The files of what a worker prints and logs, which need no room for long, nor any that there is not."""

from __future__ import annotations

import io
import os
import sys
import tempfile
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from apps.room_app import MIB
from socketless import IpcProcess, IpcTransport
from socketless import _genuine as genuine
from socketless._host import files
from support import nothing_leaks


def no_memory(patch: pytest.MonkeyPatch) -> None:
    patch.delattr(genuine.os, "memfd_create")


def memory_refused(patch: pytest.MonkeyPatch) -> None:
    def refuse(name: str) -> int:
        raise PermissionError

    patch.setattr(genuine.os, "memfd_create", refuse)


@pytest.mark.parametrize("start_method", ["spawn", "fork"])
@pytest.mark.parametrize("prepare", [lambda patch: None, no_memory, memory_refused])
def test_room(
    prepare: Callable[[pytest.MonkeyPatch], None],
    start_method: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What has been seen takes no more room, in memory or on disk; none of it is lost."""
    prepare(monkeypatch)
    out, err = io.StringIO(), io.StringIO()
    with (
        nothing_leaks(),
        IpcProcess("apps.room_app:app", start_method=start_method) as worker,
        httpx.Client(transport=IpcTransport(worker), base_url="http://testserver") as client,
    ):
        monkeypatch.setattr(sys, "stdout", out)
        monkeypatch.setattr(sys, "stderr", err)
        for _ in range(8):
            client.get("/")
        stats = [os.fstat(fd) for fd in worker._proc.output.fileno()]
    monkeypatch.undo()
    assert out.getvalue() == "x" * 8 * MIB
    assert err.getvalue() == "y" * 8 * MIB
    assert [len(record.getMessage()) for record in caplog.records if record.name == "app"] == [MIB // 16] * 128
    assert all(stat.st_size >= 8 * MIB for stat in stats)
    assert all(stat.st_blocks * 512 < 2 * MIB for stat in stats)


def test_tail_beside_a_hole() -> None:
    """The last bytes stay, for an error to show."""
    file = files.NamelessFile(keep=10)
    os.write(file.fileno(), b"a" * 3 * MIB)
    while file.read(MIB):
        pass
    os.write(file.fileno(), b"bc")
    assert file.tail() == (b"a" * 8 + b"bc", True)
    assert (file.read_until(3 * MIB, 10), file.read_until(3 * MIB + 1, 10), file.read(10)) == (b"", b"b", b"c")
    file.close()


def test_emptied_by_the_app() -> None:
    """What is printed after a file was emptied, as by opening /dev/stdout, is read."""
    file = files.NamelessFile(keep=10)
    os.write(file.fileno(), b"before")
    assert file.read(10) == b"before"
    with open(f"/proc/self/fd/{file.fileno()}", "wb") as again:
        again.write(b"once")
    assert (file.read(10), file.read(10)) == (b"once", b"")
    file.close()


@pytest.mark.one_in(2, "start_method", "folder")
@pytest.mark.parametrize("start_method", ["spawn", "fork"])
@pytest.mark.parametrize("folder", ["/nowhere", "/dev/null", "/proc", None])
def test_no_room_at_all(
    folder: str | None, start_method: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where no file can be had, requests are answered all the same; once, it is said that what is printed is lost."""

    def refuse() -> str:
        raise FileNotFoundError

    no_memory(monkeypatch)
    if folder is None:
        monkeypatch.setattr(tempfile, "gettempdir", refuse)
    else:
        monkeypatch.setattr(tempfile, "tempdir", folder)
    files._say_that_it_is_lost.cache_clear()
    with nothing_leaks():
        for _ in range(2):
            with (
                IpcProcess("apps.room_app:app", start_method=start_method) as worker,
                httpx.Client(transport=IpcTransport(worker), base_url="http://testserver") as client,
            ):
                assert client.get("/").status_code == 200
    assert [record.getMessage() for record in caplog.records if record.name == "socketless"] == [
        "the output of workers is lost: memfd_create() is refused, and there is no room in "
        f"{folder or 'any temporary folder'}; set TMPDIR to another folder"
    ]


def test_full_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder in which there is no room counts as none, and so does a limit on the size of files."""
    resource = pytest.importorskip("resource")
    import signal

    no_memory(monkeypatch)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        file = files.NamelessFile()
        assert os.write(file.fileno(), b"lost") == 4
        assert file.read(10) == b""
        file.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
