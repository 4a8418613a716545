"""Runs the tests of a Django project, `tests/apps/library`, as a person does: by `manage.py test` or pytest."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import nosock
import warm
from support import LIMIT

ROOT = Path(__file__).parent.parent

PROFILES = ("free", "strict", "codex")  # what of sockets the kernel refuses: nothing, or what nosock.py says

MANAGE = ("-W", "error", "manage.py", "test")
PYTEST = ("-m", "pytest", "-W", "error", "--color=no", "-p", "no:cacheprovider", "-p", "no:randomly")

WORKERS = {
    "thread": "worker_class = IpcThread",
    "spawn": "worker_class = IpcProcess",
    "fork": 'worker_class, worker_options = IpcProcess, {"start_method": "fork"}',
}


def with_profile(*values: Any, is_slow: bool = False) -> Any:
    """Return a set of parameters, the last of which is a profile."""
    reason = "nosock.py is for x86-64 and arm64 Linux"
    is_impossible = values[-1] != "free" and platform.system() != "Linux"
    slow = [pytest.mark.slow] if is_slow else []
    return pytest.param(*values, marks=[pytest.mark.skipif(is_impossible, reason=reason), *slow])


def everywhere_but(rare: str) -> pytest.MarkDecorator:
    """Let a test run under each profile, but under a `rare` one by `tox -e slow` alone, as others of its kind do it."""
    return pytest.mark.parametrize("profile", [with_profile(each, is_slow=each == rare) for each in PROFILES])


EACH_WORKER = pytest.mark.parametrize("kind", WORKERS)
PROCESSES = ("spawn", "fork")
EACH_PROCESS = pytest.mark.parametrize("kind", PROCESSES)
EACH_RUNNER = pytest.mark.parametrize("runner", [MANAGE, PYTEST], ids=["manage", "pytest"])

IMPORTS = """
import asyncio
import gc
import os
import threading

import httpx
from books.models import Book
from django.conf import settings
from django.db import connection, connections
from django.test import TestCase, override_settings
from socketless import IpcProcess, IpcThread
from socketless.django import LiveServerTestCase, StaticLiveServerTestCase
from support import LIMIT, nothing_leaks

"""


def sqlite(name: str, **test: Any) -> dict[str, Any]:
    """Return the settings of a database; without a name for tests, that is in memory."""
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{name}.sqlite3", "TEST": test}


IN_MEMORY = {"default": sqlite("real")}
IN_FILES = {
    "default": sqlite("real", NAME="test.sqlite3"),
    "other": sqlite("real_other", NAME="test_other.sqlite3"),
}


class Done(NamedTuple):
    """What a command has printed, and its exit code."""

    text: str
    exit_code: int

    @property
    def summary(self) -> str:
        """The line that says how the tests went, of pytest or of unittest, without the time."""
        found = re.findall(r"^(?:=+ )?(\d+ \w+(?:, \d+ \w+)*) in |^(OK.*|FAILED .*)$", self.text, re.M)
        return "".join(found[-1]) if found else self.text


class Library:
    """A copy of the project in a folder of its own."""

    def __init__(self, folder: Path, databases: Mapping[str, Any] = IN_FILES) -> None:
        self.folder = folder
        self.databases = databases
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "tests" / "apps" / "library", folder, dirs_exist_ok=True, ignore=ignored)
        self.write("pytest.ini", "[pytest]\nDJANGO_SETTINGS_MODULE = library.settings\n")

    def write(self, name: str, text: str) -> None:
        """Write a file of the project."""
        (self.folder / name).write_text(textwrap.dedent(text).lstrip())

    def write_tests(self, text: str, kind: str = "thread", name: str = "test_live.py") -> None:
        """Write tests, in which WORKER is one of that kind."""
        self.write(name, IMPORTS + textwrap.dedent(text).replace("WORKER", WORKERS[kind]))

    def write_tests_of_each(self, text: str, kinds: Iterable[str] = WORKERS) -> None:
        """Write the same tests for several kinds of worker, each in a module of its own, `test_thread.py` and so on."""
        for kind in kinds:
            self.write_tests(text, kind, f"test_{kind}.py")

    def run(self, *arguments: str, profile: str = "free", afresh: bool = False, **env: str) -> Done:
        """Run Python in the project's folder, under a profile of nosock.py.

        Args:
            afresh: start Python for it; by default, it is a fork of a process that has imported Django.
        """
        unwanted = ("PYTEST_ADDOPTS", "PYTHONWARNINGS", "FORCE_COLOR", "CI", "DJANGO_SETTINGS_MODULE")
        kept = {name: value for name, value in os.environ.items() if name not in unwanted}
        path = os.pathsep.join([str(ROOT), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")])
        env = {
            **kept,
            "LIBRARY_DATABASES": json.dumps(self.databases),
            "PYTHONPATH": path.rstrip(os.pathsep),
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
            "PYTEST_PLUGINS": "pytest_django.plugin,socketless.pytest_plugin",
            "COLUMNS": "100",
            **env,
        }
        return (self._start if afresh else self._fork)(arguments, None if profile == "free" else profile, env)

    def _start(self, arguments: tuple[str, ...], profile: str | None, env: dict[str, str]) -> Done:
        launcher = [sys.executable] if profile is None else [sys.executable, nosock.__file__, profile, sys.executable]
        done = subprocess.run(
            [*launcher, *arguments],
            cwd=self.folder,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=4 * LIMIT,
        )
        return Done(done.stdout, done.returncode)

    def _fork(self, arguments: tuple[str, ...], profile: str | None, env: dict[str, str]) -> Done:
        with tempfile.NamedTemporaryFile() as output:
            streams = [os.devnull, output.name, output.name]
            django = warm.start("tests of Django")
            exit_code = django.run(arguments, profile, streams, self.folder, env, 4 * LIMIT)
            return Done(output.read().decode(), exit_code)

    def passes(self, count: int, *arguments: str, profile: str = "free", afresh: bool = False, **env: str) -> Done:
        """Assert that so many tests run, and pass."""
        done = self.run(*arguments, profile=profile, afresh=afresh, **env)
        passed = "OK" if "manage.py" in arguments else f"{count} passed"
        assert (done.summary, done.exit_code) == (passed, 0), done.text
        assert "manage.py" not in arguments or f"Ran {count} test" in done.text, done.text
        return done

    @property
    def leftovers(self) -> set[str]:
        """The databases that are files now."""
        return {path.name for path in self.folder.glob("*.sqlite3*")}
