"""`socketless serve APP --uds PATH`: an app on a UNIX socket; `--stdio`: on standard input and output."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Any

import click

from socketless._cli.habits import Command
from socketless._cli.options import app_argument, limits, worker_options
from socketless._cli.output import print_error
from socketless._host.process import IpcProcess
from socketless._http11.service import HEAD_TIMEOUT, Service
from socketless._wire.drivers import deadline_after, remaining
from socketless._wire.pipes import make_pipe
from socketless.errors import SocketlessError

__all__ = ["command"]

_PARAMETERS: list[click.Parameter] = [
    app_argument(),
    click.Option(["--uds"], type=click.Path(dir_okay=False), metavar="PATH", help="Listen on this UNIX socket."),
    click.Option(["--stdio"], is_flag=True, help="Serve one connection on standard input and output, as for inetd."),
    click.Option(
        ["--shutdown-timeout"],
        default=5.0,
        type=click.FloatRange(min=0),
        show_default=True,
        metavar="SECONDS",
        help="How long requests in progress, and their background tasks, may take when the server is stopped.",
    ),
    click.Option(
        ["--head-timeout"],
        default=HEAD_TIMEOUT,
        type=click.FloatRange(min=0),
        show_default=True,
        metavar="SECONDS",
        help="How long the head of a request may take, once it has begun.",
    ),
    click.Option(
        ["--backlog"],
        default=2048,
        type=click.IntRange(min=1),
        show_default=True,
        metavar="NUMBER",
        help="How many clients may wait to be accepted, with --uds.",
    ),
    *worker_options(),
    *limits(),
]


@click.command("serve", cls=Command, params=_PARAMETERS, context_settings={"help_option_names": ["-h", "--help"]})
def command(
    app: str,
    uds: str | None,
    stdio: bool,
    shutdown_timeout: float,
    head_timeout: float,
    backlog: int,
    root_path: str,
    **options: Any,
) -> None:
    """Serve APP over HTTP/1.1, on a UNIX socket or on standard input and output.

    Only this user can connect to the socket. The output of APP goes to stderr. Ctrl-C and SIGTERM stop the server.

    With --stdio, no socket is opened.
    """
    if (uds is None) == (not stdio):
        raise click.UsageError("Give either --uds PATH or --stdio.")
    serving: dict[str, Any] = {
        "head_timeout": head_timeout,
        "raise_app_exceptions": False,
        "root_path": root_path,
        "on_failure": _print_traceback,
        "waits_for_app": False,
    }
    try:
        fds = _standard_streams() if uds is None else None
        os.dup2(2, 1)  # what anybody prints is no part of a response
        with IpcProcess(app, **options) as worker:
            if fds is not None:
                Service(worker, *fds, **serving).run()
                worker.wait_idle(shutdown_timeout)
            elif uds is not None:
                _serve_unix(worker, uds, shutdown_timeout, {**serving, "backlog": backlog})
    except (SocketlessError, OSError) as error:
        print_error(error)
        if isinstance(error, PermissionError) and uds is not None and error.filename is None:
            print("Sockets are refused here; --stdio needs none.", file=sys.stderr)
        sys.exit(1)


def _standard_streams() -> tuple[int, int]:
    if sys.stdin is None:
        raise OSError(errno.EBADF, "standard input is closed, but --stdio needs it")
    return os.dup(0), os.dup(1)


def _print_traceback(text: str) -> None:
    print(text.rstrip(), file=sys.stderr, flush=True)


def _serve_unix(worker: IpcProcess, path: str, shutdown_timeout: float, serving: dict[str, Any]) -> None:
    from socketless.unix_server import UnixServer

    # Python's own handlers run late where the main thread is just falling asleep, and perhaps never; what the one in C
    # writes into the pipe is there.
    stopped, wake = make_pipe()
    os.set_blocking(wake.fileno(), False)
    signal.set_wakeup_fd(wake.fileno())
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    server = UnixServer(worker, path, print_error, **serving)
    try:
        click.echo(f"{worker.description} is served on {path}", err=True)
        os.read(stopped.fileno(), 1)
    finally:
        deadline = deadline_after(shutdown_timeout)
        server.close(shutdown_timeout)
        worker.wait_idle(remaining(deadline))
