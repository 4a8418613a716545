"""`socketless.sandbox`: each thing is really tried, and nothing of it stays."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import pytest

from commands import run
from projects import under
from socketless import sandbox
from support import has_ipv6

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
    *("inet_socket", "unix_socket", "socketpair", "send", "setsockopt", "bind", "loopback", "ipv6", "unix_server"),
    *("name_lookup", "shm", "sysconf", "semaphore", "process"),
]
OF_FORKSERVER = ["process"] if multiprocessing.get_all_start_methods()[0] == "forkserver" else []
NOT_PERMITTED = "Operation not permitted"


@pytest.mark.parametrize(
    ("profile", "refused"),
    [
        ("none", {}),
        (
            "codex",
            {
                **dict.fromkeys(["inet_socket", "send", "setsockopt", "bind", *OF_FORKSERVER], NOT_PERMITTED),
                **dict.fromkeys(["loopback", "ipv6"], f"socket(): {NOT_PERMITTED}"),
                "unix_server": f"bind(): {NOT_PERMITTED}",
            },
        ),
        (
            "strict",
            {
                **dict.fromkeys([*NAMES[:6], *OF_FORKSERVER], NOT_PERMITTED),
                **dict.fromkeys(["loopback", "ipv6", "unix_server"], f"socket(): {NOT_PERMITTED}"),
            },
        ),
        ("fatal", dict.fromkeys([*NAMES[:10], *OF_FORKSERVER], "killed by SIGSYS")),
    ],
)
def test_examine(profile: str, refused: dict[str, str]) -> None:
    """Each profile's refusals are found, and no child, thread, descriptor or file is left."""
    code, stdout, stderr = run([*under(profile), sys.executable, "-c", SHOW])
    assert (code, stderr) == (0, "")
    found = dict(line.split(" ", 1) for line in stdout.splitlines())
    if not has_ipv6():
        refused = {**refused, "ipv6": found["ipv6"]}  # it is refused here anyway
    assert found == {name: str(refused.get(name)) for name in NAMES}


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
    ("profile", "refusals"),
    [
        ("none", {}),
        ("claude", {"unix": "socket(): Operation not permitted"}),
        ("codex-proxy", {"unix": "socket(): Operation not permitted"}),
        ("codex", {"inet": "socket(): Operation not permitted", "unix": "bind(): Operation not permitted"}),
        ("strict:EACCES", dict.fromkeys(["inet", "unix"], "socket(): Permission denied")),
        ("fatal", dict.fromkeys(["inet", "unix"], "sockets: killed by SIGSYS")),
    ],
)
def test_loopback_refusals(profile: str, refusals: dict[str, str]) -> None:
    """The kinds of sockets that cannot meet are named, each with the step that is refused."""
    program = "from socketless import sandbox; print(sandbox.loopback_refusals())"
    assert run([*under(profile), sys.executable, "-c", program]) == (0, f"{refusals}\n", "")


@pytest.mark.parametrize("profile", ["none", "claude", "codex", "strict:EACCES", "fatal"])
def test_refusals(profile: str) -> None:
    """Tried together, they say what each of them says; where one of them kills the child that tries it, too."""
    program = """
from socketless import sandbox
assert sandbox.refusals() == (sandbox.wakeup_refusal(), sandbox.loopback_refusals())
"""
    assert run([*under(profile), sys.executable, "-c", program]) == (0, "", "")


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, None),
        ({"CODEX_SANDBOX": "seatbelt"}, "OpenAI Codex (CODEX_SANDBOX=seatbelt)"),
        (
            {"CODEX_SANDBOX": "seatbelt", "CODEX_SANDBOX_NETWORK_DISABLED": "1"},
            "OpenAI Codex, without a network (CODEX_SANDBOX=seatbelt, CODEX_SANDBOX_NETWORK_DISABLED=1)",
        ),
        ({"SANDBOX_RUNTIME": "1"}, "Anthropic's sandbox-runtime, as in Claude Code (SANDBOX_RUNTIME=1)"),
        ({"GEMINI_SANDBOX": "docker"}, "Gemini CLI (GEMINI_SANDBOX=docker)"),
        ({"GEMINI_SANDBOX": "false"}, None),
        ({"CURSOR_SANDBOX": "1"}, "Cursor (CURSOR_SANDBOX=1)"),
    ],
)
def test_product(variables: dict[str, str], name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sandbox is called by its name, where the environment tells it."""
    for variable in sandbox._PRODUCTS:
        monkeypatch.delenv(variable, raising=False)
    for variable, value in variables.items():
        monkeypatch.setenv(variable, value)
    assert sandbox.product() == name


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
