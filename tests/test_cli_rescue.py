"""`socketless rescue COMMAND`, run for real: Python processes that meet on loopback under every profile."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from commands import MODULE, environment, run
from projects import under, write

RESCUE = [*MODULE, "rescue"]

# A server in one process, its client in another.
FILES = {
    "server.py": """
        import http.server, sys
        with http.server.HTTPServer(("127.0.0.1", 8219), http.server.SimpleHTTPRequestHandler) as server:
            print("serving", flush=True)
            server.handle_request()
    """,
    "client.py": """
        import subprocess, sys, urllib.request
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        with subprocess.Popen([sys.executable, "server.py"], **streams) as server:
            assert server.stdout.readline() == b"serving\\n"
            print(urllib.request.urlopen("http://localhost:8219/client.py").status, sys.argv[1:])
    """,
    "test_client.py": """
        import subprocess, sys, unittest

        class ClientTest(unittest.TestCase):
            def test_client(self):
                self.assertEqual(subprocess.check_output([sys.executable, "client.py"]), b"200 []\\n")
    """,
}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write(tmp_path, FILES)
    return tmp_path


@pytest.mark.parametrize(
    "profile", ["none", "strict", "codex", "codex-2025", "codex-proxy", "claude", "strict:EACCES", "fatal"]
)
def test_processes_meet(profile: str, project: Path) -> None:
    """A client asks the server that it has started, whatever the sandbox refuses; the arguments are the command's."""
    command = [*under(profile), *RESCUE, sys.executable, "client.py", "--help", "-m"]
    assert run(command, folder=project) == (0, "200 ['--help', '-m']\n", "")


def test_unittest(project: Path) -> None:
    """`python -m unittest` needs no line in the tests, whose child's child serves."""
    done = run([*under("strict"), *RESCUE, sys.executable, "-m", "unittest"], folder=project)
    assert (done.code, done.stdout) == (0, "")
    assert done.stderr.endswith("\nOK\n")


def test_nothing_is_left(project: Path, tmp_path: Path) -> None:
    """The last process of all removes the folder in which they meet, and a shell's children are one rescue, too."""
    script = 'python_=$0; "$python_" client.py; "$python_" client.py; echo "$SOCKETLESS_LOOPBACK"'
    done = run([*RESCUE, "sh", "-c", script, sys.executable], folder=project)
    *answers, folder = done.stdout.splitlines()
    assert (done.code, answers, done.stderr) == (0, ["200 []", "200 []"], "")
    assert os.path.basename(folder).startswith("socketless-")
    assert not os.path.exists(folder)


@pytest.mark.parametrize(
    ("command", "code", "stderr"),
    [
        (["sh", "-c", "exit 7"], 7, ""),
        (["no-such-command"], 127, "socketless rescue: cannot run 'no-such-command': No such file or directory\n"),
        (["/"], 126, "socketless rescue: cannot run '/': Permission denied\n"),
        (["sh", "-c", "kill -9 $$"], -signal.SIGKILL, ""),
    ],
)
def test_exit_code(command: list[str], code: int, stderr: str) -> None:
    """The exit code, or the signal, is the command's; a command that cannot be run is named, as a shell does."""
    assert run([*RESCUE, *command]) == (code, "", stderr)


def test_command_is_the_process() -> None:
    """The command has the process's number, so a signal that is sent there reaches it and nobody else."""
    with subprocess.Popen(
        [*RESCUE, sys.executable, "-c", "import os; print(os.getpid(), flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
    ) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == process.pid
        process.terminate()
        assert process.wait() == -signal.SIGTERM


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("test.py", "'test.py' is not a command. Write socketless rescue python test.py x."),
        ("-m", "No such option '-m'.\nWrite python -m x for -m x."),
        ("A=1", "'A=1' is not a command. Write socketless rescue env A=1 x."),
    ],
)
def test_what_a_shell_would_take(word: str, error: str) -> None:
    """Who leaves out `python`, or `env`, is told where it belongs."""
    done = run([*RESCUE, word, "x"])
    assert done.code == 2
    assert done.stderr.endswith(f"Error: {error}\n")


def test_own_sitecustomize(project: Path) -> None:
    """The environment's own `sitecustomize`, and its PYTHONPATH, go on to work."""
    write(project, {"site/sitecustomize.py": "print('customized')", "site/own.py": "name = 'own'"})
    done = run(
        [*RESCUE, sys.executable, "-c", "import own, sitecustomize; print(own.name, sitecustomize.__file__)"],
        env={"PYTHONPATH": str(project / "site")},
        afresh=True,
    )
    # It is that of the command line's own process, too.
    assert done == (0, f"customized\ncustomized\nown {project / 'site' / 'sitecustomize.py'}\n", "")
