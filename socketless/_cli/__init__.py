"""The command line. Each command is a module, which is imported when it is used: `doctor` need not wait for httpx."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module

import click

from socketless import __version__
from socketless._cli.habits import hint_at_command

__all__ = ["AfterClick", "cli"]

# With the beginning of the help of each, so that the list of them imports none.
_COMMANDS = {
    "docs": "Print a page of the documentation, or list the topics.",
    "doctor": "Say what this sandbox refuses, what breaks, and what to write.",
    "request": "Send one request to APP and print the response.",
    "rescue": "Run a command where sockets are refused: servers and clients on this machine work without them.",
    "run": "Run a module or a script whose HTTP clients all reach APP, or several apps by their hosts.",
    "serve": "Serve APP over HTTP/1.1, on a UNIX socket or on standard input and output.",
}


class AfterClick(BaseException):
    """What a command raises to leave click, with what is to be done then.

    click takes Ctrl-C, some `OSError`s and its own errors for those of a command, and these may be a program's.
    """

    def __init__(self, do: Callable[[], object]) -> None:
        super().__init__(do)
        self.do = do


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = import_module(f"socketless._cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        listed = click.Group(commands={name: click.Command(name, help=text) for name, text in _COMMANDS.items()})
        listed.format_commands(ctx, formatter)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            hint = hint_at_command(error.option_name, tuple(_COMMANDS))
            raise click.UsageError(f"No such option {error.option_name!r}. {hint}", ctx) from None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in _COMMANDS and not ctx.resilient_parsing:  # which completes in a shell
            raise click.UsageError(f"No such command {args[0]!r}. {hint_at_command(args[0], tuple(_COMMANDS))}", ctx)
        return super().resolve_command(ctx, args)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="%(prog)s %(version)s")
def cli() -> None:
    """HTTP without sockets: a WSGI or ASGI app runs in a worker process, and requests reach it over pipes."""
