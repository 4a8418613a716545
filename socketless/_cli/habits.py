"""What people write who know curl, HTTPie, uvicorn or gunicorn, and what that is here.

The tables are looked at only when click has refused a command line, so that nothing right is taken for something else.
"""

from __future__ import annotations

import json
import re
import shlex
from collections import deque
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import NamedTuple
from urllib.parse import parse_qsl

import click

__all__ = ["Command", "hint_at_command"]


class _Row(NamedTuple):
    takes_value: bool
    say: Callable[[str, str], str]  # of an option and its value: a sentence, or nothing


def _write(here: str | Callable[[str], str]) -> _Row:
    """Write this, with ``{}`` for the value of the option; or what is made of that, if anything is."""

    def say(name: str, value: str) -> str:
        text = here.format(shlex.quote(value)) if isinstance(here, str) else here(value)
        return text and f"Write {text} for {shlex.join([name, value])}."

    return _Row(True, say)


def _write_flag(here: str) -> _Row:
    return _Row(False, lambda name, value: f"Write {here} for {name}.")


def _leave_out(why: str, *, takes_value: bool = False) -> _Row:
    return _Row(takes_value, lambda name, value: f"Leave out {name}: {why}.")


def _pair(option: str, cut: str) -> Callable[[str], str]:
    """Return what writes one word, such as ``name=value``, as the two that an option takes."""

    def write(value: str) -> str:
        name, found, rest = value.partition(cut)
        return shlex.join([option, name.strip(), rest.strip()]) if found else ""

    return write


def _data(value: str) -> str:
    if value.startswith("@"):
        return f'-c "$(cat {shlex.quote(value[1:])})"'
    if value.startswith(("{", "[")):
        return shlex.join(["-j", value])
    fields = parse_qsl(value, keep_blank_values=True) if "=" in value else []
    return " ".join(shlex.join(["-d", *field]) for field in fields)


def _json(value: str) -> str:
    if value.startswith("@"):
        return f'-j "$(cat {shlex.quote(value[1:])})"'
    name, found, rest = value.partition("=")
    if not found or value.startswith(("{", "[")):
        return ""
    if not name.endswith(":"):
        rest = json.dumps(rest)
    return shlex.join(["-j", f'{{"{name.rstrip(":")}": {rest}}}'])


def _form(value: str) -> str:
    return _pair("-f", "=@")(value) or _pair("-d", "=")(value)


def _bound(value: str) -> str:
    path = value.removeprefix("unix:")
    return f"--uds {'PATH' if path == value else shlex.quote(path)}"


# A value that is none is not of the option, and there is nothing to say: "" is returned.


def _lifespan(value: str) -> str:
    return {"off": "--no-lifespan", "on": "--lifespan", "auto": "--lifespan"}.get(value, "")


def _seconds(value: str) -> str:
    return f"--timeout {value}" if value.replace(".", "", 1).isdigit() else ""


_OF_WORKERS = {
    "--app": _write("{} alone"),
    "--app-dir --chdir": _write("PYTHONPATH={} before socketless"),
    "--asgi": _write_flag("--app-kind asgi"),
    "--env --env-file": _write("NAME=VALUE before socketless"),
    "--factory": _leave_out("a factory is called anyway"),
    "--interface": _write(lambda value: f"--app-kind {value.rstrip('23')}"),
    "--lifespan": _write(_lifespan),
    "--log-level": _write("--debug"),
    "--reset-hook-path": _write("--reset-hook {}"),
    "--wsgi": _write_flag("--app-kind wsgi"),
}
_REQUEST = {
    **_OF_WORKERS,
    "-X --request": _write("-m {}"),
    "-H --header -h --headers": _write(_pair("-h", ":")),
    "-u --user -a --auth": _write(_pair("--auth", ":")),
    "-b --cookie --cookies": _write(_pair("--cookies", "=")),
    "-p --params": _write(_pair("-p", "=")),
    "-d --data": _write(_data),
    "--data-urlencode --form-string": _write(_pair("-d", "=")),
    "--data-ascii --data-binary --data-raw --raw": _write("-c {}"),
    "-j --json": _write(_json),
    "-F --form -f --files": _write(_form),
    "-T --upload-file": _write('-m PUT -c "$(cat {})"'),
    "-A --user-agent": _write("-h User-Agent {}"),
    "-e --referer": _write("-h Referer {}"),
    "-G --get": _write_flag("-p NAME VALUE for each parameter"),
    "-I --head": _write_flag("-m HEAD -v"),
    "-i --include --show-headers": _write_flag("-v"),
    "-L --location --follow": _write_flag("--follow-redirects"),
    "-o --output": _write("--download {}"),
    "-O --remote-name": _write_flag("--download FILE"),
    "-m --method": _write(_seconds),
    "--connect-timeout --max-time": _write("--timeout {}"),
    "-k --insecure --no-verify": _leave_out("nothing is encrypted"),
    "--cacert --cert --key --verify": _leave_out("nothing is encrypted", takes_value=True),
    "-0 -4 -6 --http1.0 --http1.1 --http2 --http3": _leave_out("there is no network"),
    "-x --proxy --noproxy --unix-socket --resolve": _leave_out("there is no network", takes_value=True),
    "-N -S -g -q -s --no-buffer --show-error --fail --quiet --silent": _leave_out("that is the default"),
    "--check-status --compressed --ignore-stdin --stream": _leave_out("that is the default"),
    "--pretty --print --style": _leave_out("only -v changes what is printed", takes_value=True),
}
_SERVE = {
    **_OF_WORKERS,
    "-b --bind": _write(_bound),
    "-p --port --host": _Row(True, lambda name, value: "Write --uds PATH: it opens a UNIX socket, not a port."),
    "--fd": _write("--stdio"),
    "--socket --unix --unix-socket": _write("--uds {}"),
    "--access-log --reload": _leave_out("serve cannot do that"),
    "-w --workers --threads": _write("--max-connections {}"),
    "--graceful-timeout --timeout-graceful-shutdown": _write("--shutdown-timeout {}"),
    "-t --timeout": _write("--startup-timeout {}"),
    "-v --verbose": _write_flag("--debug"),
}
_RUN = {
    **_OF_WORKERS,
    "-m": _write("APP -m {}"),
    "-t --timeout": _write("--startup-timeout {}"),
    "-v --verbose": _write_flag("--debug"),
}
_RESCUE = {
    "-m": _write("python -m {}"),
    "-c": _write("python -c {}"),
}
_TABLES = {"request": _REQUEST, "rescue": _RESCUE, "run": _RUN, "serve": _SERVE}

