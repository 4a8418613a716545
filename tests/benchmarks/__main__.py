"""Measure what a request costs, beside the other ways to send one: `python tests/benchmarks`.

All contestants of a table are there at the same time and take turns, round by round (`rounds.py`). What counts are
ratios, and only they can be compared from one machine to another. `--profile` says where the time of one GET goes, and
`--compare` what has got worse since the table in `ratios.json` was stored.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from statistics import median

HERE = str(Path(__file__).resolve().parent)
sys.path.insert(0, HERE)
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [HERE, os.environ.get("PYTHONPATH")]))  # for the servers
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # where it is installed, bytecode is there

import comparing
import contestants
import readme
import stages
import tables
from rounds import Samples, load, ratio
from tables import Goal

from socketless import eventloop

PACKAGES = (
    "socketless-testing",
    "socketless-http",
    "httpx",
    "requests",
    "flask",
    "django",
    "fastapi",
    "starlette",
    "pytest",
    "waitress",
    "uvicorn",
)


def main() -> None:
    options = parse_options()
    if not contestants.sockets_allowed():
        eventloop.install()
    print_heading()
    seconds, runs = [], []
    for _ in range(options.runs):
        made = make_tables(options)
        seconds.append({title: {name: median(taken) for name, taken in made[title].items()} for title in made})
        runs.append(ratios_of(made))
    profile = stages.measure(options.requests * options.rounds // 2) if options.profile else {}
    stages.show(profile)
    ratios = {name: [each[name] for each in runs] for name in runs[0]}
    if options.json:
        found = {
            "versions": versions(),
            "machine": machine(),
            "load": load(),
            "ratios": ratios,
            "seconds": seconds,
            "profile": profile,
        }
        options.json.write_text(json.dumps(found, indent=2))
    if options.readme:
        print("\n" + readme.table(seconds))
    if options.store:
        comparing.store(ratios, versions(), machine())
    if options.compare:
        sys.exit(comparing.show_worse(ratios) > 0)


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python tests/benchmarks", description="Measure what a request costs.")
    parser.add_argument("--rounds", type=int, default=40, help="how often each contestant has its turn")
    parser.add_argument("--requests", type=int, default=50, help="small requests in one turn")
    parser.add_argument("--runs", type=int, default=1, help="how often all of it is done")
    parser.add_argument("--only", default="", metavar="WORD", help="the tables that have this word in their title")
    parser.add_argument("--all", action="store_true", help="further tables, too: more bodies, starts, loopback")
    parser.add_argument("--profile", action="store_true", help="where the time of one GET goes, on both sides")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write ratios, medians and the profile to a file")
    parser.add_argument("--readme", action="store_true", help="print the table of the README; make it three runs")
    parser.add_argument("--compare", action="store_true", help="exit with 1 if a ratio is worse than those stored")
    parser.add_argument("--store", action="store_true", help="store the ratios for that; make it three runs")
    return parser.parse_args()


def make_tables(options: argparse.Namespace) -> dict[str, Samples]:
    """Make the tables, print them, and return them by title."""
    makers = tables.of_goals(options.rounds, options.requests)
    if options.all:
        makers |= tables.of_the_rest(options.rounds, options.requests)
    made: dict[str, Samples] = {}
    for title, make in makers.items():
        if options.only in title:
            made[title] = make()
            print_table(title, made[title])
    return made


def ratios_of(made: dict[str, Samples]) -> dict[str, float]:
    """Return the ratios that are wanted, by what they are of, and print whether they are reached."""
    goals = [*tables.GOALS, *tables.further_goals(made.get(tables.LOOPBACK, ()))]
    return print_goals(made, [goal for goal in goals if {goal.ours, goal.peer} <= set(made.get(goal.table, ()))])


def versions() -> dict[str, str]:
    found = {distribution.name.lower(): distribution.version for distribution in metadata.distributions()}
    return {"python": platform.python_version(), **{name: found[name] for name in PACKAGES if name in found}}


def machine() -> str:
    cpu = next((line for line in _cpu_lines() if line.startswith("model name")), ": " + platform.machine())
    return f"{platform.platform()}, {os.cpu_count()} x {cpu.partition(': ')[2].strip()}"


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def print_heading() -> None:
    print(", ".join(f"{name} {version}" for name, version in versions().items()))
    print(f"{machine()}, {load()}")
    if not contestants.sockets_allowed():
        print("sockets are refused here: no servers")


def print_table(title: str, samples: Samples) -> None:
    peer = next((goal.peer for goal in tables.GOALS if goal.table == title and goal.peer in samples), None)
    beside = "" if peer is None else f"/ {peer}"
    print(f"\n{title:<36}{'best, µs':>12}{'median, µs':>12}{beside:>36}")
    for name, taken in sorted(samples.items(), key=lambda entry: median(entry[1])):
        beside = "" if peer is None else f"{ratio(samples, name, peer):.2f}"
        print(f"  {name:<34}{min(taken) * 1e6:>12,.0f}{median(taken) * 1e6:>12,.0f}{beside:>36}", flush=True)


def print_goals(made: dict[str, Samples], goals: list[Goal]) -> dict[str, float]:
    print(f"\n{load()}")
    measured = {goal.text: ratio(made[goal.table], goal.ours, goal.peer) for goal in goals}
    for goal in goals:
        is_reached = measured[goal.text] <= goal.most
        print(f"{'reached' if is_reached else 'MISSED '}  {goal.text}: {measured[goal.text]:.2f}, at most {goal.most}")
    return measured


if __name__ == "__main__":
    main()
