"""What the command line says to people who know curl, HTTPie, uvicorn or gunicorn. Nothing is started for it."""

from __future__ import annotations

import shlex

import pytest
from click.testing import CliRunner

from socketless._cli import cli


def said(command: str) -> list[str]:
    """Return the lines of a usage error, from the error on."""
    result = CliRunner().invoke(cli, shlex.split(command), prog_name="socketless")
    assert result.exit_code == 2, result.output
    assert result.output.startswith("Usage: socketless ")
    _, _, text = result.output.partition("\nError: ")
    return text.rstrip("\n").split("\n")


REQUEST = {
    "-X POST": ["Write -m POST for -X POST."],
    "-XPOST": ["Write -m POST for -X POST."],
    "--request=PUT": ["Write -m PUT for --request PUT."],
    "--method=PUT -H 'A: b c'": ["Write -h A 'b c' for -H 'A: b c'."],
    "--header A:b": ["Write -h A b for --header A:b."],
    "-h 'A: b'": ["Write -h A b for -h 'A: b'."],
    "-h 'A: b' -v": ["Write -h A b for -h 'A: b'."],
    "-h": ["Write -h NAME VALUE."],
    "-u me:secret": ["Write --auth me secret for -u me:secret."],
    "-a me:secret": ["Write --auth me secret for -a me:secret."],
    "--auth me:secret": ["Write --auth me secret for --auth me:secret."],
    "--auth me:secret -v": ["Write --auth me secret for --auth me:secret."],
    "-b a=1": ["Write --cookies a 1 for -b a=1."],
    "-p a=1": ["Write -p a 1 for -p a=1."],
    "-d a=1": ["Write -d a 1 for -d a=1."],
    "-d a=1 -v": ["Write -d a 1 for -d a=1."],
    "-d a=1 -d b=2": ["Write -d a 1 for -d a=1.", "Write -d b 2 for -d b=2."],
    "-d 'a=1&b=x+y' -v": ["Write -d a 1 -d b 'x y' for -d 'a=1&b=x+y'."],
    """-d '{"a": 1}'""": ["""Write -j '{"a": 1}' for -d '{"a": 1}'."""],
    "-d @file.json": ['Write -c "$(cat file.json)" for -d @file.json.'],
    "--data-raw text": ["Write -c text for --data-raw text."],
    "--data-urlencode a=1": ["Write -d a 1 for --data-urlencode a=1."],
    "--json a=1": ["""Write -j '{"a": "1"}' for --json a=1."""],
    "--json a:=1": ["""Write -j '{"a": 1}' for --json a:=1."""],
    "--json @file.json": ['Write -j "$(cat file.json)" for --json @file.json.'],
    "-F file=@notes.txt": ["Write -f file notes.txt for -F file=@notes.txt."],
    "-F a=1": ["Write -d a 1 for -F a=1."],
    "-f file=@notes.txt -v": ["Write -f file notes.txt for -f file=@notes.txt."],
    "-i": ["Write -v for -i."],
    "-I": ["Write -m HEAD -v for -I."],
    "-sSL": [
        "Leave out -s: that is the default.",
        "Leave out -S: that is the default.",
        "Write --follow-redirects for -L.",
    ],
    "--follow": ["Write --follow-redirects for --follow."],
    "-k -o out.txt": ["Leave out -k: nothing is encrypted.", "Write --download out.txt for -o out.txt."],
    "--verify=no": ["Leave out --verify: nothing is encrypted."],
    "-x http://proxy -v": ["Leave out -x: there is no network."],
    "-m 5": ["Write --timeout 5 for -m 5."],
    "--max-time 5": ["Write --timeout 5 for --max-time 5."],
    "-A me": ["Write -h User-Agent me for -A me."],
    "--app-dir src": ["Write PYTHONPATH=src before socketless for --app-dir src."],
    "--interface asgi3": ["Write --app-kind asgi for --interface asgi3."],
    "--lifespan off": ["Write --no-lifespan for --lifespan off."],
    "--lifespan=on": ["Write --lifespan for --lifespan on."],
    "a=1 b:=2 q==s X-A:b f@file": [
        """Write -d a 1 (a form) or -j '{"a": "1"}' for a=1.""",
        """Write -j '{"b": 2}' for b:=2.""",
        "Write -p q s for q==s.",
        "Write -h X-A b for X-A:b.",
        "Write -f f file for f@file.",
    ],
}


@pytest.mark.parametrize("words", REQUEST)
def test_request(words: str) -> None:
    """Of each option of curl and HTTPie, `request` says what that is here."""
    error, *hints = said(f"request good:app / {words}")
    assert hints == REQUEST[words], error


