"""The table of the README, made of what has been measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from contestants import BASELINE, OUR_TEST_CLIENT, OURS, STARLETTES, UVICORN
from tables import FASTAPI, FLASK

Medians = Mapping[str, Mapping[str, float]]  # of one run, in seconds: by table, and by contestant

_RULE = f"{'=' * 36}  {'=' * 9}  {'=' * 29}  {'=' * 10}"
_HEAD = ("one GET, sync client, microseconds", "Flask", "/ ``socketless-http`` 0.2", "FastAPI")
# What a row is called, and which contestants it is about, of Flask and of FastAPI.
_ROWS = [
    ("socketless, a process", OURS, OURS),
    ("socketless, threads", f"{OURS}, threads", f"{OURS}, threads"),
    ("socketless's ``TestClient``", "", OUR_TEST_CLIENT),
    ("socketless-http 0.2", BASELINE, BASELINE),
    ("waitress, uvicorn over TCP", "waitress, TCP", UVICORN),
    ("Starlette's ``TestClient``", "", STARLETTES),
]


def table(runs: Sequence[Medians]) -> str:
    """Return it, as reStructuredText; a figure is the median of the runs.

    Raises:
        KeyError: one of the contestants was not there.
    """
    flask, fastapi = _medians(runs, FLASK), _medians(runs, FASTAPI)
    lines = [_RULE, _line(*_HEAD), _RULE]
    for text, of_flask, of_fastapi in _ROWS:
        beside = ""
        if of_flask:
            beside = _beside(of_flask, flask[of_flask] / flask[BASELINE], fastapi[of_fastapi] / fastapi[BASELINE])
        lines.append(_line(text, _microseconds(flask.get(of_flask)), beside, _microseconds(fastapi[of_fastapi])))
    return "\n".join([*lines, _RULE])


def _medians(runs: Sequence[Medians], title: str) -> dict[str, float]:
    return {name: median(run[title][name] for run in runs) for name in runs[0][title]}


def _line(*columns: str) -> str:
    return "{:<36}  {:<9}  {:<29}  {}".format(*columns).rstrip()


def _microseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e6:.0f}"


def _beside(name: str, flask: float, fastapi: float) -> str:
    if name == BASELINE:
        return "1"
    if name == OURS:
        return f"**{flask:.2f}** (FastAPI **{fastapi:.2f}**)"
    if name.startswith(OURS):
        return f"**{flask:.2f}** (**{fastapi:.2f}**)"
    return f"{flask:.2f} ({fastapi:.2f})"
