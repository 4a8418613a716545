"""Small projects, run as a person runs them, where sockets are allowed and where they are refused."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from test_readme import FILES

import nosock
from socketless import sandbox
from support import LIMIT, sockets_are_refused

# What decides how a command of the outer pytest behaves, and must not reach the inner one.
_UNWANTED = (
    *("PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTEST_PLUGINS", "PYTEST_XDIST_WORKER", "PYTHONPATH"),
    *("PYTHONWARNINGS", "FORCE_COLOR", "PY_COLORS", "CI", "BUILD_NUMBER", "DJANGO_SETTINGS_MODULE"),
)

_has_filter = platform.system() == "Linux" and platform.machine() in ("x86_64", "aarch64")
_CAN_RUN = {
    "open": sandbox.wakeup_refusal() is None,
    "codex": _has_filter and not sockets_are_refused(),
    "strict": _has_filter,
}
REFUSED = {"codex": "send()", "strict": "socketpair()"}  # what the event loops need first


def under(*profiles: str) -> list[object]:
    """Return the parameters for a test that runs projects under these profiles; `open` is none."""
    return [
        pytest.param(profile, marks=pytest.mark.skipif(not _CAN_RUN[profile], reason=f"not {profile!r} here"))
        for profile in profiles
    ]


everywhere = pytest.mark.parametrize("profile", under("open", "codex", "strict"))
where_refused = pytest.mark.parametrize("profile", under("codex", "strict"))


class Seen(NamedTuple):
    """What a command has printed, and its exit code."""

    text: str
    exit_code: int

    @property
    def header(self) -> list[str]:
        """The lines of pytest's header that are of socketless."""
        return re.findall(r"^socketless: .*$", self.text, re.M)

    @property
    def end(self) -> str:
        """The line in which pytest says how many tests have passed and failed, without the time."""
        *_, (counts, _) = re.findall(r"^=+ (.*?) in [\d.]+s( \([\d:]+\))? =+$", self.text, re.M) or [("", "")]
        return str(counts)

    def part(self, title: str) -> str:
        """Return a part of pytest's report, from its title to the next."""
        found = re.search(rf"^=+ {title} =+\n(.*?)(?=^=+ .* =+$)", self.text, re.M | re.S)
        assert found is not None, self.text
        return found[1]


def header(profile: str) -> list[str]:
    """Return the line of pytest's header that a profile gives."""
    if profile == "open":
        return []
    refusal = f"this sandbox refuses {REFUSED[profile]}: Operation not permitted"
    return [f"socketless: event loops wake by a pipe ({refusal})"]


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())


def write_example(folder: Path, name: str) -> Path:
    """Write an example of README.rst into a folder, and return that."""
    files = {path.removeprefix(f"{name}/"): text for path, text in FILES.items() if path.startswith(f"{name}/")}
    write(folder, files)
    return folder


def command_line(profile: str, *args: str) -> list[str]:
    """Return the command that runs Python with `args` under a profile."""
    filtered = [] if profile == "open" else [sys.executable, nosock.__file__, profile]
    return [*filtered, sys.executable, *args]


def environment(**env: str | None) -> dict[str, str]:
    """Return the environment of a project; `None` leaves a variable out."""
    inherited = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    wanted = {**inherited, "COLUMNS": "100", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **env}
    return {name: value for name, value in wanted.items() if value is not None}


def run(folder: Path, profile: str, *args: str, **env: str | None) -> Seen:
    """Run Python with `args` in a folder, under a profile."""
    done = subprocess.run(
        command_line(profile, *args),
        cwd=folder,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=4 * LIMIT,
    )
    return Seen(done.stdout.replace(str(folder), "FOLDER"), done.returncode)


def run_pytest(folder: Path, profile: str, *options: str, **env: str | None) -> Seen:
    """Run pytest in a folder, with the plugins that it finds by itself."""
    return run(folder, profile, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", *options, **env)
