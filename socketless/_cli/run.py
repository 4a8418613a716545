"""`socketless run APP -m pytest`: a module or a script, with the switch on."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from typing import Any

import click

from socketless import eventloop, sandbox
from socketless._cli import AfterClick
from socketless._cli.habits import Command
from socketless._cli.options import BASE_URL, check_app, limits, worker_options
from socketless._cli.output import print_error
from socketless._cli.program import Program
from socketless._host.app_source import read_by_host
from socketless._switch.apps import check
from socketless._switch.hosts import OTHERS
from socketless.errors import SocketlessError
from socketless.switch import switch_to_ipc_connection

__all__ = ["command"]


def _check_base_url(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if not re.match(r"https?://[^/?#]", value):
        raise click.BadParameter(f"{value!r} does not begin with http:// or https://, and a host.")
    return value


_BASE_URL: Any = {"default": BASE_URL, "show_default": True, "callback": _check_base_url, "metavar": "URL"}

_HOST_AND_APP = re.compile(r"[^\s=()'\"/-][^\s=()'\"]*=.*:")  # no script, and no option


def _read_hooks(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> Any:
    try:
        return read_by_host(values) or None
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None


_PARAMETERS: list[click.Parameter] = [
    click.Argument(["app"], callback=check_app),
    click.Argument(["program"], nargs=-1, type=click.UNPROCESSED, metavar="-m MODULE | SCRIPT [ARGS]..."),
    click.Option(
        ["--reset-hook"],
        multiple=True,
        callback=_read_hooks,
        metavar="[HOST=]PATH",
        help="The function that reset_ipc_state() calls, and pytest before each test: 'package.module:function'.",
    ),
    click.Option(["--base-url"], **_BASE_URL, help="The base of relative URLs."),
    click.Option(
        ["--others"],
        type=click.Choice(OTHERS),
        help="What happens to requests to hosts that no APP has: 'pass' sends them as if there were no switch, "
        "'refuse' makes them fail.",
    ),
    click.Option(
        ["--raise-app-exceptions/--no-raise-app-exceptions"],
        default=True,
        show_default=True,
        help="Raise the exceptions of APP in the program, or answer 500.",
    ),
    *worker_options(),
    *limits(),
]


_SETTINGS: Any = {"help_option_names": ["-h", "--help"], "allow_interspersed_args": False}


@click.command("run", cls=Command, params=_PARAMETERS, context_settings=_SETTINGS)
def command(app: str, program: tuple[str, ...], reset_hook: Any, **options: Any) -> None:
    """Run a module or a script whose HTTP clients all reach APP, or several apps by their hosts.

    APP is 'package.module:app' or 'package.module:factory()'. With a host, 'api.test=shop:app', it answers that host
    only, and more apps may follow. After that, write what you would write after 'python': '-m MODULE' or a script, with
    its arguments.

    Where sockets are refused, the program gets what 'socketless rescue' gives: event loops, servers and clients on this
    machine work without them.

    Processes that the program starts are not switched, except those of pytest-xdist.

    Exits with the program's exit code. If APP cannot start, exits with 1, and for wrong usage with 2; the program does
    not run then.
    """
    apps, words = _split(app, program)
    try:
        check(apps, options["base_url"], options["others"], reset_hook)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from None
    to_run = _read_program(words)
    _rescue()
    paths = apps.values() if isinstance(apps, dict) else [apps]
    found = {path: _origin_of(path) for path in paths}
    to_run.set_up()
    for path in paths:
        if _origin_of(path) != found[path]:
            raise click.UsageError(
                f"APP {path!r} would be found in the folder of the script, not in the current one; rename one of the "
                "two."
            )
    try:
        switch_to_ipc_connection(apps, reset_hook=reset_hook, **options)
    except (SocketlessError, ValueError) as error:
        print_error(error)
        sys.exit(1)
    _keep_pytest_calm()
    # Nobody switches back: the program's threads and exit handlers may send requests to the app to the very end.
    raise AfterClick(to_run.run)


def _split(app: str, words: tuple[str, ...]) -> tuple[Any, tuple[str, ...]]:
    """Return the apps by their hosts, or the one that has none, and what is to be run."""
    rest = list(words)
    apps = [app]
    while rest and _HOST_AND_APP.match(rest[0]):
        apps.append(rest.pop(0))
    try:
        return read_by_host(apps), tuple(rest)
    except ValueError as error:
        raise click.UsageError(f"{error}.") from None


def _rescue() -> None:
    if sandbox.wakeup_refusal() is not None:
        eventloop.install()
    refusals = sandbox.loopback_refusals() if sys.platform == "linux" else {}
    if refusals:
        from socketless import loopback

        loopback.install(refusals, alone=sandbox.is_fatal(refusals))


def _origin_of(app: str) -> str | None:
    """Return the file that an import string begins with, or a falsy value where that cannot be told."""
    try:
        spec = importlib.util.find_spec(app.partition(":")[0].partition(".")[0])
    except (ImportError, ValueError):
        return None
    return None if spec is None or spec.origin is None else os.path.realpath(spec.origin)


def _read_program(words: tuple[str, ...]) -> Program:
    first, *args = words[words[:1] == ("--",) :] or ("",)  # it may, but need not, be said that our options end there
    if first.startswith("-m"):
        name, *args = [first[2:], *args] if first[2:] else (args or [""])
        if not name:
            raise click.UsageError("-m needs the name of a module.")
        return Program(name, args, is_module=True)
    if first.startswith("-c"):
        raise click.UsageError("cannot run '-c': after APP comes '-m MODULE' or a script; write the code into one.")
    if first.startswith("-"):
        raise click.UsageError(
            f"cannot run {first!r}: after APP comes '-m MODULE' or a script; options of socketless come before APP."
        )
    if not first:
        raise click.UsageError("Nothing to run: write '-m MODULE' or a script.")
    try:
        return Program(first, args, is_module=False)
    except OSError as error:
        is_module = first.isidentifier() and importlib.util.find_spec(first) is not None
        hint = f" Did you mean '-m {first}'?" if is_module else ""
        if first in ("python", "python3"):
            hint = f" Leave out {first!r}: write after APP what you would write after it."
        raise click.UsageError(f"cannot run {first!r}: {error.strerror}.{hint}") from None
    except ImportError as error:
        raise click.UsageError(f"cannot run {first!r}: {error}.") from None


def _keep_pytest_calm() -> None:
    # It warns of the package of a plugin that was imported before it could rewrite its assertions, and where warnings
    # are errors, does not start. The switch has imported anyio, which is one; so one tells pytest that it is fine.
    anyio = sys.modules.get("anyio")
    if anyio is not None:
        anyio.__doc__ = f"{anyio.__doc__ or ''}\n\nPYTEST_DONT_REWRITE"
