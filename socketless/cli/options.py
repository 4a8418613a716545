"""The options that several commands have: those of the worker."""

from __future__ import annotations

from typing import Any

import click

__all__ = ["BASE_URL", "SECONDS", "worker_options"]

BASE_URL = "http://testserver"


def _check_seconds(_context: click.Context, _option: click.Parameter, value: float) -> float:
    if not value > 0:  # NaN, too
        raise click.BadParameter(f"{value:g} is not a number of seconds above 0.")
    return value


SECONDS: Any = {"type": float, "callback": _check_seconds, "metavar": "SECONDS", "show_default": True}


def _choice(*values: str) -> Any:
    return {"type": click.Choice(values), "default": values[0], "show_default": True}


def worker_options() -> list[click.Parameter]:
    """Return the options for how APP runs."""
    return [
        click.Option(["--app-kind"], **_choice("auto", "wsgi", "asgi"), help="What APP is."),
        click.Option(["--start-method"], **_choice("spawn", "fork"), help="How the worker starts."),
        click.Option(["--startup-timeout"], default=30.0, **SECONDS, help="How long APP may take to start."),
        click.Option(["--root-path"], default="", metavar="PATH", help="The path that APP is mounted at."),
        click.Option(["--debug"], is_flag=True, help="Write what socketless does to stderr."),
    ]
