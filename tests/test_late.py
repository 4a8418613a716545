"""What is done when a module is imported."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from socketless._import_watch import Watch


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in ("watched_module", "other_module"):
        sys.modules.pop(name, None)


def test_imports(folder: Path) -> None:
    """Each import of the module is noticed when it is complete, until the end of the watch; other modules are not."""
    seen: list[int] = []
    (folder / "other_module.py").write_text("")
    (folder / "watched_module.py").write_text("import other_module\nvalue = 1")
    watch = Watch("watched_module", lambda: seen.append(sys.modules["watched_module"].value))
    try:
        importlib.import_module("other_module")
        assert seen == []
        module = importlib.import_module("watched_module")
        assert seen == [1]
        assert "exec_module" not in vars(module.__loader__)
        del sys.modules["watched_module"]
        importlib.import_module("watched_module")
        assert seen == [1, 1]
    finally:
        watch.close()
    watch.close()
    del sys.modules["watched_module"]
    importlib.import_module("watched_module")
    assert seen == [1, 1]
    assert watch not in sys.meta_path


def test_several_watches(folder: Path) -> None:
    """Each of two that watch the same module notices its import."""
    seen: list[str] = []
    (folder / "watched_module.py").write_text("")
    watches = [Watch("watched_module", lambda name=name: seen.append(name)) for name in ("one", "other")]  # type: ignore[misc]
    try:
        module = importlib.import_module("watched_module")
        assert sorted(seen) == ["one", "other"]
        assert module.__loader__ is module.__spec__.loader
        assert "exec_module" not in vars(module.__loader__)
    finally:
        for watch in watches:
            watch.close()


def test_import_that_fails(folder: Path) -> None:
    """A module that is not there, or that raises, is not noticed; the next time it may be."""
    seen: list[str] = []
    watch = Watch("watched_module", lambda: seen.append("imported"))
    try:
        with pytest.raises(ModuleNotFoundError, match="watched_module"):
            importlib.import_module("watched_module")
        (folder / "watched_module.py").write_text("1 / 0")
        importlib.invalidate_caches()
        with pytest.raises(ZeroDivisionError):
            importlib.import_module("watched_module")
        assert seen == []
        (folder / "watched_module.py").write_text("'another length'")
        importlib.import_module("watched_module")
        assert seen == ["imported"]
    finally:
        watch.close()
