"""Programs have virtual sockets whatever environment they are given, and however they are started."""

from __future__ import annotations

import subprocess
import sys
import textwrap

import pytest

from support import LIMIT

pytestmark = pytest.mark.usefixtures("virtual")

# What starts `command`, with an environment `env`, or with that of this process.
GIVEN = {
    "subprocess": "import subprocess; subprocess.run(command, env=env)",
    "bytes": "import subprocess; subprocess.run(command, env={os.fsencode(k): os.fsencode(v) for k, v in env.items()})",
    "execve": "os.execve(command[0], command, env)",
    "execvpe": "os.execvpe(command[0], command, env)",
    "posix_spawn": "os.waitpid(os.posix_spawn(command[0], command, env), 0)",
    "posix_spawnp": "os.waitpid(os.posix_spawnp(command[0], command, env), 0)",
    "spawnve": "os.spawnve(os.P_WAIT, command[0], command, env)",
}
OWN = {
    "subprocess": "import subprocess; subprocess.run(command)",
    "execv": "os.execv(command[0], command)",
    "execl": "os.execl(command[0], *command)",
    "execvp": "os.execvp(command[0], command)",
    "spawnv": "os.spawnv(os.P_WAIT, command[0], command)",
}
ENVIRONMENTS = {
    "nothing": "{}",
    "path": "{'PYTHONPATH': '/x'}",
    "another-path": "{**os.environ, 'PYTHONPATH': '/x'}",
    "no-path": "{k: v for k, v in os.environ.items() if k != 'PYTHONPATH'}",
    "same": "dict(os.environ)",
}
CHANGES = {
    "another-path": "os.environ['PYTHONPATH'] = '/x'",
    "no-path": "del os.environ['PYTHONPATH']",
    "cleared": "os.environ.clear()",
}
PROGRAM = "import os, socket, sys; print(socket.socket.__bases__[0].__name__, '/x' in sys.path)"


def started(start: str, *flags: str, before: str = "import socket", env: str = "None", change: str = "") -> str:
    """Return what a program says, which another one starts that has these flags."""
    code = f"""
        import os, sys
        {before}
        command = [sys.executable, "-c", {PROGRAM!r}]
        env = {env}
        {change}
        {start}
    """
    command = [sys.executable, *flags, "-c", textwrap.dedent(code)]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=LIMIT).stdout


@pytest.mark.parametrize("start", GIVEN)
@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_an_environment_that_is_given(start: str, env: str) -> None:
    """A program has virtual sockets, and the path that its environment says."""
    given = ENVIRONMENTS[env]
    assert started(GIVEN[start], env=given) == f"Methods {'/x' in given}\n"


@pytest.mark.parametrize("start", OWN)
@pytest.mark.parametrize("change", CHANGES)
def test_an_environment_that_was_changed(start: str, change: str) -> None:
    """A program has virtual sockets, although who starts it has set PYTHONPATH anew for itself."""
    assert started(OWN[start], change=CHANGES[change]) == f"Methods {change == 'another-path'}\n"


@pytest.mark.parametrize("change", ["", *CHANGES.values()])
@pytest.mark.parametrize("env", ["None", *ENVIRONMENTS.values()])
def test_who_needs_no_socket(change: str, env: str) -> None:
    """Who starts it may have imported no socket until then."""
    assert started(GIVEN["subprocess"], before="", env=env, change=change).startswith("Methods ")


@pytest.mark.parametrize("start", ["execve", "posix_spawn", "posix_spawnp"])
def test_execution_by_who_needs_no_socket(start: str) -> None:
    """So it is without `subprocess`, and where the environment that was changed is the own one."""
    assert started(GIVEN[start], before="", env="{'PYTHONPATH': '/x'}") == "Methods True\n"
    assert started(OWN["execv"], before="", change=CHANGES["another-path"]) == "Methods True\n"


@pytest.mark.parametrize("start", ["subprocess", "execve", "posix_spawn"])
def test_a_socket_from_the_beginning(start: str) -> None:
    """So it is where a `.pth` file imports sockets, as coverage.py's does, which is before `sitecustomize`."""
    as_by_pth = "import socket, site; site.main()"
    assert started(GIVEN[start], "-S", before=as_by_pth, env="{'PYTHONPATH': '/x'}") == "Methods True\n"


@pytest.mark.parametrize("start", ["subprocess", "execve", "posix_spawn"])
def test_an_environment_that_says_no(start: str) -> None:
    """A program whose environment has an empty SOCKETLESS_LOOPBACK has real sockets, and so has what it starts."""
    for before in ("import socket", ""):
        assert started(GIVEN[start], before=before, env="{'SOCKETLESS_LOOPBACK': ''}") == "socket False\n"
    assert started(OWN["subprocess"], change="os.environ['SOCKETLESS_LOOPBACK'] = ''") == "socket False\n"


@pytest.mark.unmeasured  # coverage.py imports sockets itself
def test_a_program_that_needs_no_socket_pays_nothing() -> None:
    """Starting a program by `subprocess` without `env=` imports no socket."""
    code = "import subprocess, sys; subprocess.run(['true']); print('socket' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"
