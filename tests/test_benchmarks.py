"""What `tox -e benchmarks` makes of what it measures. (It measures nothing here.)"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from documents import DOCUMENTS

HERE = Path(__file__).parent / "benchmarks"
STORED = {"GET": [0.50, 0.52, 0.54], "start": [1.0, 1.0, 1.0]}


@pytest.fixture
def comparing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.syspath_prepend(HERE)
    monkeypatch.delitem(sys.modules, "comparing", raising=False)
    import comparing

    monkeypatch.setattr(comparing, "STORED", tmp_path / "ratios.json")
    comparing.store(STORED, {}, "")
    return comparing


@pytest.mark.parametrize("now", [[0.55, 0.56, 0.57], [0.2, 0.3, 0.9], [0.58]])
def test_within_the_noise(comparing: Any, capsys: pytest.CaptureFixture[str], now: list[float]) -> None:
    """A ratio may be above the stored ones by as much as those differ; of three runs, the one in the middle counts."""
    assert comparing.show_worse({"GET": now, "start": [1.0]}) == 0
    assert "no ratio is worse" in capsys.readouterr().out


def test_worse(comparing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """What is above that is named, with what it was."""
    assert comparing.show_worse({"GET": [0.5, 0.59, 0.6], "start": [1.01], "new": [9.0]}) == 2
    assert capsys.readouterr().out == (
        "\nWORSE    GET: 0.59, was 0.50, 0.52, 0.54\nWORSE    start: 1.01, was 1.00, 1.00, 1.00\n"
    )


def test_ratio(monkeypatch: pytest.MonkeyPatch) -> None:
    """A ratio is the median of those of the rounds: one round that something has disturbed does not count."""
    monkeypatch.syspath_prepend(HERE)
    import rounds

    assert rounds.ratio({"ours": [1, 2, 900], "peer": [2, 4, 3]}, "ours", "peer") == 0.5


def test_take_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    """All take turns in each round, the first of which is to warm up; a turn may say itself what counts."""
    monkeypatch.syspath_prepend(HERE)
    import rounds

    calls: list[str] = []
    turns = {"a": lambda: calls.append("a"), "b": lambda: 6.0}
    samples = rounds.take_turns(turns, rounds=2, units=3)
    assert calls == ["a", "a", "a"]
    assert samples["b"] == [2.0, 2.0]
    assert len(samples["a"]) == 2


def test_nothing_stored(comparing: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Without stored ratios nothing can be worse, and it is said how to store them."""
    comparing.STORED.unlink()
    assert comparing.show_worse({"GET": [9.0]}) == 0
    assert capsys.readouterr().out == "\nthere is no ratios.json to compare with: --runs 3 --store makes it\n"


def test_table_of_the_readme(monkeypatch: pytest.MonkeyPatch) -> None:
    """The README's table is one of those that the benchmarks make."""
    for name in ("flask", "fastapi", "requests", "werkzeug"):
        pytest.importorskip(name)
    monkeypatch.syspath_prepend(HERE)
    import readme

    lines = DOCUMENTS["README.rst"].text.splitlines()
    begin = next(index for index, line in enumerate(lines) if line.startswith("one GET, sync client")) - 1
    shown = lines[begin : begin + 10]
    rows = {line[:36].strip(): [line[38:47].strip(), line[78:].strip()] for line in shown[3:9]}
    run: dict[str, dict[str, float]] = {readme.FLASK: {}, readme.FASTAPI: {}}
    for text, of_flask, of_fastapi in readme._ROWS:
        flask, fastapi = rows[text]
        run[readme.FASTAPI][of_fastapi] = int(fastapi) / 1e6
        if of_flask:
            run[readme.FLASK][of_flask] = int(flask) / 1e6
    assert readme.table([run]).splitlines() == shown
