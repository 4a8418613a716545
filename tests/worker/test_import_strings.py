"""Import strings that are wrong: what the error says to write instead."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from socketless._wire.import_strings import LoadError, load_path, parse_path
from support import without_path

FORMS = "'package.module:attribute' or 'package.module:factory()'"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with modules, which is the current one and on sys.path."""
    for name in ("good.py", "pkg/__init__.py", "pkg/web.py", "mysite/wsgi.py", "src/inner.py", "src/deep/__init__.py"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("app = create_app = print\n" if path.name in ("good.py", "web.py") else "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setattr(sys, "modules", sys.modules.copy())
    return tmp_path


@pytest.mark.parametrize(
    ("path", "meant"),
    [
        ("good.py:app", "'good:app'"),
        ("good.py", "'good:app'"),
        ("./good.py:create_app()", "'good:create_app()'"),
        ("pkg/web.py:app", "'pkg.web:app'"),
        ("pkg/web", "'pkg.web:app'"),
        ("{folder}/src/inner.py", "'src.inner:app'"),
        ("/nowhere/at/all/inner.py", "'inner:app'"),
        ("good.app", "'good:app'"),
        ("good.create_app()", "'good:create_app()'"),
        ("pkg.web", "'pkg.web:app'"),
        ("mysite.wsgi", "'mysite.wsgi:application'"),
        ("good", "'good:app'"),
        (" good:app", "'good:app'"),
        ("good-app:app", FORMS),
        (":app", FORMS),
        ("", FORMS),
    ],
)
def test_no_import_string(folder: Path, path: str, meant: str) -> None:
    """Of a file, a module alone, or a name with dots only, the error says which import string that is."""
    path = path.format(folder=folder)
    with pytest.raises(LoadError) as caught:
        parse_path(path)
    assert str(caught.value) == f"{path!r} is not an import string; write {meant}"


@pytest.mark.parametrize(
    ("path", "meant"), [("good:", "'good:app'"), ("good::app", "'good:app'"), ("good:create_app(config)", FORMS)]
)
def test_no_attribute_after_the_colon(path: str, meant: str) -> None:
    """Where the module is one, and no attribute follows, the error is about that."""
    with pytest.raises(LoadError) as caught:
        parse_path(path)
    assert str(caught.value) == (
        f"{path!r}: what follows the colon must be a name, a dotted name, or a call of one with literal arguments; "
        f"write {meant}"
    )


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("good:ap", "module 'good' has no attribute 'ap'. Did you mean: 'app'?"),
        ("good:application", "module 'good' has no attribute 'application'. Did you mean: 'app'?"),
        ("good:server", "module 'good' has no attribute 'server'"),
        ("god:app", "there is no module 'god' on sys.path. Did you mean: 'good'?"),
        ("nowhere:app", "there is no module 'nowhere' on sys.path"),
        ("groove:app", "there is no module 'groove' on sys.path"),
        ("pkg.wbe:app", "there is no module 'pkg.wbe'. Did you mean: 'pkg.web'?"),
        ("pkg.nothing:app", "there is no module 'pkg.nothing'"),
        ("good.app:app", "'good' is a module, and no package; did you mean 'good:app'?"),
        (
            "inner:app",
            "there is no module 'inner' on sys.path; but there is one in 'src': set PYTHONPATH=src, or, for pytest, "
            "write pythonpath = src in its ini file",
        ),
        (
            "deep.web:app",
            "there is no module 'deep' on sys.path; but there is one in 'src': set PYTHONPATH=src, or, for pytest, "
            "write pythonpath = src in its ini file",
        ),
    ],
)
def test_not_there(folder: Path, path: str, reason: str) -> None:
    """What cannot be imported is named, with what is near it in name, or where else it is."""
    with pytest.raises(LoadError) as caught:
        load_path(path)
    assert without_path(str(caught.value)) == f"cannot import {path!r}: {reason}"


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        (
            "flask_app:app()",
            "missing a required argument: 'environ'; an app is named without the call: 'flask_app:app'",
        ),
        ("flask_app:create_app()", "missing a required argument: 'config'"),
        ("flask_app:create_app('test', 3)", "too many positional arguments"),
        ("flask_app:create_app(confg='test')", "missing a required argument: 'config'"),
    ],
)
def test_call_that_cannot_be(folder: Path, path: str, reason: str) -> None:
    """A call that does not fit the factory, or is one of the app itself, is refused before it is made."""
    (folder / "flask_app.py").write_text("def app(environ, start_response): ...\ndef create_app(config): ...\n")
    with pytest.raises(LoadError) as caught:
        load_path(path)
    assert str(caught.value) == f"cannot call {path!r}: {reason}"


def test_where_it_was_looked_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the first entries of sys.path that are one's own; without any it says that there are none."""
    (folder / "other").mkdir()
    installed = [entry for entry in sys.path if entry.startswith(sys.prefix) or entry.startswith(sys.base_prefix)]
    monkeypatch.setattr(sys, "path", [installed[0], "", "other", *installed])
    with pytest.raises(LoadError) as caught:
        load_path("nowhere:app")
    assert str(caught.value) == (
        "cannot import 'nowhere:app': there is no module 'nowhere' on sys.path, which begins with "
        f"{str(folder)!r}, {str(folder / 'other')!r}"
    )
    monkeypatch.setattr(sys, "path", installed)
    with pytest.raises(LoadError) as caught:
        load_path("inner:app")
    assert "'inner' on sys.path, which has only what is installed; but there is one in 'src':" in str(caught.value)
    with pytest.raises(LoadError, match=r"there is one in '\.': set PYTHONPATH=\., or, for pytest, write pythonpath"):
        load_path("good:app")
    monkeypatch.chdir(folder / "other")
    with pytest.raises(LoadError, match=r"there is one in '\.\.': set PYTHONPATH=\.\., or"):
        load_path("good:app")


def test_folder_that_may_not_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the current folder has gone, the errors are the same, without what is near."""
    gone = folder / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    gone.rmdir()
    with pytest.raises(LoadError, match="^'good.py' is not an import string; write 'good:app'$"):
        parse_path("good.py")
    with pytest.raises(LoadError, match="^cannot import 'nowhere:app': there is no module 'nowhere' on sys.path"):
        load_path("nowhere:app")
