"""Small projects, run as a person runs them, where sockets are allowed and where they are refused."""

from __future__ import annotations

import os
import platform
import re
import struct
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

import nosock
import warm
from documents import EXAMPLES
from socketless import sandbox
from support import LIMIT, no_plugins

# What decides how a command of the outer pytest behaves, and must not reach the inner one.
_UNWANTED = (
    *("PYTEST_ADDOPTS", "PYTEST_DISABLE_PLUGIN_AUTOLOAD", "PYTEST_PLUGINS", "PYTEST_XDIST_WORKER", "PYTHONPATH"),
    *("PYTHONWARNINGS", "NO_COLOR", "FORCE_COLOR", "PY_COLORS", "TTY_COMPATIBLE", "CI", "BUILD_NUMBER"),
    *("DJANGO_SETTINGS_MODULE", "SOCKETLESS_LOOPBACK", "SOCKETLESS_LOOPBACK_FAMILIES"),
)
# A width for the reports that are asserted in full; no output is late, and no module older than its file.
_OF_PROJECTS = {"COLUMNS": "100", "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}

MORE = "socketless: for more, run 'socketless docs rescue'"  # the last line of pytest's header about what is rescued
PROFILES = ("none", "codex", "strict")  # `none` is that of no profile: nothing is refused
REFUSED = {"codex": "send()", "strict": "socketpair()"}  # what the event loops need first
REFUSED_TO_UNIX = {"codex": "bind()", "strict": "socket()"}  # what UNIX sockets need first

everywhere = pytest.mark.parametrize("profile", PROFILES)


def everywhere_but(rare: str) -> pytest.MarkDecorator:
    """Let a test run under each profile, but under a `rare` one by `tox -e slow` alone, as others of its kind do it."""
    marks = {rare: pytest.mark.slow}
    return pytest.mark.parametrize("profile", [pytest.param(each, marks=marks.get(each, ())) for each in PROFILES])


where_refused = pytest.mark.parametrize("profile", ["codex", "strict"])


_REFUSED_HERE = sandbox.wakeup_refusal()  # asked when this is imported: some tests make sockets virtual


@cache
def _impossible(profile: str) -> str | None:
    """Return why nothing can run under a profile here."""
    # Filters add up: what is refused to these tests already, none can allow.
    refuses_send = profile.startswith("codex") and profile != "codex-proxy"
    possible = [None, "send(): Operation not permitted"] if refuses_send else [None]
    if _REFUSED_HERE not in possible and not profile.startswith(("strict", "fatal")):
        return f"refused here already: {_REFUSED_HERE}"
    if profile == "none":
        return None
    try:
        nosock.architecture(platform.system(), platform.machine(), 8 * struct.calcsize("P"))
    except nosock.UnsupportedError as error:
        return str(error)
    return None


def under(profile: str) -> list[str]:
    """Return what comes before a command to run it under a profile of nosock.py, or `none`.

    Skips the test where this is not possible.
    """
    reason = _impossible(profile)
    if reason is not None:
        pytest.skip(f"not under {profile!r}: {reason}")
    return [] if profile == "none" else [sys.executable, str(Path(nosock.__file__).resolve()), profile]


def environment(**env: str | None) -> dict[str, str]:
    """Return the environment of a command: this process's and `env`, without what is unwanted or `None`."""
    ours = {name: value for name, value in os.environ.items() if name not in _UNWANTED}
    wanted = {**ours, "PYTEST_ADDOPTS": no_plugins(), **env}
    return {name: value for name, value in wanted.items() if value is not None}


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

    @property
    def summary(self) -> list[str]:
        """The lines of pytest's short summary, without an assertion's details."""
        return [line for line in self.part("short test summary info").splitlines() if not line.startswith(" ")]


def header(profile: str) -> list[str]:
    """Return the lines of pytest's header that a profile gives."""
    if profile == "none":
        return []
    refused = {
        "event loops wake by a pipe": REFUSED[profile],
        "TCP and UDP on loopback are virtual": "socket()",
        "UNIX sockets are virtual": REFUSED_TO_UNIX[profile],
    }
    lines = [
        f"socketless: {what} (this sandbox refuses {call}: Operation not permitted)" for what, call in refused.items()
    ]
    return [*lines, MORE]


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip())


