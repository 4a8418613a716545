"""`socketless rescue COMMAND`: any command, whose Python processes need no socket to meet on this machine."""

from __future__ import annotations

import os
import re
import shlex
import sys
from functools import partial

import click

from socketless import sandbox
from socketless._cli import AfterClick
from socketless._cli.habits import Command
from socketless.loopback import prepare_children

__all__ = ["command"]

_NOT_FOUND, _NOT_RUN = 127, 126  # exit codes, as those of a shell and of env(1)
_SETTINGS = {"help_option_names": ["-h", "--help"], "allow_interspersed_args": False}


@click.command("rescue", cls=Command, context_settings=_SETTINGS)
@click.argument("words", metavar="COMMAND [ARG]...", nargs=-1, required=True, type=click.UNPROCESSED)
def command(words: tuple[str, ...]) -> None:
    """Run a command where sockets are refused: servers and clients on this machine work without them.

    TCP and UDP on loopback, UNIX sockets and event loops work in every Python process that the command starts, whatever
    the sandbox allows. Examples: 'socketless rescue python -m unittest', '... python manage.py test', '... tox'.

    Nothing changes for connections to other machines, and for programs that are not Python.

    The command replaces this process, so signals reach it, and the exit code is the command's. Exits with 127 if the
    command is not found, with 126 if it cannot be run, and with 2 for wrong usage.
    """
    if words[0].endswith(".py"):
        raise click.UsageError(f"{words[0]!r} is not a command. Write socketless rescue python {shlex.join(words)}.")
    if re.match(r"[A-Za-z_]\w*=", words[0]):
        raise click.UsageError(f"{words[0]!r} is not a command. Write socketless rescue env {shlex.join(words)}.")
    try:
        prepare_children(alone=sandbox.is_fatal(sandbox.loopback_refusals()))
    except OSError as error:
        raise click.ClickException(str(error)) from None
    raise AfterClick(partial(_become, words))


def _become(words: tuple[str, ...]) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    try:
        os.execvp(words[0], words)
    except OSError as error:
        print(f"socketless rescue: cannot run {words[0]!r}: {error.strerror}", file=sys.stderr)
        sys.exit(_NOT_FOUND if isinstance(error, FileNotFoundError) else _NOT_RUN)
