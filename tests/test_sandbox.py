"""`socketless.sandbox`: each thing is really tried, and nothing of it stays."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import pytest

from commands import run
from projects import under

SHOW = """\
import os, threading
from socketless import sandbox

def resources():
    with open(f"/proc/self/task/{os.getpid()}/children") as children:
        return os.listdir("/dev/fd"), threading.enumerate(), children.read()

before = resources()
checks = sandbox.examine()
assert resources() == before
for check in checks:
    print(check.name, check.error)
"""
NAMES = [
    *("inet_socket", "unix_socket", "socketpair", "send", "setsockopt", "bind", "loopback", "unix_server"),
    *("name_lookup", "shm", "semaphore", "process"),
]
OF_FORKSERVER = ["process"] if multiprocessing.get_all_start_methods()[0] == "forkserver" else []
NOT_PERMITTED = "Operation not permitted"


@pytest.mark.parametrize(
    ("profile", "refused"),
    [
        ("none", {}),
        (
            "codex",
            dict.fromkeys(
                ["inet_socket", "send", "setsockopt", "bind", "loopback", "unix_server", *OF_FORKSERVER], NOT_PERMITTED
            ),
        ),
        ("strict", dict.fromkeys([*NAMES[:8], *OF_FORKSERVER], NOT_PERMITTED)),
        ("fatal", dict.fromkeys([*NAMES[:9], *OF_FORKSERVER], "killed by SIGSYS")),
    ],
)
def test_examine(profile: str, refused: dict[str, str]) -> None:
    """Each profile's refusals are found, and no child, thread, descriptor or file is left."""
    code, stdout, stderr = run([*under(profile), sys.executable, "-c", SHOW])
    assert (code, stderr) == (0, "")
    assert stdout == "".join(f"{name} {refused.get(name)}\n" for name in NAMES)


@pytest.mark.parametrize(
    ("profile", "refusal"),
    [
        ("none", None),
        ("codex", "send(): Operation not permitted"),
        ("strict", "socketpair(): Operation not permitted"),
        ("fatal", "sockets: killed by SIGSYS"),
    ],
)
def test_wakeup_refusal(profile: str, refusal: str | None) -> None:
    """What keeps loops from waking is named, with the step that is refused."""
    program = "from socketless import sandbox; print(sandbox.wakeup_refusal())"
    assert run([*under(profile), sys.executable, "-c", program]) == (0, f"{refusal}\n", "")


@pytest.mark.parametrize(
    ("probe", "error"),
    [
        ("lambda: None", None),
        ("threading.Event().wait", "no answer within 0.1 s"),
        ("lambda: os.kill(os.getpid(), 9)", "killed by SIGKILL"),
        ("lambda: os._exit(0)", "no answer"),
        ("lambda: 1 / 0", "division by zero"),
        ("lambda: sys.exit()", "SystemExit"),
        ("lambda: open('/nowhere/file')", "No such file or directory"),
    ],
)
def test_how_a_check_may_end(probe: str, error: str | None) -> None:
    """A probe that waits for ever, is killed, or raises whatever it may, is a refusal, and its child is gone."""
    limit = 0.1 if error and "within" in error else 60
    program = (
        "import os, sys, threading\nfrom socketless import sandbox\nfrom support import nothing_leaks\n"
        f"with nothing_leaks():\n    ending = sandbox._try_in_child({probe}, {limit})\n"
        "print(ending.refused or ending.died)"
    )
    assert run([sys.executable, "-c", program]) == (0, f"{error}\n", "")


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_process_by_any_method(method: str, tmp_path: Path) -> None:
    """What is said of processes holds for the start method that is set; the script neither runs nor prints again."""
    (tmp_path / "script.py").write_text(
        "import multiprocessing, sys\nfrom socketless import sandbox\nprint(sys.argv[1])\n"
        "multiprocessing.set_start_method(sys.argv[1])\nprint(sandbox.examine()[-1])\n"
    )
    works = f"Check(name='process', what='a process of multiprocessing ({method})', error=None)"
    assert run([*under("none"), sys.executable, "script.py", method], folder=tmp_path) == (
        0,
        f"{method}\n{works}\n",
        "",
    )


def test_start_method_is_not_settled() -> None:
    """To examine a sandbox leaves it open which start method the process takes."""
    program = (
        "import multiprocessing; from socketless import sandbox\n"
        "sandbox.examine(); print(multiprocessing.get_start_method(allow_none=True))"
    )
    assert run([sys.executable, "-c", program]) == (0, "None\n", "")
