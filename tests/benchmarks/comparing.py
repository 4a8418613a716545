"""What has got worse since the ratios in `ratios.json` were stored: by more than the noise of those runs."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median

STORED = Path(__file__).with_name("ratios.json")

Ratios = dict[str, list[float]]  # of each run, by what they are of


def store(ratios: Ratios, versions: dict[str, str], machine: str) -> None:
    rounded = {name: [round(each, 3) for each in measured] for name, measured in ratios.items()}
    found = {"versions": versions, "machine": machine, "ratios": rounded}
    STORED.write_text(json.dumps(found, indent=2) + "\n")


def show_worse(ratios: Ratios) -> int:
    """Print what is worse, and return how many ratios are."""
    if not STORED.exists():
        print(f"\nthere is no {STORED.name} to compare with: --runs 3 --store makes it")
        return 0
    stored: Ratios = json.loads(STORED.read_text())["ratios"]
    worse = {name for name in ratios.keys() & stored.keys() if is_worse(ratios[name], stored[name])}
    print()
    for name in sorted(worse):
        print(f"WORSE    {name}: {median(ratios[name]):.2f}, was {', '.join(f'{each:.2f}' for each in stored[name])}")
    if not worse:
        print(f"no ratio is worse than those of {STORED.name} by more than the noise in them")
    return len(worse)


def is_worse(now: list[float], stored: list[float]) -> bool:
    """Return whether ratios are worse than others by more than those differ among each other."""
    return median(now) > max(stored) + (max(stored) - min(stored))
