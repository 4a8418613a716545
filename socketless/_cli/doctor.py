"""`socketless doctor`: what this sandbox refuses, what hangs or fails because of it, and what to write."""

from __future__ import annotations

import json
import platform
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from textwrap import wrap
from typing import Any

import click

from socketless import __version__
from socketless._cli.habits import Command
from socketless._cli.output import drop_stdout, print_error, wants_colours
from socketless.advice import WORKS, Advice, advise
from socketless.sandbox import Check, examine, product

__all__ = ["command"]

_APP = "wsgiref.simple_server:demo_app"
_NOTHING_REFUSED, _REFUSED, _NO_SOCKETLESS = 0, 1, 3  # exit codes; 2 is click's, for wrong usage
_DOCS = "socketless docs rescue"
_INDENT = " " * 7
_LEAST_WIDTH, _MOST_WIDTH = 40, 100  # of a line


@click.command("doctor", cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for programs.")
def command(as_json: bool) -> None:
    """Say what this sandbox refuses, what breaks, and what to write.

    Everything is really tried, on this machine only, and so is socketless itself.

    Exits with 0 if everything that tests need works, with 1 if some of it is refused, with 2 for wrong usage, and with
    3 if socketless itself does not work here, or the report could not be written.
    """
    try:
        checks = examine()
        problem = _problem_of_socketless()
    except OSError as error:  # no process, or no file descriptor, to be had
        checks, problem = [], f"{type(error).__name__}: {error}"
    advice = advise(checks) if checks else []
    try:
        if as_json:
            click.echo(json.dumps(_for_programs(checks, advice, problem), indent=2))
        else:
            _print_for_people(checks, advice, problem)
        sys.stdout.flush()
    except BrokenPipeError:
        raise  # click leaves quietly
    except OSError as error:
        drop_stdout()
        print_error(error)
        sys.exit(_NO_SOCKETLESS)
    if problem is not None:
        sys.exit(_NO_SOCKETLESS)
    sys.exit(_NOTHING_REFUSED if all(each.outcome == WORKS for each in advice) else _REFUSED)


def _problem_of_socketless() -> str | None:
    """Ask an app in a worker, and return what has gone wrong."""
    import httpx  # here: it takes its time, and the checks may have found that it is in vain

    from socketless._host.process import IpcProcess
    from socketless._httpx.transport import IpcTransport

    try:
        with (
            IpcProcess(_APP, start_method="spawn") as worker,
            httpx.Client(transport=IpcTransport(worker), base_url="http://testserver") as client,
        ):
            client.get("/").raise_for_status()
    except Exception as error:  # whatever it is, the person should know
        return f"{type(error).__name__}: {error}"
    return None


def _for_programs(checks: list[Check], advice: list[Advice], problem: str | None) -> dict[str, Any]:
    return {
        "version": __version__,
        "python": platform.python_version(),
        "platform": sys.platform,
        "sandbox": product(),
        "socketless": {"works": problem is None, "error": problem},
        "checks": [
            {"name": check.name, "what": check.what, "works": check.works, "error": check.error} for check in checks
        ],
        "advice": [asdict(each) for each in advice],
        "docs": _DOCS,
    }


def _print_for_people(checks: list[Check], advice: list[Advice], problem: str | None) -> None:
    width = max(_LEAST_WIDTH, min(shutil.get_terminal_size().columns, _MOST_WIDTH))
    for line in _lines(checks, advice, problem, width):
        click.echo(line, color=wants_colours())


def _lines(checks: list[Check], advice: list[Advice], problem: str | None, width: int) -> Iterator[str]:
    refused = {check.name: check for check in checks if not check.works}
    sandbox = product()
    if sandbox is not None:
        yield from wrap(f"Sandbox: {sandbox}", width)
        yield ""
    if refused:
        yield click.style("Refused here:", bold=True)
        longest = max(len(check.what) for check in refused.values())
        for check in refused.values():
            yield f"  {check.what:{longest}}  {check.error}"
        yield ""
    broken = [each for each in advice if each.outcome != WORKS]
    said = set()
    for each in broken:
        first, *rest = wrap(each.what, width - len(_INDENT))
        yield f"{click.style(each.outcome, 'red')}  {first}"
        because = refused[each.because or ""].what
        write = "as above" if each.write in said else each.write or ""
        yield from (_INDENT + line for line in [*rest, f"needs {because}"])
        yield from (_INDENT + click.style(f"> {line}", "green") for line in write.splitlines())
        said.add(each.write)
        yield ""
    if broken:
        yield f"more   {_DOCS}"
        yield ""
    works = click.style(WORKS, "green")
    what_works = "; ".join(each.what for each in advice if each.outcome == WORKS)
    if checks and not broken:
        yield f"{works}  everything that tests need"
    elif what_works:
        first, *rest = wrap(what_works, width - len(_INDENT))
        yield f"{works}  {first}"
        yield from (_INDENT + line for line in rest)
    if problem is None:
        yield f"{works}  socketless {__version__}: a worker has answered"
    else:
        yield f"{click.style('fails', 'red')}  socketless {__version__} itself: {problem}"
