"""What other programs get from this one: virtual sockets, by standard streams or `pass_fds`, and how to have some."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from socketless._loopback import children, openfile
from socketless._loopback.patches import Patches
from socketless._loopback.system import os

__tracebackhide__ = True  # pytest shows the test's lines and the app's, not these


def patch(subprocess: Any, patches: Patches) -> None:
    """Change subprocess."""
    patches.set(subprocess.Popen, "_get_handles", _get_handles_with(subprocess.Popen._get_handles))
    patches.set(subprocess.Popen, "_execute_child", _execute_child_with(subprocess.Popen._execute_child))


def _get_handles_with(original: Callable[..., tuple[int, ...]]) -> Callable[..., tuple[int, ...]]:
    def _get_handles(self: Any, *streams: Any) -> tuple[int, ...]:
        stdin, parent_in, parent_out, stdout, parent_err, stderr = original(self, *streams)
        _let_block(stdin)
        return stdin, parent_in, parent_out, _written_at(stdout), parent_err, _written_at(stderr)

    return _get_handles


def _let_block(number: int) -> None:
    # Programs do not expect of their standard streams that they do not wait.
    if openfile.find(number) is not None:
        os.set_blocking(number, True)


def _written_at(number: int) -> int:
    """Return the descriptor that a program must have to write into a socket."""
    file = openfile.find(number)
    if file is None or file.state.write_fd < 0:
        return number
    os.set_blocking(file.state.write_fd, True)
    return file.state.write_fd


def _execute_child_with(original: Callable[..., None]) -> Callable[..., None]:
    def _execute_child(
        self: Any,
        args: Any,
        executable: Any,
        preexec: Any,
        close_fds: Any,
        pass_fds: Any,
        cwd: Any,
        env: Any,
        *rest: Any,
    ) -> None:
        for number in pass_fds:
            file = openfile.find(number)
            if file is not None:
                file.is_passed_on()
        env = children.inherited() if env is None else children.completed(env)
        original(self, args, executable, preexec, close_fds, pass_fds, cwd, env, *rest)

    return _execute_child
