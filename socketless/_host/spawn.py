"""`start_method="spawn"`: a fresh interpreter, from `subprocess`.

`multiprocessing`'s own spawn would run the host's `__main__` again and start a resource tracker; this does neither, and
starts in half the time.
"""

from __future__ import annotations

import sys

from socketless._genuine import copy_of
from socketless._host.arguments import Env, changed_environ
from socketless._host.output import WorkerOutput
from socketless._wire.channel import Channel
from socketless._wire.messages import Start
from socketless.errors import WorkerStartError

subprocess = copy_of("subprocess")  # tests replace Popen, too

# sys.path first: the worker imports socketless, and the app, from where the host does. No garbage is looked for in what
# is imported until `spawned()` is called.
_PROGRAM = (
    "import gc, sys; gc.disable(); sys.path[:] = sys.argv[3:]; "
    "from socketless._worker.main import spawned; spawned(*sys.argv[1:3])"
)


class Spawned:
    """A worker process that was spawned.

    Raises:
        WorkerStartError: nobody knows which Python to run.
    """

    needs_start_message = True

    def __init__(self, ends: list[Channel], start: Start, output: WorkerOutput, env: Env | None) -> None:
        if not sys.executable:
            raise WorkerStartError(
                f"the worker cannot be spawned: sys.executable is {sys.executable!r} and does not tell which Python to "
                'run. Set it to the path of one, or fork the worker, start_method="fork"'
            )
        pairs = [channel.fileno() for channel in ends]
        stdout, stderr, reports = output.fileno()
        self._process = subprocess.Popen(
            [
                sys.executable,
                *subprocess._args_from_interpreter_flags(),  # as multiprocessing does
                "-c",
                _PROGRAM,
                ":".join(f"{read_fd},{write_fd}" for read_fd, write_fd in pairs),
                str(reports),
                *(entry for entry in sys.path if isinstance(entry, str)),
            ],
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            env=changed_environ(env) if env is not None else None,
            pass_fds=[fd for pair in [*pairs, (reports,)] for fd in pair],
            start_new_session=True,
        )
        self.pid: int = self._process.pid

    def forget(self) -> None:
        """Let go of the process: it has been reaped, or it is no child of this process."""
        self._process.returncode = 0