# The words of `request` beside APP and URL, as HTTPie takes them.
_ITEMS: dict[str, Callable[[str], str]] = {
    r"[A-Z]+": lambda word: f"-m {word}",
    r"[^=:@]+==.*": _pair("-p", "=="),
    r"[^=:@]+:=.*": _json,
    r"[^=:@]+=.*": lambda word: f"{_pair('-d', '=')(word)} (a form) or {_json(word)}",
    r"[^=:@]+:.*": _pair("-h", ":"),
    r"[^=:@]+@.*": _pair("-f", "@"),
}

_PROGRAMS = r"pytest|py\.test|python3?|tox|unittest|.*\.py"
_COMMANDS = {
    r".*[:/].*|GET|HEAD|POST|PUT|PATCH|DELETE": "request APP URL",
    r"curl|get|head|http|httpie|httpx|patch|post|put|send": "request APP URL",
    rf"{_PROGRAMS}|test|tests|-m": "run APP -m pytest",
    r"gunicorn|runserver|server|start|uvicorn": "serve APP --uds PATH",
    r"check|diagnose|info|status": "doctor",
    r"documentation|examples?|faq|guide|man|manual|pages?|readme|topics?": "docs",
    r"help": "--help",
    r"version|-v|-V": "--version",
}


class Command(click.Command):
    """A command that says what to write instead of what it does not know."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; `-h` alone is not the option of that name."""
        words = ["--help"] if args == ["-h"] else [*args]
        try:
            return super().parse_args(ctx, [*words])
        except click.UsageError as error:
            hints = list(dict.fromkeys(_hints(self, words)))
            if not hints:
                raise
            text = error.format_message()
            if isinstance(error, click.NoSuchOption):  # of which click may suggest another
                text = f"No such option {error.option_name!r}."
            raise click.UsageError("\n".join([text, *hints]), error.ctx or ctx) from None


def hint_at_command(word: str, commands: tuple[str, ...]) -> str:
    """Return what to write for a command that there is not."""
    near = get_close_matches(word, commands, 1)
    here = near[0] if near else next((here for form, here in _COMMANDS.items() if re.fullmatch(form, word)), "--help")
    return f"Write socketless {here}."


def _hints(command: click.Command, words: list[str]) -> Iterator[str]:
    options = [each for each in command.params if isinstance(each, click.Option)]
    own = {name: option for option in options for name in (*option.opts, *option.secondary_opts)}
    table = {name: row for names, row in _TABLES.get(str(command.name), {}).items() for name in names.split()}
    arguments: list[str] = []
    rest = deque(words)
    while rest and not (arguments and command.name in ("rescue", "run")):  # what follows is the program's
        word = rest.popleft()
        if word.startswith("-") and word != "-":
            yield from _hints_at_option(word, rest, own, table)
        else:
            arguments.append(word)
    if command.name == "request":
        yield from _hints_at_arguments(arguments)
    elif arguments and re.fullmatch(_PROGRAMS, arguments[0]):
        yield f"To run {arguments[0]!r}, write APP before it: package.module:app."


def _hints_at_option(
    word: str, rest: deque[str], own: dict[str, click.Option], table: dict[str, _Row]
) -> Iterator[str]:
    """Yield what there is to say of an option, and take its values from the words that follow it."""
    name, value = _option_of(word)
    typed = value if value is not None else rest[0] if rest else "..."
    hint = table[name].say(name, typed) if name in table else ""
    if hint:
        yield hint
        count = int(table[name].takes_value)
    elif name in own:
        count = 0 if own[name].is_flag else own[name].nargs
    else:
        return
    if value is not None and (count or word[:2] != "--"):
        rest.appendleft(value if count else f"-{value}")  # as in -sS
    if len(rest) < count and not hint:
        yield f"Write {name} {own[name].metavar}."
    for _ in range(min(count, len(rest))):
        rest.popleft()


def _option_of(word: str) -> tuple[str, str | None]:
    if word.startswith("--"):
        name, equals, value = word.partition("=")
        return name, value if equals else None
    return word[:2], word[2:] or None


def _hints_at_arguments(words: list[str]) -> Iterator[str]:
    methods = [word for word in words if word.isalpha() and word.isupper()]
    app, url, *items = [*(word for word in words if word not in methods), "", ""]
    if _is_url(app) and not _is_url(url):
        yield f"Write {url or 'package.module:app'} {app}: APP comes first."
    for word in [*methods, *filter(None, items)]:
        write = next((write for form, write in _ITEMS.items() if re.fullmatch(form, word, re.DOTALL)), None)
        if write is not None:
            yield f"Write {write(word)} for {shlex.quote(word)}."


def _is_url(word: str) -> bool:
    return word.startswith(("/", "http://", "https://"))