@pytest.mark.parametrize(
    ("command", "hints"),
    [
        ("POST good:app /", ["Write -m POST for POST."]),
        ("good:app POST /", ["Write -m POST for POST."]),
        ("/users good:app", ["Write good:app /users: APP comes first."]),
        ("http://localhost/users", ["Write package.module:app http://localhost/users: APP comes first."]),
    ],
)
def test_order_of_words(command: str, hints: list[str]) -> None:
    """A method is no word of its own, and APP comes before the URL."""
    assert said(f"request {command}")[1:] == hints


OTHERS = {
    "serve good:app --port 8000": ["Write --uds PATH: it opens a UNIX socket, not a port."],
    "serve good:app --host 0.0.0.0 -p 8000": ["Write --uds PATH: it opens a UNIX socket, not a port."],
    "serve good:app -b unix:/run/app.sock": ["Write --uds /run/app.sock for -b unix:/run/app.sock."],
    "serve good:app --bind :8000": ["Write --uds PATH for --bind :8000."],
    "serve good:app --reload -w 4": [
        "Leave out --reload: serve cannot do that.",
        "Write --max-connections 4 for -w 4.",
    ],
    "serve good:app --timeout 5": ["Write --startup-timeout 5 for --timeout 5."],
    "run -m pytest": ["Write APP -m pytest for -m pytest."],
    "run -v good:app -m pytest -X": ["Write --debug for -v."],
    "run pytest tests": ["To run 'pytest', write APP before it: package.module:app."],
    "run script.py": ["To run 'script.py', write APP before it: package.module:app."],
}


@pytest.mark.parametrize("command", OTHERS)
def test_other_commands(command: str) -> None:
    """`serve` and `run` know the options of servers."""
    assert said(command)[1:] == OTHERS[command]


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("good:app", "Write socketless request APP URL."),
        ("get", "Write socketless request APP URL."),
        ("POST", "Write socketless request APP URL."),
        ("reqest", "Write socketless request."),
        ("pytest", "Write socketless run APP -m pytest."),
        ("-m", "Write socketless run APP -m pytest."),
        ("uvicorn", "Write socketless serve APP --uds PATH."),
        ("check", "Write socketless doctor."),
        ("doc", "Write socketless docs."),
        ("manual", "Write socketless docs."),
        ("help", "Write socketless --help."),
        ("-V", "Write socketless --version."),
        ("frobnicate", "Write socketless --help."),
    ],
)
def test_no_such_command(word: str, hint: str) -> None:
    """A word that is no command leads to the one that was meant."""
    what = "option" if word.startswith("-") else "command"
    assert said(f"{word} /") == [f"No such {what} {word!r}. {hint}"]


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (
            "request good.py:app /",
            "Invalid value for 'APP': 'good.py:app' is not an import string; write 'good:app'.",
        ),
        (
            "run --reset-hook good.reset good:app x.py",
            "Invalid value for '--reset-hook': 'good.reset' is not an import string; write 'good:reset'.",
        ),
        (
            "serve good:app --root-path shop",
            "Invalid value for '--root-path': 'shop' does not begin with a slash; write '/shop'.",
        ),
        (
            "run good:app -c 1",
            "cannot run '-c': after APP comes '-m MODULE' or a script; write the code into one.",
        ),
        (
            "request good:app localhost:5000/users",
            "Invalid value for 'URL': 'localhost:5000/users' is neither a path, like '/users?page=2', nor an http:// "
            "or https:// URL. Write 'http://localhost:5000/users'.",
        ),
        (
            "request good:app :5000",
            "Invalid value for 'URL': ':5000' is neither a path, like '/users?page=2', nor an http:// or https:// URL. "
            "Write 'http://testserver:5000'.",
        ),
        (
            "request good:app 127.0.0.1",
            "Invalid value for 'URL': '127.0.0.1' is neither a path, like '/users?page=2', nor an http:// or https:// "
            "URL. Write 'http://127.0.0.1'.",
        ),
    ],
)
def test_values(command: str, error: str) -> None:
    """A wrong value of an argument is named with the right one."""
    assert said(command) == [error]


@pytest.mark.parametrize("command", ["request good:app / -d a b --nonsense", "doctor now", "request good:app / x"])
def test_no_hint(command: str) -> None:
    """What no other program has gets the error alone."""
    assert len(said(command)) == 1


def test_help_of_request() -> None:
    """`request -h`, which is an option for headers, shows the help where nothing else is there."""
    result = CliRunner().invoke(cli, ["request", "-h"], prog_name="socketless")
    assert (result.exit_code, result.output.splitlines()[0]) == (0, "Usage: socketless request [OPTIONS] APP URL")
