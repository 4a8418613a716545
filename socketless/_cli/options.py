"""What several commands have: the argument APP, and the options of the worker."""

from __future__ import annotations

from typing import Any

import click

from socketless._host import app_source

__all__ = ["BASE_URL", "SECONDS", "app_argument", "check_app", "check_import_string", "limits", "worker_options"]

BASE_URL = "http://testserver"


def _check_seconds(_context: click.Context, _option: click.Parameter, value: float) -> float:
    if not value > 0:  # NaN, too
        raise click.BadParameter(f"{value:g} is not a number of seconds above 0.")
    return value


def _check_root_path(_context: click.Context, _option: click.Parameter, value: str) -> str:
    if value and not value.startswith("/"):
        raise click.BadParameter(f"{value!r} does not begin with a slash; write '/{value}'.")
    return value


SECONDS: Any = {"type": float, "callback": _check_seconds, "metavar": "SECONDS", "show_default": True}
_ROOT_PATH: Any = {"callback": _check_root_path, "metavar": "PATH"}


def check_import_string(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Refuse what is not an import string: a callback of click."""
    try:
        if value is not None:
            app_source.check_import_string(value)
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None
    return value


def check_app(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Refuse what is neither an import string nor one with a host before it: a callback of click."""
    try:
        app_source.read_by_host([value])
    except ValueError as error:
        raise click.BadParameter(f"{error}.") from None
    return value


def app_argument() -> click.Argument:
    """Return the argument APP."""
    return click.Argument(["app"], callback=check_import_string)


def _choice(*values: str) -> Any:
    return {"type": click.Choice(values), "default": values[0], "show_default": True}


def worker_options() -> list[click.Parameter]:
    """Return the options for how APP runs."""
    return [
        click.Option(["--app-kind"], **_choice("auto", "wsgi", "asgi"), help="The interface of APP."),
        click.Option(["--start-method"], **_choice("spawn", "fork"), help="How the worker starts."),
        click.Option(["--startup-timeout"], default=30.0, **SECONDS, help="How long APP may take to start."),
        click.Option(["--root-path"], default="", **_ROOT_PATH, help="The path that APP is mounted at."),
        click.Option(
            ["--lifespan/--no-lifespan"], default=True, show_default=True, help="Run the lifespan of an ASGI app."
        ),
        click.Option(["--backend"], **_choice("asyncio", "trio"), help="The library that runs an ASGI app."),
        click.Option(["--debug"], is_flag=True, help="Write what socketless does to stderr."),
    ]


def limits() -> list[click.Parameter]:
    """Return the options for how much a worker may have to do."""
    return [
        click.Option(["--max-connections"], **_number(1, 32), help="How many requests can run at once."),
        click.Option(["--max-restarts"], **_number(0, 1), help="How many times a worker that died is replaced."),
        click.Option(["--max-body-bytes"], **_number(0, None), help="The largest size of a body.  [default: any size]"),
    ]


def _number(least: int, default: int | None) -> Any:
    return {"type": click.IntRange(min=least), "default": default, "show_default": default is not None, "metavar": "N"}