def write_example(folder: Path, name: str) -> Path:
    """Write an example of the documents into a folder, and return that."""
    files = {path.removeprefix(f"{name}/"): text for path, text in EXAMPLES.items() if path.startswith(f"{name}/")}
    write(folder, files)
    return folder


def start(folder: Path, profile: str | None, *args: str, **env: str | None) -> subprocess.Popen[str]:
    """Start Python with `args` in a folder, under a profile; `None` is whatever these tests run under."""
    return subprocess.Popen(
        [*([] if profile is None else under(profile)), sys.executable, *args],
        cwd=folder,
        env=environment(**{**_OF_PROJECTS, **env}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(folder: Path, profile: str | None, *args: str, **env: str | None) -> Seen:
    """Run Python with `args` in a folder, as `start()` does, to its end."""
    with start(folder, profile, *args, **env) as process:
        try:
            text, _ = process.communicate(timeout=4 * LIMIT)
        except BaseException:
            process.kill()
            raise
    return Seen(text.replace(str(folder), "FOLDER"), process.returncode)


def fork(folder: Path, profile: str | None, *args: str, **env: str | None) -> Seen:
    """Run Python with `args` in a folder, as `run()` does, in a fork of a process that has imported much."""
    if profile is not None:
        under(profile)
    with tempfile.NamedTemporaryFile() as output:
        streams = [os.devnull, output.name, output.name]
        known, wanted = None if profile == "none" else profile, environment(**{**_OF_PROJECTS, **env})
        exit_code = warm.start("tests").run(args, known, streams, folder, wanted, 4 * LIMIT)
        text = output.read().decode()
    return Seen(text.replace(str(folder), "FOLDER"), exit_code)


def run_pytest(folder: Path, profile: str | None, *options: str, **env: str | None) -> Seen:
    """Run pytest in a folder, with the plugins that it finds by itself, but for those that PYTEST_ADDOPTS names."""
    return run(folder, profile, "-m", "pytest", "-p", "no:cacheprovider", "--color=no", *options, **env)


SHOP = """
    import asyncio
    import json  # and no framework, which takes a worker longer to import than all the rest
    import os
    from urllib.parse import parse_qs

    items = []


    def add(name):
        print("adding", name)
        items.append(name)


    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            for what in ("startup", "shutdown"):
                assert (await receive())["type"] == f"lifespan.{what}"
                await send({"type": f"lifespan.{what}.complete"})
            return
        if (scope["method"], scope["path"]) == ("POST", "/items"):
            [name] = parse_qs(scope["query_string"].decode())["name"]
            await asyncio.to_thread(add, name)  # as a framework calls a function that is not async
        answer = {"/items": items, "/pid": os.getpid()}[scope["path"]]
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})


    def reset():
        items.clear()


    def broken_reset():
        if "broken" in items:
            items.clear()
            raise RuntimeError("the shop is on fire")
"""

SHOP_INI = """
    [pytest]
    socketless_app = shop:app
    socketless_reset_hook = shop:reset
    filterwarnings = error
"""


class Project:
    """A folder with a shop, for the tests of a test, and pytest to run there with no other plugins than are named."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loading = ["-p", "socketless.pytest_plugin"]
        self.write("shop.py", SHOP)

    def write(self, name: str, text: str) -> None:
        write(self.folder, {name: text})

    def run(
        self,
        *arguments: str,
        profile: str | None = None,
        command: tuple[str, ...] = ("-m", "pytest"),
        afresh: bool = False,
        **env: str,
    ) -> Seen:
        """Run pytest; without a profile, under that of these tests.

        Args:
            afresh: start Python for it, so that nothing is imported yet. By default, whatever is a module of the
                command line runs in a fork of a process that has imported what most of the projects import.
        """
        command = (*command, *self.loading, "-p", "no:cacheprovider", "--color=no", *arguments)
        env["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        return (run if afresh else fork)(self.folder, profile, *command, **env)
